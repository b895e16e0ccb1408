/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/raw_board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "tests/support/raw.h"

#define PATIENCE_MS 20000

void raw_board_open(int socket, uint32_t records, struct raw_board *board)
{
	const struct hbm_wire_board_open open = {.header = RAW_HEADER(BOARD_OPEN, sizeof(open)),
						 .records = records};
	struct hbm_wire_board_reply reply;
	struct fdpass_fds fds;

	assert_true(raw_send(socket, &open, sizeof(open), 0));
	assert_int_equal(fdpass_receive(socket, &reply, sizeof(reply), &fds, FDPASS_WAIT),
			 sizeof(reply));
	assert_int_equal(reply.header.status, HBM_OK);
	assert_int_equal(reply.header.flags, HBM_WIRE_REPLY);
	assert_int_equal(reply.records, records);
	assert_int_equal(fds.count, 1);

	void *head = mmap(NULL, reply.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds.list[0], 0);
	assert_ptr_not_equal(head, MAP_FAILED);
	*board = (struct raw_board){reply.board, reply.bytes, fds.list[0], head,
				    (void *)((char *)head + sizeof(struct hbm_wire_board_head))};
}

void raw_board_leave(struct raw_board *board)
{
	munmap(board->head, board->bytes);
	close(board->fd);
}

bool raw_board_has_heard(int socket)
{
	struct pollfd poller = {.fd = socket, .events = POLLIN};

	return poll(&poller, 1, 0) == 1;
}

void raw_board_hear(int socket, struct hbm_wire_ask *ask)
{
	struct pollfd poller = {.fd = socket, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, PATIENCE_MS), 1);
	assert_int_equal(recv(socket, ask, sizeof(*ask), MSG_TRUNC), sizeof(*ask));
	assert_int_equal(ask->header.size, sizeof(*ask));
	assert_int_equal(ask->header.opcode, HBM_WIRE_ASK);
	assert_int_equal(ask->header.flags, HBM_WIRE_UNASKED);
	assert_int_equal(ask->header.id, 0);
	assert_int_equal(ask->header.status, 0);
}

int raw_board_ask(int socket, uint64_t session, uint64_t sequence, enum hbm_ask ask, uint32_t tier)
{
	const struct hbm_wire_ask message = {.header = RAW_HEADER(ASK, sizeof(message)),
					     .session = session,
					     .sequence = sequence,
					     .ask = ask,
					     .tier = tier};

	return raw_ask(socket, &message, sizeof(message));
}
