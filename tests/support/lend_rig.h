/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lend_rig: a device that lends, in the daemon's tiers (tier_rig.h) without a server, and clients of
 * two users that borrow from it. What they do is what requests do, without the bytes. The teardown
 * checks that the books balance and that the clients have returned all.
 */
#pragma once

#include "daemon/region/lend.h"
#include "daemon/region/loan.h"
#include "daemon/region/slab.h"
#include "tests/support/tier_rig.h"

#define SLAB GRANULE
#define BLOCK (SLAB / 4) /* four in a slab */
#define LEND (3 * SLAB)  /* what the device lends */
#define POOL (8 * SLAB)  /* what it has */

/* A client: whose it is, and what it has borrowed. */
struct lend_client {
	struct user *user;
	struct payer payer;
	struct holder holder;
	struct borrower borrower;
	unsigned ends; /* of its borrower's work */
};

struct lend_rig {
	struct rig tiers;
	struct lend *lend;
	struct slabs *slabs;
	uint16_t ns, other_ns;
	struct lend_client clients[2], stranger; /* two of one user, one of another */
	uint32_t keys;
};

/* cmocka's setup and teardown: no block yet; two slabs may be lent to a user, and each client may
 * have three loans. */
int lend_rig_setup(void **state);
int lend_rig_teardown(void **state);
/* Of a user; one more than the rig's own. */
void lend_client_open(struct lend_rig *rig, struct lend_client *client, uid_t uid);
void lend_client_close(struct lend_client *client);
/* A namespace for blocks of BLOCK bytes; its number. */
uint16_t lend_rig_namespace(struct lend_rig *rig, uint64_t weights);
/* A block of it, stored in no tier; its number. */
uint32_t lend_rig_block(struct lend_rig *rig, uint16_t ns);
/* A block of so many bytes, in a namespace of its own. */
uint32_t lend_rig_large_block(struct lend_rig *rig, uint64_t bytes);
struct replica_form lend_rig_form(const struct lend_client *client, uint32_t number,
				  uint64_t piece);
/* A replica of the block that is ready, and idle: what replicate.h does. */
struct replica *lend_rig_make(struct lend_rig *rig, const struct lend_client *client,
			      uint32_t number);
/* Two slabs, full of replicas of the smallest blocks. */
void lend_rig_make_many(struct lend_rig *rig);
/* A loan, and what the reply that makes it does. *named: nothing was sent. */
struct loan *lend_rig_borrow(struct lend_client *client, struct replica *replica, bool *named);
/* For rig_run(): it has its memory. */
bool lend_rig_is_open(void *replica);
/* The same, of the slabs: none is on its way back. */
bool lend_rig_is_quiet(void *slabs);
/* Runs the loop until that holds; then so many slabs of the pool are leased, and all of them lent. */
void lend_rig_assert_leased(struct lend_rig *rig, uint64_t slabs);
