#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every source is as clang-format leaves it. Without clang-format this passes and says so.
set -u
if ! command -v clang-format >/dev/null; then
	echo "ok format: skipped, there is no clang-format here"
	exit 0
fi
wrong=$(find client daemon examples include kernels tests \( -name '*.c' -o -name '*.h' -o -name '*.cu' \) -print |
	xargs -n 100 clang-format --dry-run -Werror 2>&1 | sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: error:.*/\1/p' | sort -u)
if [ -n "$wrong" ]; then
	echo "$wrong" | sed 's/$/: not formatted: clang-format -i it/'
	exit 1
fi
echo "ok format"
