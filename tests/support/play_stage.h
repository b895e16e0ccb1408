/* SPDX-License-Identifier: Apache-2.0 */
/*
 * play_stage: the daemon beside which sequences are played (pool_play.h) while something fails.
 */
#pragma once

#include "tests/support/pool_play.h"
#include "tests/support/stage.h"

#define PLAY_STAGE_MAX 500 /* more than there are of whatever fails by count */

void play_stage_start(void);
/* Plays to the end. How many calls were refused, and made again. */
unsigned play_stage_run(void);
/* Nothing is left of a client. */
void play_stage_check(void);
void play_stage_finish(void);
