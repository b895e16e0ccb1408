/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting: a bounded spin, a futex, and an absolute sleep that ends in a spin, because
 * timers wake late. */
#include "kernels/soft/park.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 20000u
#define SLEEP_LATENESS_NS 10000u /* a sleep ends this much early; the rest is spent spinning */

static bool park_spinning_pays(void)
{
	static _Atomic int processors;
	int known = atomic_load_explicit(&processors, memory_order_relaxed);
	cpu_set_t set;

	if (known == 0) {
		known = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 2;
		atomic_store_explicit(&processors, known, memory_order_relaxed);
	}

	return known > 2; /* with two, another thread of ours has work for this one */
}

void clock_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

bool park_spin(_Atomic uint32_t *word, uint32_t seen)
{
	uint64_t end;

	if (atomic_load(word) != seen)
		return true;
	if (!park_spinning_pays())
		return false;

	end = clock_now() + SPIN_NS;
	do {
		for (int i = 0; i < 16; i++) {
			if (atomic_load(word) != seen)
				return true;
			clock_relax();
		}
	} while (clock_now() < end);

	return false;
}

void park_sleep(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_ns)
{
	struct timespec timeout = {(time_t)(timeout_ns / 1000000000u),
				   (long)(timeout_ns % 1000000000u)};

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, timeout_ns != 0 ? &timeout : NULL, NULL,
		0);
}

void park_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

uint64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void clock_wait_until(uint64_t ns)
{
	uint64_t now = clock_now();

	while (now < ns) {
		if (ns - now > 2 * SLEEP_LATENESS_NS) {
			uint64_t wake = ns - SLEEP_LATENESS_NS;
			struct timespec at = {(time_t)(wake / 1000000000u),
					      (long)(wake % 1000000000u)};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		} else {
			clock_relax();
		}
		now = clock_now();
	}
}

void clock_spin_until(uint64_t ns)
{
	while (clock_now() < ns)
		clock_relax();
}
