/* SPDX-License-Identifier: Apache-2.0 */
/* Posts: from other threads and from the loop itself, in order, and none is slept through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "tests/support/loop_rig.h"

struct letter {
	struct post post;
	unsigned sender, number;
};

enum { SENDERS = 4, LETTERS = 5000 };
static unsigned expected[SENDERS], arrived;

static void receive(struct post *post)
{
	struct letter *letter = container_of(post, struct letter, post);
	assert_int_equal(letter->number, expected[letter->sender]);
	expected[letter->sender]++;
	if (++arrived == SENDERS * LETTERS)
		loop_stop(loop);
}

static void *send_letters(void *arg)
{
	struct letter *letters = arg;
	for (int i = 0; i < LETTERS; i++)
		loop_post(loop, &letters[i].post);
	return NULL;
}

static void test_posts_keep_their_order(void **state)
{
	(void)state;
	static struct letter letters[SENDERS][LETTERS];
	pthread_t threads[SENDERS];
	memset(expected, 0, sizeof(expected));
	arrived = 0;

	for (unsigned s = 0; s < SENDERS; s++) {
		for (unsigned i = 0; i < LETTERS; i++)
			letters[s][i] =
				(struct letter){.post = {.run = receive}, .sender = s, .number = i};
		assert_int_equal(pthread_create(&threads[s], NULL, send_letters, letters[s]), 0);
	}

	loop_rig_run();
	for (int s = 0; s < SENDERS; s++)
		pthread_join(threads[s], NULL);
	assert_int_equal(arrived, SENDERS * LETTERS);
}

/* One at a time, each sent only when the last has arrived: each must wake the loop. */
struct ping {
	struct post post;
	int back; /* an eventfd */
	unsigned left;
};

static void answer(struct post *post)
{
	struct ping *ping = container_of(post, struct ping, post);
	if (--ping->left == 0)
		loop_stop(loop);
	assert_int_equal(eventfd_write(ping->back, 1), 0);
}

static void *send_pings(void *arg)
{
	struct ping *ping = arg;
	for (unsigned left = ping->left; left > 0; left--) {
		eventfd_t value;
		loop_post(loop, &ping->post);
		if (eventfd_read(ping->back, &value) < 0)
			return arg;
	}

	return NULL;
}

static void test_every_post_wakes_the_loop(void **state)
{
	(void)state;
	struct ping ping = {.post = {.run = answer}, .back = eventfd(0, EFD_CLOEXEC), .left = 2000};
	pthread_t thread;
	void *result;
	assert_int_equal(pthread_create(&thread, NULL, send_pings, &ping), 0);
	loop_rig_run();
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(ping.left, 0);
	close(ping.back);
}

static void post_again(struct post *post)
{
	struct ping *ping = container_of(post, struct ping, post);
	if (--ping->left > 0)
		loop_post(loop, post);
	else
		loop_stop(loop);
}

static void test_posts_from_posts(void **state)
{
	(void)state;
	struct ping ping = {.post = {.run = post_again}, .left = 100};
	loop_post(loop, &ping.post);
	loop_rig_run();
	assert_int_equal(ping.left, 0);
	ping.left = 100;
	loop_post(loop, &ping.post);
	loop_flush(loop);
	assert_int_equal(ping.left, 0);
	loop_rig_run(); /* the last post stopped it */
}

static uint64_t turns_of_chain(unsigned length)
{
	struct ping ping = {.post = {.run = post_again}, .left = length};
	uint64_t before = loop_turns(loop).at_most[HBM_TURNS_ALL];

	loop_post(loop, &ping.post);
	loop_rig_run();
	assert_int_equal(ping.left, 0);

	return loop_turns(loop).at_most[HBM_TURNS_ALL] - before;
}

static bool go_on(struct background *background)
{
	(void)background;
	return true;
}

/* A turn runs what its posts have posted, once, and not while background work waits. */
static void test_posts_of_a_turn(void **state)
{
	(void)state;
	struct background background = {.run = go_on};

	assert_int_equal(turns_of_chain(6), 3);
	loop_background(loop, &background);
	assert_int_equal(turns_of_chain(6), 6);
	loop_background_stop(&background);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_posts_keep_their_order),
		LOOP_RIG_BOTH(test_every_post_wakes_the_loop),
		LOOP_RIG_BOTH(test_posts_from_posts),
		LOOP_RIG_BOTH(test_posts_of_a_turn),
	};
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));

	return cmocka_run_group_tests(tests, NULL, NULL);
}
