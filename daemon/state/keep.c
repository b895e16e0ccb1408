/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: see keep.h. Names get a prefix on their way out, by which inherited.c knows what was
 * kept from what the unit passes. The manager answers nothing but a barrier: what it had room
 * for is known from counting.
 */
#include "daemon/state/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/base/log.h"

#define KEEP_PREFIX "kept-"
#define KEEP_ANSWER_MS 5000
#define KEEP_LIMIT 4096 /* whatever the manager says: its work for each grows with their number */

struct keep_entry {
	char name[KEEP_NAME_BYTES];
	int came; /* as it came back, not taken; else -1 */
};

static struct {
	struct keep_entry *list; /* every descriptor that is kept */
	size_t count, room;
} kept;

/* ---- who keeps ---- */

static size_t keep_limit(void)
{
	const char *text = getenv("NOTIFY_SOCKET") ? getenv("FDSTORE") : NULL;
	unsigned long long limit = text ? strtoull(text, NULL, 10) : 0;
	return limit < KEEP_LIMIT ? (size_t)limit : KEEP_LIMIT;
}

bool keep_is_there(void)
{
	return keep_limit() > 0;
}

size_t keep_count(void)
{
	return kept.count;
}

/* ---- the list ---- */

static bool keep_is_name(const char *name)
{
	size_t length = strlen(name);
	return length > 0 && length < KEEP_NAME_BYTES &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static int keep_reserve(size_t count)
{
	if (kept.count + count <= kept.room)
		return 0;

	size_t room = 2 * kept.room + count;
	struct keep_entry *list = reallocarray(kept.list, room, sizeof(*list));
	if (!list)
		return -ENOMEM;

	kept.list = list;
	kept.room = room;

	return 0;
}

/* There is room for it. */
static void keep_add(const char *name, int came)
{
	struct keep_entry *entry = &kept.list[kept.count++];
	*entry = (struct keep_entry){.came = came};
	snprintf(entry->name, sizeof(entry->name), "%s", name);
}

static bool keep_has(const char *name)
{
	for (size_t i = 0; i < kept.count; i++)
		if (strcmp(kept.list[i].name, name) == 0)
			return true;
	return false;
}

/* ---- keeping ---- */

static void keep_send_drop(const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s%s", KEEP_PREFIX, name);
}

/* As sd_notify_barrier(3), which waits: the other end of *answer is closed when all that was said
 * before has been heard. */
static int keep_send_barrier(int *answer)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;

	int r = sd_pid_notify_with_fds(0, 0, "BARRIER=1", &ends[1], 1);
	close(ends[1]);
	if (r <= 0) {
		close(ends[0]);
		return r < 0 ? r : -ENOTCONN;
	}

	*answer = ends[0];

	return 0;
}

static int keep_send(const char *name, const int *fds, size_t count, int *answer)
{
	char text[KEEP_NAME_BYTES + 64];
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s%s\nFDPOLL=0", KEEP_PREFIX, name);
	int r = sd_pid_notify_with_fds(0, 0, text, fds, (unsigned)count);
	if (r == 0)
		r = -ENOTCONN;
	if (r > 0)
		r = keep_send_barrier(answer);
	if (r < 0 && !keep_has(name)) /* it may have been heard */
		keep_send_drop(name);

	return r;
}

/* Whether it is heard within that time. The answer is closed, but after -EAGAIN: not yet. */
static int keep_await(int answer, int ms)
{
	struct pollfd end = {.fd = answer};
	int r;

	while ((r = poll(&end, 1, ms)) < 0 && errno == EINTR)
		;
	if (r == 0 && ms == 0)
		return -EAGAIN;

	r = r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
	close(answer);

	return r;
}

static int keep_begin(const char *name, const int *fds, size_t count, int *answer)
{
	if (!keep_is_name(name))
		return -EINVAL;
	if (!keep_is_there())
		return -ENOTCONN;
	if (kept.count + count > keep_limit())
		return -ENOSPC;

	int r = keep_reserve(count);

	return r == 0 ? keep_send(name, fds, count, answer) : r;
}

