/* SPDX-License-Identifier: Apache-2.0 */
/* Completions: all arrive, in order; each batch ends with one call; turns have an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "daemon/base/list.h"
#include "daemon/loop/completions.h"
#include "daemon/loop/loop.h"

enum { THREADS = 4, EACH = 1000 };

struct item {
	struct post post;
	unsigned thread, number;
};

static struct rig {
	struct loop *loop;
	struct completions completions;
	unsigned done[THREADS]; /* of each thread, in order */
	unsigned all, batches, since_batch;
	uint64_t takes_ns;     /* each item */
	unsigned stop_after;   /* items */
	unsigned between, gap; /* turns of others; items since the last one at most */
	unsigned since;
	struct post other;
} rig;

static void item_done(struct post *post)
{
	struct item *item = container_of(post, struct item, post);

	assert_int_equal(item->number, rig.done[item->thread]++);
	rig.all++;
	rig.since_batch++;
	if (++rig.since > rig.gap)
		rig.gap = rig.since;
	for (uint64_t until = clock_now() + rig.takes_ns; clock_now() < until;)
		;
	if (rig.all == rig.stop_after)
		loop_stop(rig.loop);
	free(item);
}

static void batch_done(void *arg)
{
	assert_ptr_equal(arg, &rig);
	assert_in_range(rig.since_batch, 1, UINT32_MAX);
	rig.since_batch = 0;
	rig.batches++;
}

static struct post *new_item(unsigned thread, unsigned number)
{
	struct item *item = calloc(1, sizeof(*item));

	assert_non_null(item);
	*item = (struct item){.post.run = item_done, .thread = thread, .number = number};

	return &item->post;
}

static void other_run(struct post *post)
{
	rig.between++;
	rig.since = 0;
	if (rig.all < rig.stop_after)
		loop_post(rig.loop, post);
}

static void *add_all(void *arg)
{
	unsigned thread = *(const unsigned *)arg;

	for (unsigned n = 0; n < EACH; n += 2) {
		struct post *first = new_item(thread, n);
		first->next = new_item(thread, n + 1);
		completions_add(&rig.completions, first);
	}

	return NULL;
}

static int setup(void **state)
{
	(void)state;
	rig = (struct rig){.stop_after = UINT32_MAX};
	assert_int_equal(loop_new(&rig.loop, &(struct loop_options){.io_depth = 1}), 0);
	completions_open(&rig.completions, rig.loop);
	completions_on_batch(&rig.completions, batch_done, &rig);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	completions_close(&rig.completions);
	loop_free(rig.loop);

	return 0;
}

static void each_thread_s_arrive_in_order(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	unsigned numbers[THREADS];

	rig.stop_after = THREADS * EACH;
	for (unsigned i = 0; i < THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, add_all, &numbers[i]), 0);
	}

	assert_int_equal(loop_run(rig.loop), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(rig.done[i], EACH);
	}

	assert_int_equal(rig.since_batch, 0);
	assert_in_range(rig.batches, 1, THREADS * EACH);
}

/* Each takes as long as a turn may: others have theirs after a few. */
static void a_turn_ends(void **state)
{
	(void)state;
	rig.takes_ns = 50000;
	rig.stop_after = 100;
	rig.other.run = other_run;
	for (unsigned n = 0; n < rig.stop_after; n++)
		completions_add(&rig.completions, new_item(0, n));

	loop_post(rig.loop, &rig.other);
	loop_flush(rig.loop);
	assert_int_equal(rig.all, 100);
	assert_in_range(rig.gap, 1, 8);
	assert_in_range(rig.between, 100 / 8, UINT32_MAX);
}

static void nothing_is_called_after_it_is_switched_off(void **state)
{
	(void)state;
	completions_on_batch(&rig.completions, NULL, NULL);
	completions_add(&rig.completions, new_item(0, 0));
	loop_flush(rig.loop);
	assert_int_equal(rig.all, 1);
	assert_int_equal(rig.batches, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_thread_s_arrive_in_order),
		TEST(a_turn_ends),
		TEST(nothing_is_called_after_it_is_switched_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
