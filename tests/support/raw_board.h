/* SPDX-License-Identifier: Apache-2.0 */
/* raw_board: a board of sequences, and what comes unasked, of a client without the library. */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct raw_board {
	uint32_t number;
	uint64_t bytes;
	int fd; /* of the memfd */
	struct hbm_wire_board_head *head;
	struct hbm_wire_board_record *records;
};

/* Opens one, which must be possible, and maps it. */
void raw_board_open(int socket, uint32_t records, struct raw_board *board);
/* Unmaps it here and closes the descriptor. */
void raw_board_leave(struct raw_board *board);
/* What the session is asked next, unasked: within 20 s, or the test fails. */
void raw_board_hear(int socket, struct hbm_wire_ask *ask);
/* Whether something can be received. */
bool raw_board_has_heard(int socket);
/* Asks another session: the status. */
int raw_board_ask(int socket, uint64_t session, uint64_t sequence, enum hbm_ask ask, uint32_t tier);
