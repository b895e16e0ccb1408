/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client without a plan: good messages, and good ones with something changed, mixed over
 * several sessions that also end and begin anew, at limits so small that most are met.
 * Every reply is whole and belongs to a request; nobody else notices; and when the
 * client's process has ended, or was killed, the books balance and nothing is left of it.
 * The seed is printed; HBM_TEST_SEED repeats the messages, though not their timing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/attack_job.h"
#include "tests/support/raw.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"
#include "tests/support/victim.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLIENTS 5
#define MESSAGES 3000
#define ROUNDS 10 /* of the victim */
#define NUMBERS 4 /* regions or namespaces that a client knows */
#define KEYS 48
#define BLOCKS 4
#define SLAB (2u << 20)
#define PATIENCE_MS 20000
#define IN_FLIGHT 12 /* more than is allowed */

static const char *const sets[] = {"limits.sessions=48",
				   "limits.requests_in_flight=8",
				   "limits.request_bytes=4KiB",
				   "limits.request_bytes_total=16KiB",
				   "limits.regions=3",
				   "limits.address_space=32MiB",
				   "limits.commit_slabs=4",
				   "limits.namespaces=6",
				   "limits.namespace_opens=3",
				   "limits.blocks=200",
				   "limits.block_bytes=64KiB",
				   "limits.pins=20",
				   "limits.moves=4",
				   "limits.ready_ms=40",
				   "limits.hello_ms=100",
				   NULL};

/* A region with its slab, or a namespace with its size of blocks. */
struct known {
	uint32_t number; /* 0: none */
	uint64_t bytes;
};

enum kind {
	OPERATOR = 1, /* else an ordinary user, where the test can choose */
	ENDLESS = 2,  /* it is killed */
};

/* One session, and what it has learned. */
struct client {
	struct attacker attacker;
	struct known ns[NUMBERS], regions[NUMBERS];
};

struct play {
	struct seed seed;
	struct client clients[CLIENTS];
	_Alignas(16) unsigned char message[4096], reply[ATTACKER_REPLY_BYTES];
	uint64_t answered, refused, dropped;
};

/* ---- Good messages ---- */

static uint32_t below(struct play *play, uint32_t limit)
{
	return (uint32_t)seed_below(&play->seed, limit);
}

/* One it knows, if there is any, else the first place for one. */
static struct known *any(struct play *play, struct known *known)
{
	uint32_t at = below(play, NUMBERS);

	for (uint32_t i = 0; i < NUMBERS; i++, at = (at + 1) % NUMBERS)
		if (known[at].number != 0)
			return &known[at];

	return &known[0];
}

static struct hbm_wire_key any_key(struct play *play)
{
	struct hbm_wire_key key = {{1, (uint8_t)below(play, KEYS)}};
	return key;
}

static size_t make_region_create(struct play *play)
{
	struct hbm_wire_region_create *m = (void *)play->message;
	m->slab = (uint64_t)SLAB << below(play, 2);
	m->address_space = m->slab * (1 + below(play, 8));
	return sizeof(*m);
}

static size_t make_number(struct play *play, struct known *known, bool forgets)
{
	struct hbm_wire_namespace_ref *m = (void *)play->message;
	struct known *chosen = any(play, known);

	m->ns = chosen->number;
	if (forgets)
		chosen->number = 0;

	return sizeof(*m);
}

static size_t make_ranges(struct play *play, struct client *client)
{
	struct hbm_wire_ranges *m = (void *)play->message;
	m->count = 1 + below(play, 2);
	for (uint32_t i = 0; i < m->count; i++) {
		struct known region = *any(play, client->regions);
		m->ranges[i] =
			(struct hbm_wire_range){.region = region.number,
						.offset = below(play, 2) * region.bytes,
						.bytes = (1 + below(play, 2)) * region.bytes};
	}
	return sizeof(*m) + m->count * sizeof(m->ranges[0]);
}

static size_t make_shares(struct play *play, struct client *client)
{
	struct hbm_wire_shares *m = (void *)play->message;
	m->count = 1 + below(play, 3);
	for (uint32_t i = 0; i < m->count; i++) {
		struct known source = *any(play, client->regions),
			     target = below(play, 2) ? source : *any(play, client->regions);
		m->shares[i] = (struct hbm_wire_share){
			.source = source.number,
			.target = target.number,
			.source_offset = below(play, 4) * source.bytes,
			.target_offset = below(play, 4) * target.bytes,
			.bytes = (1 + below(play, 2)) * source.bytes,
			.flags = below(play, 4) == 0 ? HBM_WIRE_READ_ONLY : 0,
		};
	}
	return sizeof(*m) + m->count * sizeof(m->shares[0]);
}

