#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each function of hbm.h is called by the Python package, also as its form that waits or that does not, or hbm-python(7)
# names it, with the reason, among those that are not bound; and none of these is called. That the page has what the
# package has is for client/python/tests/test_documents.py, which imports it.
set -u
header=include/hbm/hbm.h page=man/hbm-python.7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

fail() {
	echo "$page: $1"
	status=1
}

# A declaration begins with HBM_API; the first hbm_name( after it is the function.
tr '\n' ' ' <"$header" | sed 's/#define HBM_API[^;]*;/;/; s/HBM_API /\n&/g' |
	sed -n 's/^HBM_API [^(;]*\(hbm_[a-z0-9_]*\)(.*/\1/p' | sort >"$work/functions"
grep -ohE '\bhbm_[a-z0-9_]+\b' client/python/native/*.c | sort -u >"$work/called"
sed -n '/^\.Sh WHAT IS NOT BOUND/,/^\.Sh SEE ALSO/p' "$page" | grep '^\.It Fn' | grep -oE 'hbm_[a-z0-9_]+' | sort >"$work/named"
[ -s "$work/functions" ] && [ -s "$work/called" ] && [ -s "$work/named" ] || fail "there is nothing to compare"

while read -r function; do
	other=${function/hbm_submit_/hbm_}
	[ "$other" != "$function" ] || other=hbm_submit_${function#hbm_}
	if grep -qx "$function" "$work/named"; then
		! grep -qx "$function" "$work/called" || fail "says that $function() is not bound"
	elif ! grep -qx -e "$function" -e "$other" "$work/called"; then
		fail "does not say why $function() is not bound"
	fi
done <"$work/functions"
while read -r function; do
	fail "$function() is not in $header"
done < <(comm -13 "$work/functions" "$work/named")

[ "$status" -eq 0 ] && echo "ok man_python"
exit "$status"
