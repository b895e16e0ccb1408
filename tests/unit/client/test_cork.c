/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are sent together, and looking for replies before sleeping. */
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "client/connection.h"

enum { FEW = 32, MANY = 3 * CORK_MESSAGES / 2, KEYS_LARGE = 8000 };

static hbm_key keys[KEYS_LARGE];
static hbm_result results[KEYS_LARGE];

static int setup(void **state)
{
	(void)state;
	fake_stage_open(0);
	fake_stage_connect();
	for (uint32_t i = 0; i < KEYS_LARGE; i++)
		memcpy(keys[i].bytes, &(uint32_t){i + 1}, sizeof(i));

	return 0;
}

static hbm_ticket submit(size_t count)
{
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, keys, count, results, &ticket),
			 0);
	return ticket;
}

static unsigned seen(void)
{
	pthread_mutex_lock(&fake.lock);
	unsigned count = fake.seen[HBM_WIRE_TOUCH];
	pthread_mutex_unlock(&fake.lock);
	return count;
}

static void submit_corked(hbm_ticket *tickets, unsigned count)
{
	assert_int_equal(hbm_cork(hbm), 0);
	for (unsigned i = 0; i < count; i++)
		tickets[i] = submit(1);
	assert_int_equal(hbm->cork.count, count);
	assert_int_equal(seen(), 0);
}

static void test_sent_when_uncorked(void **state)
{
	(void)state;
	hbm_ticket tickets[3];
	submit_corked(tickets, 3);
	assert_int_equal(hbm_poll(hbm, tickets[0]), -EAGAIN);
	assert_int_equal(hbm_uncork(hbm), 0);
	assert_int_equal(hbm->cork.count, 0);
	fake_await(&fake, HBM_WIRE_TOUCH, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	assert_int_equal(hbm_uncork(hbm), 0); /* nothing is there, and it was not corked */
}

static void test_sent_by_who_waits(void **state)
{
	(void)state;
	hbm_ticket tickets[2];
	submit_corked(tickets, 2);
	assert_int_equal(hbm_wait(hbm, tickets[1], -1), 0);
	assert_int_equal(hbm_wait(hbm, tickets[0], -1), 0);
	assert_int_equal(seen(), 2);

	tickets[0] = submit(1); /* it is still corked */
	assert_int_equal(hbm->cork.count, 1);
	assert_int_equal(hbm_dispatch(hbm, -1), 1);
	assert_int_equal(hbm_poll(hbm, tickets[0]), 0);
	assert_int_equal(hbm_ping(hbm), 0);
	assert_int_equal(hbm_uncork(hbm), 0);
}

/* More than is kept, of both kinds; a request that never fits is sent at once, and what came
 * before it goes before it. */
static void test_more_than_fits(void **state)
{
	(void)state;
	hbm_ticket tickets[MANY], large[3];

	assert_int_equal(hbm_cork(hbm), 0);
	for (unsigned i = 0; i < MANY; i++)
		tickets[i] = submit(1);
	assert_in_range(hbm->cork.count, 1, CORK_MESSAGES);
	fake_await(&fake, HBM_WIRE_TOUCH, MANY - CORK_MESSAGES);
	for (unsigned i = 0; i < 3; i++)
		large[i] = submit(KEYS_LARGE);
	assert_int_equal(hbm_uncork(hbm), 0);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hbm_wait(hbm, large[i], -1), 0);
	assert_int_equal(seen(), MANY + 3);
}

/* A socket that takes a few of them at a time. */
static void test_a_socket_that_is_full(void **state)
{
	(void)state;
	hbm_ticket tickets[FEW];
	int least = 1;

	assert_int_equal(setsockopt(hbm->channel.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)),
			 0);
	submit_corked(tickets, FEW);
	assert_int_equal(hbm_uncork(hbm), 0);
	for (unsigned i = 0; i < FEW; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), 0);
	assert_int_equal(seen(), FEW);
}

static void test_closed_while_corked(void **state)
{
	(void)state;
	hbm_ticket tickets[2];
	submit_corked(tickets, 2);
	hbm = hbm_close(hbm);
}

static bool hang_up(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_TOUCH)
		return false;
	fake_hang_up(self);
	return true;
}

static void test_the_daemon_goes(void **state)
{
	(void)state;
	hbm_ticket tickets[1];
	fake.answer = hang_up;
	submit_corked(tickets, 1);
	assert_int_equal(hbm_uncork(hbm), 0);
	assert_int_equal(hbm_wait(hbm, tickets[0], -1), -ENOTCONN);

	assert_int_equal(hbm_cork(hbm), 0);
	hbm_ticket ticket;
	assert_int_equal(hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, keys, 1, results, &ticket),
			 -ENOTCONN);
	assert_int_equal(hbm_uncork(hbm), -ENOTCONN);
	assert_non_null(strstr(hbm_error(hbm), "requests not sent"));
}

static void test_replies_that_are_looked_for(void **state)
{
	(void)state;
	hbm->poll_ns = 1000000000; /* as poll_us = 1000000 */
	for (int i = 0; i < 10; i++)
		assert_int_equal(hbm_ping(hbm), 0);
	hbm_ticket ticket = submit(1);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);

	hbm->poll_ns = 1000; /* over before any reply */
	ticket = submit(KEYS_LARGE);
	assert_int_equal(hbm_wait(hbm, ticket, -1), 0);
	assert_int_equal(hbm_dispatch(hbm, 0), 0);
	assert_int_equal(hbm_dispatch(hbm, 1), 0);

	hbm->poll_ns = 1000000;
	fake.answer = hang_up;
	ticket = submit(1);
	assert_int_equal(hbm_wait(hbm, ticket, -1), -ENOTCONN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sent_when_uncorked),
		TEST(test_sent_by_who_waits),
		TEST(test_more_than_fits),
		TEST(test_a_socket_that_is_full),
		TEST(test_closed_while_corked),
		TEST(test_the_daemon_goes),
		TEST(test_replies_that_are_looked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
