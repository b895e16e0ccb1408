#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The pack for machines with a device can be made, finds nothing but itself and the C library, runs on the soft driver
# from another place with an empty environment, fails nothing, answers all of tests/gpu/QUESTIONS.md and leaves a document
# that parses; its suite also bears what is loaded as libcuda; told to end, it leaves what it knows and nothing that runs;
# and it says 77 where there is no device.
set -u
if [[ ${BUILD:-build} == *sanitize* ]]; then
	echo "ok gpu_pack: not under sanitizers: the pack is made of plain objects"
	exit 0
fi
build=${BUILD:-build}
questions=$PWD/tests/gpu/QUESTIONS.md
work=$(mktemp -d "${TMPDIR:-/tmp}/hbmd-pack.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
	echo "gpu_pack: $1"
	[ ! -e "$work/said" ] || cat "$work/said"
	sed -n 's/^FAIL  *suite .*; see log\/\([^ ]*\).*/\1/p' "$work/said" | while read -r name; do # what cmocka said of it
		echo "log/$name:"
		grep -a '^\[ ' "$work/pack/log/$name"
		tail -n 20 "$work/pack/log/$name"
	done
	exit 1
}

env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory gpu-pack BUILD="$build" CC="${CC:-gcc}" >"$work/said" 2>&1 ||
	fail "make gpu-pack failed"
cp -a "$build/gpu-pack" "$work/pack"
cd "$work/pack" || exit 1

foreign=$(find . -type f -perm -100 ! -name '*.sh' -exec ldd {} + |
	grep '=>' | grep -vE '=> /[^ ]*/lib(c|m|dl|pthread|rt)\.so' | grep -vF "=> $work/pack/")
[ -z "$foreign" ] || fail "libraries from elsewhere: $foreign"

judge() { # PARTS FEWEST: what the last run left: these parts, no failure, and so many passes at least
	python3 - "$@" "$work/pack/result.json" <<'END' >"$work/judged" 2>&1 || fail "$(cat "$work/judged")"
import json, sys
parts, fewest, result = sys.argv[1].split(","), int(sys.argv[2]), json.load(open(sys.argv[3]))
assert set(result["parts"]) == set(parts), "parts: %s" % set(result["parts"])
assert result["summary"]["PASS"] >= fewest and "FAIL" not in result["summary"], result["summary"]
END
}

answered() { # every record that tests/gpu/QUESTIONS.md names is there: with a number, a verdict, or why there is none
	python3 - "$questions" "$work/pack/result.json" <<'END' >"$work/judged" 2>&1 || fail "$(cat "$work/judged")"
import json, re, sys
text, result = open(sys.argv[1]).read(), json.load(open(sys.argv[2]))
records = [r for part in result["parts"].values() for r in part]
lines = re.findall(r"^Records: (.*?)(?:\n\n|\Z)", text, re.M | re.S)
names = [" ".join(n.split()) for line in lines for n in re.findall(r"`([^`]+)`", line)]
assert len(lines) == text.count("\n## ") >= 10, "%d lines of records, %d questions" % (len(lines), text.count("\n## "))
for name in names:
    found = [r for r in records if r["name"] == name]
    assert found, "no record of: " + name
    assert all(r["outcome"] != "UNSUPPORTED" or r["note"] for r in found), "without a reason: " + name
END
}

env -i PATH=/usr/bin:/bin DRIVER=soft QUICK=1 ./run.sh >"$work/said" 2>&1 || fail "run.sh: exit status $?"
judge facts,calls,claims,costs,suite,roofs 50
answered

# The soft driver in the real one's place, under its name and with its habits of opening files and starting threads: all
# of the suite takes it for a device, four tests at a time, but for what repeats steps, computes models or kills daemons for
# minutes, which is the same under any driver. What only hardware can settle is left out.
mkdir "$work/driver" && cp libhbmsoft.so "$work/driver/libcuda.so.1"
env -i PATH=/usr/bin:/bin LD_LIBRARY_PATH="$work/driver" HBM_SOFT=memory=4GiB,litter=1 DRIVER=cuda AT_ONCE=4 \
	SUITE_WITHOUT='(_steps|_random|_kept|_restart|reconnect|restart_contents|keeper|killed|wipe|catalog.*|modules_.*|model_.*)$' \
	./run.sh -p facts,suite -m 4096 >"$work/said" 2>&1 || fail "run.sh, a soft driver called libcuda: exit status $?"
judge facts,calls,suite 30

ended() { # whether nothing of the pack runs, by ten seconds from now
	local i
	for ((i = 0; i < 100; i++)); do
		readlink /proc/[0-9]*/exe | grep -qF "$work/pack/" || return 0
		sleep 0.1
	done
	return 1
}

rm result.json RESULT.md "$work/said" # else what the last run said could be taken for this one's
env -i PATH=/usr/bin:/bin TMPDIR="$work" DRIVER=soft ./run.sh -p suite >"$work/said" 2>&1 &
run=$!
for ((i = 0; i < 3000; i++)); do # the replay is done and tests are under way
	grep -q '^PASS .* fault/' "$work/said" && break
	sleep 0.1
done
kill "$run"
wait "$run" && fail "run.sh told to end says that nothing failed"
grep -q 'told to end' RESULT.md && [ -s result.json ] || fail "run.sh told to end leaves no documents"
ended || fail "run.sh told to end leaves processes behind"

if ! head -c 0 /dev/nvidiactl 2>/dev/null; then # nobody answers there, even if there is a node
	env -i PATH=/usr/bin:/bin ./run.sh >"$work/said" 2>&1
	[ $? -eq 77 ] && [ "$(wc -l <"$work/said")" -eq 1 ] || fail "without a device run.sh should say one line and 77"
fi
echo "ok gpu_pack"
