/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: struct hbm, a session with the daemon.
 *
 * States: open -> broken (the daemon exited or broke the protocol) -> freed by hbm_close().
 * Where its session outlives the daemon, open -> away (the daemon exited) -> open, or broken.
 * Breaking ends every waiting ticket and shuts the socket down; regions stay mapped and
 * fences readable until hbm_close(). A forked child has a copy of the connection, but the
 * socket, the slabs and the device belong to the parent: the child can only close its
 * copy, which closes the child's descriptors.
 */
#pragma once

#include "client/channel.h"
#include "client/cork.h"
#include "client/gpu.h"
#include "client/owner.h"
#include "client/pins.h"
#include "client/ticket.h"
#include "daemon/base/list.h"

#include <hbm/hbm.h>
#include <sys/types.h>

#define LOAN_SLAB_BUCKETS 64
#define NAMESPACE_BUCKETS 64

/* reconnect.c's */
struct reconnect {
	uint32_t limit_ms;
	uint8_t state[16], token[HBM_WIRE_TOKEN_BYTES]; /* of the first HELLO */
	bool greeting;             /* HELLO is sent to the next daemon and not answered yet */
	int64_t since_ms, next_ms; /* away since then; tries again then */
	uint32_t pause_ms;
	uint64_t times; /* that the connection went on with another daemon */
	uint64_t reserved[HBM_WIRE_DEVICES_MAX]; /* bytes, as far as it was answered */
	bool reserves;                           /* it has asked for some */
	uint64_t messages;                       /* of this exchange: their numbers */
	struct list namespaces;                  /* struct opened_namespace */
	struct pins pins;
};

struct indirect;

struct hbm {
	struct channel channel;
	struct tickets tickets;
	struct list unsent;  /* struct unsent: messages to send when there is room */
	struct cork cork;    /* requests to send together */
	struct list regions; /* struct hbm_region */
	struct list shares;  /* struct share, in flight */
	struct list loans;   /* struct hbm_loan */
	struct list boards;  /* struct board */
	struct list books;   /* struct books, of its pools */
	/* for messages that are no replies: 0, or the negative errno that ends the connection;
	 * NULL: there may be none, as it has never had a board */
	int (*unasked)(struct hbm *hbm, const struct message *message);
	/* Where the session outlives the daemon (reconnect.h), else NULL: goes on with the next
	 * daemon, waiting for it at most timeout_ms (-1: no timeout). 0; -EAGAIN: not yet; or the
	 * negative errno that ends the connection. */
	int (*come_back)(struct hbm *hbm, int timeout_ms);
	bool away; /* the daemon is gone, and come_back() has not succeeded yet */
	struct reconnect reconnect;
	struct indirect *indirect; /* indirect.c's; NULL: nothing went that way yet */
	/* does what is to be done between replies; not from within one. NULL: nothing ever is */
	void (*go_on)(struct hbm *hbm);
	uint64_t notices;                     /* received so far */
	uint64_t sequences;                   /* opened so far: the number of the last */
	struct list slabs[LOAN_SLAB_BUCKETS]; /* struct borrowed_slab, by number */
	uint32_t borrows;                     /* BORROWs in flight */
	/* namespaces that were closed, by number: what has it now may be another */
	uint32_t closes[NAMESPACE_BUCKETS];
	struct gpu gpu;
	struct hbm_info info;
	struct owner owner;  /* the process that connected */
	char *socket, *name; /* as it was opened: for another connection like it */
	bool inspect_only;
	bool fences_registered; /* with the driver, in fences_device's context */
	uint32_t fences_device;
	volatile uint64_t *fences;            /* the shared page, or NULL before HELLO */
	int doorbell;                         /* -1 before HELLO */
	const struct hbm_wire_memory *memory; /* the page of all devices, once it was asked for */
	int broken;    /* 0, or the negative errno that ended the connection */
	void *scratch; /* HBM_WIRE_MESSAGE_MAX bytes to build a message in */
	/* the connection ends if the daemon sends nothing for so long; -1: no timeout */
	int timeout_ms;
	int answer_ms;    /* the same for requests that are answered at once */
	int close_ms;     /* the same for hbm_close() */
	uint64_t poll_ns; /* looks for replies for so long before it sleeps */
	char error[320];
};
