/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash_pool: threads that compute checksums of blocks in host memory, encode and decode
 * them (lossless.h), copy them there and overwrite what they have left, so that neither the loop
 * nor the threads that copy for devices do. Jobs take turns
 * between those who pay for them, by bytes (fair_queue.h); urgent ones, those a request waits
 * for, go first, except that every eighth is not urgent. A job is done whole, by one thread:
 * at most limits.block_bytes pass before the next one.
 *
 * Where host memory is divided among NUMA nodes each node has threads and queues of its own,
 * and a job is done by those of the node its memory is at. Where it is not, there is one set
 * of them, which run anywhere.
 *
 * Checksums are of the bytes before they are encoded. Encoded bytes are padded with zeros to
 * one of a few sizes, so that extents of a disk that are freed fit the next block.
 *
 * It compares nothing: what a checksum is for is its owner's affair.
 */
#pragma once

#include "daemon/base/fair_queue.h"
#include "daemon/base/link_stats.h"
#include "daemon/loop/event.h"
#include "daemon/loop/loop.h"
#include "daemon/tier/tier.h"

#include <stdbool.h>
#include <stdint.h>

#define HASH_STORED_SIZES 32u /* of encoded blocks, all multiples of EXTENT_UNIT */

struct hash_pool;
struct hash_node;

/* HASH_WIPE: host is filled with zeros, and nothing else. */
enum hash_work { HASH_ONLY, HASH_ENCODE, HASH_DECODE, HASH_COPY, HASH_WIPE };

struct hash_job {
	/* the caller's */
	struct fair_payer payer;
	char *host; /* written to by HASH_DECODE and HASH_WIPE alone */
	uint64_t bytes;
	enum hash_work work;
	bool without_checksum;
	unsigned element; /* bytes of a number */
	char *coded;      /* the encoded bytes, or the copy */
	/* How many there are, or there is room for. Afterwards: how many host was encoded
	 * into, padding included; 0: no room, or host was not decoded. */
	uint64_t coded_bytes;
	struct checksum_stream *stream;     /* HASH_ONLY: host is added to it; NULL: host is all */
	void (*done)(struct hash_job *job); /* on the loop thread */

	uint64_t checksum; /* XXH3-64, when done; without a stream */

	/* the rest is the pool's */
	struct hash_node *node;
	struct fair_item item;
	bool queued, urgent;
	struct post post;
};

struct hash_pool_options {
	struct loop *loop;
	struct link_stats *link_stats;
	unsigned threads; /* of all nodes, one each at least; 0: one for four CPUs, 1 to 8 each */
	const struct numa *numa;          /* whose nodes: */
	const struct tier *staging, *ddr; /* host memory, divided or not; NULL: one node */
};

/* What so many threads (0: as many as there would be at most) take to encode with. */
uint64_t hash_pool_bytes(uint64_t threads, uint32_t nodes);
/* -ENOMEM, or what pthread_create() says. */
int hash_pool_new(struct hash_pool **out, const struct hash_pool_options *options);
/* What is in flight is computed, and its done() called. Accepts NULL, returns NULL. */
struct hash_pool *hash_pool_free(struct hash_pool *pool);
/* Sets the function to call on the loop thread after the done() calls of a batch. */
void hash_pool_on_batch(struct hash_pool *pool, void (*batch_done)(void *arg), void *arg);
void hash_pool_post(struct hash_pool *pool, struct hash_job *job, bool urgent); /* never fails */
/* A request waits for it now, and it takes that payer's turns. Before done(); no-op if a
 * thread has it already. */
void hash_pool_hasten(struct hash_job *job, struct fair_payer payer);
/* Bytes of the jobs that a node's threads have done. Any thread. */
uint64_t hash_pool_done(const struct hash_pool *pool, uint32_t node);
