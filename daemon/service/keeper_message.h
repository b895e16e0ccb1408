/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_message: what one datagram of sd_notify(3) says of what a keeper listens to. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define KEEPER_NAME_BYTES 256 /* as sd_listen_fds_with_names(3) has it, its end counted */
#define KEEPER_TEXT_MAX 4096  /* bytes of a datagram; a longer one says nothing */

struct keeper_message {
	bool store;                   /* FDSTORE=1 */
	bool drop;                    /* FDSTOREREMOVE=1 */
	bool barrier;                 /* BARRIER=1 */
	bool ready;                   /* READY=1 */
	bool alive;                   /* WATCHDOG=1 */
	bool stopping;                /* STOPPING=1 */
	char name[KEEPER_NAME_BYTES]; /* FDNAME=; empty: none, or one that may not be */
};

/* Of lines that end with '\n' or with the text. What it does not know it passes over. False,
 * and nothing is said: it is too long or has a 0 in it. */
bool keeper_message_parse(struct keeper_message *out, const char *text, size_t bytes);
