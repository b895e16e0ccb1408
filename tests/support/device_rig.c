/* SPDX-License-Identifier: Apache-2.0 */
/* device_rig: see device_rig.h. */
#include "tests/support/device_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

void device_rig_open(struct device_rig *rig, void *soft)
{
	*rig = (struct device_rig){.soft = soft};
	rig->driver = rig->soft->driver;
	rig->stream = soft_stream(rig->driver);
	rig->memory = soft_memory(rig->driver, 0, DEVICE_RIG_BYTES);
	rig->image = malloc(DEVICE_RIG_BYTES);
	assert_non_null(rig->image);

	seed_open(&rig->seed, "device code");
	for (size_t i = 0; i < DEVICE_RIG_BYTES; i++)
		rig->image[i] = (unsigned char)seed_next(&rig->seed);
	device_rig_put(rig);
}

void device_rig_close(struct device_rig *rig)
{
	kernels_unload(&rig->kernels, rig->driver);
	assert_int_equal(rig->driver->cuStreamDestroy(rig->stream), CUDA_SUCCESS);
	soft_memory_free(rig->driver, rig->memory, DEVICE_RIG_BYTES);
	free(rig->image);
}

void device_rig_put(struct device_rig *rig)
{
	assert_int_equal(rig->soft->call.poke(0, rig->memory, rig->image, DEVICE_RIG_BYTES), 0);
}

void device_rig_get(struct device_rig *rig, uint64_t at, uint64_t bytes)
{
	assert_int_equal(rig->driver->cuStreamSynchronize(rig->stream), CUDA_SUCCESS);
	assert_int_equal(rig->soft->call.peek(rig->image + at, 0, rig->memory + at, bytes), 0);
}

void device_rig_check(struct device_rig *rig)
{
	unsigned char *seen = malloc(DEVICE_RIG_BYTES);

	assert_non_null(seen);
	assert_int_equal(rig->driver->cuStreamSynchronize(rig->stream), CUDA_SUCCESS);
	assert_int_equal(rig->soft->call.peek(seen, 0, rig->memory, DEVICE_RIG_BYTES), 0);
	for (size_t i = 0; i < DEVICE_RIG_BYTES; i++)
		if (seen[i] != rig->image[i])
			fail_msg("byte %zu is %#x instead of %#x", i, seen[i], rig->image[i]);

	free(seen);
}
