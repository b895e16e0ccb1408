/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retention: which blocks clients retain: with what priority, until when, and for which user.
 * A block that is not here has none, and costs nothing. It knows no tiers' orders and no tree:
 * what a retained block's ancestors have is cache_retain.c's.
 *
 * Each entry is charged to its user ([limits] retained_total, retained_per_user), and what it
 * takes in a tier where it goes after others to that user there ([limits] retained): it is
 * favoured there. That is decided as it enters the tier's order, and holds until it leaves.
 *
 * The entries are found by their block, and by what ends first. Of those that end at the same
 * time the last one made is first: descendants are made after their ancestors.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/user.h"

struct retainer;

struct retained {
	uint32_t number;  /* the block */
	uint32_t parent;  /* of it; 0: none; cache_retain.c's */
	uint8_t priority; /* 1 to HBM_WIRE_PRIORITY_MAX */
	uint8_t tier;     /* where it is favoured; 0: nowhere */
	uint64_t until_ns;
	uint64_t bytes;         /* that it is charged for there */
	uint32_t children;      /* entries of blocks that continue it; cache_retain.c's */
	uint32_t mark;          /* its record, or 0 (marks.h) */
	uint64_t made;          /* as a count of such moments */
	size_t place;           /* among those by their end */
	struct retained *after; /* of the same hash */
	struct retainer *retainer;
	struct charge charge;
};

/* A user that retains blocks. */
struct retainer {
	struct list link;
	struct user *user;
	uint64_t blocks;
	struct payer tiers[]; /* by number, from 1: of the bytes that are favoured there */
};

struct retention {
	struct ledger *ledger;
	uint32_t tiers; /* how many there are */
	struct retained **buckets;
	uint64_t bucket_count;
	struct retained **by_end; /* a heap */
	uint64_t count, max, made;
	struct list retainers;
};

/* Before any block is retained: for as many as the ledger lets in. -ENOMEM. */
int retention_open(struct retention *retention, struct ledger *ledger);
void retention_close(struct retention *retention);
uint64_t retention_bytes_for(uint64_t blocks, uint64_t users, uint64_t tiers); /* when full */

/* NULL: the block is not retained. */
struct retained *retention_find(const struct retention *retention, uint32_t number);
/* The one that ends first; NULL: there is none. */
struct retained *retention_first(const struct retention *retention);
/* Retains a block, or retains it with more priority and longer, for that user from now on. It
 * is favoured nowhere. NULL: there are as many as [limits] allows, or no memory; what was there
 * stays. */
struct retained *retention_set(struct retention *retention, uint32_t number, struct user *user,
			       unsigned priority, uint64_t until_ns);
void retention_remove(struct retention *retention, struct retained *retained);

/* Whether the user may have so many bytes more of a tier, of which `limit` may be one user's;
 * counts a refusal. */
bool retention_has_bytes(struct retention *retention, struct user *user, uint8_t tier,
			 uint64_t bytes, uint64_t limit);
/* Favours a block in a tier, if its user may have so many bytes more there: whether it does. */
bool retention_favour(struct retained *retained, uint8_t tier, uint64_t bytes, uint64_t limit);
void retention_unfavour(struct retained *retained);
/* What is favoured in a tier. */
uint64_t retention_favoured(const struct retention *retention, uint8_t tier);
