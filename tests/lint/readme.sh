#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The README's commands, as they stand there, print what it says: the plan to the letter; of the tour the log's lines but
# for their numbers, what was counted, and where the bytes are. After it a second process hits all that the first one
# stored, a client that is killed leaves nothing behind, the daemon stops with status 0, and the next one begins empty. The
# configuration of make demo is a valid one.
set -u
build=$(cd "${BUILD:-build}" && pwd)
root=$PWD readme=$PWD/README.md
work=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null; rm -rf "$work"' EXIT
# "build/hbmctl" and "hbmctl" are this build's, what lies in /tmp/ is ours.
ln -s "$build" "$work/build"
cd "$work" || exit 1
mkdir tmp
export PATH=$build:$PATH HBM_SOFT_DRIVER=$build/libhbmsoft.so

fail() {
	echo "README.md: $1"
	[ ! -s diff ] || cat diff
	[ ! -s log ] || tail -n 20 log
	exit 1
}

same() { # WHAT: what the README says is in says, what was printed in prints
	[ -s says ] || fail "$1: there is nothing"
	diff says prints >diff || fail "$1: it says (<) another thing than is printed (>):"
}

here() {
	sed "s|/tmp/|$work/tmp/|g"
}

block_with() { # REGEX: the first fenced block that has it
	awk -v regex="$1" '/^```/ { if (inside && found) exit; inside = !inside; text = ""; next }
		inside { text = text $0 "\n"; found = found || $0 ~ regex }
		END { printf "%s", found ? text : "" }' "$readme"
}

says() { # COMMAND: what stands below it
	awk -v command="$1" '/^```/ { on = 0 } /^\$ / { on = index($0, command) > 0; next } on' "$readme"
}

run() { # COMMAND: as it stands there
	local line
	line=$(grep -F "\$ $1" "$readme" | head -n 1)
	[ -n "$line" ] || fail "there is no command \"$1\""
	bash -c "$(sed 's/^\$ //' <<<"$line" | here)"
}

wait_until() { # WHAT COMMAND...
	local what=$1 i
	shift
	for ((i = 0; i < 2400; i++)); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	fail "waiting in vain until $what"
}

squeeze() {
	sed -E 's/ +/ /g; s/ $//'
}

# ---- The plan ----

says 'hbmctl plan' >says
run 'hbmctl plan' >prints || fail "the plan ends with status $?"
same "the plan"

sed -nE 's/.*knows ([0-9]+) models and ([0-9]+) GPUs.*/\1 \2/p' "$readme" >says
hbmctl plan --list | awk 'BEGIN { RS = "" } { print split($0, rows, "\n") - 1 }' | paste -sd ' ' >prints
same "models and GPUs"

# ---- The demo ----

sed -n '/hbmd.conf" <<EOF/,/^EOF/p' "$root/tests/demo" | sed '1d; $d; s/\$[A-Z_]*[a-z]*/\/tmp/' >demo.conf
hbmd --config "$work/demo.conf" --check-config >diff 2>&1 || fail "make demo has a configuration that is wrong:"

# ---- The tour ----

start() {
	eval "$(block_with '^build/hbmd ' | grep -v '^make$' | here)" 2>log
	daemon=$!
	wait_until "all tiers are in service" grep -q 'all tiers are in service' log
}

shapes() { # the lines of a log without times, paths and numbers; the kernel may forbid io_uring
	sed -E 's/^[^ ]* //; s|/[^ ,:]*||g; s/, I\/O by .*//; s/[0-9][0-9.]*/N/g' | sort -u
}

counts() {
	grep -E '^(requests|blocks|hits|  in [a-z]+|misses|late misses|not stored|mismatches) ' | squeeze
}

placed() { # a table of tiers up to where its bytes are: what went in and out differs from run to run
	awk '/^TIER / { end = index($0, "HEADROOM") + 7 } /^(TIER|hbm|ddr|nvme) / { print substr($0, 1, end) }' | squeeze
}

prints_the_same() { # COMMAND FILTER: by now
	run "build/hbmctl $1" | $2 >prints
	cmp -s says prints
}

in_time() { # COMMAND FILTER: once nothing moves any more
	local i
	says "build/hbmctl $1" | $2 >says
	for ((i = 0; i < 200; i++)); do
		! prints_the_same "$1" "$2" || return 0
		sleep 0.05
	done
	same "$1"
}

links() {
	awk 'NF > 8 && !/\|/ { print $1 }' # the rows of the table: a timeline with gaps has as many fields
}

blocks_now() {
	hbmctl --json status | sed -nE 's/^ *"blocks": ([0-9]+).*/\1/p'
}

start
block_with 'all tiers are in service' | shapes >says
shapes <log | comm -12 says - >prints
same "the log"

run 'build/hbmctl replay --generate'
run 'build/hbmctl replay /tmp' >replayed || fail "the replay ends with status $?"
says 'build/hbmctl replay /tmp' | counts >says
counts <replayed >prints
same "the replay"
in_time tiers placed
in_time verify squeeze
says 'build/hbmctl trace' | links >says
run 'build/hbmctl trace' | links >prints
same "the links"

# ---- What it promises beyond that ----

run 'build/hbmctl replay /tmp' | counts >prints
printf '%s\n' 'hits 5580 100.0%' 'mismatches 0' >says
grep -xFf says prints >again && cmp -s says again || fail "another process does not hit all that was stored: $(cat prints)"

has_device_memory() {
	hbmctl --json sessions | grep -q '"leased": [1-9]'
}

no_device_memory() {
	hbmctl verify | squeeze | grep -q '^hbm 0 regions 176 MiB 176 MiB 0 B 0 B 0 B 0 B 0 B yes$'
}

hbmctl replay tmp/trace --block-bytes 512KiB --namespace killed >killed 2>&1 &
victim=$!
wait_until "a client has device memory" has_device_memory
kill -KILL "$victim"
wait "$victim" 2>/dev/null
wait_until "a killed client's device memory is back" no_device_memory

kill -TERM "$daemon"
wait "$daemon" || fail "kill -TERM ends the daemon with status $?"
daemon=
printf 'tmp/%s\n' hbm-state/lock hbm.nvme hbm.nvme.catalog trace >says
find tmp -type f | sort >prints
same "what is left"
# Tests that run at the same time have folders there, with other names.
! ls /dev/shm 2>/dev/null | grep -i hbm || fail "that is left in /dev/shm"

start
hbmctl --json status | sed -nE 's/^ *"(blocks|catalog_restored)": ([0-9]+).*/\2/p' | uniq >found
[ "$(wc -l <found)" = 1 ] || fail "a daemon that starts has other blocks than it has found again: $(paste -sd' ' found)"
kill -TERM "$daemon"
wait "$daemon" || fail "kill -TERM ends the daemon with status $?"
daemon=

echo "ok readme"
