/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: copies of rows: the bytes in every direction against a plain loop, what lies between
 * the rows, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/seed.h"
#include "tests/support/soft_device.h"

enum { ROOM = 1 << 20 }; /* of each of the three places */

struct places {
	const struct driver *driver;
	struct soft_device *soft;
	CUdeviceptr device; /* two places */
	unsigned char *host;
	CUstream stream;
	unsigned char expected[ROOM], seen[ROOM];
};

static void places_open(struct places *places, void **state)
{
	places->soft = *state;
	places->driver = places->soft->driver;
	places->device = soft_memory(places->driver, 0, GRANULE);
	places->host = soft_host(places->driver, ROOM, 0);
	places->stream = soft_stream(places->driver);
}

static void places_close(struct places *places)
{
	assert_int_equal(places->driver->cuStreamDestroy(places->stream), CUDA_SUCCESS);
	soft_host_free(places->driver, places->host, ROOM);
	soft_memory_free(places->driver, places->device, GRANULE);
}

static void fill(unsigned char *bytes, unsigned seed)
{
	for (size_t i = 0; i < ROOM; i++)
		bytes[i] = (unsigned char)((i * 37 + i / 509 + seed) & 0xff);
}

static CUresult copy(const struct places *places, const CUDA_MEMCPY2D *rows)
{
	CUresult result = places->driver->cuMemcpy2DAsync(rows, places->stream);

	assert_int_equal(places->driver->cuStreamSynchronize(places->stream), CUDA_SUCCESS);
	return result;
}

/* Rows of any shape that fit into the places. */
static CUDA_MEMCPY2D any_shape(struct seed *seed)
{
	CUDA_MEMCPY2D rows = {.Height = 1 + seed_below(seed, 64),
			      .WidthInBytes = 1 + seed_below(seed, 4096),
			      .srcXInBytes = seed_below(seed, 64),
			      .srcY = seed_below(seed, 3),
			      .dstXInBytes = seed_below(seed, 64),
			      .dstY = seed_below(seed, 3)};

	rows.srcPitch = rows.srcXInBytes + rows.WidthInBytes + seed_below(seed, 5000);
	rows.dstPitch = rows.dstXInBytes + rows.WidthInBytes + seed_below(seed, 5000);

	return rows;
}

enum direction { H2D, D2H, D2D, DIRECTIONS };

static void aim(const struct places *places, CUDA_MEMCPY2D *rows, enum direction direction)
{
	rows->srcMemoryType = direction == H2D ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
	rows->srcHost = places->host;
	rows->srcDevice = places->device;
	rows->dstMemoryType = direction == D2H ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
	rows->dstHost = places->host;
	rows->dstDevice = places->device + ROOM;
}

static void put(struct places *places, const unsigned char *bytes, bool host, bool second)
{
	if (host)
		memcpy(places->host, bytes, ROOM);
	else
		assert_int_equal(
			places->soft->call.poke(0, places->device + second * ROOM, bytes, ROOM), 0);
}

static void get(struct places *places, unsigned char *bytes, bool host)
{
	if (host)
		memcpy(bytes, places->host, ROOM);
	else
		assert_int_equal(places->soft->call.peek(bytes, 0, places->device + ROOM, ROOM), 0);
}

static void test_rows_of_any_shape(void **state)
{
	static struct places places;
	static unsigned char source[ROOM];
	struct seed seed;

	seed_open(&seed, __func__);
	places_open(&places, state);

	for (unsigned round = 0; round < 120; round++) {
		enum direction direction = round % DIRECTIONS;
		CUDA_MEMCPY2D rows = any_shape(&seed);

		fill(source, round);
		fill(places.expected, round + 100);
		aim(&places, &rows, direction);
		put(&places, source, direction == H2D, false);
		put(&places, places.expected, direction == D2H, true);
		for (size_t y = 0; y < rows.Height; y++)
			memcpy(places.expected + (rows.dstY + y) * rows.dstPitch + rows.dstXInBytes,
			       source + (rows.srcY + y) * rows.srcPitch + rows.srcXInBytes,
			       rows.WidthInBytes);

		assert_int_equal(copy(&places, &rows), CUDA_SUCCESS);
		get(&places, places.seen, direction == D2H);
		assert_memory_equal(places.seen, places.expected, ROOM);
	}

	places_close(&places);
}

