/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that are suspended to DDR or NVMe and resumed, end to end: alone and in groups,
 * refused, cancelled, and gone with their client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/kv_stage.h"
#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct pool_rig rig;
static unsigned fds;

/* Half of a tier may be pinned. */
static const char *const sets[] = {"device.cache=8MiB", "ddr.size=128MiB", "nvme.size=256MiB",
				   NULL};

static void start_with(const char *layout, const struct hbm_pool_options *options)
{
	if (daemon_.pid == 0) {
		spawn_start(&daemon_, sets, NULL);
		fds = spawn_fds(&daemon_);
	}
	pool_rig_open(&rig, &daemon_, layout, options);
}

static void start(const char *layout)
{
	const struct hbm_pool_options options = {.max_sequences = 8};

	start_with(layout, &options);
}

static void finish(void)
{
	pool_rig_close(&rig);
	stage_finish(fds);
}

static struct hbm_sequence *filled(uint64_t tokens, uint64_t value)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, sequence, tokens), 0);
	for (uint64_t i = 0; i < tokens; i++)
		pool_rig_write(&rig, sequence, i, value + i);

	return sequence;
}

static void expect(struct hbm_sequence *sequence, uint64_t first, uint64_t end, uint64_t value)
{
	for (uint64_t i = first; i < end; i++)
		pool_rig_expect(&rig, sequence, i, value + i);
}

static void grow(struct hbm_sequence *sequence, uint64_t from, uint64_t to, uint64_t value)
{
	assert_int_equal(pool_rig_step(&rig, sequence, to), 0);
	for (uint64_t i = from; i < to; i++)
		pool_rig_write(&rig, sequence, i, value + i);
}

static void refused(int r, int status, const char *text)
{
	assert_int_equal(r, status);
	if (!strstr(hbm_pool_error(rig.pool), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_pool_error(rig.pool), text);
	assert_null(strchr(hbm_pool_error(rig.pool), '\n'));
}

static uint64_t blocks_there(void)
{
	return kv_stage_blocks(rig.hbm).blocks;
}

static void suspend(struct hbm_sequence *sequence, enum hbm_tier tier)
{
	if (hbm_sequences_suspend(rig.pool, &sequence, 1, tier) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool));
}

static void resume(struct hbm_sequence *sequence)
{
	if (hbm_sequences_resume(rig.pool, &sequence, 1) != 0)
		fail_msg("%s", hbm_pool_error(rig.pool));
}

/* Something else has been where it was. */
static void scribble(void)
{
	struct hbm_sequence *other = filled(RIG_MAX, 777000);

	expect(other, 0, RIG_MAX, 777000);
	assert_int_equal(hbm_sequence_close(other), 0);
}

/* ---- One sequence ---- */

static void suspend_and_resume(enum hbm_tier tier)
{
	struct hbm_sequence *a = filled(37, 1000), *b = filled(9, 5000);
	const struct hbm_sequence_facts before = pool_rig_facts(a);
	const uint64_t others = pool_rig_facts(b).mapped_bytes, bytes = before.mapped_bytes;

	suspend(a, tier);
	const struct hbm_sequence_facts facts = pool_rig_facts(a);

	assert_int_equal(facts.state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(facts.tier, tier);
	assert_int_equal(facts.suspended_bytes, bytes);
	assert_int_equal(facts.mapped_bytes, 0);
	assert_int_equal(facts.tokens, 37);
	assert_int_equal(pool_rig_leased(&rig), others);
	assert_int_equal(blocks_there(), bytes / RIG_SLAB);
	assert_true(spawn_balanced(&daemon_));

	scribble();
	resume(a);
	const struct hbm_sequence_facts after = pool_rig_facts(a);

	assert_int_equal(after.state, HBM_SEQUENCE_OPEN);
	assert_int_equal(after.tier, HBM_TIER_NONE);
	assert_int_equal(after.suspended_bytes, 0);
	assert_int_equal(after.address, before.address);
	assert_int_equal(after.slot, before.slot);
	assert_int_equal(after.mapped_bytes, bytes);
	assert_int_equal(blocks_there(), 0);
	expect(a, 0, 37, 1000);
	grow(a, 37, 50, 1000);
	expect(a, 0, 50, 1000);
	expect(b, 0, 9, 5000);
	assert_true(spawn_balanced(&daemon_));
}

static void test_suspend_and_resume(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++)
		for (int tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
			start(*layout);
			suspend_and_resume(tier);
			pool_rig_close(&rig);
			spawn_settle(&daemon_);
		}
	stage_finish(fds);
}

