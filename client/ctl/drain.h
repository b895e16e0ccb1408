/* SPDX-License-Identifier: Apache-2.0 */
/* drain: the command that empties the daemon until it stops, and shows what is left. */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int drain_run(struct ctl *ctl);

extern const struct option_spec drain_options[];
