/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_show: a plan for people: one line for each context length, or, if there is only
 * one, everything about it. Seconds have four digits; bytes of a cache are exact,
 * followed by GiB.
 */
#pragma once

#include "client/ctl/plan_layout.h"
#include "client/ctl/plan_live.h"
#include "client/ctl/plan_request.h"

/* Prints; returns the exit status. points has one for each context. layout and live may
 * be NULL. */
int plan_show(const struct plan_request *request, const struct plan_point *points,
	      const struct hbm_layout *layout, const struct plan_live *live);
