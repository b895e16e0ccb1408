/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tier_rig: what the tests of the movers share: soft devices, tiers of a few slots each,
 * host memory, an NVMe file in a folder of its own, the mover, and memory that plays the
 * client's. A test sets up rig->config between rig_init() and rig_open(). Closing checks
 * that the books balance, that nothing moves, and that the process leaked nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/hbmd.h"
#include "tests/support/leaks.h"
#include "tests/support/soft_calls.h"

struct audit;
struct memory_setup;

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GRANULE (2 * MIB)

struct rig {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct loop *loop;
	struct hbmd hbmd;
	struct memory_setup *memory_setup;
	struct device_memory client[HBM_WIRE_DEVICES_MAX]; /* the client's memory on each device */
	char folder[32], file[64];
	struct timer watchman;
	bool (*wanted)(void *arg);
	void *arg;
	uint64_t until_ns;
	bool late;
	struct soft_calls call;
};

/* One device with 512 KiB of HBM tier in its 2 MiB, 1 MiB of DDR, 2 MiB of NVMe: a test
 * changes what it is about. */
void rig_init(struct rig *rig);
/* Opens everything, with client_bytes of a client's memory on each device, and waits until
 * it is in service. */
void rig_open(struct rig *rig, uint64_t client_bytes);
void rig_close(struct rig *rig); /* it may be opened again */
void rig_clear(struct rig *rig);

/* Runs the loop until wanted(arg), which is asked at least twice a millisecond. The test
 * fails if that takes half a minute. */
void rig_run(struct rig *rig, bool (*wanted)(void *arg), void *arg);
bool rig_is_idle(void *rig); /* for rig_run(): no transfer is in flight */
/* Runs the pump, and the loop until nothing moves and nothing is left to be dropped. */
void rig_settle(struct rig *rig);

/* An audit that is over, for its accounts; audit_free() it before anything changes. */
struct audit *rig_audit(struct rig *rig);
void rig_assert_balanced(struct rig *rig);
/* Nothing moves: every extent is free or holds a block, no staging buffer is in use, each
 * block is in its target. */
void rig_assert_at_rest(struct rig *rig);
/* Drops every block that is in the index; the cache is to be as new afterwards. */
void rig_assert_empties(struct rig *rig);
