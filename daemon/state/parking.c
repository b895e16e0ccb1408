/* SPDX-License-Identifier: Apache-2.0 */
/* parking: see parking.h. A group's name in the store is its number. */
#include "daemon/state/parking.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "daemon/base/list.h"
#include "daemon/state/keep.h"

#define PARKING_MAGIC 0x676e696b726170ull /* "parking", little-endian */
#define PARKING_NAME "park-"
#define PARKING_BUCKETS 1024u
#define PARKING_SPARE (PARKING_GROUP / 2)      /* for fewer than that there is to be room always */
#define PARKING_ENOUGH (PARKING_GROUP * 3 / 4) /* with so much elsewhere none is kept empty */

struct parked_message {
	uint64_t magic, id;
};

struct group {
	struct list link;
	unsigned number;
	int in, out;
	int answer;     /* of keep_begin_pair(); -1: it is kept */
	uint32_t count; /* messages */
	uint32_t dead;  /* of them to be dropped */
};

struct parked {
	struct parked *next; /* in the bucket */
	struct group *group;
	uint64_t id;
	int came;   /* as it came back, not claimed; else -1 */
	bool dead;  /* to be dropped */
	bool twice; /* one of its two messages is to be dropped */
};

struct parking {
	struct list groups;
	struct parked *buckets[PARKING_BUCKETS];
	size_t count;
	unsigned last_number;
};

/* ---- what is parked, by id ---- */

static struct parked **parking_bucket(struct parking *parking, uint64_t id)
{
	uint64_t mixed = (id ^ id >> 56) * 0x9e3779b97f4a7c15ull;
	return &parking->buckets[mixed >> 32 & (PARKING_BUCKETS - 1)];
}

/* Where the one with that id is linked, or would be. */
static struct parked **parking_find(struct parking *parking, uint64_t id)
{
	struct parked **at = parking_bucket(parking, id);
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static struct parked *parking_add(struct parking *parking, uint64_t id, struct group *group,
				  int came)
{
	struct parked *parked = malloc(sizeof(*parked));
	if (!parked)
		return NULL;

	struct parked **bucket = parking_bucket(parking, id);
	*parked = (struct parked){.next = *bucket, .group = group, .id = id, .came = came};
	*bucket = parked;
	parking->count++;

	return parked;
}

static void parking_remove(struct parking *parking, struct parked **at)
{
	struct parked *parked = *at;

	if (parked->came >= 0)
		close(parked->came);
	*at = parked->next;
	parking->count--;
	free(parked);
}

/* ---- groups ---- */

static void group_close(struct group *group)
{
	list_remove(&group->link);
	if (group->answer >= 0)
		close(group->answer);
	close(group->in);
	close(group->out);
	free(group);
}

static void group_name(const struct group *group, char name[KEEP_NAME_BYTES])
{
	snprintf(name, KEEP_NAME_BYTES, PARKING_NAME "%u", group->number);
}

static struct group *group_of(struct parking *parking, unsigned number, int in, int out)
{
	struct group *group = malloc(sizeof(*group));
	if (!group)
		return NULL;

	*group = (struct group){.number = number, .in = in, .out = out, .answer = -1};
	list_push_back(&parking->groups, &group->link);

	return group;
}

/* A group that is about to be kept. */
static int group_begin(struct group **out, struct parking *parking)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -errno;

	struct group *group = group_of(parking, ++parking->last_number, ends[0], ends[1]);
	if (!group) {
		close(ends[0]);
		close(ends[1]);
		return -ENOMEM;
	}

	char name[KEEP_NAME_BYTES];
	group_name(group, name);
	int r = keep_begin_pair(name, ends, &group->answer);
	if (r < 0) {
		group_close(group);
		return r;
	}

	*out = group;

	return 0;
}

/* 0: it is kept. -EAGAIN: it is not known yet, without `wait`; else negative errno, and it is
 * closed. */
static int group_end(struct group *group, bool wait)
{
	if (group->answer < 0)
		return 0;

	char name[KEEP_NAME_BYTES];
	group_name(group, name);
	int r = keep_end_pair(name, group->answer, wait);
	if (r == -EAGAIN)
		return r;

	group->answer = -1;
	if (r < 0)
		group_close(group);

	return r;
}

static int group_with_room(struct group **out, struct parking *parking)
{
	struct group *group = NULL;
	int r = 0;

	list_for_each (node, &parking->groups) {
		group = container_of(node, struct group, link);
		if (group->count < PARKING_GROUP)
			break;
		group = NULL;
	}

	if (!group)
		r = group_begin(&group, parking);
	if (r == 0)
		r = group_end(group, true);
	*out = group;

	return r;
}

