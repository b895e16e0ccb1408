#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# systemd has nothing to say about the units (it only warns of an unknown key: any output is a failure), and rates what
# the service may do as low; and the sysusers and tmpfiles lines do in an empty root folder what they should.
set -u
threshold=10
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
backlog=$(sed -n 's/^#define LISTENER_BACKLOG //p' daemon/serve/listener.c)
if ! grep -qx "Backlog=$backlog" systemd/hbmd.socket; then
	echo "systemd/hbmd.socket: Backlog= is not the $backlog of daemon/serve/listener.c"
	exit 1
fi
is_same() { # key of the unit, file, what it defines: the same number
	number=$(sed -n "s/^#define $3 \([0-9]*\).*/\1/p" "$2")
	grep -qx "$1=$number" systemd/hbmd.service && return
	echo "systemd/hbmd.service: $1= is not the $number of $3 in $2"
	exit 1
}
is_same FileDescriptorStoreMax daemon/service/keeper_store.h KEEPER_STORE_MAX
is_same Environment=FDSTORE daemon/service/keeper_store.h KEEPER_STORE_MAX
is_same StartLimitBurst daemon/service/keeper.c KEEPER_STARTS
is_same WatchdogSec daemon/service/keeper.c KEEPER_WATCHDOG_S

cp systemd/hbmd.service systemd/hbmd.socket "$work"
# What is installed is not here yet; that it must exist is not what is asked.
sed -i 's|^ExecStart=/[^ ]*|ExecStart=/bin/true|' "$work/hbmd.service"

systemd-analyze verify --man=no "$work/hbmd.service" "$work/hbmd.socket" >"$work/said" 2>&1
if [ $? -ne 0 ] || [ -s "$work/said" ]; then
	echo "systemd-analyze verify:"
	cat "$work/said"
	exit 1
fi
if ! systemd-analyze security --no-pager --offline=true --threshold="$threshold" "$work/hbmd.service" >"$work/said" 2>&1; then
	echo "systemd-analyze security: above $threshold tenths:"
	grep -v '^✓' "$work/said"
	exit 1
fi

mkdir -p "$work/root/etc"
if ! systemd-sysusers --root="$work/root" "$PWD/systemd/hbmd.sysusers" >"$work/said" 2>&1 ||
	! grep -q '^hbmd:' "$work/root/etc/passwd" || ! grep -q '^hbm:.*hbmd' "$work/root/etc/group"; then
	echo "systemd-sysusers:"
	cat "$work/said"
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "ok units: but for the tmpfiles lines: only root can give folders away"
	exit 0
fi
if ! systemd-tmpfiles --root="$work/root" --create "$PWD/systemd/hbmd.tmpfiles" >"$work/said" 2>&1 || [ -s "$work/said" ]; then
	echo "systemd-tmpfiles:"
	cat "$work/said"
	exit 1
fi
echo "ok units"
