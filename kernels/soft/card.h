/* SPDX-License-Identifier: Apache-2.0 */
/*
 * card: devices that processes share, for the option `card`, which names a folder: every
 * process that names the same one has the same devices, at the same time or one after
 * another. Their memory is counted over all of them: it counts as long as any process has a
 * descriptor or a mapping of it, or it is on its way in a socket, also when the process that
 * made it was killed. What counts is read from what there is (mark.h); the folder has nothing
 * of it. Without the option every process has its devices for itself (backing.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void card_configure(const char *folder); /* "": none */
bool card_is_shared(void);
/* A descriptor of new, zeroed memory of a device that has `total` bytes. -ENOMEM: so much is
 * not free; -errno. */
int card_allocate(unsigned device, uint64_t bytes, uint64_t total);
/* Bytes of the device that there are. UINT64_MAX: unknown. */
uint64_t card_used(unsigned device);
