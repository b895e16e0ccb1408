/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_plot: the four metrics over context length as a picture, drawn by gnuplot. The
 * file is written only when the picture is whole; its name never reaches gnuplot.
 */
#pragma once

#include "client/ctl/plan_request.h"

/* Whether the name ends in .svg or .png: CTL_USAGE if not, or if there is only one
 * context. */
int plan_plot_check(const struct ctl *ctl, const char *path, const struct plan_request *request);
/* Draws; returns the exit status. points has one for each context. */
int plan_plot(const char *path, const struct plan_request *request,
	      const struct plan_point *points);
