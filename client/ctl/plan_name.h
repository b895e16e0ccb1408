/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_name: the row of a built-in table that a name on the command line stands for. A
 * name that stands for several rows or for none gets one line on stderr with the
 * candidates.
 */
#pragma once

#include "client/ctl/ctl.h"
#include "client/plan/gpu.h"
#include "client/plan/model.h"

/* CTL_DONE and the row, or CTL_USAGE with the line printed. */
int plan_name_model(const struct ctl *ctl, const char *asked, const struct plan_model **out);
int plan_name_gpu(const struct ctl *ctl, const char *asked, const struct plan_gpu **out);
