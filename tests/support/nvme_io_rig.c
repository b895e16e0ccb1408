/* SPDX-License-Identifier: Apache-2.0 */
/* nvme_io_rig: see nvme_io_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/nvme_io_rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/base/log.h"

#define START (3 * NVME_IO_BLOCK)
#define PATIENCE 20000000000ull

static void over(struct nvme_op *op)
{
	struct nvme_io_work *work = container_of(op, struct nvme_io_work, op);
	work->over++;
	work->turn = work->rig->ended++;
	if (work->rig->ended == work->rig->used)
		loop_stop(work->rig->loop);
}

static void batch_done(void *arg)
{
	struct nvme_io_rig *rig = arg;
	nvme_io_dispatch(rig->nvme_io);
}

static void too_long(struct timer *timer)
{
	struct nvme_io_rig *rig = container_of(timer, struct nvme_io_rig, watchdog);
	print_error("%u of %u operations have ended\n", rig->ended, rig->used);
	fail();
}

void nvme_io_rig_open(struct nvme_io_rig *rig, unsigned depth, uint64_t merge, const char *fault)
{
	struct nvme_faults faults;
	char error[128];
	assert_int_equal(nvme_faults_parse(&faults, fault, &(struct reason){error, sizeof(error)}),
			 0);
	const struct nvme_io_options options = {.loop = rig->loop,
						.link_stats = rig->link_stats,
						.fd = rig->fd,
						.start = START,
						.depth = depth,
						.depth_max = NVME_IO_DEPTH_MAX,
						.merge = merge,
						.faults = &faults};
	assert_int_equal(nvme_io_new(&rig->nvme_io, &options), 0);
	nvme_io_on_batch(rig->nvme_io, batch_done, rig);
}

struct nvme_io_rig *nvme_io_rig_new(enum loop_engine engine)
{
	struct nvme_io_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	leaks_begin(&rig->leaks);
	log_open(LOG_CRIT);
	assert_int_equal(
		loop_new(&rig->loop, &(struct loop_options){.engine = engine, .io_depth = 8}), 0);
	assert_int_equal(link_stats_new(&rig->link_stats), 0);
	char path[] = "/var/tmp/hbmd-disk-XXXXXX";
	int fd = mkstemp(path);
	assert_in_range(fd, 0, INT32_MAX);
	assert_int_equal(ftruncate(fd, START + NVME_IO_BLOCKS * NVME_IO_BLOCK), 0);
	close(fd);
	rig->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (rig->fd < 0)
		rig->fd = open(path, O_RDWR | O_CLOEXEC);

	assert_in_range(rig->fd, 0, INT32_MAX);
	unlink(path);
	rig->memory = aligned_alloc(NVME_IO_BLOCK, NVME_IO_OPS * NVME_IO_BLOCK);
	assert_non_null(rig->memory);
	rig->watchdog.fire = too_long;

	return rig;
}

/* What lies before the disk's first byte is not its own. */
static void assert_head_untouched(const struct nvme_io_rig *rig)
{
	static const char nothing[START];
	assert_int_equal(pread(rig->fd, rig->memory, START, 0), START);
	assert_memory_equal(rig->memory, nothing, START);
}

void nvme_io_rig_free(struct nvme_io_rig *rig)
{
	rig->nvme_io = nvme_io_free(rig->nvme_io);
	assert_head_untouched(rig);
	rig->loop = loop_free(rig->loop);
	rig->link_stats = link_stats_free(rig->link_stats);
	close(rig->fd);
	free(rig->memory);
	struct leaks leaks = rig->leaks;
	free(rig);
	assert_int_equal(leaks_end(&leaks), 0);
}

void nvme_io_rig_reopen(struct nvme_io_rig *rig, unsigned depth, uint64_t merge, const char *fault)
{
	rig->nvme_io = nvme_io_free(rig->nvme_io);
	nvme_io_rig_open(rig, depth, merge, fault);
}

struct nvme_io_work *nvme_io_rig_submit_for(struct nvme_io_rig *rig, uint64_t payer, bool write,
					    uint64_t block, uint64_t blocks, bool urgent)
{
	uint32_t nth = rig->used;

	assert_in_range(nth + blocks, 1, NVME_IO_OPS);
	struct nvme_io_work *work = &rig->works[nth];
	*work = (struct nvme_io_work){.rig = rig};
	work->op = (struct nvme_op){.payer = {.id = payer},
				    .write = write,
				    .offset = block * NVME_IO_BLOCK,
				    .bytes = blocks * NVME_IO_BLOCK,
				    .memory = rig->memory + nth * NVME_IO_BLOCK,
				    .done = over};
	rig->used++;
	nvme_io_submit(rig->nvme_io, &work->op, urgent);

	return work;
}

struct nvme_io_work *nvme_io_rig_submit(struct nvme_io_rig *rig, bool write, uint64_t block,
					uint64_t blocks, bool urgent)
{
	return nvme_io_rig_submit_for(rig, 0, write, block, blocks, urgent);
}

void nvme_io_rig_run(struct nvme_io_rig *rig)
{
	nvme_io_dispatch(rig->nvme_io);
	loop_timer_set(rig->loop, &rig->watchdog, clock_now() + PATIENCE);
	if (rig->ended < rig->used)
		assert_int_equal(loop_run(rig->loop), 0);

	loop_timer_stop(rig->loop, &rig->watchdog);
	assert_int_equal(rig->ended, rig->used);
	for (unsigned i = 0; i < rig->used; i++)
		assert_int_equal(rig->works[i].over, 1);
}

void nvme_io_rig_forget(struct nvme_io_rig *rig)
{
	rig->used = rig->ended = 0;
}

void nvme_io_rig_fill(char *memory, uint64_t block, unsigned version)
{
	uint64_t *words = (uint64_t *)(void *)memory;
	for (uint64_t i = 0; i < NVME_IO_BLOCK / sizeof(*words); i++)
		words[i] = (block << 32 | version) * 0x9e3779b97f4a7c15u + i;
}

void nvme_io_rig_assert_block(const char *memory, uint64_t block, unsigned version)
{
	char expected[NVME_IO_BLOCK];
	nvme_io_rig_fill(expected, block, version);
	assert_memory_equal(memory, expected, NVME_IO_BLOCK);
}

uint64_t nvme_io_rig_ios(struct nvme_io_rig *rig, enum hbm_link link, uint64_t *intervals)
{
	struct hbm_wire_interval kept[64];
	uint64_t cursor = 0;
	struct hbm_wire_link record;

	link_stats_link(rig->link_stats, link, &record);
	*intervals = 0;
	for (uint32_t count; (count = link_stats_intervals(rig->link_stats, &cursor, kept, 64)) > 0;
	     cursor += count)
		for (uint32_t i = 0; i < count; i++)
			*intervals += kept[i].link == link;

	return record.count;
}

void nvme_io_rig_write_all(struct nvme_io_rig *rig, unsigned version)
{
	nvme_io_rig_forget(rig);
	for (uint64_t block = 0; block < NVME_IO_BLOCKS; block++)
		nvme_io_rig_fill(nvme_io_rig_submit(rig, true, block, 1, false)->op.memory, block,
				 version);
	nvme_io_rig_run(rig);
}

void nvme_io_rig_for_both(void (*check)(enum loop_engine engine))
{
	struct loop *loop = NULL;

	check(LOOP_THREADS);

	if (loop_new(&loop, &(struct loop_options){.engine = LOOP_URING, .io_depth = 1}) < 0) {
		print_message("io_uring is not available here: only the threads are tested\n");
		return;
	}

	loop_free(loop);
	check(LOOP_URING);
}
