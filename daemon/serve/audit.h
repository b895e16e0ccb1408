/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: checks the counters of a running daemon. It recounts from the entries of the
 * index and the extents, and compares with the counts the modules keep. Between two
 * events of the loop everything must agree, whatever is in flight; so it cannot be done
 * in steps, and blocks the loop for some 30 ms per million blocks. Hence it is for
 * operators only.
 */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct hbmd;

/* Fills in the account of each pool, at most `room` of them. Returns how many there
 * are. */
uint32_t audit(struct hbmd *hbmd, struct hbm_wire_account *accounts, uint32_t room);