/* Memory that was in use is free for others: the device has too little for both. */
static void test_what_is_suspended_makes_room(void **state)
{
	(void)state;
	start(pool_rig_layouts[1]);
	struct hbm_sequence *all[8];
	size_t count = 0;

	while (count < 8) {
		all[count] = pool_rig_sequence(&rig);
		if (pool_rig_step(&rig, all[count], RIG_MAX) != 0)
			break;
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_write(&rig, all[count], i, 1000 * count + i);
		count++;
	}
	assert_in_range(count, 2, 7);
	suspend(all[0], HBM_TIER_NVME);
	grow(all[count], 0, RIG_MAX, 9000);
	refused(hbm_sequences_resume(rig.pool, all, 1), HBM_NO_SPACE, "memory");
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(pool_rig_facts(all[0]).mapped_bytes, 0);
	assert_int_equal(hbm_sequence_close(all[1]), 0);
	resume(all[0]);
	expect(all[0], 0, RIG_MAX, 0);
	expect(all[count], 0, RIG_MAX, 9000);
	finish();
}

/* A slid one, one without tokens, and one with slabs from a longer sequence before. */
static void test_only_what_is_used_is_stored(void **state)
{
	(void)state;
	const struct hbm_pool_options options = {.max_sequences = 8, .warm_bytes = 64ull << 20};

	start_with(pool_rig_layouts[0], &options);
	struct hbm_sequence *a = filled(RIG_MAX, 0);

	assert_int_equal(hbm_sequence_close(a), 0);
	a = pool_rig_sequence(&rig);
	assert_true(pool_rig_facts(a).mapped_bytes > 0);
	suspend(a, HBM_TIER_DDR);
	assert_int_equal(blocks_there(), 0);
	assert_int_equal(pool_rig_leased(&rig), 0);
	resume(a);
	grow(a, 0, 40, 3000);
	assert_int_equal(hbm_sequence_slide(a, 30), 0);
	const uint64_t mapped = pool_rig_facts(a).mapped_bytes;

	suspend(a, HBM_TIER_DDR);
	assert_int_equal(blocks_there(), mapped / RIG_SLAB);
	resume(a);
	assert_int_equal(pool_rig_facts(a).mapped_bytes, mapped);
	expect(a, 30, 40, 3000);
	finish();
}

/* ---- Groups ---- */

static void test_what_forks_share_is_stored_once(void **state)
{
	(void)state;
	for (const char *const *layout = pool_rig_layouts; *layout; layout++) {
		start(*layout);
		struct hbm_sequence *all[4] = {filled(37, 0)};

		assert_int_equal(hbm_sequence_fork(all[0], 3, all + 1), 0);
		for (uint64_t i = 0; i < 3; i++)
			grow(all[i], 37, 45, 1000 * i);
		const uint64_t leased = pool_rig_leased(&rig);

		/* The last one has not been mapped. */
		assert_int_equal(hbm_sequences_suspend(rig.pool, all, 4, HBM_TIER_NVME), 0);
		assert_int_equal(pool_rig_leased(&rig), 0);
		assert_int_equal(blocks_there(), leased / RIG_SLAB);
		scribble();
		assert_int_equal(hbm_sequences_resume(rig.pool, all, 4), 0);
		assert_int_equal(pool_rig_leased(&rig), leased);
		assert_int_equal(blocks_there(), 0);
		for (uint64_t i = 0; i < 3; i++)
			expect(all[i], 37, 45, 1000 * i);
		for (size_t i = 0; i < 4; i++)
			expect(all[i], 0, 37, 0);

		/* They are copied again before they are written. */
		assert_int_equal(hbm_sequence_truncate(all[0], 20), 0);
		grow(all[0], 20, 30, 4000);
		for (size_t i = 1; i < 4; i++)
			expect(all[i], 0, 37, 0);
		expect(all[0], 0, 20, 0);
		expect(all[0], 20, 30, 4000);
		assert_true(spawn_balanced(&daemon_));
		pool_rig_close(&rig);
		spawn_settle(&daemon_);
	}
	stage_finish(fds);
}

