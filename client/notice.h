/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notice: boards of a connection, and what the daemon says unasked to a session that has one.
 *
 * A notice comes between replies, so it is handled where these are: by whatever call reads from
 * the socket. It is handed to each board, which keeps what concerns it; nothing is queued
 * here. The head of a board counts the notices of the session, so that to find out that there
 * is none takes no system call.
 */
#pragma once

#include "daemon/base/list.h"

#include <hbm/hbm.h>
#include <stdbool.h>
#include <stdint.h>

struct board {
	struct list link;                 /* in hbm->boards */
	struct hbm_wire_board_head *head; /* NULL: there is none */
	struct hbm_wire_board_record *records;
	struct hbm_wire_board_event *events; /* NULL: the daemon has none */
	uint32_t number, count;              /* count: of records */
	uint64_t bytes;
	/* From within a call that reads from the socket: sends nothing. */
	void (*heard)(struct board *board, const struct hbm_wire_ask *ask);
};

/* Opens one of so many records, whose heard() is set. A daemon that refuses leaves it without
 * memory: its status. Or negative errno. */
int hbm_board_open(struct hbm *hbm, struct board *board, uint32_t records);
/* The next daemon's memory for a board, by its reply and the descriptor that came with it: takes
 * the place of the board's own, with what it says. False: it is none. */
bool hbm_board_move(struct board *board, const struct hbm_wire_board_reply *reply, int fd);
/* Accepts one that is not open. */
void hbm_board_close(struct hbm *hbm, struct board *board);
/* Receives notices that have come. Makes no system call if there are none. */
void hbm_board_listen(struct hbm *hbm, const struct board *board);
