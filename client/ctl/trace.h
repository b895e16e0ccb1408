/* SPDX-License-Identifier: Apache-2.0 */
/* trace: the command that draws which links were busy when, and how much of them
 * overlapped. */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int trace_run(struct ctl *ctl);

extern const struct option_spec trace_options[];
