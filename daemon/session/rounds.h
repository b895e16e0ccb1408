/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rounds: those that take turns with each other on the loop thread, each with a quantum of time
 * in a round. A round ends when no one that has work has time left. Time that somebody takes
 * beyond what is left to it is taken off its next rounds. The light ones go first, and the heavy
 * ones are those that have used up a round's time with work left; turns.h draws the states.
 *
 * It measures no time and runs no work: see turns.h, which has two levels of these.
 */
#pragma once

#include "daemon/base/list.h"

#include <stdbool.h>
#include <stdint.h>

/* Embedded in who takes part. */
struct turn {
	struct list link; /* in one of the lists of its rounds, while it has work and waits */
	uint64_t round;
	int64_t left_ns; /* of that round */
};

struct rounds {
	struct list light, heavy;           /* time left */
	struct list next_light, next_heavy; /* none, in this round */
	uint64_t round;
};

void rounds_open(struct rounds *rounds);
/* Whether none has work and waits. */
bool rounds_is_empty(const struct rounds *rounds);
/* Its first time comes with the next round. */
void rounds_join(const struct rounds *rounds, struct turn *turn);
/* It has work, and had none. Quantum: its time in a round, ns. */
void rounds_wake(struct rounds *rounds, struct turn *turn, uint64_t quantum);
/* Takes out the next that has work and time, in this round or a later one. NULL: none has work. */
struct turn *rounds_next(struct rounds *rounds, uint64_t (*quantum)(const struct turn *turn));
/* It has been taken out, its time has been taken off, and it has more to do. */
void rounds_put_back(struct rounds *rounds, struct turn *turn);
