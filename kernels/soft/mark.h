/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark: what a file of device memory says of itself to all processes, on a card that they
 * share (card.h): which card and device have how much less. It is a lock on the open file,
 * and the range is what it says. So it ends with the open file, and not with a process: when
 * there is no descriptor or mapping of it in any process or on its way through a socket.
 * Nothing has to be undone, however a process ends, and no name is left.
 */
#pragma once

#include <stdint.h>

#define MARK_CARD_MAX 0x7fffffffu

/* Marks a file; the bytes are a multiple of a MiB. -errno. */
int mark_set(int fd, uint32_t card, unsigned device, uint64_t bytes);
/* The bytes of a card's device that any process has, each file counted once however often it
 * is open. UINT64_MAX: the kernel does not say. */
uint64_t marks_count(uint32_t card, unsigned device);
