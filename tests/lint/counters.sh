#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A new counter is one line in wire_records.h: with one more there, and no other change, the daemon has where to count it,
# `hbmctl status`, `--json` and `metrics` show it, and the man pages are said to lack it.
set -u
build=${BUILD:-build}
root=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null; rm -rf "$root"' EXIT

fail() {
	echo "counters: $1"
	[ ! -s "$root/said" ] || head -n 20 "$root/said"
	exit 1
}

mkdir -p "$root/include"
cp -r include/hbm "$root/include"
line='	X(R, uint64_t, probes, , BYTES, 5, COUNTER, "probed", "hbmd_probes_bytes_total", "Bytes probed.")'
awk -v line="$line" '
	/^#define HBM_RECORD_STATUS\(/ { inside = 1 }
	inside && !/\\$/ { print $0 " \\"; print line; inside = 0; next }
	{ print }' include/hbm/wire_records.h >"$root/include/hbm/wire_records.h"
flags=$(sed "s|-Iinclude |-I$root/include |" "$build/flags") || fail "no flags in $build: make first"
compile() { # as the build does, with the longer list
	eval "$flags" '"$@"' >"$root/said" 2>&1
}

# Only what knows the size of records is compiled anew; what shows them is as it was built.
for module in client/ctl/record client/ctl/query client/ctl/inspect; do
	compile -Werror -c "$module.c" -o "$root/${module##*/}.o" || fail "$module.c does not compile"
done
# The daemon that runs below does not send the new member, and hbmctl shows what is sent: here it is, as 0.
cat >"$root/sent.c" <<'END'
#include <hbm/hbm.h>
#include <string.h>

hbm_record_fn *shown;
int __real_hbm_query(struct hbm *hbm, enum hbm_wire_query_kind kind, hbm_record_fn *each, void *arg);

static int send_all(const void *record, size_t record_bytes, void *arg)
{
	struct hbm_wire_status status = {0};

	memcpy(&status, record, record_bytes);
	return shown(&status, sizeof(status), arg);
}

int __wrap_hbm_query(struct hbm *hbm, enum hbm_wire_query_kind kind, hbm_record_fn *each, void *arg)
{
	shown = each;
	return __real_hbm_query(hbm, kind, kind == HBM_QUERY_STATUS ? send_all : each, arg);
}
END
compile -Wno-missing-prototypes -c "$root/sent.c" -o "$root/sent.o" || fail "sent.c does not compile"
compile -Wl,--wrap=hbm_query "$root"/*.o "$build/obj/client/ctl/main.o" "$build/libhbmctl.a" "$build/libhbm.a" \
	-o "$root/hbmctl" -ljansson -lxxhash -ldl -lm || fail "hbmctl does not link"

cat >"$root/count.c" <<'END'
#include "daemon/base/counters.h"

int main(void)
{
	const struct counters counters = {.probes = 7};
	struct hbm_wire_status status = {.probes = 1};

	counters_add(&counters, &status);
	return status.probes != 8;
}
END
compile -Werror -c daemon/serve/inspect.c -o "$root/inspect_daemon.o" || fail "inspect.c does not compile"
compile "$root/count.c" daemon/base/counters.c -o "$root/count" || fail "there is no counter"
"$root/count" || fail "the counter is not in the sum"

# A host of two NUMA nodes, which have metrics of their own.
mkdir -p "$root/host/sys/devices/system/node"
echo 0-1 >"$root/host/sys/devices/system/node/has_memory"
export HBM_SOCKET=$root/socket HBM_SOFT_DRIVER=$build/libhbmsoft.so HBM_HARDWARE_ROOT=$root/host
"$build/hbmd" --config /dev/null --set hbmd.socket="$HBM_SOCKET" --set hbmd.state_dir="$root/state" \
	--set hbmd.driver=soft --set soft.memory=64MiB --set device.cache=2MiB --set device.headroom=2MiB \
	--set device.slab=2MiB --set ddr.headroom=0 --set ddr.staging=8MiB --set limits.block_bytes=64KiB >"$root/said" 2>&1 &
daemon=$!
for ((i = 0; i < 200; i++)); do
	[ -S "$HBM_SOCKET" ] || ! kill -0 "$daemon" 2>/dev/null || { sleep 0.1; continue; }
	break
done

shows() { # what, command...
	"$root/hbmctl" "${@:2}" >"$root/said" 2>&1 || fail "hbmctl ${*:2} fails"
	grep -qxE "$1" "$root/said" || fail "hbmctl ${*:2} does not show it"
}
shows 'probed +0 B' status
shows ' *"probes": 0,?' status --json
shows '# HELP hbmd_probes_bytes_total Bytes probed\.' metrics
shows '# TYPE hbmd_probes_bytes_total counter' metrics
shows 'hbmd_probes_bytes_total 0' metrics
shows ' *"name": "hbmd_probes_bytes_total",' metrics --json

# Every metric of the list is printed, and no other but hbmd_info.
"$root/hbmctl" metrics | sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' | grep -vx hbmd_info | sort >"$root/printed"
grep -oE '"hbmd_[a-z_]+"' "$root/include/hbm/wire_records.h" | tr -d '"' | sort >"$root/listed"
diff "$root/listed" "$root/printed" >"$root/said" || fail "the list (<) and hbmctl metrics (>) differ"

HBM_INCLUDE=$root/include tests/lint/man_records.sh >"$root/said" && fail "the man pages are said to have it"
[ "$(grep -cE '^> (\.It Vt uint64_t Fa probes|\.It Li hbmd_probes_bytes_total)$' "$root/said")" -eq 2 ] ||
	fail "the man pages are not said to lack it"

echo "ok counters"
