/* SPDX-License-Identifier: Apache-2.0 */
/* victim: see victim.h. */
#include "tests/support/victim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#define BLOCKS 16
#define BLOCK (64u << 10)

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void victim_open(struct victim *victim, const struct spawn *spawn)
{
	hbm_result results[BLOCKS];

	victim->rounds = 0;
	kv_open(&victim->kv, spawn, 0, BLOCK, BLOCKS);
	assert_int_equal(kv_store(&victim->kv, 0, 1, BLOCKS, 0, results), 0);
	for (int i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].status, HBM_OK);
	assert_int_equal(kv_keys(&victim->kv, HBM_WIRE_PIN, 1, BLOCKS, 0, NULL), 0);
}

void victim_close(struct victim *victim)
{
	kv_close(&victim->kv);
}

void victim_round(struct victim *victim, struct victim_times *times)
{
	struct kv *kv = &victim->kv;
	uint64_t slot = victim->rounds % BLOCKS, block = slot + 1;
	struct hbm_block wanted;
	struct hbm_segment segment;
	hbm_result result;

	kv_blocks(kv, slot, block, 1, 0, &wanted, &segment);
	wanted.parent = (hbm_key){{0}};
	kv_wipe(kv, slot);

	double start = seconds();
	assert_int_equal(hbm_ping(kv->hbm), 0);
	double pinged = seconds();
	assert_int_equal(kv_lookup(kv, 1, BLOCKS, NULL), BLOCKS);
	double found = seconds();
	assert_int_equal(hbm_load(kv->hbm, kv->ns, &wanted, 1, &result), 0);
	double loaded = seconds();

	assert_int_equal(result.status, HBM_OK);
	assert_true(kv_holds(kv, slot, block));
	*times = (struct victim_times){pinged - start, found - pinged, loaded - found};
	victim->rounds++;
}
