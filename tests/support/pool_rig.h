/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_rig: sequences of a pool and their bytes, for tests. A token is written as a number at
 * the first and the last bytes of each layer's keys and values, where a wrong slab, a wrong
 * address or a missing copy shows. Tokens of the layouts here lie across slabs.
 */
#pragma once

#include "tests/support/kv.h"

#include <hbm/sequence.h>

#define RIG_SLAB (2ull << 20)
#define RIG_MAX 64u  /* tokens of a sequence */
#define RIG_AHEAD 4u /* tokens that are mapped ahead */

extern const char *const pool_rig_layouts[]; /* one of each order; NULL-terminated */
/* The same, where layers differ: heads, windows, latents and a state; odd sizes. */
extern const char *const pool_rig_mixed_layouts[];

struct pool_rig {
	struct hbm *hbm;
	struct kv kv; /* the device */
	struct hbm_layout *layout;
	struct hbm_pool *pool;
	bool lends; /* slabs to the cache: set by the test */
};

/* Connects to the daemon and opens a pool. layout: the text of one. */
void pool_rig_open(struct pool_rig *rig, const struct spawn *spawn, const char *layout,
		   const struct hbm_pool_options *options);
/* Closes all. */
void pool_rig_close(struct pool_rig *rig);
/* The same when the daemon is gone. */
void pool_rig_lose(struct pool_rig *rig);
struct hbm_sequence *pool_rig_sequence(struct pool_rig *rig);
/* A step of one sequence: what it returns. */
int pool_rig_step(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t length);
void pool_rig_write(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t token,
		    uint64_t value);
/* Fails the test if the token is not that value everywhere. */
void pool_rig_expect(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t token,
		     uint64_t value);
/* Writes a word at a device address, or fails the test if there is another. */
void pool_rig_put(struct pool_rig *rig, uint64_t address, uint64_t value);
void pool_rig_see(struct pool_rig *rig, uint64_t address, uint64_t value);
/* What the first or the last 8 bytes of a token's keys or values in a layer hold then. */
uint64_t pool_rig_word(uint64_t value, uint32_t layer, enum hbm_kv_part part, bool last);
/* The same of one layer. */
void pool_rig_expect_layer(struct pool_rig *rig, struct hbm_sequence *sequence, uint32_t layer,
			   uint64_t token, uint64_t value);
struct hbm_sequence_facts pool_rig_facts(struct hbm_sequence *sequence);
/* What the daemon shows of the pool's sequences: that of a number, which must be there; and
 * the slabs of its region that are in several places, in bytes. */
struct hbm_wire_sequence pool_rig_shown(struct pool_rig *rig, uint64_t number);
uint64_t pool_rig_shared(struct pool_rig *rig);
/* Fails the test unless what the daemon has reserved is enough for what the pool's sequences
 * are promised, by what the pool says and, to the byte, by what the daemon does. */
void pool_rig_check_books(struct pool_rig *rig);
/* Of the pool's connection. */
struct hbm_wire_session pool_rig_session(struct pool_rig *rig);
/* Bytes of device memory that the daemon has handed out to regions. */
uint64_t pool_rig_leased(struct pool_rig *rig);
