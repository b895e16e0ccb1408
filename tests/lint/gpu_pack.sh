#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The pack for machines with a device can be made, finds nothing but itself and the C library, runs on the soft driver
# from another place with an empty environment, fails nothing and leaves a document that parses; and says 77 where there is no
# device.
set -u
if [[ ${BUILD:-build} == *sanitize* ]]; then
	echo "ok gpu_pack: not under sanitizers: the pack is made of plain objects"
	exit 0
fi
build=${BUILD:-build}
work=$(mktemp -d "${TMPDIR:-/tmp}/hbmd-pack.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
	echo "gpu_pack: $1"
	[ ! -e "$work/said" ] || cat "$work/said"
	exit 1
}

env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory gpu-pack BUILD="$build" CC="${CC:-gcc}" >"$work/said" 2>&1 ||
	fail "make gpu-pack failed"
cp -a "$build/gpu-pack" "$work/pack"
cd "$work/pack" || exit 1

foreign=$(find . -type f -perm -100 ! -name '*.sh' -exec ldd {} + |
	grep '=>' | grep -vE '=> /[^ ]*/lib(c|m|dl|pthread|rt)\.so' | grep -vF "=> $work/pack/")
[ -z "$foreign" ] || fail "libraries from elsewhere: $foreign"

env -i PATH=/usr/bin:/bin DRIVER=soft QUICK=1 ./run.sh >"$work/said" 2>&1 || fail "run.sh: exit status $?"
python3 - "$work/pack/result.json" <<'END' >"$work/judged" 2>&1 || fail "$(cat "$work/judged")"
import json, sys
result = json.load(open(sys.argv[1]))
wanted = {"facts", "calls", "claims", "costs", "suite", "roofs"}
assert set(result["parts"]) == wanted, "parts: %s" % set(result["parts"])
assert result["summary"]["PASS"] > 50 and "FAIL" not in result["summary"], result["summary"]
END

if [ ! -e /dev/nvidiactl ]; then
	env -i PATH=/usr/bin:/bin ./run.sh >"$work/said" 2>&1
	[ $? -eq 77 ] && [ "$(wc -l <"$work/said")" -eq 1 ] || fail "without a device run.sh should say one line and 77"
fi
echo "ok gpu_pack"
