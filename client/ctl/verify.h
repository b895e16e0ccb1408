/* SPDX-License-Identifier: Apache-2.0 */
/* verify: hbmctl verify: whether the daemon's accounts balance, and what it lends is right. */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int verify_run(struct ctl *ctl);

extern const struct option_spec verify_options[];
