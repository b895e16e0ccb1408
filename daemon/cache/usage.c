/* SPDX-License-Identifier: Apache-2.0 */
/* usage: see usage.h. */
#include "daemon/cache/usage.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

uint64_t usage_bytes_for(uint64_t max_blocks)
{
	return (max_blocks + 1) * sizeof(uint32_t);
}

static void usage_placed(struct block_listener *listener, uint32_t number, struct tier *to,
			 struct tier *from)
{
	(void)listener;
	(void)number;
	(void)to;
	(void)from;
}

/* Its number will be another block's. */
static void usage_dropped(struct block_listener *listener, uint32_t number)
{
	struct usage *usage = container_of(listener, struct usage, listener);

	if (usage_of(usage, number) != 0)
		usage->counts[number] = 0;
}

int usage_open(struct usage *usage, struct blocks *blocks, uint64_t max_blocks)
{
	void *counts = mmap(NULL, usage_bytes_for(max_blocks), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (counts == MAP_FAILED)
		return -ENOMEM;

	*usage = (struct usage){.counts = counts,
				.max = max_blocks,
				.listener = {.placed = usage_placed,
					     .unplaced = usage_placed,
					     .dropped = usage_dropped}};
	block_listen(blocks, &usage->listener);

	return 0;
}

void usage_close(struct usage *usage)
{
	if (!usage->counts)
		return;

	list_remove(&usage->listener.link);
	munmap(usage->counts, usage_bytes_for(usage->max));
	*usage = (struct usage){0};
}

void usage_add(struct usage *usage, uint32_t number)
{
	assert(number > 0 && number <= usage->max);
	if (number > usage->highest)
		usage->highest = number;
	if (usage->counts[number] < UINT32_MAX)
		usage->counts[number]++;
}

uint32_t usage_of(const struct usage *usage, uint32_t number)
{
	return number <= usage->highest ? usage->counts[number] : 0;
}
