/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_sequences: the handlers of BOARD_OPEN, BOARD_CLOSE and ASK. Sequences are the client's:
 * the daemon keeps the memory in which it says what it has, and passes on what it is asked.
 */
#include "daemon/serve/serve_sequences.h"

#include <string.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/serve/pressure.h"

void serve_board_open(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_board_open *open = (const void *)request->message;
	struct session *session = request->session;
	struct board *board;
	int fd;

	if (request_charge_descriptors(request, 1) != HBM_OK) {
		request_refuse_limit(request, LEDGER_DESCRIPTORS, 1);
		return;
	}

	int status = board_open(&session->boards, open->records, &board, &fd);
	if (status == HBM_LIMIT) {
		request_refuse_limit(request, LEDGER_SEQUENCES, board_charge(open->records));
		return;
	}
	if (status < 0) {
		request_refuse(request, HBM_LIMIT, "cannot make a board: %s", strerror(-status));
		return;
	}

	boards_set_notices(&session->boards, session->notices.sent);
	struct hbm_wire_board_reply reply = {.board = board->number,
					     .records = board->count,
					     .bytes = board_bytes(board->count)};
	request_reply_fds(request, HBM_OK, &reply.board, sizeof(reply) - sizeof(reply.header), &fd,
			  1);
	close(fd);
	pressure_look(hbmd->pressure);
}

void serve_board_close(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_board_ref *ref = (const void *)request->message;
	struct board *board = boards_find(&request->session->boards, ref->board);

	(void)hbmd;
	if (!board) {
		request_refuse(request, HBM_NOT_FOUND, "no board %u in this session", ref->board);
		return;
	}

	board_close(&request->session->boards, board);
	request_reply(request, HBM_OK, NULL, 0);
}

static struct session *serve_sequences_find(const struct hbmd *hbmd, uint64_t id)
{
	list_for_each (node, server_sessions(hbmd->server)) {
		struct session *session = container_of(node, struct session, link);
		if (session->id == id)
			return session;
	}

	return NULL;
}

void serve_ask(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_ask *ask = (const void *)request->message;
	struct session *session = serve_sequences_find(hbmd, ask->session);
	int status = HBM_NOT_FOUND;

	if (!session_is_operator(request->session)) {
		request_refuse(request, HBM_DENIED,
			       "only uid 0 and the daemon's uid ask other sessions");
		return;
	}

	if (session)
		status = session_ask(session, ask);
	if (status == HBM_OK)
		request_reply(request, HBM_OK, NULL, 0);
	else if (status == HBM_LIMIT)
		request_refuse(request, status, "session %llu does not read what it is sent",
			       (unsigned long long)ask->session);
	else
		request_refuse(request, status, "no session %llu that shows sequences",
			       (unsigned long long)ask->session);
}
