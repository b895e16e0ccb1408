/* SPDX-License-Identifier: Apache-2.0 */
/* operate: the commands that name blocks by key (lookup, pin, unpin), and those that push
 * blocks out (evict) or drop them (namespaces drop). */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int operate_lookup(struct ctl *ctl);
int operate_pin(struct ctl *ctl);
int operate_unpin(struct ctl *ctl);
int operate_evict(struct ctl *ctl);
int operate_namespaces(struct ctl *ctl); /* without words it lists them */

extern const struct option_spec operate_evict_options[];
