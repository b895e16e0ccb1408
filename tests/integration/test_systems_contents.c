/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Systems that keep, assemble, protect or shrink the contents of KV caches, each by what its
 * memory does, in miniature: the systems of the table in hbm(7). What a test asserts is what
 * its system needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/device/number.h"
#include "tests/support/guest.h"
#include "tests/support/kv_numbers.h"
#include "tests/support/seed.h"
#include "tests/support/system_stage.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tokens of 8 KiB in each of two buffers: any token can begin a block. */
#define EVEN_LAYOUT "layers=2 heads=4 dim=512 bytes=2 order=token max=512"
#define EVEN_TOKEN 8192u

static struct pool_rig rig;

static void start(const char *const *sets, const char *layout)
{
	system_stage_start(sets);
	system_stage_pool(&rig, layout, 0, 0);
}

static void finish(void)
{
	pool_rig_close(&rig);
	system_stage_finish();
}

static uint32_t open_namespace(struct hbm *hbm, const char *model, uint64_t weights,
			       uint64_t block_bytes)
{
	const struct hbm_namespace_options options = {
		.model = model, .weights = weights, .block_bytes = block_bytes};
	uint32_t ns = 0;

	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);

	return ns;
}

/* ---- Pieces of prompts: a block has some tokens of a sequence, wherever they are in it ---- */

#define PIECE_TOKENS 16u
#define PIECE_BYTES (2ull * PIECE_TOKENS * EVEN_TOKEN)

/* The tokens of a sequence from `position` on as a block of that name. */
static void piece_of(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t position,
		     uint64_t name, struct hbm_block *block, struct hbm_segment segments[2])
{
	struct hbm_region *region = hbm_pool_region(engine->pool);
	const uint64_t slot = pool_rig_facts(sequence).address - hbm_region_address(region);

	for (uint32_t buffer = 0; buffer < 2; buffer++) {
		struct hbm_buffer facts;

		assert_int_equal(hbm_layout_buffer(engine->layout, buffer, &facts), 0);
		segments[buffer] =
			(struct hbm_segment){region, slot + facts.offset + position * EVEN_TOKEN,
					     PIECE_TOKENS * EVEN_TOKEN};
	}
	*block = (struct hbm_block){.key = kv_key(name), .segments = segments, .segment_count = 2};
}

/* What became of the block. */
static uint32_t piece_put(struct pool_rig *engine, uint32_t ns, enum hbm_tier tier,
			  struct hbm_sequence *sequence, uint64_t position, uint64_t name)
{
	struct hbm_segment segments[2];
	struct hbm_block block;
	hbm_result result;

	piece_of(engine, sequence, position, name, &block, segments);
	block.tier = tier;
	assert_int_equal(hbm_store(engine->hbm, ns, &block, 1, &result), 0);

	return result.status;
}

static uint32_t piece_get(struct pool_rig *engine, uint32_t ns, struct hbm_sequence *sequence,
			  uint64_t position, uint64_t name)
{
	struct hbm_segment segments[2];
	struct hbm_block block;
	hbm_result result;

	piece_of(engine, sequence, position, name, &block, segments);
	assert_int_equal(hbm_load(engine->hbm, ns, &block, 1, &result), 0);

	return result.status;
}

/* Tokens [0, count) of piece `name`, at a position of a sequence. */
static void piece_write(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t position,
			uint64_t name)
{
	for (uint64_t i = 0; i < PIECE_TOKENS; i++)
		pool_rig_write(engine, sequence, position + i, 1000 * name + i);
}

static void piece_expect(struct pool_rig *engine, struct hbm_sequence *sequence, uint64_t position,
			 uint64_t name)
{
	for (uint64_t i = 0; i < PIECE_TOKENS; i++)
		pool_rig_expect(engine, sequence, position + i, 1000 * name + i);
}

static uint32_t keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint64_t name)
{
	const hbm_key key = kv_key(name);
	hbm_result result;

	assert_int_equal(hbm_keys(hbm, op, ns, 0, &key, 1, &result), 0);

	return result.status;
}

/* ---- Prompt Cache ---- */

