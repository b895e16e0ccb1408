/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which calls of the driver the pieces of copies become, and what went which way; the bytes
 * of each way; what a batch that fails costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/device/copy_issue.h"
#include "daemon/device/device.h"
#include "tests/support/soft_pool.h"

enum { SPANS = 40, BYTES = 3000, ROWS = 10 };
#define CHUNK (2 * MIB) /* of host memory registered at once */
#define FLAT (4 * MIB)  /* in device memory: where the flat range is */

struct setting {
	struct soft_pool pool;
	struct driver driver; /* without what a test takes from it */
	struct device device; /* of that driver */
	struct device_memory memory;
	char *host;
	CUstream stream;
	struct copy_issue issue;
	struct span spans[SPANS];
	struct copy copy;
};

static int setup(void **state)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	pool_open(&setting->pool, 8 * MIB);
	setting->device = setting->pool.devices->list[0];
	setting->driver = *setting->device.driver;
	setting->device.driver = &setting->driver;
	assert_int_equal(device_memory_open(&setting->memory, &setting->device, 8 * MIB, 8 * MIB),
			 0);
	assert_int_equal(device_enter(&setting->device), CUDA_SUCCESS);
	setting->host =
		mmap(NULL, 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(setting->host, MAP_FAILED);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
			setting->driver.cuMemHostRegister(setting->host + i * CHUNK, CHUNK, 0), 0);
	assert_int_equal(setting->driver.cuStreamCreate(&setting->stream, CU_STREAM_NON_BLOCKING),
			 0);

	*state = setting;

	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(setting->driver.cuStreamDestroy(setting->stream), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(setting->driver.cuMemHostUnregister(setting->host + i * CHUNK), 0);
	munmap(setting->host, 2 * CHUNK);
	device_memory_close(&setting->memory);
	pool_close(&setting->pool);
	free(setting);

	return 0;
}

/* The first spans are rows; of the others no two are the same distance apart. In host memory
 * the last one lies across the end of a registration. */
static void aim(struct setting *setting)
{
	uint64_t address = setting->memory.address;

	for (unsigned i = 0; i < SPANS; i++) {
		setting->spans[i] = (struct span){address, BYTES};
		address += BYTES + 512 + (i >= ROWS ? i * i : 0);
	}

	setting->copy = (struct copy){.spans = setting->spans,
				      .span_count = SPANS,
				      .bytes = SPANS * BYTES,
				      .gather = true,
				      .flat = setting->memory.address + FLAT,
				      .host = setting->host + CHUNK - SPANS * BYTES + BYTES / 2};
}

static void put(const struct setting *setting)
{
	char bytes[BYTES];

	for (unsigned i = 0; i < SPANS; i++) {
		memset(bytes, (int)i + 1, BYTES);
		assert_int_equal(
			setting->pool.call.poke(0, setting->spans[i].address, bytes, BYTES), 0);
	}
}

static void check(const struct setting *setting, enum copy_direction kind)
{
	static char bytes[SPANS * BYTES];

	if (kind == COPY_D2D)
		assert_int_equal(
			setting->pool.call.peek(bytes, 0, setting->copy.flat, sizeof(bytes)), 0);
	else
		memcpy(bytes, setting->copy.host, sizeof(bytes));
	for (unsigned i = 0; i < SPANS * BYTES; i++)
		assert_int_equal(bytes[i], i / BYTES + 1);
}

/* Issues all of the copy, and waits for it. */
static void issue(struct setting *setting, enum copy_direction kind, uint32_t rows_least,
		  uint32_t batch_least)
{
	const struct copy_issue_options options = {.rows_least = rows_least,
						   .batch_least = batch_least,
						   .host_chunk = CHUNK,
						   .ddr_base = setting->host};
	struct copy_piece piece = {0};

	aim(setting);
	put(setting);
	copy_issue_open(&setting->issue, &setting->device, kind, &options);
	copy_issue_begin(&setting->issue, setting->stream);
	while (!copy_piece_is_last(&piece, SPANS)) {
		copy_piece_advance(&piece, setting->spans, SPANS);
		copy_issue_piece(&setting->issue, &setting->copy, piece);
	}
	copy_issue_end(&setting->issue);
	assert_int_equal(setting->driver.cuStreamSynchronize(setting->stream), 0);
}

static void check_ways(const struct setting *setting, uint64_t single, uint64_t rows,
		       uint64_t batch)
{
	const struct link_ways *ways = &setting->issue.ways;
	uint64_t bytes = 0;

	assert_int_equal(ways->pieces[LINK_WAY_SINGLE], single);
	assert_int_equal(ways->pieces[LINK_WAY_ROWS], rows);
	assert_int_equal(ways->pieces[LINK_WAY_BATCH], batch);
	for (unsigned i = 0; i < LINK_WAYS; i++)
		bytes += ways->bytes[i];
	assert_int_equal(bytes, SPANS * BYTES);
}

static uint64_t calls(const struct setting *setting, const char *name)
{
	return setting->pool.call.calls(name);
}

/* Rows go as rows, the rest as a batch, if there is enough of it; the piece more is of the
 * span across two registrations. The span before the first irregular one is a row too. */
