/* SPDX-License-Identifier: Apache-2.0 */
/* Who opened a connection, and who is a child of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/owner.h"

#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/leaks.h"

/* What a child of `generations` forks says. */
static bool is_here_in_a_child(const struct owner *owner, unsigned generations)
{
	if (generations == 0)
		return hbm_owner_is_here(owner);

	pid_t child = fork();
	if (child == 0)
		_exit(is_here_in_a_child(owner, generations - 1));

	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));

	return WEXITSTATUS(status) != 0;
}

static void check(const struct owner *owner)
{
	assert_true(hbm_owner_is_here(owner));
	assert_false(is_here_in_a_child(owner, 1));
	assert_false(is_here_in_a_child(owner, 2));
	assert_true(hbm_owner_is_here(owner));
}

static void test_by_a_page(void **state)
{
	(void)state;
	struct owner owner;
	struct leaks leaks;

	leaks_begin(&leaks);
	hbm_owner_init(&owner);
	assert_non_null(owner.page);
	check(&owner);
	hbm_owner_clear(&owner);
	assert_int_equal(leaks_end(&leaks), 0);
}

/* As with a kernel that cannot wipe one. */
static void test_by_the_pid(void **state)
{
	(void)state;
	struct owner owner;

	hbm_owner_init(&owner);
	hbm_owner_clear(&owner);
	check(&owner);
	hbm_owner_clear(&owner);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_a_page),
		cmocka_unit_test(test_by_the_pid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