static int prompt_users(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_block_info *block = record;
	const hbm_key key = kv_key(1);

	(void)bytes;
	if (memcmp(&block->key, &key, sizeof(key)) == 0)
		*(uint32_t *)arg = block->pins;

	return 0;
}

/*
 * Prompt Cache keeps the modules of a schema: each is put once and used by many prompts, at the
 * position that the prompt has for it; how many use one is known, and none is dropped while
 * they do; a new version of a schema does not see the old one's modules; a schema is dropped as
 * a whole.
 */
static void test_system_prompt_cache(void **state)
{
	(void)state;
	struct pool_rig users[2];
	struct hbm_amount dropped;
	uint32_t count = 0;

	start(NULL, EVEN_LAYOUT);
	uint32_t schema = open_namespace(rig.hbm, "schema", 1, PIECE_BYTES), other;
	struct hbm_sequence *encoder = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, encoder, 5 * PIECE_TOKENS), 0);
	for (uint64_t name = 1; name <= 3; name++) {
		piece_write(&rig, encoder, PIECE_TOKENS * name, name);
		assert_int_equal(
			piece_put(&rig, schema, HBM_TIER_NONE, encoder, PIECE_TOKENS * name, name),
			HBM_OK);
	}

	/* Two prompts have them in another order, between tokens of their own. */
	for (size_t i = 0; i < 2; i++) {
		struct hbm_sequence *prompt;

		system_stage_pool(&users[i], EVEN_LAYOUT, 0, 0);
		assert_int_equal(open_namespace(users[i].hbm, "schema", 1, PIECE_BYTES), schema);
		prompt = system_stage_prompt(&users[i], 100, 500000);
		for (uint64_t name = 1; name <= 3; name++)
			assert_int_equal(keys(users[i].hbm, HBM_WIRE_PIN, schema, name), HBM_OK);
		assert_int_equal(piece_get(&users[i], schema, prompt, 7 + 40 * i, 3), HBM_OK);
		assert_int_equal(piece_get(&users[i], schema, prompt, 23 + 41 * i, 1), HBM_OK);
		piece_expect(&users[i], prompt, 7 + 40 * i, 3);
		piece_expect(&users[i], prompt, 23 + 41 * i, 1);
		system_stage_expect(&users[i], prompt, 0, 7, 500000);
		system_stage_expect(&users[i], prompt, 80, 100, 500000);
	}
	assert_int_equal(hbm_query(rig.hbm, HBM_QUERY_BLOCKS, prompt_users, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(hbm_namespace_drop(rig.hbm, schema, 0, NULL), HBM_DENIED);

	/* A new version is empty, and leaves the old one alone. */
	other = open_namespace(rig.hbm, "schema", 2, PIECE_BYTES);
	assert_int_equal(piece_get(&rig, other, encoder, 0, 1), HBM_MISS);
	piece_write(&rig, encoder, 0, 77);
	assert_int_equal(piece_put(&rig, other, HBM_TIER_NONE, encoder, 0, 1), HBM_OK);
	assert_int_equal(piece_get(&rig, schema, encoder, 0, 1), HBM_OK);
	piece_expect(&rig, encoder, 0, 1);

	/* When nobody uses it any more, it goes as a whole. */
	for (size_t i = 0; i < 2; i++)
		pool_rig_close(&users[i]);
	while (hbm_namespace_drop(rig.hbm, schema, 0, &dropped) == HBM_DENIED)
		poll(NULL, 0, 1);
	assert_int_equal(dropped.blocks, 3);
	assert_int_equal(piece_get(&rig, schema, encoder, 0, 1), HBM_MISS);
	assert_int_equal(piece_get(&rig, other, encoder, 0, 1), HBM_OK);
	piece_expect(&rig, encoder, 0, 77);
	finish();
}

/* ---- LLMLingua, retrieval ---- */

#define CHUNKS 8u

static enum hbm_tier chunk_tier(uint32_t ns, uint64_t name)
{
	const hbm_key key = kv_key(name);
	struct hbm_lookup answer;
	hbm_result result;

	assert_int_equal(hbm_lookup(rig.hbm, ns, &key, 1, &answer, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	return result.tier;
}

/*
 * Retrieval assembles prompts of chunks that lie on NVMe by what is in them: the same chunk is
 * there once, many are prefetched by one call, and they are loaded in any order to any place.
 * LLMLingua shortens prompts: a range of tokens is dropped, and what is left moves together.
 */
static void test_system_llmlingua(void **state)
{
	(void)state;
	static const uint64_t wanted[] = {6, 2, 8, 3};
	const uint64_t count = sizeof(wanted) / sizeof(wanted[0]);
	hbm_key prefetched[CHUNKS];
	hbm_result results[CHUNKS];

	start(NULL, EVEN_LAYOUT);
	const uint32_t ns = open_namespace(rig.hbm, "chunks", 0, PIECE_BYTES);
	struct hbm_sequence *source = pool_rig_sequence(&rig), *prompt = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, source, CHUNKS * PIECE_TOKENS), 0);
	for (uint64_t name = 1; name <= CHUNKS; name++) {
		piece_write(&rig, source, PIECE_TOKENS * (name - 1), name);
		assert_int_equal(
			piece_put(&rig, ns, HBM_TIER_NVME, source, PIECE_TOKENS * (name - 1), name),
			HBM_OK);
		assert_int_equal(chunk_tier(ns, name), HBM_TIER_NVME);
	}
	assert_int_equal(piece_put(&rig, ns, HBM_TIER_NVME, source, PIECE_TOKENS, 2), HBM_EXISTS);

	for (uint64_t i = 0; i < count; i++)
		prefetched[i] = kv_key(wanted[i]);
	assert_int_equal(hbm_prefetch(rig.hbm, ns, 0, prefetched, count, 0, results), 0);
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		assert_int_equal(chunk_tier(ns, wanted[i]), HBM_TIER_HBM);
	}
	assert_int_equal(chunk_tier(ns, 1), HBM_TIER_NVME);

	assert_int_equal(pool_rig_step(&rig, prompt, 3 + count * PIECE_TOKENS), 0);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(piece_get(&rig, ns, prompt, 3 + i * PIECE_TOKENS, wanted[i]),
				 HBM_OK);
	for (uint64_t i = 0; i < count; i++)
		piece_expect(&rig, prompt, 3 + i * PIECE_TOKENS, wanted[i]);

	/* The second chunk, and half of the third, are dropped. */
	const uint64_t begin = 3 + PIECE_TOKENS, end = begin + PIECE_TOKENS * 3 / 2;
	uint64_t set[3 + sizeof(wanted) / sizeof(wanted[0]) * PIECE_TOKENS], kept = 0;

	for (uint64_t i = 0; i < 3 + count * PIECE_TOKENS; i++)
		if (i < begin || i >= end)
			set[kept++] = i;
	assert_int_equal(hbm_sequence_keep(prompt, HBM_AXIS_TOKENS, set, kept), 0);
	assert_int_equal(pool_rig_facts(prompt).tokens, kept);
	piece_expect(&rig, prompt, 3, wanted[0]);
	for (uint64_t i = 0; i < PIECE_TOKENS / 2; i++)
		pool_rig_expect(&rig, prompt, begin + i, 1000 * wanted[2] + PIECE_TOKENS / 2 + i);
	piece_expect(&rig, prompt, begin + PIECE_TOKENS / 2, wanted[3]);
	finish();
}

