/* SPDX-License-Identifier: Apache-2.0 */
/*
 * silence: a tier whose reads and writes have no answer (nvme_watch.h). It is silent until
 * it answers:
 *
 * 	what waits to be read from it	is a failed load; the block stays where it is
 * 	what waits to be written to it	goes away (cache_give_up_demotion())
 * 	what it has begun		is held: its memory stays in use until the I/O ends,
 * 					and does not count as something that will move
 *
 * The policy passes it over (cache.h), the pump gives up moves that it would be part of
 * (pump.h). What it holds stays, and is there again when it answers.
 */
#pragma once

#include "daemon/move/mover.h"

/* To be followed by pump_run(). */
void silence_begin(struct mover *mover, struct tier *tier);
void silence_end(struct mover *mover, struct tier *tier);
