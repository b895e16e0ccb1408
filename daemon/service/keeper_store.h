/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_store: the descriptors that a keeper has for its daemon, each with a name, in the order
 * in which they came. Nothing is looked into. */
#pragma once

#include <stddef.h>

#include "daemon/service/keeper_message.h"

#define KEEPER_STORE_MAX 1024 /* as FileDescriptorStoreMax= of hbmd.service */

struct keeper_store {
	size_t count;
	int fds[KEEPER_STORE_MAX];
	char names[KEEPER_STORE_MAX][KEEPER_NAME_BYTES];
};

/* All of them, which are its own from now on, or, where there is no room, none: they are then
 * closed. An empty name becomes "stored", as systemd has it. */
void keeper_store_put(struct keeper_store *store, const char *name, const int *fds, size_t count);
/* Closes all of that name. */
void keeper_store_drop(struct keeper_store *store, const char *name);
void keeper_store_clear(struct keeper_store *store);
/*
 * In a process that is about to become the daemon: puts them where sd_listen_fds(3) expects
 * them and says so in the environment; other descriptors that are there are lost. Negative
 * errno.
 */
int keeper_store_pass(struct keeper_store *store);
