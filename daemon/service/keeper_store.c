/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/keeper_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

void keeper_store_put(struct keeper_store *store, const char *name, const int *fds, size_t count)
{
	if (count > KEEPER_STORE_MAX - store->count) {
		for (size_t i = 0; i < count; i++)
			close(fds[i]);
		return;
	}

	for (size_t i = 0; i < count; i++) {
		store->fds[store->count] = fds[i];
		snprintf(store->names[store->count++], KEEPER_NAME_BYTES, "%s",
			 name[0] != '\0' ? name : "stored");
	}
}

void keeper_store_drop(struct keeper_store *store, const char *name)
{
	size_t left = 0;

	for (size_t i = 0; i < store->count; i++) {
		if (strcmp(store->names[i], name) == 0) {
			close(store->fds[i]);
			continue;
		}

		store->fds[left] = store->fds[i];
		memmove(store->names[left++], store->names[i], KEEPER_NAME_BYTES);
	}

	store->count = left;
}

void keeper_store_clear(struct keeper_store *store)
{
	for (size_t i = 0; i < store->count; i++)
		close(store->fds[i]);
	store->count = 0;
}

/* ---- passing them on ---- */

/* None of them is below `first` any more. */
static int keeper_store_move_up(struct keeper_store *store, int first)
{
	for (size_t i = 0; i < store->count; i++) {
		if (store->fds[i] >= first)
			continue;

		int fd = fcntl(store->fds[i], F_DUPFD_CLOEXEC, first);
		if (fd < 0)
			return -errno;
		store->fds[i] = fd;
	}

	return 0;
}

static int keeper_store_say(const struct keeper_store *store)
{
	char *names = calloc(store->count + 1, KEEPER_NAME_BYTES), number[32];
	if (!names)
		return -ENOMEM;

	size_t length = 0;
	for (size_t i = 0; i < store->count; i++)
		length +=
			(size_t)sprintf(names + length, "%s%s", i > 0 ? ":" : "", store->names[i]);

	int r = setenv("LISTEN_FDNAMES", names, 1);
	free(names);
	snprintf(number, sizeof(number), "%zu", store->count);
	if (r == 0)
		r = setenv("LISTEN_FDS", number, 1);
	snprintf(number, sizeof(number), "%d", (int)getpid());
	if (r == 0)
		r = setenv("LISTEN_PID", number, 1);

	return r < 0 ? -errno : 0;
}

int keeper_store_pass(struct keeper_store *store)
{
	int r = keeper_store_move_up(store, SD_LISTEN_FDS_START + (int)store->count);

	for (size_t i = 0; r == 0 && i < store->count; i++)
		if (dup2(store->fds[i], SD_LISTEN_FDS_START + (int)i) < 0)
			r = -errno;

	return r == 0 && store->count > 0 ? keeper_store_say(store) : r;
}
