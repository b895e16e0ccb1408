/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lent: slabs that hold copies of blocks for clients to map: what a device lends. They are
 * all of one size, side by side in the daemon's address space, and divided into cells of one
 * block each: one slab of many blocks, or the slabs that are one block.
 *
 * 	             slabs granted        mapped              idle, and wanted for others
 * 	ALLOCATING ---------------> MAPPING -----> OPEN -------------------------------> closed
 * 	    \________________________/ refused: closed
 *
 * A descriptor of a slab cannot be revoked, and any process that has it can write to the
 * memory. So lent slabs hold only blocks of one namespace, lent to one user: a process that
 * writes to them harms those of its own user.
 *
 * Adopted slabs are those of a client's region, which has stored them as a block: nothing is
 * copied. They are open at once, and in the daemon's address space a little later.
 *
 * Slabs are leased from the device's pool (slab.h). When they are closed, they retire, and
 * what a client still holds of them is charged to the one that had them last (loan.h).
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/device/device.h"
#include "daemon/ledger/user.h"
#include "daemon/region/slab.h"

struct lend_user;
struct replica;

/* The most cells of lent slabs: what is done with all of them at once is bounded. */
#define LENT_CELLS_MAX 512

enum lent_state { LENT_ALLOCATING, LENT_MAPPING, LENT_OPEN };

/* Waits until lent slabs are open, or refused. */
struct lent_wait {
	struct list link;
	void (*done)(struct lent_wait *wait, int status); /* HBM_OK, or a refusal */
};

struct lent {
	struct list link; /* in lend->all, a tally */
	uint32_t mark;
	/* in lend->idle, and in that of its user, while nothing holds it */
	struct list idle, idle_of_user;
	struct list packed; /* in a bucket of lend->packed, while it may take more blocks */
	struct device *device;
	void *lend;
	void (*granted)(struct lent *lent); /* it has slabs that were no region's */
	void (*refused)(struct lent *lent); /* its slabs were; after its waits have been told */
	enum lent_state state;
	struct user *user;
	struct lend_user *of; /* its user's among the idle; lend_index.c's */
	struct charge charge;
	uint64_t id;                     /* of the first slab; those of the others follow */
	uint64_t slab_bytes, cell_bytes; /* a cell: of a block in whole units of an extent */
	uint64_t block_bytes;
	uint32_t slab_count, cell_count, used; /* used: cells */
	uint32_t vacant;                       /* no cell before this one is empty */
	uint32_t live;                         /* replicas whose block is in the cache */
	uint16_t ns;
	uint64_t holds;      /* of its replicas */
	struct list exports; /* struct export */
	struct list waits;   /* struct lent_wait */
	uint32_t readers;    /* copies that the daemon makes of it */
	bool adopted, stuck, closed, requesting;
	bool mapped;         /* at `address` in the daemon */
	CUdeviceptr address; /* the worker's until then */
	CUresult result;
	const char *call; /* that failed */
	struct slab_request request;
	struct job open_job, close_job;
	struct replica **cells; /* [cell_count] */
	struct slab **slabs;    /* [slab_count] */
};

/* That a session has been sent descriptors of lent slabs; it is loan.h's when it has. */
struct export
{
	struct list by_lent, by_borrower;
	struct lent *lent;
	struct holder *holder; /* the session's, which is there: kept if it has ended */
	uint64_t loans;        /* that it has there */
	uint64_t slots;        /* of its regions, that slabs of these back */
	uint64_t replies;      /* to it, in preparation, that are of these slabs */
	uint64_t named;        /* of them: those that do not send the descriptors */
	bool sent;             /* it has, or had, a loan there */
	bool ended;            /* the session has, and may have them still */
};

/* Whether the only session that may have its slabs has ended. */
bool lent_is_left(const struct lent *lent);

/* What is asked for. */
struct lent_form {
	struct user *user;
	uint64_t slab_bytes, cell_bytes, block_bytes;
	uint32_t slab_count, cell_count;
	uint16_t ns;
};

/* The memory that one takes in the daemon. */
uint64_t lent_footprint(uint64_t slabs, uint64_t cells);
/* Neither charged nor in any list. NULL: no memory. */
struct lent *lent_new(struct device *device, const struct lent_form *form);
/* One that was refused, or is closed. Accepts NULL, returns NULL. */
struct lent *lent_free(struct lent *lent);
uint64_t lent_bytes(const struct lent *lent);
/* Allocates and maps its slabs: HBM_OK, and `waits` are told; after a refusal then refused()
 * is called. Or a refusal at once, of which no one is told. */
int lent_open(struct lent *lent, struct holder *holder);
/* The same with slabs of a region that are not lent, each of which it takes a reference to: open
 * at once. */
void lent_adopt(struct lent *lent, struct slab *const *slabs);
/* Unmaps its slabs and drops the references to them, when nothing reads them any more. What
 * clients hold of those that no region has is charged to the last session that has had them. It
 * is freed later. */
void lent_close(struct lent *lent);
/* A copy that reads it begins, of one that is not closed; it stays mapped. It has ended: the
 * lent slabs may be gone. */
void lent_read(struct lent *lent);
void lent_unread(struct lent *lent);
/* A copy may go on that writes to it: its slabs stay mapped, and are never used again. */
void lent_keep(struct lent *lent);
