#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who may include whom: a file includes only its own folder's files and those of the folders named after it.
set -u
status=0
declare -A below

fail() {
	echo "$1"
	status=1
}

# The rooms of the daemon, from the top down: each may include those below it. base is the library's too.
rooms=(service serve move session region catalog cache tier device loop ledger state config base)
for ((i = 0; i < ${#rooms[@]}; i++)); do
	below[daemon/${rooms[i]}]="kernels/driver include/hbm"
	for ((k = i + 1; k < ${#rooms[@]}; k++)); do
		below[daemon/${rooms[i]}]+=" daemon/${rooms[k]}"
	done
done
# The rest. hbmctl is a user of the library like any other, but for plan, and the names and UUIDs of the driver; so is the
# extension of Python.
below[client]="include/hbm kernels/driver kernels/device daemon/base"
below[client/sequence]="client include/hbm kernels/driver kernels/device daemon/base"
below[client/plan]="client/plan daemon/base"
below[client/python/native]="include/hbm"
below[client/ctl]="include/hbm client/plan kernels/driver"
below[kernels/driver]="include/hbm"
below[kernels/device]="kernels/driver"
below[kernels/soft]="kernels/driver kernels/device include/hbm"
below[include/hbm]=""

# Ours are all that are quoted, and <hbm/...>.
while IFS=: read -r file line included; do
	folder=${file%/*}
	case $included in
	hbm/*) target=include/hbm ;;
	*) target=${included%/*} ;;
	esac
	[ -n "${below[$folder]+known}" ] || fail "$folder: has no place in tests/lint/layers.sh"
	case " $folder ${below[$folder]-} " in
	*" $target "*) ;;
	*) fail "$file:$line: $folder may not include $included" ;;
	esac
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*("|<hbm/)' daemon client kernels include --include='*.[ch]' |
	sed -E 's/^([^:]*):([0-9]+):[^"<]*["<]([^">]*)[">].*/\1:\2:\3/')

for folder in daemon/*/; do
	[ -n "${below[${folder%/}]+known}" ] || fail "${folder%/}: has no place in tests/lint/layers.sh"
done

[ "$status" -eq 0 ] && echo "ok layers"
exit "$status"
