#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hbm-protocol(7) says what wire.h says: every constant with its number, every struct member by member, and no other. The
# structs that are made of wire_records.h are for man_records.sh.
set -u
header=include/hbm/wire.h page=man/hbm-protocol.7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

compare() { # what, wire.h's, the page's
	[ -s "$2" ] || { echo "$header: found no $1"; status=1; }
	diff "$2" "$3" >"$work/diff" && return
	echo "$page (>) and $header (<) differ in $1:"
	cat "$work/diff"
	status=1
}

# Structs: without comments, one member a line, spaces squeezed.
structs() {
	gcc -x c -fpreprocessed -dD -E -P - 2>/dev/null | tr '\n\t' '  ' | sed 's/\(struct [a-z_]* {[^}]*};\)/\n\1\n/g' |
		sed -n 's/  */ /g; /^struct [a-z_]* {/p' | grep -v 'HBM_RECORD_' | sort
}
structs <"$header" >"$work/header"
sed -n '/^\.Bd -literal/,/^\.Ed/p' "$page" | grep -v '^\.' | structs >"$work/page"
compare structs "$work/header" "$work/page"

# Constants: "NAME number", as the compiler has them, of every enum and every #define that is a number. In the page they
# stand in tables: ".It Dv NAME Ta number".
names=$(
	sed -nE 's/^#define (HBM_[A-Z0-9_]+) .*/\1/p' "$header"
	gcc -E -P -Iinclude "$header" | tr '\n' ' ' | grep -oE 'enum hbm_[a-z_]+ \{[^}]*\}' | grep -oE '\bHBM_[A-Z0-9_]+'
)
{
	echo '#include <hbm/wire.h>'
	echo '#include <stdio.h>'
	echo 'int main(void) {'
	for name in $names; do
		echo "printf(\"$name %lld\\n\", (long long)($name));"
	done
	echo '}'
} >"$work/print.c"
gcc -Iinclude "$work/print.c" -o "$work/print" || exit 1
"$work/print" | sort -u >"$work/header"
sed -nE 's/^\.It Dv (HBM_[A-Z0-9_]+) Ta ([x0-9a-f]+).*/\1 \2/p' "$page" |
	while read -r name number; do
		echo "$name $((number))"
	done | sort >"$work/page"
compare constants "$work/header" "$work/page"

[ "$status" -eq 0 ] && echo "ok man_wire"
exit "$status"
