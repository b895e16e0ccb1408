#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The Python package builds, as a wheel and for Debian, and its tests pass; where there are no headers of Python it passes and says so.
set -u
build=$(cd "${BUILD:-build}" && pwd)

if ! why=$(BUILD=$build client/python/build --check 2>&1); then
	echo "ok python: skipped: $why"
	exit 0
fi
BUILD=$build client/python/build >/dev/null || exit 1

python=${PYTHON:-$([ -x /usr/bin/python3 ] && echo /usr/bin/python3 || echo python3)}
export HBM_BUILD=$build PYTHONPATH=$build/python/lib PYTHONDONTWRITEBYTECODE=1
said=$(cd client/python/tests && timeout -k 5 120 "$python" -X dev -W error -m unittest -q "$@" 2>&1) || {
	echo "$said"
	exit 1
}

# What the Debian package would install is the same package.
if command -v dpkg-deb >/dev/null; then
	deb=$(BUILD=$build client/python/deb) || exit 1
	rm -rf "$build/python/installed"
	dpkg-deb -x "$deb" "$build/python/installed"
	diff -r "$build/python/lib" "$build/python/installed/usr/lib/python3/dist-packages" || exit 1
	rm -rf "$build/python/installed"
fi
echo "ok python: $(grep -o '^Ran [0-9]* tests' <<<"$said")"
