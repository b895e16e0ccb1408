/* SPDX-License-Identifier: Apache-2.0 */
/* block_pinned: the bytes of blocks with references, by their target and by the tenant that made
 * their namespace. When they change is block.c's to know. */
#include "daemon/cache/block.h"

void block_count_pinned(struct blocks *blocks, uint32_t number, uint64_t bytes)
{
	const struct block *block = &blocks->table[number];
	struct namespace *ns = namespaces_get(blocks->namespaces, block->ns);

	ledger_add(&blocks->pinned[block->target], LEDGER_PINNED, bytes);
	ledger_add(&ns->payer, LEDGER_TENANT_PINNED, bytes);
}

void block_uncount_pinned(struct blocks *blocks, uint32_t number, uint64_t bytes)
{
	const struct block *block = &blocks->table[number];
	struct namespace *ns = namespaces_get(blocks->namespaces, block->ns);

	ledger_subtract(&blocks->pinned[block->target], LEDGER_PINNED, bytes);
	ledger_subtract(&ns->payer, LEDGER_TENANT_PINNED, bytes);
}
