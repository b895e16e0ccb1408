/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lent_check: reads again what is lent, and compares it with the checksums of the blocks. Any
 * process that has borrowed a replica, or whose region lends it, can write to it (lent.h).
 *
 * It walks the lent slabs of all devices in the background of the loop. Each replica is
 * copied into a staging buffer, behind what requests wait for, and hashed by the hash pool;
 * LENT_CHECK_READS are on their way at once. A block without a checksum (checksum = nvme) gets one
 * from its own bytes first.
 *
 * 	LOOKED AT ----> block's bytes hashed ----> replica read and hashed ----> right, or wrong
 * 	     \________________________________/
 * 	      it has a checksum
 *
 * One that is wrong is dropped: no request finds it any more, and the next borrower gets another
 * from the block's own bytes. Who has it on loan keeps it.
 *
 * Nothing is kept where it is but the memory that is read: replicas and blocks come and go
 * meanwhile, and what is known of one that went is forgotten.
 */
#pragma once

#include "daemon/move/mover.h"

#include <hbm/wire.h>

struct lent_check;

/* Replicas looked at in one slice, and read at once. */
#define LENT_CHECK_SLICE 512
#define LENT_CHECK_READS 4

struct lent_check_options {
	struct mover *mover;
	bool (*goes_on)(void *arg); /* asked before each slice; false: no more is looked at */
	void (*done)(void *arg);    /* it is over; never from within lent_check_new() */
	void *arg;
};

/* Begins: 0, or -ENOMEM. */
int lent_check_new(struct lent_check **out, const struct lent_check_options *options);
/* In done(), or later: what it found, of each device; [mover->devices->count]. */
const struct hbm_wire_lent *lent_check_results(const struct lent_check *check);
/* The same. Accepts NULL, returns NULL. */
struct lent_check *lent_check_free(struct lent_check *check);
