/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger: who uses how much of what [limits] bounds. It is the one way to charge, and the
 * one way to refuse: no other module compares a count with a limit of the configuration.
 *
 * A payer is somebody whose use is counted. What it is charged, its parent is charged
 * too, so that a limit can stand at either:
 *
 * 	host ---- operator ------------ session	what a client has: requests, regions, opens, pins
 * 	   |            \---- namespace	its blocks
 * 	   |            \---- retainer	what the user retains in one tier
 * 	   \----- unprivileged -- user -- session, namespace, retainer
 * 	   |             \------ tenant -- user -- session, namespace, retainer
 * 	   |                        \----- device	its memory of one device
 * 	   \----- tier		the pinned bytes in it
 * 	   \----- mover		the moves that the policy wants, and those that loads want
 *
 * A user (user.h) is a uid; an operator is one too, and has all limits of the host and no
 * others. All users that are no operators are one payer together, so that what they may
 * have leaves something to operators. A tenant (tenant.h) is a section of the configuration: it
 * has the limits that its section sets and else those of one user, and the users below it have
 * none. Where no section matches a user, operator or not, it is a tenant alone.
 *
 * A charge is embedded in what it pays for and is released with it. Where that is too
 * small for a charge of its own (a block), its owner adds and subtracts amounts instead,
 * and ledger_audit() is told what they should be.
 *
 * Some limits bound one thing at a time: the slabs of one request, the bytes of one
 * block, the length of one wait. Nothing is charged for these; they are checked.
 *
 * The ledger allocates nothing, and is used on the loop thread alone.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/config/config_fields.h"

#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ledger_resource {
	LEDGER_SESSIONS,
	LEDGER_SILENT,      /* connections that have not said HELLO */
	LEDGER_DESCRIPTORS, /* of the daemon, that sessions and commits need */
	LEDGER_REQUESTS,
	LEDGER_REQUEST_BYTES, /* memory of requests in flight, and of their replies */
	LEDGER_REGIONS,
	LEDGER_ADDRESS_SPACE,
	LEDGER_NAMESPACES,
	LEDGER_NAMESPACE_OPENS,
	LEDGER_BLOCKS,
	LEDGER_PINNED,        /* stored bytes of pinned blocks and their ancestors, by tier */
	LEDGER_TENANT_PINNED, /* the same by who made their namespace */
	LEDGER_PINS,
	LEDGER_RETAINED,        /* bytes of a tier that are retained there */
	LEDGER_RETAINED_BLOCKS, /* and their ancestors */
	LEDGER_WATCHED,         /* namespaces whose events are kept */
	LEDGER_MOVES,
	LEDGER_HELD,       /* device memory that was given back and is still held */
	LEDGER_UNREAD_FDS, /* descriptors sent, that the client has not read */
	LEDGER_LOANS,
	LEDGER_REPLICAS,  /* of blocks, for lending */
	LEDGER_LENT,      /* bytes of slabs for them */
	LEDGER_RESERVED,  /* device memory that sessions have reserved */
	LEDGER_RESERVES,  /* RESERVE requests that wait */
	LEDGER_SEQUENCES, /* records of boards */
	LEDGER_NOTICES,   /* messages unasked that wait for the client */
	LEDGER_PUBLICATIONS,
	LEDGER_PUBLISHED, /* bytes of them */
	LEDGER_MEMORY,    /* device memory of regions, asked for or not free again; see promise.h */
	LEDGER_DEVICE_MEMORY, /* of one device, by tenants (tenant.h) */
	LEDGER_HOST_MEMORY,   /* the same of host memory */
	/* checked, never charged */
	LEDGER_COMMIT_SLABS,
	LEDGER_BLOCK_BYTES,
	LEDGER_BLOCK_SEGMENTS,
	LEDGER_READY_MS,
	LEDGER_RESERVE_MS,
	LEDGER_RETAIN_MS,
	LEDGER_HELLO_MS,
	LEDGER_RESOURCES /* one past the last */
};

/* What is counted together. */
enum payer_kind {
	PAYER_HOST,
	PAYER_UNPRIVILEGED,
	PAYER_TENANT, /* has the limits of PAYER_USER, and more */
	PAYER_DEVICE, /* of a tenant */
	PAYER_USER,
	PAYER_SESSION,
	PAYER_NAMESPACE,
	PAYER_TIER,
	PAYER_RETAINER,
	PAYER_MOVER,
};

/* One key of [limits]. */
struct ledger_limit {
	const char *name; /* as in the configuration: "limits.regions" */
	enum ledger_resource resource;
	enum payer_kind payer; /* of which each may have that much */
	enum hbm_wire_unit unit;
	size_t member; /* of struct config */
	bool is_share; /* a struct config_size there: of what the payer's parent may have */
};

enum { LEDGER_LIMITS = 57 };
extern const struct ledger_limit ledger_limits[LEDGER_LIMITS];

/* A section of the configuration with limits of its own, by resource. */
struct ledger_section {
	const char *name;                   /* as in "tenant NAME" */
	const char *const *keys;            /* NULL: it has none for that */
	uint64_t refused[LEDGER_RESOURCES]; /* requests, since start */
};

/* Open to ledger.c; others read it through the functions below. */
struct payer {
	struct ledger *ledger;
	struct payer *parent; /* NULL: the host */
	enum payer_kind kind;
	struct list link;     /* in parent->children */
	struct list children; /* struct payer */
	uint64_t charges;     /* how many */
	uint64_t used[LEDGER_RESOURCES];
	uint64_t recounted[LEDGER_RESOURCES]; /* by its charges, in that recount */
	uint32_t recount;
	uint64_t limits[LEDGER_RESOURCES]; /* UINT64_MAX: none */
	struct ledger_section *section;    /* TENANT: where its limits are set; else NULL */
};

