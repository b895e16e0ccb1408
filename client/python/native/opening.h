/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opening: a namespace that is open, as requests and an object of Python share it. It is closed
 * with the last of them, as a request of several pieces names it more than once, and with the last
 * of all that have the same one open, which the daemon does not count. All that is here is changed
 * with the GIL.
 */
#pragma once

#include "client/python/native/native.h"

struct core;

struct opening {
	struct core *core; /* not counted: who has a use of it has one of its core */
	int refs;
	uint32_t ns;
	uint64_t block_bytes;
};

/* With one use. NULL: an exception is set. */
struct opening *opening_new(struct core *core, const struct hbm_namespace_options *options);
/* 0, or -1 and an exception: it was the last use, and the daemon says so. */
int opening_unref(struct opening *opening);
/* Forgets those of a connection that is closed now. */
void opening_forget(struct core *core);