/* Few names, so that they meet. */
static void make_name(struct play *play, char *name)
{
	name[0] = 'n';
	name[1] = (char)('0' + below(play, 4));
}

static size_t make_publish(struct play *play, struct client *client)
{
	struct hbm_wire_publish *m = (void *)play->message;
	struct known region = *any(play, client->regions);

	m->region = region.number;
	m->offset = below(play, 3) * region.bytes;
	m->bytes = (1 + below(play, 2)) * region.bytes;
	m->flags = below(play, 4) == 0 ? HBM_WIRE_PUBLISH_GROUP : 0;
	make_name(play, m->name);

	return sizeof(*m);
}

/* ATTACH and UNPUBLISH are alike but for a member. */
static size_t make_by_name(struct play *play, uint16_t opcode)
{
	struct hbm_wire_attach *m = (void *)play->message;

	m->uid = below(play, 4) == 0 ? below(play, 2) : HBM_WIRE_OWN_UID;
	m->flags = opcode == HBM_WIRE_ATTACH ? below(play, 2) : 0;
	make_name(play, m->name);

	return sizeof(*m);
}

static size_t make_open(struct play *play)
{
	struct hbm_wire_namespace_open *m = (void *)play->message;
	memcpy(m->spec.model, "random", 6);
	m->spec.weights = below(play, 4);
	m->spec.block_bytes = below(play, 2) ? 4096 : 65536;
	return sizeof(*m);
}

static size_t make_count(struct play *play, struct client *client)
{
	struct hbm_wire_count *m = (void *)play->message;
	m->ns = any(play, client->ns)->number;
	m->flags = below(play, 2);
	m->key = any_key(play);
	return sizeof(*m);
}

static size_t make_watch(struct play *play, struct client *client)
{
	struct hbm_wire_watch *m = (void *)play->message;
	m->ns = any(play, client->ns)->number;
	m->most = below(play, 2 * HBM_WIRE_WATCH_MAX);
	m->after = below(play, 64);
	return sizeof(*m);
}

static size_t make_keys(struct play *play, struct client *client, uint16_t opcode)
{
	struct hbm_wire_keys *m = (void *)play->message;
	m->ns = any(play, client->ns)->number;
	m->count = 1 + below(play, 12);
	if (opcode == HBM_WIRE_PREFETCH)
		m->deadline_us = below(play, 2000);
	if (opcode == HBM_WIRE_PIN || opcode == HBM_WIRE_UNPIN)
		m->flags = below(play, 4) == 0 ? HBM_WIRE_KEEP : 0;
	for (uint32_t i = 0; i < m->count; i++)
		m->keys[i] = any_key(play);
	return sizeof(*m) + m->count * sizeof(m->keys[0]);
}

/* With one or two segments each, of a namespace of either size. */
static size_t make_blocks(struct play *play, struct client *client, uint16_t opcode)
{
	struct hbm_wire_blocks *m = (void *)play->message;
	struct known ns = *any(play, client->ns), region = *any(play, client->regions);
	uint32_t each = 1 + below(play, 2);

	m->ns = ns.number;
	m->count = 1 + below(play, BLOCKS);
	m->segments = m->count * each;
	m->ready_slot = below(play, 3) == 0 ? below(play, 4) : HBM_WIRE_NO_FENCE;
	m->ready_value = m->ready_slot == HBM_WIRE_NO_FENCE ? 0 : below(play, 3);
	m->fence_slot = below(play, 2) ? 100 + below(play, 4) : HBM_WIRE_NO_FENCE;
	m->fence_value = m->fence_slot == HBM_WIRE_NO_FENCE ? 0 : below(play, 1000);
	struct hbm_wire_range *segments = (void *)&m->blocks[m->count];

	for (uint32_t i = 0; i < m->count; i++) {
		m->blocks[i] = (struct hbm_wire_block){.key = any_key(play), .segments = each};
		if (opcode == HBM_WIRE_STORE && below(play, 2))
			m->blocks[i].parent = any_key(play);
		for (uint32_t k = 0; k < each; k++)
			segments[i * each + k] =
				(struct hbm_wire_range){.region = region.number,
							.offset = (uint64_t)below(play, 33) * 65536,
							.bytes = ns.bytes / each};
	}

	return (size_t)((unsigned char *)&segments[m->segments] - play->message);
}

