/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Systems that spread models over engines, devices and hosts, and those that plan it, each by
 * what its memory does, in miniature: the systems of the table in hbm(7). What a test asserts
 * is what its system needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/hbmctl.h"
#include "tests/support/system_stage.h"

#include <hbm/saved.h>

#include <math.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define LONG_MS 60000u

static int reserve(struct hbm *hbm, uint32_t device, int64_t bytes)
{
	const struct hbm_reserve_change change = {.device = device, .bytes = bytes};

	return hbm_reserve(hbm, &change, 1, 0);
}

/* ---- Triton ---- */

#define TRITON_QUOTA (56ull << 20)

/* Steps a sequence on, a token at a time, until there is no memory; how many it has. */
static uint64_t triton_fill(struct pool_rig *model, struct hbm_sequence *sequence, uint64_t value)
{
	uint64_t tokens = pool_rig_facts(sequence).tokens;

	while (tokens < RIG_MAX && pool_rig_step(model, sequence, tokens + 1) == 0) {
		pool_rig_write(model, sequence, tokens, value + tokens);
		tokens++;
	}

	return tokens;
}

/*
 * Triton serves many models on a device: an instance has its quota whatever the others take,
 * and goes beyond it only where nobody was promised the memory; a model that is unloaded leaves
 * all of its memory to the next one.
 */
static void test_system_triton(void **state)
{
	(void)state;
	struct pool_rig models[3];
	struct hbm_sequence *sequences[3];
	uint64_t tokens[3];

	system_stage_start(NULL);
	for (size_t i = 0; i < 3; i++) {
		system_stage_pool(&models[i], pool_rig_layouts[i], 0, 0);
		assert_int_equal(reserve(models[i].hbm, 0, TRITON_QUOTA), 0);
		sequences[i] = pool_rig_sequence(&models[i]);
	}
	assert_int_equal(system_stage_memory(models[0].hbm, 0).available, 0);

	/* The first wants all there is, and gets its quota. */
	tokens[0] = triton_fill(&models[0], sequences[0], 0);
	assert_int_equal(tokens[0], RIG_MAX);
	struct hbm_sequence *more[] = {pool_rig_sequence(&models[0]),
				       pool_rig_sequence(&models[0])};

	triton_fill(&models[0], more[0], 5000);
	assert_true(triton_fill(&models[0], more[1], 6000) < RIG_MAX);
	assert_true(system_stage_used(models[0].hbm, 0) <= TRITON_QUOTA);
	for (size_t i = 1; i < 3; i++) {
		tokens[i] = triton_fill(&models[i], sequences[i], 1000 * i);
		assert_int_equal(tokens[i], RIG_MAX);
	}
	for (size_t i = 0; i < 3; i++)
		system_stage_expect(&models[i], sequences[i], 0, tokens[i], 1000 * i);

	/* Unloaded; the next one has its place. */
	const uint64_t before = system_stage_used(models[0].hbm, 0);

	pool_rig_close(&models[1]);
	assert_true(system_stage_used(models[0].hbm, 0) < before);
	while (system_stage_memory(models[0].hbm, 0).available < TRITON_QUOTA)
		poll(NULL, 0, 1);
	system_stage_pool(&models[1], pool_rig_layouts[0], 0, 0);
	assert_int_equal(reserve(models[1].hbm, 0, TRITON_QUOTA), 0);
	sequences[1] = system_stage_prompt(&models[1], RIG_MAX, 9000);
	system_stage_expect(&models[1], sequences[1], 0, RIG_MAX, 9000);
	system_stage_expect(&models[2], sequences[2], 0, RIG_MAX, 2000);
	for (size_t i = 0; i < 3; i++)
		pool_rig_close(&models[i]);
	system_stage_finish();
}

/* ---- RayLLM ---- */

#define RAY_SHARE (120ull << 20)

/* A replica in a process of its own: it has its share, and uses part of it. */
static void ray_replica(const struct spawn *spawn, uint64_t share)
{
	const struct hbm_pool_options options = {.max_sequences = 4};
	struct pool_rig replica;

	pool_rig_open(&replica, spawn, pool_rig_layouts[0], &options);
	assert_int_equal(reserve(replica.hbm, 0, (int64_t)share), 0);
	system_stage_prompt(&replica, RIG_MAX, 0);
	system_stage_prompt(&replica, RIG_MAX, 0);
	child_tell();
	pause();
}

