/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_model_saved: what pool_model.h does with what is kept elsewhere: sequences saved by name
 * and restored, and their tokens as blocks of the cache; and with tokens that are given up.
 */
#pragma once

#include "tests/support/pool_model.h"

/* Operations: true if they have changed something. one: NULL: there is none; for those that
 * open a sequence, one that is not open. */
bool pool_model_keep(struct pool_model *model, struct model_sequence *one);
bool pool_model_save(struct pool_model *model, struct model_sequence *one);
bool pool_model_restore(struct pool_model *model, struct model_sequence *one);
bool pool_model_store(struct pool_model *model, struct model_sequence *one);
bool pool_model_open_cached(struct pool_model *model, struct model_sequence *one);
/* Suspends some that are idle. */
bool pool_model_balance(struct pool_model *model);
