/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect_boards: the records of QUERY that come from boards (boards.h): what clients say of their
 * sequences, and of what has happened to them.
 *
 * The cursor is session id << 32 | record, or event, counted over the session's boards. A page
 * may be short, as that of blocks.
 */
#pragma once

#include "daemon/serve/page.h"

void inspect_sequences(struct page *page);
void inspect_events(struct page *page);
