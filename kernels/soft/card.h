/* SPDX-License-Identifier: Apache-2.0 */
/*
 * card: devices that more than one process has.
 *
 * 	shared		by the option `card`, a folder that they all name: several processes at the
 * 			same time. All memory is counted over all of them.
 * 	inherited	by a number, driver_soft_options.card: one process at a time. What is left
 * 			of those before counts beside its own (backing.h).
 *
 * Memory counts as long as any process has a descriptor or a mapping of it, or it is on its way
 * in a socket, also when the process that made it was killed. What counts is read from what
 * there is (mark.h); the folder has nothing of it. Without a card every process has its devices
 * for itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void card_configure(const char *folder, uint64_t inherited); /* "" and 0: none */
void card_reset(void);
bool card_is_shared(void);
/* By which its memory is marked; 0: there is no card. */
uint32_t card_number(void);
/* Of an inherited one: the bytes of the device that were there when it was configured, and still
 * are. */
uint64_t card_left(unsigned device);

/* ---- Of a shared one ---- */

/* A descriptor of new, zeroed memory of a device that has `total` bytes. -ENOMEM: so much is
 * not free; -errno. */
int card_allocate(unsigned device, uint64_t bytes, uint64_t total);
/* Bytes of the device that there are. UINT64_MAX: unknown. */
uint64_t card_used(unsigned device);
