/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ten sessions of one tenant and the only one of another load over a link that is slow: the
 * tenants have shares of it by their weights, however many sessions each has. What counts is
 * how many bytes each has got by the same moment, as the daemon says in one answer, and not
 * when that was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <signal.h>
#include <unistd.h>

#define SLAB (2u << 20)
#define BLOCK (1u << 20)
#define MIB (UINT64_C(1) << 20)
#define ALARM_S 120

#define CROWD 2001
#define ALONE 2002
#define SHARERS 2003 /* this and the next one are of one tenant */

enum { SESSIONS = 11, BLOCKS = 3, LOADS = 60 };

static int sockets[SESSIONS]; /* the last is that of ALONE */

static void needed(void)
{
	if (geteuid() == 0)
		return;
	print_message("SKIP: only root can be several users\n");
	skip();
}

static struct raw_blocks transfer(unsigned opcode, uint32_t ns, uint32_t region, unsigned number)
{
	struct raw_blocks message = raw_store(ns, (uint8_t)(1 + number % BLOCKS), region, BLOCK);

	message.head.header.opcode = (uint16_t)opcode;
	message.head.header.id = 1 + number;

	return message;
}

/* Connects, stores some blocks, and asks for them again and again. */
static int begin(uid_t uid)
{
	int socket = -1;

	assert_int_equal(guest_greet(&daemon_, uid, &socket), HBM_OK);
	uint32_t ns = raw_namespace(socket, BLOCK), region = raw_region(socket, 0, SLAB, SLAB);

	for (unsigned i = 0; i < BLOCKS; i++) {
		const struct raw_blocks message = transfer(HBM_WIRE_STORE, ns, region, i);
		assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
	}

	for (unsigned i = 0; i < LOADS; i++) {
		const struct raw_blocks message = transfer(HBM_WIRE_LOAD, ns, region, i);
		assert_true(raw_send(socket, &message, sizeof(message), 0));
	}

	return socket;
}

/* What the one, and all others together, have loaded at one moment. */
struct loaded {
	uint64_t alone, others;
};

static struct loaded look(void)
{
	json_t *document = hbmctl_json("--json sessions");
	const json_t *sessions = hbmctl_array(document, "sessions");
	struct loaded loaded = {0};

	for (size_t i = 0; i < json_array_size(sessions); i++) {
		const json_t *session = json_array_get(sessions, i);
		if (hbmctl_count(session, "uid") == ALONE)
			loaded.alone += hbmctl_count(session, "loaded_bytes");
		else
			loaded.others += hbmctl_count(session, "loaded_bytes");
	}

	json_decref(document);

	return loaded;
}

static struct loaded look_when(uint64_t alone)
{
	struct loaded loaded;

	do
		loaded = look();
	while (loaded.alone < alone);

	return loaded;
}

/* While the one loads 30 MiB, the others are to load so much. */
static void check(const char *const *sets, uid_t crowd, uint64_t least, uint64_t most)
{
	spawn_start(&daemon_, sets, NULL);
	guest_admit(&daemon_);
	for (unsigned i = 0; i < SESSIONS - 1; i++)
		sockets[i] = begin(crowd + (crowd == SHARERS ? i % 2 : 0));
	sockets[SESSIONS - 1] = begin(ALONE);

	struct loaded before = look_when(10 * MIB), after = look_when(before.alone + 30 * MIB);
	uint64_t others = after.others - before.others;
	uint64_t each = (after.alone - before.alone) / 30;

	assert_in_range(after.alone, 0, LOADS * MIB - 1); /* it always wanted more */
	assert_in_range(others, least * each, most * each);
	for (unsigned i = 0; i < SESSIONS; i++)
		close(sockets[i]);
	assert_true(spawn_balanced(&daemon_));
}

#define TENANTS                                                                                    \
	"hbmd.socket_mode=0666", "soft.h2d_gib_s=0.1", "device.cache=0",                           \
		"tenant crowd.match=uid:2001", "tenant alone.match=uid:2002",                      \
		"tenant sharers.match=uid:2003 uid:2004"
#define FROM_DDR "ddr.size=96MiB", "nvme.path=", "nvme.size=0"

static void test_from_ddr(void **state)
{
	(void)state;
	static const char *const sets[] = {TENANTS, FROM_DDR, NULL};

	needed();
	check(sets, CROWD, 18, 48);
}

static void test_by_weight(void **state)
{
	(void)state;
	static const char *const sets[] = {TENANTS, FROM_DDR, "tenant crowd.weight=4",
					   "tenant alone.weight=12", NULL};

	needed();
	check(sets, CROWD, 4, 17);
}

/* Two users that are one tenant have one share. */
static void test_users_of_one_tenant(void **state)
{
	(void)state;
	static const char *const sets[] = {TENANTS, FROM_DDR, NULL};

	needed();
	check(sets, SHARERS, 18, 48);
}

/* Each user that no section matches is a tenant alone. */
static void test_users_without_tenants(void **state)
{
	(void)state;
	static const char *const sets[] = {"hbmd.socket_mode=0666", "soft.h2d_gib_s=0.1",
					   "device.cache=0", FROM_DDR, NULL};

	needed();
	check(sets, CROWD, 18, 48);
}

/* Staging, moves and the disk go by shares, too. */
static void test_from_nvme(void **state)
{
	(void)state;
	static const char *const sets[] = {TENANTS,           "ddr.size=0",     "ddr.staging=12MiB",
					   "nvme.size=96MiB", "limits.moves=8", NULL};

	needed();
	check(sets, CROWD, 15, 55);
}

static int setup(void **state)
{
	alarm(ALARM_S);

	return stage_setup(state);
}

static int teardown(void **state)
{
	alarm(0);

	return stage_teardown(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_from_ddr),
		TEST(test_by_weight),
		TEST(test_users_of_one_tenant),
		TEST(test_users_without_tenants),
		TEST(test_from_nvme),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
