/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transfers, from every kind of end to every other, whole and in pieces, with checksums that
 * are taken, right and wrong, and with every step failing. What is said to have been moved is
 * compared byte by byte; what is refused leaves the target as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/base/checksum.h"
#include "daemon/cache/cache.h"
#include "daemon/device/device.h"
#include "daemon/move/transfer.h"
#include "tests/support/seed.h"
#include "tests/support/transfer_rig.h"

static uint64_t piece; /* of the tests that run */

static void open_rig(struct transfer_rig *rig)
{
	transfer_rig_open(rig);
	rig->context.piece = piece;
}

/* One transfer between two ends, and what is in them: random bytes, and others. */
struct pair {
	struct transfer_rig *rig;
	struct end from, to;
	struct trial trial;
	unsigned char source[TRANSFER_BYTES], before[TRANSFER_BYTES], after[TRANSFER_BYTES];
};

static void pair_open(struct pair *pair, struct transfer_rig *rig, enum end_kind from,
		      enum end_kind to)
{
	static uint64_t state = 1;

	pair->rig = rig;
	pair->trial = (struct trial){0};
	end_open(rig, &pair->from, from, false);
	end_open(rig, &pair->to, to, true);

	for (size_t i = 0; i < TRANSFER_BYTES; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		pair->source[i] = (unsigned char)(state >> 56);
		pair->before[i] = (unsigned char)~pair->source[i];
	}

	end_put(rig, &pair->from, pair->source);
	end_put(rig, &pair->to, pair->before);
}

static void pair_begin(struct pair *pair, enum transfer_checksum mode, uint64_t checksum)
{
	pair->trial.transfer = (struct transfer){.from = pair->from.end,
						 .to = pair->to.end,
						 .checksum_mode = mode,
						 .checksum = checksum};
	trial_begin(pair->rig, &pair->trial);
}

static void pair_close(struct pair *pair)
{
	assert_int_equal(pair->rig->context.active, 1);
	transfer_release(&pair->trial.transfer);
	assert_int_equal(pair->rig->context.active, 0);
	const struct extent_pool *staging = pair->rig->context.staging->extents;
	assert_int_equal(extent_available(staging), extent_capacity(staging));
	end_close(pair->rig, &pair->from);
	end_close(pair->rig, &pair->to);
}

static void pair_assert_target(struct pair *pair, const unsigned char *expected)
{
	if (pair->to.kind == END_NOTHING)
		return;
	end_get(pair->rig, &pair->to, pair->after);
	if (memcmp(pair->after, expected, TRANSFER_BYTES) != 0)
		fail_msg("%s to %s: other bytes", end_name(pair->from.kind),
			 end_name(pair->to.kind));
}

/* How a transfer that worked ends: the bytes are there, and its host memory was shown once,
 * if it has any. */
static void pair_assert_moved(struct pair *pair)
{
	const struct transfer *transfer = &pair->trial.transfer;

	assert_int_equal(transfer->status, HBM_OK);
	pair_assert_target(pair, pair->source);
	assert_int_equal(pair->trial.on_host, transfer->host_valid);
	if (transfer->host_valid)
		assert_memory_equal(transfer->host, pair->source, TRANSFER_BYTES);
}

/* How one that failed before OUT ends. Bytes come into host memory of the target before they
 * are verified; nobody looks at them. */
static void pair_assert_nothing_moved(struct pair *pair, int status)
{
	assert_int_equal(pair->trial.transfer.status, status);
	assert_int_equal(pair->trial.on_host, 0);
	assert_false(pair->trial.transfer.host_valid);
	if (pair->to.kind != END_DDR)
		pair_assert_target(pair, pair->before);
}

static bool is_direct(enum end_kind from, enum end_kind to)
{
	return (from == END_SPANS_0 && to == END_HBM_0) ||
	       (from == END_SPANS_1 && to == END_HBM_1) ||
	       (from == END_HBM_0 && to == END_SPANS_0) || (from == END_HBM_1 && to == END_SPANS_1);
}

