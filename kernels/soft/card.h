/* SPDX-License-Identifier: Apache-2.0 */
/*
 * card: devices that processes share, for the option `card`, which names a folder: every
 * process that names the same one has the same devices, whose memory is counted over all
 * of them, and has the same amount free. A piece of memory is a file in the folder. It
 * counts as long as any process has a descriptor or a mapping of it, the one that made it or
 * another, however each of them ends; who looks next removes the files that no process has. Without the
 * option every process has its devices for itself (backing.h).
 *
 * The files have no seals: who has one can cut it short.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void card_configure(const char *folder); /* "": none */
bool card_is_shared(void);
/* A descriptor of new, zeroed memory of a device that has `total` bytes. -ENOMEM: so much is
 * not free; -errno. */
int card_allocate(unsigned device, uint64_t bytes, uint64_t total);
/* Bytes of the device that processes have. */
uint64_t card_used(unsigned device);
