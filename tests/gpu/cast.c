/* SPDX-License-Identifier: Apache-2.0 */
/* cast: see cast.h. */
#include "tests/gpu/cast.h"

#include <stdio.h>
#include <unistd.h>

static const char *const names[ROLES] = {"maker", "holder", "reader", "watcher"};

static bool cast_wake(struct cast *cast, enum role role)
{
	if (cast->failed)
		return false;
	if (cast->actors[role].pid == 0 && !actor_start(&cast->actors[role])) {
		snprintf(cast->failure, sizeof(cast->failure), "the %s could not be started",
			 names[role]);
		cast->failed = true;
	}

	return !cast->failed;
}

static uint64_t cast_hear(struct cast *cast, enum role role, const struct answer *answer)
{
	if (answer->status == 0)
		return answer->value;
	snprintf(cast->failure, sizeof(cast->failure), "the %s: %s", names[role],
		 answer->text[0] ? answer->text : "refused");
	cast->failed = true;
	return 0;
}

uint64_t cast_step_fd(struct cast *cast, enum role role, const struct order *order, int fd)
{
	if (!cast_wake(cast, role))
		return 0;
	const struct answer answer = actor_tell(&cast->actors[role], order, fd);
	return cast_hear(cast, role, &answer);
}

uint64_t cast_step(struct cast *cast, enum role role, const struct order *order)
{
	return cast_step_fd(cast, role, order, -1);
}

struct answer cast_try(struct cast *cast, enum role role, const struct order *order)
{
	if (!cast_wake(cast, role))
		return (struct answer){.status = -1};
	return actor_tell(&cast->actors[role], order, -1);
}

int cast_fetch(struct cast *cast, enum role role, const struct order *order)
{
	int fd;

	if (!cast_wake(cast, role))
		return -1;

	const struct answer answer = actor_fetch(&cast->actors[role], order, &fd);
	cast_hear(cast, role, &answer);

	return fd;
}

uint64_t cast_hand(struct cast *cast, enum role from, enum verb how, enum role to,
		   const struct order *order)
{
	int fd = cast_fetch(cast, from, &(const struct order){.verb = how});
	uint64_t value = cast_step_fd(cast, to, order, fd);

	if (fd >= 0)
		close(fd);
	return value;
}

void cast_kill(struct cast *cast, enum role role)
{
	actor_kill(&cast->actors[role]);
}

void cast_close(struct cast *cast)
{
	for (int role = 0; role < ROLES; role++)
		actor_end(&cast->actors[role]);
}
