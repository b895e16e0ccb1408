/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pieces: the way in of a large transfer, in pieces of the size that a disk takes, so that
 * its steps overlap. Three stages follow each other over the same host memory:
 *
 * 	IN	pieces come into host memory; `in.ended` of them, from the first, are there
 * 	HASH	the checksum of those that are there and follow what has been hashed; one job
 * 		at a time, over as many pieces as there are by then
 * 	OUT	a write of each piece that is there, to a disk
 *
 * Each stage begins a piece when the stage before it has ended it and all before it, and
 * has at most PIECES_IN_FLIGHT under way. A piece that fails to come in ends all stages. A
 * write that fails ends OUT alone: the bytes still come into host memory, for readers of
 * it, and the transfer then has failed as it would have with one write.
 *
 * Which ends these are, and what a failure means, is the owner's affair: transfer.c.
 */
#pragma once

#include "daemon/tier/hash_pool.h"
#include "daemon/tier/place.h"
#include "daemon/tier/step.h"
#include "daemon/tier/tier.h"

#define PIECES_IN_FLIGHT 8u

struct pieces;

struct pieces_options {
	uint64_t size; /* of a piece; a multiple of EXTENT_UNIT */
	char *host;
	uint64_t bytes;
	struct place from; /* without a tier: */
	const struct device *device;
	const struct span *spans;
	uint32_t span_count;
	struct place to;             /* OUT; without a tier it is no stage */
	struct hash_pool *hash_pool; /* HASH; NULL: it is no stage */
	struct fair_payer payer;
	bool urgent;

	const struct tier **at;     /* says whose read or write is in flight; OUT's, if both are */
	void (*on_host)(void *arg); /* all are in host memory; only with OUT */
	void (*late)(void *arg, struct device *device); /* a copy of a piece may go on */
	void (*done)(void *arg); /* nothing is in flight: pieces_free() is next */
	void *arg;
};

/* NULL: no memory. Calls back later, never from within. */
struct pieces *pieces_begin(const struct pieces_options *options);
struct pieces *pieces_free(struct pieces *pieces); /* accepts NULL, returns NULL */
/* What is in flight, and what follows, is urgent and takes that payer's turns. */
void pieces_hasten(struct pieces *pieces, struct fair_payer payer);
/* When done: how IN and OUT ended, and the checksum, if HASH was a stage and IN ended well. */
int pieces_in_status(const struct pieces *pieces);
int pieces_out_status(const struct pieces *pieces);
uint64_t pieces_checksum(const struct pieces *pieces);
