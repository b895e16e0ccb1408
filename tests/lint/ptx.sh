#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Device code runs on every driver and device that hbmd runs on: its PTX asks for no more than version 6.0 and sm_70, and
# where NVIDIA's assembler is installed it makes machine code of it for the architectures that every toolkit since 11.8
# knows, without a stack frame. Without the assembler this looks at the text alone, and says so.
set -u
build=${BUILD:-build}
ptxas=$(PATH=$PATH:/usr/local/cuda/bin type -P ptxas)
status=0

fail() {
	echo "$1"
	status=1
}

while read -r source; do
	ptx=$build/obj/${source%.cu}.ptx
	env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory "$ptx" BUILD="$build" >/dev/null || fail "$source: no PTX"
	grep -qx '\.version 6\.0' "$ptx" && grep -qx '\.target sm_70' "$ptx" || fail "$source: not .version 6.0, .target sm_70"
	for target in ${ptxas:+75 80 86 89 90}; do
		said=$("$ptxas" -v -arch="sm_$target" "$ptx" -o /dev/null 2>&1) ||
			fail "$source: ptxas refuses it for sm_$target: $said"
		! grep -q '[1-9] bytes spill\|[1-9]0* bytes stack' <<<"$said" || fail "$source: registers spill on sm_$target"
	done
done < <(find kernels tests -name '*.cu')
[ $status -eq 0 ] && echo "ok ptx$([ -n "$ptxas" ] || echo ": not assembled, there is no ptxas here")"
exit $status