static size_t make_evict(struct play *play)
{
	struct hbm_wire_evict *m = (void *)play->message;
	m->tier = 1 + below(play, 3);
	m->bytes = below(play, 2) ? UINT64_MAX : below(play, 1u << 20);
	return sizeof(*m);
}

static size_t make_query(struct play *play)
{
	struct hbm_wire_query *m = (void *)play->message;
	m->kind = 1 + below(play, HBM_QUERY_KINDS - 1);
	m->cursor = below(play, 4);
	return sizeof(*m);
}

static size_t make_cancel(struct play *play, struct client *client)
{
	struct hbm_wire_cancel *m = (void *)play->message;
	m->flags = below(play, 4) == 0 ? HBM_WIRE_ALL : 0;
	m->target = m->flags ? 0 : client->attacker.turn + 1 - below(play, 3);
	return sizeof(*m);
}

/* Of memory that does not exist, or without the descriptor. */
static size_t make_import(struct play *play)
{
	struct hbm_wire_region_import *m = (void *)play->message;

	m->device = (uint32_t)below(play, 3);
	m->kind = (uint32_t)below(play, 4);
	m->bytes = below(play, 4) * SLAB + below(play, 2);
	for (size_t i = 0; m->kind != HBM_WIRE_GUEST_FD && i < sizeof(m->handle); i++)
		m->handle[i] = (uint8_t)below(play, 256);

	return sizeof(*m);
}

static size_t make_body(struct play *play, struct client *client, uint16_t opcode)
{
	switch (opcode) {
	case HBM_WIRE_HELLO:
		raw_hello_fill((struct hbm_wire_hello *)(void *)play->message);
		return sizeof(struct hbm_wire_hello);
	case HBM_WIRE_REGION_CREATE:
		return make_region_create(play);
	case HBM_WIRE_REGION_DESTROY:
		return make_number(play, client->regions, true);
	case HBM_WIRE_COMMIT:
	case HBM_WIRE_DECOMMIT:
		return make_ranges(play, client);
	case HBM_WIRE_PUBLISH:
		return make_publish(play, client);
	case HBM_WIRE_ATTACH:
	case HBM_WIRE_UNPUBLISH:
		return make_by_name(play, opcode);
	case HBM_WIRE_SHARE:
		return make_shares(play, client);
	case HBM_WIRE_NAMESPACE_OPEN:
		return make_open(play);
	case HBM_WIRE_NAMESPACE_CLOSE:
	case HBM_WIRE_NAMESPACE_DROP:
		return make_number(play, client->ns, opcode == HBM_WIRE_NAMESPACE_CLOSE);
	case HBM_WIRE_STORE:
	case HBM_WIRE_LOAD:
		return make_blocks(play, client, opcode);
	case HBM_WIRE_COUNT:
		return make_count(play, client);
	case HBM_WIRE_WATCH:
		return make_watch(play, client);
	case HBM_WIRE_EVICT:
		return make_evict(play);
	case HBM_WIRE_QUERY:
		return make_query(play);
	case HBM_WIRE_CANCEL:
		return make_cancel(play, client);
	case HBM_WIRE_PING:
		return sizeof(struct hbm_wire_header);
	case HBM_WIRE_REGION_IMPORT:
		return make_import(play);
	default:
		return make_keys(play, client, opcode);
	}
}

/* What a session needs comes more often than the rest. */
static uint16_t any_opcode(struct play *play, struct client *client)
{
	static const uint16_t often[] = {HBM_WIRE_STORE, HBM_WIRE_STORE,  HBM_WIRE_LOAD,
					 HBM_WIRE_LOAD,  HBM_WIRE_COMMIT, HBM_WIRE_LOOKUP};
	if (any(play, client->regions)->number == 0 && below(play, 2))
		return HBM_WIRE_REGION_CREATE;
	if (any(play, client->ns)->number == 0 && below(play, 2))
		return HBM_WIRE_NAMESPACE_OPEN;
	if (below(play, 3))
		return often[below(play, sizeof(often) / sizeof(often[0]))];
	if (below(play, 20) == 0)
		return HBM_WIRE_HELLO;
	return (uint16_t)(HBM_WIRE_REGION_CREATE +
			  below(play, HBM_WIRE_OPCODES - HBM_WIRE_REGION_CREATE));
}

