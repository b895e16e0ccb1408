/* SPDX-License-Identifier: Apache-2.0 */
/* event: counts and frees events for the rest of the soft driver. */
#pragma once

#include <stdint.h>

uint64_t events_live(void); /* table_lock is held */
void events_reset(void);    /* frees all; the streams are freed before */
