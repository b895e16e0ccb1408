/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/session_kept.h"

#include "daemon/state/state.h"

#include <sys/random.h>
#include <time.h>

enum session_kept_word { SESSION_KEPT_ALIVE, SESSION_KEPT_DEAD };

static uint64_t session_kept_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t session_kept_add(struct state *state, struct session_kept *kept, bool returns)
{
	kept->connected_ns = session_kept_now();
	if (returns && getrandom(kept->token, sizeof(kept->token), 0) != sizeof(kept->token))
		return STATE_NONE;

	return state_add(state, STATE_SESSIONS, kept, SESSION_KEPT_ALIVE);
}

void session_kept_died(struct state *state, uint32_t record)
{
	if (record != STATE_NONE)
		state_set_word(state, STATE_SESSIONS, record, SESSION_KEPT_DEAD);
}

void session_kept_drop(struct state *state, uint32_t record)
{
	if (record != STATE_NONE)
		state_drop(state, STATE_SESSIONS, record);
}

bool session_kept_is_dead(const struct state *state, uint32_t record)
{
	return state_word(state, STATE_SESSIONS, record) != SESSION_KEPT_ALIVE;
}
