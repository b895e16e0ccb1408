/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reconcile: a client that goes on with a session of an earlier daemon says what it has of the
 * session's regions, and the rest is given back: what it was granted and never heard of, and what
 * it has given back without an answer. So a reply that is lost with a daemon costs nothing.
 *
 * Between the two nothing else may use the session's regions.
 */
#pragma once

#include "daemon/region/region.h"

/* The client has that range, of slots that are all committed; with 0 bytes: the region, whatever
 * there is in it. HBM_OK; HBM_INVALID, HBM_NOT_FOUND: it cannot have that. */
int reconcile_tell(struct regions *regions, const struct hbm_wire_range *range);
/* Gives back all that the client has not told of, and forgets what it has: HBM_OK, and done() is
 * called on the loop thread, maybe from within, with HBM_OK, or HBM_NO_SPACE if there was no memory
 * to give all of it back; HBM_NO_SPACE: nor to begin. */
int reconcile_drop(struct regions *regions, void (*done)(void *arg, int status), void *arg);
