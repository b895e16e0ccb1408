/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_rig: what the tests of the library's device code share: a committed slab, a stream,
 * and a copy of the slab on the host, on which a test does with plain C what the library's
 * kernels do on the slab.
 */
#pragma once

#include "tests/support/client_region.h"
#include "tests/support/seed.h"

struct client_rig {
	CUcontext context;
	CUstream stream;
	struct hbm_region *region;
	uint64_t memory;
	unsigned char *image; /* what the slab should hold: SLAB bytes */
	struct seed seed;
};

/* Between client_region_setup() and client_region_teardown(). Slab and image are filled with
 * the same random bytes. */
void client_rig_open(struct client_rig *rig);
/* Waits for the stream, and closes the connection, too. */
void client_rig_close(struct client_rig *rig);
/* Makes the slab what the image is. */
void client_rig_put(struct client_rig *rig);
void client_rig_wait(struct client_rig *rig); /* for the stream */
/* Waits for the stream, and copies bytes at `at` of the slab into the image. */
void client_rig_get(struct client_rig *rig, uint64_t at, uint64_t bytes);
/* Waits for the stream, and fails the test where slab and image differ. */
void client_rig_check(struct client_rig *rig);
