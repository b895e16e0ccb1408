/* SPDX-License-Identifier: Apache-2.0 */
/* switch: what users of a pool call to suspend and resume sequences (passage.h). */
#pragma once

struct hbm_pool;
struct hbm_switch;
struct hbm_switch_options;

/* hbm_submit_switch(), where the lock is held. */
int hbm_switch_begin(struct hbm_pool *pool, const struct hbm_switch_options *options,
		     struct hbm_switch **out);
