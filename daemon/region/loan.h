/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loan: what the clients of one session have borrowed. A loan holds a replica until it is
 * returned, or until the session has ended and its process is gone: it may still read.
 *
 * Slabs of a loan may back slots of the session's regions. Each such slot holds the replica
 * itself, as the loan does, which may be returned before.
 *
 * An export says that a session was sent descriptors of lent slabs. It has them, as both
 * sides count, while it has a loan there, or a reply is in preparation that names the slabs
 * without sending them: a client keeps what it has until its BORROWs are answered. Later the
 * export is remembered while no other session has the slabs: what a client holds of slabs
 * that are closed is charged to the session that had them last. A session that ends takes
 * those along that it alone has had, but not what a region of another has as its own. Where a
 * request of another holds these at that moment, or they are read, the session that has ended
 * stays until that is over.
 */
#pragma once

#include "daemon/region/lend.h"

#define LOAN_BUCKETS 64
/* Loans that are returned in one turn when a session is over, or replicas and slabs that it takes
 * along, but for those of the last. */
#define BORROWER_SLICE 512

/* Of a session: embedded in its regions. */
struct borrower {
	struct payer *payer;
	struct holder *holder;
	struct list loans[LOAN_BUCKETS]; /* struct loan, by id */
	struct list exports;
	uint64_t count, bytes; /* of loans */
	uint64_t last_id;
	uint64_t earlier;     /* up to that number loans are an earlier daemon's, and gone */
	bool ended;           /* it gets no more loans */
	bool released;        /* its process is gone, and so is what it had */
	struct list settling; /* struct export, that its end is still to look at */
	struct background work;
	bool works; /* that is on */
	/* After the end of that, unless the call that began it saw its end; may free it. */
	void (*settled)(struct borrower *borrower);
};

struct loan {
	struct list by_borrower, by_replica;
	struct borrower *borrower;
	struct replica *replica; /* NULL: it is not made yet */
	struct export *export;
	struct charge charge;
	uint64_t id;
	bool marked; /* named by the request that is looked at */
};

void borrower_init(struct borrower *borrower, struct payer *payer, struct holder *holder);
/* Whether it has no loan, and nothing goes on with it. */
bool borrower_is_empty(const struct borrower *borrower);
/* The session has ended: it gets no more loans. Those that it has stay. What is many is done in
 * slices, the rest in the background. */
void borrower_end(struct borrower *borrower);
/* Its process is gone, or the daemon stops: all loans are returned, in the same way. */
void borrower_release(struct borrower *borrower);

/* A loan that is charged and not made yet: HBM_OK, HBM_LIMIT, HBM_NO_SPACE (no memory). */
int loan_new(struct loan **out, struct borrower *borrower);
/* Returns it. Accepts NULL, returns NULL. */
struct loan *loan_free(struct loan *loan);
struct loan *loan_find(const struct borrower *borrower, uint64_t id);
/* Whether an earlier daemon may have given it: it needs no RETURN. */
bool loan_is_earlier(const struct borrower *borrower, uint64_t id);
/* Loans of this daemon have higher numbers than those of the daemons before. */
void borrower_go_on(struct borrower *borrower, uint64_t last_id);

/* A reply to the session is to be of these slabs, until it is sent or given up. *named: the
 * session has the descriptors, and keeps them until then. NULL: no memory. */
struct export *export_begin(struct borrower *borrower, struct lent *lent, bool *named);
void export_end(struct export *export, const struct borrower *borrower, bool named);
/* The session has the slabs because they are, or were, its region's. False: no memory. */
bool borrower_owns(struct borrower *borrower, struct lent *lent);
/* A slot of a region of the session is backed by a slab that is lent to it, with all of its
 * replica; or is so no more. */
void export_hold(struct borrower *borrower, const struct slab *slab);
void export_unhold(struct borrower *borrower, const struct slab *slab);
/* The loan is made: it holds its replica, and its session has the slabs. */
void loan_make(struct loan *loan, struct replica *replica, struct export *export);
