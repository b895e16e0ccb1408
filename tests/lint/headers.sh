#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The public headers compile on their own, as C99 and later and as C++, with warnings as errors.
# Run from the repository's root. CC is tried, and the C++ compiler of the same family if there is one.
set -eu
cc=${CC:-gcc}
case $cc in
*clang*) cxx=clang++ ;;
*) cxx=g++ ;;
esac

check() { # compiler, standard, header, language
	printf '#include <hbm/%s>\nint main(void) { return sizeof(struct hbm_wire_header) != 24; }\n' "$3" |
		"$1" -std="$2" -Wall -Wextra -Werror -Iinclude -x "$4" -fsyntax-only - || {
		echo "headers: $3 does not compile as $2" >&2
		exit 1
	}
}

for header in hbm.h layout.h sequence.h saved.h wire.h; do
	for standard in c11 gnu11 c17 c2x; do
		check "$cc" "$standard" "$header" c
	done
done
for standard in c99 gnu99; do
	check "$cc" "$standard" hbm.h c
	check "$cc" "$standard" layout.h c
	check "$cc" "$standard" sequence.h c
	check "$cc" "$standard" saved.h c
done
if command -v "$cxx" >/dev/null; then
	for standard in c++11 c++17 c++20; do
		check "$cxx" "$standard" hbm.h c++
		check "$cxx" "$standard" layout.h c++
		check "$cxx" "$standard" sequence.h c++
		check "$cxx" "$standard" saved.h c++
	done
else
	echo "headers: no $cxx, C++ not tried"
fi
echo "ok headers"
