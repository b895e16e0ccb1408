#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A user's CPPFLAGS, CFLAGS and LDFLAGS, from the command line of make or from the environment, are added behind ours and
# replace none. What Debian's packages are built with is accepted, warnings being errors. A warning is an error only with
# WERROR=1.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
object=$work/build/obj/daemon/tier/extent.o library=$work/build/libhbmsoft.so

fail() {
	echo "flags: $1"
	cat "$work/said"
	exit 1
}

build() { # NAME=VALUE... -- ARGUMENT...: what make says, being asked with this environment and these arguments
	local environment=()
	while [ "$1" != -- ]; do
		environment+=("$1")
		shift
	done
	shift
	rm -rf "$work/build"
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u CPPFLAGS -u CFLAGS -u LDFLAGS -u SANITIZE -u WERROR -u COVERAGE \
		"${environment[@]}" make --no-print-directory V=1 BUILD="$work/build" CC="${CC:-gcc}" "$@" >"$work/said" 2>&1 ||
		fail "does not build: ${environment[*]} make $*"
}

says() { # PATTERN: the command that made the last thing has it
	tail -n 2 "$work/said" | grep -qE -e "$1" || fail "no $1"
}

says_ours() {
	local flag
	for flag in -std=gnu11 -fPIC -pthread -Wall -Wextra -Wconversion -fvisibility=hidden -D_GNU_SOURCE; do
		says " $flag "
	done
}

build -- "$object" CFLAGS=-O3
says_ours
says ' -O2 .* -O3 '
! grep -q -e ' -Werror ' "$work/said" || fail "warnings are errors unasked"

build CFLAGS=-O3 CPPFLAGS=-DOF_THE_USER -- "$object" WERROR=1
says_ours
says ' -O2 .* -O3 '
says ' -DOF_THE_USER '
says ' -Werror '

build LDFLAGS=-Wl,--build-id=none -- "$library"
says '-pthread .*-Wl,-z,relro.* -Wl,--build-id=none .*libhbmsoft.so'
build -- "$library" LDFLAGS=-Wl,--build-id=none
says '-pthread .*-Wl,-z,relro.* -Wl,--build-id=none .*libhbmsoft.so'

for level in 2 3; do # as dpkg-buildflags gives them
	build CPPFLAGS="-Wdate-time -D_FORTIFY_SOURCE=$level" LDFLAGS=-Wl,-z,relro \
		CFLAGS="-g -O2 -fstack-protector-strong -Wformat -Werror=format-security" -- "$object" WERROR=1
	says_ours
	says "-D_FORTIFY_SOURCE=$level "
	[ "$(grep -o -e '-D_FORTIFY_SOURCE' "$work/said" | wc -l)" -eq 1 ] || fail "_FORTIFY_SOURCE is defined twice"
done
build CFLAGS=-O0 -- "$object" WERROR=1

echo "ok flags"
