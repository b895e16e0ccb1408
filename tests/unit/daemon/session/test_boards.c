/* SPDX-License-Identifier: Apache-2.0 */
/* Boards of sequences: their memory and what it costs; records that a client may write to at any
 * time are copied and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config/config.h"
#include "daemon/session/boards.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

struct fixture {
	struct config config;
	struct ledger ledger;
	struct payer payer;
	struct boards boards;
	struct leaks leaks;
};

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){.config = {.limit_sequences = 96, .limit_sequences_total = 128}};
	fixture.config.limit_sequences_per_user.bytes = 128;
	leaks_begin(&fixture.leaks);
	ledger_open(&fixture.ledger, &fixture.config);
	payer_open(&fixture.payer, &fixture.ledger, PAYER_SESSION);
	boards_init(&fixture.boards, &fixture.payer);
	*state = &fixture;

	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	boards_end(&fixture->boards);
	assert_int_equal(ledger_used(&fixture->ledger.host, LEDGER_SEQUENCES), 0);
	payer_close(&fixture->payer);
	payer_close(&fixture->ledger.unprivileged);
	assert_int_equal(leaks_end(&fixture->leaks), 0);

	return 0;
}

static struct board *open_board(struct fixture *fixture, uint32_t records,
				struct hbm_wire_board_record **client)
{
	struct board *board;
	int fd;

	assert_int_equal(board_open(&fixture->boards, records, &board, &fd), HBM_OK);
	void *head = mmap(NULL, board_bytes(records), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(head, MAP_FAILED);
	close(fd);
	*client = (void *)((char *)head + sizeof(struct hbm_wire_board_head));

	return board;
}

static void leave_board(struct hbm_wire_board_record *client, uint32_t records)
{
	munmap((char *)client - sizeof(struct hbm_wire_board_head), board_bytes(records));
}

static uint64_t charged(const struct fixture *fixture)
{
	return ledger_used(&fixture->payer, LEDGER_SEQUENCES);
}

/* ---- Boards ---- */

static void test_boards_are_charged_in_pages(void **state)
{
	struct fixture *fixture = *state;
	struct board *one, *two, *three;
	int fd;

	assert_int_equal(board_open(&fixture->boards, 16, &one, &fd), HBM_OK);
	close(fd);
	assert_int_equal(charged(fixture), 32);
	assert_int_equal(board_open(&fixture->boards, 17, &two, &fd), HBM_OK);
	close(fd);
	assert_int_equal(charged(fixture), 96);
	assert_int_equal(boards_charged(&fixture->boards), 96);
	assert_int_equal(two->first, 16);
	assert_int_equal(two->before, 1);
	assert_int_equal(board_bytes(16), 4096);
	assert_int_equal(board_bytes(17), 8192);
	assert_int_equal(boards_footprint(96) > 3 * 4096, true);

	assert_int_equal(board_open(&fixture->boards, 1, &three, &fd), HBM_LIMIT);
	assert_int_equal(board_open(&fixture->boards, UINT32_MAX, &three, &fd), HBM_LIMIT);
	assert_int_equal(charged(fixture), 96);

	assert_ptr_equal(boards_find(&fixture->boards, one->number), one);
	board_close(&fixture->boards, one);
	assert_int_equal(two->first, 0);
	assert_int_equal(two->before, 0);
	assert_null(boards_find(&fixture->boards, 1));
	assert_int_equal(charged(fixture), 64);
	assert_int_equal(board_open(&fixture->boards, 1, &three, &fd), HBM_OK);
	close(fd);
	assert_int_equal(three->number, 3); /* numbers are not used again */
}

static void test_size_is_sealed(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_sequence sequence;
	struct board *board;
	int fd;

	assert_int_equal(board_open(&fixture->boards, 40, &board, &fd), HBM_OK);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);

	/* A hole reads as no sequences. */
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   (off_t)board_bytes(40)),
			 0);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(board_read(board, i, &sequence), false);
	boards_set_notices(&fixture->boards, 7);
	assert_int_equal(board->head->notices, 7);
	close(fd);
}

