/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to a commit that are wrong, or that cannot be taken: the commit is undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/client_region.h"
#include "tests/support/fake_stage.h"

#include <hbm/hbm.h>

enum wrong {
	ANOTHER_REGION,
	OUTSIDE,
	MISALIGNED,
	TWO_SLABS_IN_ONE,
	PADDING,
	ENTRY_PADDING,
	THE_SAME_TWICE,
	FEWER_FDS,
	MORE_FDS,
	NOT_ALL,
	TOO_SHORT,
	COUNT_OVERFLOWS,
	BARE,
	WRONGS
};

static bool answer_wrong(struct fake *self, const struct hbm_wire_header *request)
{
	enum wrong wrong = *(enum wrong *)self->arg;

	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	const struct hbm_wire_ranges *asked = (const void *)request;
	char bytes[sizeof(struct hbm_wire_ranges) + 2 * sizeof(struct hbm_wire_range)]
		__attribute__((aligned(8))) = {0};
	struct hbm_wire_ranges *part = (void *)bytes;
	size_t size = sizeof(bytes), fds = 2;
	part->count = 2;
	for (uint64_t i = 0; i < 2; i++)
		part->ranges[i] =
			(struct hbm_wire_range){asked->ranges[0].region, 0, (1 + i) * SLAB, SLAB};

	struct hbm_wire_range *second = &part->ranges[1];
	if (wrong == ANOTHER_REGION)
		second->region++;
	else if (wrong == OUTSIDE)
		second->offset = 3 * SLAB;
	else if (wrong == MISALIGNED)
		second->offset = SLAB + 4096;
	else if (wrong == TWO_SLABS_IN_ONE)
		second->bytes = 2 * SLAB;
	else if (wrong == PADDING)
		part->zero = 1;
	else if (wrong == ENTRY_PADDING)
		second->zero = 1;
	else if (wrong == THE_SAME_TWICE)
		second->offset = SLAB;
	else if (wrong == FEWER_FDS)
		fds = 1;
	else if (wrong == MORE_FDS)
		fds = 3;
	else if (wrong == NOT_ALL)
		part->count = 1, fds = 1, size -= sizeof(*second);
	else if (wrong == TOO_SHORT)
		size -= 8;
	else if (wrong == COUNT_OVERFLOWS)
		part->count = UINT32_MAX;
	else if (wrong == BARE)
		size = sizeof(part->header), fds = 0;

	return fake_reply_message(self, request, part, size, self->slabs, fds);
}

static void test_wrong_answers(void **state)
{
	(void)state;
	enum wrong wrong;
	for (wrong = 0; wrong < WRONGS; wrong++) {
		struct hbm_region *region = client_region_make(4);

		fake.arg = &wrong;
		fake.answer = answer_wrong;
		int rc = client_region_commit(region, 1, 2);
		if (rc != -EPROTO)
			fail_msg("wrong answer %d: hbm_commit() returned %d", (int)wrong, rc);

		assert_int_equal(soft.live("mappings"), 0);
		client_region_reconnect();
		assert_int_equal(soft.live("handles"), 0);
	}
}

/* An fd that is no slab: the device refuses it, and the commit is undone. */
static bool answer_not_a_slab(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *asked = (const void *)request;

	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	char bytes[sizeof(struct hbm_wire_ranges) + 2 * sizeof(struct hbm_wire_range)]
		__attribute__((aligned(8))) = {0};
	struct hbm_wire_ranges *part = (void *)bytes;
	part->count = 2;
	for (uint64_t i = 0; i < 2; i++)
		part->ranges[i] =
			(struct hbm_wire_range){asked->ranges[0].region, 0, i * SLAB, SLAB};

	return fake_reply_message(self, request, part, sizeof(bytes),
				  (int[]){self->slabs[0], self->fences}, 2);
}

static void test_an_fd_that_is_no_slab(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(2);
	fake.answer = answer_not_a_slab;
	assert_int_equal(client_region_commit(region, 0, 2), HBM_DEVICE);
	assert_int_equal(soft.live("mappings"), 0);
	fake.answer = NULL;
	assert_int_equal(client_region_commit(region, 0, 2), 0);
}

/* The same, but answered only when the client has filled the socket. */
static sem_t full;

static bool answer_when_full(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode != HBM_WIRE_COMMIT)
		return false;
	while (sem_wait(&full) < 0)
		;
	return answer_not_a_slab(self, request);
}

/* The undoing has to wait for room, and the requests that fill the socket for their
 * answers. */
