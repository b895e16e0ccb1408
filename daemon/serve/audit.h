/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: proves on a running daemon that the books balance. It counts again, from the
 * entries of the index and the extents, what the modules have counted as they went, and
 * compares. Between two events of the loop everything must agree, whatever is under way;
 * so it cannot be done in steps, and takes some 30 ms for a million blocks, in which
 * nobody is served. Hence it is for operators only.
 */
#pragma once

#include <hbm/wire.h>
#include <stdint.h>

struct hbmd;

/* The account of each pool: at most room of them; how many there are. */
uint32_t audit(struct hbmd *hbmd, struct hbm_wire_account *accounts, uint32_t room);
