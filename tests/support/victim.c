/* SPDX-License-Identifier: Apache-2.0 */
/* victim: see victim.h. */
#include "tests/support/victim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#define BATCH 16

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void victim_open(struct victim *victim, const struct spawn *spawn, uint64_t blocks)
{
	struct kv *kv = &victim->kv;
	hbm_result results[BATCH];

	*victim = (struct victim){.blocks = blocks == 0 ? BATCH : blocks};
	assert_int_equal(victim->blocks % BATCH, 0);
	kv_open(kv, spawn, 0, VICTIM_BLOCK, BATCH);
	for (uint64_t i = 0; i < victim->blocks; i += BATCH) {
		assert_int_equal(kv_store(kv, 0, 1 + i, BATCH, 0, results), 0);
		for (int k = 0; k < BATCH; k++)
			assert_int_equal(results[k].status, HBM_OK);
	}

	if (blocks == 0)
		assert_int_equal(kv_keys(kv, HBM_WIRE_PIN, 1, BATCH, 0, NULL), 0);
}

void victim_close(struct victim *victim)
{
	kv_close(&victim->kv);
}

void victim_round(struct victim *victim, struct victim_times *times)
{
	struct kv *kv = &victim->kv;
	uint64_t slot = victim->rounds % BATCH, block = 1 + victim->rounds % victim->blocks;
	struct hbm_block wanted;
	struct hbm_segment segment;
	hbm_result result;

	kv_blocks(kv, slot, block, 1, 0, &wanted, &segment);
	wanted.parent = (hbm_key){{0}};
	kv_wipe(kv, slot);

	double start = seconds();
	assert_int_equal(hbm_ping(kv->hbm), 0);
	double pinged = seconds();
	assert_int_equal(kv_lookup(kv, 1, BATCH, NULL), BATCH);
	double found = seconds();
	assert_int_equal(hbm_load(kv->hbm, kv->ns, &wanted, 1, &result), 0);
	double loaded = seconds();

	assert_int_equal(result.status, HBM_OK);
	assert_true(kv_holds(kv, slot, block));
	*times = (struct victim_times){pinged - start, found - pinged, loaded - found, result.tier};
	victim->rounds++;
}