/*
 * Ray places many engines on a host: each has a share of the memory, which is changed while they
 * run; one that crashes leaves all it had by itself, mapped or promised, and the others go on
 * with what they hold.
 */
static void test_system_rayllm(void **state)
{
	(void)state;
	const struct hbm_reserve_change more = {.bytes = 2ll * RAY_SHARE / 3};
	struct pool_rig rig;
	struct child child;
	hbm_ticket ticket;

	system_stage_start(NULL);
	system_stage_pool(&rig, pool_rig_layouts[0], 0, 0);
	child_start(&child, "ray_replica", &daemon_, RAY_SHARE);
	child_await(&child);
	assert_int_equal(reserve(rig.hbm, 0, 40ll << 20), 0);
	struct hbm_sequence *one = system_stage_prompt(&rig, RIG_MAX, 1000);

	/* Shares change live: less, and more again as long as there is. */
	assert_int_equal(reserve(rig.hbm, 0, -(10ll << 20)), 0);
	assert_int_equal(reserve(rig.hbm, 0, 12ll << 20), 0);
	assert_int_equal(reserve(rig.hbm, 0, more.bytes), HBM_NO_SPACE);

	/* What it asks for is there when the other has crashed. */
	assert_int_equal(hbm_submit_reserve(rig.hbm, &more, 1, LONG_MS, &ticket), 0);
	while (system_stage_memory(rig.hbm, 0).waiting == 0)
		poll(NULL, 0, 1);
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	assert_int_equal(hbm_wait(rig.hbm, ticket, -1), 0);
	struct hbm_sequence *others[] = {system_stage_prompt(&rig, RIG_MAX, 2000),
					 system_stage_prompt(&rig, RIG_MAX, 3000)};

	system_stage_expect(&rig, one, 0, RIG_MAX, 1000);
	system_stage_expect(&rig, others[0], 0, RIG_MAX, 2000);
	system_stage_expect(&rig, others[1], 0, RIG_MAX, 3000);
	assert_int_equal(system_stage_used(rig.hbm, 0), 3 * system_stage_bytes(&rig, RIG_MAX));
	pool_rig_close(&rig);
	system_stage_finish();
}

/* ---- HexGen ---- */

/*
 * HexGen divides a model unevenly among unlike devices: each has layers, heads and memory of its
 * own, one iteration is a step on each, and a request has its share of all devices or of none.
 */
static void test_system_hexgen(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", NULL};
	static const char *const stages[] = {
		"layers=3 heads=3 dim=9000 bytes=4 order=token max=64",
		"layers=1 heads=2 dim=9000 bytes=4 order=layer max=64"};
	struct pool_rig rigs[2];
	struct hbm_sequence *sequences[2];

	system_stage_start(sets);
	for (uint32_t i = 0; i < 2; i++)
		system_stage_pool(&rigs[i], stages[i], i, 0);

	/* The share of the second device is not there: nor is that of the first taken. */
	struct hbm *hbm = rigs[0].hbm;
	struct hbm_reserve_change changes[] = {{.device = 0, .bytes = 8 * RIG_SLAB},
					       {.device = 1, .bytes = 1ll << 40}};

	assert_int_equal(hbm_reserve(hbm, changes, 2, 0), HBM_NO_SPACE);
	assert_int_equal(system_stage_memory(hbm, 0).promised, 0);
	changes[1].bytes = 4 * RIG_SLAB;
	assert_int_equal(hbm_reserve(hbm, changes, 2, 0), 0);
	assert_int_equal(system_stage_memory(hbm, 0).promised, 8 * RIG_SLAB);
	assert_int_equal(system_stage_memory(hbm, 1).promised, 4 * RIG_SLAB);
	changes[0].bytes = changes[1].bytes = INT64_MIN;
	assert_int_equal(hbm_reserve(hbm, changes, 2, 0), 0);

	for (uint32_t i = 0; i < 2; i++)
		sequences[i] = pool_rig_sequence(&rigs[i]);
	for (uint64_t n = 1; n <= RIG_MAX; n++)
		for (uint32_t i = 0; i < 2; i++)
			system_stage_grow(&rigs[i], sequences[i], n, 1000 * i);
	for (uint32_t i = 0; i < 2; i++) {
		system_stage_expect(&rigs[i], sequences[i], 0, RIG_MAX, 1000 * i);
		assert_int_equal(system_stage_used(hbm, i), system_stage_bytes(&rigs[i], RIG_MAX));
	}
	assert_true(system_stage_used(hbm, 0) > 2 * system_stage_used(hbm, 1));
	for (uint32_t i = 0; i < 2; i++)
		pool_rig_close(&rigs[i]);
	system_stage_finish();
}

