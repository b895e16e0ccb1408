/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_stage: what most tests of the library begin and end with: a fake daemon, one
 * connection to it, and the check that they leave nothing.
 */
#pragma once

#include "tests/support/fakedaemon.h"

#include <hbm/hbm.h>

extern struct fake fake;
extern struct hbm *hbm; /* for the test to connect; fake_stage_teardown() closes it */

void fake_stage_open(size_t slabs); /* as fake_open() */
void fake_stage_connect(void);
int fake_stage_teardown(void **state);
