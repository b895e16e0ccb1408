/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer: moves bytes from one end to another. An end is a place in a tier, host memory,
 * spans of a device, or nothing. A transfer knows no block and no kind of tier: the owner
 * that embeds it (store.h, load.h, move.h) decides what completion means.
 *
 * 	              both ends are one copy apart
 * 	BEGUN ------------------------------------------------------+
 * 	  |                                                         |
 * 	  | host memory: of an end, or a staging buffer             v
 * 	  v                                                      DIRECT
 * 	 IN ------> COMPARED ------> on_host() ------> OUT          | a checksum is wanted: read back
 * 	  \            \                                |           v
 * 	   \            \ checksum mismatch             |       READ BACK
 * 	    \            \                              v           |
 * 	     +------------+---------------------------> done() <----+
 *
 * 	IN		from the source into host memory; nothing to do if it is there already
 * 	COMPARED	the bytes have the checksum that was expected, if one was
 * 	OUT		from host memory to the target, by a thread of the hash pool if that is host
 * 			memory too; nothing to do if they are there already
 *
 * Where a disk is at an end the bytes may be encoded there (lossless.h). They are read into
 * staging, and decoded before they are compared; and encoded into staging, and their extent
 * shortened to what that took, before they are written. What is in host memory, and what has
 * a checksum, are the bytes as they were.
 *
 * 	IN, decoded:	disk --> staging --> host memory --> COMPARED
 * 	OUT, encoded:	host memory --> staging --> disk
 *
 * A transfer asks for staging once, for all that it stages, and its owner has its
 * target's extent by then: nothing that has staging waits for anything but time.
 *
 * Bytes may end within a unit of an extent. A disk is read and written in whole units: from
 * and to host memory that has them, too, as every place and staging buffer there has. What is
 * behind the bytes becomes zeros before it is written to a disk, and nothing else looks at it.
 *
 * What is to be verified is never copied directly, so that it is compared before it arrives.
 *
 * A checksum that is wanted is computed from when the bytes are in host memory, during OUT.
 * IN, the checksum and a write to a disk of a large block overlap: pieces.h.
 * A failed step ends the transfer. The host memory stays valid after done(), for readers
 * of it, until transfer_release().
 */
#pragma once

#include "daemon/tier/hash_pool.h"
#include "daemon/tier/place.h"
#include "daemon/tier/step.h"
#include "daemon/tier/tier.h"

/* Exactly one of place.tier, host and device is set; none of them: nothing. */
struct transfer_end {
	struct place place;
	char *host;
	const struct device *device;
	const struct span *spans; /* [span_count] of device's memory, in order */
	uint32_t span_count;      /* 0: copy nothing, but wait for the device */
};

enum transfer_checksum {
	CHECKSUM_NONE,
	CHECKSUM_TAKE,   /* compute it */
	CHECKSUM_EXPECT, /* compare it if the bytes come into host memory; on a mismatch HBM_MISS */
	CHECKSUM_VERIFY, /* compare it wherever they are: within a device they pass through host memory,
			    too; the same */
};

/* What all transfers use. */
struct transfer_context {
	struct tier *staging;
	struct hash_pool *hash_pool;
	uint64_t piece;  /* larger transfers move in pieces; of EXTENT_UNITs; 0: none does */
	uint64_t active; /* transfers begun and not released */
	uint64_t held;   /* of them: those that a silent tier does not answer */
};

struct transfer {
	/* the owner's; places are in use already */
	struct transfer_context *context;
	struct transfer_end from, to;
	uint64_t bytes;
	/* at the end that is on a disk: the extent there, shortened when they are encoded; less
	 * than bytes: what is there is encoded. No end is on a disk: not used. */
	uint64_t nvme_bytes;
	unsigned element; /* bytes of a number, where a disk has them encoded; 0: as they are */
	bool wipe; /* what has held its bytes is to be overwritten: staging; places are the owner's */
	struct fair_payer payer; /* whose turns it takes on links, disk and staging */
	bool urgent;             /* a request waits for it */
	enum transfer_checksum checksum_mode;
	uint64_t checksum;                          /* expected; or, when done, the computed one */
	void (*on_host)(struct transfer *transfer); /* NULL, or see above */
	/* Called from within transfer_begin() only if there is nothing to move. */
	void (*done)(struct transfer *transfer);

	/* the outcome */
	/* HBM_OK, HBM_MISS, HBM_IO, HBM_DEVICE, HBM_CANCELLED (step.h), or what the owner
	 * set */
	int status;
	bool host_valid; /* host has the bytes */
	/* whose copy of it may go on: the memory of its ends is not free until it is known to be
	 * over; NULL: none does */
	struct device *late;
	char *host;

	const struct tier *at; /* whose read or write is in flight; NULL: none */
	union {
		struct extent_request wait; /* for a staging buffer; the owner's until it begins */
		struct step step;
	};
	struct hash_job hash;
	struct pieces *pieces; /* its way in, in pieces; NULL: in one step */
	uint32_t staging_unit;
	uint64_t staged_bytes;
	char *coded; /* staging for the encoded bytes, or NULL */
	bool waits;  /* for a staging buffer */
	bool staged;
	bool hashing; /* hash is in flight */
	bool ended;   /* all but that */
};

/* done() always follows, whatever the ends are. */
void transfer_begin(struct transfer *transfer);
/* After done(): frees the staging buffer, if any. */
void transfer_release(struct transfer *transfer);
/* The same before that, when no one is to read the bytes in host memory any more: host is NULL then,
 * unless it is a place's. */
void transfer_unstage(struct transfer *transfer);
/* A request waits now for a transfer that the policy wanted: from here on it is urgent and
 * takes that payer's turns. No-op if a request waited already. */
void transfer_hasten(struct transfer *transfer, struct fair_payer payer);
/* A copy of that device may go on that uses the memory of its ends in tiers: when it is freed it
 * stays out of service until the copy is known to be over. */
void transfer_keep(struct transfer *transfer, struct device *device);
/* What it has of the extent at that end. */
uint64_t transfer_bytes_at(const struct transfer *transfer, const struct tier *tier);
/* How much staging such a transfer needs for encoded bytes. */
uint64_t transfer_coded_room(const struct transfer *transfer);
/* The first failure of a transfer is its status. */
void transfer_fail(struct transfer *transfer, int status);
