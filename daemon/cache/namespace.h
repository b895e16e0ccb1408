/* SPDX-License-Identifier: Apache-2.0 */
/*
 * namespace: the families of interchangeable blocks. The first open of a spec creates its
 * namespace, any equal spec finds it again, and it is forgotten when it has no opens and
 * no blocks. Its number is part of every key in the index, added by the daemon.
 *
 * Each is for the users that share with the one who made it (user_shares()). For the others there
 * is none, and what they say is not compared with it.
 *
 * Specs are compared whole. Knowing the salt is what lets a client in, so the salt is kept
 * apart (salts.h), and the fingerprint is a digest of the spec without it, with what else it is
 * told apart by after it, unless that is raw and may be on NVMe: it says no more
 * than the members beside it in a record, and people compare the namespaces of two hosts
 * by it. A client cannot open a namespace by its fingerprint, and only an operator can by
 * its number.
 *
 * Those with the same group, model, weights and salt, of users that share, are the members of one
 * group, but no more than HBM_WIRE_GROUP_MAX: each has a part of what a key stands for, and what is
 * used or evicted in one of them is in all (cache_group.c). They are a ring through their numbers.
 *
 * With a state (namespace_record.h) each has a record there from before its number is known to
 * anyone until it is forgotten, so that the daemon after this one has it with the same number. And
 * before there is one with wipe_on_free the state says that memory may have what is to be
 * overwritten (STATE_WIPED), until there is none any more and nothing of them is left.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/user.h"

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct namespace_drop;
struct namespace_record;
struct event_ring;
struct state;

/* What namespaces are told apart by. */
struct namespace_identity {
	const struct hbm_wire_namespace_spec *spec;
	const struct hbm_wire_encoding *encoding; /* NULL: raw */
	bool memory_only, wipe_on_free;
	const char *group; /* of at most HBM_WIRE_NAME_BYTES - 1 bytes; NULL or empty: none */
};

struct namespace
{
	struct hbm_wire_namespace_spec spec; /* without its salt */
	uint8_t fingerprint[16];             /* of that */
	struct hbm_wire_encoding encoding;
	char group[HBM_WIRE_NAME_BYTES]; /* empty: none */
	uint16_t next_member;            /* of its group; its own number: there are no others */
	uint64_t block_bytes;            /* the spec's */
	uint64_t logical_bytes;          /* of a block before a client encoded it */
	struct payer payer;              /* of its blocks */
	struct user *user;               /* that made it, and is charged for it */
	struct charge charge;            /* for itself */
	uint64_t blocks_in[HBM_TIERS];   /* those that belong to a tier of that kind */
	uint64_t pins;                   /* of blocks that have not been dropped */
	uint64_t pins_lost;              /* of blocks that were dropped, so far */
	uint32_t opens;
	uint32_t drops;   /* of all its blocks, so far (serve_drop.c) */
	uint32_t record;  /* in the state; STATE_NONE: it has none */
	uint64_t closed;  /* when it was open last, as a count of such moments */
	uint64_t catalog; /* its id in the catalog (catalog.h), which sets it; 0: none */
	uint64_t forgets; /* the last of its durable blocks that was dropped: catalog_forgets() */
	/* Its blocks are being dropped (serve_drop.c), or NULL. Meanwhile it counts as
	 * empty and accepts no blocks. */
	struct namespace_drop *drop;
	struct event_ring *events; /* its events, or NULL: no client asks for them */
	bool used;
	bool salted;
	bool ephemeral;   /* its blocks are dropped when no session has it open any longer */
	bool memory_only; /* its blocks go to HBM and DDR alone */
	/* Extents are overwritten when its blocks leave them (daemon/move/wiper.h). */
	bool wipe_on_free;
	bool restored; /* one of its opens is namespaces_restore()'s */
};

struct namespaces;

int namespaces_new(struct namespaces **out, struct ledger *ledger); /* at most 65534 */
struct namespaces *namespaces_free(struct namespaces *namespaces);
/* The number of that namespace, among those that the user shares with who made them; 0: there is
 * none. */
