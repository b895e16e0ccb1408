/* SPDX-License-Identifier: Apache-2.0 */
/* Gather and scatter of the library, on a stream of the test: by kernels, and by copies where
 * kernels cannot be loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device/checksum.h"
#include "tests/support/client_rig.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#define FLAT (SLAB / 2)

static void move_pieces(struct client_rig *rig, size_t count, bool scatter)
{
	struct hbm_piece pieces[300];
	uint64_t at = FLAT + 1;

	for (size_t i = 0; i < count; i++) {
		const uint64_t place = i * 3000 + i % 32, bytes = i * 37 % 1000;

		pieces[i] = (struct hbm_piece){rig->memory + place, bytes};
		memcpy(rig->image + (scatter ? place : at), rig->image + (scatter ? at : place),
		       bytes);
		at += bytes;
	}

	assert_int_equal((scatter ? hbm_scatter : hbm_gather)(hbm, 0, pieces, count,
							      rig->memory + FLAT + 1, rig->stream),
			 0);
	client_rig_check(rig);
}

static void move_rows(struct client_rig *rig, struct hbm_rows rows, bool scatter)
{
	for (uint64_t i = 0; i < rows.count; i++) {
		unsigned char *row = rig->image + rows.address + i * rows.stride;
		unsigned char *flat = rig->image + FLAT + i * rows.row_bytes;

		memcpy(scatter ? row : flat, scatter ? flat : row, rows.row_bytes);
	}

	rows.address += rig->memory;
	assert_int_equal((scatter ? hbm_scatter_rows : hbm_gather_rows)(
				 hbm, 0, &rows, rig->memory + FLAT, rig->stream),
			 0);
	client_rig_check(rig);
}

static void move_all(struct client_rig *rig)
{
	static const struct hbm_rows rows[] = {
		{0, 8192, 4096, 100}, {5, 1001, 77, 300}, {64, 0, 16, 9},
		{0, 1, 0, 3},         {0, 9, 9, 0},
	};

	for (int scatter = 0; scatter < 2; scatter++) {
		move_pieces(rig, 300, scatter);
		move_pieces(rig, 1, scatter);
		move_pieces(rig, 0, scatter);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			if (!scatter || rows[i].stride >= rows[i].row_bytes)
				move_rows(rig, rows[i], scatter);
	}
}

static void test_kernels(void **state)
{
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	assert_int_equal(soft.calls("cuModuleLoadData"), 0);
	move_all(&rig);
	assert_int_equal(soft.calls("cuModuleLoadData"), 1);
	assert_int_equal(soft.calls("cuMemcpyDtoDAsync"), 0);
	assert_int_equal(soft.calls("cuMemcpy2DAsync"), 0);
	client_rig_close(&rig);
}

static void test_copies_take_their_place(void **state)
{
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	assert_int_equal(soft.fail_nth("cuModuleLoadData", 1, CUDA_ERROR_NO_BINARY_FOR_GPU), 0);
	move_all(&rig);
	assert_int_equal(soft.calls("cuModuleLoadData"), 1);
	assert_int_equal(soft.calls("cuLaunchKernel"), 0);
	assert_in_range(soft.calls("cuMemcpyDtoDAsync"), 1, 1000);
	assert_in_range(soft.calls("cuMemcpy2DAsync"), 1, 100);
	client_rig_close(&rig);
}

/* More pieces than launches take, exactly as many, one and none, where another sum was. */
static void test_checksum(void **state)
{
	static const size_t counts[] = {300, 2 * CHECKSUM_PIECES, CHECKSUM_PIECES, 1, 0};
	struct hbm_piece pieces[300];
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	for (size_t i = 0; i < 300; i++)
		pieces[i] = (struct hbm_piece){rig.memory + i * 3008, i * 32 % 1008};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint64_t sum = 0, at = 0;

		for (size_t k = 0; k < counts[i]; k++) {
			sum += checksum_of(rig.image + k * 3008, pieces[k].bytes, at);
			at += pieces[k].bytes;
		}

		memcpy(rig.image + FLAT + 8, &sum, sizeof(sum));
		assert_int_equal(
			hbm_checksum(hbm, 0, pieces, counts[i], rig.memory + FLAT + 8, rig.stream),
			0);
		client_rig_check(&rig);
	}

	pieces[0].bytes = 8;
	assert_int_equal(hbm_checksum(hbm, 0, pieces, 1, rig.memory, rig.stream), HBM_INVALID);
	assert_int_equal(hbm_checksum(hbm, 0, pieces + 1, 1, rig.memory + 4, rig.stream),
			 HBM_INVALID);
	client_rig_close(&rig);
}

static void test_checksum_without_kernels(void **state)
{
	const struct hbm_piece piece = {0};
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	assert_int_equal(soft.fail_nth("cuModuleLoadData", 1, CUDA_ERROR_NO_BINARY_FOR_GPU), 0);
	assert_int_equal(hbm_checksum(hbm, 0, &piece, 1, rig.memory, rig.stream), HBM_UNSUPPORTED);
	client_rig_check(&rig);
	client_rig_close(&rig);
}

static void test_failures(void **state)
{
	static const char *const names[] = {"cuLaunchKernel", "cuCtxGetCurrent", "cuCtxSetCurrent"};
	struct client_rig rig;

	(void)state;
	client_rig_open(&rig);
	move_pieces(&rig, 1, false);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct hbm_piece piece = {rig.memory, 16};

		assert_int_equal(soft.fail_nth(names[i], 1, CUDA_ERROR_UNKNOWN), 0);
		assert_int_equal(hbm_gather(hbm, 0, &piece, 1, rig.memory + FLAT, rig.stream),
				 HBM_DEVICE);
		assert_non_null(strstr(hbm_error(hbm), names[i]));
	}

	client_rig_check(&rig);
	client_rig_close(&rig);
}

static void test_nonsense(void **state)
{
	static const struct hbm_piece far[] = {{16, UINT64_MAX}, {16, 16}};
	static const struct hbm_rows rows[] = {{0, 16, UINT64_MAX / 2, 3},
					       {0, UINT64_MAX / 2, 16, 9},
					       {UINT64_MAX - 9, 16, 16, 1}};

	(void)state;
	assert_int_equal(hbm_gather(hbm, 0, far, 1, 0, NULL), HBM_INVALID);
	assert_int_equal(hbm_scatter(hbm, 0, far + 1, 1, UINT64_MAX - 1, NULL), HBM_INVALID);
	assert_int_equal(hbm_gather(hbm, FAKE_DEVICES, far + 1, 1, 0, NULL), HBM_INVALID);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(hbm_gather_rows(hbm, 0, &rows[i], 0, NULL), HBM_INVALID);
	assert_int_equal(
		hbm_scatter_rows(hbm, 0, &(struct hbm_rows){0, 16, 16, 1}, UINT64_MAX, NULL),
		HBM_INVALID);
	assert_int_equal(soft.calls("cuModuleLoadData"), 0);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_kernels),  TEST(test_copies_take_their_place),
		TEST(test_checksum), TEST(test_checksum_without_kernels),
		TEST(test_failures), TEST(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