/* ---- FusionAI ---- */

#define FUSION_BLOCK 65536u
#define FUSION_BLOCKS 96u /* 6 MiB, of 2 MiB of HBM, 2 of DDR and 8 of NVMe */

struct fusion_tiers {
	uint64_t capacity[HBM_TIERS];
	unsigned count;
};

static int fusion_tier(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct fusion_tiers *tiers = arg;

	(void)bytes;
	tiers->capacity[tier->tier] += tier->capacity;
	tiers->count++;

	return 0;
}

/*
 * FusionAI joins consumer GPUs, which have little memory and come and go: a context that is
 * larger than HBM lives in DDR and on NVMe and is all found again, a node says what it has, and
 * churn leaves nothing behind.
 */
static void test_system_fusionai(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=2MiB", "ddr.size=2MiB", "nvme.size=8MiB",
					   NULL};
	struct fusion_tiers tiers = {.count = 0};
	hbm_result results[FUSION_BLOCKS];
	unsigned below = 0;

	system_stage_start(sets);
	struct hbm *hbm = spawn_connect(&daemon_);

	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, fusion_tier, &tiers), 0);
	assert_int_equal(tiers.count, 3);
	assert_int_equal(tiers.capacity[HBM_TIER_HBM], 2 << 20);
	assert_int_equal(tiers.capacity[HBM_TIER_DDR], 2 << 20);
	assert_int_equal(tiers.capacity[HBM_TIER_NVME], 8 << 20);

	for (uint64_t round = 0; round < 6; round++) {
		struct kv node;

		kv_open(&node, &daemon_, 0, FUSION_BLOCK, FUSION_BLOCKS);
		if (round == 0) {
			for (uint64_t i = 0; i < FUSION_BLOCKS; i += 8) {
				assert_int_equal(kv_store(&node, i, 1 + i, 8, i, results), 0);
				kv_await_moves(&node);
			}
			for (uint64_t i = 0; i < FUSION_BLOCKS; i++)
				below += kv_tier(&node, 1 + i) != HBM_TIER_HBM;
			assert_true(below >= FUSION_BLOCKS - (2u << 20) / FUSION_BLOCK);
		}
		assert_int_equal(kv_load(&node, 0, 1, FUSION_BLOCKS, results), 0);
		for (uint64_t i = 0; i < FUSION_BLOCKS; i++)
			assert_int_equal(results[i].status, HBM_OK);
		kv_close(&node);
		while (system_stage_used(hbm, 0) > 0)
			poll(NULL, 0, 1);
	}
	hbm_close(hbm);
	system_stage_finish();
}

/* ---- SpotServe ---- */

#define SPOT_TOKENS 48u
#define SPOT_LAYOUT "layers=4 heads=4 dim=4500 bytes=4 order=token max=64"

/* The grace period ends after so many pieces. */
struct spot_grace {
	unsigned pieces;
};

static bool spot_stop(void *arg)
{
	struct spot_grace *grace = arg;

	return grace->pieces-- == 0;
}

/* Token t of a layer and a head: a number for each. */
static uint64_t spot_word(uint64_t token, uint32_t layer, uint32_t head, uint32_t part)
{
	return ((token * 64 + layer) * 64 + head) * 2 + part + 1;
}

