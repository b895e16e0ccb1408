/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tickets against a plain array, and the numbers that must find nothing. */
#include "client/ticket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

static void test_numbers_are_not_used_twice(void **state)
{
	(void)state;
	struct tickets tickets = {0};
	hbm_ticket first, second;
	struct ticket *ticket = hbm_ticket_new(&tickets, &first);
	assert_non_null(ticket);
	assert_true(first != 0);
	assert_int_equal(ticket->state, TICKET_UNSENT);
	assert_ptr_equal(hbm_ticket_find(&tickets, first), ticket);
	hbm_ticket_free(&tickets, ticket);
	assert_null(hbm_ticket_find(&tickets, first));

	ticket = hbm_ticket_new(&tickets, &second);
	assert_int_not_equal(first, second);
	assert_null(hbm_ticket_find(&tickets, first));
	assert_null(hbm_ticket_find(&tickets, 0));
	assert_null(hbm_ticket_find(&tickets, UINT64_MAX));
	assert_null(hbm_ticket_find(&tickets, second ^ 1));
	assert_ptr_equal(hbm_ticket_find(&tickets, second), ticket);
	free(tickets.entries);
}

static void test_generation_skips_zero(void **state)
{
	(void)state;
	struct tickets tickets = {0};
	hbm_ticket id;
	struct ticket *ticket = hbm_ticket_new(&tickets, &id);
	ticket->generation = UINT32_MAX;
	hbm_ticket_free(&tickets, ticket);
	assert_non_null(hbm_ticket_new(&tickets, &id));
	assert_int_equal(id >> 32, 1);
	free(tickets.entries);
}

static void test_ended_are_reported_once(void **state)
{
	(void)state;
	struct tickets tickets = {0};
	hbm_ticket ids[3];
	for (size_t i = 0; i < 3; i++)
		assert_non_null(hbm_ticket_new(&tickets, &ids[i]));
	for (size_t i = 0; i < 3; i++) {
		hbm_ticket_sent(&tickets, hbm_ticket_find(&tickets, ids[i]));
		hbm_ticket_end(&tickets, hbm_ticket_find(&tickets, ids[i]), HBM_OK);
	}

	hbm_ticket_free(&tickets, hbm_ticket_find(&tickets, ids[0]));
	assert_int_equal(hbm_tickets_report(&tickets), 2);
	assert_int_equal(hbm_tickets_report(&tickets), 0);
	hbm_ticket_free(&tickets, hbm_ticket_find(&tickets, ids[1]));
	assert_int_equal(hbm_tickets_report(&tickets), 0);
	free(tickets.entries);
}

#define MOST 3000

/* Grows through several sizes while tickets come and go in any order. */
static void test_against_a_model(void **state)
{
	(void)state;
	struct tickets tickets = {0};
	static hbm_ticket live[MOST];
	size_t count = 0;
	unsigned int seed = 20240611;
	print_message("seed %u\n", seed);

	for (int step = 0; step < 60000; step++) {
		bool add = count == 0 || (count < MOST && rand_r(&seed) % 100 < 52);
		if (add) {
			struct ticket *ticket = hbm_ticket_new(&tickets, &live[count]);
			assert_non_null(ticket);
			ticket->answer.count = (uint32_t)live[count++];
		} else {
			size_t victim = (size_t)rand_r(&seed) % count;
			struct ticket *ticket = hbm_ticket_find(&tickets, live[victim]);

			assert_non_null(ticket);
			assert_int_equal(ticket->answer.count, (uint32_t)live[victim]);
			hbm_ticket_free(&tickets, ticket);
			assert_null(hbm_ticket_find(&tickets, live[victim]));
			live[victim] = live[--count];
		}
	}

	for (size_t i = 0; i < count; i++)
		assert_non_null(hbm_ticket_find(&tickets, live[i]));
	free(tickets.entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_are_not_used_twice),
		cmocka_unit_test(test_generation_skips_zero),
		cmocka_unit_test(test_ended_are_reported_once),
		cmocka_unit_test(test_against_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
