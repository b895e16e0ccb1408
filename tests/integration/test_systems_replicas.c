/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models and replicas that share a device, each by what its memory does, in miniature: rows of
 * the table in hbm(7). What a test asserts is what its system needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/system_stage.h"

#include <poll.h>
#include <signal.h>
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
#define RAY_WEIGHTS (8ull << 20)
#define RAY_NAME "weights"

/* The first word of each slab. */
static uint64_t ray_weight(uint64_t slab)
{
	return 77000 + slab;
}

static void ray_publish(struct pool_rig *replica)
{
	const struct hbm_publish_options options = {.name = RAY_NAME};
	struct hbm_region *region = kv_region(&replica->kv, RAY_WEIGHTS);

	for (uint64_t i = 0; i < RAY_WEIGHTS / RIG_SLAB; i++)
		pool_rig_put(replica, hbm_region_address(region) + i * RIG_SLAB, ray_weight(i));
	assert_int_equal(hbm_region_publish(replica->hbm, region, 0, RAY_WEIGHTS, &options), 0);
}

/* The weights are there, without a copy. */
static struct hbm_region *ray_attach(struct pool_rig *replica)
{
	struct hbm_region *region;

	assert_int_equal(hbm_region_attach(replica->hbm, HBM_OWN_UID, RAY_NAME, 0, &region), 0);
	assert_int_equal(hbm_region_bytes(region), RAY_WEIGHTS);
	for (uint64_t i = 0; i < RAY_WEIGHTS / RIG_SLAB; i++)
		pool_rig_see(replica, hbm_region_address(region) + i * RIG_SLAB, ray_weight(i));

	return region;
}

/* A replica in a process of its own: it has its share, and uses part of it. */
static void ray_replica(const struct spawn *spawn, uint64_t share)
{
	const struct hbm_pool_options options = {.max_sequences = 4};
	struct pool_rig replica;

	pool_rig_open(&replica, spawn, pool_rig_layouts[0], &options);
	assert_int_equal(reserve(replica.hbm, 0, (int64_t)share), 0);
	ray_publish(&replica);
	system_stage_prompt(&replica, RIG_MAX, 0);
	system_stage_prompt(&replica, RIG_MAX, 0);
	child_tell();
	pause();
}

/* One that takes its place: it loads no weights. */
static void ray_successor(const struct spawn *spawn, uint64_t tokens)
{
	const struct hbm_pool_options options = {.max_sequences = 4};
	struct pool_rig replica;

	pool_rig_open(&replica, spawn, pool_rig_layouts[0], &options);
	const uint64_t before = system_stage_used(replica.hbm, 0);

	ray_attach(&replica);
	assert_int_equal(system_stage_used(replica.hbm, 0), before);
	system_stage_prompt(&replica, tokens, 0);
	child_tell();
	pause();
}

/* The share of the one that crashes is there for what waits. */
static void ray_crash(struct pool_rig *rig, struct child *child)
{
	const struct hbm_reserve_change more = {.bytes = 2ll * RAY_SHARE / 3};
	hbm_ticket ticket;

	assert_int_equal(reserve(rig->hbm, 0, more.bytes), HBM_NO_SPACE);
	assert_int_equal(hbm_submit_reserve(rig->hbm, &more, 1, LONG_MS, &ticket), 0);
	while (system_stage_memory(rig->hbm, 0).waiting == 0)
		poll(NULL, 0, 1);
	assert_int_equal(child_kill(child), 128 + SIGKILL);
	assert_int_equal(hbm_wait(rig->hbm, ticket, -1), 0);
}

/*
 * Ray places many engines on a host: each has a share of the memory, which is changed while they
 * run; one that crashes leaves all it had by itself, mapped or promised, and the others go on
 * with what they hold. What it had loaded of the model is still on the device for the one that
 * takes its place.
 */
static void test_system_rayllm(void **state)
{
	(void)state;
	struct pool_rig rig;
	struct child child;

	system_stage_start(NULL);
	system_stage_pool(&rig, pool_rig_layouts[0], 0, 0);
	child_start(&child, "ray_replica", &daemon_, RAY_SHARE);
	child_await(&child);
	assert_int_equal(reserve(rig.hbm, 0, 40ll << 20), 0);
	struct hbm_sequence *one = system_stage_prompt(&rig, RIG_MAX, 1000);

	/* Shares change live: less, and more again as long as there is. */
	assert_int_equal(reserve(rig.hbm, 0, -(10ll << 20)), 0);
	assert_int_equal(reserve(rig.hbm, 0, 12ll << 20), 0);
	ray_crash(&rig, &child);

	const uint64_t prompt = system_stage_bytes(&rig, RIG_MAX);
	struct hbm_sequence *others[] = {system_stage_prompt(&rig, RIG_MAX, 2000),
					 system_stage_prompt(&rig, RIG_MAX, 3000)};

	system_stage_expect(&rig, one, 0, RIG_MAX, 1000);
	system_stage_expect(&rig, others[0], 0, RIG_MAX, 2000);
	system_stage_expect(&rig, others[1], 0, RIG_MAX, 3000);
	assert_int_equal(system_stage_used(rig.hbm, 0), 3 * prompt + RAY_WEIGHTS);

	/* The weights are the same memory for all, until the last one has gone. */
	child_start(&child, "ray_successor", &daemon_, 20);
	child_await(&child);
	struct hbm_region *weights = ray_attach(&rig);

	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	assert_int_equal(hbm_region_unpublish(rig.hbm, HBM_OWN_UID, RAY_NAME), 0);
	while (system_stage_used(rig.hbm, 0) > 3 * prompt + RAY_WEIGHTS)
		poll(NULL, 0, 1);
	assert_int_equal(system_stage_used(rig.hbm, 0), 3 * prompt + RAY_WEIGHTS);
	assert_int_equal(hbm_region_destroy(rig.hbm, weights), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), 3 * prompt);
	pool_rig_close(&rig);
	system_stage_finish();
}

static const struct child_part parts[] = {
	{"ray_replica", ray_replica}, {"ray_successor", ray_successor}, {NULL, NULL}};

int main(int argc, char **argv)
{
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {TEST(test_system_triton), TEST(test_system_rayllm)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
