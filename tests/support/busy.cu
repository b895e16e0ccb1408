/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel of busy.h: writes one value over all of a device's memory that it was given,
 * again and again, until its time is over. Device code for clang without a CUDA toolkit:
 * what a toolkit's headers would declare is said here.
 */
#define GLOBAL __attribute__((global))

typedef unsigned long long u64;

/* Nanoseconds of the device's clock. */
static __attribute__((device)) u64 now(void)
{
	u64 time;
	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
	return time;
}

extern "C" GLOBAL void busy(volatile u64 *words, u64 count, u64 value, u64 nanoseconds)
{
	const u64 threads = (u64)__nvvm_read_ptx_sreg_nctaid_x() * __nvvm_read_ptx_sreg_ntid_x();
	const u64 thread = (u64)__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() +
			   __nvvm_read_ptx_sreg_tid_x();
	const u64 start = now();

	do {
		for (u64 i = thread; i < count; i += threads)
			words[i] = value;
	} while (now() - start < nanoseconds);
}