/* What else there is room for. */
static size_t parking_room_beside(const struct parking *parking, const struct group *group)
{
	size_t room = 0;

	list_for_each (node, &parking->groups) {
		const struct group *other = container_of(node, struct group, link);
		if (other != group)
			room += PARKING_GROUP - other->count;
	}

	return room;
}

/* Another group is kept before it is needed, as that takes the manager a moment; it is not waited
 * for. */
static void parking_prepare(struct parking *parking)
{
	struct group *next;

	if (parking_room_beside(parking, NULL) < PARKING_SPARE)
		(void)group_begin(&next, parking);
}

/* An empty group is not kept any more where there is room enough without it. */
static void group_settle(struct parking *parking, struct group *group)
{
	if (group_end(group, false) < 0 || group->count > 0 ||
	    parking_room_beside(parking, group) < PARKING_ENOUGH)
		return;

	char name[KEEP_NAME_BYTES];
	group_name(group, name);
	keep_drop(name);
	group_close(group);
}

static void parking_settle(struct parking *parking)
{
	list_for_each_safe (node, after, &parking->groups)
		group_settle(parking, container_of(node, struct group, link));
}

/* ---- messages ---- */

static int group_send(const struct group *group, uint64_t id, int fd)
{
	const struct parked_message message = {PARKING_MAGIC, id};
	const struct iovec iov = {(void *)(uintptr_t)&message, sizeof(message)};
	return fdpass_send(group->in, &iov, 1, &fd, 1);
}

/* The first message: its id and a copy of its descriptor. 0; -EPROTO: it is none of ours;
 * negative errno: it cannot be read now. */
static int group_peek(int out, uint64_t *id, int *fd)
{
	struct parked_message message;
	struct fdpass_fds fds;
	ssize_t n = fdpass_receive(out, &message, sizeof(message), &fds, FDPASS_PEEK);
	if (n < 0)
		return n == -EMSGSIZE ? -EPROTO : (int)n;
	if (fds.lost)
		return -EMFILE;

	if (n != sizeof(message) || message.magic != PARKING_MAGIC || fds.count != 1) {
		fdpass_close(&fds);
		return -EPROTO;
	}

	*id = message.id;
	*fd = fds.list[0];

	return 0;
}

/* Takes the first message away; its descriptor never comes into our table. */
static void group_consume(struct group *group)
{
	struct parked_message message;
	recv(group->out, &message, sizeof(message), MSG_DONTWAIT);
}

/* The first message is dropped, if it is to be, and goes to the end of the group otherwise. */
static int group_turn(struct parking *parking, struct group *group)
{
	uint64_t id = 0;
	int fd = -1, r = group_peek(group->out, &id, &fd);
	struct parked **at = parking_find(parking, id), *parked = r == 0 ? *at : NULL;

	if (r < 0 && r != -EPROTO)
		return r;

	if (parked && !parked->dead && !parked->twice) {
		r = group_send(group, id, fd);
		if (r == 0)
			group_consume(group);
		close(fd);
		return r;
	}

	group_consume(group);
	group->count--;
	group->dead--;
	if (fd >= 0)
		close(fd);
	if (parked && parked->twice)
		parked->twice = false;
	else if (parked)
		parking_remove(parking, at);

	return 0;
}

/* Drops what is to be dropped, as far as it can now. */
static void group_sweep(struct parking *parking, struct group *group)
{
	uint32_t turns = group->count;

	while (group->dead > 0 && turns-- > 0)
		if (group_turn(parking, group) < 0)
			return;
}

static void parking_sweep(struct parking *parking)
{
	list_for_each_safe (node, after, &parking->groups) {
		struct group *group = container_of(node, struct group, link);
		if (group->dead > 0)
			group_sweep(parking, group);
	}

	parking_settle(parking);
}

/* ---- opening ---- */

/* How many messages wait at an end. */
static uint32_t parking_waiting(int end)
{
	int bytes = 0;
	if (ioctl(end, FIONREAD, &bytes) < 0)
		return 0;
	return (uint32_t)bytes / (uint32_t)sizeof(struct parked_message);
}

/* The next message, which stays. */
static int parking_look(struct parking *parking, struct group *group)
{
	uint64_t id;
	int fd, r = group_peek(group->out, &id, &fd);
	if (r == -EPROTO)
		group->dead++;
	if (r < 0)
		return r == -EPROTO ? 0 : r;

	struct parked *known = *parking_find(parking, id);
	if (!known)
		return parking_add(parking, id, group, fd) ? 0 : (close(fd), -ENOMEM);

	close(fd);
	group->dead += !known->twice;
	known->twice = true;

	return 0;
}

