/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer: bytes on their way from one end to another. An end is a place in a tier, host
 * memory, spans of a device, or nothing. A transfer knows no block and no kind of tier:
 * what its end means is its owner's, who embeds it (store.h, load.h, move.h).
 *
 * 	              both ends are one copy apart
 * 	BEGUN ------------------------------------------------------+
 * 	  |                                                         |
 * 	  | host memory: of an end, or a staging buffer             v
 * 	  v                                                      DIRECT
 * 	 IN ------> VERIFIED ------> on_host() ------> OUT          | a checksum is wanted: read back
 * 	  \            \                                |           v
 * 	   \            \ checksum mismatch             |       READ BACK
 * 	    \            \                              v           |
 * 	     +------------+---------------------------> done() <----+
 *
 * 	IN		from the source into host memory; nothing to do if it is there already
 * 	VERIFIED	the bytes have the checksum that was expected, if one was
 * 	OUT		from host memory to the target; nothing to do if they are there already
 *
 * A failed step ends the transfer. The host memory stays valid after done(), for readers
 * of it, until transfer_release().
 */
#pragma once

#include "daemon/tier/place.h"
#include "daemon/tier/step.h"
#include "daemon/tier/tier.h"

struct devices;

/* Exactly one of place.tier, host and device is set; none of them: nothing. */
struct transfer_end {
	struct place place;
	char *host;
	const struct device *device;
	const struct span *spans; /* [span_count] of device's memory, in order */
	uint32_t span_count;      /* 0: nothing, but a device is there to wait for */
};

enum transfer_checksum {
	CHECKSUM_NONE,
	CHECKSUM_TAKE,   /* of the bytes that came in, or of those that lie at the target */
	CHECKSUM_EXPECT, /* where the bytes pass host memory they must have it; else HBM_MISS */
};

/* What all transfers use. */
struct transfer_context {
	struct tier *staging;
	struct devices *devices;
	uint64_t active; /* begun and not released */
};

struct transfer {
	/* the owner's; places are held already */
	struct transfer_context *context;
	struct transfer_end from, to;
	uint64_t bytes;
	bool urgent; /* somebody waits for it */
	enum transfer_checksum checksum_mode;
	uint64_t checksum;                          /* expected; or, when done, the one taken */
	void (*on_host)(struct transfer *transfer); /* NULL, or see above */
	/* From within transfer_begin() only where nothing has to be moved. */
	void (*done)(struct transfer *transfer);

	/* the outcome */
	int status;      /* HBM_OK, HBM_MISS, HBM_IO, HBM_DEVICE, or what the owner made of it */
	bool host_valid; /* host has the bytes */
	char *host;

	struct step step;
	struct extent_request wait; /* for a staging buffer */
	uint32_t staging_unit;
	bool staged;
};

/* Whatever the ends are, done() follows. */
void transfer_begin(struct transfer *transfer);
/* After done(): the staging buffer, if any, is free again. */
void transfer_release(struct transfer *transfer);
/* The first failure of a transfer is its status. */
void transfer_fail(struct transfer *transfer, int status);
