/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_document: a plan for programs: one JSON document, or one line of CSV for each
 * context length. Names end in their unit and do not change; both forms take the numbers
 * of a point from one table.
 */
#pragma once

#include "client/ctl/plan_layout.h"
#include "client/ctl/plan_live.h"
#include "client/ctl/plan_request.h"

#include <jansson.h>

/* Prints; returns the exit status. points has one for each context. layout and live may
 * be NULL. */
int plan_document_json(const struct plan_request *request, const struct plan_point *points,
		       const struct hbm_layout *layout, const struct plan_live *live);
int plan_document_csv(const struct plan_request *request, const struct plan_point *points);
/* A row of the built-in tables, as an object. NULL: out of memory. */
json_t *plan_document_model(const struct plan_model *model);
json_t *plan_document_gpu(const struct plan_gpu *gpu);
