#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who may include whom. Between folders:
#
# daemon/ daemon/, kernels/ but not kernels/soft/, hbm/wire.h hbm/wire.h, client/plan/
# client/ client/, kernels/ likewise, hbm/, and daemon/checked.h and daemon/list.h, which know nothing daemon/checked.h, daemon/list.h daemon/fdpass.h,
# client/plan/ client/plan/, daemon/checked.h and daemon/loading.h: pure arithmetic, for library and ctl alike know nothing of the daemon
# client/plan/ client/plan/ and daemon/checked.h: pure arithmetic, for daemon, library and ctl alike
#	client/ctl/	client/ctl/, client/plan/, kernels/driver.h, hbm/: it is a user of the library like any other
#	kernels/	kernels/, hbm/wire.h; nothing outside kernels/soft/ looks into it
#
# Inside daemon/ every module has a layer, below; none includes one above its own. A new module is added here.
# Inside client/plan/ there is no circle.
set -u
status=0
declare -A layer

fail() {
	echo "$1"
	status=1
}

while read -r number modules; do
	for module in $modules; do
		layer[$module]=$number
	done
done <<'END'
0 checked list checksum place loading fdpass hbmd inherited rlimit exit_status clock
1 log config config_file config_keys config_value extent index namespace peer validate state_dir memory_limit ddr_size
2 loop loop_engine loop_threads loop_timers loop_uring tier outbox listener tree order order_lru
3 worker notify link_stats block cache cache_pin connection fences
4 device request nvme_io nvme_file
5 slab copy_queue ddr
6 slot mapping claim region step tier_hbm tier_ddr tier_nvme transfer mover store load move
7 commit decommit
8 session
9 server serve_blocks serve_keys serve_region serve_namespace inspect audit memory_setup
10 main
END

may_include() { # file, included path
	case $1:$2 in
	daemon/*:daemon/* | daemon/*:hbm/wire.h) ;;
	daemon/*:kernels/soft/*) return 1 ;;
	daemon/*:kernels/*) ;;
	client/plan/*:client/plan/* | client/plan/*:daemon/checked.h | client/plan/*:daemon/loading.h) ;;
	client/plan/*) return 1 ;;
	client/ctl/*:client/ctl/* | client/ctl/*:client/plan/*) ;;
	client/ctl/*:kernels/driver.h | client/ctl/*:hbm/*) ;;
	client/ctl/*) return 1 ;;
	client/*:client/ctl/*) return 1 ;;
	client/*:client/* | client/*:hbm/* | client/*:daemon/checked.h | client/*:daemon/list.h | client/*:daemon/fdpass.h) ;;
	client/*:kernels/soft/*) return 1 ;;
	client/*:kernels/*) ;;
	kernels/soft/*:kernels/* | kernels/*:hbm/wire.h) ;;
	kernels/*:kernels/soft/*) return 1 ;;
	kernels/*:kernels/*) ;;
	include/hbm/*:hbm/wire.h) ;;
	*) return 1 ;;
	esac
}

module_of() {
	local name=${1##*/}
	echo "${name%.[ch]}"
}

for file in daemon/*.[ch]; do
	[ -n "${layer[$(module_of "$file")]-}" ] || fail "$file: has no layer: give it one in tests/lint/layers.sh"
done

# Ours are all that are quoted, and <hbm/...>.
while IFS=: read -r file line included; do
	may_include "$file" "$included" || fail "$file:$line: may not include $included"
	case $file:$included in
	daemon/*:daemon/*)
		upper=$(module_of "$included") lower=$(module_of "$file")
		[ "${layer[$lower]-0}" -ge "${layer[$upper]-0}" ] ||
			fail "$file:$line: $lower (layer ${layer[$lower]}) includes $upper (layer ${layer[$upper]})"
		;;
	esac
done < <(grep -rnE '^[[:namespace:]]*#[[:namespace:]]*include[[:namespace:]]*("|<hbm/)' daemon client kernels include --include='*.[ch]' |
	sed -E 's/^([^:]*):([0-9]+):[^"<]*["<]([^">]*)[">].*/\1:\2:\3/')

# tsort names the members of a circle and fails.
circle=$(grep -oE '^#include "client/plan/[a-z_]+' client/plan/*.[ch] |
	sed -E 's|^client/plan/([a-z_]+)\.[ch]:.*/([a-z_]+)$|\1 \2|' | awk '$1 != $2' | tsort 2>&1 >/dev/null) ||
	fail "client/plan has an include circle: $circle"

[ "$status" -eq 0 ] && echo "ok layers"
exit "$status"
