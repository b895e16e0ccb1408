/* SPDX-License-Identifier: Apache-2.0 */
/* Device code, gather and scatter: every alignment and small size, many pieces, rows, and
 * what is around them. */
#include "kernels/device/gather.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/device_rig.h"

#define FLAT (DEVICE_RIG_BYTES / 2) /* pieces below it, the flat range above */

/* The same with plain C, on the image; addresses are those of the device. */
static void move_piece(struct device_rig *rig, uint64_t flat, const struct gather_piece *piece,
		       bool scatter)
{
	unsigned char *at = rig->image + (piece->address - rig->memory);
	unsigned char *line = rig->image + (flat - rig->memory) + piece->at;

	memcpy(scatter ? at : line, scatter ? line : at, piece->bytes);
}

static void move_pieces(struct device_rig *rig, uint64_t flat, const struct gather_piece *pieces,
			size_t count, bool scatter)
{
	for (size_t i = 0; i < count; i++)
		move_piece(rig, flat, &pieces[i], scatter);

	assert_int_equal(gather_pieces_launch(&rig->kernels, rig->driver, rig->stream, flat, pieces,
					      count, scatter),
			 CUDA_SUCCESS);
	device_rig_check(rig);
}

/* Pieces of all sizes from 0 up, so that together they begin at every alignment, each 256
 * bytes after the one before and `odd` bytes further. */
static size_t make_pieces(struct device_rig *rig, struct gather_piece *pieces, size_t count,
			  uint64_t odd)
{
	uint64_t at = 0;

	for (size_t i = 0; i < count; i++) {
		pieces[i] = (struct gather_piece){rig->memory + 256 * i + odd, i % 200, at};
		at += pieces[i].bytes;
	}

	return count;
}

static void test_every_alignment(void **state)
{
	struct gather_piece pieces[200];
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (uint64_t odd = 0; odd < 16; odd++) {
		const size_t count = make_pieces(&rig, pieces, 200, odd);

		move_pieces(&rig, rig.memory + FLAT, pieces, count, odd % 2 != 0);
		move_pieces(&rig, rig.memory + FLAT + 100 + odd, pieces, count, odd % 2 == 0);
	}

	device_rig_close(&rig);
}

/* More pieces than one launch takes, and sizes beyond the threads of a row. */
static void test_many_and_large(void **state)
{
	static struct gather_piece pieces[2 * GATHER_PIECES + 1];
	struct device_rig rig;
	uint64_t at = 0;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < 2 * GATHER_PIECES + 1; i++) {
		const uint64_t bytes = seed_below(&rig.seed, 3900);

		pieces[i] = (struct gather_piece){rig.memory + 4000 * i + seed_below(&rig.seed, 80),
						  bytes, at};
		at += bytes;
	}

	move_pieces(&rig, rig.memory + FLAT, pieces, GATHER_PIECES, false);
	move_pieces(&rig, rig.memory + FLAT, pieces, GATHER_PIECES, true);
	move_pieces(&rig, rig.memory + FLAT, pieces, 2 * GATHER_PIECES + 1, false);

	pieces[0] = (struct gather_piece){rig.memory + 16, FLAT - 64 + 5, 0};
	move_pieces(&rig, rig.memory + FLAT, pieces, 1, false);
	move_pieces(&rig, rig.memory + FLAT + 3, pieces, 1, true);
	device_rig_close(&rig);
}

