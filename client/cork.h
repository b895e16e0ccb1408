/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cork: requests that are submitted while the connection is corked, to be sent together: with
 * one system call, and one wake of the daemon. It copies them, because what they point to is
 * the caller's again when hbm_submit_X() returns.
 */
#pragma once

#include "client/channel.h"

#include <stdbool.h>
#include <stddef.h>

#define CORK_MESSAGES 64          /* no engine submits more before it waits; then they are sent */
#define CORK_BYTES (256u * 1024u) /* of all of them; a larger request is sent at once */

struct cork {
	bool on;
	struct iovec messages[CORK_MESSAGES];
	size_t first, count; /* of those that are not sent */
	size_t used;
	unsigned char *bytes; /* CORK_BYTES; NULL: never corked yet */
};

/* Copies a message. False: there is no room, or the connection is not corked. */
bool hbm_cork_add(struct cork *cork, const struct iovec *pieces, size_t count);
/* Sends what is there. 0; -EAGAIN: the socket is full, the rest stays; else negative errno. */
int hbm_cork_send(struct cork *cork, const struct channel *channel);
/* Forgets what is there. */
void hbm_cork_forget(struct cork *cork);
void hbm_cork_clear(struct cork *cork); /* frees it */