/* All heads of all layers of a sequence's tokens, as `rank` has them: written or expected. */
static void spot_visit(struct pool_rig *rank, struct hbm_sequence *sequence, uint64_t end,
		       uint32_t first_layer, uint32_t first_head, bool write)
{
	const struct hbm_layout_options *options = hbm_layout_options(rank->layout);
	const uint64_t address = pool_rig_facts(sequence).address;

	for (uint64_t token = 0; token < end; token++) {
		for (uint32_t i = 0; i < options->layer_count * options->layers[0].heads * 2; i++) {
			const uint32_t part = i % 2, head = i / 2 % options->layers[0].heads,
				       layer = i / 2 / options->layers[0].heads;
			const uint64_t word =
				spot_word(token, first_layer + layer, first_head + head, part);
			uint64_t offset, seen;

			assert_int_equal(
				hbm_layout_offset(rank->layout, layer, part, token, head, &offset),
				0);
			if (write)
				kv_write(&rank->kv, address + offset, &word, sizeof(word));
			else
				kv_read(&rank->kv, &seen, address + offset, sizeof(seen));
			if (!write)
				assert_int_equal(seen, word);
		}
	}
}

/* Saves what is worth most first; for sequence i it is saved[i]. */
static void spot_checkpoint(struct hbm_sequence *const *sequences, struct pool_rig *instance,
			    struct spot_grace *grace, uint64_t saved[2])
{
	const struct hbm_save saves[] = {{sequences[0], "cheap", 100}, {sequences[1], "dear", 200}};
	const struct hbm_save_options options = {.space = {.model = "spot"},
						 .tier = HBM_TIER_DDR,
						 .stop = spot_stop,
						 .stop_arg = grace};

	assert_int_equal(hbm_sequences_save(instance->pool, saves, 2, &options, saved), 0);
}

/*
 * SpotServe runs on instances that are taken away: in its time of grace it saves what is worth
 * most first, as far as it comes, and knows how far that was; another instance goes on from
 * there, with the committed token, under another division of layers and heads.
 */
static void test_system_spotserve(void **state)
{
	(void)state;
	static const char *const ranks[] = {"layers=2 heads=4 dim=4500 bytes=4 order=layer max=64",
					    "layers=4 heads=2 dim=4500 bytes=4 order=token max=64"};
	static const struct hbm_slice slices[] = {{.first_layer = 2, .layers = 2},
						  {.layers = 4, .first_head = 2, .heads = 2}};
	static const char *const sets[] = {"ddr.size=128MiB", NULL};
	const struct hbm_saved_space space = {.model = "spot"};
	const struct hbm_sequence_options priorities[] = {{.priority = 1}, {.priority = 2}};
	struct spot_grace grace = {.pieces = UINT32_MAX};
	struct pool_rig instance, rank;
	struct hbm_sequence *sequences[2];
	struct hbm_saved found;
	uint64_t saved[2], present;

	system_stage_start(sets);
	system_stage_pool(&instance, SPOT_LAYOUT, 0, 0);
	assert_int_equal(hbm_sequences_open(instance.pool, priorities, 2, 0, sequences), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pool_rig_step(&instance, sequences[i], SPOT_TOKENS), 0);
		spot_visit(&instance, sequences[i], SPOT_TOKENS, 0, 0, true);
	}

	/* How many pieces it would be; then the time is over after three quarters of them. */
	spot_checkpoint(sequences, &instance, &grace, saved);
	assert_int_equal(saved[0], SPOT_TOKENS);
	assert_int_equal(saved[1], SPOT_TOKENS);
	const unsigned pieces = UINT32_MAX - grace.pieces;

	assert_true(pieces >= 4);
	assert_int_equal(hbm_saved_drop(instance.pool, &space, "cheap"), 0);
	assert_int_equal(hbm_saved_drop(instance.pool, &space, "dear"), 0);
	grace.pieces = pieces * 3 / 4;
	spot_checkpoint(sequences, &instance, &grace, saved);
	assert_int_equal(saved[1], SPOT_TOKENS);
	assert_true(saved[0] < SPOT_TOKENS);
	present = saved[0];
	pool_rig_close(&instance);

	for (size_t i = 0; i < 2; i++) {
		struct hbm_sequence *sequence;

		system_stage_pool(&rank, ranks[i], 0, 0);
		assert_int_equal(hbm_saved_find(rank.pool, &space, "dear", &found), 0);
		assert_int_equal(found.committed, 200);
		assert_int_equal(hbm_sequence_restore_slice(rank.pool, &space, "dear", &slices[i],
							    NULL, &sequence),
				 0);
		assert_int_equal(pool_rig_facts(sequence).tokens, SPOT_TOKENS);
		spot_visit(&rank, sequence, SPOT_TOKENS, slices[i].first_layer,
			   slices[i].first_head, false);
		if (present > 0) {
			assert_int_equal(hbm_sequence_restore_slice(rank.pool, &space, "cheap",
								    &slices[i], NULL, &sequence),
					 0);
			assert_int_equal(pool_rig_facts(sequence).tokens, present);
			spot_visit(&rank, sequence, present, slices[i].first_layer,
				   slices[i].first_head, false);
		}
		pool_rig_close(&rank);
	}
	system_stage_finish();
}

