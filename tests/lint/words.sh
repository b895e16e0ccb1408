#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every file says its licence; every header opens with what it is; nothing is left for later.
set -u
status=0

fail() {
	echo "$1"
	status=1
}

sources() { # of the given name patterns
	find client daemon include kernels tests "$@" | sort
}

for file in $(sources -name '*.[ch]' -o -name '*.cu'); do
	[ "$(head -n 1 "$file")" = "/* SPDX-License-Identifier: Apache-2.0 */" ] ||
		fail "$file: the first line is not the licence"
done
for file in $(sources -name '*.sh') tests/run tests/deps tests/fuzz/run .ci/run systemd/*; do
	head -n 3 "$file" | grep -q '^# SPDX-License-Identifier: Apache-2.0$' || fail "$file: no licence in the head"
done
for file in man/*.[1-8]; do
	head -n 1 "$file" | grep -q '^\.\\" SPDX-License-Identifier: Apache-2.0$' ||
		fail "$file: the first line is not the licence"
done

for file in $(sources -name '*.h'); do
	sed -n 2p "$file" | grep -q '^/\*' || fail "$file: does not open with what it is"
done

later='TO''DO|FIX''ME|X''XX'
found=$(grep -nwE "$later" $(sources -type f) man/* systemd/* Makefile CONTRIBUTING.md) && fail "$found"
found=$(grep -nE '^#[[:space:]]*if[[:space:]]+0' $(sources -name '*.[ch]')) && fail "$found"

[ "$status" -eq 0 ] && echo "ok words"
exit "$status"
