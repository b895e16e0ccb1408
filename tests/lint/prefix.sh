#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Static functions carry their module's name, or that of a struct or enum of their own file, so that a stack trace or a
# profile says where it is. The driver's entry points have names of their own.
set -u
status=0

while read -r file; do
	module=$(basename "$file" .c)
	case $file in
	daemon/service/main.c) nouns=hbmd ;;
	client/ctl/main.c) nouns=hbmctl ;;
	*) nouns="$module|${module#loop_}" ;;
	esac
	own=$(sed -nE 's/^(struct|enum) ([a-z_]{4,}) \{.*/\2/p' "$file" | paste -sd'|')
	wrong=$(grep -nE '^(__attribute__.*\) )?static [^=;]*\(' "$file" | grep -vE '^[0-9]+:static (const )?(struct [a-z_]+ )?[a-z_]+(\[.*)? = ' |
		sed -nE 's/^([0-9]+):.*[ *]([a-z_A-Z0-9]+)\(.*/\1 \2/p' |
		grep -vE "^[0-9]+ (($nouns${own:+|$own})(_|\$)|cu[A-Z])")
	[ -z "$wrong" ] || {
		echo "$wrong" | while read -r line name; do
			echo "$file:$line: $name() does not begin with its module's name"
		done
		status=1
	}
done < <(find daemon client kernels -name '*.c' | sort)

[ "$status" -eq 0 ] && echo "ok prefix"
exit "$status"
