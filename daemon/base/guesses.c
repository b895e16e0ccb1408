/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/guesses.h"

#include <stddef.h>

#define SECOND_NS UINT64_C(1000000000)

/* Takes away what the seconds since then have paid for. */
static void guesses_refresh(struct guesser *guesser, uint64_t now_ns)
{
	uint64_t seconds = (now_ns - guesser->since_ns) / SECOND_NS;

	guesser->counted -= seconds < guesser->counted ? seconds : guesser->counted;
	guesser->since_ns += seconds * SECOND_NS;
}

/* Its entry; else a free one; else the one that others share. */
static struct guesser *guesses_find(struct guesses *guesses, uint64_t who, uint64_t now_ns)
{
	struct guesser *found = &guesses->others;

	guesses_refresh(found, now_ns);
	for (size_t i = 0; i < GUESSES_USERS; i++) {
		struct guesser *guesser = &guesses->users[i];

		guesses_refresh(guesser, now_ns);
		if (guesser->counted > 0 && guesser->who == who)
			return guesser;
		if (guesser->counted == 0)
			found = guesser;
	}

	return found;
}

bool guesses_may(struct guesses *guesses, uint64_t who, uint64_t most, uint64_t now_ns)
{
	const struct guesser *guesser = guesses_find(guesses, who, now_ns);

	if (guesser == &guesses->others && most > GUESSES_BURST)
		most = GUESSES_BURST;

	return guesser->counted < most;
}

void guesses_count(struct guesses *guesses, uint64_t who, uint64_t now_ns)
{
	struct guesser *guesser = guesses_find(guesses, who, now_ns);

	if (guesser->counted == 0)
		guesser->since_ns = now_ns;
	guesser->who = who;
	guesser->counted++;
}