uint16_t namespaces_find(const struct namespaces *namespaces,
			 const struct namespace_identity *identity, const struct user *user);
/* Opens that namespace, which the user pays for if it is new, and returns its number (from 1);
 * 0: there are as many as [limits] allows. */
uint16_t namespaces_open(struct namespaces *namespaces, const struct namespace_identity *identity,
			 struct user *user);
/* Whether it is open already, or in no group, or that has room for one more. */
bool namespaces_may_join(const struct namespaces *namespaces,
			 const struct namespace_identity *identity, const struct user *user);
/* From now on all of them have records in that state, which must have none of others; before the
 * first is opened. */
void namespaces_record(struct namespaces *namespaces, struct state *state);
/* The records are for the next daemon from now on: they stay, whatever becomes of the namespaces. */
void namespaces_leave_records(struct namespaces *namespaces);
/* What a record says of its namespace; it names members of the record. */
struct namespace_identity namespaces_recorded_identity(const struct namespace_record *record);
/* Makes the namespace of a record of that state again, with its number, and opens it until
 * namespaces_release_restored(). False: the number is used or too high, or there are as many as
 * [limits] allows; the record stays. */
bool namespaces_restore(struct namespaces *namespaces, uint32_t record, struct user *user);
/* Ends those opens: the clients that had them open before have opened them again, or will not. */
void namespaces_release_restored(struct namespaces *namespaces);
/* Its blocks are dropped when no session has it open any longer. */
void namespaces_set_ephemeral(struct namespaces *namespaces, uint16_t number);
void namespaces_ref(struct namespaces *namespaces, uint16_t number);   /* one more open */
void namespaces_unref(struct namespaces *namespaces, uint16_t number); /* one open fewer */
/* Its whole spec, with the salt: for what keeps namespaces over a restart, and nothing
 * else. */
void namespaces_spec(const struct namespaces *namespaces, uint16_t number,
		     struct hbm_wire_namespace_spec *spec);
/* Who takes the turns of overwriting what its blocks leave: its user, whatever its sessions do. */
struct fair_payer namespace_wiper(const struct namespace *ns);
/* A namespace in use, or NULL for any other number. */
struct namespace *namespaces_get(struct namespaces *namespaces, uint32_t number);
void namespaces_block_gone(struct namespaces *namespaces, uint16_t number); /* one block fewer */

/* Calls fn when a namespace has been forgotten and its number is free. */
void namespaces_on_forget(struct namespaces *namespaces, void (*fn)(void *arg, uint16_t number),
			  void *arg);
/* Calls fn when an ephemeral namespace that has blocks in tiers is no longer open. */
void namespaces_on_abandon(struct namespaces *namespaces, void (*fn)(void *arg, uint16_t number),
			   void *arg);
/* Of those that are not open, have no pins and are not being dropped: the one that was
 * closed longest ago. Only those that the user's tenant made; NULL: that any made that has more
 * than so many. 0: there is none. */
uint16_t namespaces_coldest(const struct namespaces *namespaces, const struct user *user,
			    uint64_t more_than);
/* Whether one with wipe_on_free has blocks; or an ephemeral one of those. */
bool namespaces_have_wiped(const struct namespaces *namespaces, bool ephemeral);
/* Whether the state says that memory may have what is to be overwritten, although there is no
 * namespace with wipe_on_free. */
bool namespaces_leave_wiped(const struct namespaces *namespaces);
/* Then: it has no such bytes any more. */
void namespaces_end_wiped(struct namespaces *namespaces);
uint64_t namespaces_count(const struct namespaces *namespaces);
/* The number of the tenant that made each, by its number; 0: none. */
const uint16_t *namespaces_owners(const struct namespaces *namespaces);

static inline uint64_t namespace_blocks(const struct namespace *ns)
{
	return ledger_used(&ns->payer, LEDGER_BLOCKS);
}
