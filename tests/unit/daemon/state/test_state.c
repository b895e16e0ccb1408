/* SPDX-License-Identifier: Apache-2.0 */
/* Records that outlive who wrote them: found again by the next one, whenever the first ended, and
 * never found wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/state/state.h"
#include "tests/support/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPACITY = 64, LINE = 256, KILLS = 200, PAGE = 4096 };

struct body {
	uint64_t key, twice, thrice;
};

static struct seed seed;

static void shapes_of(struct state_shape shapes[STATE_TABLES], uint32_t capacity)
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(struct body), capacity};
}

static struct state *new_state(void)
{
	struct state_shape shapes[STATE_TABLES];
	struct state *state = NULL;

	shapes_of(shapes, CAPACITY);
	assert_int_equal(state_new(&state, shapes), 0);

	return state;
}

/* What the manager keeps. */
static int keep(const struct state *state)
{
	int fd = fcntl(state_fd(state), F_DUPFD_CLOEXEC, 0);
	assert_true(fd >= 0);
	return fd;
}

static int adopt(struct state **state, int fd, uint32_t capacity)
{
	struct state_shape shapes[STATE_TABLES];
	char error[LINE] = "";

	shapes_of(shapes, capacity);
	int r = state_adopt(state, fd, shapes, error, sizeof(error));
	assert_int_equal(r == 0, error[0] == '\0');

	return r;
}

static uint32_t add(struct state *state, enum state_table table, uint64_t key)
{
	const struct body body = {key, 2 * key, 3 * key};
	return state_add(state, table, &body, key + 1);
}

static const struct body *body_of(const struct state *state, enum state_table table, uint32_t index)
{
	return state_body(state, table, index);
}

static void test_records_are_found_again(void **unused)
{
	(void)unused;
	struct state *state = new_state();
	uint8_t identity[16];
	uint32_t first = add(state, STATE_SLABS, 7), second = add(state, STATE_SLABS, 8);

	memcpy(identity, state_identity(state), sizeof(identity));
	state_set_word(state, STATE_SLABS, second, 99);
	state_drop(state, STATE_SLABS, first);
	state_count_to(state, STATE_LAST_SLAB, 8);
	int fd = keep(state);
	state_free(state);

	assert_int_equal(adopt(&state, fd, CAPACITY), 0);
	assert_memory_equal(state_identity(state), identity, sizeof(identity));
	assert_int_equal(state_counter(state, STATE_LAST_SLAB), 8);
	assert_int_equal(state_count(state, STATE_SLABS), 1);
	assert_int_equal(state_next(state, STATE_SLABS, 0), second);
	assert_int_equal(state_next(state, STATE_SLABS, second + 1), STATE_NONE);
	assert_int_equal(body_of(state, STATE_SLABS, second)->thrice, 24);
	assert_int_equal(state_word(state, STATE_SLABS, second), 99);
	assert_int_equal(state_count(state, STATE_BLOCKS), 0);
	assert_int_equal(state_rotten(state), 0);
	/* what was free is used again */
	assert_int_equal(add(state, STATE_SLABS, 9), first);
	state_free(state);
}

static void test_a_full_table_refuses_and_others_do_not(void **unused)
{
	(void)unused;
	struct state *state = new_state();

	for (uint64_t i = 0; i < CAPACITY; i++)
		assert_int_not_equal(add(state, STATE_SLOTS, i), STATE_NONE);
	assert_int_equal(add(state, STATE_SLOTS, 1), STATE_NONE);
	assert_int_not_equal(add(state, STATE_REGIONS, 1), STATE_NONE);
	state_drop(state, STATE_SLOTS, 5);
	assert_int_equal(add(state, STATE_SLOTS, 1), 5);
	state_drop(state, STATE_SLOTS, STATE_NONE);
	state_free(state);
}

static void test_what_has_rotted_is_dropped(void **unused)
{
	(void)unused;
	struct state *state = new_state();
	uint32_t good = add(state, STATE_BLOCKS, 1), bad = add(state, STATE_BLOCKS, 2);
	uint64_t *rotten = (uint64_t *)(uintptr_t)state_body(state, STATE_BLOCKS, bad);

	rotten[1] ^= 1u << 9;
	int fd = keep(state);
	state_free(state);
	assert_int_equal(adopt(&state, fd, CAPACITY), 0);
	assert_int_equal(state_rotten(state), 1);
	assert_int_equal(state_next(state, STATE_BLOCKS, 0), good);
	assert_int_equal(state_count(state, STATE_BLOCKS), 1);
	state_free(state);
}