struct ledger {
	struct payer host, unprivileged;
	struct list charges;  /* all, the newest first */
	struct list *recount; /* the next to be counted again; NULL: no recount goes on */
	uint32_t recounts;    /* so far, with that one */
	struct list users;    /* struct user, of user.c */
	struct list tenants;  /* struct tenant, of tenant.c */
	bool share_namespaces;
	uint64_t connected; /* tenants that have sessions, users without one included */
	struct config_size configured[LEDGER_LIMITS]; /* bytes where it is no share */
	uint64_t refused[LEDGER_LIMITS];              /* since start */
};

/* Embedded in what it pays for; zeroed: nothing is charged. */
struct charge {
	struct list link; /* in ledger->charges */
	struct payer *payer;
	uint64_t amount;
	enum ledger_resource resource;
	uint32_t recount; /* the last that has counted it */
};

/* Takes the limits of the configuration. A share is of what the payer's parent may have when
 * the payer is opened, and at least 1. What depends on something else is set by
 * ledger_set_limit() when that is known. */
void ledger_open(struct ledger *ledger, const struct config *config);

/* A payer below the host, with the limits of its kind. */
void payer_open(struct payer *payer, struct ledger *ledger, enum payer_kind kind);
/* The same below another payer. */
void payer_open_below(struct payer *payer, struct payer *parent, enum payer_kind kind);
/* It has no charges any more; amounts without a charge go with it. Accepts a zeroed one. */
void payer_close(struct payer *payer);

/* Sets a payer's limit. What is above it already stays. */
void ledger_set_limit(struct payer *payer, enum ledger_resource resource, uint64_t limit);
/* Sets it to what it was when the payer was opened, or would be now. */
void ledger_reset_limit(struct payer *payer, enum ledger_resource resource);
/* Sets the limit of the host, if that is a share: `whole` is what it is a share of. */
void ledger_set_whole(struct ledger *ledger, enum ledger_resource resource, uint64_t whole);
/* The payer's own; UINT64_MAX: none. */
uint64_t ledger_own_limit(const struct payer *payer, enum ledger_resource resource);
/* The lowest limit on the way up from that payer. */
uint64_t ledger_limit(const struct payer *payer, enum ledger_resource resource);
uint64_t ledger_used(const struct payer *payer, enum ledger_resource resource);

/* Whether so much more may be charged. */
bool ledger_has_room(const struct payer *payer, enum ledger_resource resource, uint64_t amount);
/* Whether the payer's own limit lets it have so much more. */
bool ledger_has_own_room(const struct payer *payer, enum ledger_resource resource, uint64_t amount);
/* The tenant that pays for it, or the user that no tenant has; the host, of what is neither's. */
const struct payer *ledger_tenant(const struct payer *payer);
/* Whether the limits of the payer, and of those above it up to its tenant, let it have so much
 * more. */
bool ledger_has_tenant_room(const struct payer *payer, enum ledger_resource resource,
			    uint64_t amount);
/* Whether the limits of the tenant and of all sessions let this one have any more. Of all: there
 * is room, or the session has less than its share, where every tenant with sessions has an equal
 * one, and its sessions share that equally. So those that have the most wait first, and all
 * together have at most twice the limit and what each charges last. */
bool ledger_has_shared_room(const struct payer *session, enum ledger_resource resource);
/* As ledger_has_room(), for a request, which is refused otherwise: counts the refusal. */
bool ledger_check(struct payer *payer, enum ledger_resource resource, uint64_t amount);
/* One line for people, after a false of these: which limit, what it allows, and what is
 * used. Cut to size. */
void ledger_reason(const struct payer *payer, enum ledger_resource resource, uint64_t amount,
		   char *text, size_t size);

/* HBM_OK, or HBM_LIMIT: nothing has changed. The charge must be empty. */
int ledger_charge(struct charge *charge, struct payer *payer, enum ledger_resource resource,
		  uint64_t amount);
/* Charges whatever the limit: for what is there already, or was let in before its size was
 * known. A charge of the same payer and resource grows. */
void ledger_charge_always(struct charge *charge, struct payer *payer, enum ledger_resource resource,
			  uint64_t amount);
/* No-op on an empty charge. */
void ledger_release(struct charge *charge);

/* For what has no charge of its own. Whether there is room is the caller's to ask. */
void ledger_add(struct payer *payer, enum ledger_resource resource, uint64_t amount);
void ledger_subtract(struct payer *payer, enum ledger_resource resource, uint64_t amount);

/* ---- audit ---- */

/* Counts at most `max` more charges again, each for its payer; begins when no recount goes
 * on. Those that come, grow or go behind it are counted, too. False when all are counted:
 * as of this moment, and of every later one until ledger_end_recount(). */
bool ledger_recount(struct ledger *ledger, uint64_t max);
void ledger_end_recount(struct ledger *ledger);

/* The state of one limit. */
struct ledger_account {
	uint64_t limit;   /* of each payer; the highest where they differ */
	uint64_t payers;  /* that are limited so */
	uint64_t used;    /* by all of them together */
	uint64_t highest; /* by one of them */
	uint64_t refused;
	bool balanced;         /* what each payer uses is the sum of its charges */
	uint64_t counted, sum; /* otherwise: the first that differs */
};

/* Of all limits, by the recount that goes on, whose rest is done at once. */
void ledger_audit(struct ledger *ledger, struct ledger_account accounts[LEDGER_LIMITS]);
