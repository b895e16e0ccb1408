/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gather and scatter: see gather.h. The widest access that both sides' alignment allows is
 * chosen for each piece: 16 bytes where the addresses are equal modulo 16. What is left at
 * either end goes by bytes. No byte outside of a piece is written, or read.
 */
#include "kernels/device/jobs.h"
#include "kernels/device/thread.h"

/* Four loads are in flight before the first store: one thread alone has to hide the
 * memory's latency. */
static DEVICE void copy_u64x2(uint64_t target, uint64_t source, uint64_t units)
{
	const uint64_t step = thread_count() * 16;
	const uint64_t end = units * 16;
	uint64_t at = thread_at() * 16;

	for (; at < end && end - at > 3 * step; at += 4 * step) {
		const u64x2 first = load_u64x2(source + at);
		const u64x2 second = load_u64x2(source + at + step);
		const u64x2 third = load_u64x2(source + at + 2 * step);
		const u64x2 fourth = load_u64x2(source + at + 3 * step);

		store_u64x2(target + at, first);
		store_u64x2(target + at + step, second);
		store_u64x2(target + at + 2 * step, third);
		store_u64x2(target + at + 3 * step, fourth);
	}

	for (; at < end; at += step)
		store_u64x2(target + at, load_u64x2(source + at));
}

static DEVICE void copy_u32(uint64_t target, uint64_t source, uint64_t units)
{
	for (uint64_t i = thread_at(); i < units; i += thread_count())
		store_u32(target + i * 4, load_u32(source + i * 4));
}

static DEVICE void copy_u8(uint64_t target, uint64_t source, uint64_t bytes)
{
	for (uint64_t i = thread_at(); i < bytes; i += thread_count())
		store_u8(target + i, load_u8(source + i));
}

/* The threads of a row of the grid copy a piece together. */
static DEVICE void copy(uint64_t target, uint64_t source, uint64_t bytes)
{
	const uint64_t apart = target ^ source;
	const uint64_t unit = (apart & 15) == 0 ? 16 : (apart & 3) == 0 ? 4 : 1;
	uint64_t head = -target & (unit - 1), body;

	if (head > bytes)
		head = bytes;
	body = (bytes - head) & ~(unit - 1);

	if (unit == 16)
		copy_u64x2(target + head, source + head, body / 16);
	else if (unit == 4)
		copy_u32(target + head, source + head, body / 4);
	else
		copy_u8(target, source, body);

	if (unit == 1)
		return;

	copy_u8(target, source, head);
	copy_u8(target + head + body, source + head + body, bytes - head - body);
}

KERNEL(gather_pieces)
{
	for (uint64_t i = thread_row(); i < job->count; i += thread_rows()) {
		const uint64_t address = job->pieces[i].address;
		const uint64_t flat = job->flat + job->pieces[i].at;
		const uint64_t target = job->scatter ? address : flat;

		copy(target, job->scatter ? flat : address, job->pieces[i].bytes);
	}
}

KERNEL(gather_rows)
{
	for (uint64_t i = thread_row(); i < job->count; i += thread_rows()) {
		const uint64_t address = job->base + i * job->stride;
		const uint64_t flat = job->flat + i * job->row_bytes;
		const uint64_t target = job->scatter ? address : flat;

		copy(target, job->scatter ? flat : address, job->row_bytes);
	}
}

KERNEL(compact_rows)
{
	const uint64_t rows = job->outer * job->kept;

	for (uint64_t i = thread_row(); i < job->planes * rows; i += thread_rows()) {
		const uint64_t plane = i / rows, row = i % rows, table = row / job->kept;
		const uint64_t index = load_u32(job->indices + row % job->kept * 4);

		if (index < job->rows)
			copy(job->plane[plane].target + row * job->row_bytes,
			     job->plane[plane].source +
				     (table * job->rows + index) * job->row_bytes,
			     job->row_bytes);
	}
}
