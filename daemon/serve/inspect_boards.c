/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_boards: see inspect_boards.h. */
#include "daemon/serve/inspect_boards.h"

#include "daemon/serve/server.h"

#define BOARDS_STEP 16384 /* records, or places of events, visited per page */

/* What a session says on its boards, from a record on. True: the page is full, or enough records
 * have been looked at, and *from is the next. */
static bool inspect_boards_sequences(struct page *page, const struct session *session,
				     uint64_t *from, uint64_t *step)
{
	struct hbm_wire_sequence *records = (struct hbm_wire_sequence *)(void *)page->records;

	list_for_each (node, &session->boards.all) {
		const struct board *board = container_of(node, struct board, link);
		uint64_t i = *from > board->first ? *from - board->first : 0;

		for (; i < board->count; i++) {
			if (page->count == page->room || ++*step > BOARDS_STEP) {
				*from = board->first + i;
				return true;
			}

			struct hbm_wire_sequence *record = &records[page->count];
			if (board_read(board, (uint32_t)i, record)) {
				record->session = session->id;
				page->count++;
			}
		}
	}

	return false;
}

/* The same of what has happened to its sequences. */
static bool inspect_boards_events(struct page *page, const struct session *session, uint64_t *from,
				  uint64_t *step)
{
	struct hbm_wire_event *records = (struct hbm_wire_event *)(void *)page->records;

	list_for_each (node, &session->boards.all) {
		const struct board *board = container_of(node, struct board, link);
		const uint64_t first = (uint64_t)board->before * HBM_WIRE_BOARD_EVENTS;
		uint64_t i = *from > first ? *from - first : 0;

		for (; i < HBM_WIRE_BOARD_EVENTS; i++) {
			if (page->count == page->room || ++*step > BOARDS_STEP) {
				*from = first + i;
				return true;
			}

			struct hbm_wire_event *record = &records[page->count];
			if (board_read_event(board, (uint32_t)i, record)) {
				record->session = session->id;
				page->count++;
			}
		}
	}

	return false;
}

typedef bool inspect_board(struct page *page, const struct session *session, uint64_t *from,
			   uint64_t *step);

static void inspect_boards_all(struct page *page, inspect_board *fill)
{
	uint64_t first = page->cursor >> 32, step = 0;

	list_for_each (node, server_sessions(page->hbmd->server)) {
		const struct session *session = container_of(node, struct session, link);
		uint64_t from = session->id == first ? (uint32_t)page->cursor : 0;
		if (!visible_session(page->visible, session) || session->id < first)
			continue;

		if (fill(page, session, &from, &step)) {
			page->cursor = session->id << 32 | from;
			return;
		}
	}

	page->cursor = 0;
}

void inspect_sequences(struct page *page)
{
	inspect_boards_all(page, inspect_boards_sequences);
}

void inspect_events(struct page *page)
{
	inspect_boards_all(page, inspect_boards_events);
}
