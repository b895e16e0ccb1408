/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences of which some are suspended and others resumed in one operation, and what can be
 * done while it is under way: fences, a cancel, a close of the pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/stage.h"
#include "tests/support/suspend_stage.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* ---- Both at once ---- */

/* As many sequences as fit, and one more that is suspended; none is free. */
static size_t fill_device(struct hbm_sequence **all)
{
	size_t count = 0;

	all[count++] = suspend_filled(RIG_MAX, 0);
	suspend_out(all[0], HBM_TIER_NVME);
	for (;; count++) {
		all[count] = pool_rig_sequence(&suspend_rig);
		if (pool_rig_step(&suspend_rig, all[count], RIG_MAX) != 0)
			break;
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_write(&suspend_rig, all[count], i, 1000 * count + i);
	}
	for (uint64_t n = 1; pool_rig_step(&suspend_rig, all[count], n) == 0; n++)
		;
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, all, 1), HBM_NO_SPACE, "memory");

	return count;
}

static void test_a_switch_needs_no_memory(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[8];
	const size_t count = fill_device(all);

	assert_in_range(count, 2, 7);
	for (uint64_t round = 0; round < 6; round++) {
		const size_t in = round % count, out = (round + 1) % count;
		const uint64_t leased = pool_rig_leased(&suspend_rig);
		const uint64_t address = pool_rig_facts(all[in]).address;

		if (hbm_sequences_switch(suspend_rig.pool, &all[out], 1, HBM_TIER_NVME, &all[in],
					 1) != 0)
			fail_msg("%s", hbm_pool_error(suspend_rig.pool));
		assert_int_equal(pool_rig_leased(&suspend_rig), leased);
		assert_int_equal(pool_rig_facts(all[out]).state, HBM_SEQUENCE_SUSPENDED);
		assert_int_equal(pool_rig_facts(all[out]).mapped_bytes, 0);
		assert_int_equal(pool_rig_facts(all[in]).address, address);
		suspend_expect(all[in], 0, RIG_MAX, 1000 * in);
		assert_true(spawn_balanced(&daemon_));
	}
	suspend_finish();
}

/* What goes out is too little: nothing has changed. */
static void test_a_switch_that_is_refused(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[8];
	const size_t count = fill_device(all);

	suspend_refused(
		hbm_sequences_switch(suspend_rig.pool, &all[count], 1, HBM_TIER_NVME, all, 1),
		HBM_NO_SPACE, "memory");
	suspend_refused(
		hbm_sequences_switch(suspend_rig.pool, &all[1], 1, HBM_TIER_DDR, &all[1], 1),
		HBM_INVALID, "not suspended");
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_SUSPENDED);
	for (size_t i = 1; i < count; i++)
		suspend_expect(all[i], 0, RIG_MAX, 1000 * i);

	/* Some of it is stored and handed over when the rest may not be pinned. */
	suspend_refused(hbm_sequences_switch(suspend_rig.pool, &all[1], 2, HBM_TIER_DDR, all, 1),
			HBM_LIMIT, "stored");
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_SUSPENDED);
	for (size_t i = 1; i < count; i++) {
		assert_int_equal(pool_rig_facts(all[i]).state, HBM_SEQUENCE_OPEN);
		suspend_expect(all[i], 0, RIG_MAX, 1000 * i);
	}
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(hbm_sequence_close(all[1]), 0);
	suspend_in(all[0]);
	suspend_expect(all[0], 0, RIG_MAX, 0);
	suspend_finish();
}

/* ---- Under way ---- */

#define FENCE 100

/* Nothing is called between the submit and the last fence. */
static void test_layers_arrive_one_after_the_other(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {suspend_filled(RIG_MAX, 0), suspend_filled(20, 7000)};
	const struct hbm_switch_options options = {.in = all,
						   .in_count = 2,
						   .has_fences = true,
						   .fence_slot = FENCE,
						   .fence_value = 5};
	struct hbm_switch *change;

	assert_int_equal(hbm_sequences_suspend(suspend_rig.pool, all, 2, HBM_TIER_NVME), 0);
	suspend_scribble();
	assert_int_equal(hbm_submit_switch(suspend_rig.pool, &options, &change), 0);
	assert_int_equal(pool_rig_facts(all[0]).state, HBM_SEQUENCE_RESUMING);
	for (uint32_t layer = 0; layer < 2; layer++) {
		while (*hbm_fence(suspend_rig.hbm, FENCE + layer) != 5)
			;
		for (uint64_t i = 0; i < RIG_MAX; i++)
			pool_rig_expect_layer(&suspend_rig, all[0], layer, i, i);
		for (uint64_t i = 0; i < 20; i++)
			pool_rig_expect_layer(&suspend_rig, all[1], layer, i, 7000 + i);
	}
	assert_int_equal(hbm_switch_wait(change, -1), 0);
	suspend_grow(all[1], 20, 30, 7000);
	suspend_expect(all[0], 0, RIG_MAX, 0);
	suspend_expect(all[1], 0, 30, 7000);
	suspend_finish();
}

