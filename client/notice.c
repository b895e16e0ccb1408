/* SPDX-License-Identifier: Apache-2.0 */
/* notice: see notice.h. */
#include "client/notice.h"

#include "client/connection.h"
#include "client/request.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- Boards ---- */

static uint64_t notice_least_bytes(uint64_t records)
{
	return sizeof(struct hbm_wire_board_head) + records * sizeof(struct hbm_wire_board_record);
}

/* It must be sealed: if it could shrink, the caller could get SIGBUS. NULL: it cannot be
 * mapped. */
static void *notice_map_file(uint64_t bytes, int fd)
{
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &stat) < 0 ||
	    (uint64_t)stat.st_size < bytes)
		return NULL;

	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static bool notice_map(struct board *board, uint64_t records, int fd)
{
	void *head = notice_map_file(board->bytes, fd);
	if (!head)
		return false;

	board->head = head;
	board->records = (void *)(board->head + 1);
	if (board->bytes >=
	    notice_least_bytes(records) + HBM_WIRE_BOARD_EVENTS * sizeof(*board->events))
		board->events = (void *)(board->records + records);

	return true;
}

/* answer.count: the records that were asked for; answer.body: the board. */
static int notice_reply_board(struct hbm *hbm, struct ticket *ticket, struct message *message)
{
	const struct hbm_wire_board_reply *reply = (const void *)message->header;
	struct board *board = ticket->answer.body;

	if (hbm_reply_is_refusal(message))
		return message->header->status;
	if (message->header->status != HBM_OK || message->size != sizeof(*reply) ||
	    message->header->flags != HBM_WIRE_REPLY || message->fds.count != 1 ||
	    reply->records < ticket->answer.count ||
	    reply->bytes < notice_least_bytes(ticket->answer.count))
		return TICKET_BROKEN;

	board->number = reply->board;
	board->count = (uint32_t)ticket->answer.count;
	board->bytes = reply->bytes;

	if (!notice_map(board, reply->records, message->fds.list[0]))
		return TICKET_BROKEN;

	list_push_back(&hbm->boards, &board->link);

	return HBM_OK;
}

bool hbm_board_move(struct board *board, const struct hbm_wire_board_reply *reply, int fd)
{
	const size_t first = sizeof(board->head->notices); /* the daemon's */
	unsigned char *next =
		reply->bytes >= board->bytes ? notice_map_file(board->bytes, fd) : NULL;
	if (!next)
		return false;

	memcpy(next + first, (unsigned char *)board->head + first, board->bytes - first);
	if (mremap(next, board->bytes, board->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, board->head) ==
	    MAP_FAILED) {
		munmap(next, board->bytes);
		return false;
	}

	board->number = reply->board;

	return true;
}

static int notice_take(struct hbm *hbm, const struct message *message)
{
	const struct hbm_wire_ask *ask = (const void *)message->header;

	if (message->header->opcode != HBM_WIRE_ASK || message->size != sizeof(*ask) ||
	    message->header->id != 0 || message->header->status != 0 || message->fds.count > 0 ||
	    message->fds.lost)
		return -EPROTO;

	hbm->notices++;
	list_for_each (node, &hbm->boards) {
		struct board *board = container_of(node, struct board, link);
		board->heard(board, ask);
	}

	return 0;
}

int hbm_board_open(struct hbm *hbm, struct board *board, uint32_t records)
{
	static const struct ticket_kind kind = {.reply = notice_reply_board};
	struct hbm_wire_board_open open = {.records = records};
	struct request request = {
		.opcode = HBM_WIRE_BOARD_OPEN,
		.kind = &kind,
		.answer = {.count = records, .body = board},
		.pieces = {{&open, sizeof(open)}},
		.piece_count = 1,
	};
	hbm->unasked = notice_take; /* one may come right behind the reply */

	return hbm_request_query(hbm, &request);
}

void hbm_board_close(struct hbm *hbm, struct board *board)
{
	struct hbm_wire_board_ref close = {.board = board->number};
	struct request request = {
		.opcode = HBM_WIRE_BOARD_CLOSE,
		.kind = &hbm_kind_bare,
		.pieces = {{&close, sizeof(close)}},
		.piece_count = 1,
	};
	if (!board->head)
		return;

	if (!hbm->broken)
		hbm_request_query(hbm, &request);
	list_remove(&board->link);
	munmap(board->head, board->bytes);
	board->head = NULL;
	board->records = NULL;
	board->events = NULL;
}

/* ---- Notices ---- */

void hbm_board_listen(struct hbm *hbm, const struct board *board)
{
	/* Acquire: the notice that it counts is in the socket by then, or waits for room. */
	if (board->head && __atomic_load_n(&board->head->notices, __ATOMIC_ACQUIRE) != hbm->notices)
		hbm_request_listen(hbm);
}

int hbm_ask(struct hbm *hbm, uint64_t session, uint64_t sequence, enum hbm_ask ask,
	    enum hbm_tier tier)
{
	struct hbm_wire_ask message = {.session = session,
				       .sequence = sequence,
				       .ask = (uint32_t)ask,
				       .tier = (uint32_t)tier};
	struct request request = {
		.opcode = HBM_WIRE_ASK,
		.kind = &hbm_kind_bare,
		.pieces = {{&message, sizeof(message)}},
		.piece_count = 1,
	};

	return hbm_request_query(hbm, &request);
}
