#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nobody waits by the time of day, which is set, and jumps: only the log asks for it.
set -u
status=0

while IFS=: read -r file line text; do
	case $file in daemon/base/log.c) continue ;; esac
	echo "$file:$line: waits and durations are of CLOCK_MONOTONIC: ${text#"${text%%[![:space:]]*}"}"
	status=1
done < <(grep -rnE 'CLOCK_REALTIME|\b(time|gettimeofday|sem_timedwait|pthread_mutex_timedlock)\(' daemon client kernels \
	--include='*.[ch]')

# A condition variable waits by CLOCK_REALTIME unless it is told otherwise.
while read -r file; do
	grep -q 'pthread_condattr_setclock' "$file" || {
		echo "$file: pthread_cond_timedwait() without pthread_condattr_setclock(CLOCK_MONOTONIC)"
		status=1
	}
done < <(grep -rlE 'pthread_cond_timedwait\(' daemon client kernels --include='*.c')

[ "$status" -eq 0 ] && echo "ok clocks"
exit "$status"
