/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fakedaemon: a peer for the client library that a test can make say anything. A thread
 * listens on a socket in a folder of its own, serves one connection after the other, and
 * answers every request as a small, obedient daemon would, unless the test's own function
 * answers it first. It keeps no books: regions get numbers, commits get slabs.
 *
 * The test may change `answer` and what the answers are made of while no request is under
 * way.
 */
#pragma once

#include "kernels/driver/driver.h"

#include <hbm/wire.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define FAKE_SLAB (2ull << 20)
#define FAKE_DEVICES 2
#define FAKE_MEMORY (2ull << 30) /* of each soft device */
#define FAKE_BLOCKS 7            /* of 64 KiB, which are evicted or dropped */

struct fake;
/* True: the request has been dealt with (answered, or left without). Runs on the fake's
 * thread. */
typedef bool fake_answer(struct fake *fake, const struct hbm_wire_header *request);

struct fake {
	char folder[32], path[64];
	int listener, peer;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	fake_answer *answer;
	void *arg;
	/* Requests of each opcode, under lock: counted before the answer, and after it
	 * (see fake_await()). */
	unsigned int seen[HBM_WIRE_OPCODES], done[HBM_WIRE_OPCODES];
	void *last;            /* the last request, whole */
	bool survives;         /* it says that its sessions do */
	uint32_t regions;      /* numbers given */
	size_t part;           /* slabs in a part of a commit's reply */
	struct driver *driver; /* of the slabs, which the test may use too */
	int *slabs;            /* fds */
	size_t slab_count, slab_next;
	CUuuid uuids[FAKE_DEVICES]; /* what HELLO says; at first those of the soft devices */
	int fences, doorbell;
	volatile uint64_t *fence_page;
};

/* Starts the fake. With slabs > 0 it opens the soft driver and has so many slabs of
 * FAKE_SLAB, of device 0, to hand out, round and round. */
void fake_open(struct fake *fake, size_t slabs);
void fake_close(struct fake *fake);

/* Waits until `count` requests of the opcode were dealt with since fake_open(). */
void fake_await(struct fake *fake, unsigned int opcode, unsigned int count);
/* Sends a message as it is, with `fds` borrowed. False: the peer is gone. */
bool fake_send(struct fake *fake, const void *message, size_t size, const int *fds,
	       size_t fd_count);
/* Answers a request with a bare header, or a message whose header is filled in here,
 * status HBM_OK. */
bool fake_reply(struct fake *fake, const struct hbm_wire_header *request, int status);
bool fake_reply_message(struct fake *fake, const struct hbm_wire_header *request, void *message,
			size_t size, const int *fds, size_t fd_count);
/* The obedient answer. */
void fake_obey(struct fake *fake, const struct hbm_wire_header *request);
void fake_hang_up(struct fake *fake);
/* A memfd of `bytes` with `seals`. */
int fake_page(size_t bytes, int seals);