static void test_rows(void **state)
{
	static const struct {
		uint64_t odd, stride, row_bytes, count;
	} cases[] = {{0, 8192, 4096, 64}, {0, 8200, 4096, 64}, {4, 1000, 36, 1000},
		     {1, 1001, 37, 1000}, {5, 7, 7, 5000},     {0, 0, 15, 65600},
		     {3, 0x10000, 1, 15}, {0, 64, 32, 0},      {0, 64, 0, 9}};
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		const uint64_t stride = cases[i / 2].stride, row_bytes = cases[i / 2].row_bytes,
			       count = cases[i / 2].count;
		const struct gather_rows_job job = {
			.flat = rig.memory + FLAT,
			.base = rig.memory + cases[i / 2].odd,
			.stride = stride,
			.row_bytes = row_bytes,
			.count = count,
			.scatter = i % 2 != 0 && stride != 0,
		};

		for (uint64_t row = 0; row < count; row++)
			move_piece(&rig, job.flat,
				   &(struct gather_piece){job.base + row * stride, row_bytes,
							  row * row_bytes},
				   job.scatter);
		assert_int_equal(gather_rows_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_SUCCESS);
		device_rig_check(&rig);
	}

	device_rig_close(&rig);
}

/* Of two planes, heads of three tokens: any of them, in any order, and one that does not
 * exist. */
static void test_compact(void **state)
{
	static const uint64_t row_bytes[] = {256, 100, 7};
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t i = 0; i < sizeof(row_bytes) / sizeof(row_bytes[0]); i++) {
		const struct compact_rows_job job = {
			.indices = rig.memory,
			.planes = 2,
			.plane = {{rig.memory + FLAT + 64 + i, rig.memory + 4096 + i},
				  {rig.memory + FLAT + 65536 + i, rig.memory + 262144 + i}},
			.outer = 3,
			.rows = 100,
			.kept = 41,
			.row_bytes = row_bytes[i],
		};
		uint32_t *indices = (uint32_t *)(void *)rig.image;

		for (size_t k = 0; k < job.kept; k++)
			indices[k] = (uint32_t)seed_below(&rig.seed, 100);
		indices[17] = 100;
		device_rig_put(&rig);

		for (size_t k = 0; k < 2 * job.outer * job.kept; k++) {
			const struct compact_plane *plane = &job.plane[k / (job.outer * job.kept)];
			const size_t row = k % (job.outer * job.kept);
			const uint64_t from = row / job.kept * 100 + indices[row % job.kept];

			if (indices[row % job.kept] < 100)
				memcpy(rig.image + plane->target - rig.memory + row * row_bytes[i],
				       rig.image + plane->source - rig.memory + from * row_bytes[i],
				       row_bytes[i]);
		}

		assert_int_equal(compact_rows_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_SUCCESS);
		device_rig_check(&rig);
	}

	device_rig_close(&rig);
}

/* A piece that is not mapped: the launch breaks the context as it would on a device, which
 * can only be given back. */
static void test_outside(void **state)
{
	struct soft_device soft;
	struct gather_piece piece = {.bytes = 64};
	struct kernels kernels = {0};
	CUdeviceptr memory;
	CUstream stream;

	(void)state;
	soft_open(&soft, NULL);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuCtxSetCurrent(soft.context), CUDA_SUCCESS);
	memory = soft_memory(soft.driver, 0, GRANULE);
	stream = soft_stream(soft.driver);

	piece.address = memory + GRANULE - 63;
	assert_int_equal(
		gather_pieces_launch(&kernels, soft.driver, stream, memory, &piece, 1, false),
		CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	soft_memory_free(soft.driver, memory, GRANULE);
	soft_close(&soft);
}

/* A module that is refused is not tried again, and nothing is launched. */
static void test_refused(void **state)
{
	const struct gather_rows_job job = {.row_bytes = 16, .count = 1};
	struct device_rig rig;

	device_rig_open(&rig, *state);
	assert_int_equal(rig.soft->call.fail_nth("cuModuleLoadData", 1, CUDA_ERROR_INVALID_PTX), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(gather_rows_launch(&rig.kernels, rig.driver, rig.stream, &job),
				 CUDA_ERROR_INVALID_PTX);
	assert_int_equal(rig.soft->call.calls("cuModuleLoadData"), 1);
	assert_int_equal(rig.soft->call.calls("cuLaunchKernel"), 0);
	device_rig_check(&rig);
	device_rig_close(&rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, soft_setup, soft_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_alignment), TEST(test_many_and_large),      TEST(test_rows),
		TEST(test_compact),         cmocka_unit_test(test_outside), TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
