/* SPDX-License-Identifier: Apache-2.0 */
/* The next daemon goes on with the state of the one before, or with an empty one and with nothing
 * else that was kept; never with what it does not know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/config/config.h"
#include "daemon/ledger/ledger.h"
#include "daemon/serve/hbmd.h"
#include "daemon/service/state_setup.h"
#include "daemon/state/keep.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"
#include "tests/support/leaks.h"
#include "tests/support/store_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LINE = 256, VERSION_AT = 8 };

/* One daemon after another. */
struct fixture {
	struct leaks leaks;
	struct config config;
	struct ledger ledger;
	struct hbmd hbmd;
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	leaks_begin(&fixture.leaks);
	store_rig_open();
	assert_int_equal(config_defaults(&fixture.config), 0);
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	state_setup_close(&fixture->hbmd);
	config_clear(&fixture->config);
	store_rig_close();
	assert_int_equal(leaks_end(&fixture->leaks), 0);

	return 0;
}

static void start(struct fixture *fixture)
{
	char error[LINE] = "";

	ledger_open(&fixture->ledger, &fixture->config);
	fixture->hbmd = (struct hbmd){.config = &fixture->config, .ledger = &fixture->ledger};
	assert_int_equal(state_setup_open(&fixture->hbmd, error, sizeof(error)), 0);
}

/* Whatever kind of end. */
static void end(struct fixture *fixture)
{
	state_setup_close(&fixture->hbmd);
	store_rig_settle();
	store_rig_next();
}

static uint64_t starts(const struct fixture *fixture)
{
	return state_counter(fixture->hbmd.kept, STATE_STARTS);
}

static int memory(void)
{
	int fd = memfd_create("other", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* As other rooms do. */
static void keep_more(struct fixture *fixture)
{
	int fd = memory();

	assert_int_equal(keep_put("ddr0", fd), 0);
	assert_int_equal(parking_put(fixture->hbmd.parking, parking_id(PARK_SLAB, 1), fd), 0);
	close(fd);
}

/* The state, and a group of parked descriptors. */
static void assert_nothing_else_is_kept(struct fixture *fixture)
{
	assert_int_equal(parking_claim(fixture->hbmd.parking, parking_id(PARK_SLAB, 1)), -1);
	assert_int_equal(keep_take("ddr0"), -1);
	assert_int_equal(store_rig_count(), 3);
	assert_int_equal(keep_count(), 3);
}

static void test_the_next_one_goes_on(void **state)
{
	struct fixture *fixture = *state;
	uint8_t identity[16];

	start(fixture);
	keep_more(fixture);
	memcpy(identity, state_identity(fixture->hbmd.kept), sizeof(identity));
	state_setup_finish(&fixture->hbmd);
	assert_int_equal(starts(fixture), 1);
	end(fixture);

	start(fixture);
	assert_int_equal(starts(fixture), 2);
	assert_memory_equal(state_identity(fixture->hbmd.kept), identity, sizeof(identity));
	int fd = keep_take("ddr0");
	assert_true(fd >= 0);
	close(fd);
	fd = parking_claim(fixture->hbmd.parking, parking_id(PARK_SLAB, 1));
	assert_true(fd >= 0);
	close(fd);
	state_setup_finish(&fixture->hbmd);
	assert_int_equal(store_rig_count(), 4);
}

static void test_what_no_part_takes_is_let_go(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	keep_more(fixture);
	end(fixture);
	start(fixture);
	state_setup_finish(&fixture->hbmd);
	assert_int_equal(starts(fixture), 2);
	assert_nothing_else_is_kept(fixture);
}

static void assert_begins_empty(struct fixture *fixture)
{
	start(fixture);
	assert_int_equal(starts(fixture), 1);
	state_setup_finish(&fixture->hbmd);
	assert_nothing_else_is_kept(fixture);
	end(fixture);
	start(fixture);
	assert_int_equal(starts(fixture), 2); /* with the new one it goes on */
}

static void test_another_version(void **state)
{
	struct fixture *fixture = *state;
	const uint32_t version = STATE_VERSION + 1;

	start(fixture);
	keep_more(fixture);
	assert_int_equal(
		pwrite(state_fd(fixture->hbmd.kept), &version, sizeof(version), VERSION_AT),
		sizeof(version));
	end(fixture);
	assert_begins_empty(fixture);
}

static void test_what_is_no_state(void **state)
{
	struct fixture *fixture = *state;
	int fd = memory();

	assert_int_equal(keep_put("state-a", fd), 0);
	assert_int_equal(keep_put("ddr0", fd), 0);
	close(fd);
	store_rig_settle();
	store_rig_next();
	assert_begins_empty(fixture);
}

static void test_no_state_at_all(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	keep_more(fixture);
	end(fixture);
	keep_drop("state-a");
	assert_begins_empty(fixture);
}

/* A limit has changed: the state moves, and a daemon that is killed on the way leaves two. */
static void test_another_limit(void **state)
{
	struct fixture *fixture = *state;

	start(fixture);
	keep_more(fixture);
	end(fixture);

	fixture->config.limit_sessions *= 2;
	start(fixture);
	assert_int_equal(starts(fixture), 2);
	assert_int_equal(store_rig_count(), 4);
	int old = fcntl(state_fd(fixture->hbmd.kept), F_DUPFD_CLOEXEC, 0);
	end(fixture);

	assert_int_equal(keep_put("state-a", old), 0); /* not dropped yet */
	close(old);
	store_rig_settle();
	store_rig_next();
	fixture->config.limit_sessions *= 2;
	start(fixture);
	assert_true(starts(fixture) >= 3);
	state_setup_finish(&fixture->hbmd);
	assert_nothing_else_is_kept(fixture);
	end(fixture);
	start(fixture);
	assert_true(starts(fixture) >= 4);
}

static void test_kept_by_no_one(void **state)
{
	struct fixture *fixture = *state;

	store_rig_limit(0);
	start(fixture);
	assert_null(fixture->hbmd.kept);
	assert_int_equal(parking_put(fixture->hbmd.parking, 1, 0), 0);
	state_setup_finish(&fixture->hbmd);
	assert_int_equal(keep_count(), 0);
	end(fixture);
	start(fixture);
	assert_null(fixture->hbmd.kept);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_next_one_goes_on), TEST(test_what_no_part_takes_is_let_go),
		TEST(test_another_version),      TEST(test_what_is_no_state),
		TEST(test_no_state_at_all),      TEST(test_another_limit),
		TEST(test_kept_by_no_one),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
