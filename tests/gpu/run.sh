#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Proves hbmd on a real device, from the folder this file lies in (made by `make gpu-pack`): facts, claims, costs, the
# test suite, and how near the daemon comes to what the hardware does. Prints a line as each thing is known, and writes
# result.json and RESULT.md. Takes plain device memory only, of the first device unless CUDA_VISIBLE_DEVICES says
# otherwise, and leaves the card's settings alone.
#
#	DRIVER=auto|cuda|soft	auto: without a device, says what it looked for and ends with 77. cuda: without one, fails.
#				soft: the same run on the soft driver, which proves this pack and not a device.
#	QUICK=1			a little of everything, to see that it works
#	SUITE_WITHOUT=REGEX	leaves out tests of the suite by their names
#	AT_ONCE=N		so many tests of the suite at a time; else a quarter of the processors, 4 at most
#	run.sh [-o FOLDER] [-t SECONDS] [-m HBM_MIB] [-r DDR_MIB] [-d DISK_MIB] [-w FOLDER] [-p PARTS]
#				-o where the results go (this folder), -w where files are made ($TMPDIR, else /tmp), limits:
#				480 seconds, 16384 MiB of each; -p only these of facts,claims,costs,suite,roofs (roofs are
#				ratios to what the costs were)
#
# What the answers mean, and what to do where one is not as expected: tests/gpu/QUESTIONS.md, which comes with the pack.
#
# What there was no time for has failed. What is known is in log/records at any moment, and in the documents also where
# this is told to end. Exit status: 0 nothing failed, 1 something did, 2 usage, 77 no device. Needs bash and coreutils.
set -u
export LC_ALL=C
pack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$pack seconds=480 hbm=16384 ddr=16384 disk=16384 files=${TMPDIR:-/tmp} parts=facts,claims,costs,suite,roofs
while getopts o:t:m:r:d:w:p: option; do
	case $option in
	o) out=$OPTARG ;;
	t) seconds=$OPTARG ;;
	m) hbm=$OPTARG ;;
	r) ddr=$OPTARG ;;
	d) disk=$OPTARG ;;
	w) files=$OPTARG ;;
	p) parts=$OPTARG ;;
	*)
		echo "usage: run.sh [-o FOLDER] [-t SECONDS] [-m HBM_MIB] [-r DDR_MIB] [-d DISK_MIB] [-w FOLDER] [-p PARTS]" >&2
		exit 2
		;;
	esac
done
for number in "$seconds" "$hbm" "$ddr" "$disk"; do
	[[ $number =~ ^[0-9]{1,9}$ ]] || { echo "run.sh: $number is not a number" >&2; exit 2; }
done
if ! [[ $parts =~ ^((facts|claims|costs|suite|roofs)(,|$))+$ ]]; then
	echo "run.sh: $parts is not a list of facts,claims,costs,suite,roofs" >&2
	exit 2
fi

if ! [[ ${AT_ONCE:-1} =~ ^[1-9][0-9]?$ ]]; then
	echo "run.sh: AT_ONCE is a number from 1 to 99" >&2
	exit 2
fi
case ${DRIVER:-auto} in
auto | cuda) export HBM_TEST_DRIVER=cuda ;;
soft) export HBM_TEST_DRIVER=soft ;;
*)
	echo "run.sh: DRIVER is auto, cuda or soft" >&2
	exit 2
	;;
esac
quick=${QUICK:+--quick}
export HBM_BUILD=$pack HBM_SOFT_DRIVER=$pack/libhbmsoft.so HBM_SOFT=${HBM_SOFT:-memory=4GiB}
unset HBM_TRACE_DIR
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-0} # hbmd takes every device it sees
status=0
device=$(timeout -k 5 120 "$pack/gpu_facts" --probe) || status=$?
if [ $status -ne 0 ]; then
	echo "${device:-no answer from the driver: gpu_facts --probe ended with $status (124: not within two minutes)}"
	[ "${DRIVER:-auto}" = auto ] && [ $status -eq 77 ] && exit 77
	exit 1
fi

