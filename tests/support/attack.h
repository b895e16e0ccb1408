/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack: clients that want to cost the others as much as they can. An attack has a name,
 * a process of its own, and sessions of the raw protocol that one thread serves with
 * poll(). It does not end by itself: it is killed when its victim is done. tests/hostile
 * looks at what the victim gets meanwhile, bench_hostile at how long that takes.
 *
 * Most attacks are floods: each session keeps as many messages in flight as the attack
 * says, and `next` makes them. What it does once, such as filling the cache, is done by a
 * session of an operator; the others are those of an ordinary user, where the test is
 * root and can choose.
 */
#pragma once

#include "tests/support/attacker.h"

#include <stdbool.h>
#include <stdint.h>

enum attack_scale {
	ATTACK_BRIEF, /* small: in make check */
	ATTACK_FULL,  /* as large as it hurts: in make bench */
	ATTACK_SCALES,
};

/* What has come of it so far. */
struct attack_counts {
	uint64_t sent;     /* messages that the kernel took */
	uint64_t answered; /* replies, with any status; for those that cannot have one, connections
			      that the daemon ended */
	uint64_t refused;  /* of these, not HBM_OK */
	uint64_t done;     /* keys or blocks that replies call done */
	uint64_t dropped;  /* sessions that the daemon ended */
};

struct attack_run;

struct attack {
	const char *name;
	const char *what;             /* one line, for people */
	const char *const *sets;      /* of its daemon, on top of what others have; or NULL */
	uint64_t size[ATTACK_SCALES]; /* blocks or whatever it needs */
	unsigned in_flight;           /* messages of a session */
	unsigned many;                /* sessions of a strong attack; 0: there are no sessions */
	uint64_t victims_blocks[ATTACK_SCALES]; /* what victim_open() is given */
	bool is_operator;                       /* its sessions are an operator's */
	bool is_bare;                           /* its connections say no HELLO */
	bool is_deaf;                           /* it reads no reply */
	bool has_results;                       /* its replies call keys or blocks done */
	bool keeps_fds;                         /* it keeps what descriptors it is sent */
	/* Once, with a session of an operator. */
	void (*prepare)(struct attack_run *run, int socket);
	/* Each session, as it is opened; with a namespace and a region if they are wanted. */
	void (*begin)(struct attack_run *run, struct attacker *attacker);
	/* The session's next message; NULL: none for now. Its id is set by who sends it, and
	 * `attacker->turn` has gone up when it is asked again. */
	struct hbm_wire_header *(*next)(struct attack_run *run, struct attacker *attacker);
	/* A reply; false: end the session and open another. */
	bool (*replied)(struct attack_run *run, struct attacker *attacker,
			const struct hbm_wire_header *reply);
};

/* An attack in its process. */
struct attack_run {
	const struct attack *attack;
	const struct spawn *spawn;
	uint64_t size;
	struct attack_counts *counts;
	/* A message that is always the same, or is made anew each time. */
	_Alignas(16) unsigned char message[HBM_WIRE_MESSAGE_MAX];
	uint32_t segments; /* shreds: of a block */
};

/* The lists of attacks, each ended by one without a name. */
extern const struct attack attacks_with_keys[];
extern const struct attack attacks_with_blocks[];
extern const struct attack attacks_with_sessions[];

/* The n-th of all; NULL: there are no more. */
const struct attack *attack_at(unsigned n);
const struct attack *attack_find(const char *name); /* NULL: there is none of that name */