/* The first read of layer 1 gets no answer before the file is gone. */
static void start_with_a_late_layer(uint64_t slabs)
{
	char fault[64], gate[160];

	snprintf(fault, sizeof(fault), "nvme.fail=read:%llu+:hang", (unsigned long long)slabs + 1);
	const char *const sets[] = {"device.cache=8MiB", "ddr.size=128MiB", "nvme.size=256MiB",
				    fault, NULL};

	spawn_start(&daemon_, sets, NULL);
	suspend_fds = spawn_fds(&daemon_);
	snprintf(gate, sizeof(gate), "%s.hang", daemon_.nvme);
	FILE *file = fopen(gate, "we");

	assert_non_null(file);
	fclose(file);
	suspend_start(pool_rig_layouts[1]);
}

static void answer(void)
{
	char gate[160];

	snprintf(gate, sizeof(gate), "%s.hang", daemon_.nvme);
	assert_int_equal(unlink(gate), 0);
}

static uint64_t place(struct hbm_sequence *sequence, uint32_t layer)
{
	uint64_t offset;

	assert_int_equal(hbm_layout_offset(suspend_rig.layout, layer, HBM_VALUES, 0, 0, &offset),
			 0);

	return pool_rig_facts(sequence).address + offset;
}

/* A stream that waits for a layer, reads it, and says so. */
static void queue_layer(CUstream stream, struct hbm_sequence *from, struct hbm_sequence *to,
			uint32_t layer)
{
	const struct driver *driver = suspend_rig.kv.driver;
	uint64_t arrived, read;

	assert_int_equal(hbm_fence_device(suspend_rig.hbm, 0, FENCE + layer, &arrived), 0);
	assert_int_equal(hbm_fence_device(suspend_rig.hbm, 0, FENCE + 10 + layer, &read), 0);
	assert_int_equal(driver->cuStreamWaitValue64(stream, arrived, 5, CU_STREAM_WAIT_VALUE_GEQ),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuMemcpyDtoDAsync(place(to, layer), place(from, layer), 8, stream),
			 CUDA_SUCCESS);
	assert_int_equal(driver->cuStreamWriteValue64(stream, read, 1, 0), CUDA_SUCCESS);
}

/* Nothing but the stream waits for fences. Layer 0 has been read while reads of layer 1 have no
 * answer. */
