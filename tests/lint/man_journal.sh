#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The table of messages in hbmd(8) has each MESSAGE_ID of daemon/base/log_event.h, and each event is one that is logged,
# with the fields that the table names.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

sed -n 's/^.*X([A-Z_]*, "\([0-9a-f]*\)").*/\1/p' daemon/base/log_event.h | sort >"$work/code"
sed -n 's/^\.It Li \([0-9a-f]\{32\}\) Ta .*/\1/p' man/hbmd.8 | sort >"$work/page"
if [ ! -s "$work/code" ] || ! diff "$work/code" "$work/page" >"$work/diff"; then
	echo "man/hbmd.8 (>) has other MESSAGE_IDs than daemon/base/log_event.h (<):"
	cat "$work/diff"
	status=1
fi
sort -u "$work/code" | cmp -s - "$work/code" || { echo "daemon/base/log_event.h: a MESSAGE_ID is there twice"; status=1; }

for name in $(sed -n 's/^.*X(\([A-Z_]*\), "[0-9a-f]*").*/\1/p' daemon/base/log_event.h); do
	grep -rq "LOG_EVENT_$name\b" daemon --include='*.c' || { echo "LOG_EVENT_$name is never logged"; status=1; }
done
for field in $(grep -ohr 'HBMD_[A-Z]*=' daemon --include='*.c' | tr -d = | sort -u); do
	grep -q "^\.It Li [0-9a-f]* Ta .*\b$field\b" man/hbmd.8 || { echo "man/hbmd.8 does not name the field $field"; status=1; }
done

[ "$status" -eq 0 ] && echo "ok man_journal"
exit "$status"
