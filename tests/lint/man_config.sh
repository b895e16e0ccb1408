#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hbmd.conf(5) and the installed hbmd.conf have the keys and defaults that hbmd itself has, and in its order.
set -u
build=${BUILD:-build}
page=man/hbmd.conf.5 installed=systemd/hbmd.conf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

compare() { # what, the daemon's, the other
	diff "$2" "$3" >"$work/diff" && return
	echo "$1 (>) differs from hbmd --help-config (<):"
	cat "$work/diff"
	status=1
}

"$build/hbmd" --help-config >"$work/reference" || exit 1
[ -s "$work/reference" ] || { echo "hbmd --help-config prints nothing"; exit 1; }

# section.key = default; a tenant's are commented out, because there is none
sed -e 's/^#\([[a-z]\)/\1/' "$work/reference" | awk '/^\[/ { section = substr($0, 2, length($0) - 2) }
	/^[a-z]/ { sub(/ *= */, " = "); sub(/ *$/, ""); print section "." $0 }' >"$work/keys"

# In the page a section is ".Ss [name]", a key ".It Cm key = Ar type", its default ".Pq Default: Li value", or "empty".
awk '/^\.Ss \[/ { section = substr($0, 6, length($0) - 6) }
	/^\.It Cm .* = Ar / { key = $3 }
	/^\.Pq Default: empty/ { print section "." key " =" }
	/^\.Pq Default: Li / { value = $4; print section "." key " = " value }' "$page" >"$work/page"
compare "$page" "$work/keys" "$work/page"

# The installed file is the reference with every key commented out but the driver, so that a host whose GPUs do not answer
# gets no soft ones; after a few lines of its own.
sed -e 's/^driver = .*/driver = cuda/; t' -e 's/^\([a-z]\)/#\1/' -e 's/ *$//' "$work/reference" >"$work/commented"
sed -n '/^\[/,$p' "$installed" >"$work/installed"
compare "$installed" "$work/commented" "$work/installed"
"$build/hbmd" --config "$installed" --set hbmd.driver=soft --check-config >/dev/null || status=1

[ "$status" -eq 0 ] && echo "ok man_config"
exit "$status"
