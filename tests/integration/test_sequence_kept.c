/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences go on while their daemon is killed, at random moments by a printed seed: they grow,
 * fork, lose tokens, and every token is what was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum {
	SEQUENCES = 6,
	LAYOUTS = 3, /* without windows */
	KILLS = 25,
	OPERATIONS = 60,
	KILL_WITHIN_US = 200000,
};

/* No cache in HBM, whose memory is parked: with that, and what sessions leave that were opened when a
 * daemon died, a group of the parking (parking.h) that is empty may be kept for the next. */
static const char *const sets[] = {"device.memory=116MiB", "device.cache=0", "ddr.size=16MiB",
				   "nvme.path=",           "nvme.size=0",    NULL};
static struct seed seed;
static atomic_bool killed_enough;

struct told {
	struct hbm_sequence *sequence; /* NULL: none */
	uint64_t tokens, values[RIG_MAX];
};

static struct pool_rig rig;
static struct told tolds[SEQUENCES];

static void *killer(void *arg)
{
	for (unsigned i = 0; i < KILLS; i++)
		keeper_kill_within(&daemon_, arg, KILL_WITHIN_US);
	atomic_store(&killed_enough, true);

	return NULL;
}

static void check(struct told *told)
{
	for (uint64_t i = 0; i < told->tokens; i++)
		pool_rig_expect(&rig, told->sequence, i, told->values[i]);
}

static void grow(struct told *told)
{
	static uint64_t value;
	uint64_t end = told->tokens + 1 + seed_below(&seed, 8);

	if (end > RIG_MAX || pool_rig_step(&rig, told->sequence, end) != 0)
		return;
	for (; told->tokens < end; told->tokens++) {
		told->values[told->tokens] = ++value;
		pool_rig_write(&rig, told->sequence, told->tokens, value);
	}
}

static void truncate_it(struct told *told)
{
	told->tokens -= told->tokens > 0 ? seed_below(&seed, told->tokens) : 0;
	assert_int_equal(hbm_sequence_truncate(told->sequence, told->tokens), 0);
}

static void close_it(struct told *told)
{
	assert_int_equal(hbm_sequence_close(told->sequence), 0);
	*told = (struct told){0};
}

static void fork_it(struct told *told, struct told *to)
{
	struct hbm_sequence *made = NULL;
	int r = hbm_sequence_fork(told->sequence, 1, &made);

	if (r == HBM_NO_SPACE)
		return;
	assert_int_equal(r, 0);
	*to = *told;
	to->sequence = made;
	if (pool_rig_step(&rig, made, to->tokens) != 0) /* it cannot be read before */
		close_it(to);
}

static void operate(void)
{
	struct told *told = &tolds[seed_below(&seed, SEQUENCES)],
		    *other = &tolds[seed_below(&seed, SEQUENCES)];
	uint64_t operation = seed_below(&seed, 8);

	if (!told->sequence) {
		told->sequence = pool_rig_sequence(&rig);
		grow(told);
	} else if (operation < 4) {
		grow(told);
	} else if (operation < 6 && !other->sequence) {
		fork_it(told, other);
	} else if (operation < 7) {
		truncate_it(told);
	} else {
		close_it(told);
	}
}

static void play(const char *layout)
{
	const struct hbm_pool_options options = {.max_sequences = SEQUENCES + 1};
	struct seed of_killer = {seed_next(&seed)};
	unsigned operations = 0;
	pthread_t thread;

	memset(tolds, 0, sizeof(tolds));
	pool_rig_open(&rig, &daemon_, layout, &options);
	atomic_store(&killed_enough, false);
	assert_int_equal(pthread_create(&thread, NULL, killer, &of_killer), 0);
	for (; !atomic_load(&killed_enough) || operations < OPERATIONS; operations++) {
		operate();
		for (unsigned i = 0; i < SEQUENCES; i++)
			if (tolds[i].sequence)
				check(&tolds[i]);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);

	spawn_wait_warm(&daemon_);
	pool_rig_check_books(&rig);
	for (unsigned i = 0; i < SEQUENCES; i++)
		if (tolds[i].sequence)
			close_it(&tolds[i]);
	pool_rig_close(&rig);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
}

static void test_sequences_go_on(void **state)
{
	(void)state;
	keeper_start(&daemon_, sets, NULL);
	unsigned stored = keeper_stored(&daemon_);

	for (unsigned i = 0; i < LAYOUTS; i++)
		play(pool_rig_layouts[i]);
	assert_int_equal(keeper_stored(&daemon_), stored);
	assert_int_equal(spawn_log_lines(&daemon_, "error"), 0);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

int main(void)
{
	seed_open(&seed, "sequence_kept");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sequences_go_on),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
