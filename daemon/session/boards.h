/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boards: the memory in which a client says what sequences it has (wire.h). A session has none
 * until it opens one: clients that know no sequences cost nothing.
 *
 * A board is a memfd that the daemon and the client have mapped. Its size is sealed, or a client
 * that shrank it could end the daemon by SIGBUS; what the client takes out of it (a hole) reads
 * as zeros. The client may write anything at any time. So the daemon looks at a record by
 * copying it, word by word, and believes nothing of the copy: no number in it is used to find,
 * to count or to decide anything.
 *
 * 	reader				writer
 * 	number, not 0			number = 0
 * 	the other members		the other members
 * 	number again: the same		number = that of the next sequence
 *
 * The members of one sequence are so never shown under the number of another. They may be of
 * different moments, as each is written alone. A client that changes numbers without end is
 * looked at a few times, and its record left out.
 *
 * Behind the records is a ring of events, which the client counts in the head when it has
 * written them. One that is written anew while it is copied is left out.
 *
 * What a board takes is charged for in records, its head being one and its events fifteen, and
 * in whole pages, so that boards of few records are few, too.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct board {
	struct list link; /* in boards->all, by rising number */
	uint32_t number, count;
	uint64_t first;  /* records of the session's boards before it */
	uint32_t before; /* of the session's boards */
	struct hbm_wire_board_head *head;
	struct charge charge;
};

/* Of a session; embedded. */
struct boards {
	struct list all;
	struct payer *payer;
	uint32_t last; /* number */
};

void boards_init(struct boards *boards, struct payer *payer);
void boards_end(struct boards *boards); /* closes all */
bool boards_is_empty(const struct boards *boards);
/* What is charged for them, added up. */
uint64_t boards_charged(const struct boards *boards);

/* Makes one of at least `records` records, with its memfd in *fd, the caller's. HBM_OK;
 * HBM_LIMIT; or negative errno. */
int board_open(struct boards *boards, uint32_t records, struct board **out, int *fd);
struct board *boards_find(const struct boards *boards, uint32_t number); /* NULL: none */
void board_close(struct boards *boards, struct board *board);
/* What is charged for a board of so many records. */
uint64_t board_charge(uint32_t records);
/* Bytes of the memfd of a board of so many records. */
uint64_t board_bytes(uint32_t records);
/* What boards cost in memory of the daemon for which so much is charged. */
uint64_t boards_footprint(uint64_t charged);

/* Says on all boards how many notices the session has been sent. */
void boards_set_notices(struct boards *boards, uint64_t notices);

/* Copies the sequence of a record, without its session. False: there is none. */
bool board_read(const struct board *board, uint32_t record, struct hbm_wire_sequence *out);
/* Copies the event at a place of the ring, below HBM_WIRE_BOARD_EVENTS, without its session.
 * False: there is none, or not whole. */
bool board_read_event(const struct board *board, uint32_t place, struct hbm_wire_event *out);
