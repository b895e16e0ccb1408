/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_rig: a descriptor store for unit tests, in a thread of the test: what keep.h of this
 * process, or of one that was forked, hands to it comes back with store_rig_next().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* keep_is_there() is true from now on. */
void store_rig_open(void);
void store_rig_close(void);
/* How many descriptors fit; 0: there is no store. */
void store_rig_limit(size_t limit);
/* What is kept comes back, as to a new process; in one that was forked, what was kept then. */
void store_rig_next(void);
/* Before a fork: all that was said has been heard. */
void store_rig_settle(void);
/* From one call on until the next nothing that is said is answered. */
void store_rig_pause(bool paused);
/* How many descriptors are kept. */
size_t store_rig_count(void);
