/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restart_rig: a client of the daemon of stage.h, under a keeper (keeper_rig.h), that looks for its
 * blocks after that has been killed. Blocks are those of kv.h.
 */
#pragma once

#include "tests/support/kv.h"
#include "tests/support/seed.h"

enum { RESTART_BLOCK = 65536, RESTART_KEYS = 96 };

extern struct kv restart_kv;
extern hbm_result restart_results[RESTART_KEYS];

/* Both serve, and the client is connected. */
void restart_begin(const char *const *sets);
void restart_connect(void);
void restart_disconnect(void);
/* The daemon is killed, and the client is another one of the next. */
void restart_kill(void);
/* Nothing is left, the books balance, and it ends well. */
void restart_end(void);
struct hbm_wire_status restart_status(void);
/* Of a chain [1, count] the block `bad` has other bytes than it had: a miss once it is loaded. */
void restart_expect_rotten(uint64_t bad, uint64_t count);
void restart_pause_ms(long ms);
/* Blocks [1, count], each a root, get checksums without being asked for: in ever longer whiles, until
 * a kill loses none of them. */
void restart_expect_checksums(uint64_t count);

/* A chain of blocks [first, first + count). */
void restart_store(uint64_t first, uint64_t count);
/* Whether a block is found: then it is what it was. */
bool restart_find(uint64_t key);
uint64_t restart_find_all(uint64_t first, uint64_t count); /* how many */

/* ---- what is wiped ---- */

/* A chain of blocks [1, count] of a namespace with wipe_on_free, which is not closed: its number. */
uint32_t restart_store_wiped(uint64_t count);
/* The namespace goes, with all its blocks. */
void restart_remove_wiped(uint32_t ns);
/* Daemons have said so often that nothing of such is left in memory. */
void restart_await_wiped(unsigned times);

/* ---- kills at any moment ---- */

/* What may be missing afterwards of what was acknowledged. */
enum restart_loss {
	RESTART_LOSES_NOTHING,
	RESTART_LOSES_NEW, /* blocks that were stored in this life: they may have no checksum yet */
	RESTART_LOSES_MOVED /* one for each operation of this life: what it has moved the catalog may
			       not have */
};

/* Blocks are evicted from HBM meanwhile, too. */
extern bool restart_evicts_hbm;

/* So many daemons (or $HBM_TEST_LIVES) are killed while blocks are stored, loaded, evicted and
 * removed. */
void restart_at_random(struct seed *seed, const char *const *sets, enum restart_loss loss,
		       unsigned lives);
