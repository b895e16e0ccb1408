/* SPDX-License-Identifier: Apache-2.0 */
/* replay: the command that drives the daemon with a trace as serving engines would, or
 * makes such a trace. */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int replay_run(struct ctl *ctl);

extern const struct option_spec replay_options[];
extern const char replay_details[];