/* One at a time: each gets slabs of its own. */
static void test_forks_that_go_and_come_alone(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	struct hbm_sequence *all[3] = {filled(37, 0)};

	assert_int_equal(hbm_sequence_fork(all[0], 2, all + 1), 0);
	suspend(all[0], HBM_TIER_DDR);
	for (size_t i = 1; i < 3; i++)
		grow(all[i], 37, 40, 1000 * i);
	expect(all[1], 0, 37, 0);
	resume(all[0]);
	expect(all[0], 0, 37, 0);
	grow(all[0], 37, 60, 500);
	expect(all[1], 37, 40, 1000);

	/* A group of which one comes back alone, and the other is closed. */
	assert_int_equal(hbm_sequences_suspend(rig.pool, all + 1, 2, HBM_TIER_NVME), 0);
	resume(all[1]);
	expect(all[1], 0, 37, 0);
	assert_true(blocks_there() > 0);
	assert_int_equal(hbm_sequence_close(all[2]), 0);
	assert_int_equal(blocks_there(), 0);
	grow(all[1], 40, 50, 1000);
	expect(all[0], 0, 37, 0);
	finish();
}

/* More is pinned than may be: nothing is stored, and all go on. */
static void test_a_group_that_is_refused_goes_on(void **state)
{
	(void)state;
	start(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {filled(RIG_MAX, 0), filled(RIG_MAX, 5000)};

	refused(hbm_sequences_suspend(rig.pool, all, 2, HBM_TIER_DDR), HBM_LIMIT, "stored");
	assert_int_equal(blocks_there(), 0);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(pool_rig_facts(all[i]).state, HBM_SEQUENCE_OPEN);
		assert_int_equal(pool_rig_facts(all[i]).suspended_bytes, 0);
		assert_int_equal(pool_rig_step(&rig, all[i], RIG_MAX), 0);
		expect(all[i], 0, RIG_MAX, 5000 * i);
	}
	suspend(all[0], HBM_TIER_DDR);
	resume(all[0]);
	expect(all[0], 0, RIG_MAX, 0);
	assert_true(spawn_balanced(&daemon_));
	finish();
}

/* ---- Both at once ---- */

/* As many sequences as fit, and one more that is suspended; none is free. */
static size_t fill_device(struct hbm_sequence **all)
{
	size_t count = 0;

	all[count++] = filled(RIG_MAX, 0);
	suspend(all[0], HBM_TIER_NVME);
	for (;; count++) {
		all[count] = pool_rig_sequence(&rig);
		if (pool_rig_step(&rig, all[count], RIG_MAX) != 0)
			break;
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_write(&rig, all[count], i, 1000 * count + i);
	}
	for (uint64_t n = 1; pool_rig_step(&rig, all[count], n) == 0; n++)
		;
	refused(hbm_sequences_resume(rig.pool, all, 1), HBM_NO_SPACE, "memory");

	return count;
}

static void test_a_switch_needs_no_memory(void **state)
{
	(void)state;
	start(pool_rig_layouts[1]);
	struct hbm_sequence *all[8];
	const size_t count = fill_device(all);

	assert_in_range(count, 2, 7);
	for (uint64_t round = 0; round < 6; round++) {
		const size_t in = round % count, out = (round + 1) % count;
		const uint64_t leased = pool_rig_leased(&rig);
		const uint64_t address = pool_rig_facts(all[in]).address;

		if (hbm_sequences_switch(rig.pool, &all[out], 1, HBM_TIER_NVME, &all[in], 1) != 0)
			fail_msg("%s", hbm_pool_error(rig.pool));
		assert_int_equal(pool_rig_leased(&rig), leased);
		assert_int_equal(pool_rig_facts(all[out]).state, HBM_SEQUENCE_SUSPENDED);
		assert_int_equal(pool_rig_facts(all[out]).mapped_bytes, 0);
		assert_int_equal(pool_rig_facts(all[in]).address, address);
		expect(all[in], 0, RIG_MAX, 1000 * in);
		assert_true(spawn_balanced(&daemon_));
	}
	finish();
}

