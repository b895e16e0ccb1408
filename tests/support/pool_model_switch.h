/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model_switch: suspend, resume and switch as operations of the pool's model. */
#pragma once

#include "tests/support/pool_model.h"

bool pool_model_switch(struct pool_model *model);
/* What is suspended has its tokens and no memory. */
void pool_model_switch_check(const struct model_sequence *one);
