#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every man page is without a warning of mandoc.
set -u
found=$(mandoc -T lint -W warning man/*.[1-8])
if [ -n "$found" ]; then
	echo "$found"
	exit 1
fi
echo "ok mandoc"