/* What goes out is too little: nothing has changed. */
static void test_a_switch_that_is_refused(void **state)
{
	(void)state;
	start(pool_rig_layouts[1]);
	struct hbm_sequence *all[8];
	const size_t count = fill_device(all);

	refused(hbm_sequences_switch(rig.pool, &all[count], 1, HBM_TIER_NVME, all, 1), HBM_NO_SPACE,
		"memory");
	refused(hbm_sequences_switch(rig.pool, &all[1], 1, HBM_TIER_DDR, &all[1], 1), HBM_INVALID,
		"not suspended");
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_SUSPENDED);
	for (size_t i = 1; i < count; i++)
		expect(all[i], 0, RIG_MAX, 1000 * i);

	/* Some of it is stored and handed over when the rest may not be pinned. */
	refused(hbm_sequences_switch(rig.pool, &all[1], 2, HBM_TIER_DDR, all, 1), HBM_LIMIT,
		"stored");
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_SUSPENDED);
	for (size_t i = 1; i < count; i++) {
		assert_int_equal(pool_rig_facts(all[i]).state, HBM_SEQUENCE_OPEN);
		expect(all[i], 0, RIG_MAX, 1000 * i);
	}
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(hbm_sequence_close(all[1]), 0);
	resume(all[0]);
	expect(all[0], 0, RIG_MAX, 0);
	finish();
}

/* ---- Under way ---- */

#define FENCE 100

/* Nothing is called between the submit and the last fence. */
static void test_layers_arrive_one_after_the_other(void **state)
{
	(void)state;
	start(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {filled(RIG_MAX, 0), filled(20, 7000)};
	const struct hbm_switch_options options = {.in = all,
						   .in_count = 2,
						   .has_fences = true,
						   .fence_slot = FENCE,
						   .fence_value = 5};
	struct hbm_switch *change;

	assert_int_equal(hbm_sequences_suspend(rig.pool, all, 2, HBM_TIER_NVME), 0);
	scribble();
	assert_int_equal(hbm_submit_switch(rig.pool, &options, &change), 0);
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_RESUMING);
	for (uint32_t layer = 0; layer < 2; layer++) {
		while (*hbm_fence(rig.hbm, FENCE + layer) != 5)
			;
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_expect_layer(&rig, all[0], layer, i, i);
		for (uint64_t i = 0; i < 20; i++)
			pool_rig_expect_layer(&rig, all[1], layer, i, 7000 + i);
	}
	assert_int_equal(hbm_switch_wait(change, -1), 0);
	grow(all[1], 20, 30, 7000);
	expect(all[0], 0, RIG_MAX, 0);
	expect(all[1], 0, 30, 7000);
	finish();
}

/* Where there is nothing to load, fences are set, too. */
static void test_fences_without_layers(void **state)
{
	(void)state;
	start(pool_rig_layouts[1]);
	struct hbm_sequence *a = pool_rig_sequence(&rig);
	struct hbm_switch_options options = {.in = &a,
					     .in_count = 1,
					     .has_fences = true,
					     .fence_slot = HBM_WIRE_FENCES - 1,
					     .fence_value = 1};
	struct hbm_switch *change;

	suspend(a, HBM_TIER_DDR);
	refused(hbm_submit_switch(rig.pool, &options, &change), HBM_INVALID, "fence");
	options.fence_slot = HBM_WIRE_FENCES - 2;
	assert_int_equal(hbm_submit_switch(rig.pool, &options, &change), 0);
	assert_int_equal(hbm_switch_wait(change, -1), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(*hbm_fence(rig.hbm, HBM_WIRE_FENCES - 2 + i), 1);
	finish();
}

/* While the file is there, the daemon's copies do not begin. */
static char held[160];

static void hold(void)
{
	FILE *file = fopen(held, "we");

	assert_non_null(file);
	fclose(file);
}

static void *let_go(void *arg)
{
	(void)arg;
	usleep(100000);
	unlink(held);

	return NULL;
}

static void refused_while(struct hbm_sequence *sequence, const char *text)
{
	const uint64_t length = RIG_MAX;

	refused(hbm_step(rig.pool, &sequence, &length, 1), HBM_INVALID, text);
	refused(hbm_sequences_resume(rig.pool, &sequence, 1), HBM_INVALID, text);
	refused(hbm_sequences_suspend(rig.pool, &sequence, 1, HBM_TIER_DDR), HBM_INVALID, text);
	refused(hbm_sequence_close(sequence), HBM_INVALID, text);
}

static void cancel(struct hbm_sequence *sequence, const struct hbm_switch_options *options,
		   const char *text)
{
	struct hbm_switch *change;
	pthread_t thread;
	const enum hbm_sequence_state before = pool_rig_facts(sequence).state;
	const uint64_t blocks = blocks_there(), leased = pool_rig_leased(&rig);

	hold();
	assert_int_equal(hbm_submit_switch(rig.pool, options, &change), 0);
	refused_while(sequence, text);
	assert_int_equal(hbm_switch_poll(change), -EAGAIN);
	assert_int_equal(hbm_switch_wait(change, 1), -ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, let_go, NULL), 0);
	assert_int_equal(hbm_switch_cancel(change), 0);
	pthread_join(thread, NULL);

	assert_int_equal(hbm_switch_cancel(change), HBM_NOT_FOUND);
	assert_int_equal(hbm_switch_poll(change), HBM_CANCELLED);
	assert_int_equal(hbm_switch_wait(change, 0), HBM_CANCELLED);
	assert_int_equal(pool_rig_facts(sequence).state, before);
	assert_int_equal(blocks_there(), blocks);
	assert_int_equal(pool_rig_leased(&rig), leased);
	assert_true(spawn_balanced(&daemon_));
}