/* ---- Records ---- */

static void test_members(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_board_record *client;
	struct hbm_wire_sequence sequence;
	struct board *board = open_board(fixture, 40, &client);

	assert_int_equal(board_read(board, 39, &sequence), false);
	client[39] = (struct hbm_wire_board_record){.number = 5,
						    .state = HBM_SEQUENCE_SUSPENDED,
						    .device = 3,
						    .tokens = 10,
						    .expected = 20,
						    .max = 30,
						    .own = 40,
						    .shared = 50,
						    .suspended = 60,
						    .next_use = 70,
						    .priority = -8,
						    .name = "request"};
	assert_int_equal(board_read(board, 39, &sequence), true);
	const struct hbm_wire_sequence expected = {.sequence = 5,
						   .name = "request",
						   .state = HBM_SEQUENCE_SUSPENDED,
						   .device = 3,
						   .tokens = 10,
						   .expected = 20,
						   .max = 30,
						   .own = 40,
						   .shared = 50,
						   .suspended = 60,
						   .next_use = 70,
						   .priority = -8};
	assert_memory_equal(&sequence, &expected, sizeof(expected));

	client[39].number = 0;
	assert_int_equal(board_read(board, 39, &sequence), false);
	leave_board(client, 40);
}

/* Whatever is in a record: a name ends, is for terminals, and its session is not its own. */
static void test_garbage(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_board_record *client;
	struct board *board = open_board(fixture, 40, &client);
	struct seed seed;

	seed_open(&seed, "test_garbage");
	for (unsigned round = 0; round < 200; round++) {
		for (size_t i = 0; i < 40 * sizeof(*client) / sizeof(uint64_t); i++)
			((uint64_t *)client)[i] = seed_next(&seed);
		for (uint32_t i = 0; i < 40; i++) {
			struct hbm_wire_sequence sequence;

			assert_int_equal(board_read(board, i, &sequence), client[i].number != 0);
			assert_int_equal(sequence.session, 0);
			assert_int_equal(sequence.zero, 0);
			assert_int_equal(sequence.tokens, client[i].tokens);
			assert_int_equal(sequence.name[HBM_WIRE_SEQUENCE_NAME_BYTES - 1], 0);
			for (const char *c = sequence.name; *c; c++)
				assert_in_range(*c, 0x20, 0x7e);
		}
	}
	leave_board(client, 40);
}

/* ---- A writer meanwhile ---- */

struct writer {
	struct hbm_wire_board_record *record;
	_Atomic bool stop;
	bool breaks; /* the rule: never 0 between two numbers */
};

static void *write_numbers(void *arg)
{
	struct writer *writer = arg;
	struct hbm_wire_board_record *record = writer->record;

	for (uint64_t n = 1; !atomic_load(&writer->stop); n++) {
		if (writer->breaks) {
			__atomic_store_n(&record->number, n, __ATOMIC_RELEASE);
			continue;
		}
		__atomic_store_n(&record->number, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&record->tokens, 3 * n, __ATOMIC_RELEASE);
		__atomic_store_n(&record->suspended, 5 * n, __ATOMIC_RELEASE);
		__atomic_store_n(&record->number, n, __ATOMIC_RELEASE);
	}

	return NULL;
}

static void read_while(struct board *board, struct writer *writer, bool expect_own)
{
	pthread_t thread;
	struct hbm_wire_sequence sequence;

	assert_int_equal(pthread_create(&thread, NULL, write_numbers, writer), 0);
	for (unsigned i = 0; i < 200000; i++)
		if (board_read(board, 0, &sequence) && expect_own) {
			assert_int_equal(sequence.tokens, 3 * sequence.sequence);
			assert_int_equal(sequence.suspended, 5 * sequence.sequence);
		}
	atomic_store(&writer->stop, true);
	pthread_join(thread, NULL);
}