/* What a device copies out of a tier does not come by for a checksum to be taken. */
static bool can_take(enum end_kind from, enum end_kind to)
{
	return from == END_SPANS_0 || from == END_SPANS_1 || !is_direct(from, to);
}

/* ---- every pair of ends ---- */

static void try_plain(struct pair *pair, enum end_kind from, enum end_kind to)
{
	bool now = from == END_DDR && to == END_NOTHING;

	pair_open(pair, pair->rig, from, to);
	pair_begin(pair, CHECKSUM_NONE, 0);
	assert_int_equal(pair->trial.done, now);
	assert_int_equal(pair->rig->context.active, 1);
	trial_wait(&pair->trial);
	pair_assert_moved(pair);
	assert_int_equal(pair->trial.transfer.host_valid, !is_direct(from, to));
	pair_close(pair);
}

static void try_take(struct pair *pair, enum end_kind from, enum end_kind to)
{
	pair_open(pair, pair->rig, from, to);
	pair_begin(pair, CHECKSUM_TAKE, 0);
	trial_wait(&pair->trial);
	pair_assert_moved(pair);
	assert_int_equal(pair->trial.transfer.checksum, checksum(pair->source, TRANSFER_BYTES));
	pair_close(pair);
}

/* The right checksum, and one of which each byte is wrong in turn. Bytes that a device copies
 * within its memory, and those that are in host memory already, are not compared. */
static void try_expect(struct pair *pair, enum end_kind from, enum end_kind to)
{
	for (unsigned bit = 0; bit <= 64; bit += 8) {
		pair_open(pair, pair->rig, from, to);
		uint64_t right = checksum(pair->source, TRANSFER_BYTES);
		pair_begin(pair, CHECKSUM_EXPECT, bit < 64 ? right ^ 1ull << bit : right);
		trial_wait(&pair->trial);
		if (bit < 64 && !is_direct(from, to) && from != END_DDR)
			pair_assert_nothing_moved(pair, HBM_MISS);
		else
			pair_assert_moved(pair);

		pair_close(pair);
	}
}

static void test_every_pair_of_ends(void **state)
{
	(void)state;
	static struct pair pair;
	pair.rig = transfer_rig_new();
	open_rig(pair.rig);

	for (enum end_kind from = 0; from < END_NOTHING; from++) {
		for (enum end_kind to = 0; to < END_KINDS; to++) {
			try_plain(&pair, from, to);
			try_expect(&pair, from, to);
			if (can_take(from, to))
				try_take(&pair, from, to);
		}
	}

	transfer_rig_end(pair.rig);
}

/* ---- pieces ---- */

/* A byte on each side of every span of the target. */
static void assert_neighbours(struct pair *pair, bool write)
{
	const struct transfer_end *end = &pair->to.end;

	for (uint32_t i = 0; i < end->span_count; i++) {
		const uint64_t at[] = {pair->to.spans[i].address - 1,
				       pair->to.spans[i].address + pair->to.spans[i].bytes};
		for (int k = 0; k < 2; k++) {
			unsigned char byte = 0x5a;
			const struct soft_calls *call = &pair->rig->rig.call;
			int r = write ? call->poke(end->device->index, at[k], &byte, 1)
				      : call->peek(&byte, end->device->index, at[k], 1);
			assert_int_equal(r, 0);
			assert_int_equal(byte, 0x5a);
		}
	}
}

/* Cuts at random places, with a gap before each span. */
static void cut_at_random(struct end *end, struct seed *seed, uint64_t shift)
{
	uint64_t sizes[TRANSFER_SPANS - 1], left = TRANSFER_BYTES;
	uint32_t count = (uint32_t)seed_below(seed, TRANSFER_SPANS);

	for (uint32_t i = 0; i < count; i++) {
		sizes[i] = 1 + seed_below(seed, left - (count - i));
		left -= sizes[i];
	}

	end_cut(end, sizes, count);
	for (uint32_t i = 0; i < end->end.span_count; i++)
		end->spans[i].address += shift + 3 * (end->end.span_count - i);
}

