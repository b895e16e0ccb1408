/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: batches of copies: the bytes in every direction against a plain loop, by both versions
 * of the call, and what is refused, of which nothing remains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/seed.h"
#include "tests/support/soft_device.h"

enum { COPIES = 100, PIECE = 4096, ROOM = COPIES * PIECE };

/* Each copy has a piece of each place of its own. */
struct batch {
	const struct driver *driver;
	struct soft_device *soft;
	CUdeviceptr device; /* two places */
	unsigned char *host;
	CUstream stream;

	CUdeviceptr targets[COPIES], sources[COPIES];
	size_t sizes[COPIES], firsts[2];
	CUmemcpyAttributes attributes[2];
};

static void batch_open(struct batch *batch, void **state)
{
	*batch = (struct batch){.soft = *state};
	batch->driver = batch->soft->driver;
	batch->device = soft_memory(batch->driver, 0, GRANULE);
	batch->host = soft_host(batch->driver, ROOM, CU_MEMHOSTREGISTER_DEVICEMAP);
	batch->stream = soft_stream(batch->driver);
	batch->attributes[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
	batch->attributes[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
	batch->attributes[1].flags = CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE;
	batch->firsts[1] = COPIES / 2;
	for (unsigned i = 0; i < COPIES; i++) {
		batch->targets[i] = batch->device + i * PIECE;
		batch->sources[i] = (uintptr_t)batch->host + i * PIECE;
		batch->sizes[i] = PIECE;
	}
}

/* Nothing is held any more. */
static void batch_close(struct batch *batch)
{
	assert_int_equal(batch->driver->cuStreamDestroy(batch->stream), CUDA_SUCCESS);
	soft_host_free(batch->driver, batch->host, ROOM);
	soft_memory_free(batch->driver, batch->device, GRANULE);
}

static CUresult batch_copy(struct batch *batch, size_t count, size_t attributes)
{
	CUresult result = batch->driver->cuMemcpyBatchAsync(
		batch->targets, batch->sources, batch->sizes, count, batch->attributes,
		batch->firsts, attributes, batch->stream);

	assert_int_equal(batch->driver->cuStreamSynchronize(batch->stream), CUDA_SUCCESS);
	return result;
}

static CUresult batch_copy_v1(struct batch *batch, size_t *failed)
{
	CUresult result = batch->driver->cuMemcpyBatchAsync_v1(
		batch->targets, batch->sources, batch->sizes, COPIES, batch->attributes,
		batch->firsts, 2, failed, batch->stream);

	assert_int_equal(batch->driver->cuStreamSynchronize(batch->stream), CUDA_SUCCESS);
	return result;
}

enum direction { H2D, D2H, D2D, DIRECTIONS };

/* Host memory by its own address or by the device's. */
static CUdeviceptr host_at(const struct batch *batch, uint64_t at, bool alias)
{
	return alias ? soft_alias(batch->driver, batch->host) + at : (uintptr_t)batch->host + at;
}

/* What is copied is in the host's first half or the device's first place. */
static void aim(struct batch *batch, unsigned i, enum direction direction, struct seed *seed)
{
	uint64_t at = (uint64_t)i * PIECE + seed_below(seed, 64);
	bool alias = seed_below(seed, 2) == 1;

	batch->sizes[i] = 1 + seed_below(seed, PIECE - 64);
	batch->sources[i] = direction == H2D ? host_at(batch, at, alias) : batch->device + at;
	batch->targets[i] =
		direction == D2H ? host_at(batch, at, alias) : batch->device + ROOM + at;
}

static void fill(unsigned char *bytes, unsigned seed)
{
	for (size_t i = 0; i < ROOM; i++)
		bytes[i] = (unsigned char)((i * 37 + i / 509 + seed) & 0xff);
}

static void test_bytes_in_every_direction(void **state)
{
	static unsigned char host[ROOM], from[ROOM], to[ROOM], seen[ROOM];
	struct batch batch;
	struct seed seed;

	seed_open(&seed, __func__);
	batch_open(&batch, state);

	for (unsigned round = 0; round < 20; round++) {
		fill(host, round);
		fill(from, round + 50);
		fill(to, round + 100);
		memcpy(batch.host, host, ROOM);
		assert_int_equal(batch.soft->call.poke(0, batch.device, from, ROOM), 0);
		assert_int_equal(batch.soft->call.poke(0, batch.device + ROOM, to, ROOM), 0);

		for (unsigned i = 0; i < COPIES; i++) {
			enum direction direction = (enum direction)seed_below(&seed, DIRECTIONS);
			aim(&batch, i, direction, &seed);
			size_t at =
				(direction == H2D ? batch.targets[i] - ROOM : batch.sources[i]) -
				batch.device;
			memcpy((direction == D2H ? host : to) + at,
			       (direction == H2D ? host : from) + at, batch.sizes[i]);
		}

		assert_int_equal(round % 2 ? batch_copy(&batch, COPIES, 2)
					   : batch_copy_v1(&batch, NULL),
				 CUDA_SUCCESS);
		assert_memory_equal(batch.host, host, ROOM);
		assert_int_equal(batch.soft->call.peek(seen, 0, batch.device + ROOM, ROOM), 0);
		assert_memory_equal(seen, to, ROOM);
	}

	batch_close(&batch);
}

#define REFUSED(statement, result)                                                                 \
	do {                                                                                       \
		struct batch bad = batch;                                                          \
		statement;                                                                         \
		assert_int_equal(batch_copy(&bad, COPIES, 2), result);                             \
	} while (0)

static void test_attributes_that_are_refused(void **state)
{
	struct batch batch;

	batch_open(&batch, state);
	assert_int_equal(batch_copy(&batch, COPIES, 2), CUDA_SUCCESS);

	assert_int_equal(batch_copy(&batch, COPIES, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(batch_copy(&batch, 1, 2), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(batch_copy(&batch, COPIES / 2, 2), CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.firsts[0] = 1, CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.firsts[1] = 0, CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.firsts[1] = COPIES, CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.attributes[0].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID,
		CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.attributes[1].srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_ANY + 1,
		CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.attributes[1].flags = 2, CUDA_ERROR_INVALID_VALUE);

	batch_close(&batch);
}

static void test_copies_that_are_refused(void **state)
{
	unsigned char own[PIECE];
	struct batch batch;

	batch_open(&batch, state);

	assert_int_equal(batch_copy(&batch, 0, 1), CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.sizes[COPIES - 1] = 0, CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.targets[7] = bad.sources[8], CUDA_ERROR_INVALID_VALUE); /* host to host */
	REFUSED(bad.targets[7] = bad.device + GRANULE, CUDA_ERROR_INVALID_VALUE);
	REFUSED(bad.sources[7] = (uintptr_t)own, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	REFUSED(bad.sizes[COPIES - 1]++, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	REFUSED(bad.sources[7] = bad.targets[7] - 1, CUDA_ERROR_INVALID_VALUE); /* overlaps */

	batch_close(&batch);
}

/* Of a batch that is refused nothing is copied. */
static void test_all_or_nothing(void **state)
{
	static unsigned char seen[ROOM];
	struct batch batch;
	size_t failed = 0;

	batch_open(&batch, state);
	memset(batch.host, 1, ROOM);
	memset(seen, 1, ROOM);
	batch.targets[COPIES - 1] = batch.device + GRANULE;
	assert_int_equal(batch_copy_v1(&batch, &failed), CUDA_ERROR_INVALID_VALUE);
	assert_true(failed == SIZE_MAX);
	assert_int_equal(batch.soft->call.peek(seen, 0, batch.device, ROOM), 0);
	for (size_t i = 0; i < ROOM; i++)
		assert_int_equal(seen[i], 0);

	batch_close(&batch);
}

static CUresult batch_copy_on(struct batch *batch, CUstream stream)
{
	return batch->driver->cuMemcpyBatchAsync(batch->targets, batch->sources, batch->sizes,
						 COPIES, batch->attributes, batch->firsts, 1,
						 stream);
}

static void test_streams_that_are_refused(void **state)
{
	struct batch batch;

	batch_open(&batch, state);
	CUstream gone = soft_stream(batch.driver);
	assert_int_equal(batch.driver->cuStreamDestroy(gone), CUDA_SUCCESS);

	assert_int_equal(batch_copy_on(&batch, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(batch_copy_on(&batch, gone), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(batch_copy_on(&batch, batch.stream), CUDA_SUCCESS);
	assert_int_equal(batch.driver->cuStreamSynchronize(batch.stream), CUDA_SUCCESS);

	batch_close(&batch);
}

/* What takes either version takes the later one, and does without where there is none. */
static void test_whichever_version_there_is(void **state)
{
	struct batch batch;

	batch_open(&batch, state);
	struct driver some = *batch.driver;
	const struct soft_calls *soft = &batch.soft->call;

	assert_true(driver_has_batch(&some));
	assert_int_equal(driver_copy_batch(&some, batch.targets, batch.sources, batch.sizes, COPIES,
					   0, batch.stream),
			 CUDA_SUCCESS);
	assert_int_equal(soft->calls("cuMemcpyBatchAsync"), 1);

	some.cuMemcpyBatchAsync = NULL;
	assert_true(driver_has_batch(&some));
	assert_int_equal(driver_copy_batch(&some, batch.targets, batch.sources, batch.sizes, COPIES,
					   0, batch.stream),
			 CUDA_SUCCESS);
	assert_int_equal(soft->calls("cuMemcpyBatchAsync_v1"), 1);

	some.cuMemcpyBatchAsync_v1 = NULL;
	assert_false(driver_has_batch(&some));
	assert_int_equal(driver_copy_batch(&some, batch.targets, batch.sources, batch.sizes, COPIES,
					   0, batch.stream),
			 CUDA_ERROR_NOT_SUPPORTED);

	assert_int_equal(batch.driver->cuStreamSynchronize(batch.stream), CUDA_SUCCESS);
	batch_close(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bytes_in_every_direction, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_attributes_that_are_refused, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_copies_that_are_refused, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_all_or_nothing, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_streams_that_are_refused, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_whichever_version_there_is, soft_setup,
						soft_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
