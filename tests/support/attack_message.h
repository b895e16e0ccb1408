/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack_message: the messages that attacks are made of, each written into the room that
 * its attack_run has for one. Blocks are named by a chain and a number in it.
 */
#pragma once

#include "tests/support/attack.h"

#define ATTACK_KEYS_MAX 8189u   /* of one message */
#define ATTACK_BLOCKS_MAX 2046u /* of one message, with a segment each */

struct attack_keys {
	uint64_t chain, first;
	uint32_t count;
	uint64_t step; /* from one key to the next; 0: all are the first one */
};

struct attack_blocks {
	uint64_t chain, first;
	uint32_t count;
	uint32_t times;       /* that each is named */
	uint64_t block_bytes; /* of each; they lie one after the other in a region of 2 MiB or one
				 block, and again from its start */
	uint32_t segments;    /* of each block; 0: one */
	bool is_chain;        /* each has the one before as its parent */
	uint32_t ready_slot;  /* of STORE: HBM_WIRE_NO_FENCE, or a slot that is never set */
};

struct hbm_wire_header *attack_keys(struct attack_run *run, enum hbm_wire_opcode opcode,
				    uint32_t ns, const struct attack_keys *keys);
struct hbm_wire_header *attack_blocks(struct attack_run *run, enum hbm_wire_opcode opcode,
				      const struct attacker *attacker,
				      const struct attack_blocks *blocks);
struct hbm_wire_header *attack_query(struct attack_run *run, enum hbm_wire_query_kind kind,
				     uint64_t cursor);
struct hbm_wire_header *attack_ranges(struct attack_run *run, enum hbm_wire_opcode opcode,
				      uint32_t region, uint64_t bytes);
struct hbm_wire_header *attack_open(struct attack_run *run, const char *salt);
struct hbm_wire_header *attack_close(struct attack_run *run, uint32_t ns);

/* Region of an attacker, with enough memory for blocks of that size. */
uint32_t attack_region(int socket, uint64_t block_bytes);
/* Stores `blocks->count` blocks of a chain, however many that are, through a session that
 * waits for it. */
void attack_stock(struct attack_run *run, int socket, const struct attack_blocks *blocks);
/* Moves all blocks down to NVMe. */
void attack_push_down(int socket);