/* Finds what lies in a group and changes nothing. */
static int parking_read(struct parking *parking, struct group *group)
{
	const int from_first = 0, off = -1;
	if (setsockopt(group->out, SOL_SOCKET, SO_PEEK_OFF, &from_first, sizeof(from_first)) < 0)
		return -errno;

	int r = 0;
	group->count = parking_waiting(group->out);
	for (uint32_t i = 0; r == 0 && i < group->count; i++)
		r = parking_look(parking, group);

	if (setsockopt(group->out, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) < 0 && r == 0)
		r = -errno;

	return r;
}

/* Both ends are kept in one message, so that a group that is not whole is none of ours. */
static bool parking_take_ends(const char *name, int *in, int *out)
{
	int a = keep_take(name), b = keep_take(name), more = keep_take(name);

	if (a >= 0 && b >= 0 && more < 0 && (parking_waiting(a) == 0 || parking_waiting(b) == 0)) {
		*in = parking_waiting(a) == 0 ? a : b;
		*out = *in == a ? b : a;
		return true;
	}

	for (; more >= 0; more = keep_take(name))
		close(more);
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	keep_drop(name);

	return false;
}

static int parking_take_group(struct parking *parking, const char *name)
{
	unsigned number = (unsigned)strtoul(name + strlen(PARKING_NAME), NULL, 10);
	int in, out;
	if (!parking_take_ends(name, &in, &out))
		return 0;

	if (number > parking->last_number)
		parking->last_number = number;

	struct group *group = group_of(parking, number, in, out);
	if (!group) {
		close(in);
		close(out);
		return -ENOMEM;
	}

	return parking_read(parking, group);
}

int parking_open(struct parking **out)
{
	struct parking *parking = calloc(1, sizeof(*parking));
	if (!parking)
		return -ENOMEM;

	list_init(&parking->groups);
	char name[KEEP_NAME_BYTES];
	int r = 0;
	while (r == 0 && keep_find(PARKING_NAME, name))
		r = parking_take_group(parking, name);

	struct group *first;
	if (r == 0 && list_empty(&parking->groups) && keep_is_there())
		r = group_with_room(&first, parking);
	if (r < 0) {
		parking_close(parking);
		return r;
	}

	parking_sweep(parking);
	*out = parking;

	return 0;
}

struct parking *parking_close(struct parking *parking)
{
	if (!parking)
		return NULL;

	for (size_t i = 0; i < PARKING_BUCKETS; i++)
		while (parking->buckets[i])
			parking_remove(parking, &parking->buckets[i]);
	list_for_each_safe (node, after, &parking->groups)
		group_close(container_of(node, struct group, link));
	free(parking);

	return NULL;
}

/* ---- use ---- */

int parking_put(struct parking *parking, uint64_t id, int fd)
{
	if (!keep_is_there())
		return 0;

	parking_sweep(parking);
	struct parked *known = *parking_find(parking, id);
	assert(!known || known->dead);
	if (known)
		return -EMFILE; /* which keeps it from being dropped */

	struct group *group;
	int r = group_with_room(&group, parking);
	if (r < 0)
		return r;

	if (!parking_add(parking, id, group, -1))
		r = -ENOMEM;
	else if ((r = group_send(group, id, fd)) < 0)
		parking_remove(parking, parking_find(parking, id));
	else
		group->count++;
	parking_prepare(parking);

	return r;
}

/* To be dropped by the next sweep. */
static void parking_mark(struct parked *parked)
{
	if (!parked || parked->dead)
		return;

	parked->dead = true;
	parked->group->dead++;
}

void parking_drop(struct parking *parking, uint64_t id)
{
	parking_drop_many(parking, &id, 1);
}

void parking_drop_many(struct parking *parking, const uint64_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		parking_mark(*parking_find(parking, ids[i]));
	parking_sweep(parking);
}

int parking_claim(struct parking *parking, uint64_t id)
{
	struct parked *parked = *parking_find(parking, id);
	if (!parked || parked->dead)
		return -1;

	int fd = parked->came;
	parked->came = -1;

	return fd;
}

size_t parking_let_go(struct parking *parking)
{
	size_t count = 0;

	for (size_t i = 0; i < PARKING_BUCKETS; i++) {
		for (struct parked *parked = parking->buckets[i]; parked; parked = parked->next) {
			count += parked->came >= 0;
			if (parked->came >= 0)
				parking_mark(parked);
		}
	}

	parking_sweep(parking);

	return count;
}

size_t parking_count(const struct parking *parking)
{
	return parking->count;
}
