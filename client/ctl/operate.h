/* SPDX-License-Identifier: Apache-2.0 */
/* operate: the commands that name blocks by key (lookup, pin, unpin) and the one that
 * pushes blocks out (evict). */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int operate_lookup(struct ctl *ctl);
int operate_pin(struct ctl *ctl);
int operate_unpin(struct ctl *ctl);
int operate_evict(struct ctl *ctl);

extern const struct option_spec operate_evict_options[];