/* The spans of a source and of its target need not line up, with each other or with
 * anything. */
static void test_spans_that_do_not_line_up(void **state)
{
	(void)state;
	static const enum end_kind kinds[] = {END_SPANS_0, END_SPANS_1, END_HBM_0,
					      END_DDR,     END_NVME,    END_MEMORY};
	static struct pair pair;
	struct transfer_rig *rig = transfer_rig_new();
	struct seed seed;
	seed_open(&seed, __func__);
	open_rig(rig);

	for (unsigned round = 0; round < 60; round++) {
		enum end_kind from = kinds[seed_below(&seed, 6)];
		enum end_kind to = kinds[seed_below(&seed, 2)];
		if (round % 2) {
			enum end_kind swap = from;
			from = to;
			to = swap;
		}

		pair_open(&pair, rig, from, to);
		if (pair.from.end.device)
			cut_at_random(&pair.from, &seed, 1 + seed_below(&seed, 9));
		if (pair.to.end.device) {
			cut_at_random(&pair.to, &seed, 1 + seed_below(&seed, 9));
			assert_neighbours(&pair, true);
		}

		end_put(rig, &pair.from, pair.source);
		pair_begin(&pair, CHECKSUM_EXPECT, checksum(pair.source, TRANSFER_BYTES));
		trial_wait(&pair.trial);
		pair_assert_moved(&pair);
		assert_neighbours(&pair, false);
		pair_close(&pair);
	}

	transfer_rig_end(rig);
}

/* A target without spans: nothing is copied, and done() still comes later. */
static void test_no_spans_copy_nothing(void **state)
{
	(void)state;
	static const enum end_kind from[] = {END_DDR, END_NVME, END_HBM_0, END_SPANS_1};
	static struct pair pair;
	struct transfer_rig *rig = transfer_rig_new();
	open_rig(rig);

	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		pair_open(&pair, rig, from[i], END_SPANS_0);
		pair.to.end.span_count = 0;
		pair_begin(&pair, CHECKSUM_NONE, 0);
		assert_int_equal(pair.trial.done, 0);
		trial_wait(&pair.trial);
		assert_int_equal(pair.trial.transfer.status, HBM_OK);

		pair.to.end.span_count = 1;
		pair_assert_target(&pair, pair.before);
		pair_close(&pair);
	}

	transfer_rig_end(rig);
}

/* ---- steps that fail ---- */

static const struct {
	enum end_kind from, to;
} routes[] = {
	{END_SPANS_0, END_HBM_0},   /* direct, and read back */
	{END_SPANS_0, END_SPANS_1}, /* in and out by devices, through a staging buffer */
	{END_SPANS_1, END_DDR},     /* in */
	{END_HBM_1, END_NVME},      /* in, and out by another */
};

/* The n-th device call of a transfer in three pieces, for every n until a run passes. */
static void fail_each_call(struct transfer_rig *rig, enum end_kind from, enum end_kind to)
{
	static struct pair pair;
	unsigned failures = 0, nth = 1;

	for (bool reached = true; reached; nth++) {
		pair_open(&pair, rig, from, to);
		if (pair.from.end.device) {
			end_cut(&pair.from, (const uint64_t[]){20000, 30000}, 2);
			end_put(rig, &pair.from, pair.source);
		}

		uint64_t before = rig->rig.call.calls("*");
		assert_int_equal(rig->rig.call.fail_nth("*", nth, CUDA_ERROR_UNKNOWN), 0);
		pair_begin(&pair, CHECKSUM_TAKE, 0);
		trial_wait(&pair.trial);
		reached = rig->rig.call.calls("*") - before >= nth;
		assert_int_equal(rig->rig.call.fail_nth(NULL, 0, CUDA_SUCCESS), 0);

		const struct transfer *transfer = &pair.trial.transfer;
		if (transfer->status == HBM_OK) {
			pair_assert_moved(&pair);
			assert_int_equal(transfer->checksum, checksum(pair.source, TRANSFER_BYTES));
		} else {
			assert_int_equal(transfer->status, HBM_DEVICE);
			assert_int_equal(pair.trial.on_host, transfer->host_valid);
			failures++;
		}

		pair_close(&pair);
	}

	assert_in_range(failures, 1, nth);
	assert_in_range(nth, 4, 100);
}

