/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_units: a plan's numbers as text. Unlike units.h, four digits of everything, rates
 * in powers of ten as data sheets have them, and whole numbers in groups of three digits.
 */
#pragma once

#include "client/ctl/units.h"

/* "1.229 s" */
struct units_text plan_units_seconds(double s);
/* "361.1"; "-" for 0, which stands for what is not known or for no user that fits. */
struct units_text plan_units_figure(double value);
/* "12,288,000,000" */
struct units_text plan_units_grouped(uint64_t number);
/* "11.44 GiB" */
struct units_text plan_units_gib(uint64_t bytes);
/* "31.5 GB/s" */
struct units_text plan_units_gb_s(double bytes_s);