static void start_held(const char *layout)
{
	char soft[192];

	snprintf(held, sizeof(held), "%s/held", daemon_.dir);
	snprintf(soft, sizeof(soft), "HBM_SOFT=hold=%s", held);
	spawn_start(&daemon_, sets, (const char *[]){soft, NULL});
	fds = spawn_fds(&daemon_);
	start(layout);
}

static void test_cancel(void **state)
{
	(void)state;
	spawn_needs_soft();
	start_held(pool_rig_layouts[1]);
	struct hbm_sequence *a = filled(40, 0);
	const struct hbm_switch_options out = {.out = &a, .out_count = 1, .tier = HBM_TIER_DDR};
	const struct hbm_switch_options in = {.in = &a, .in_count = 1};

	cancel(a, &out, "being suspended");
	expect(a, 0, 40, 0);
	suspend(a, HBM_TIER_DDR);
	cancel(a, &in, "being resumed");
	resume(a);
	expect(a, 0, 40, 0);
	finish();
}

/* What is under way ends with its pool. */
static void test_a_pool_is_closed_meanwhile(void **state)
{
	(void)state;
	spawn_needs_soft();
	start_held(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {filled(40, 0), filled(20, 0)};
	const struct hbm_switch_options options = {
		.out = all, .out_count = 1, .tier = HBM_TIER_DDR, .in = all + 1, .in_count = 1};
	struct hbm_switch *change;
	pthread_t thread;

	suspend(all[1], HBM_TIER_DDR);
	hold();
	assert_int_equal(hbm_submit_switch(rig.pool, &options, &change), 0);
	assert_int_equal(pthread_create(&thread, NULL, let_go, NULL), 0);
	pool_rig_close(&rig);
	pthread_join(thread, NULL);
	stage_finish(fds);
}

/* ---- Promised memory ---- */

static uint64_t promised(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(rig.hbm, 0, &memory), 0);

	return memory.promised;
}

static void test_nothing_is_promised_to_what_is_suspended(void **state)
{
	(void)state;
	const struct hbm_sequence_options options = {.expected = 60};
	struct hbm_sequence *a, *rest;

	start(pool_rig_layouts[0]);
	assert_int_equal(hbm_sequence_open(rig.pool, &options, &a), 0);
	grow(a, 0, 20, 0);
	const uint64_t before = promised();

	assert_true(before > 0);
	suspend(a, HBM_TIER_NVME);
	assert_int_equal(promised(), 0);
	resume(a);
	assert_int_equal(promised(), before);
	suspend(a, HBM_TIER_NVME);
	assert_int_equal(hbm_sequence_close(a), 0);
	assert_int_equal(promised(), 0);

	/* Others have the memory: nothing stays promised to one that stays suspended. */
	assert_int_equal(hbm_sequence_open(rig.pool, &options, &a), 0);
	grow(a, 0, 2, 0);
	suspend(a, HBM_TIER_NVME);
	for (uint64_t n = 1; n <= 8; n++) {
		if (hbm_sequence_open(rig.pool, NULL, &rest) != 0)
			break;
		for (uint64_t i = 1; i <= RIG_MAX && pool_rig_step(&rig, rest, i) == 0; i++)
			;
	}
	refused(hbm_sequences_resume(rig.pool, &a, 1), HBM_NO_SPACE, "memory");
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(promised(), 0);
	finish();
}

