/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_changes.h"

#include <errno.h>
#include <sys/mman.h>

uint64_t catalog_changes_bytes_for(uint64_t max_blocks)
{
	return (max_blocks + 1) * sizeof(struct catalog_entry);
}

int catalog_changes_open(struct catalog_changes *changes, uint64_t max_blocks)
{
	size_t bytes = (size_t)catalog_changes_bytes_for(max_blocks);
	void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return -ENOMEM;

	*changes = (struct catalog_changes){.table = table, .bytes = bytes};

	return 0;
}

void catalog_changes_close(struct catalog_changes *changes)
{
	if (changes->table)
		munmap(changes->table, changes->bytes);
	*changes = (struct catalog_changes){0};
}

void catalog_changes_mark(struct catalog_changes *changes, uint32_t number)
{
	struct catalog_entry *entry = &changes->table[number];
	if (entry->next != 0)
		return;

	entry->next = number;
	if (changes->first != 0)
		changes->table[changes->last].next = number;
	else
		changes->first = number;

	changes->last = number;
	changes->queued++;
}

uint32_t catalog_changes_take(struct catalog_changes *changes)
{
	uint32_t number = changes->first;
	if (number == 0)
		return 0;

	struct catalog_entry *entry = &changes->table[number];

	changes->first = entry->next != number ? entry->next : 0;
	if (changes->first == 0)
		changes->last = 0;
	entry->next = 0;
	changes->queued--;
	changes->taken++;

	return number;
}

void catalog_changes_came(struct catalog_changes *changes, uint32_t number)
{
	changes->table[number].came = changes->failed + 1;
}

bool catalog_changes_doubt(const struct catalog_changes *changes, uint32_t number)
{
	uint32_t came = changes->table[number].came;

	return came != 0 && came <= changes->failed;
}

void catalog_changes_flushed(struct catalog_changes *changes, uint32_t number)
{
	if (!catalog_changes_doubt(changes, number))
		changes->table[number].came = 0;
}

void catalog_changes_fail(struct catalog_changes *changes)
{
	changes->failed++;
}

void catalog_changes_record(struct catalog_changes *changes, uint32_t number, uint64_t stamp,
			    uint32_t unit)
{
	struct catalog_entry *entry = &changes->table[number];

	changes->records += (uint64_t)(stamp != 0) - (entry->stamp != 0);
	entry->stamp = stamp;
	entry->unit = unit;
}
