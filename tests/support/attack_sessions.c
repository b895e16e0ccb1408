/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack_sessions: attacks that take what there is a number of: sessions, connections,
 * namespaces, descriptors; and those that keep memory by not reading.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/attack_message.h"
#include "tests/support/raw.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK 4096u
#define SLAB (2u << 20)
#define RINGS 1000

static void begin_small(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	attacker->ns = raw_namespace(attacker->socket, BLOCK);
}

static struct hbm_wire_header *make_ping(struct attack_run *run)
{
	struct hbm_wire_header *message = (void *)run->message;
	*message = (struct hbm_wire_header)RAW_HEADER(PING, sizeof(*message));
	return message;
}

static struct hbm_wire_header *next_ping(struct attack_run *run, struct attacker *attacker)
{
	(void)attacker;
	return make_ping(run);
}

static struct hbm_wire_header *next_deaf(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_keys absent = {.chain = 99, .count = ATTACK_KEYS_MAX, .step = 1};
	return attack_keys(run, HBM_WIRE_LOOKUP, attacker->ns, &absent);
}

/* The doorbell may be full: it is written without waiting by whoever has set it so. */
static struct hbm_wire_header *next_rings(struct attack_run *run, struct attacker *attacker)
{
	for (int i = 0; i < RINGS; i++)
		if (write(attacker->doorbell, &(uint64_t){1}, sizeof(uint64_t)) < 0)
			break;
	return make_ping(run);
}

/* ---- Connections ---- */

static void begin_garbage(struct attack_run *run, struct attacker *attacker)
{
	if (send(attacker->socket, "?", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
		run->counts->sent++;
}

static struct hbm_wire_header *next_zombie(struct attack_run *run, struct attacker *attacker)
{
	struct hbm_wire_region_create *message = (void *)run->message;
	*message = (struct hbm_wire_region_create){
		.header = RAW_HEADER(REGION_CREATE, sizeof(*message)),
		.address_space = SLAB,
		.slab = SLAB};
	return attacker->turn == 0 ? &message->header : NULL;
}

/* The region is there: the session has done its work. */
static bool replied_zombie(struct attack_run *run, struct attacker *attacker,
			   const struct hbm_wire_header *reply)
{
	(void)run;
	(void)attacker;
	(void)reply;
	return false;
}

/* ---- Namespaces ---- */

/* One message after the other: open, what `between` says, close. */
static void take_ns(struct attacker *attacker, const struct hbm_wire_header *reply)
{
	if (reply->opcode == HBM_WIRE_NAMESPACE_OPEN)
		attacker->ns = reply->status == HBM_OK
				       ? ((const struct hbm_wire_namespace_reply *)reply)->ns
				       : 0;
}

static bool replied_open(struct attack_run *run, struct attacker *attacker,
			 const struct hbm_wire_header *reply)
{
	(void)run;
	take_ns(attacker, reply);
	return true;
}

static struct hbm_wire_header *open_another(struct attack_run *run, struct attacker *attacker)
{
	char salt[HBM_WIRE_NAME_BYTES];
	snprintf(salt, sizeof(salt), "tenant-%u-%llu", attacker->number,
		 (unsigned long long)attacker->turn);
	return attack_open(run, salt);
}

static struct hbm_wire_header *next_salt(struct attack_run *run, struct attacker *attacker)
{
	return attacker->ns == 0 ? open_another(run, attacker) : attack_close(run, attacker->ns);
}

static bool replied_salt(struct attack_run *run, struct attacker *attacker,
			 const struct hbm_wire_header *reply)
{
	if (reply->opcode == HBM_WIRE_NAMESPACE_CLOSE)
		attacker->ns = 0;
	return replied_open(run, attacker, reply);
}

static void begin_spaces(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	attacker->region = attack_region(attacker->socket, BLOCK);
}

/* open, STORE one block, close; where the open was refused, the others are, too. */
static struct hbm_wire_header *next_spaces(struct attack_run *run, struct attacker *attacker)
{
	const struct attack_blocks block = {.chain = 500 + attacker->number,
					    .first = attacker->turn,
					    .count = 1,
					    .block_bytes = BLOCK,
					    .ready_slot = HBM_WIRE_NO_FENCE};

	if (attacker->turn % 3 == 0)
		return open_another(run, attacker);
	if (attacker->turn % 3 == 1)
		return attack_blocks(run, HBM_WIRE_STORE, attacker, &block);

	return attack_close(run, attacker->ns);
}

/* ---- Memory of regions, given back and kept ---- */

static void begin_region(struct attack_run *run, struct attacker *attacker)
{
	(void)run;
	attacker->region = raw_region(attacker->socket, 0, 8 * SLAB, SLAB);
}

static struct hbm_wire_header *next_commit(struct attack_run *run, struct attacker *attacker)
{
	enum hbm_wire_opcode opcode = attacker->turn % 2 == 0 ? HBM_WIRE_DECOMMIT : HBM_WIRE_COMMIT;
	return attack_ranges(run, opcode, attacker->region, SLAB);
}

static const char *const impatient[] = {"limits.hello_ms=300", NULL};

const struct attack attacks_with_sessions[] = {
	{.name = "deaf",
	 .what = "LOOKUP of 8,189 keys, no reply is read",
	 .in_flight = UINT32_MAX,
	 .many = 32,
	 .is_deaf = true,
	 .begin = begin_small,
	 .next = next_deaf},
	{.name = "rings",
	 .what = "the doorbell, 1,000 times for each PING",
	 .in_flight = 1,
	 .many = 8,
	 .next = next_rings},
	{.name = "hold",
	 .what = "sessions, as many as there are",
	 .size = {0, 0},
	 .in_flight = 1,
	 .many = 1100,
	 .next = next_ping},
	{.name = "silent",
	 .what = "connections that say nothing",
	 .sets = impatient,
	 .many = 1100,
	 .is_bare = true},
	{.name = "zombies",
	 .what = "sessions that leave a region and close",
	 .in_flight = 1,
	 .many = 32,
	 .next = next_zombie,
	 .replied = replied_zombie},
	{.name = "garbage",
	 .what = "connections that send one byte",
	 .many = 32,
	 .is_bare = true,
	 .begin = begin_garbage},
	{.name = "spaces",
	 .what = "namespaces with one block, opened and closed",
	 .in_flight = 1,
	 .many = 32,
	 .has_results = true,
	 .begin = begin_spaces,
	 .next = next_spaces,
	 .replied = replied_open},
	{.name = "salts",
	 .what = "namespaces with guessed salts",
	 .in_flight = 1,
	 .many = 32,
	 .next = next_salt,
	 .replied = replied_salt},
	{.name = "unread",
	 .what = "COMMIT and DECOMMIT, no descriptor is read",
	 .in_flight = UINT32_MAX,
	 .many = 8,
	 .is_deaf = true,
	 .begin = begin_region,
	 .next = next_commit},
	{.name = "kept",
	 .what = "COMMIT and DECOMMIT, every descriptor is kept",
	 .in_flight = 1,
	 .many = 8,
	 .keeps_fds = true,
	 .begin = begin_region,
	 .next = next_commit},
	{.name = NULL},
};