static void test_undoing_when_the_socket_is_full(void **state)
{
	(void)state;
	enum { KEYS = 8000, REQUESTS = 50 };
	hbm_key *keys = malloc(KEYS * sizeof(*keys));
	memset(keys, 1, KEYS * sizeof(*keys));
	hbm_ticket commit, tickets[REQUESTS];
	assert_int_equal(sem_init(&full, 0, 0), 0);
	struct hbm_region *region = client_region_make(2);
	struct hbm_range range = {region, 0, 2 * SLAB};
	fake.answer = answer_when_full;
	assert_int_equal(hbm_submit_commit(hbm, &range, 1, &commit), 0);

	for (int i = 0; i < REQUESTS; i++) {
		/* Two messages of this length are what a socket takes by default. */
		if (i == 2)
			sem_post(&full);
		assert_int_equal(
			hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, keys, KEYS, NULL, &tickets[i]),
			0);
	}

	assert_int_equal(hbm_wait(hbm, commit, -1), HBM_DEVICE);
	assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], 1);
	for (int i = 0; i < REQUESTS; i++)
		assert_int_equal(hbm_wait(hbm, tickets[i], -1), HBM_OK);
	fake.answer = NULL;
	assert_int_equal(client_region_commit(region, 0, 2), 0);
	sem_destroy(&full);
	free(keys);
}

/* Commits 6 slabs where only `room` more descriptors may be opened while the replies are
 * handled. */
static int commit_with_room_for(struct hbm_region *region, rlim_t room)
{
	hbm_ticket ticket;
	struct hbm_range range = {region, 0, 6 * SLAB};
	unsigned int before = fake.done[HBM_WIRE_COMMIT];

	assert_int_equal(hbm_submit_commit(hbm, &range, 1, &ticket), 0);
	fake_await(&fake, HBM_WIRE_COMMIT, before + 1);
	struct rlimit old, few;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(0);
	close(next);
	few = old;
	few.rlim_cur = (rlim_t)next + room;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int rc = hbm_wait(hbm, ticket, -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);

	return rc;
}

/* The commit is undone, in whichever part of the reply the descriptors run out, or in the
 * driver, which needs one for each slab; the connection goes on. */
static void test_no_room_for_fds(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(6);
	for (fake.part = 1; fake.part <= 6; fake.part++) {
		unsigned int undone = 0;
		int rc = -EMFILE;

		for (rlim_t room = 0; rc != HBM_OK; room++) {
			unsigned int before = fake.seen[HBM_WIRE_DECOMMIT];

			rc = commit_with_room_for(region, room);
			if (rc == HBM_OK)
				break;

			assert_int_equal(rc, -EMFILE);
			assert_non_null(strstr(hbm_error(hbm), "RLIMIT_NOFILE"));
			assert_int_equal(fake.seen[HBM_WIRE_DECOMMIT], before + 1);
			assert_int_equal(soft.live("mappings"), 0);
			assert_int_equal(soft.live("handles"), 0);
			undone++;
		}

		assert_in_range(undone, 6, 20);
		assert_int_equal(client_region_decommit(region, 0, 6), 0);
	}
}

/* Lost descriptors do not excuse a part that is wrong in itself. */
static bool answer_lost_and_wrong(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_ranges *asked = (const void *)request;

	if (request->opcode != HBM_WIRE_COMMIT)
		return false;

	/* A struct with an array of one range at its end. */
	_Alignas(struct hbm_wire_ranges) char
		part[sizeof(struct hbm_wire_ranges) + sizeof(struct hbm_wire_range)] = {0};
	struct hbm_wire_ranges *ranges = (void *)part;
	ranges->count = 1;
	ranges->ranges[0] = asked->ranges[0];
	ranges->ranges[0].bytes = SLAB;
	ranges->ranges[0].offset = 6 * SLAB; /* was not asked for */

	return fake_reply_message(self, request, part, sizeof(part), self->slabs, 3);
}

static void test_no_room_for_fds_of_a_wrong_part(void **state)
{
	(void)state;
	struct hbm_region *region = client_region_make(8);
	fake.answer = answer_lost_and_wrong;
	assert_int_equal(commit_with_room_for(region, 1), -EPROTO);
	assert_int_equal(hbm_ping(hbm), -ENOTCONN);
	assert_int_equal(soft.live("mappings"), 0);
}

int main(void)
{
#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, client_region_setup, client_region_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_wrong_answers),
		TEST(test_an_fd_that_is_no_slab),
		TEST(test_undoing_when_the_socket_is_full),
		TEST(test_no_room_for_fds),
		TEST(test_no_room_for_fds_of_a_wrong_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