/* What lies between rows need not be mapped. */
static void test_gaps_without_memory(void **state)
{
	static struct places places;
	const size_t rows_count = 3;
	CUdeviceptr far;

	places_open(&places, state);
	const struct driver *driver = places.driver;
	assert_int_equal(driver->cuMemAddressReserve(&far, 5 * GRANULE, 0, 0, 0), CUDA_SUCCESS);
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handles[3];
	for (unsigned i = 0; i < rows_count; i++) {
		CUdeviceptr at = far + 2 * i * GRANULE;
		assert_int_equal(driver->cuMemCreate(&handles[i], GRANULE, &prop, 0), CUDA_SUCCESS);
		assert_int_equal(driver->cuMemMap(at, GRANULE, 0, handles[i], 0), CUDA_SUCCESS);
		assert_int_equal(
			soft_access(driver, at, GRANULE, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
			CUDA_SUCCESS);
	}

	fill(places.host, 1);
	CUDA_MEMCPY2D rows = {.srcMemoryType = CU_MEMORYTYPE_HOST,
			      .srcHost = places.host,
			      .srcPitch = 4096,
			      .dstMemoryType = CU_MEMORYTYPE_DEVICE,
			      .dstDevice = far + 100,
			      .dstPitch = 2 * GRANULE,
			      .WidthInBytes = 4096,
			      .Height = rows_count};
	assert_int_equal(copy(&places, &rows), CUDA_SUCCESS);
	for (unsigned i = 0; i < rows_count; i++) {
		assert_int_equal(
			places.soft->call.peek(places.seen, 0, far + 100 + 2 * i * GRANULE, 4096),
			0);
		assert_memory_equal(places.seen, places.host + i * 4096, 4096);
	}

	rows.dstPitch = GRANULE; /* the second row is where nothing is */
	assert_int_equal(copy(&places, &rows), CUDA_ERROR_INVALID_VALUE);

	for (unsigned i = 0; i < rows_count; i++) {
		assert_int_equal(driver->cuMemUnmap(far + 2 * i * GRANULE, GRANULE), CUDA_SUCCESS);
		assert_int_equal(driver->cuMemRelease(handles[i]), CUDA_SUCCESS);
	}
	assert_int_equal(driver->cuMemAddressFree(far, 5 * GRANULE), CUDA_SUCCESS);
	places_close(&places);
}

static void test_what_is_refused(void **state)
{
	static struct places places;
	int most = 0;

	places_open(&places, state);
	assert_int_equal(
		places.driver->cuDeviceGetAttribute(&most, CU_DEVICE_ATTRIBUTE_MAX_PITCH, 0),
		CUDA_SUCCESS);
	CUDA_MEMCPY2D good = {.WidthInBytes = 64, .Height = 4, .srcPitch = 64, .dstPitch = 128};
	aim(&places, &good, H2D);
	assert_int_equal(copy(&places, &good), CUDA_SUCCESS);
	assert_int_equal(copy(&places, NULL), CUDA_ERROR_INVALID_VALUE);

	CUDA_MEMCPY2D bad = good;
	bad.srcPitch = 63;
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_INVALID_VALUE);
	bad = good;
	bad.dstXInBytes = 65;
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_INVALID_VALUE);
	bad = good;
	bad.dstPitch = (size_t)most + 1;
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_INVALID_VALUE);
	bad = good;
	bad.dstMemoryType = CU_MEMORYTYPE_HOST; /* from host to host */
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_INVALID_VALUE);
	bad = good;
	bad.srcMemoryType = CU_MEMORYTYPE_ARRAY;
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_INVALID_VALUE);
	bad = good;
	bad.srcHost = &bad;
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	bad = good;
	bad.Height = ROOM / 64 + 1; /* the last row is not registered */
	assert_int_equal(copy(&places, &bad), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	assert_int_equal(places.driver->cuMemcpy2DAsync(&good, NULL), CUDA_ERROR_INVALID_HANDLE);

	good.Height = 0;
	assert_int_equal(copy(&places, &good), CUDA_SUCCESS);
	places_close(&places);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows_of_any_shape, soft_setup, soft_teardown),
		cmocka_unit_test_setup_teardown(test_gaps_without_memory, soft_setup,
						soft_teardown),
		cmocka_unit_test_setup_teardown(test_what_is_refused, soft_setup, soft_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
