#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hbmctl(1) names the commands, options and workload parameters that hbmctl has, hbmd(8) the options that hbmd has.
set -u
build=${BUILD:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

compare() { # page, the program's, the page's
	diff "$2" "$3" >"$work/diff" && return
	echo "$1 (>) differs from the program (<):"
	cat "$work/diff"
	status=1
}

commands=$("$build/hbmctl" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || { echo "hbmctl --help names no commands"; exit 1; }

# "command", "command --option": the shared options only once, as "--option".
"$build/hbmctl" --help | sed -n 's/^  \(--[a-z-]*\).*/\1/p' | sort >"$work/shared"
{
	cat "$work/shared"
	for command in $commands; do
		echo "$command"
		"$build/hbmctl" help "$command" | sed -n 's/^  \(--[a-z-]*\).*/\1/p' | sort | comm -23 - "$work/shared" |
			sed "s/^/$command /"
	done
} | sort >"$work/program"

# In the page a command is ".It Cm name" and an option of it ".It Fl -name"; options before any command are shared.
awk '/^\.Sh / { command = "" }
	/^\.It Cm / { command = $3; print command }
	/^\.It Fl -/ { option = substr($3, 2); print (command == "" ? "" : command " ") "--" option }' man/hbmctl.1 |
	sort >"$work/page"
compare man/hbmctl.1 "$work/program" "$work/page"

# The parameters of a workload: "name=default  meaning" and ".It Li name=default Ta meaning".
"$build/hbmctl" help replay | sed -n 's/^  \([a-z_]*=[0-9]*\)  */\1 /p' >"$work/program"
sed -n 's/^\.It Li \([a-z_]*=[0-9]*\) Ta /\1 /p' man/hbmctl.1 >"$work/page"
compare "man/hbmctl.1, workload," "$work/program" "$work/page"

"$build/hbmd" --help | sed -n 's/^ .*\(--[a-z-]*\).*/\1/p' | sort >"$work/program"
sed -n 's/^\.It \(Fl [a-z] , \)\{0,1\}Fl -\([a-z-]*\).*/--\2/p' man/hbmd.8 | sort >"$work/page"
compare man/hbmd.8 "$work/program" "$work/page"

[ "$status" -eq 0 ] && echo "ok man_commands"
exit "$status"
