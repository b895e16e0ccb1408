#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No circle of includes between modules. A module is a .c file and the header of the same name; it
# uses every module whose header one of the two includes. Other folders may be given as arguments.
set -u -o pipefail
shopt -s nullglob
[ $# -gt 0 ] || set -- daemon/* client client/ctl client/plan client/sequence kernels/* include/hbm

# "user used" per include of ours, a quoted path from the root or <hbm/...>. A module's include of
# its own header is a pair of equal names, which tsort takes for a name.
pairs() {
	local folder
	for folder in "$@"; do
		grep -HE '^[[:space:]]*#[[:space:]]*include[[:space:]]*("|<hbm/)' "$folder"/*.[ch]
	done |
		sed -nE 's,^include/,,; s/^([^:]*)\.[ch]:[^"<]*["<]([^">]*)\.h[">].*/\1 \2/p'
}

if ! loops=$(pairs "$@" | LC_ALL=C tsort 2>&1 >/dev/null); then
	echo "circles: modules include each other:"
	echo "$loops" | sed 's/^tsort: -: .*/in a circle:/; s/^tsort: /	/'
	exit 1
fi
echo "ok circles"
