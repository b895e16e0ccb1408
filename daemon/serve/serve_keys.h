/* SPDX-License-Identifier: Apache-2.0 */
/* serve_keys: what other handlers ask about pins. */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/session/session.h"

/* Pins that a session has of blocks of a namespace that have not been dropped. */
uint64_t serve_keys_pins_in(const struct cache *cache, const struct session *session, uint16_t ns);
/* Takes back a session's pins of dropped blocks; NULL: those that operators keep. */
void serve_keys_forget_lost_pins(struct cache *cache, struct session *session);
