/* SPDX-License-Identifier: Apache-2.0 */
/*
 * actor: another process, told what to do. The claims are about what happens between
 * processes, and to what one leaves behind when it is killed, so each part is played by a
 * process of its own: this program, started anew (a process that was forked after the
 * driver was loaded can do nothing with it). The one that directs them uses no device
 * itself: whether a device has users at all is one of the questions.
 *
 * An order goes to the actor, an answer comes back, over a SEQPACKET socket; either may
 * carry one fd. An actor that does not answer in time is killed and answers -ETIMEDOUT.
 */
#pragma once

#include "kernels/driver/cuda_abi.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* slot: which of the actor's slabs. */
enum verb {
	/* the driver and a context, as user `value` if that is not 0; answers the
	 * driver's kind */
	VERB_OPEN,
	VERB_LOAD,   /* the driver without a context */
	VERB_MAKE,   /* a slab of `bytes`, mapped if there is a context */
	VERB_EXPORT, /* the slab: an fd */
	/* an fd as a slab of `bytes`, mapped with access `value`; answers its handle */
	VERB_IMPORT,
	VERB_MAP_AGAIN, /* slot `value`'s handle at another address, as slot `slot` */
	/* the slab's handle from offset `value` for `bytes`, at another address; and
	 * unmapped */
	VERB_MAP_PART,
	VERB_FILL,    /* with words of seed `value` */
	VERB_COMPARE, /* answers 1 if it holds the words of seed `value` */
	VERB_CLEAR,   /* answers 1 if all of it is zero */
	VERB_MEMSET,  /* to byte `value`, waiting for it */
	/* `value` slabs of `bytes` in one range with one set-access; answers 1 if all
	 * hold their bytes */
	VERB_SPAN,
	VERB_DROP,       /* the slab */
	VERB_FREE_BYTES, /* of device memory */
	VERB_KEEP_BUSY,  /* from now on writes the slab with kernels and copies, until killed */
	/* an fd of a page: a stream waits for `value` there, then sets the slab to
	 * 0x77 */
	VERB_WAIT_FENCE,
	VERB_FENCE_PASSED, /* answers 1 if the stream is done */
	VERB_HOLD,         /* an fd, with no device in use */
	VERB_GIVE,         /* the held fd: an fd */
	VERB_LOSE,         /* the held fd */
	VERB_OPEN_FILE,    /* of every device that may be opened, and nothing else */
	VERB_SET_WORD,     /* an fd of a page: `value` by the CPU */
	/* a kernel on all multiprocessors writes the slab for `value` ms; not waited for */
	VERB_RUN_KERNEL,
	VERB_MAKE_RDMA, /* as VERB_MAKE, of memory that other devices may read and write */
	VERB_FORK,      /* a child that does nothing; answers its pid */
	/* What is not there is answered with CUDA_ERROR_NOT_SUPPORTED. The slab is memory of
	 * cuMemAlloc; the answer has an fd, with its handle in it. It may be filled and
	 * compared. */
	VERB_IPC_MAKE,
	VERB_IPC_OPEN, /* such an fd, as a slab of `bytes` */
	VERB_IPC_CLOSE,
	VERB_COPY_BATCH, /* the slab to another, with flags `value`; answers 1 if all came */
	VERBS
};

struct order {
	uint32_t verb, slot;
	uint64_t bytes, value;
};

/* 0 done; positive, a CUresult; negative errno. */
struct answer {
	int32_t status;
	uint32_t reserved;
	uint64_t value;
	char text[120]; /* what failed */
};

struct actor {
	pid_t pid; /* 0: none */
	int socket;
};

/* True: it runs. */
bool actor_start(struct actor *actor);
/* Gives an order with an fd (borrowed; -1: none). */
struct answer actor_tell(struct actor *actor, const struct order *order, int fd);
/* The same, for an order whose answer has an fd, which is handed over; -1: there is none. */
struct answer actor_fetch(struct actor *actor, const struct order *order, int *fd);
void actor_kill(struct actor *actor); /* SIGKILL, and reaped */
void actor_end(
	struct actor *actor); /* lets it end by itself; killed if it does not in ten seconds */
/* The actor's side: carries out orders until there are no more. Returns the exit status. */
int actor_play(int socket);

/* Used by both sides; false: the peer is gone or took too long. fd may be NULL where none
 * is expected. */
bool message_send(int socket, const void *message, size_t size, int fd);
bool message_receive(int socket, void *message, size_t size, int *fd);