static struct hbm_wire_header *make(struct play *play, struct client *client)
{
	struct hbm_wire_header *header = (void *)play->message;
	uint16_t opcode = any_opcode(play, client);

	memset(play->message, 0, sizeof(play->message));
	header->size = (uint32_t)make_body(play, client, opcode);
	header->opcode = opcode;

	return header;
}

/* ---- Changed ones ---- */

static void change(struct play *play, struct hbm_wire_header *header)
{
	static const uint32_t numbers[] = {0,          1,          2,    0x7fffffff,
					   0x80000000, UINT32_MAX, 4096, 65537};
	uint32_t words = header->size / 4, size = header->size;
	unsigned char *byte = play->message + below(play, size);

	switch (below(play, 5)) {
	case 0:
		*byte ^= (unsigned char)(1u << below(play, 8));
		break;
	case 1:
		memcpy(play->message + (size_t)below(play, words) * 4,
		       &numbers[below(play, sizeof(numbers) / sizeof(numbers[0]))], 4);
		break;
	case 2: /* another's body */
		header->opcode = (uint16_t)below(play, HBM_WIRE_OPCODES + 2);
		break;
	case 3:
		header->size = 1 + below(play, size + 64);
		break;
	default:
		for (uint32_t i = 0; i < 4; i++)
			play->message[below(play, size)] = (unsigned char)below(play, 256);
		break;
	}

	if (header->size == 0 || header->size > sizeof(play->message))
		header->size = size;
}

/* ---- Sessions ---- */

static void forget(struct client *client)
{
	attacker_close(&client->attacker);
	memset(client->ns, 0, sizeof(client->ns));
	memset(client->regions, 0, sizeof(client->regions));
}

static void learn(struct play *play, struct client *client, const struct hbm_wire_header *reply)
{
	if (reply->status != HBM_OK)
		return;
	if (reply->opcode == HBM_WIRE_NAMESPACE_OPEN) {
		const struct hbm_wire_namespace_reply *ns = (const void *)reply;
		client->ns[below(play, NUMBERS)] = (struct known){ns->ns, ns->block_bytes};
	}

	if (reply->opcode == HBM_WIRE_ATTACH) {
		const struct hbm_wire_attached *region = (const void *)reply;
		client->regions[below(play, NUMBERS)] =
			(struct known){region->region, region->slab};
	}

	if (reply->opcode == HBM_WIRE_REGION_CREATE) {
		const struct hbm_wire_region_create_reply *region = (const void *)reply;
		client->regions[below(play, NUMBERS)] =
			(struct known){region->region, region->slab};
	}
}

static void take(struct play *play, struct client *client)
{
	const struct hbm_wire_header *reply = (const void *)play->reply;
	int n;

	while ((n = attacker_take(&client->attacker, play->reply, false)) > 0) {
		assert_int_equal(reply->size, n);
		assert_int_equal(reply->flags & HBM_WIRE_REPLY, HBM_WIRE_REPLY);
		assert_in_range(reply->id, 2, client->attacker.turn + 1);
		play->answered++;
		play->refused += reply->status != HBM_OK;
		learn(play, client, reply);
	}

	if (n < 0) {
		play->dropped++;
		forget(client);
	}
}

/* What is left unread for a while is read when there is too much of it. */
static void act(struct play *play, struct client *client)
{
	struct attacker *attacker = &client->attacker;
	struct pollfd poller = {.events = POLLIN};

	if (attacker->socket < 0 && attacker_open(attacker, &daemon_, false) != 0)
		return;

	uint32_t dice = below(play, 400);
	if (dice == 0)
		forget(client);
	else if (dice < 20 && attacker->fences)
		atomic_store(&attacker->fences[below(play, 4)], below(play, 4));
	else if (dice < 30 && write(attacker->doorbell, &(uint64_t){1}, 8) < 8)
		forget(client);
	if (attacker->socket < 0)
		return;

	struct hbm_wire_header *header = make(play, client);
	if (below(play, 4) == 0)
		change(play, header);
	attacker_send(attacker, header);

	poller.fd = attacker->socket;
	if (attacker->in_flight >= IN_FLIGHT)
		poll(&poller, 1, 1000);
	if (attacker->in_flight >= IN_FLIGHT || below(play, 3) == 0)
		take(play, client);
}

