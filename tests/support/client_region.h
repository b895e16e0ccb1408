/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_region: what the tests of the library's regions share: fake_stage on the soft
 * driver, whose teardown also checks that the driver holds nothing, and regions whose
 * bytes can be seen past the library.
 */
#pragma once

#include <stdint.h>

#include "tests/support/fakedaemon.h"
#include "tests/support/soft_calls.h"

struct hbm_region;

enum { CLIENT_REGION_SLABS = 8 }; /* of the fake daemon */
#define SLAB FAKE_SLAB

extern struct soft_calls soft; /* the driver's that the library uses */

/* cmocka's setup and teardown. */
int client_region_setup(void **state);
int client_region_teardown(void **state);
/* Another connection, to a daemon that answers as it should. */
void client_region_reconnect(void);

/* Of device 0; fails the test if it cannot be created. */
struct hbm_region *client_region_make(uint64_t slabs);
int client_region_commit(struct hbm_region *region, uint64_t first, uint64_t slabs);
int client_region_decommit(struct hbm_region *region, uint64_t first, uint64_t slabs);
/* The first byte of a region's nth slab, as its device sees it. */
void client_region_put(const struct hbm_region *region, uint64_t slab, char byte);
char client_region_get(const struct hbm_region *region, uint64_t slab);
/* The first byte of the fake's nth slab, seen without the library. */
char client_region_slab_byte(size_t nth);
