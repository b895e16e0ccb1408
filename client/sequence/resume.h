/* SPDX-License-Identifier: Apache-2.0 */
/* resume: a group of sequences on its way back from the stash (arrival.h). */
#pragma once

#include <stddef.h>

struct arrival;
struct hbm_pool;
struct hbm_sequence;

int hbm_resume_plan(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count,
		    struct arrival *arrival);
/* All has arrived. */
void hbm_resume_finish(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count);
/* They stay suspended, and what they were given is given back. */
void hbm_resume_undo(struct hbm_pool *pool, struct hbm_sequence *const *sequences, size_t count);
