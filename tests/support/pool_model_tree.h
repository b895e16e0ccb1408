/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model_tree: what pool_model.h does with drafts. */
#pragma once

#include "tests/support/pool_model.h"

/* Compares the drafts of one. */
void pool_model_tree_check(struct pool_model *model, const struct model_sequence *one);
/* Operations: true if they have changed something. one: NULL: there is none. */
bool pool_model_draft(struct pool_model *model, struct model_sequence *one);
bool pool_model_accept(struct pool_model *model, struct model_sequence *one);
bool pool_model_prune(struct pool_model *model, struct model_sequence *one);
