/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark: which sequences are due: a step has left them with less mapped ahead than they should
 * have. A bit for each handle, set by steps that hold no lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hbm_pool;

void hbm_mark_set(struct hbm_pool *pool, uint32_t index);
void hbm_mark_clear(struct hbm_pool *pool, uint32_t index);
/* Clears one and says which; false: there is none. */
bool hbm_mark_take(struct hbm_pool *pool, uint32_t *index);
