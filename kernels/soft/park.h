/* SPDX-License-Identifier: Apache-2.0 */
/*
 * park: waits for a word to change, first by spinning, then asleep in the kernel. It spins
 * for about as long as a sleep and its wake-up cost; on a single processor it does not
 * spin.
 *
 * The side that changes the word does so with sequential consistency and then wakes, if
 * the waiter has said (likewise, before it last looked) that it may sleep. Wake-ups may
 * be spurious: callers look again.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Spins for about 20 µs; true as soon as the word is not `seen`. */
bool park_spin(_Atomic uint32_t *word, uint32_t seen);
/* Sleeps while the word is `seen`, at most timeout_ns; 0: forever. */
void park_sleep(_Atomic uint32_t *word, uint32_t seen, uint64_t timeout_ns);
/* Wakes all sleepers on the word. Does not access its memory, which may be freed
 * already. */
void park_wake(_Atomic uint32_t *word);

uint64_t clock_now(void); /* ns, CLOCK_MONOTONIC */
/* Returns at the given time, not before and little after. */
void clock_wait_until(uint64_t ns);
/* The same without a sleep. */
void clock_spin_until(uint64_t ns);
/* One short pause of the processor. */
void clock_relax(void);