static void test_a_layer_is_used_while_the_next_is_on_its_way(void **state)
{
	(void)state;
	struct hbm_layout *layout;
	struct hbm_buffer buffer;
	struct hbm_layout_use use;

	assert_int_equal(hbm_layout_parse(&layout, pool_rig_layouts[1], NULL, 0), 0);
	assert_int_equal(hbm_layout_use(layout, RIG_MAX, &use), 0);
	assert_int_equal(hbm_layout_buffer(layout, 2, &buffer), 0);
	assert_int_equal(buffer.group, 1);
	hbm_layout_free(layout);
	start_with_a_late_layer(use.slabs / 2);

	struct hbm_sequence *a = suspend_filled(RIG_MAX, 300), *b = suspend_filled(1, 0);
	const struct hbm_switch_options options = {
		.in = &a, .in_count = 1, .has_fences = true, .fence_slot = FENCE, .fence_value = 5};
	const struct driver *driver = suspend_rig.kv.driver;
	struct hbm_switch *change;
	CUstream stream;

	suspend_out(a, HBM_TIER_NVME);
	suspend_scribble();
	driver->cuCtxSetCurrent(suspend_rig.kv.context);
	assert_int_equal(driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	assert_int_equal(hbm_submit_switch(suspend_rig.pool, &options, &change), 0);
	for (uint32_t layer = 0; layer < 2; layer++)
		queue_layer(stream, a, b, layer);

	while (*hbm_fence(suspend_rig.hbm, FENCE + 10) != 1)
		;
	assert_int_equal(hbm_switch_poll(change), -EAGAIN);
	assert_int_equal(*hbm_fence(suspend_rig.hbm, FENCE + 1), 0);
	assert_int_equal(*hbm_fence(suspend_rig.hbm, FENCE + 11), 0);
	assert_int_equal(driver->cuStreamQuery(stream), CUDA_ERROR_NOT_READY);

	answer();
	assert_int_equal(driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(hbm_switch_wait(change, -1), 0);
	assert_int_equal(driver->cuStreamDestroy(stream), CUDA_SUCCESS);
	for (uint32_t layer = 0; layer < 2; layer++)
		pool_rig_see(&suspend_rig, place(b, layer),
			     pool_rig_word(300, layer, HBM_VALUES, false));
	suspend_expect(a, 0, RIG_MAX, 300);
	suspend_finish();
}

/* Where there is nothing to load, fences are set, too. */
static void test_fences_without_layers(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *a = pool_rig_sequence(&suspend_rig);
	struct hbm_switch_options options = {.in = &a,
					     .in_count = 1,
					     .has_fences = true,
					     .fence_slot = HBM_WIRE_FENCES - 1,
					     .fence_value = 1};
	struct hbm_switch *change;

	suspend_out(a, HBM_TIER_DDR);
	suspend_refused(hbm_submit_switch(suspend_rig.pool, &options, &change), HBM_INVALID,
			"fence");
	options.fence_slot = HBM_WIRE_FENCES - 2;
	assert_int_equal(hbm_submit_switch(suspend_rig.pool, &options, &change), 0);
	assert_int_equal(hbm_switch_wait(change, -1), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(*hbm_fence(suspend_rig.hbm, HBM_WIRE_FENCES - 2 + i), 1);
	suspend_finish();
}

static void refused_while(struct hbm_sequence *sequence, const char *text)
{
	const uint64_t length = RIG_MAX;

	suspend_refused(hbm_step(suspend_rig.pool, &sequence, &length, 1), HBM_INVALID, text);
	suspend_refused(hbm_sequences_resume(suspend_rig.pool, &sequence, 1), HBM_INVALID, text);
	suspend_refused(hbm_sequences_suspend(suspend_rig.pool, &sequence, 1, HBM_TIER_DDR),
			HBM_INVALID, text);
	suspend_refused(hbm_sequence_close(sequence), HBM_INVALID, text);
}

static void cancel(struct hbm_sequence *sequence, const struct hbm_switch_options *options,
		   const char *text)
{
	struct hbm_switch *change;
	const enum hbm_sequence_state before = pool_rig_facts(sequence).state;
	const uint64_t blocks = suspend_blocks(), leased = pool_rig_leased(&suspend_rig);

	suspend_hold();
	assert_int_equal(hbm_submit_switch(suspend_rig.pool, options, &change), 0);
	refused_while(sequence, text);
	assert_int_equal(hbm_switch_poll(change), -EAGAIN);
	assert_int_equal(hbm_switch_wait(change, 1), -ETIMEDOUT);
	suspend_let_go();
	assert_int_equal(hbm_switch_cancel(change), 0);
	suspend_join();

	assert_int_equal(hbm_switch_cancel(change), HBM_NOT_FOUND);
	assert_int_equal(hbm_switch_poll(change), HBM_CANCELLED);
	assert_int_equal(hbm_switch_wait(change, 0), HBM_CANCELLED);
	assert_int_equal(pool_rig_facts(sequence).state, before);
	assert_int_equal(suspend_blocks(), blocks);
	assert_int_equal(pool_rig_leased(&suspend_rig), leased);
	assert_true(spawn_balanced(&daemon_));
}

static void test_cancel(void **state)
{
	(void)state;
	spawn_needs_soft();
	suspend_start_held();
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *a = suspend_filled(40, 0);
	const struct hbm_switch_options out = {.out = &a, .out_count = 1, .tier = HBM_TIER_DDR};
	const struct hbm_switch_options in = {.in = &a, .in_count = 1};

	cancel(a, &out, "being suspended");
	suspend_expect(a, 0, 40, 0);
	suspend_out(a, HBM_TIER_DDR);
	cancel(a, &in, "being resumed");
	suspend_in(a);
	suspend_expect(a, 0, 40, 0);
	suspend_finish();
}

/* Also those of layers that have not been asked for: who waits for them would wait forever. */
static void test_the_fences_of_a_switch_that_is_cancelled(void **state)
{
	(void)state;
	spawn_needs_soft();
	suspend_start_held();
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {suspend_filled(20, 0), suspend_filled(40, 0)};
	const struct hbm_switch_options options = {.out = all,
						   .out_count = 1,
						   .tier = HBM_TIER_DDR,
						   .in = all + 1,
						   .in_count = 1,
						   .has_fences = true,
						   .fence_slot = FENCE,
						   .fence_value = 5};

	suspend_out(all[1], HBM_TIER_DDR);
	cancel(all[0], &options, "being suspended");
	for (uint32_t layer = 0; layer < 2; layer++)
		assert_int_equal(*hbm_fence(suspend_rig.hbm, FENCE + layer), 5);
	suspend_in(all[1]);
	suspend_expect(all[0], 0, 20, 0);
	suspend_expect(all[1], 0, 40, 0);
	suspend_finish();
}

static const uint64_t lengths[] = {40, 44, 40, 35};

/* Two that share slabs go, and two others come, or nothing of that. */
static void cancel_after(struct hbm_sequence **out, struct hbm_sequence **in, unsigned looks,
			 unsigned *cancelled)
{
	const struct hbm_switch_options options = {
		.out = out, .out_count = 2, .tier = HBM_TIER_NVME, .in = in, .in_count = 2};
	struct hbm_switch *change;
	bool again = true;

	assert_int_equal(hbm_submit_switch(suspend_rig.pool, &options, &change), 0);
	for (unsigned i = 0; i < looks && again; i++) {
		/* Until something has ended, or all has. */
		for (unsigned k = 0; k < 50 && again; k++)
			again = hbm_switch_poll(change) == -EAGAIN;
	}

	int r = hbm_switch_cancel(change);

	assert_int_equal(hbm_switch_wait(change, -1), r == 0 ? HBM_CANCELLED : 0);
	*cancelled += r == 0;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pool_rig_facts(out[i]).state,
				 r == 0 ? HBM_SEQUENCE_OPEN : HBM_SEQUENCE_SUSPENDED);
		assert_int_equal(pool_rig_facts(in[i]).state,
				 r == 0 ? HBM_SEQUENCE_SUSPENDED : HBM_SEQUENCE_OPEN);
	}
}

static void test_cancel_at_any_point(void **state)
{
	(void)state;
	suspend_start(pool_rig_layouts[0]);
	struct hbm_sequence *all[4] = {suspend_filled(40, 0), NULL, suspend_filled(40, 5000)};
	unsigned cancelled = 0, looks = 0;

	assert_int_equal(hbm_sequence_fork(all[0], 1, &all[1]), 0);
	assert_int_equal(hbm_sequence_fork(all[2], 1, &all[3]), 0);
	suspend_grow(all[1], 40, 44, 100);
	assert_int_equal(pool_rig_step(&suspend_rig, all[3], 40), 0);
	assert_int_equal(hbm_sequence_truncate(all[3], 35), 0);
	assert_int_equal(hbm_sequences_suspend(suspend_rig.pool, all + 2, 2, HBM_TIER_NVME), 0);

	/* Each time a little later, until it is too late. */
	for (bool swapped = false; looks < 400; looks++) {
		struct hbm_sequence **out = swapped ? all + 2 : all, **in = swapped ? all : all + 2;
		const unsigned before = cancelled;

		cancel_after(out, in, looks, &cancelled);
		swapped ^= cancelled == before;
		for (size_t i = 0; i < 4; i++)
			if (pool_rig_facts(all[i]).state == HBM_SEQUENCE_OPEN)
				suspend_expect(all[i], 0, i == 1 ? 40 : lengths[i],
					       i < 2 ? 0 : 5000);
		if (cancelled == before && looks > 10)
			break;
	}
	print_message("%u of %u were cancelled\n", cancelled, looks + 1);
	assert_true(spawn_balanced(&daemon_));
	for (size_t i = 0; i < 4; i++) {
		if (pool_rig_facts(all[i]).state == HBM_SEQUENCE_SUSPENDED)
			suspend_in(all[i]);
		suspend_expect(all[i], 0, i == 1 ? 40 : lengths[i], i < 2 ? 0 : 5000);
	}
	suspend_expect(all[1], 40, 44, 100);
	suspend_finish();
}

/* What is under way ends with its pool. */
static void test_a_pool_is_closed_meanwhile(void **state)
{
	(void)state;
	spawn_needs_soft();
	suspend_start_held();
	suspend_start(pool_rig_layouts[1]);
	struct hbm_sequence *all[2] = {suspend_filled(40, 0), suspend_filled(20, 0)};
	const struct hbm_switch_options options = {
		.out = all, .out_count = 1, .tier = HBM_TIER_DDR, .in = all + 1, .in_count = 1};
	struct hbm_switch *change;

	suspend_out(all[1], HBM_TIER_DDR);
	suspend_hold();
	assert_int_equal(hbm_submit_switch(suspend_rig.pool, &options, &change), 0);
	suspend_let_go();
	pool_rig_close(&suspend_rig);
	suspend_join();
	stage_finish(suspend_fds);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_switch_needs_no_memory),
		TEST(test_a_switch_that_is_refused),
		TEST(test_layers_arrive_one_after_the_other),
		TEST(test_a_layer_is_used_while_the_next_is_on_its_way),
		TEST(test_fences_without_layers),
		TEST(test_cancel),
		TEST(test_the_fences_of_a_switch_that_is_cancelled),
		TEST(test_cancel_at_any_point),
		TEST(test_a_pool_is_closed_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
