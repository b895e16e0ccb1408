/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_setup: sets up the memory of the daemon and closes it: the tiers with their
 * backing (HBM of each device, host memory, NVMe), the copy queues and NVMe I/O that move
 * blocks between them, the mover, and the slabs for regions. It sets these parts of
 * struct hbmd and makes no decisions afterwards.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config;
struct devices;
struct hbmd;
struct memory_setup;

/* progress() is called on the loop thread whenever more of a tier becomes usable. On
 * failure negative errno and one line in error. */
int memory_setup_open(struct memory_setup **out, struct hbmd *hbmd, void (*progress)(void *arg),
		      void *arg, char *error, size_t error_size);
/* Whether each device has what the configuration asks of it: 0, or -EINVAL and one line in
 * error. */
int memory_setup_check(const struct config *config, const struct devices *devices, char *error,
		       size_t error_size);
/* The daemon stops: nothing is done ahead of need any longer. Requests are still served. */
void memory_setup_drain(struct memory_setup *memory_setup);
/* Nothing may be in flight, no session may be left. Clears the parts in struct hbmd. */
struct memory_setup *memory_setup_close(struct memory_setup *memory_setup);
bool memory_setup_warm(
	const struct memory_setup *memory_setup); /* every tier is usable, as far as it will be */
bool memory_setup_broken(
	const struct memory_setup *memory_setup); /* it can never become usable: ddr_broken() */