/* ---- BumbleBee, LatticeGen ---- */

#define SECRET_BLOCK 65536u

/* A connection of that user, with a namespace of a salt. */
static void secret_open(struct kv *kv, uid_t uid, const char *salt)
{
	const struct hbm_options options = {.socket = "sock"};
	const struct hbm_namespace_options ns = {
		.model = "private", .salt = salt, .block_bytes = SECRET_BLOCK};
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	*kv = (struct kv){.block_bytes = SECRET_BLOCK, .buffer = malloc(SECRET_BLOCK)};
	assert_non_null(kv->buffer);
	assert_int_equal(chdir(daemon_.dir), 0);
	assert_int_equal(seteuid(uid), 0);
	assert_int_equal(hbm_connect(&kv->hbm, &options), 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(fchdir(here), 0);
	close(here);
	kv->region = kv_region(kv, 4 << 20);
	kv_enter(kv, kv->hbm, 0);
	assert_int_equal(hbm_namespace_open(kv->hbm, &ns, &kv->ns), 0);
}

static int secret_count(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(unsigned *)arg;

	return 0;
}

/* Whether a range has any byte that is not 0. */
static bool secret_remains(struct kv *kv, struct hbm_region *region)
{
	const uint64_t bytes = hbm_region_bytes(region);
	unsigned char *seen = malloc(RIG_SLAB), any = 0;

	assert_non_null(seen);
	for (uint64_t at = 0; at < bytes; at += RIG_SLAB) {
		kv_read(kv, seen, hbm_region_address(region) + at, RIG_SLAB);
		for (uint64_t i = 0; i < RIG_SLAB; i++)
			any |= seen[i];
	}
	free(seen);

	return any != 0;
}

/*
 * BumbleBee and LatticeGen compute on what is encrypted or noised: bytes come back as they were,
 * whatever they are; those of two tenants are never taken for the same, even if they are; and
 * what one has written to device memory is not there for the next.
 */
static void test_system_bumblebee(void **state)
{
	(void)state;
	static const char *const sets[] = {"hbmd.socket_mode=0666", "device.lend=8MiB", NULL};
	struct kv tenants[2];
	struct hbm_loan *loans[2];
	hbm_result result;
	unsigned blocks = 0;

	guest_admit(&daemon_);
	system_stage_start(sets);
	secret_open(&tenants[0], GUEST, "one");
	secret_open(&tenants[1], OTHER_GUEST, "two");
	assert_int_equal(kv_store(&tenants[0], 0, 1, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);

	/* The same bytes under the same name: it is not there, and is stored once more. */
	assert_int_equal(kv_load(&tenants[1], 0, 1, 1, &result), 0);
	assert_int_equal(result.status, HBM_MISS);
	assert_int_equal(kv_store(&tenants[1], 0, 1, 1, 0, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	struct hbm *admin = spawn_connect(&daemon_);

	assert_int_equal(hbm_query(admin, HBM_QUERY_BLOCKS, secret_count, &blocks), 0);
	assert_int_equal(blocks, 2);
	for (size_t i = 0; i < 2; i++) {
		const hbm_key key = kv_key(1);

		assert_int_equal(kv_load(&tenants[i], 0, 1, 1, &result), 0);
		assert_int_equal(result.status, HBM_OK);
		assert_int_equal(hbm_borrow(tenants[i].hbm, tenants[i].ns, 0, 0, &key, 1, &loans[i],
					    &result),
				 0);
	}

	/* Lent twice: neither maps what the other has. */
	assert_int_equal(system_stage_device(admin, 0).replicas, 2);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(hbm_return(tenants[i].hbm, &loans[i], 1), 0);

	/* All memory of the first, written to, becomes the second's. */
	struct hbm_region *region = kv_region(&tenants[0], system_stage_memory(admin, 0).available);

	for (uint64_t at = 0; at < hbm_region_bytes(region); at += SECRET_BLOCK)
		kv_write(&tenants[0], hbm_region_address(region) + at, tenants[0].buffer,
			 SECRET_BLOCK);
	assert_true(secret_remains(&tenants[0], region));
	kv_close(&tenants[0]);
	region = kv_region(&tenants[1], system_stage_memory(admin, 0).available);
	assert_false(secret_remains(&tenants[1], region));
	kv_close(&tenants[1]);
	hbm_close(admin);
	system_stage_finish();
}

/* ---- Qualcomm: hybrid AI, devices and cloud ---- */

#define EDGE_BLOCK 65536u
#define EDGE_SECRETS 4u
#define EDGE_OTHERS 96u

/* Whether a block's bytes are in the NVMe file. */
static bool edge_is_on_disk(uint64_t block)
{
	static unsigned char bytes[EDGE_BLOCK], page[1 << 20];
	int fd = open(daemon_.nvme, O_RDONLY | O_CLOEXEC);
	bool found = false;
	ssize_t n;

	assert_true(fd >= 0);
	kv_fill(block, bytes, EDGE_BLOCK);
	while (!found && (n = read(fd, page, sizeof(page))) > 0)
		found = memmem(page, (size_t)n, bytes, 4096) != NULL;
	close(fd);

	return found;
}

/*
 * A device with a model of its own hands contexts over to a host and takes them back: what one
 * daemon exports another imports, to the byte. What is private to the device is never written
 * to its disk, whatever presses on its memory.
 */
static void test_system_hybrid(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=16MiB",
					   NULL};
	struct spawn cloud_daemon;
	struct kv edge, cloud;
	hbm_result results[EDGE_OTHERS];
	struct hbm_block blocks[EDGE_SECRETS];
	struct hbm_segment segments[EDGE_SECRETS];

	system_stage_start(sets);
	spawn_init(&cloud_daemon);
	spawn_start(&cloud_daemon, NULL, NULL);
	kv_open(&edge, &daemon_, 0, EDGE_BLOCK, EDGE_OTHERS);
	kv_open(&cloud, &cloud_daemon, 0, EDGE_BLOCK, EDGE_OTHERS);

	/* Private: pinned in DDR from the moment they are stored. */
	for (uint64_t i = 0; i < EDGE_SECRETS; i++)
		kv_put(&edge, i, 1000 + i);
	kv_blocks(&edge, 0, 1000, EDGE_SECRETS, 0, blocks, segments);
	for (uint64_t i = 0; i < EDGE_SECRETS; i++) {
		blocks[i].parent = (hbm_key){0};
		blocks[i].tier = HBM_TIER_DDR;
		blocks[i].pin = true;
	}
	assert_int_equal(hbm_store(edge.hbm, edge.ns, blocks, EDGE_SECRETS, results), 0);
	for (uint64_t i = 0; i < EDGE_SECRETS; i++)
		assert_int_equal(results[i].status, HBM_OK);
	for (uint64_t i = 0; i < EDGE_OTHERS; i += 8) {
		assert_int_equal(kv_store(&edge, 0, 1 + i, 8, i, results), 0);
		kv_await_moves(&edge);
	}
	kv_push_to_nvme(&edge);
	assert_true(edge_is_on_disk(1));
	for (uint64_t i = 0; i < EDGE_SECRETS; i++) {
		assert_int_equal(kv_tier(&edge, 1000 + i), HBM_TIER_DDR);
		assert_false(edge_is_on_disk(1000 + i));
	}
	assert_int_equal(kv_load(&edge, 0, 1000, EDGE_SECRETS, results), 0);

	/* Others go to the cloud: read from a region here, written to one there. */
	assert_int_equal(kv_load(&edge, 0, 1, 8, results), 0);
	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(results[i].status, HBM_OK);
		kv_read(&edge, edge.buffer, hbm_region_address(edge.region) + i * EDGE_BLOCK,
			EDGE_BLOCK);
		kv_write(&cloud, hbm_region_address(cloud.region) + i * EDGE_BLOCK, edge.buffer,
			 EDGE_BLOCK);
	}
	struct hbm_block moved[8];
	struct hbm_segment places[8];

	kv_blocks(&cloud, 0, 1, 8, 0, moved, places);
	assert_int_equal(hbm_store(cloud.hbm, cloud.ns, moved, 8, results), 0);
	assert_int_equal(kv_load(&cloud, 8, 1, 8, results), 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(results[i].status, HBM_OK);
	kv_close(&cloud);
	kv_close(&edge);
	assert_int_equal(spawn_stop(&cloud_daemon), 0);
	spawn_free(&cloud_daemon);
	system_stage_finish();
}

/* ---- LoRA, online learning ---- */

/*
 * With adapters and weights that change, KV belongs to a version of the weights: a new version
 * finds nothing of the old one, also under the same key; the old one is dropped as a whole,
 * but not while a request still decodes with it.
 */
static void test_system_lora(void **state)
{
	(void)state;
	struct pool_rig late;
	struct hbm_amount dropped;
	uint32_t versions[3];

	start(NULL, EVEN_LAYOUT);
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, sequence, PIECE_TOKENS), 0);
	for (uint64_t i = 0; i < 3; i++) {
		versions[i] =
			open_namespace(rig.hbm, i == 2 ? "base+adapter" : "base", i, PIECE_BYTES);
		assert_int_equal(piece_get(&rig, versions[i], sequence, 0, 1), HBM_MISS);
		piece_write(&rig, sequence, 0, 100 + i);
		assert_int_equal(piece_put(&rig, versions[i], HBM_TIER_NONE, sequence, 0, 1),
				 HBM_OK);
	}
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(piece_get(&rig, versions[i], sequence, 0, 1), HBM_OK);
		piece_expect(&rig, sequence, 0, 100 + i);
	}

	/* Version 0 is still in use. */
	system_stage_pool(&late, EVEN_LAYOUT, 0, 0);
	assert_int_equal(open_namespace(late.hbm, "base", 0, PIECE_BYTES), versions[0]);
	assert_int_equal(keys(late.hbm, HBM_WIRE_PIN, versions[0], 1), HBM_OK);
	assert_int_equal(hbm_namespace_drop(rig.hbm, versions[0], 0, NULL), HBM_DENIED);
	assert_int_equal(piece_get(&rig, versions[0], sequence, 0, 1), HBM_OK);
	assert_int_equal(keys(late.hbm, HBM_WIRE_UNPIN, versions[0], 1), HBM_OK);
	assert_int_equal(hbm_namespace_drop(rig.hbm, versions[0], 0, &dropped), 0);
	assert_int_equal(dropped.blocks, 1);
	assert_int_equal(piece_get(&rig, versions[0], sequence, 0, 1), HBM_MISS);
	for (uint64_t i = 1; i < 3; i++) {
		assert_int_equal(piece_get(&rig, versions[i], sequence, 0, 1), HBM_OK);
		piece_expect(&rig, sequence, 0, 100 + i);
	}
	pool_rig_close(&late);
	finish();
}

