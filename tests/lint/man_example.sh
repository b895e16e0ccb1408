#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example program of libhbm(3) compiles without a warning and links with the library as a user would link it.
set -u
build=${BUILD:-build}
page=man/libhbm.3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitize=$(sed -n 's/.*sanitize-\([a-z-]*\).*/-fsanitize=\1/p' <<<"$build" | tr - , | sed 's/^,fsanitize/-fsanitize/')

# Between the marks, without the macros around the text, and with roff's escapes undone.
sed -n '/^\.\\" example-begin/,/^\.\\" example-end/p' "$page" | grep -v '^\.' |
	sed -e 's/\\(dq/"/g' -e 's/\\e/\\/g' -e 's/\\&//g' >"$work/example.c"
[ -s "$work/example.c" ] || { echo "$page: no example between the marks"; exit 1; }

flags=(-std=c11 -Wall -Wextra -Wconversion -Wno-sign-conversion -Werror -Iinclude)
for cc in gcc clang; do
	command -v "$cc" >/dev/null || continue
	"$cc" "${flags[@]}" -fsyntax-only "$work/example.c" || { echo "$page: the example does not compile with $cc"; exit 1; }
done
"${CC:-gcc}" "${flags[@]}" ${sanitize:+"$sanitize"} "$work/example.c" -L"$build" -lhbm -o "$work/example" ||
	{ echo "$page: the example does not link with libhbm"; exit 1; }
echo "ok man_example"