static int keep_put_all(const char *name, const int *fds, size_t count)
{
	int answer, r = keep_begin(name, fds, count, &answer);
	if (r < 0)
		return r;

	r = keep_await(answer, KEEP_ANSWER_MS);
	if (r < 0 && !keep_has(name))
		keep_send_drop(name);
	for (size_t i = 0; r == 0 && i < count; i++)
		keep_add(name, -1);

	return r;
}

int keep_put(const char *name, int fd)
{
	return keep_put_all(name, &fd, 1);
}

int keep_put_pair(const char *name, const int fds[2])
{
	return keep_put_all(name, fds, 2);
}

int keep_begin_pair(const char *name, const int fds[2], int *answer)
{
	if (keep_has(name))
		return -EEXIST;

	int r = keep_begin(name, fds, 2, answer);
	for (size_t i = 0; r == 0 && i < 2; i++)
		keep_add(name, -1);

	return r;
}

int keep_end_pair(const char *name, int answer, bool wait)
{
	int r = keep_await(answer, wait ? KEEP_ANSWER_MS : 0);
	if (r < 0 && r != -EAGAIN)
		keep_drop(name);

	return r;
}

void keep_drop(const char *name)
{
	size_t left = 0;

	for (size_t i = 0; i < kept.count; i++) {
		if (strcmp(kept.list[i].name, name) != 0)
			kept.list[left++] = kept.list[i];
		else if (kept.list[i].came >= 0)
			close(kept.list[i].came);
	}

	if (left == kept.count)
		return;

	kept.count = left;
	keep_send_drop(name);
}

/* ---- what came back ---- */

int keep_came_back(const char *full_name, int fd)
{
	size_t prefix = strlen(KEEP_PREFIX);
	if (strncmp(full_name, KEEP_PREFIX, prefix) != 0 || !keep_is_name(full_name + prefix))
		return -EINVAL;

	int r = keep_reserve(1);
	if (r == 0)
		keep_add(full_name + prefix, fd);

	return r;
}

int keep_take(const char *name)
{
	for (size_t i = 0; i < kept.count; i++) {
		struct keep_entry *entry = &kept.list[i];
		if (entry->came < 0 || strcmp(entry->name, name) != 0)
			continue;

		int fd = entry->came;
		entry->came = -1;
		return fd;
	}

	return -1;
}

bool keep_find(const char *beginning, char name[KEEP_NAME_BYTES])
{
	for (size_t i = 0; i < kept.count; i++) {
		if (kept.list[i].came < 0 ||
		    strncmp(kept.list[i].name, beginning, strlen(beginning)) != 0)
			continue;

		snprintf(name, KEEP_NAME_BYTES, "%s", kept.list[i].name);
		return true;
	}

	return false;
}

/* Another of that name was taken, and stays kept. */
static bool keep_is_in_use(const char *name)
{
	for (size_t i = 0; i < kept.count; i++)
		if (kept.list[i].came < 0 && strcmp(kept.list[i].name, name) == 0)
			return true;
	return false;
}

void keep_let_go(void)
{
	char names[256] = "", name[KEEP_NAME_BYTES];
	unsigned count = 0;

	for (; keep_find("", name); count++) {
		size_t length = strlen(names);
		snprintf(names + length, sizeof(names) - length, "%s%s", count > 0 ? ", " : "",
			 name);
		if (keep_is_in_use(name))
			close(keep_take(name));
		else
			keep_drop(name);
	}

	if (count > 0)
		log_notice("kept for an earlier daemon and of no use to this one: %s", names);
}

void keep_forget(void)
{
	for (size_t i = 0; i < kept.count; i++)
		if (kept.list[i].came >= 0)
			close(kept.list[i].came);
	free(kept.list);
	kept.list = NULL;
	kept.count = kept.room = 0;
}