/* ---- Attention-free models: RNN, SSM ---- */

#define STATE_LAYERS 3u
#define STATE_BYTES (700u << 10)

static void state_write(struct hbm_sequence *sequence, uint64_t value)
{
	uint64_t offset, bytes;
	unsigned char *state = malloc(STATE_BYTES);

	assert_non_null(state);
	for (uint32_t layer = 0; layer < STATE_LAYERS; layer++) {
		assert_int_equal(hbm_layout_state(rig.layout, layer, &offset, &bytes), 0);
		assert_int_equal(bytes, STATE_BYTES);
		kv_fill(value * 10 + layer, state, STATE_BYTES);
		kv_write(&rig.kv, pool_rig_facts(sequence).address + offset, state, STATE_BYTES);
	}
	free(state);
}

static void state_expect(struct hbm_sequence *sequence, uint64_t value)
{
	uint64_t offset, bytes;
	unsigned char *wanted = malloc(STATE_BYTES), *seen = malloc(STATE_BYTES);

	assert_true(wanted && seen);
	for (uint32_t layer = 0; layer < STATE_LAYERS; layer++) {
		assert_int_equal(hbm_layout_state(rig.layout, layer, &offset, &bytes), 0);
		kv_fill(value * 10 + layer, wanted, STATE_BYTES);
		kv_read(&rig.kv, seen, pool_rig_facts(sequence).address + offset, STATE_BYTES);
		assert_memory_equal(seen, wanted, STATE_BYTES);
	}
	free(seen);
	free(wanted);
}

