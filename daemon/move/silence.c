/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/silence.h"

#include "daemon/move/load.h"
#include "daemon/move/move.h"
#include "daemon/move/wiper.h"

static void silence_each_move(struct mover *mover, const struct tier *tier,
			      void (*call)(struct move *move, const struct tier *tier))
{
	for (uint64_t n = 1; n <= mover->numbers; n++)
		if (mover->moves[n])
			call(mover->moves[n], tier);
}

/* What is queued is cancelled first: what is left of the tier's moves, the kernel has. */
void silence_begin(struct mover *mover, struct tier *tier)
{
	tier->silent = true;
	if (tier->ops->flush)
		tier->ops->flush(tier);
	silence_each_move(mover, tier, move_hold);
	wiper_hold(mover->wiper, tier, true);
	load_fail_waiting(mover);
}

static void silence_release(struct move *move, const struct tier *tier)
{
	(void)tier;
	move_release(move);
}

void silence_end(struct mover *mover, struct tier *tier)
{
	tier->silent = false;
	silence_each_move(mover, tier, silence_release);
	wiper_hold(mover->wiper, tier, false);
}
