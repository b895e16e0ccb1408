/* SPDX-License-Identifier: Apache-2.0 */
/*
 * two_users: a daemon with two clients of different users, none of them an operator, for
 * tests of what one sees of the other. The tenant has a chain of blocks, 1 to
 * TWO_USERS_BLOCKS, in a namespace with a salt; the other has nothing. Only root can become
 * others: elsewhere there is no daemon, and two_users_needed() skips the test.
 */
#pragma once

#include "tests/support/raw.h"
#include "tests/support/stage.h"

#define TENANT 1234
#define OTHER 65534
#define TWO_USERS_BLOCK 65536u
#define TWO_USERS_BLOCKS 3u
#define TWO_USERS_SLAB (2u << 20)
#define TWO_USERS_SALT "tenant-z9q"
#define ABSENT 99u /* a block that nobody has stored */

extern int tenant, other;  /* their sessions */
extern uint32_t tenant_ns; /* the tenant's namespace */
extern const struct hbm_wire_namespace_spec tenant_spec;

int two_users_setup(void **state);
int two_users_teardown(void **state);
void two_users_needed(void);

/* A session of that user. */
int two_users_greet(uid_t uid);
/* Opens the namespace of that spec: its number. */
uint32_t two_users_open(int socket, const struct hbm_wire_namespace_spec *spec);
/* The session's first region, with a slab. */
void two_users_region(int socket);
struct hbm_wire_key two_users_key(uint64_t block);
/* A STORE or LOAD of a block from or to region 1. */
struct raw_blocks two_users_blocks(unsigned opcode, uint32_t ns, uint64_t block);
/* A request for one key. */
struct raw_keys two_users_keys(unsigned opcode, uint32_t ns, uint64_t block);
/* Sends a request for one block, which is answered: its result. */
struct hbm_wire_result two_users_result(int socket, const void *message);
/* The statuses of a STORE, after block `parent` or 0, and of a LOAD. */
unsigned two_users_store(int socket, uint32_t ns, uint64_t block, uint64_t parent);
unsigned two_users_load(int socket, uint32_t ns, uint64_t block);

/* The records of a kind, all pages of them. */
struct two_users_records {
	unsigned count, record_bytes;
	_Alignas(16) char bytes[HBM_WIRE_MESSAGE_MAX];
};

/* What that session is shown, until the next call. */
const struct two_users_records *two_users_query(int socket, uint32_t kind);
const void *two_users_record(const struct two_users_records *records, unsigned i);
