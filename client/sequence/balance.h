/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance: suspends sequences before memory is needed. Only those that their user has said are
 * idle: nothing on the device uses them. The lowest priority goes first, of these the one
 * that is used last, of these the one in the highest slot.
 *
 * One is chosen and its suspend begun under one lock, so that none goes that its user has said
 * is in use meanwhile; and a call that names one on its way out brings it back (passage.h).
 */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct hbm_pool;
struct hbm_switch;

/* By how much less than `bytes` is free, or on its way back. */
int hbm_balance_free(struct hbm_pool *pool, uint64_t bytes, uint64_t *shortage);
/* The same, when warm slabs have been given back for it. */
int hbm_balance_shortage(struct hbm_pool *pool, uint64_t bytes, uint64_t *shortage);
/* Begins to suspend the next to go; *change stays NULL if there is none. *bytes: that come back
 * with it. */
int hbm_balance_begin(struct hbm_pool *pool, enum hbm_tier tier, struct hbm_switch **change,
		      uint64_t *bytes);
