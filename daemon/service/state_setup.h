/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state_setup: opens what outlives the process: the state of the daemon before, or an empty one,
 * and the descriptors that were parked. A state that cannot be used, because another version
 * wrote it or it is damaged, is not guessed at: the daemon starts empty, says so, and all else
 * that was kept for it is let go.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/service/inherited.h"

struct config;
struct hbmd;
struct ledger;

/* Of inherited_open(): takes what was kept. */
extern const struct inherited_taker state_setup_taker;

/* How much memory the state takes at most. */
uint64_t state_setup_bytes(const struct ledger *ledger, const struct config *config);
/* Sets hbmd->kept, unless no one keeps anything, and hbmd->parking. Negative errno and one line in error. */
int state_setup_open(struct hbmd *hbmd, char *error, size_t error_size);
/* Every part has taken what is its own of what was kept: the rest is let go. */
void state_setup_finish(struct hbmd *hbmd);
/* What is kept stays so. */
void state_setup_close(struct hbmd *hbmd);
