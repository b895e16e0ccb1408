/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvme_file_rig: an NVMe tier of 3 MiB to be opened, used and closed in a folder of its own,
 * with the loop and the cache that it wants. The teardown checks that nothing is left.
 */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/tier/nvme_file.h"
#include "tests/support/leaks.h"

struct nvme_file_rig {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct loop *loop;
	struct cache *cache;
	struct nvme_file *nvme;
	struct timer watchdog;
	char folder[32], path[64], error[512];
	int device;      /* a loop device on `path`, while a test has one; 0: none */
	uint64_t copies; /* that are wanted */
	unsigned steps;
};

/* cmocka's; the test opens. */
int nvme_file_rig_setup(void **state);
int nvme_file_rig_teardown(void **state);

/* What nvme_file_open() says. */
int nvme_file_rig_open(struct nvme_file_rig *rig);
/* The tier may leave its last completion with the loop: the loop goes with it. */
void nvme_file_rig_close(struct nvme_file_rig *rig);
/* Fails the test unless it cannot be opened, with that error and these words in a line. */
void nvme_file_rig_assert_refused(struct nvme_file_rig *rig, int error, const char *words);