/* ---- Alpa, AlpaServe, Galvatron, FlexFlow ---- */

#define ALPA_LINE                                                                                  \
	"plan --model Yi-34B-200K --params 34B --gpu A100-80GB-SXM --link 20GB/s --d-eff 6656 "    \
	"--layout token --context "

static const json_t *alpa_point(const json_t *plan)
{
	return json_array_get(hbmctl_array(plan, "points"), 0);
}

/* What the oracle says a context costs is what a pool of that layout maps. */
static void alpa_compare(const char *context, uint64_t tokens)
{
	char line[256];
	struct hbm_layout *layout;
	struct hbm_layout_use use;

	snprintf(line, sizeof(line), "%s%s", ALPA_LINE, context);
	json_t *plan = hbmctl_json(line);
	const json_t *facts = hbmctl_member(plan, "layout");
	const json_t *one = json_array_get(hbmctl_array(facts, "contexts"), 0);

	assert_int_equal(hbm_layout_parse(&layout, hbmctl_text(facts, "text"), NULL, 0), 0);
	assert_int_equal(hbm_layout_use(layout, tokens, &use), 0);
	assert_int_equal(hbmctl_count(alpa_point(plan), "kv_bytes"), use.kv_bytes);
	assert_int_equal(hbmctl_count(one, "mapped_bytes"), use.mapped_bytes);
	assert_int_equal(hbmctl_count(one, "slabs"), use.slabs);
	hbm_layout_free(layout);
	json_decref(plan);
}

/*
 * Alpa, Galvatron and FlexFlow search for plans and need costs to search by, as a document, that
 * agree with what the memory then does. AlpaServe multiplexes models: an idle one lends its
 * device memory to one under load, and finds its contexts again when its turn comes.
 */
static void test_system_alpaserve(void **state)
{
	(void)state;
	static const char *const sets[] = {"ddr.size=160MiB", NULL};
	const struct hbm_namespace_options options = {
		.model = "idle", .block_bytes = RIG_SLAB, .ephemeral = true};
	static struct system_blocks parked[2];
	struct hbm_sequence *contexts[2];
	struct pool_rig idle, busy;
	uint32_t ns;

	system_stage_start(sets);
	alpa_compare("4K", 4000);
	alpa_compare("50K", 50000);

	system_stage_pool(&idle, pool_rig_layouts[0], 0, 0);
	assert_int_equal(hbm_namespace_open(idle.hbm, &options, &ns), 0);
	for (size_t i = 0; i < 2; i++) {
		contexts[i] = system_stage_prompt(&idle, RIG_MAX, 1000 * i);
		system_stage_blocks(&idle, contexts[i], 0, RIG_MAX, 1 + 100 * i, &parked[i]);
		for (size_t k = 0; k < parked[i].count; k++) {
			parked[i].blocks[k].tier = HBM_TIER_DDR;
			parked[i].blocks[k].pin = true;
		}
		assert_int_equal(hbm_store(idle.hbm, ns, parked[i].blocks, parked[i].count,
					   parked[i].results),
				 0);
		system_stage_expect_results(&parked[i], HBM_OK);
		assert_int_equal(hbm_sequence_truncate(contexts[i], 0), 0);
	}

	/* All of the device is the other's, but what the idle one may map ahead. */
	system_stage_pool(&busy, pool_rig_layouts[0], 0, 0);
	const uint64_t ahead = 2 * system_stage_bytes(&idle, 2 * RIG_AHEAD);
	const uint64_t one = system_stage_bytes(&busy, RIG_MAX);
	size_t count = 0;

	for (; (count + 1) * one <= SYSTEM_MEMORY - ahead; count++)
		system_stage_prompt(&busy, RIG_MAX, 7000 + 100 * count);
	assert_true(count * one > SYSTEM_MEMORY - 2 * system_stage_bytes(&idle, RIG_MAX));
	assert_int_equal(pool_rig_step(&idle, contexts[0], RIG_MAX), HBM_NO_SPACE);
	pool_rig_close(&busy);
	system_stage_memory(idle.hbm, 0);

	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pool_rig_step(&idle, contexts[i], RIG_MAX), 0);
		assert_int_equal(hbm_load(idle.hbm, ns, parked[i].blocks, parked[i].count,
					  parked[i].results),
				 0);
		system_stage_expect_results(&parked[i], HBM_OK);
		system_stage_expect(&idle, contexts[i], 0, RIG_MAX, 1000 * i);
	}
	pool_rig_close(&idle);
	system_stage_finish();
}