static void test_each_way(void **state)
{
	struct setting *setting = *state;
	enum { REST = SPANS - ROWS - 1 };

	issue(setting, COPY_D2H, ROWS, REST + 1);
	check(setting, COPY_D2H);
	check_ways(setting, 0, ROWS + 1, REST + 1);
	assert_int_equal(calls(setting, "cuMemcpy2DAsync"), 1);
	assert_int_equal(calls(setting, "cuMemcpyBatchAsync"), 1);
	assert_int_equal(calls(setting, "cuMemcpyDtoHAsync"), 0);

	issue(setting, COPY_D2H, ROWS, REST + 2);
	check(setting, COPY_D2H);
	check_ways(setting, REST + 1, ROWS + 1, 0);

	issue(setting, COPY_D2H, ROWS + 2, 1);
	check(setting, COPY_D2H);
	check_ways(setting, 0, 0, SPANS + 1);

	issue(setting, COPY_D2H, 0, 0);
	check(setting, COPY_D2H);
	check_ways(setting, SPANS + 1, 0, 0);
}

static unsigned flags_seen;
static CUresult (*pass)(CUdeviceptr *targets, CUdeviceptr *sources, size_t *sizes, size_t count,
			CUmemcpyAttributes *attributes, size_t *firsts, size_t attribute_count,
			CUstream stream);

static CUresult watched(CUdeviceptr *targets, CUdeviceptr *sources, size_t *sizes, size_t count,
			CUmemcpyAttributes *attributes, size_t *firsts, size_t attribute_count,
			CUstream stream)
{
	flags_seen = attributes->flags;
	assert_int_equal(attributes->srcAccessOrder, CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
	return pass(targets, sources, sizes, count, attributes, firsts, attribute_count, stream);
}

/* Within a device all goes by batch, rows too, with the wish to leave compute units alone. */
static void test_within_a_device(void **state)
{
	struct setting *setting = *state;

	pass = setting->driver.cuMemcpyBatchAsync;
	setting->driver.cuMemcpyBatchAsync = watched;
	issue(setting, COPY_D2D, 2, 1000);
	check(setting, COPY_D2D);
	check_ways(setting, 0, 0, SPANS);
	assert_int_equal(flags_seen, CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE);

	issue(setting, COPY_D2H, 2, 2);
	assert_int_equal(flags_seen, CU_MEMCPY_FLAG_DEFAULT);

	issue(setting, COPY_D2D, 2, 0);
	check(setting, COPY_D2D);
	assert_in_range(setting->issue.ways.pieces[LINK_WAY_ROWS], ROWS, SPANS);
	assert_int_equal(setting->issue.ways.pieces[LINK_WAY_BATCH], 0);
}

/* A driver of before 13.0, and one of before 12.8. */
static void test_older_drivers(void **state)
{
	struct setting *setting = *state;

	setting->driver.cuMemcpyBatchAsync = NULL;
	issue(setting, COPY_D2H, 0, 1);
	check(setting, COPY_D2H);
	check_ways(setting, 0, 0, SPANS + 1);

	setting->driver.cuMemcpyBatchAsync_v1 = NULL;
	issue(setting, COPY_D2H, 0, 1);
	check(setting, COPY_D2H);
	check_ways(setting, SPANS + 1, 0, 0);
	issue(setting, COPY_D2D, 0, 1);
	check(setting, COPY_D2D);
	check_ways(setting, SPANS, 0, 0);
}

/* A driver that has the call and refuses it is not asked again, and not to blame. */
static void test_refused(void **state)
{
	struct setting *setting = *state;
	static const CUresult results[] = {CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_INVALID_VALUE};

	for (unsigned i = 0; i < 2; i++) {
		setting->pool.call.fail_nth("cuMemcpyBatchAsync", 1, results[i]);
		issue(setting, COPY_D2H, 0, 1);
		check(setting, COPY_D2H);
		check_ways(setting, SPANS + 1, 0, 0);
		assert_int_equal(setting->copy.status, HBM_OK);
		assert_int_equal(setting->device.errors, 0);
		assert_false(setting->issue.batches);
	}
}

/* A copy of a batch that cannot be issued fails, and batches are tried again. */
static void test_a_copy_that_cannot_be_issued(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.fail_nth("cuMemcpyBatchAsync", 1, CUDA_ERROR_INVALID_VALUE);
	setting->pool.call.fail_nth("cuMemcpyDtoHAsync", 5, CUDA_ERROR_INVALID_VALUE);
	issue(setting, COPY_D2H, 0, 1);
	assert_int_equal(setting->copy.status, HBM_DEVICE);
	assert_int_equal(setting->issue.ways.pieces[LINK_WAY_SINGLE], 4);
	assert_int_equal(setting->device.errors, 1);
	assert_true(setting->issue.batches);
}

/* After a sticky error nothing is tried. */
static void test_a_sticky_error(void **state)
{
	struct setting *setting = *state;

	setting->pool.call.fail_nth("cuMemcpyBatchAsync", 1, CUDA_ERROR_ECC_UNCORRECTABLE);
	issue(setting, COPY_D2H, 0, 1);
	assert_int_equal(setting->copy.status, HBM_DEVICE);
	assert_int_equal(calls(setting, "cuMemcpyDtoHAsync"), 0);
	assert_true(device_is_lost(&setting->device));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_way),
		TEST(test_within_a_device),
		TEST(test_older_drivers),
		TEST(test_refused),
		TEST(test_a_copy_that_cannot_be_issued),
		TEST(test_a_sticky_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
