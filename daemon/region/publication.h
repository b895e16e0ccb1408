/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publication: a range of a region that has a name: memory that outlives the process that made
 * it, and that other processes attach (weights, shared prefixes).
 *
 * A publication is a region of no session, without address space: its slots have the very
 * slabs of the range, each with a reference. So the region that they come from, and its
 * client, may go at any time. An attached region is a region of a session whose slots are
 * backed by those slabs instead of new ones when they are committed.
 *
 * 	published ----> withdrawn ----> closed: its slabs go back to the pool
 * 	  ^   UNPUBLISH |    no region is attached, and no other slot has its slabs
 * 	  \_____________/
 * 	   the same range is published again
 *
 * A name is unique among the published ones of a user. A withdrawn one is not found any more. What
 * is attached stays: the memory is charged to the user that published it until it is closed.
 * Slots of a client that was killed count as others until its process is gone, for it may
 * still write.
 *
 * Members of a group get descriptors, by which they can write. So what is lent as it is
 * (lent.h) is not published for a group, and what is or was so published is not lent: none
 * but its user writes to what borrowers read.
 *
 * Published slabs count as the publications', no longer as the session's that made them.
 * Who gave back slots of it last, and is still connected, is charged for what its process
 * then holds (held.h).
 *
 * Publications outlive the daemon as regions do (region_kept.h), also without any client.
 */
#pragma once

#include "daemon/base/reason.h"
#include "daemon/ledger/user.h"
#include "daemon/region/region.h"

struct publication;

struct publications {
	struct list all; /* struct publication */
	struct ledger *ledger;
	struct regions regions; /* theirs */
};

int publications_open(struct publications **out, struct ledger *ledger); /* -ENOMEM */
/* For the time when no session is left. Accepts NULL, returns NULL. */
struct publications *publications_close(struct publications *publications);

/* The published one of that name, uid and tenant (NULL: of a uid that none has); NULL: there is
 * none. */
struct publication *publication_find(const struct publications *publications, uid_t uid,
				     const struct tenant *tenant, const char *name);
/* What is to be published, and as what. */
struct publication_form {
	const char *name;
	uid_t uid;
	struct tenant *tenant; /* that has the session; or NULL */
	bool for_group;
	gid_t gid;
	struct region *region; /* of that user's */
	uint64_t offset, bytes;
};

/* HBM_OK, or a refusal with its reason, that
 * changed nothing. */
int publication_new(struct publications *publications, const struct publication_form *form,
		    const struct reason *why);
/* One of an earlier daemon. The form's region is one of the publications', and all of it is
 * backed; it becomes the publication's own. NULL: no memory. */
struct publication *publication_restore(struct publications *publications,
					const struct publication_form *form);
/* As it was restored, all that is attached to it and all its slabs are there: one that is
 * withdrawn may be closed at once. */
void publications_restored(struct publications *publications);
/* It is not found any more. It may be closed at once. */
void publication_withdraw(struct publication *publication);
uint64_t publication_bytes(const struct publication *publication);
uid_t publication_uid(const struct publication *publication);
/* The first that keeps a user from lending a slab of that range, which is committed, as it is:
 * another user has made it, or it is, or was, for a group. NULL: none does. */
const struct publication *publication_bars_loan(const struct region *region, uint64_t offset,
						uint64_t bytes, const struct user *user);

/* Fills in at most `room` records, of those of one user or (NULL) of all, as
 * regions_records() does. */
uint32_t publications_records(const struct publications *publications, const struct user *user,
			      uint32_t from, struct hbm_wire_region *records, uint32_t room,
			      uint32_t *next);
/* How many regions are attached to those of a device. */
uint64_t publications_attached(const struct publications *publications,
			       const struct device *device);
