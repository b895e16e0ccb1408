#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tables of records in hbm-protocol(7) and of metrics in hbmctl(1) are those of wire_records.h. With --write they are
# written into the pages: run that after a change of the lists. HBM_INCLUDE: another folder with the headers.
set -u
include=${HBM_INCLUDE:-include}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

cat >"$work/print.c" <<'END'
#include <hbm/wire.h>
#include <stdio.h>
#include <string.h>

#define MEMBER(R, type, member, dimension, form, place, figure, header, metric, help)                    \
	printf(".It Vt %s Fa %s%s%s\n", #type, #member, *#dimension ? " Ns " : "", #dimension);          \
	if (strcmp(#form, "ZERO") != 0)                                                                  \
		printf("%s\n", help);
#define RECORD(name, value, record, text, members)                                                       \
	printf(".Pp\n.Vt struct %s :\n.Bl -tag -width Ds -compact\n", #record);                           \
	members(MEMBER, record) printf(".El\n");
#define METRIC(R, type, member, dimension, form, place, figure, header, metric, help)                    \
	if (*metric)                                                                                     \
		printf(".It Li %s\n%s\n", metric, help);
#define METRICS(name, value, record, text, members) members(METRIC, record)

int main(int argc, char **argv)
{
	(void)argc;
	if (strcmp(argv[1], "records") == 0) {
		HBM_QUERY_LIST(RECORD)
		return 0;
	}
	printf(".Bl -tag -width Ds -compact\n");
	HBM_QUERY_LIST(METRICS)
	printf(".El\n");
	return 0;
}
END
gcc -Wno-address -I"$include" "$work/print.c" -o "$work/print" || exit 1

# What stands between the two comments of that name in a page.
compare() { # page, name, whether to write
	local begin=".\\\" $2: written by tests/lint/man_records.sh --write" end=".\\\" $2: end"
	"$work/print" "$2" >"$work/list"
	begin=$begin end=$end awk -v list="$work/list" '
		$0 == ENVIRON["end"] { inside = 0 }
		!inside { print }
		$0 == ENVIRON["begin"] { inside = 1; while ((getline line <list) > 0) print line }' "$1" >"$work/page"
	grep -qxF "$end" "$1" && grep -qxF "$begin" "$1" || { echo "$1: there is no place for the $2"; status=1; return; }
	[ "$3" != --write ] || cp "$work/page" "$1"
	diff "$1" "$work/page" >"$work/diff" && return
	echo "$1 (<) differs from wire_records.h (>) in its $2: tests/lint/man_records.sh --write mends it"
	cat "$work/diff"
	status=1
}
compare man/hbm-protocol.7 records "${1-}"
compare man/hbmctl.1 metrics "${1-}"

[ "$status" -eq 0 ] && echo "ok man_records"
exit "$status"
