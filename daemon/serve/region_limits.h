/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region_limits: what one session may hold of what it gave back, what all may reserve, and what
 * one user may publish, are shares of the memory for regions; what may be lent to one user is one
 * of all that may be lent.
 */
#pragma once

#include "daemon/serve/hbmd.h"

/* To be called again when that memory has become more or less. */
void region_limits_set(const struct hbmd *hbmd);
