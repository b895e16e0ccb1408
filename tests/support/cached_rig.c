/* SPDX-License-Identifier: Apache-2.0 */
/* cached_rig: see cached_rig.h. */
#include "tests/support/cached_rig.h"
#include "tests/support/device_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>

/* A slab has four tokens of a buffer; of pages, a page of four has two slabs. */
const char *const cached_rig_layouts[] = {
	"layers=2 heads=4 dim=16384 bytes=4 order=token max=64",
	"layers=1 heads=4 dim=32768 bytes=4 order=layer max=64",
	"layers=2 heads=4 dim=16384 bytes=4 order=block page=4 max=64",
	NULL,
};

void cached_rig_open(struct cached_rig *rig, const struct spawn *spawn, const char *layout,
		     uint64_t block_tokens, const struct hbm_pool_options *options)
{
	const struct hbm_namespace_options ns = {.model = "cached"};

	*rig = (struct cached_rig){.blocks = {.block_tokens = block_tokens}};
	pool_rig_open(&rig->pool, spawn, layout, options);
	if (hbm_pool_namespace(rig->pool.pool, &ns, block_tokens, &rig->ns) != 0)
		fail_msg("hbm_pool_namespace(): %s", hbm_pool_error(rig->pool.pool));
	rig->blocks.ns = rig->ns;
}

void cached_rig_close(struct cached_rig *rig)
{
	pool_rig_close(&rig->pool);
}

void cached_rig_chain(struct cached_rig *rig, uint64_t first, size_t count)
{
	assert_true(count <= CACHED_BLOCKS_MAX);
	for (size_t i = 0; i < count; i++)
		rig->keys[i] = kv_key(first + i);
	rig->blocks.keys = rig->keys;
	rig->blocks.count = count;
	rig->blocks.tokens = 0;
}

struct hbm_sequence *cached_rig_fill(struct cached_rig *rig, uint64_t tokens)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&rig->pool);

	cached_rig_grow(rig, sequence, tokens, 0);

	return sequence;
}

void cached_rig_grow(struct cached_rig *rig, struct hbm_sequence *sequence, uint64_t end,
		     uint64_t value)
{
	const uint64_t from = pool_rig_facts(sequence).tokens;

	assert_int_equal(pool_rig_step(&rig->pool, sequence, end), 0);
	for (uint64_t i = from; i < end; i++)
		pool_rig_write(&rig->pool, sequence, i, i + value);
}

void cached_rig_store(struct cached_rig *rig, struct hbm_sequence *sequence, size_t first)
{
	hbm_result results[CACHED_BLOCKS_MAX];

	memset(results, 0xff, sizeof(results));
	if (hbm_sequence_store(sequence, &rig->blocks, first, results) != 0)
		fail_msg("hbm_sequence_store(): %s", hbm_pool_error(rig->pool.pool));
	for (size_t i = 0; i < rig->blocks.count - first; i++)
		assert_int_equal(results[i].status, HBM_OK);
}

struct hbm_sequence *cached_rig_reopen(struct cached_rig *rig, uint64_t tokens, uint64_t slabs)
{
	struct hbm_sequence *sequence = NULL;
	uint64_t found = 0;

	if (hbm_sequence_open_cached(rig->pool.pool, NULL, &rig->blocks, &sequence, &found) != 0)
		fail_msg("hbm_sequence_open_cached(): %s", hbm_pool_error(rig->pool.pool));
	assert_int_equal(found, tokens);
	assert_int_equal(pool_rig_facts(sequence).tokens, tokens);
	assert_int_equal(pool_rig_facts(sequence).lent_bytes, slabs * RIG_SLAB);

	return sequence;
}

void cached_rig_expect(struct cached_rig *rig, struct hbm_sequence *sequence, uint64_t own,
		       uint64_t end, uint64_t value)
{
	for (uint64_t i = 0; i < end; i++)
		pool_rig_expect(&rig->pool, sequence, i, i < own ? i : i + value);
}

struct hbm_wire_device cached_rig_device(struct cached_rig *rig)
{
	return device_record(rig->pool.hbm);
}

uint64_t cached_rig_leased(struct cached_rig *rig)
{
	return cached_rig_device(rig).leased / RIG_SLAB;
}

void cached_rig_wait_for_leased(struct cached_rig *rig, uint64_t slabs)
{
	for (int i = 0; i < 20000 && cached_rig_leased(rig) != slabs; i++)
		poll(NULL, 0, 1);
	assert_int_equal(cached_rig_leased(rig), slabs);
}
