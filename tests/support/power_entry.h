/* SPDX-License-Identifier: Apache-2.0 */
/* power_entry: what tests/stub/power.c writes down of a call. */
#pragma once

#include <stdint.h>

enum power_kind {
	POWER_WRITE,    /* `bytes` bytes at `at` follow */
	POWER_FLUSH,    /* has begun */
	POWER_FLUSHED,  /* the one that began with entry number `at` has ended */
	POWER_TRUNCATE, /* to `at` */
	POWER_UNLINK,
	POWER_RENAME, /* to the name that follows, in `bytes` bytes */
};

struct power_entry {
	uint64_t kind;
	uint64_t at, bytes;
	char name[40];
};
