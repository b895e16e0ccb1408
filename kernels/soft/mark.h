/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark: what a file of device memory says of itself to all processes, on a card that they
 * share (card.h): which card and device have how much less. It is a lock on the open file,
 * and the range is what it says. So it ends with the open file, and not with a process: when
 * there is no descriptor or mapping of it in any process or on its way through a socket.
 * Nothing has to be undone, however a process ends, and no name is left.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MARK_CARD_MAX 0x7fffffffu

/* Files that are marked, each once however often it is open; to be zeroed before. */
struct marks {
	struct mark *at;
	size_t number, room;
};

/* Marks a file; the bytes are a multiple of a MiB. -errno. */
int mark_set(int fd, uint32_t card, unsigned device, uint64_t bytes);
/* Reads those of a card's device that any process has, in place of what was there. False: the
 * kernel does not say. */
bool marks_read(struct marks *marks, uint32_t card, unsigned device);
uint64_t marks_bytes(const struct marks *marks);
/* Those that both have are left in the first. */
void marks_keep(struct marks *marks, const struct marks *others);
void marks_free(struct marks *marks);