/* In the child. Its number is its seed but for the two lowest bits, which say what it is. */
static void play_random(const struct spawn *spawn, uint64_t number)
{
	static struct play play;
	unsigned messages = getenv("HBM_TEST_LONG") ? 100 * MESSAGES : MESSAGES;

	daemon_ = *spawn;
	play.seed.state = number;
	if (!(number & OPERATOR))
		attacker_become_nobody();
	for (uint32_t i = 0; i < CLIENTS; i++)
		play.clients[i].attacker =
			(struct attacker){.number = i, .socket = -1, .doorbell = -1};

	for (unsigned i = 0; i < messages || (number & ENDLESS); i++) {
		act(&play, &play.clients[below(&play, CLIENTS)]);
		if (i == messages / 2)
			child_tell();
	}

	printf("%llu answered, %llu of them refused, %llu sessions dropped\n",
	       (unsigned long long)play.answered, (unsigned long long)play.refused,
	       (unsigned long long)play.dropped);
	fflush(stdout);
	assert_true(play.answered > messages / 8);
	_exit(0); /* sessions are still open */
}

/* ---- The test ---- */

/* Until the daemon has seen that the client's process has gone, its sessions count. */
static void wait_for_room(void)
{
	const struct hbm_options options = {.socket = daemon_.socket, .name = "test"};
	struct hbm *hbm;
	int r = HBM_LIMIT;

	for (int waited = 0; r != 0 && waited < PATIENCE_MS; waited++) {
		r = hbm_connect(&hbm, &options);
		if (r != 0)
			usleep(1000);
	}

	assert_int_equal(r, 0);
	hbm_close(hbm);
}

struct published {
	uint32_t uid;
	char name[HBM_WIRE_NAME_BYTES];
};

static int take_published(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_region *region = record;
	struct published *published = arg;

	(void)bytes;
	if (region->session != 0 || region->withdrawn)
		return 0;

	published->uid = region->uid;
	memcpy(published->name, region->name, sizeof(published->name));

	return 1;
}

/* What the clients have published outlives them. */
static void unpublish_all(void)
{
	const struct hbm_options options = {.socket = daemon_.socket, .name = "test"};
	struct published published;
	struct hbm *hbm;

	assert_int_equal(hbm_connect(&hbm, &options), 0);
	while (hbm_query(hbm, HBM_QUERY_REGIONS, take_published, &published) == 1)
		assert_int_equal(hbm_region_unpublish(hbm, published.uid, published.name), 0);
	hbm_close(hbm);
}

/* A client's life, beside a victim if there is one. */
static void generation(struct seed *seed, unsigned kind, struct victim *victim)
{
	struct child child;
	struct victim_times times;

	child_start(&child, "random", &daemon_, (seed_next(seed) & ~3ull) | kind);
	child_await(&child);
	for (int i = 0; victim && i < ROUNDS; i++)
		victim_round(victim, &times);
	if (kind & ENDLESS)
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
	else
		assert_int_equal(child_wait(&child), 0);
	if (victim)
		victim_round(victim, &times);

	wait_for_room();
	assert_true(spawn_balanced(&daemon_));
}

/* Ordinary users come first. Operators may do things to a victim. */
static void test_a_client_without_a_plan(void **state)
{
	struct seed seed;
	struct victim victim;
	(void)state;

	seed_open(&seed, "test_random");
	spawn_start(&daemon_, sets, NULL);
	attack_let_in(&daemon_);
	unsigned fds = spawn_fds(&daemon_);
	if (geteuid() == 0) {
		victim_open(&victim, &daemon_, 0);
		generation(&seed, 0, &victim);
		generation(&seed, ENDLESS, &victim);
		victim_close(&victim);
	}

	generation(&seed, OPERATOR, NULL);
	generation(&seed, OPERATOR | ENDLESS, NULL);
	unpublish_all();
	stage_finish(fds);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"random", play_random}, {NULL, NULL}};
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
		test_a_client_without_a_plan, stage_setup, stage_teardown)};

	child_main(argc, argv, parts);
	alarm(400);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
