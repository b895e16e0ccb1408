/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_record.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t catalog_record_check_of_block(const struct catalog_block *block)
{
	return XXH3_64bits(block, offsetof(struct catalog_block, check));
}

static uint64_t catalog_record_check_of_namespace(const struct catalog_namespace *ns)
{
	return XXH3_64bits(ns, offsetof(struct catalog_namespace, check));
}

void catalog_block_seal(struct catalog_block *block)
{
	block->check = catalog_record_check_of_block(block);
}

void catalog_namespace_seal(struct catalog_namespace *ns)
{
	ns->check = catalog_record_check_of_namespace(ns);
}

bool catalog_block_read(struct catalog_block *block, const void *bytes, size_t size)
{
	if (size != sizeof(*block))
		return false;

	memcpy(block, bytes, sizeof(*block));

	return block->check == catalog_record_check_of_block(block) && block->zero == 0 &&
	       (block->flags & ~(CATALOG_CHECKSUMMED | CATALOG_DURABLE)) == 0 && block->units > 0;
}

bool catalog_namespace_read(struct catalog_namespace *ns, const void *bytes, size_t size)
{
	if (size != sizeof(*ns))
		return false;

	memcpy(ns, bytes, sizeof(*ns));

	return ns->check == catalog_record_check_of_namespace(ns) &&
	       (ns->flags & ~CATALOG_WIPE_ON_FREE) == 0 &&
	       memchr(ns->tenant, 0, sizeof(ns->tenant)) && memchr(ns->group, 0, sizeof(ns->group));
}
