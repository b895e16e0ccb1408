/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/tier_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/base/list.h"
#include "daemon/cache/cache.h"
#include "daemon/loop/loop.h"
#include "daemon/tier/step.h"
#include "daemon/tier/tier.h"

struct memory_op {
	struct post post;
	struct tier_memory *memory;
	struct step *step;
	char *at;
	bool write;
};

static void tier_memory_run(struct post *post)
{
	struct memory_op *op = container_of(post, struct memory_op, post);
	struct tier_memory *memory = op->memory;
	struct step *step = op->step;

	step->status = HBM_OK;
	if (op->write ? memory->fail_writes : memory->fail_reads)
		step->status = HBM_IO;
	else if (op->write)
		memcpy(op->at, step->host, step->bytes);
	else
		memcpy(step->host, op->at, step->bytes);

	free(op);
	step->done(step);
	if (memory->batch_done)
		memory->batch_done(memory->arg);
}

static void tier_memory_submit(const struct tier *tier, uint32_t unit, struct step *step,
			       bool write)
{
	struct tier_memory *memory = tier->io;
	struct memory_op *op = calloc(1, sizeof(*op));
	assert_non_null(op);

	*op = (struct memory_op){.post = {.run = tier_memory_run},
				 .memory = memory,
				 .step = step,
				 .at = memory->bytes + tier_offset(unit),
				 .write = write};
	loop_post(memory->loop, &op->post);
}

static void tier_memory_read(const struct tier *tier, uint32_t unit, struct step *step)
{
	struct tier_memory *memory = tier->io;

	memory->reads++;
	tier_memory_submit(tier, unit, step, false);
}

static void tier_memory_write(const struct tier *tier, uint32_t unit, struct step *step)
{
	struct tier_memory *memory = tier->io;

	memory->writes++;
	tier_memory_submit(tier, unit, step, true);
}

static void tier_memory_on_batch(const struct tier *tier, void (*batch_done)(void *arg), void *arg)
{
	struct tier_memory *memory = tier->io;

	memory->batch_done = batch_done;
	memory->arg = arg;
}

static const struct tier_ops tier_memory_ops = {
	.read = tier_memory_read,
	.write = tier_memory_write,
	.on_batch = tier_memory_on_batch,
};

void tier_memory_open(struct tier_memory *memory, struct cache *cache, struct loop *loop,
		      uint64_t capacity, uint64_t max_blocks)
{
	struct tier *tier = cache_add_tier(cache);
	assert_non_null(tier);
	*memory = (struct tier_memory){.tier = tier, .loop = loop, .bytes = malloc(capacity)};
	assert_non_null(memory->bytes);

	/* The wire knows no kind for it: it is shown as NVMe. */
	uint8_t number = (uint8_t)cache->tier_count;
	assert_int_equal(tier_init(tier, HBM_TIER_NVME, number, capacity, 0, max_blocks), 0);
	tier->ops = &tier_memory_ops;
	tier->io = memory;
	assert_int_equal(tier_grow(tier, 0, capacity), 0);
}

void tier_memory_close(struct tier_memory *memory)
{
	free(memory->bytes);
}
