/* SPDX-License-Identifier: Apache-2.0 */
/* page: what one reply to QUERY has room for. */
#pragma once

#include "daemon/serve/visible.h"

#include <stdint.h>

struct hbmd;

/* The page being filled: at most `room` records from *cursor on; *cursor becomes 0 at the
 * end. */
struct page {
	struct hbmd *hbmd;
	const struct visible *visible;
	uint64_t cursor;
	uint32_t room, count;
	char *records;
};