/*
 * Recurrent and state space models keep a state of constant size for each sequence: it takes
 * no more memory however many tokens there were, a fork has a state of its own, and a state
 * that was stored is loaded again, to go on from there.
 */
static void test_system_mamba(void **state)
{
	(void)state;
	static struct system_blocks saved;
	struct hbm_sequence *fork;

	start(NULL, "layers=3 state=716800 order=token max=100000");
	const uint32_t ns = open_namespace(rig.hbm, "states", 0, RIG_SLAB);
	struct hbm_sequence *one = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, one, 1), 0);
	const uint64_t constant = system_stage_used(rig.hbm, 0);

	assert_true(constant >= STATE_LAYERS * STATE_BYTES);
	for (uint64_t tokens = 10; tokens <= 100000; tokens *= 10) {
		assert_int_equal(pool_rig_step(&rig, one, tokens), 0);
		state_write(one, tokens);
	}
	assert_int_equal(system_stage_used(rig.hbm, 0), constant);

	system_stage_blocks(&rig, one, 0, 1, 1, &saved);
	assert_int_equal(hbm_store(rig.hbm, ns, saved.blocks, saved.count, saved.results), 0);
	system_stage_expect_results(&saved, HBM_OK);
	assert_int_equal(hbm_sequence_fork(one, 1, &fork), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), 2 * constant);
	state_write(one, 7);
	state_expect(fork, 100000);
	state_write(fork, 8);
	state_expect(one, 7);
	assert_int_equal(hbm_load(rig.hbm, ns, saved.blocks, saved.count, saved.results), 0);
	system_stage_expect_results(&saved, HBM_OK);
	state_expect(one, 100000);
	state_expect(fork, 8);
	finish();
}

