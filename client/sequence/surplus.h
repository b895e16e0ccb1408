/* SPDX-License-Identifier: Apache-2.0 */
/*
 * surplus: slabs of open sequences that lie further beyond their tokens than is mapped ahead:
 * what a slot had from a longer sequence before. They are taken where memory is short.
 */
#pragma once

#include <stdint.h>

struct hbm_pool;

/* Gives back all of them; how many. */
uint64_t hbm_surplus_release(struct hbm_pool *pool);
