/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_layout: what one user's KV cache takes on each GPU in a layout of layout.h: what a
 * growth step costs, and what slabs leave unused. The model gives the layers, --layout the
 * rest.
 */
#pragma once

#include "client/ctl/plan_request.h"

#include <hbm/sequence.h>
#include <jansson.h>

/* *out: the layout that --layout asks for; NULL without --layout. CTL_USAGE: one line has been
 * printed. The caller frees it. */
int plan_layout_open(const struct ctl *ctl, const struct plan_request *request,
		     struct hbm_layout **out);
/* Prints a paragraph and one line for each context. 0, or a negative errno. */
int plan_layout_show(const struct hbm_layout *layout, const struct plan_request *request);
/* The same as an object; null if layout is NULL. */
json_t *plan_layout_document(const struct hbm_layout *layout, const struct plan_request *request);
