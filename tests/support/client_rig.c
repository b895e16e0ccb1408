/* SPDX-License-Identifier: Apache-2.0 */
/* client_rig: see client_rig.h. */
#include "tests/support/client_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "tests/support/fake_stage.h"

void client_rig_open(struct client_rig *rig)
{
	rig->region = client_region_make(1);
	assert_int_equal(client_region_commit(rig->region, 0, 1), 0);
	rig->memory = hbm_region_address(rig->region);
	rig->image = malloc(SLAB);
	assert_non_null(rig->image);

	seed_open(&rig->seed, "device code");
	for (size_t i = 0; i < SLAB; i++)
		rig->image[i] = (unsigned char)seed_next(&rig->seed);
	client_rig_put(rig);

	assert_int_equal(fake.driver->cuDevicePrimaryCtxRetain(&rig->context, 0), CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuCtxSetCurrent(rig->context), CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuStreamCreate(&rig->stream, CU_STREAM_NON_BLOCKING),
			 CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
}

void client_rig_wait(struct client_rig *rig)
{
	assert_int_equal(fake.driver->cuCtxSetCurrent(rig->context), CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuStreamSynchronize(rig->stream), CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
}

void client_rig_put(struct client_rig *rig)
{
	assert_int_equal(soft.poke(0, rig->memory, rig->image, SLAB), 0);
}

void client_rig_get(struct client_rig *rig, uint64_t at, uint64_t bytes)
{
	client_rig_wait(rig);
	assert_int_equal(soft.peek(rig->image + at, 0, rig->memory + at, bytes), 0);
}

void client_rig_check(struct client_rig *rig)
{
	unsigned char *seen = malloc(SLAB);

	assert_non_null(seen);
	client_rig_wait(rig);
	assert_int_equal(soft.peek(seen, 0, rig->memory, SLAB), 0);
	for (size_t i = 0; i < SLAB; i++)
		if (seen[i] != rig->image[i])
			fail_msg("byte %zu is %#x instead of %#x", i, seen[i], rig->image[i]);
	free(seen);
}

void client_rig_close(struct client_rig *rig)
{
	CUcontext current;

	client_rig_wait(rig);
	assert_int_equal(fake.driver->cuCtxGetCurrent(&current), CUDA_SUCCESS);
	assert_null(current);
	assert_int_equal(fake.driver->cuCtxSetCurrent(rig->context), CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuStreamDestroy(rig->stream), CUDA_SUCCESS);
	assert_int_equal(fake.driver->cuCtxSetCurrent(NULL), CUDA_SUCCESS);
	assert_int_equal(hbm_region_destroy(hbm, rig->region), 0);
	hbm = hbm_close(hbm); /* unloads in a context that others use, too */
	assert_int_equal(soft.live("modules"), 0);
	assert_int_equal(fake.driver->cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
	free(rig->image);
}