static void test_every_device_call_fails(void **state)
{
	(void)state;
	struct transfer_rig *rig = transfer_rig_new();
	open_rig(rig);
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		fail_each_call(rig, routes[i].from, routes[i].to);
	transfer_rig_end(rig);
}

/* A tier that cannot be read ends the transfer before anything is written. */
static void test_a_read_that_fails(void **state)
{
	(void)state;
	static struct pair pair;
	struct transfer_rig *rig = transfer_rig_new();
	open_rig(rig);
	rig->memory.fail_reads = true;

	for (enum end_kind to = 0; to < END_KINDS; to++) {
		for (int mode = CHECKSUM_NONE; mode <= CHECKSUM_EXPECT; mode += CHECKSUM_EXPECT) {
			pair_open(&pair, rig, END_MEMORY, to);
			pair_begin(&pair, mode, checksum(pair.source, TRANSFER_BYTES));
			trial_wait(&pair.trial);
			pair_assert_nothing_moved(&pair, HBM_IO);
			assert_int_equal(rig->memory.writes, 0);
			pair_close(&pair);
		}
	}

	transfer_rig_end(rig);
}

/* The bytes are in host memory all the same, for readers of it. */
static void test_a_write_that_fails(void **state)
{
	(void)state;
	static struct pair pair;
	struct transfer_rig *rig = transfer_rig_new();
	open_rig(rig);
	rig->memory.fail_writes = true;

	for (enum end_kind from = 0; from < END_MEMORY; from++) {
		pair_open(&pair, rig, from, END_MEMORY);
		pair_begin(&pair, CHECKSUM_EXPECT, checksum(pair.source, TRANSFER_BYTES));
		trial_wait(&pair.trial);
		assert_int_equal(pair.trial.transfer.status, HBM_IO);
		assert_int_equal(pair.trial.on_host, 1);
		assert_memory_equal(pair.trial.transfer.host, pair.source, TRANSFER_BYTES);
		pair_assert_target(&pair, pair.before);
		pair_close(&pair);
	}

	transfer_rig_end(rig);
}

/* An NVMe I/O that is short is continued; one that fails is an answer. */
static void nvme_trial(const char *fail, int status)
{
	static struct pair pair;
	char faults[64];
	struct transfer_rig *rig = transfer_rig_new();

	snprintf(faults, sizeof(faults), "%s", fail);
	free(rig->rig.config.nvme_fail);
	rig->rig.config.nvme_fail = faults;
	open_rig(rig);

	bool read = fail[0] == 'r';
	pair_open(&pair, rig, read ? END_NVME : END_SPANS_0, read ? END_SPANS_0 : END_NVME);
	pair_begin(&pair, CHECKSUM_EXPECT, checksum(pair.source, TRANSFER_BYTES));
	trial_wait(&pair.trial);
	if (status == HBM_OK)
		pair_assert_moved(&pair);
	else if (read)
		pair_assert_nothing_moved(&pair, status);
	else
		assert_int_equal(pair.trial.transfer.status, status);

	pair_close(&pair);
	rig->rig.config.nvme_fail = NULL;
	transfer_rig_end(rig);
}