/* ---- Before memory is needed ---- */

static uint64_t memory_free(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(rig.hbm, 0, &memory), 0);

	return memory.available + memory.returning;
}

/* Whether a goes before b, among six with priorities and next uses that repeat. */
static bool goes_before(size_t a, size_t b)
{
	if (a / 2 % 2 != b / 2 % 2)
		return a / 2 % 2 < b / 2 % 2;
	if (a % 2 != b % 2)
		return a % 2 > b % 2;

	return a > b;
}

/* The fifth is not idle. Each call goes as far as a model of it does. */
static void test_balance(void **state)
{
	(void)state;
	struct hbm_sequence *all[6];
	bool gone[6] = {false};
	uint64_t wanted = 0;
	size_t count;

	start(pool_rig_layouts[0]);
	for (size_t i = 0; i < 6; i++) {
		const struct hbm_sequence_options options = {.priority = (int32_t)(i / 2 % 2)};
		const uint64_t length = 10 + 5 * i;

		assert_int_equal(hbm_sequence_open(rig.pool, &options, &all[i]), 0);
		grow(all[i], 0, length, 1000 * i);
		assert_int_equal(hbm_sequence_idle(all[i], i != 4, i % 2), 0);
	}

	assert_int_equal(hbm_pool_balance(rig.pool, memory_free(), HBM_TIER_NVME, &count), 0);
	assert_int_equal(count, 0);
	for (unsigned round = 0; round < 4; round++) {
		uint64_t expected = 0, free = memory_free();
		size_t chosen = 0;

		wanted = free + RIG_SLAB * (1 + 3 * round);
		while (free < wanted) {
			size_t best = 6;

			for (size_t i = 0; i < 6; i++)
				if (!gone[i] && i != 4 && (best == 6 || goes_before(i, best)))
					best = i;
			if (best == 6)
				break;
			free += pool_rig_facts(all[best]).mapped_bytes;
			gone[best] = true;
			chosen++;
		}
		expected = free;
		assert_int_equal(hbm_pool_balance(rig.pool, wanted, HBM_TIER_NVME, &count), 0);
		assert_int_equal(count, chosen);
		assert_int_equal(memory_free(), expected);
		for (size_t i = 0; i < 6; i++)
			assert_int_equal(pool_rig_facts(all[i]).state == HBM_SEQUENCE_SUSPENDED,
					 gone[i]);
	}
	for (size_t i = 0; i < 6; i++) {
		if (gone[i])
			resume(all[i]);
		expect(all[i], 0, 10 + 5 * i, 1000 * i);
	}
	/* What was resumed is in use until its user says otherwise. */
	assert_int_equal(hbm_sequence_idle(all[4], false, 0), 0);
	for (size_t i = 0; i < 6; i++)
		if (!gone[i])
			assert_int_equal(hbm_sequence_idle(all[i], false, 0), 0);
	assert_int_equal(hbm_pool_balance(rig.pool, 1ull << 40, HBM_TIER_NVME, &count), 0);
	assert_int_equal(count, 0);
	finish();
}

/* ---- What is refused ---- */