/* ---- Compression ---- */

#define SMALL_TOKENS 32u
#define SMALL_CHANNELS 256u
#define SMALL_NUMBERS (SMALL_TOKENS * SMALL_CHANNELS)

/* Encodes to fp8, stores on NVMe, loads and decodes; how large the largest error is, relative to
 * what the encoding allows. */
static void compression_hidden(struct kv *kv)
{
	const struct hbm_kv_shape shape = {
		.layers = 1, .tokens = SMALL_TOKENS, .heads = 4, .head_dim = SMALL_CHANNELS / 4};
	const uint64_t plain = hbm_encoded_bytes(HBM_ENCODING_RAW, &shape),
		       small = hbm_encoded_bytes(HBM_ENCODING_FP8, &shape);
	const struct hbm_namespace_options options = {.model = "small",
						      .block_bytes = small,
						      .encoding = HBM_ENCODING_FP8,
						      .logical_bytes = plain};
	struct hbm_region *region = kv_region(kv, 3 * RIG_SLAB);
	const uint64_t at = hbm_region_address(region);
	const struct hbm_kv_layer from = {at, at + SMALL_NUMBERS * 2},
				  to = {at + 2 * RIG_SLAB, at + 2 * RIG_SLAB + SMALL_NUMBERS * 2};
	const struct hbm_segment segment = {region, RIG_SLAB, small};
	const struct hbm_block block = {
		.key = kv_key(1), .segments = &segment, .segment_count = 1, .tier = HBM_TIER_NVME};
	static uint16_t numbers[SMALL_NUMBERS], decoded[SMALL_NUMBERS];
	static const char zeros[RIG_SLAB];
	struct seed seed = {.state = 11};
	hbm_result result;
	CUstream stream;
	uint32_t ns;

	assert_true(small * 2 <= plain + 2 * 4096);
	kv_numbers_fill(&seed, numbers, SMALL_TOKENS, SMALL_CHANNELS, NUMBER_BF16, false);
	kv_write(kv, from.keys, numbers, sizeof(numbers));
	kv_write(kv, from.values, numbers, sizeof(numbers));
	assert_int_equal(hbm_namespace_open(kv->hbm, &options, &ns), 0);
	assert_int_equal(kv->driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), 0);
	assert_int_equal(
		hbm_encode(kv->hbm, 0, HBM_ENCODING_FP8, &shape, &from, at + RIG_SLAB, stream), 0);
	assert_int_equal(kv->driver->cuStreamSynchronize(stream), 0);
	assert_int_equal(hbm_store(kv->hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	kv_write(kv, at + RIG_SLAB, zeros, RIG_SLAB);
	assert_int_equal(hbm_load(kv->hbm, ns, &block, 1, &result), 0);
	assert_int_equal(result.status, HBM_OK);
	assert_int_equal(
		hbm_decode(kv->hbm, 0, HBM_ENCODING_FP8, &shape, &to, at + RIG_SLAB, stream), 0);
	assert_int_equal(kv->driver->cuStreamSynchronize(stream), 0);
	assert_int_equal(kv->driver->cuStreamDestroy(stream), 0);
	kv_read(kv, decoded, to.values, sizeof(decoded));
	for (uint32_t i = 0; i < SMALL_NUMBERS; i++) {
		const float was = number_decode(numbers[i], NUMBER_BF16),
			    is = number_decode(decoded[i], NUMBER_BF16);

		assert_true(fabsf(is - was) <= fabsf(was) / 15 + 0.001f);
	}
}

/* Token `token` in the layout that a sequence has of its own: what was written as `value` to
 * the layers that it has kept, and to their first and last head. */
static void compression_expect(struct hbm_sequence *sequence, uint64_t token, uint64_t value,
			       const uint64_t *layers, uint32_t count)
{
	const struct hbm_layout *layout = hbm_sequence_layout(sequence);
	const struct hbm_layout_options *options = hbm_layout_options(layout);

	assert_int_equal(options->layer_count, count);
	for (uint32_t i = 0; i < 4 * count; i++) {
		const struct hbm_layer *layer = &options->layers[i / 4];
		const uint64_t bytes = (uint64_t)layer->head_dim * layer->element_bytes;
		const bool last = i & 2;
		uint64_t offset, seen;

		assert_int_equal(hbm_layout_offset(layout, i / 4, i & 1, token,
						   last ? layer->heads - 1 : 0, &offset),
				 0);
		offset += last ? bytes - sizeof(seen) : 0;
		kv_read(&rig.kv, &seen, pool_rig_facts(sequence).address + offset, sizeof(seen));
		assert_int_equal(seen, pool_rig_word(value, (uint32_t)layers[i / 4], i & 1, last));
	}
}

/* After prefill, tokens, then heads, then a layer go: the memory is free at once. */
static void compression_keep(struct pool_rig *whole)
{
	static const uint64_t heads[] = {0, 2}, layers[] = {1, 3}, all[] = {0, 1, 2, 3};
	struct hbm_sequence *sequence = system_stage_prompt(whole, RIG_MAX, 0);
	uint64_t tokens[RIG_MAX / 2], used = system_stage_used(whole->hbm, 0), before;

	for (uint64_t i = 0; i < RIG_MAX / 2; i++)
		tokens[i] = 2 * i;
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_TOKENS, tokens, RIG_MAX / 2), 0);
	before = used;
	used = system_stage_used(whole->hbm, 0);
	assert_true(used <= before - system_stage_bytes(whole, RIG_MAX / 4));
	for (uint64_t i = 0; i < RIG_MAX / 2; i++)
		compression_expect(sequence, i, tokens[i], all, 4);

	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_HEADS, heads, 2), 0);
	before = used;
	used = system_stage_used(whole->hbm, 0);
	assert_true(used < before);
	assert_int_equal(hbm_sequence_keep(sequence, HBM_AXIS_LAYERS, layers, 2), 0);
	before = used;
	used = system_stage_used(whole->hbm, 0);
	assert_true(used < before);
	for (uint64_t i = 0; i < RIG_MAX / 2; i++)
		compression_expect(sequence, i, tokens[i], layers, 2);
	assert_int_equal(hbm_sequence_close(sequence), 0);
}

