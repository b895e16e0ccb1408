#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Completes a folder of programs to a pack that runs on another machine: the shared libraries that any of them needs go
# into lib/, where their rpath looks. The C library and the loader are not taken: a newer one serves programs that were
# linked with an older one, and the driver's own library must get on with the machine's.
#	pack.sh FOLDER MAX_MIB
set -eu
folder=$(cd "$1" && pwd)
max=$2
mkdir -p "$folder/lib"

needed() { # the shared libraries of all programs, by path
	find "$folder" -type f -perm -100 ! -name '*.sh' -exec ldd {} + 2>/dev/null |
		while read -r name arrow path _; do
			[ "$arrow" = "=>" ] || continue
			case $name in
			libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
			*) echo "$path" ;;
			esac
		done | sort -u
}

for library in $(needed); do
	case $library in
	"$folder"/*) ;;
	not) echo "pack: a program lacks a library" >&2 && exit 1 ;;
	*) cp -L "$library" "$folder/lib/" ;;
	esac
done
# What only a debugger reads is three quarters of the programs.
find "$folder" -path "$folder/lib" -prune -o -type f -perm -100 ! -name '*.sh' -exec strip --strip-debug {} +
size=$(du -sm "$folder" | cut -f 1)
if [ "$size" -ge "$max" ]; then
	echo "pack: $folder is $size MiB; it should be less than $max" >&2
	exit 1
fi
echo "$folder: $size MiB; copy it to a machine with a device and start run.sh there"