static void test_what_is_refused(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	struct hbm_sequence *a = filled(20, 0), *closed = filled(1, 0), *forks[1];
	struct hbm_sequence *pair[] = {a, a}, *none[] = {NULL}, *gone[] = {closed};
	const uint64_t length = 21;
	const uint32_t from[] = {0};

	assert_int_equal(hbm_sequence_close(closed), 0);
	refused(hbm_sequences_suspend(rig.pool, &a, 1, HBM_TIER_NONE), HBM_INVALID, "tier 0");
	refused(hbm_sequences_suspend(rig.pool, &a, 1, HBM_TIER_HBM), HBM_INVALID, "tier");
	refused(hbm_sequences_suspend(rig.pool, &a, 1, HBM_TIERS), HBM_INVALID, "tier");
	refused(hbm_sequences_suspend(rig.pool, pair, 2, HBM_TIER_DDR), HBM_INVALID, "twice");
	refused(hbm_sequences_suspend(rig.pool, none, 1, HBM_TIER_DDR), HBM_INVALID, "NULL");
	refused(hbm_sequences_suspend(rig.pool, gone, 1, HBM_TIER_DDR), HBM_INVALID, "closed");
	refused(hbm_sequences_resume(rig.pool, &a, 1), HBM_INVALID, "not suspended");
	refused(hbm_sequences_resume(rig.pool, gone, 1), HBM_INVALID, "closed");
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_OPEN);

	suspend(a, HBM_TIER_DDR);
	refused(hbm_sequences_suspend(rig.pool, &a, 1, HBM_TIER_DDR), HBM_INVALID, "suspended");
	refused(hbm_step(rig.pool, &a, &length, 1), HBM_INVALID, "suspended");
	refused(hbm_sequence_fork(a, 1, forks), HBM_INVALID, "suspended");
	refused(hbm_sequence_truncate(a, 1), HBM_INVALID, "suspended");
	refused(hbm_sequence_slide(a, 1), HBM_INVALID, "suspended");
	refused(hbm_sequences_reorder(rig.pool, &a, from, 1), HBM_INVALID, "suspended");
	refused(hbm_sequences_resume(rig.pool, pair, 2), HBM_INVALID, "twice");
	assert_int_equal(pool_rig_facts(a).state, HBM_SEQUENCE_SUSPENDED);
	resume(a);
	refused(hbm_sequences_resume(rig.pool, &a, 1), HBM_INVALID, "not suspended");
	expect(a, 0, 20, 0);
	finish();
}

static void test_close_drops_what_is_suspended(void **state)
{
	(void)state;
	start(pool_rig_layouts[0]);
	struct hbm_sequence *a = filled(20, 0), *b = filled(30, 100);

	suspend(a, HBM_TIER_DDR);
	suspend(b, HBM_TIER_NVME);
	assert_int_equal(hbm_sequence_close(a), 0);
	struct hbm_layout_use use;

	hbm_layout_use(rig.layout, 30, &use);
	assert_int_equal(blocks_there(), use.slabs);
	assert_true(spawn_balanced(&daemon_));
	finish(); /* the other goes with its pool */
}

/* ---- Killed ---- */

static void park(const struct spawn *spawn, uint64_t number)
{
	const struct hbm_pool_options options = {.max_sequences = 8};

	pool_rig_open(&rig, spawn, pool_rig_layouts[0], &options);
	suspend(filled(RIG_MAX, 0), (enum hbm_tier)number);
	child_tell();
	pause();
}

static const struct child_part parts[] = {{"park", park}, {NULL, NULL}};

static void test_what_a_killed_client_had_suspended_goes(void **state)
{
	(void)state;
	struct child child;

	start(pool_rig_layouts[0]);
	for (uint64_t tier = HBM_TIER_DDR; tier <= HBM_TIER_NVME; tier++) {
		child_start(&child, "park", &daemon_, tier);
		child_await(&child);
		assert_true(blocks_there() > 0);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		while (blocks_there() > 0)
			usleep(1000);
		spawn_settle(&daemon_);
		assert_true(spawn_balanced(&daemon_));
	}
	finish();
}

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_suspend_and_resume),
		TEST(test_what_is_suspended_makes_room),
		TEST(test_only_what_is_used_is_stored),
		TEST(test_what_forks_share_is_stored_once),
		TEST(test_forks_that_go_and_come_alone),
		TEST(test_a_group_that_is_refused_goes_on),
		TEST(test_a_switch_needs_no_memory),
		TEST(test_a_switch_that_is_refused),
		TEST(test_layers_arrive_one_after_the_other),
		TEST(test_fences_without_layers),
		TEST(test_cancel),
		TEST(test_a_pool_is_closed_meanwhile),
		TEST(test_nothing_is_promised_to_what_is_suspended),
		TEST(test_balance),
		TEST(test_what_is_refused),
		TEST(test_close_drops_what_is_suspended),
		TEST(test_what_a_killed_client_had_suspended_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