/*
 * Works on compression make KV smaller on four axes: hidden, by encodings of fewer bits; layers
 * and heads, which differ then from layer to layer; and tokens. What is saved is not charged,
 * and the bytes that are left are exact.
 */
static void test_system_compression(void **state)
{
	(void)state;
	struct pool_rig whole;

	start(NULL, "layers=4 order=token max=64 layer=0 heads=3 dim=9000 bytes=4 "
		    "layer=1-2 heads=1 dim=9000 bytes=2 layer=3 heads=2 dim=9000 bytes=1");
	system_stage_pool(&whole, "layers=4 heads=3 dim=9000 bytes=4 order=token max=64", 0, 0);
	struct hbm_sequence *small = system_stage_prompt(&rig, RIG_MAX, 0);
	const uint64_t used = system_stage_used(rig.hbm, 0);

	assert_int_equal(used, system_stage_bytes(&rig, RIG_MAX));
	assert_true(3 * used < 2 * system_stage_bytes(&whole, RIG_MAX));
	system_stage_expect(&rig, small, 0, RIG_MAX, 0);
	assert_int_equal(hbm_sequence_close(small), 0);
	compression_keep(&whole);
	pool_rig_close(&whole);
	compression_hidden(&rig.kv);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_system_prompt_cache), TEST(test_system_llmlingua),
		TEST(test_system_bumblebee),    TEST(test_system_hybrid),
		TEST(test_system_lora),         TEST(test_system_mamba),
		TEST(test_system_compression),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
