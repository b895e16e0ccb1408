/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/list.h"

struct item {
	int number;
	struct list link;
};

static int number_of(struct list *node)
{
	return container_of(node, struct item, link)->number;
}

static void assert_numbers(struct list *head, const int *numbers, int count)
{
	int seen = 0;
	list_for_each (node, head) {
		assert_in_range(seen, 0, count - 1);
		assert_int_equal(number_of(node), numbers[seen++]);
		assert_ptr_equal(node->next->prev, node);
		assert_ptr_equal(node->prev->next, node);
	}

	assert_int_equal(seen, count);
}

static void test_push_and_pop(void **state)
{
	(void)state;
	struct list head = LIST_INIT(head);
	struct item a = {.number = 1}, b = {.number = 2}, c = {.number = 3};
	assert_true(list_empty(&head));
	assert_null(list_pop_front(&head));
	list_push_back(&head, &b.link);
	list_push_back(&head, &c.link);
	list_push_front(&head, &a.link);
	assert_false(list_empty(&head));
	assert_numbers(&head, (int[]){1, 2, 3}, 3);
	assert_ptr_equal(list_pop_front(&head), &a.link);
	assert_true(list_empty(&a.link));
	assert_numbers(&head, (int[]){2, 3}, 2);
	list_insert_after(&b.link, &a.link);
	assert_numbers(&head, (int[]){2, 1, 3}, 3);
}

static void test_remove_twice(void **state)
{
	(void)state;
	struct list head = LIST_INIT(head);
	struct item a = {.number = 1}, b = {.number = 2};
	list_push_back(&head, &a.link);
	list_push_back(&head, &b.link);
	list_remove(&a.link);
	list_remove(&a.link);
	assert_numbers(&head, (int[]){2}, 1);
	list_remove(&b.link);
	assert_true(list_empty(&head));
}

static void test_remove_while_walking(void **state)
{
	(void)state;
	struct list head, odd;
	struct item items[10];
	list_init(&head);
	list_init(&odd);

	for (int i = 0; i < 10; i++) {
		items[i].number = i;
		list_push_back(&head, &items[i].link);
	}

	list_for_each_safe (node, after, &head) {
		if (number_of(node) % 2 == 0)
			continue;
		list_remove(node);
		list_push_back(&odd, node);
	}

	assert_numbers(&head, (int[]){0, 2, 4, 6, 8}, 5);
	assert_numbers(&odd, (int[]){1, 3, 5, 7, 9}, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_push_and_pop),
		cmocka_unit_test(test_remove_twice),
		cmocka_unit_test(test_remove_while_walking),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
