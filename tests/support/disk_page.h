/* SPDX-License-Identifier: Apache-2.0 */
/* disk_page: what a test tells tests/stub/disk.c, in a file that both have mapped. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum disk_call { DISK_WRITE, DISK_FLUSH, DISK_SIZE, DISK_CALLS };
enum disk_file { DISK_DATA, DISK_CATALOG, DISK_FILES }; /* the second: with its log */

/* Calls `from` to `from` + `count` - 1, from the first on that is numbered 1, end with that errno;
 * a call with none hangs until there is one, or `from` is 0. */
struct disk_rule {
	_Atomic uint64_t calls, from, count;
	_Atomic int error;
};

struct disk_page {
	struct disk_rule rules[DISK_FILES][DISK_CALLS];
};
