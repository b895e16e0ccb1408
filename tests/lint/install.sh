#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` leaves under another prefix than was in force when it was built finds itself: the unit its daemon,
# pkg-config the library, the programs their soft driver. A second time it leaves a configuration that was edited, and
# `make uninstall` removes all but that.
set -u
build=${BUILD:-build}
root=$(mktemp -d)
prefix=/opt/hbm
daemon=
trap '[ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null; rm -rf "$root"' EXIT

fail() {
	echo "make install: $1"
	[ ! -s "$root/said" ] || cat "$root/said"
	exit 1
}

make_target() { # install or uninstall
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make "$1" BUILD="$build" CC="${CC:-gcc}" DESTDIR="$root" PREFIX="$prefix" \
		>"$root/said" 2>&1 || fail "$1 fails"
}

make_target install
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

# Nothing but what was installed is looked at: not this build, nor HBM_SOFT_DRIVER.
export HBM_SOCKET=$root/socket
unset HBM_SOFT_DRIVER
"$root$prefix/sbin/hbmd" --config /dev/null --set hbmd.socket="$HBM_SOCKET" --set hbmd.state_dir="$root/state" \
	--set hbmd.driver=soft --set soft.memory=64MiB --set device.cache=2MiB --set device.headroom=2MiB \
	--set device.slab=2MiB --set ddr.headroom=0 --set ddr.staging=2MiB >"$root/said" 2>&1 &
daemon=$!
for ((i = 0; i < 200; i++)); do
	[ -S "$HBM_SOCKET" ] || ! kill -0 "$daemon" 2>/dev/null || { sleep 0.1; continue; }
	break
done
"$root$prefix/bin/hbmctl" replay --generate users=1,turns=2,seed=1 >"$root/trace" &&
	"$root$prefix/bin/hbmctl" replay "$root/trace" >>"$root/said" 2>&1 || fail "a program does not find the soft driver"
kill "$daemon" && wait "$daemon"
daemon=

echo "# mine" >"$root/etc/hbmd/hbmd.conf"
make_target install
grep -qx "# mine" "$root/etc/hbmd/hbmd.conf" || fail "an edited configuration is gone"

files_left() {
	find "$root/usr" "$root/etc" "$root$prefix" ! -type d
	find "$root" -type d \( -name hbm -o -name hbmd \) -empty
}

make_target uninstall
[ "$(files_left)" = "$root/etc/hbmd/hbmd.conf" ] || fail "uninstall leaves other than the edited configuration: $(files_left)"
rm "$root/etc/hbmd/hbmd.conf"
make_target install
make_target uninstall
[ -z "$(files_left)" ] || fail "uninstall leaves $(files_left)"
echo "ok install"
