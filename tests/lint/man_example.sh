#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example program of libhbm(3) compiles without a warning, links with the library as a user would link it, and does
# with a running daemon what it says. The function for encoded blocks compiles.
# The program of hbm-sequences(3), which needs no daemon, does what it says as well; its function compiles.
set -u
build=${BUILD:-build}
page=man/libhbm.3
work=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null; rm -rf "$work"' EXIT

fail() {
	echo "$page: the example $1"
	exit 1
}

# Between the marks, without the macros around the text, and with roff's escapes undone.
text() { # example, snippet
	sed -n "/^\.\\\\\" $1-begin/,/^\.\\\\\" $1-end/p" "$page" | grep -v '^\.' |
		sed -e 's/\\(dq/"/g' -e 's/\\e/\\/g' -e 's/\\&//g'
}
text example >"$work/example.c"
text snippet >"$work/snippet.c"
[ -s "$work/example.c" ] && [ -s "$work/snippet.c" ] || fail "is not between its marks"

flags=(-std=c11 -Wall -Wextra -Wconversion -Wno-sign-conversion -Werror -Iinclude)
for cc in gcc clang; do
	! command -v "$cc" >/dev/null || "$cc" "${flags[@]}" -fsyntax-only "$work/example.c" "$work/snippet.c" ||
		fail "does not compile with $cc"
done
# A library built with sanitizers wants a program that is, too.
case $build in
*sanitize-*) flags+=("-fsanitize=$(sed 's/.*sanitize-//; s/-/,/g' <<<"$build")") ;;
esac
"${CC:-gcc}" "${flags[@]}" "$work/example.c" -L"$build" -lhbm -o "$work/example" || fail "does not link with libhbm"

export HBM_SOCKET=$work/sock
"$build/hbmd" --set hbmd.socket="$HBM_SOCKET" --set hbmd.state_dir="$work/state" --set hbmd.driver=soft \
	--set soft.memory=64MiB --set device.cache=2MiB --set device.headroom=2MiB --set device.slab=2MiB \
	--set ddr.headroom=0 --set ddr.staging=2MiB >"$work/log" 2>&1 &
daemon=$!
for ((i = 0; i < 200; i++)); do
	[ -S "$HBM_SOCKET" ] || ! kill -0 "$daemon" 2>/dev/null || { sleep 0.1; continue; }
	break
done
said=$(LD_LIBRARY_PATH=$build "$work/example" 2>&1)
if [ "$said" != $'store: done\nload: done' ]; then
	cat "$work/log"
	fail "says: $said"
fi

page=man/hbm-sequences.3
text example >"$work/example.c"
text snippet >"$work/snippet.c"
[ -s "$work/example.c" ] && [ -s "$work/snippet.c" ] || fail "is not between its marks"
"${CC:-gcc}" "${flags[@]}" -fsyntax-only "$work/snippet.c" || fail "does not compile"
"${CC:-gcc}" "${flags[@]}" "$work/example.c" -L"$build" -lhbm -o "$work/example" || fail "does not compile and link"
said=$(LD_LIBRARY_PATH=$build "$work/example" 2>&1)
[ "$said" = $'page group: 4 MiB\n50,000 tokens: 12288000000 bytes in 5860 slabs\nstrides: 61440 a token, 128 a head' ] ||
	fail "says: $said"
echo "ok man_example"
