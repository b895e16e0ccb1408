/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stages of a transfer in pieces, against tiers that end a step when the test says so:
 * which steps have begun at each point, and what follows when each of them fails. No step
 * begins before what it needs has ended.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/base/list.h"
#include "daemon/move/pieces.h"
#include "daemon/move/transfer.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

enum { PIECE = 8 * KIB, BYTES = 100 * KIB, COUNT = 13, FIRST = 7 /* unit of the ends */ };

/* The steps of one tier, in the order in which they began; NULL: ended. */
struct steps {
	struct step *step[COUNT];
	unsigned begun;
};

static struct steps reads, writes;
static struct fair_payer hastened;

static void note_hasten(struct step *step, struct fair_payer payer)
{
	(void)step;
	hastened = payer;
}

static void note(struct steps *steps, uint32_t unit, struct step *step)
{
	unsigned n = steps->begun++;

	assert_in_range(n, 0, COUNT - 1);
	assert_int_equal(unit, FIRST + n * (PIECE / EXTENT_UNIT));
	assert_int_equal(step->bytes, n == COUNT - 1 ? BYTES - n * PIECE : PIECE);
	step->queue = steps;
	step->hasten = note_hasten;
	steps->step[n] = step;
}

static void note_read(const struct tier *tier, uint32_t unit, struct step *step)
{
	(void)tier;
	note(&reads, unit, step);
}

static void note_write(const struct tier *tier, uint32_t unit, struct step *step)
{
	(void)tier;
	note(&writes, unit, step);
}

static void no_flush(const struct tier *tier)
{
	(void)tier;
}

static const struct tier_ops source_ops = {.read = note_read};
static const struct tier_ops disk_ops = {.read = note_read, .write = note_write, .flush = no_flush};

static void end_step(struct steps *steps, unsigned n, int status)
{
	struct step *step = steps->step[n];

	assert_non_null(step);
	steps->step[n] = NULL;
	step->status = status;
	step->done(step);
}

struct trial {
	struct tier source, disk, staging;
	struct transfer_context context;
	struct transfer transfer;
	char *host;
	unsigned on_host, done;
};

static void trial_on_host(struct transfer *transfer)
{
	struct trial *trial = container_of(transfer, struct trial, transfer);

	assert_int_equal(reads.begun, COUNT);
	for (unsigned n = 0; n < COUNT; n++)
		assert_null(reads.step[n]);
	assert_true(transfer->host_valid);
	trial->on_host++;
}

static void trial_done(struct transfer *transfer)
{
	container_of(transfer, struct trial, transfer)->done++;
}

static void trial_begin(struct trial *trial)
{
	memset(&reads, 0, sizeof(reads));
	memset(&writes, 0, sizeof(writes));
	*trial = (struct trial){.source.ops = &source_ops, .disk.ops = &disk_ops};
	trial->host = aligned_alloc(4 * KIB, MIB);
	assert_non_null(trial->host);

	assert_int_equal(tier_init(&trial->staging, HBM_TIER_NONE, 0, MIB, 0, 9), 0);
	trial->staging.ops = &tier_ddr_ops;
	trial->staging.host = trial->host;
	assert_int_equal(tier_grow(&trial->staging, 0, MIB), 0);

	trial->context = (struct transfer_context){.staging = &trial->staging, .piece = PIECE};
	trial->transfer = (struct transfer){.context = &trial->context,
					    .from.place = {&trial->source, FIRST},
					    .to.place = {&trial->disk, FIRST},
					    .bytes = BYTES,
					    .nvme_bytes = BYTES,
					    .on_host = trial_on_host,
					    .done = trial_done};
	transfer_begin(&trial->transfer);
}

static void trial_end(struct trial *trial)
{
	assert_int_equal(trial->done, 1);
	assert_null(trial->transfer.at);
	assert_null(trial->transfer.pieces);
	for (unsigned n = 0; n < COUNT; n++) {
		assert_null(reads.step[n]);
		assert_null(writes.step[n]);
	}

	transfer_release(&trial->transfer);
	tier_clear(&trial->staging);
	tier_clear(&trial->source);
	tier_clear(&trial->disk);
	free(trial->host);
}

static void assert_begun(unsigned read, unsigned written)
{
	assert_int_equal(reads.begun, read);
	assert_int_equal(writes.begun, written);
}

