/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch: slots of a second region, where slabs are while those of sequences are exchanged. A
 * slab of a slot has the same offset there. It is empty between calls, and made when it is
 * first needed.
 */
#pragma once

#include <stdint.h>

struct hbm_pool;

/* Sees to it that there are so many slots. */
int hbm_scratch_open(struct hbm_pool *pool, uint32_t slots);
/* Gives back all that is mapped in it, when copies to it are done. What the device refuses to
 * unmap stays until it is opened again. Changes the pool's line only if it fails. */
int hbm_scratch_empty(struct hbm_pool *pool);