mkdir -p "$out/log" || exit 1
out=$(cd "$out" && pwd)
work=$(mktemp -d "$files/hbmd-gpu.XXXXXX") || exit 1
export HBM_SOCKET=$work/sock
[ ${#HBM_SOCKET} -lt 100 ] || HBM_SOCKET=$(mktemp -d /tmp/hbmd-gpu.XXXXXX)/sock # its path must be short
records=$out/log/records
deadline=$((SECONDS + seconds)) kept=0 daemon='' part=run
: >"$records"

ends() { # SECONDS: whether the daemon is gone by then
	local until=$((SECONDS + $1))
	while kill -0 "$daemon" 2>/dev/null; do
		[ $SECONDS -lt $until ] || return 1
		sleep 0.1
	done
}

stop() { # the daemon; its exit status, 137 where it had to be killed
	local status=0
	[ -n "$daemon" ] || return 0
	kill "$daemon" 2>/dev/null
	ends 30 || kill -KILL "$daemon" 2>/dev/null
	if ends 10; then
		wait "$daemon" 2>/dev/null || status=$?
	else
		disown "$daemon" # the kernel does not let go of it: nobody waits for it
		status=137
	fi
	daemon=''
	rm -f "$work/nvme"
	return $status
}

conclude() { # however this ends: what is known is written down
	local status version about job
	for job in $(jobs -p); do # tests that are under way
		[ "$job" = "$daemon" ] || { kill "$job" && wait "$job"; } 2>/dev/null
	done
	stop
	rm -rf "$work" "${HBM_SOCKET%/*}"
	version=$(timeout 10 "$pack/hbmctl" version)
	about=("driver=$HBM_TEST_DRIVER" "device=$device" "date=$(date -u +%Y-%m-%d)" "took=$SECONDS s" "parts=$parts"
		"quick=$([ -n "$quick" ] && echo yes || echo no)" "version=${version%%$'\n'*}")
	[ "$HBM_TEST_DRIVER" = cuda ] || about+=("proves=that the pack works; soft driver, no device")
	"$pack/gpu_report" json "${about[@]}" <"$records" >"$out/result.json"
	"$pack/gpu_report" markdown "${about[@]}" <"$records" >"$out/RESULT.md"
	"$pack/gpu_report" fails <"$records"
	status=$?
	echo "$([ $status -eq 0 ] && echo "nothing failed" || echo "something FAILED"): $out/result.json, $out/RESULT.md"
	exit $status
}
trap conclude EXIT
trap 'record "run.sh" FAIL "" "" "told to end before it was done"; exit' INT TERM

# ---- Records: part, name, outcome, value, unit, note ----

take() { # LINE: keeps a record and shows it
	local fields
	IFS=$'\x1f' read -r -a fields <<<"${1//$'\t'/$'\x1f'}"
	printf '%s\n' "$1" >>"$records"
	printf '%-11s %-9s %-48s %s\n' "${fields[2]-}" "${fields[0]-}" "${fields[1]-}" \
		"${fields[3]:+${fields[3]} ${fields[4]-}  }${fields[5]-}"
}

record() { # NAME OUTCOME VALUE UNIT NOTE
	take "$part"$'\t'"$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"$'\t'"$5"
}

left() { # seconds for this part
	echo $((deadline - kept - SECONDS))
}

program() { # SECONDS NAME ARGUMENTS...: takes the records a program of this pack prints
	local limit=$1 name=$2 line status=0
	shift 2
	[ "$limit" -lt "$(left)" ] || limit=$(left)
	if [ "$limit" -lt 1 ]; then
		record "$name" FAIL "" "" "not run: the $seconds seconds are over"
		return
	fi
	while IFS= read -r line; do
		take "$line"
	done < <(timeout -k 5 "$limit" "$pack/$name" "$@" 2>"$out/log/$name"; echo $? >"$work/status")
	status=$(cat "$work/status")
	[ "$status" -eq 0 ] && return
	record "$name" FAIL "" "" "ended with $status (124: it took more than $limit s): $(tail -n 1 "$out/log/$name")"
}

shared_card() { # COMMAND...: with one soft device for all processes, where there is no other
	local HBM_SOFT=$HBM_SOFT,card=$work/card
	mkdir -p "$work/card"
	"$@"
}

# ---- Numbers with a fraction, as thousandths: bash has no others ----

milli() {
	local number
	printf -v number %.3f "$1"
	echo $((10#${number/./}))
}

decimal() { # THOUSANDTHS
	printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
}

ratio() { # A B
	local b
	b=$(milli "$2")
	[ "$b" -gt 0 ] && decimal $(($(milli "$1") * 1000 / b)) || echo 0
}

gb() { # GiB: as GB
	decimal $(($(milli "$1") * 1073741824 / 1000000000))
}

value() { # NAME FILE: of lines "NAME VALUE UNIT"
	local name number rest
	while read -r name number rest; do
		[ "$name" != "$1" ] || { echo "$number" && return; }
	done <"$2"
	echo 0
}

recorded() { # NAME: the value in its record
	local line fields
	while IFS= read -r line; do
		IFS=$'\x1f' read -r -a fields <<<"${line//$'\t'/$'\x1f'}"
		[ "${fields[1]}" != "$1" ] || { echo "${fields[3]:-0}" && return; }
	done <"$records"
	echo 0
}

# ---- The daemon ----

ctl() { # a daemon that does not answer is waited for, but not for ever
	timeout -k 5 30 "$pack/hbmctl" "$@"
}

is_running() {
	[[ $(ctl --json status 2>/dev/null) == *'"state": "running'* ]]
}

start() { # --set values on top of what all have; false: it did not get there
	local sets=() until=$((SECONDS + 90)) set
	[ "$(left)" -gt 5 ] || { echo "not run: the $seconds seconds are over" >"$work/why" && return 1; }
	for set in "$@"; do sets+=(--set "$set"); done
	"$pack/hbmd" --config /dev/null --set hbmd.socket="$HBM_SOCKET" --set hbmd.state_dir="$work/state" \
		--set hbmd.driver="$HBM_TEST_DRIVER" --set hbmd.log_level=notice --set soft.memory=4GiB \
		--set device.headroom=64MiB "${sets[@]}" 2>>"$out/log/hbmd" &
	daemon=$!
	until is_running; do
		sleep 0.1
		if [ $SECONDS -ge $until ] || ! kill -0 "$daemon" 2>/dev/null; then
			echo "hbmd did not get ready: $(tail -n 1 "$out/log/hbmd")" >"$work/why"
			stop
			return 1
		fi
	done
}

bench() { # ARGUMENTS: into $work/out; false: it failed
	local limit
	limit=$(left)
	echo "not run: the $seconds seconds are over" >"$work/why"
	[ "$limit" -gt 0 ] || return 1
	echo "not done in $limit s" >"$work/why"
	timeout -k 5 "$limit" "$pack/tests/bench/bench_hbmd" "$@" >"$work/out" 2>>"$work/why"
}

why() {
	tail -n 1 "$work/why"
}

# ---- The card ----

settings() { # what nvidia-smi says of them, where there is one: without persistence each start of a driver takes longer
	local line
	[ "$HBM_TEST_DRIVER" = cuda ] && type -P nvidia-smi >/dev/null || return 0
	line=$(timeout 30 nvidia-smi --format=csv,noheader \
		--query-gpu=driver_version,persistence_mode,compute_mode,mig.mode.current,ecc.mode.current 2>&1) || return 0
	record "nvidia-smi" SEEN "" "" "driver, persistence, compute mode, MIG, ECC: ${line//$'\n'/; }"
}

keep_awake() { # holds the devices open, as persistence does: a hundred programs are about to be started
	local file fd
	for file in /dev/nvidia[0-9]*; do
		[ -c "$file" ] && { exec {fd}<>"$file"; } 2>/dev/null
	done
	return 0
}

# ---- What the daemon costs ----

free_memory() { # of the device, in bytes; 0: it cannot be asked
	local bytes
	bytes=$(timeout -k 5 60 "$pack/gpu_facts" --free 2>/dev/null)
	[[ $bytes =~ ^[0-9]+$ ]] && echo "$bytes" || echo 0
}

daemon_context() {
	local name="memory of the daemon's context" before after
	if [ "$HBM_TEST_DRIVER" = soft ]; then
		record "$name" UNSUPPORTED "" "" "a context takes no memory of the soft device"
		return
	fi
	before=$(free_memory)
	if ! start device.memory=256MiB device.cache=64MiB ddr.size=0; then
		record "$name" FAIL "" "" "$(why)"
		return
	fi
	sleep 3 # it makes its slabs ahead
	after=$(free_memory)
	stop
	if [ "$before" -gt 0 ] && [ "$after" -gt 0 ]; then
		record "$name" SEEN $(((before - after) / 1048576 - 256)) MiB "beside 256 MiB of slabs"
	else
		record "$name" FAIL "" "" "the device does not say how much memory is free"
	fi
}

commit_cost() { # SLAB_MIB
	local name="commit of 1 GiB by the daemon, slab of $1 MiB" process="slab of $1 MiB" rate ours
	[ "$1" -lt 1024 ] || process="slab of 1 GiB"
	if ! start device.memory=3GiB device.cache=64MiB device.slab="$1MiB" ddr.size=64MiB || ! bench commit $(($1 * 1048576)) $((1024 / $1)); then
		record "$name" FAIL "" "" "$(why)"
		stop
		return
	fi
	stop
	rate=$(gb "$(value commit_rate "$work/out")")
	ours=$(recorded "1 GiB in one process, $process")
	record "$name" SEEN "$rate" GB/s "$(ratio "$rate" "$ours") of the same calls in one process ($ours GB/s)"
}

# Slabs of the daemon's default size are there before they are asked for: a daemon for each size.
commit_costs() {
	local slab
	if [ "$hbm" -lt 3072 ]; then
		record "commit of 1 GiB by the daemon" UNSUPPORTED "" "" "it takes 3 GiB of device memory"
		return
	fi
	for slab in 2 32 128 1024; do
		commit_cost $slab
	done
}

# ---- The suite ----

results_of() { # OUTCOME FILE: how many of cmocka's lines; all but OK it says twice
	local line count=0
	while IFS= read -r line; do
		[[ $line =~ ^\[\ *$1\ *\]\ [a-zA-Z_] ]] && count=$((count + 1))
	done <"$2"
	[ "$1" = OK ] || count=$((count / 2))
	echo $count
}

suite_test() { # FOLDER/NAME; in a process of its own, with which the test ends
	local log=$out/log/${1##*/} limit status=0 passed skipped began=$SECONDS
	limit=$(left)
	[ "$limit" -lt 240 ] || limit=240
	if [ "$limit" -lt 1 ]; then
		record "$1" FAIL "" "" "not run: the $seconds seconds are over"
		return
	fi
	(cd "$pack" && CMOCKA_MESSAGE_OUTPUT=stdout exec timeout -k 5 "$limit" "tests/$1") \
		>"$log" 2>&1 </dev/null & # they find tests/data from there
	trap "kill $! 2>/dev/null; exit" TERM
	wait $! || status=$?
	passed=$(results_of OK "$log") skipped=$(results_of SKIPPED "$log")
	if [ $status -eq 0 ] && [ $((passed + skipped)) -gt 0 ]; then
		record "$1" PASS "" "" "$passed passed, $skipped skipped; $((SECONDS - began)) s"
	else
		record "$1" FAIL "" "" "exit status $status, $passed passed; see log/${1##*/}"
	fi
}

# Some at a time: each starts a hundred processes that wait for their driver more than they work.
suite() {
	local test at_once=$(($(nproc) / 4))
	[ $at_once -ge 1 ] || at_once=1
	[ $at_once -le 4 ] || at_once=4
	at_once=${AT_ONCE:-$at_once}
	for test in "$pack"/tests/{fault,integration}/test_*; do
		[ -z "$quick" ] || [[ $test = */test_region ]] || continue
		[ -z "${SUITE_WITHOUT:-}" ] || ! [[ ${test##*/} =~ $SUITE_WITHOUT ]] || continue
		[ "$(jobs -rp | wc -l)" -lt "$at_once" ] || wait -n
		suite_test "${test#"$pack"/tests/}" &
	done
	wait
}

has_stored() { # PID: whether that client has
	local number='[1-9]'
	[[ $(ctl --json sessions 2>/dev/null) =~ \"pid\":\ $1,[^}]*\"stored_bytes\":\ $number ]]
}

# Replays that are killed while they load and store; how many were still at it. Before that they start a driver, which
# takes some of a second or many.
kill_some() {
	local victim status killed=0 after until
	for after in 0 0.2 0.4; do
		"$pack/hbmctl" replay "$pack/trace.jsonl" --namespace "victim$after" >/dev/null 2>&1 &
		victim=$!
		until=$((SECONDS + 30))
		until has_stored $victim || [ $SECONDS -ge $until ] || ! kill -0 $victim 2>/dev/null; do
			sleep 0.05
		done
		has_stored $victim || { kill -KILL $victim 2>/dev/null; wait $victim 2>/dev/null; continue; }
		sleep $after
		kill -KILL $victim 2>/dev/null
		status=0
		wait $victim 2>/dev/null || status=$?
		[ $status -ne 137 ] || killed=$((killed + 1))
	done
	echo $killed
}

# Blocks through all three tiers, each byte compared, after clients were killed in the middle of the same.
replay() {
	local name="replay through HBM, DDR and NVMe" killed
	if ! start device.memory=512MiB device.cache=8MiB device.slab=2MiB ddr.size=32MiB nvme.path="$work/nvme" \
		nvme.size=512MiB; then
		record "$name" FAIL "" "" "$(why)"
		return
	fi
	killed=$(kill_some)
	if timeout -k 5 "$(($(left) > 0 ? $(left) : 1))" "$pack/hbmctl" --json replay "$pack/trace.jsonl" \
		${quick:+--limit 100} >"$out/log/replay.json" 2>"$work/why"; then
		replay_judge "$name"
	else
		record "$name" FAIL "" "" "$(why)"
	fi
	verify_after "$killed"
	stop || record "hbmd ends on SIGTERM" FAIL "" "" "exit status $?"
}

replay_judge() { # NAME
	local text tier all=yes hits=''
	text=$(<"$out/log/replay.json")
	for tier in hbm ddr nvme; do
		[[ $text =~ \"$tier\":\ ([1-9][0-9]*) ]] || { all=no && continue; }
		hits+=" $tier ${BASH_REMATCH[1]}"
	done
	if [[ $text =~ \"mismatches\":\ 0[,[:space:]] ]] && [ $all = yes ]; then
		record "$1" PASS "" "" "every byte compared; hits:$hits"
	else
		record "$1" FAIL "" "" "wrong bytes, or a tier without hits (hits:$hits); see log/replay.json"
	fi
}

verify_after() { # KILLED
	local name="books balance after clients were killed"
	if ! ctl verify >"$out/log/verify" 2>&1; then
		record "$name" FAIL "" "" "see log/verify"
	elif [ "$1" -eq 0 ]; then
		record "$name" UNSUPPORTED "" "" "every client was done before it could be killed"
	else
		record "$name" PASS "" "" "$1 of 3 clients were killed in the middle of a replay"
	fi
}

# Under NVIDIA's checker of device code: every entry point once, then tests whose daemon is checked with them. Calls that
# are refused are no errors: some are made to see that they are.
sanitizer() {
	local tool name limit test status
	tool=$(PATH=$PATH:/usr/local/cuda/bin type -P compute-sanitizer)
	if [ "$HBM_TEST_DRIVER" = soft ] || [ -z "$tool" ]; then
		record compute-sanitizer UNSUPPORTED "" "" \
			"$([ -n "$tool" ] && echo "the soft device runs no device code" || echo "it is not here")"
		return
	fi
	for test in gpu_facts tests/integration/test_region tests/integration/test_cache; do
		name="compute-sanitizer, ${test##*/}" limit=$(left)
		[ "$limit" -lt 60 ] || limit=60
		if [ "$limit" -lt 1 ]; then
			record "$name" FAIL "" "" "not run: the $seconds seconds are over"
			continue
		fi
		status=0
		(cd "$pack" && exec timeout -k 5 "$limit" "$tool" --target-processes all --report-api-errors no \
			--error-exitcode 9 "./$test") >"$out/log/compute-sanitizer-${test##*/}" 2>&1 </dev/null || status=$?
		case $status in
		0) record "$name" PASS "" "" "nothing found" ;;
		124 | 137) record "$name" UNSUPPORTED "" "" "too slow: not done in $limit s" ;;
		*) record "$name" FAIL "" "" "exit status $status; see log/compute-sanitizer-${test##*/}" ;;
		esac
	done
}

# ---- What the daemon makes of the hardware ----

rounds=${quick:+1}
rounds=${rounds:-3}

best_copy() { # H2D, D2H or D2D: the fastest of the large blocks
	local size rate best=0
	for size in "1 MiB" "4 MiB" "16 MiB" "64 MiB"; do
		rate=$(milli "$(recorded "$1, block of $size")")
		[ "$rate" -le $best ] || best=$rate
	done
	decimal $best
}

roof() { # NAME GIB_S PEAK WHAT
	local rate
	rate=$(gb "$2")
	record "$1" SEEN "$rate" GB/s "$(ratio "$rate" "$3") of $4 ($3 GB/s)"
}

# Blocks of 2 MiB, in so many segments as an engine's layers would make of them.
ddr_roof() { # SEGMENTS
	local mib=${quick:+128} of=''
	mib=${mib:-512}
	[ "$1" -eq 1 ] || of=", $1 segments"
	if ! start device.memory=1GiB device.cache=0 ddr.size=$((mib + 128))MiB ||
		! bench blocks 2097152 $((mib / 2)) 4 "$rounds" "$1"; then
		record "store and load, HBM and DDR$of" FAIL "" "" "$(why)"
		stop
		return
	fi
	stop
	roof "store, HBM to DDR$of" "$(value store "$work/out")" "$(best_copy D2H)" "the pinned-copy peak"
	roof "load, DDR to HBM$of" "$(value load "$work/out")" "$(best_copy H2D)" "the pinned-copy peak"
}

# Blocks that stay on the device: beside an engine's kernels their copies are what "D2D beside another process's kernel"
# says, and not this.
hbm_roof() { # SEGMENTS
	local mib=${quick:+128} of=''
	mib=${mib:-512}
	[ "$1" -eq 1 ] || of=", $1 segments"
	if [ "$hbm" -lt 3072 ]; then
		record "store and load, HBM and the HBM tier$of" UNSUPPORTED "" "" "it takes 3 GiB of device memory"
		return
	fi
	if ! start device.memory=2GiB device.cache=$((mib + 128))MiB ddr.size=64MiB ||
		! bench blocks 2097152 $((mib / 2)) 4 "$rounds" "$1"; then
		record "store and load, HBM and the HBM tier$of" FAIL "" "" "$(why)"
		stop
		return
	fi
	stop
	roof "store, HBM to the HBM tier$of" "$(value store "$work/out")" "$(best_copy D2D)" "copies within the device"
	roof "load, the HBM tier to HBM$of" "$(value load "$work/out")" "$(best_copy D2D)" "copies within the device"
}

overlap() { # the share of NVMe time in which copies ran too, in percent
	local line link number busy=0 overlapped=0
	while read -r line number; do
		[[ $line == *nvme* ]] || continue
		[[ $line != hbmd_link_busy_seconds_total* ]] || busy=$((busy + $(milli "$number")))
		[[ $line != hbmd_link_overlapped_seconds_total* ]] || overlapped=$((overlapped + $(milli "$number")))
	done < <(ctl metrics)
	[ $busy -gt 0 ] && echo $((overlapped * 100 / busy)) || echo 0
}

nvme_roof() {
	local mib=${quick:+128}
	mib=${mib:-1024}
	if ! start device.memory=1GiB device.cache=0 ddr.size=0 ddr.staging=128MiB nvme.path="$work/nvme" \
		nvme.size=$((mib + 256))MiB nvme.depth=16 || ! bench blocks 2097152 $((mib / 2)) 16 "$rounds" 1; then
		record "store and load, HBM and NVMe" FAIL "" "" "$(why)"
		stop
		return
	fi
	record "NVMe time overlapped by copies" SEEN "$(overlap)" % "stores and loads of 2 MiB, 16 in flight"
	stop
	roof "store, HBM to NVMe" "$(value store "$work/out")" "$(recorded "disk alone, write")" "the disk alone"
	roof "load, NVMe to HBM" "$(value load "$work/out")" "$(recorded "disk alone, read")" "the disk alone"
}

# ---- All of it ----

begin() { # PART SECONDS_KEPT_FOR_WHAT_FOLLOWS; false: not asked for
	part=$1 kept=$2
	[ "$kept" -lt $((seconds / 2)) ] || kept=0
	[[ ,$parts, == *,$part,* ]]
}

echo "$device"
[ "$HBM_TEST_DRIVER" = cuda ] || echo "SOFT DRIVER: this proves the pack; nothing here says anything about a device"
if begin facts 0; then
	settings
	program 60 gpu_facts
fi
if begin claims 0; then
	shared_card program 200 gpu_claims
	program 60 gpu_host "$work"
	daemon_context
fi
keep_awake
if begin costs 0; then
	shared_card program 200 gpu_costs $quick "$hbm" "$ddr" "$disk" "$work"
	commit_costs
fi
if begin suite 60; then
	replay
	suite
	sanitizer
fi
if begin roofs 0; then
	ddr_roof 1
	ddr_roof 64 # of 32 KiB
	hbm_roof 1
	hbm_roof 64
	nvme_roof
fi