static void test_nvme_that_is_short_or_fails(void **state)
{
	(void)state;
	nvme_trial("read:1:short", HBM_OK);
	nvme_trial("write:1:short", HBM_OK);
	nvme_trial("read:1:short,read:2:short", HBM_OK);
	nvme_trial("read:1:EIO,read:2:EIO", HBM_IO);
	nvme_trial("write:1:EIO,write:2:EIO", HBM_IO);
	nvme_trial("read:1:short,read:2:EIO,read:3:EIO", HBM_IO);
}

/* ---- the owner's part ---- */

/* The owner gives a transfer up, as when a block is dropped: it ends at its next step, done()
 * comes, and nothing arrives. */
static void test_an_owner_that_gives_up(void **state)
{
	(void)state;
	static struct pair pair;
	struct transfer_rig *rig = transfer_rig_new();
	open_rig(rig);

	for (int fails = 0; fails < 2; fails++) {
		pair_open(&pair, rig, END_MEMORY, END_HBM_0);
		rig->memory.fail_reads = fails;
		pair_begin(&pair, CHECKSUM_EXPECT, checksum(pair.source, TRANSFER_BYTES));
		transfer_fail(&pair.trial.transfer, HBM_NO_SPACE);
		assert_int_equal(pair.trial.done, 0);
		trial_wait(&pair.trial);
		pair_assert_nothing_moved(&pair, HBM_NO_SPACE);
		pair_close(&pair);
	}

	transfer_rig_end(rig);
}

static void test_the_first_failure_is_the_status(void **state)
{
	(void)state;
	struct transfer transfer = {.status = HBM_OK};

	transfer_fail(&transfer, HBM_OK);
	assert_int_equal(transfer.status, HBM_OK);
	transfer_fail(&transfer, HBM_DEVICE);
	transfer_fail(&transfer, HBM_NO_SPACE);
	transfer_fail(&transfer, HBM_OK);
	assert_int_equal(transfer.status, HBM_DEVICE);
}

/* Without a staging buffer a transfer waits for one, and keeps its own until release. */
static void test_a_staging_buffer_is_waited_for(void **state)
{
	(void)state;
	static struct pair first, second;
	struct transfer_rig *rig = transfer_rig_new();
	rig->rig.config.ddr_staging = TRANSFER_BYTES;
	open_rig(rig);
	struct tier *staging = rig->context.staging;
	uint64_t left = extent_available(staging->extents) - TRANSFER_BYTES;
	uint32_t rest = left > 0 ? tier_alloc(staging, left) : 0;

	pair_open(&first, rig, END_MEMORY, END_NOTHING);
	pair_open(&second, rig, END_MEMORY, END_SPANS_0);
	pair_begin(&first, CHECKSUM_NONE, 0);
	pair_begin(&second, CHECKSUM_NONE, 0);
	trial_wait(&first.trial);
	assert_int_equal(rig->memory.reads, 1);
	assert_int_equal(rig->context.active, 2);
	tier_serve(staging);
	assert_memory_equal(first.trial.transfer.host, first.source, TRANSFER_BYTES);
	assert_int_equal(rig->memory.reads, 1);

	transfer_release(&first.trial.transfer);
	tier_serve(staging);
	trial_wait(&second.trial);
	pair_assert_moved(&second);
	if (left > 0)
		tier_free(staging, rest, left);
	end_close(rig, &first.from);
	pair_close(&second);
	transfer_rig_end(rig);
}

static const struct step *started;

static void note_read(const struct tier *tier, uint32_t unit, struct step *step)
{
	(void)tier;
	(void)unit;
	started = step;
}

/* A tier, and the copy queues, do first what a request waits for. */
static void test_urgency_is_handed_on(void **state)
{
	static const struct tier_ops ops = {.read = note_read};

	(void)state;
	struct tier tier = {.ops = &ops};
	struct transfer_context context = {0};
	char memory[8];

	for (int urgent = 0; urgent < 2; urgent++) {
		struct transfer transfer = {.context = &context,
					    .from.place.tier = &tier,
					    .to.host = memory,
					    .bytes = sizeof(memory),
					    .urgent = urgent};

		transfer_begin(&transfer);
		assert_ptr_equal(started, &transfer.step);
		assert_int_equal(started->urgent, urgent);
		assert_ptr_equal(started->host, memory);
		assert_int_equal(started->bytes, sizeof(memory));
	}
}

