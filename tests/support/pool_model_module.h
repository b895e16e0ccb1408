/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool_model_module: what pool_model.h does with modules: tokens of sequences that are put by
 * name, in versions, and appended to others.
 */
#pragma once

#include "tests/support/pool_model.h"

/* Operations: true if they have changed something. one: NULL: there is none. */
bool pool_model_put(struct pool_model *model, struct model_sequence *one);
bool pool_model_append(struct pool_model *model, struct model_sequence *one);
