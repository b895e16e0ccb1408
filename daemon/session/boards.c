/* SPDX-License-Identifier: Apache-2.0 */
/* boards: see boards.h. */
#include "daemon/session/boards.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BOARD_UNIT 32 /* records of a page */
#define BOARD_TRIES 4 /* looks at a record whose number changes */
#define BOARD_EVENTS_CHARGE 15
static_assert(HBM_WIRE_BOARD_EVENTS * sizeof(struct hbm_wire_board_event) ==
		      BOARD_EVENTS_CHARGE * sizeof(struct hbm_wire_board_record),
	      "events take as much as these records");

void boards_init(struct boards *boards, struct payer *payer)
{
	*boards = (struct boards){.payer = payer};
	list_init(&boards->all);
}

bool boards_is_empty(const struct boards *boards)
{
	return list_empty(&boards->all);
}

/* ---- Size ---- */

/* The head counts as one. */
uint64_t board_charge(uint32_t records)
{
	const uint64_t all = (uint64_t)records + 1 + BOARD_EVENTS_CHARGE;

	return (all + BOARD_UNIT - 1) / BOARD_UNIT * BOARD_UNIT;
}

uint64_t boards_charged(const struct boards *boards)
{
	uint64_t charged = 0;

	list_for_each (node, &boards->all)
		charged += board_charge(container_of(node, struct board, link)->count);

	return charged;
}

static_assert(sizeof(struct hbm_wire_board_head) == sizeof(struct hbm_wire_board_record),
	      "the head is as large as a record");

uint64_t board_bytes(uint32_t records)
{
	return board_charge(records) * sizeof(struct hbm_wire_board_record);
}

uint64_t boards_footprint(uint64_t charged)
{
	return charged * sizeof(struct hbm_wire_board_record) +
	       charged / BOARD_UNIT * (sizeof(struct board) + 32);
}

/* ---- Open and close ---- */

static int boards_map(struct board *board, int fd)
{
	const uint64_t bytes = board_bytes(board->count);

	if (ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;

	void *head = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (head == MAP_FAILED)
		return -errno;

	board->head = head;

	return 0;
}

static int boards_make(struct board *board, int *out)
{
	int fd = memfd_create("hbm-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;

	int r = boards_map(board, fd);
	if (r < 0)
		close(fd);
	else
		*out = fd;

	return r;
}

/* Each board knows how many boards and records are before it. */
static void boards_count(const struct boards *boards)
{
	uint64_t first = 0;
	uint32_t before = 0;

	list_for_each (node, &boards->all) {
		struct board *board = container_of(node, struct board, link);

		board->first = first;
		board->before = before++;
		first += board->count;
	}
}

int board_open(struct boards *boards, uint32_t records, struct board **out, int *fd)
{
	struct board *board = calloc(1, sizeof(*board));
	if (!board)
		return -ENOMEM;

	if (ledger_charge(&board->charge, boards->payer, LEDGER_SEQUENCES, board_charge(records)) !=
	    HBM_OK) {
		free(board);
		return HBM_LIMIT;
	}

	board->count = records;
	int r = boards_make(board, fd);
	if (r < 0) {
		ledger_release(&board->charge);
		free(board);
		return r;
	}

	board->number = ++boards->last;
	list_push_back(&boards->all, &board->link);
	boards_count(boards);
	*out = board;

	return HBM_OK;
}

struct board *boards_find(const struct boards *boards, uint32_t number)
{
	list_for_each (node, &boards->all) {
		struct board *board = container_of(node, struct board, link);
		if (board->number == number)
			return board;
	}

	return NULL;
}

void board_close(struct boards *boards, struct board *board)
{
	list_remove(&board->link);
	boards_count(boards);
	munmap(board->head, board_bytes(board->count));
	ledger_release(&board->charge);
	free(board);
}

void boards_end(struct boards *boards)
{
	while (!boards_is_empty(boards))
		board_close(boards, container_of(boards->all.next, struct board, link));
}

/* ---- What is on them ---- */

void boards_set_notices(struct boards *boards, uint64_t notices)
{
	list_for_each (node, &boards->all) {
		struct board *board = container_of(node, struct board, link);

		/* Release: the notice that it counts is in the socket by then. */
		__atomic_store_n(&board->head->notices, notices, __ATOMIC_RELEASE);
	}
}

static_assert(offsetof(struct hbm_wire_board_record, number) == 0, "the number comes first");

/* One look at a record. False: the number has changed meanwhile. */
static bool boards_copy(const struct hbm_wire_board_record *record,
			struct hbm_wire_board_record *copy)
{
	const uint64_t *from = (const uint64_t *)record;
	uint64_t *to = (uint64_t *)copy;

	/* Acquire: the other members are read after it, and it is read again after them. */
	to[0] = __atomic_load_n(&from[0], __ATOMIC_ACQUIRE);
	if (to[0] == 0)
		return true;

	for (size_t i = 1; i < sizeof(*copy) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);

	return __atomic_load_n(&from[0], __ATOMIC_RELAXED) == to[0];
}

/* For display on terminals, as the name of a session is; what is behind its end is cut. */
static void boards_copy_name(char to[HBM_WIRE_SEQUENCE_NAME_BYTES],
			     const char from[HBM_WIRE_SEQUENCE_NAME_BYTES])
{
	size_t length = strnlen(from, HBM_WIRE_SEQUENCE_NAME_BYTES - 1);

	memset(to, 0, HBM_WIRE_SEQUENCE_NAME_BYTES);
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)from[i];
		to[i] = (char)(c < 0x20 || c >= 0x7f ? '?' : c);
	}
}

