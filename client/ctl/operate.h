/* SPDX-License-Identifier: Apache-2.0 */
/* operate: the commands that name blocks by key (lookup, pin, unpin), those that push blocks
 * out (evict) or drop them (namespaces drop), and the one that ends clients (sessions end). */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int operate_lookup(struct ctl *ctl);
int operate_pin(struct ctl *ctl);
int operate_unpin(struct ctl *ctl);
int operate_evict(struct ctl *ctl);
int operate_resize(struct ctl *ctl);
int operate_namespaces(struct ctl *ctl); /* without words it lists them */
int operate_sessions(struct ctl *ctl);   /* as well */

extern const struct option_spec operate_evict_options[];
extern const struct option_spec operate_resize_options[];
