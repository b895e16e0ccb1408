/* SPDX-License-Identifier: Apache-2.0 */
/* block_next: the table of a block's states (block.h). */
#include "daemon/cache/block.h"

static const uint8_t block_transitions[BLOCK_STATES][BLOCK_EVENTS] = {
	[BLOCK_ABSENT] =
		{
			[BLOCK_BEGIN_STORE] = BLOCK_STORING,
		},
	[BLOCK_STORING] =
		{
			[BLOCK_STORED] = BLOCK_RESIDENT,
			[BLOCK_DROP] = BLOCK_STORING_DROPPED,
		},
	[BLOCK_RESIDENT] =
		{
			[BLOCK_BEGIN_MOVE] = BLOCK_MOVING,
			[BLOCK_USE] = BLOCK_RESIDENT,
			[BLOCK_UNUSE] = BLOCK_RESIDENT,
			[BLOCK_DROP] = BLOCK_DROPPED,
			[BLOCK_TAKE_COPY] = BLOCK_RESIDENT,
		},
	[BLOCK_MOVING] =
		{
			[BLOCK_PLACED] = BLOCK_RESIDENT,
			[BLOCK_END_MOVE] = BLOCK_RESIDENT,
			[BLOCK_USE] = BLOCK_MOVING,
			[BLOCK_UNUSE] = BLOCK_MOVING,
			[BLOCK_DROP] = BLOCK_MOVING_DROPPED,
		},
	[BLOCK_STORING_DROPPED] =
		{
			[BLOCK_ABANDON_STORE] = BLOCK_DROPPED,
		},
	[BLOCK_MOVING_DROPPED] =
		{
			[BLOCK_END_MOVE] = BLOCK_DROPPED,
			[BLOCK_USE] = BLOCK_MOVING_DROPPED,
			[BLOCK_UNUSE] = BLOCK_MOVING_DROPPED,
		},
	[BLOCK_DROPPED] =
		{
			[BLOCK_BEGIN_MOVE] = BLOCK_MOVING_DROPPED,
			[BLOCK_USE] = BLOCK_DROPPED,
			[BLOCK_UNUSE] = BLOCK_DROPPED,
		},
};

enum block_state block_next(enum block_state state, enum block_event event)
{
	return block_transitions[state][event];
}
