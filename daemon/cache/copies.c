/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/copies.h"

#include <errno.h>
#include <sys/mman.h>

struct copies_entry {
	uint32_t unit;         /* the extent's offset in the tier, in EXTENT_UNIT */
	uint32_t older, newer; /* blocks */
};

uint64_t copies_bytes_for(uint64_t max_blocks)
{
	return (max_blocks + 1) * sizeof(struct copies_entry);
}

int copies_open(struct copies *copies, struct tier *tier, uint64_t max_blocks)
{
	size_t bytes = (size_t)copies_bytes_for(max_blocks);
	void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return -ENOMEM;

	*copies = (struct copies){.tier = tier, .table = table, .table_bytes = bytes};

	return 0;
}

void copies_close(struct copies *copies)
{
	if (copies->table)
		munmap(copies->table, copies->table_bytes);
	*copies = (struct copies){0};
}

void copies_add(struct copies *copies, uint32_t number, uint32_t unit)
{
	copies->table[number] = (struct copies_entry){.unit = unit, .older = copies->newest};
	if (copies->newest != 0)
		copies->table[copies->newest].newer = number;
	else
		copies->oldest = number;

	copies->newest = number;
}

uint32_t copies_unit(const struct copies *copies, uint32_t number)
{
	return copies->table[number].unit;
}

uint32_t copies_remove(struct copies *copies, uint32_t number)
{
	const struct copies_entry *entry = &copies->table[number];

	if (entry->older != 0)
		copies->table[entry->older].newer = entry->newer;
	else
		copies->oldest = entry->newer;

	if (entry->newer != 0)
		copies->table[entry->newer].older = entry->older;
	else
		copies->newest = entry->older;

	return entry->unit;
}
