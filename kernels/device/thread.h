/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread: what a kernel's source sees of the machine. A .cu file is compiled twice: by
 * clang to PTX, and as C for the soft driver, which calls the kernel's body once for each
 * thread of the grid, one after the other (soft/grid.h). So kernels have no barriers, use
 * no shared memory, and reach memory only through the load and store functions below: on a
 * device they are one instruction, on the soft driver they check that the memory is mapped.
 *
 * No header of a CUDA toolkit is needed: what it would declare is said here.
 */
#pragma once

#include <stdint.h>

typedef uint64_t u64x2 __attribute__((vector_size(16))); /* as much as one access can move */

#ifdef __CUDA__

#define DEVICE __attribute__((device, always_inline)) inline
#define MEMORY __attribute__((address_space(1)))

/* Defines the entry `kernel`, with `const struct kernel_job *job` in its body. */
#define KERNEL(kernel)                                                                             \
	static DEVICE void kernel##_thread(const struct kernel##_job *job);                        \
	extern "C" __attribute__((global)) void kernel(const struct kernel##_job given)            \
	{                                                                                          \
		kernel##_thread(&given);                                                           \
	}                                                                                          \
	static DEVICE void kernel##_thread(const struct kernel##_job *job)

/* The thread's place in its row of the grid, the threads of a row; the row, the rows. */
static DEVICE uint64_t thread_at(void)
{
	return (uint64_t)__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() +
	       __nvvm_read_ptx_sreg_tid_x();
}

static DEVICE uint64_t thread_count(void)
{
	return (uint64_t)__nvvm_read_ptx_sreg_nctaid_x() * __nvvm_read_ptx_sreg_ntid_x();
}

static DEVICE uint64_t thread_row(void)
{
	return __nvvm_read_ptx_sreg_ctaid_y();
}

static DEVICE uint64_t thread_rows(void)
{
	return __nvvm_read_ptx_sreg_nctaid_y();
}

static DEVICE void MEMORY *thread_memory(uint64_t address, uint64_t bytes, int writes)
{
	(void)bytes;
	(void)writes;
	return (void MEMORY *)address;
}

/* Adds to a word what the threads of a warp have, of whom all call this, for one word. */
static DEVICE __attribute__((unused)) void add_u64(uint64_t address, uint64_t value)
{
	for (uint32_t apart = 16; apart != 0; apart /= 2) {
		const uint32_t low = __nvvm_shfl_sync_down_i32(-1, (uint32_t)value, apart, 31);
		const uint32_t high =
			__nvvm_shfl_sync_down_i32(-1, (uint32_t)(value >> 32), apart, 31);

		value += (uint64_t)high << 32 | low;
	}

	if (__nvvm_read_ptx_sreg_tid_x() % 32 == 0)
		__atomic_fetch_add((uint64_t MEMORY *)address, value, __ATOMIC_RELAXED);
}

/* Makes a word the larger of itself and the value. */
static DEVICE __attribute__((unused)) void max_u32(uint64_t address, uint32_t value)
{
	if (*(volatile uint32_t MEMORY *)address < value)
		__nvvm_atom_max_gen_ui((uint32_t *)address, value);
}

#else /* for the soft driver: its build includes kernels/soft/grid.h first */

#define DEVICE inline
#define MEMORY

#define KERNEL(kernel)                                                                             \
	static void kernel##_thread(const struct kernel##_job *job);                               \
	static void kernel##_body(const void *job)                                                 \
	{                                                                                          \
		kernel##_thread(job);                                                              \
	}                                                                                          \
	static CUresult kernel##_run(struct hbm_soft_launch *launch, void *const *params)          \
	{                                                                                          \
		return grid_run(launch, kernel##_body, params[0]);                                 \
	}                                                                                          \
	const struct hbm_soft_kernel kernel##_on_soft = {                                          \
		#kernel, (const uint32_t[]){sizeof(struct kernel##_job)}, 1, kernel##_run};        \
	static void kernel##_thread(const struct kernel##_job *job)

#define thread_at() grid_thread.at
#define thread_count() grid_thread.count
#define thread_row() grid_thread.row
#define thread_rows() grid_thread.rows
#define thread_memory(address, bytes, writes) grid_memory(address, bytes, writes)

static inline __attribute__((unused)) void add_u64(uint64_t address, uint64_t value)
{
	*(uint64_t *)grid_memory(address, 8, 1) += value;
}

static inline __attribute__((unused)) void max_u32(uint64_t address, uint32_t value)
{
	uint32_t *word = grid_memory(address, 4, 1);

	if (*word < value)
		*word = value;
}

#endif

/* An address is a multiple of what is accessed. */
#define THREAD_ACCESS(name, type)                                                                  \
	static DEVICE __attribute__((unused)) type load_##name(uint64_t address)                   \
	{                                                                                          \
		return *(const type MEMORY *)thread_memory(address, sizeof(type), 0);              \
	}                                                                                          \
	static DEVICE __attribute__((unused)) void store_##name(uint64_t address, type value)      \
	{                                                                                          \
		*(type MEMORY *)thread_memory(address, sizeof(type), 1) = value;                   \
	}

THREAD_ACCESS(u8, uint8_t)
THREAD_ACCESS(u16, uint16_t)
THREAD_ACCESS(u32, uint32_t)
THREAD_ACCESS(u64, uint64_t)
THREAD_ACCESS(f32, float)
THREAD_ACCESS(u64x2, u64x2)