static unsigned hastened;
static uint64_t hastened_for;

static void note_hasten(struct step *step, struct fair_payer payer)
{
	assert_ptr_equal(step, started);
	hastened++;
	hastened_for = payer.id;
}

/* What the policy wanted becomes urgent in the middle, once. */
static void test_a_transfer_is_hastened(void **state)
{
	static const struct tier_ops ops = {.read = note_read};

	(void)state;
	struct tier tier = {.ops = &ops};
	struct transfer_context context = {0};
	char memory[8];
	struct transfer transfer = {.context = &context,
				    .from.place.tier = &tier,
				    .to.host = memory,
				    .bytes = sizeof(memory)};

	hastened = 0;
	transfer_begin(&transfer);
	transfer.step.queue = &tier;
	transfer.step.hasten = note_hasten;
	transfer_hasten(&transfer, (struct fair_payer){.id = 5});
	transfer_hasten(&transfer, (struct fair_payer){.id = 6});
	assert_int_equal(hastened, 1);
	assert_int_equal(hastened_for, 5);
	assert_true(transfer.urgent);
	assert_int_equal(transfer.payer.id, 5);
}

/* Before it has a staging buffer it waits for that in the turns of the new payer. */
static void test_a_transfer_that_waits_is_hastened(void **state)
{
	static const struct tier_ops ops = {.read = note_read};

	(void)state;
	struct tier tier = {.ops = &ops}, staging;
	struct transfer_context context = {.staging = &staging};
	struct transfer transfers[3];

	assert_int_equal(tier_init(&staging, HBM_TIER_NONE, 0, MIB, 0, 9), 0);
	staging.ops = &tier_ddr_ops;
	for (unsigned i = 0; i < 3; i++) {
		transfers[i] = (struct transfer){.context = &context,
						 .from.place.tier = &tier,
						 .to.place.tier = &tier,
						 .bytes = MIB};
		transfer_begin(&transfers[i]);
		assert_true(transfers[i].waits);
	}

	transfer_hasten(&transfers[2], (struct fair_payer){.id = 5});
	assert_int_equal(tier_grow(&staging, 0, MIB), 0);
	assert_true(transfers[0].staged);
	tier_free(&staging, transfers[0].staging_unit, MIB);
	tier_serve(&staging);
	assert_true(transfers[2].staged);
	assert_true(transfers[1].waits);
	assert_int_equal(started->payer.id, 5);
	tier_clear(&staging);
}

/* Each in one step, and in pieces: four, and three and a rest; more than are in flight. */
int main(void)
{
	static const uint64_t pieces[] = {0, 16384, 20480, 4096};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_pair_of_ends),
		cmocka_unit_test(test_spans_that_do_not_line_up),
		cmocka_unit_test(test_no_spans_copy_nothing),
		cmocka_unit_test(test_every_device_call_fails),
		cmocka_unit_test(test_a_read_that_fails),
		cmocka_unit_test(test_a_write_that_fails),
		cmocka_unit_test(test_nvme_that_is_short_or_fails),
		cmocka_unit_test(test_an_owner_that_gives_up),
		cmocka_unit_test(test_the_first_failure_is_the_status),
		cmocka_unit_test(test_a_staging_buffer_is_waited_for),
		cmocka_unit_test(test_urgency_is_handed_on),
		cmocka_unit_test(test_a_transfer_is_hastened),
		cmocka_unit_test(test_a_transfer_that_waits_is_hastened),
	};
	int failed = 0;

	for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		piece = pieces[i];
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}

	return failed;
}
