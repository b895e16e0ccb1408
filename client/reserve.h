/* SPDX-License-Identifier: Apache-2.0 */
/* reserve: see the public half in hbm.h. */
#pragma once

#include <stdbool.h>

struct hbm;

/* The next daemon's page of memory, by the descriptor of a reply to MEMORY, takes the place of the
 * one that is mapped. False: it is none. */
bool hbm_memory_move(struct hbm *hbm, int fd);