static void test_members_are_those_of_the_number(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_board_record *client;
	struct board *board = open_board(fixture, 1, &client);

	read_while(board, &(struct writer){.record = client}, true);
	read_while(board, &(struct writer){.record = client, .breaks = true}, false); /* ends */
	leave_board(client, 1);
}

/* ---- Events ---- */

static struct hbm_wire_board_head *head_of(struct hbm_wire_board_record *client)
{
	return (void *)((char *)client - sizeof(struct hbm_wire_board_head));
}

/* Event n is of sequence 3 n. */
static void write_event(struct hbm_wire_board_record *client, uint32_t records)
{
	struct hbm_wire_board_head *head = head_of(client);
	struct hbm_wire_board_event *events = (void *)(client + records);
	struct hbm_wire_board_event *to = &events[head->events % HBM_WIRE_BOARD_EVENTS];

	__atomic_store_n(&to->sequence, 3 * head->events, __ATOMIC_RELEASE);
	__atomic_store_n(&to->tokens, 5 * head->events, __ATOMIC_RELEASE);
	__atomic_store_n(&to->time_ns, 7 * head->events, __ATOMIC_RELEASE);
	__atomic_store_n(&head->events, head->events + 1, __ATOMIC_RELEASE);
}

static unsigned count_events(const struct board *board, uint64_t *lowest)
{
	struct hbm_wire_event event;
	unsigned count = 0;

	*lowest = UINT64_MAX;
	for (uint32_t i = 0; i < HBM_WIRE_BOARD_EVENTS; i++) {
		if (!board_read_event(board, i, &event))
			continue;
		assert_int_equal(event.tokens % 5, 0);
		assert_int_equal(event.sequence / 3, event.tokens / 5);
		assert_int_equal(event.time_ns / 7, event.tokens / 5);
		assert_int_equal(event.session, 0);
		assert_int_equal(event.zero, 0);
		*lowest = event.tokens / 5 < *lowest ? event.tokens / 5 : *lowest;
		count++;
	}

	return count;
}

/* All but the place that is written next are read. */
static void test_the_last_events_are_kept(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_board_record *client;
	struct board *board = open_board(fixture, 3, &client);
	uint64_t lowest;

	assert_int_equal(count_events(board, &lowest), 0);
	for (unsigned n = 1; n <= 3 * HBM_WIRE_BOARD_EVENTS; n++) {
		const unsigned kept = n < HBM_WIRE_BOARD_EVENTS ? n : HBM_WIRE_BOARD_EVENTS - 1;

		write_event(client, 3);
		assert_int_equal(count_events(board, &lowest), kept);
		assert_int_equal(lowest, n - kept);
	}

	/* A count that says anything. */
	for (unsigned i = 0; i < 64; i++) {
		struct hbm_wire_event event;

		head_of(client)->events = UINT64_MAX << i;
		for (uint32_t place = 0; place < HBM_WIRE_BOARD_EVENTS; place++)
			board_read_event(board, place, &event);
	}
	leave_board(client, 3);
}

static void *write_events(void *arg)
{
	struct writer *writer = arg;

	while (!atomic_load(&writer->stop))
		write_event(writer->record, 1);

	return NULL;
}

static void test_events_are_whole(void **state)
{
	struct fixture *fixture = *state;
	struct hbm_wire_board_record *client;
	struct board *board = open_board(fixture, 1, &client);
	struct writer writer = {.record = client};
	pthread_t thread;
	uint64_t lowest;

	assert_int_equal(pthread_create(&thread, NULL, write_events, &writer), 0);
	for (unsigned i = 0; i < 20000; i++)
		count_events(board, &lowest);
	atomic_store(&writer.stop, true);
	pthread_join(thread, NULL);
	leave_board(client, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_boards_are_charged_in_pages),
		TEST(test_size_is_sealed),
		TEST(test_members),
		TEST(test_garbage),
		TEST(test_members_are_those_of_the_number),
		TEST(test_the_last_events_are_kept),
		TEST(test_events_are_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
