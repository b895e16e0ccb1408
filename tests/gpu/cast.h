/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast: the actors of one claim, and how far it got. Actors start when they are first
 * given something to do. The first step that is refused ends the claim: later steps do
 * nothing, and the verdict names the one that failed.
 */
#pragma once

#include "tests/gpu/actor.h"

#include <stdbool.h>
#include <stdint.h>

enum role {
	MAKER,   /* makes slabs and exports them, as hbmd does */
	HOLDER,  /* holds fds, uses no device */
	READER,  /* imports, as a client does */
	WATCHER, /* somebody else on the device */
	ROLES
};

struct cast {
	struct actor actors[ROLES];
	bool failed;
	char failure[160];
};

/* STEP(cast, MAKER, FILL, .slot = 1, .value = 7): what the actor answers; 0 when the
 * claim has failed before or now. */
#define STEP(cast, role, what, ...)                                                                \
	cast_step((cast), (role), &(const struct order){.verb = VERB_##what, __VA_ARGS__})

uint64_t cast_step(struct cast *cast, enum role role, const struct order *order);
/* The same with an fd, which is borrowed. */
uint64_t cast_step_fd(struct cast *cast, enum role role, const struct order *order, int fd);
/* Not a step: what is answered may be a refusal, and the claim goes on. */
struct answer cast_try(struct cast *cast, enum role role, const struct order *order);
/* An fd for nobody to keep but the caller: VERB_EXPORT's or VERB_GIVE's. -1 when the
 * claim has failed. */
int cast_fetch(struct cast *cast, enum role role, const struct order *order);
/* Fetches an fd from one and gives it to another with an order of his. */
uint64_t cast_hand(struct cast *cast, enum role from, enum verb how, enum role to,
		   const struct order *order);
void cast_kill(struct cast *cast, enum role role);
/* Ends all actors. */
void cast_close(struct cast *cast);