/* A write begins when its piece and all before it are there; so many are under way. */
static void test_a_write_follows_its_piece(void **state)
{
	(void)state;
	struct trial trial;
	trial_begin(&trial);

	assert_begun(PIECES_IN_FLIGHT, 0);
	assert_ptr_equal(trial.transfer.at, &trial.source);
	end_step(&reads, 1, HBM_OK);
	assert_begun(PIECES_IN_FLIGHT, 0);
	end_step(&reads, 0, HBM_OK);
	assert_begun(PIECES_IN_FLIGHT + 2, 2);
	assert_ptr_equal(trial.transfer.at, &trial.disk);
	assert_ptr_equal(writes.step[1]->host, trial.transfer.host + PIECE);

	for (unsigned n = 2; n < COUNT; n++)
		end_step(&reads, n, HBM_OK);
	assert_int_equal(trial.on_host, 1);
	assert_begun(COUNT, PIECES_IN_FLIGHT);

	for (unsigned n = 0; n < COUNT; n++) {
		assert_int_equal(trial.done, 0);
		end_step(&writes, n, HBM_OK);
	}

	assert_int_equal(trial.transfer.status, HBM_OK);
	trial_end(&trial);
}

/* Nothing begins after it, and the transfer ends when nothing is in flight. */
static void test_each_read_fails(void **state)
{
	(void)state;

	for (unsigned bad = 0; bad < COUNT; bad++) {
		struct trial trial;
		trial_begin(&trial);
		for (unsigned n = 0; n < bad; n++)
			end_step(&reads, n, HBM_OK);
		unsigned read = reads.begun, written = writes.begun;

		end_step(&reads, bad, HBM_DEVICE);
		for (unsigned n = bad + 1; n < read; n++) {
			assert_int_equal(trial.done, 0);
			end_step(&reads, n, HBM_OK);
		}

		for (unsigned n = 0; n < written; n++) {
			assert_int_equal(trial.done, 0);
			end_step(&writes, n, n == 0 ? HBM_IO : HBM_OK);
		}

		assert_begun(read, written);
		assert_int_equal(trial.transfer.status, HBM_DEVICE);
		assert_int_equal(trial.on_host, 0);
		assert_false(trial.transfer.host_valid);
		trial_end(&trial);
	}
}

/* No write begins after it, but the bytes come into host memory all the same. */
static void test_each_write_fails(void **state)
{
	static const int statuses[] = {HBM_IO, HBM_CANCELLED};

	(void)state;
	for (unsigned i = 0; i < COUNT * 2; i++) {
		unsigned bad = i / 2;
		struct trial trial;
		trial_begin(&trial);
		for (unsigned n = 0; n <= bad; n++) {
			end_step(&reads, n, HBM_OK);
			end_step(&writes, n, n == bad ? statuses[i % 2] : HBM_OK);
		}

		for (unsigned n = bad + 1; n < COUNT; n++)
			end_step(&reads, n, HBM_OK);
		assert_begun(COUNT, bad + 1);
		assert_int_equal(trial.transfer.status, statuses[i % 2]);
		assert_int_equal(trial.on_host, 1);
		assert_true(trial.transfer.host_valid);
		trial_end(&trial);
	}
}

/* What is in flight, and what begins later. */
static void test_a_transfer_is_hastened(void **state)
{
	(void)state;
	struct trial trial;
	trial_begin(&trial);
	assert_false(reads.step[0]->urgent);
	hastened = (struct fair_payer){0};

	transfer_hasten(&trial.transfer, (struct fair_payer){.id = 5});
	assert_int_equal(hastened.id, 5);
	for (unsigned n = 0; n < COUNT; n++) {
		end_step(&reads, n, HBM_OK);
		assert_true(writes.step[n]->urgent);
		assert_int_equal(writes.step[n]->payer.id, 5);
		end_step(&writes, n, HBM_OK);
	}

	trial_end(&trial);
}

/* A copy of one piece may go on: the staging buffer is not used again. */
static void test_a_late_piece(void **state)
{
	(void)state;
	static struct device device;
	struct trial trial;
	trial_begin(&trial);
	uint64_t free_before = extent_available(trial.staging.extents);

	reads.step[3]->late = &device;
	end_step(&reads, 3, HBM_DEVICE);
	for (unsigned n = 0; n < PIECES_IN_FLIGHT; n++)
		if (n != 3)
			end_step(&reads, n, HBM_OK);
	assert_ptr_equal(trial.transfer.late, &device);
	transfer_release(&trial.transfer);
	assert_int_equal(extent_available(trial.staging.extents), free_before);
	trial.transfer.context->active++;
	trial_end(&trial);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_write_follows_its_piece),
		cmocka_unit_test(test_each_read_fails),
		cmocka_unit_test(test_each_write_fails),
		cmocka_unit_test(test_a_transfer_is_hastened),
		cmocka_unit_test(test_a_late_piece),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
