/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_list: the built-in models and GPUs, as two tables, or as one JSON document with
 * all fields.
 */
#pragma once

struct ctl;

/* Prints; returns the exit status. */
int plan_list(const struct ctl *ctl);
