/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that synchronise a stream with other threads and processes: writing a 64-bit
 * value, waiting for one, and calling a host function. A value is in device memory or in
 * host memory registered with CU_MEMHOSTREGISTER_DEVICEMAP. Any process may write it, so
 * a wait polls, at growing intervals of up to 200 µs.
 */
#include "kernels/soft/host.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/park.h"
#include "kernels/soft/reservation.h"
#include "kernels/soft/stream.h"

#define POLL_FIRST_NS 20000u /* spun */
#define POLL_LONGEST_NS 200000u

/* op->bytes says what is held: 0, host memory, else so many bytes of device memory. */
static uint64_t *value_at(const struct op *op)
{
	return op->bytes == 0 ? (uint64_t *)(uintptr_t)host_of_alias(op->target)
			      : reservation_place(op->target);
}

static CUresult value_hold(struct op *op, struct device *device, bool write)
{
	if (op->target % sizeof(uint64_t) != 0)
		return CUDA_ERROR_MISALIGNED_ADDRESS;
	if (host_is_alias(op->target))
		return host_hold_alias(op->target, sizeof(uint64_t), device, write);
	op->bytes = sizeof(uint64_t);
	return mapping_hold_range(op->target, op->bytes, device,
				  write ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
					: CU_MEM_ACCESS_FLAGS_PROT_READ);
}

static void value_drop(struct op *op)
{
	if (op->bytes == 0)
		host_drop(host_of_alias(op->target));
	else
		mapping_drop_range(op->target, op->bytes);
}

static CUresult value_write_hold(struct op *op, struct device *device)
{
	return value_hold(op, device, true);
}

static void value_write_run(struct op *op, struct stream *stream)
{
	(void)stream;
	__atomic_store_n(value_at(op), op->value, __ATOMIC_SEQ_CST);
}

CUresult cuStreamWriteValue64(CUstream stream, CUdeviceptr address, uint64_t value,
			      unsigned int flags)
{
	static const struct op_kind kind = {value_write_hold, value_write_run, value_drop};
	struct op op = {.kind = &kind, .target = address, .value = value};

	CALL_ENTER(cuStreamWriteValue64);
	if (flags > CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER)
		return CUDA_ERROR_INVALID_VALUE;

	return stream_submit(stream, &op);
}

static bool value_wait_is_over(const struct op *op)
{
	uint64_t value = __atomic_load_n(value_at(op), __ATOMIC_SEQ_CST);

	switch (op->flags) {
	case CU_STREAM_WAIT_VALUE_EQ:
		return value == op->value;
	case CU_STREAM_WAIT_VALUE_AND:
		return (value & op->value) != 0;
	case CU_STREAM_WAIT_VALUE_NOR:
		return ~(value | op->value) != 0;
	default:
		return (int64_t)(value - op->value) >= 0;
	}
}

static CUresult value_wait_hold(struct op *op, struct device *device)
{
	return value_hold(op, device, false);
}

static void value_wait_run(struct op *op, struct stream *stream)
{
	uint64_t now = clock_now(), spin_until = now + POLL_FIRST_NS, pause = POLL_FIRST_NS;

	while (!value_wait_is_over(op) && !stream_is_aborted(stream)) {
		if (now < spin_until) {
			clock_relax();
			now = clock_now();
			continue;
		}

		clock_wait_until(clock_now() + pause);
		pause = pause * 2 > POLL_LONGEST_NS ? POLL_LONGEST_NS : pause * 2;
	}
}

CUresult cuStreamWaitValue64(CUstream stream, CUdeviceptr address, uint64_t value,
			     unsigned int flags)
{
	static const struct op_kind kind = {value_wait_hold, value_wait_run, value_drop};
	struct op op = {.kind = &kind, .target = address, .value = value, .flags = flags};

	CALL_ENTER(cuStreamWaitValue64);
	if (flags > CU_STREAM_WAIT_VALUE_NOR)
		/* CU_STREAM_WAIT_VALUE_FLUSH: the device says it cannot */
		return CUDA_ERROR_NOT_SUPPORTED;

	return stream_submit(stream, &op);
}

static void value_function_run(struct op *op, struct stream *stream)
{
	(void)stream;
	call_forbid(true);
	op->function(op->object);
	call_forbid(false);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *argument)
{
	static const struct op_kind kind = {NULL, value_function_run, NULL};
	struct op op = {.kind = &kind, .function = function, .object = argument};

	CALL_ENTER(cuLaunchHostFunc);
	if (function == NULL)
		return CUDA_ERROR_INVALID_VALUE;

	return stream_submit(stream, &op);
}
