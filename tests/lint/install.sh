#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` leaves under another prefix finds itself: the unit its daemon, pkg-config the library. A second
# time it leaves a configuration that was edited.
set -u
build=${BUILD:-build}
root=$(mktemp -d)
prefix=/opt/hbm
trap 'rm -rf "$root"' EXIT

fail() {
	echo "make install: $1"
	[ ! -s "$root/said" ] || cat "$root/said"
	exit 1
}

make_install() {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make install BUILD="$build" CC="${CC:-gcc}" DESTDIR="$root" PREFIX="$prefix" \
		>"$root/said" 2>&1 || fail "fails"
}

make_install
cmp -s systemd/hbmd.conf "$root/etc/hbmd/hbmd.conf" || fail "there is no configuration to start from"
grep -qx "ExecStart=$prefix/sbin/hbmd" "$root/usr/lib/systemd/system/hbmd.service" || fail "the unit starts another daemon"
[ -x "$root$prefix/sbin/hbmd" ] || fail "there is no daemon"
"$root$prefix/bin/hbmctl" --socket /nonexistent version >"$root/said" || fail "hbmctl does not run"
for page in man/*.[1-8]; do
	[ -e "$root$prefix/share/man/man${page##*.}/${page##*/}" ] || fail "$page is not there"
done

package=$(dirname "$(find "$root" -name libhbm.pc)")
flags=$(PKG_CONFIG_PATH=$package PKG_CONFIG_SYSROOT_DIR=$root pkg-config --cflags --libs libhbm) || fail "no libhbm.pc"
# A library built with sanitizers wants a program that is, too.
case $build in
*sanitize-*) flags+=" -fsanitize=$(sed 's/.*sanitize-//; s/-/,/g' <<<"$build")" ;;
esac
echo '#include <hbm/hbm.h>
int main(void) { return hbm_close(0) != 0; }' >"$root/user.c"
# shellcheck disable=SC2086 # they are words
"${CC:-gcc}" "$root/user.c" $flags -o "$root/user" >"$root/said" 2>&1 || fail "a user does not link with libhbm"
LD_LIBRARY_PATH=$(dirname "$package") "$root/user" || fail "a user does not find libhbm.so"

echo "# mine" >"$root/etc/hbmd/hbmd.conf"
make_install
grep -qx "# mine" "$root/etc/hbmd/hbmd.conf" || fail "an edited configuration is gone"
echo "ok install"
