/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state: what outlives the process: tables of records of a fixed size in a memfd that the
 * service manager keeps, or the keeper, while no daemon runs. The next daemon adopts it and goes
 * on. It knows no meaning of a record: a room has its own struct for each of its tables. It is
 * not the catalog, which outlives the host, and it is no log: nothing in it is about the past.
 *
 * 	memfd:  header | table | table | ...      table:  record[capacity]
 * 	record: stamp  | word  | body             stamp:  0: free; else a checksum of the body, the
 * 	                                                  table and the index
 *
 * A process may be killed between any two instructions. Memory is then as its stores left it, so
 * that a record is there once its stamp is, which is written last, and gone once its stamp is 0.
 * A body does not change while its record is there: what changes is its word, in one store. What
 * has a stamp that is wrong (bit rot, a bug) is dropped when the state is adopted, and counted.
 *
 * A table takes memory for the records that were ever used. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_VERSION 5 /* of all of it: one with another is refused */
#define STATE_NONE UINT32_MAX
#define STATE_CAPACITY_MAX (1u << 30) /* records of a table */

enum state_table {
	STATE_SESSIONS,
	STATE_REGIONS,
	STATE_SLABS,
	STATE_SLOTS,    /* which slab backs which slot of which region */
	STATE_RESERVED, /* what sessions have reserved */
	STATE_PUBLICATIONS,
	STATE_NAMESPACES,
	STATE_BLOCKS,      /* in DDR and HBM */
	STATE_TIER_PIECES, /* the memory of HBM tiers */
	STATE_PINS,        /* that operators keep */
	STATE_RETAINED,    /* blocks */
	STATE_DEVICES,     /* what others have of their memory */
	STATE_TABLES       /* how many */
};

/* Numbers that never go back, so that what one daemon named is not named again by the next. */
enum state_counter {
	STATE_STARTS, /* daemons that had it */
	STATE_LAST_SESSION,
	STATE_LAST_SLAB,
	STATE_LAST_REGION,      /* of any session */
	STATE_DEVICE_RESTART,   /* when one ended for a device */
	STATE_WIPED,            /* 1: memory may have had what is to be overwritten */
	STATE_LAST_TIER_MEMORY, /* of all HBM tiers */
	STATE_LAST_TIER_PIECE,  /* the same */
	STATE_COUNTERS = 16     /* room for more */
};

struct state_shape {
	uint32_t body_bytes; /* a multiple of 8, not 0 */
	uint32_t capacity;   /* records */
};

struct state;

/* An empty one with a random identity. -ENOMEM, -EINVAL: no such shape, or what
 * memfd_create(2), ftruncate(2) or mmap(2) says. */
int state_new(struct state **out, const struct state_shape shapes[STATE_TABLES]);
/*
 * Takes an earlier daemon's, whose memory it checks; the descriptor is the caller's on failure.
 * Where only capacities differ, the records move into a new one, whose descriptor state_fd() is
 * from then on, and `fd` is closed. -EPROTO: it is not one, of another version, or
 * of other records; or as state_new(). A table with more records than its capacity keeps room for
 * them. One line in error.
 */
int state_adopt(struct state **out, int fd, const struct state_shape shapes[STATE_TABLES],
		char *error, size_t error_size);
struct state *state_free(struct state *state); /* the memory stays with its other descriptors */
int state_fd(const struct state *state);       /* stays the state's */
const uint8_t *state_identity(const struct state *state); /* 16 bytes */
/* Records that were dropped when it was adopted, for their stamps were wrong. */
uint64_t state_rotten(const struct state *state);
uint64_t state_bytes(const struct state_shape shapes[STATE_TABLES]); /* if every record is used */

/* A new record with that body and word: its index; STATE_NONE: the table is full. */
uint32_t state_add(struct state *state, enum state_table table, const void *body, uint64_t word);
/* Accepts STATE_NONE. */
void state_drop(struct state *state, enum state_table table, uint32_t index);
/* The body of a record that is there. */
const void *state_body(const struct state *state, enum state_table table, uint32_t index);
uint64_t state_word(const struct state *state, enum state_table table, uint32_t index);
void state_set_word(struct state *state, enum state_table table, uint32_t index, uint64_t word);
/* The first record that is there from that index on; STATE_NONE: no more. */
uint32_t state_next(const struct state *state, enum state_table table, uint32_t from);
uint32_t state_count(const struct state *state, enum state_table table);

uint64_t state_counter(const struct state *state, enum state_counter counter);
void state_count_to(struct state *state, enum state_counter counter, uint64_t value);