bool board_read(const struct board *board, uint32_t record, struct hbm_wire_sequence *out)
{
	const struct hbm_wire_board_record *records = (const void *)(board->head + 1);
	struct hbm_wire_board_record copy = {0};
	unsigned tries = 0;

	assert(record < board->count);
	while (!boards_copy(&records[record], &copy))
		if (++tries == BOARD_TRIES)
			return false;
	if (copy.number == 0)
		return false;

	*out = (struct hbm_wire_sequence){.sequence = copy.number,
					  .state = copy.state,
					  .device = copy.device,
					  .tokens = copy.tokens,
					  .expected = copy.expected,
					  .max = copy.max,
					  .own = copy.own,
					  .shared = copy.shared,
					  .suspended = copy.suspended,
					  .next_use = copy.next_use,
					  .priority = copy.priority};
	boards_copy_name(out->name, copy.name);

	return true;
}

/* Whether the event at a place is one of those that the client has written and has not begun to
 * write over. `count`: of its events so far. */
static bool boards_has_event(uint64_t count, uint32_t place, uint64_t *number)
{
	const uint64_t next = count % HBM_WIRE_BOARD_EVENTS;
	const uint64_t age = (next + HBM_WIRE_BOARD_EVENTS - place) % HBM_WIRE_BOARD_EVENTS;

	/* Age 0: the place that is written next, and perhaps now. */
	*number = count - age;

	return age > 0 && age <= count;
}

bool board_read_event(const struct board *board, uint32_t place, struct hbm_wire_event *out)
{
	const struct hbm_wire_board_record *records = (const void *)(board->head + 1);
	const struct hbm_wire_board_event *events = (const void *)(records + board->count);
	const uint64_t *from = (const uint64_t *)&events[place];
	struct hbm_wire_board_event copy;
	uint64_t *to = (uint64_t *)&copy;
	uint64_t number;

	assert(place < HBM_WIRE_BOARD_EVENTS);

	/* Acquire: the event is read after the count that includes it, and the count again after
	 * the event. */
	if (!boards_has_event(__atomic_load_n(&board->head->events, __ATOMIC_ACQUIRE), place,
			      &number))
		return false;
	for (size_t i = 0; i < sizeof(copy) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&board->head->events, __ATOMIC_RELAXED) - number >=
	    HBM_WIRE_BOARD_EVENTS)
		return false;

	*out = (struct hbm_wire_event){.sequence = copy.sequence,
				       .time_ns = copy.time_ns,
				       .tokens = copy.tokens,
				       .bytes = copy.bytes,
				       .event = copy.event};

	return true;
}