/* ---- Ring Attention, sequence parallelism ---- */

#define RING_SHARD (RIG_MAX / 2)

/* Memory of the client on a device, which it can share by a descriptor. */
struct ring_buffer {
	CUdeviceptr address;
	uint64_t bytes;
	CUmemGenericAllocationHandle allocation;
	int fd;
	struct hbm_region *region;
};

static void ring_buffer_open(struct pool_rig *rig, uint64_t bytes, struct ring_buffer *buffer)
{
	const struct driver *driver = rig->kv.driver;
	const CUmemLocation where = {CU_MEM_LOCATION_TYPE_DEVICE, rig->kv.handle};
	const CUmemAccessDesc access = {where, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					  .requestedHandleTypes =
						  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					  .location = where};

	*buffer = (struct ring_buffer){.bytes = bytes};
	assert_int_equal(driver->cuCtxSetCurrent(rig->kv.context), 0);
	assert_int_equal(driver->cuMemCreate(&buffer->allocation, bytes, &prop, 0), 0);
	assert_int_equal(driver->cuMemAddressReserve(&buffer->address, bytes, 0, 0, 0), 0);
	assert_int_equal(driver->cuMemMap(buffer->address, bytes, 0, buffer->allocation, 0), 0);
	assert_int_equal(driver->cuMemSetAccess(buffer->address, bytes, &access, 1), 0);
	assert_int_equal(
		driver->cuMemExportToShareableHandle(&buffer->fd, buffer->allocation,
						     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
		0);

	const struct hbm_import_options options = {
		.device = 1, .fd = buffer->fd, .bytes = bytes, .address = buffer->address};

	assert_int_equal(hbm_region_import(rig->hbm, &options, &buffer->region), 0);
}

static void ring_buffer_close(struct pool_rig *rig, struct ring_buffer *buffer)
{
	const struct driver *driver = rig->kv.driver;

	assert_int_equal(hbm_region_destroy(rig->hbm, buffer->region), 0);
	close(buffer->fd);
	assert_int_equal(driver->cuCtxSetCurrent(rig->kv.context), 0);
	assert_int_equal(driver->cuMemUnmap(buffer->address, buffer->bytes), 0);
	assert_int_equal(driver->cuMemAddressFree(buffer->address, buffer->bytes), 0);
	assert_int_equal(driver->cuMemRelease(buffer->allocation), 0);
}

/*
 * Ring Attention has a sequence on several devices, each with a range of its tokens; each passes
 * its range on to the next, into a buffer of the peer that is shared by a descriptor. All ranges
 * together are the sequence, and each keeps its own.
 */
static void test_system_ring_attention(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", NULL};
	const struct hbm_namespace_options options = {.model = "ring", .block_bytes = RIG_SLAB};
	static struct system_blocks sent;
	struct ring_buffer buffer;
	struct pool_rig rigs[2];
	struct hbm_sequence *shards[2];
	uint32_t ns[2];

	system_stage_start(sets);
	for (uint32_t i = 0; i < 2; i++) {
		system_stage_pool(&rigs[i], pool_rig_layouts[0], i, 0);
		assert_int_equal(hbm_namespace_open(rigs[i].hbm, &options, &ns[i]), 0);
		shards[i] = system_stage_prompt(&rigs[i], RING_SHARD, i * RING_SHARD);
	}

	/* The first device's range goes to the second's buffer. */
	system_stage_blocks(&rigs[0], shards[0], 0, RING_SHARD, 1, &sent);
	const struct hbm_sequence_facts from = pool_rig_facts(shards[0]);
	uint64_t offsets[SYSTEM_BLOCKS];

	assert_int_equal(hbm_store(rigs[0].hbm, ns[0], sent.blocks, sent.count, sent.results), 0);
	system_stage_expect_results(&sent, HBM_OK);
	ring_buffer_open(&rigs[1], sent.count * RIG_SLAB, &buffer);
	for (size_t i = 0; i < sent.count; i++) {
		offsets[i] = sent.segments[i].offset + hbm_region_address(sent.segments[i].region) -
			     from.address;
		sent.segments[i] = (struct hbm_segment){buffer.region, i * RIG_SLAB, RIG_SLAB};
	}
	assert_int_equal(hbm_load(rigs[1].hbm, ns[1], sent.blocks, sent.count, sent.results), 0);
	system_stage_expect_results(&sent, HBM_OK);

	/* As a kernel there reads it: the first bytes of each token's keys, by their offset. */
	for (uint64_t token = 0; token < RING_SHARD; token++) {
		uint64_t offset, seen, i = 0;

		assert_int_equal(
			hbm_layout_offset(rigs[0].layout, 1, HBM_VALUES, token, 0, &offset), 0);
		while (offset < offsets[i] || offset >= offsets[i] + RIG_SLAB)
			i++;
		kv_read(&rigs[1].kv, &seen, buffer.address + i * RIG_SLAB + offset - offsets[i],
			sizeof(seen));
		assert_int_equal(seen, pool_rig_word(token, 1, HBM_VALUES, false));
	}
	for (uint32_t i = 0; i < 2; i++)
		system_stage_expect(&rigs[i], shards[i], 0, RING_SHARD, i * RING_SHARD);
	ring_buffer_close(&rigs[1], &buffer);
	for (uint32_t i = 0; i < 2; i++)
		pool_rig_close(&rigs[i]);
	system_stage_finish();
}

/* ---- Narayanan et al. ---- */

static void cost_is(const json_t *point, const char *name, double expected)
{
	const double seen = hbmctl_real(point, name);

	if (fabs(seen - expected) > 1e-6 * fabs(expected))
		fail_msg("%s is %.9g, expected %.9g", name, seen, expected);
}

/*
 * Cost metrics as of Narayanan et al. are formulas of a model and its hardware, which a script
 * reads as one document. Here they are computed once more, for Yi-34B-200K on an A100.
 */
static void test_system_cost_metrics(void **state)
{
	(void)state;
	const double weights = 68e9, flops = 312e12, hbm = 2.039e12, link = 20e9, reply = 250;
	const double lengths[] = {4000, 50000};
	static const char *const contexts[] = {"4K", "50K"};

	system_stage_start(NULL);
	for (size_t i = 0; i < 2; i++) {
		const double tokens = lengths[i], kv = tokens * 60 * 8 * 128 * 2 * 2;
		char line[256];

		snprintf(line, sizeof(line), "%s%s", ALPA_LINE, contexts[i]);
		json_t *plan = hbmctl_json(line);
		const json_t *point = alpa_point(plan);

		assert_int_equal(hbmctl_count(point, "kv_bytes"), (uint64_t)kv);
		assert_int_equal(hbmctl_count(point, "concurrency_users"),
				 (uint64_t)((80.0 * (1 << 30) - weights) / kv));
		cost_is(point, "prefill_linear_seconds", tokens * 2 * 34e9 / flops);
		cost_is(point, "prefill_seconds", tokens * (2 * 34e9 + 60 * tokens * 6656) / flops);
		cost_is(point, "decode_seconds", reply * (weights + kv) / hbm);
		cost_is(point, "switch_serial_seconds", 2 * kv / link);
		json_decref(plan);
	}
	system_stage_finish();
}

static const struct child_part parts[] = {{"ray_replica", ray_replica}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_triton),       TEST(test_system_rayllm),
		TEST(test_system_hexgen),       TEST(test_system_fusionai),
		TEST(test_system_alpaserve),    TEST(test_system_ring_attention),
		TEST(test_system_cost_metrics), TEST(test_system_spotserve),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