/* A record that was copied to another place is not one of that place. */
static void test_a_record_is_of_its_place(void **unused)
{
	(void)unused;
	struct state *state = new_state();
	uint32_t one = add(state, STATE_BLOCKS, 1), other = add(state, STATE_BLOCKS, 2);
	const size_t head = 2 * sizeof(uint64_t);

	memcpy((char *)(uintptr_t)state_body(state, STATE_BLOCKS, other) - head,
	       (const char *)state_body(state, STATE_BLOCKS, one) - head,
	       head + sizeof(struct body));
	int fd = keep(state);
	state_free(state);
	assert_int_equal(adopt(&state, fd, CAPACITY), 0);
	assert_int_equal(state_rotten(state), 1);
	assert_int_equal(state_next(state, STATE_BLOCKS, 0), one);
	state_free(state);
}

static void test_other_capacities(void **unused)
{
	(void)unused;
	struct state *state = new_state();
	uint8_t identity[16];

	for (uint64_t i = 0; i < 10; i++)
		add(state, STATE_SESSIONS, i);
	memcpy(identity, state_identity(state), sizeof(identity));
	int fd = keep(state), again = keep(state);
	state_free(state);

	assert_int_equal(adopt(&state, fd, 4 * CAPACITY), 0);
	assert_memory_equal(state_identity(state), identity, sizeof(identity));
	assert_int_equal(state_count(state, STATE_SESSIONS), 10);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(body_of(state, STATE_SESSIONS, i)->twice, 2 * i);
	for (uint64_t i = 10; i < 4 * CAPACITY; i++)
		assert_int_not_equal(add(state, STATE_SESSIONS, i), STATE_NONE);
	state_free(state);

	/* a lower limit loses nothing, and lets nothing new in */
	assert_int_equal(adopt(&state, again, 9), 0);
	assert_int_equal(state_count(state, STATE_SESSIONS), 10);
	assert_int_equal(add(state, STATE_SESSIONS, 11), STATE_NONE);
	state_free(state);
}

/* Whatever the descriptor is, the answer is an error and not a signal. */
static void test_what_is_no_state_is_refused(void **unused)
{
	(void)unused;
	struct state *state = NULL;
	int fd = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(adopt(&state, fd, CAPACITY), -EPROTO); /* not sealed */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(adopt(&state, fd, CAPACITY), -EPROTO); /* empty */
	close(fd);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(adopt(&state, fd, CAPACITY), -EPROTO);
	close(fd);
	assert_null(state);
}

static void test_any_damage_of_the_header(void **unused)
{
	(void)unused;

	for (unsigned at = 0; at < 256; at++) {
		struct state *state = new_state();
		add(state, STATE_BLOCKS, 1);
		int fd = keep(state);
		state_free(state);

		uint8_t byte;
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= (uint8_t)(1u << seed_below(&seed, 8));
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		if (adopt(&state, fd, CAPACITY) == 0)
			state_free(state);
		else
			close(fd);
	}
}

/* Adds and drops until it is killed: a record's key is in its word, too. */
static void churn(struct state *state)
{
	uint32_t indices[CAPACITY];
	uint64_t key = 1;

	for (uint32_t i = 0; i < CAPACITY / 2; i++)
		indices[i] = add(state, STATE_BLOCKS, key++);

	for (uint32_t i = 0;; i = (i + 7) % (CAPACITY / 2)) {
		state_drop(state, STATE_BLOCKS, indices[i]);
		indices[i] = add(state, STATE_BLOCKS, key++);
	}
}

static void test_killed_at_any_moment(void **unused)
{
	(void)unused;

	for (int i = 0; i < KILLS; i++) {
		struct state *state = new_state();
		int fd = keep(state);
		pid_t child = fork();

		if (child == 0)
			churn(state);
		usleep(200 + (useconds_t)seed_below(&seed, 800));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		state_free(state);

		assert_int_equal(adopt(&state, fd, CAPACITY), 0);
		assert_int_equal(state_rotten(state), 0);
		for (uint32_t n = 0; (n = state_next(state, STATE_BLOCKS, n)) != STATE_NONE; n++) {
			const struct body *body = body_of(state, STATE_BLOCKS, n);
			assert_int_equal(body->twice, 2 * body->key);
			assert_int_equal(body->thrice, 3 * body->key);
			assert_int_equal(state_word(state, STATE_BLOCKS, n), body->key + 1);
		}
		state_free(state);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records_are_found_again),
		cmocka_unit_test(test_a_full_table_refuses_and_others_do_not),
		cmocka_unit_test(test_what_has_rotted_is_dropped),
		cmocka_unit_test(test_a_record_is_of_its_place),
		cmocka_unit_test(test_other_capacities),
		cmocka_unit_test(test_what_is_no_state_is_refused),
		cmocka_unit_test(test_any_damage_of_the_header),
		cmocka_unit_test(test_killed_at_any_moment),
	};
	seed_open(&seed, "test_state");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
