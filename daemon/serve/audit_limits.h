/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit_limits: checks the ledger of a running daemon. What each payer uses must be the
 * sum of its charges, and what all use together must be what is found by walking the
 * things themselves: sessions' lists, the tables of namespaces and moves, and by the
 * recount of blocks, which has the pins, too. The charges have been summed up in steps
 * (audit.h); what is left is bounded by the numbers of sessions and namespaces.
 */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct hbmd;
struct recount;

/* Fills in one record for each limit, at most `room` of them. Returns how many there
 * are. The recount is of this moment. */
uint32_t audit_limits(struct hbmd *hbmd, const struct recount *recount,
		      struct hbm_wire_limit *limits, uint32_t room);
