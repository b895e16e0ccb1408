#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shared library exports exactly the functions that the public headers declare, under its version node.
# BUILD names the build folder; run from the repository's root.
set -eu
library=${BUILD:-build}/libhbm.so headers='include/hbm/hbm.h include/hbm/layout.h include/hbm/sequence.h include/hbm/saved.h' map=client/libhbm.map
if [ ! -e "$library" ]; then
	echo "symbols: there is no $library: make first" >&2
	exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# A declaration begins with HBM_API; the first hbm_name( after it is the function.
# shellcheck disable=SC2086 # they are words
cat $headers | tr '\n' ' ' | sed 's/#define HBM_API[^;]*;/;/; s/HBM_API /\n&/g' |
	sed -n 's/^HBM_API [^(;]*\(hbm_[a-z0-9_]*\)(.*/\1/p' | sort >"$work/declared"
node=$(sed -n 's/^\([A-Z_0-9]*\) {.*/\1/p' "$map")
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort >"$work/versioned"
sed "s/@@$node\$//" "$work/versioned" >"$work/exported"

if [ ! -s "$work/declared" ]; then
	echo "symbols: no declarations found in $headers" >&2
	exit 1
fi
if ! diff "$work/declared" "$work/exported" >"$work/diff"; then
	echo "symbols: $headers (<) and $library (>) differ:" >&2
	cat "$work/diff" >&2
	exit 1
fi
echo "ok symbols"
