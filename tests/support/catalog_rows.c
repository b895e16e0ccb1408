/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/catalog_rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/catalog/catalog_store.h"

struct hbm_wire_key catalog_row_key(uint32_t n)
{
	struct hbm_wire_key key = {0};

	memcpy(key.bytes, &n, sizeof(n));
	key.bytes[15] = 1;

	return key;
}

struct catalog_block catalog_row(uint32_t n, uint32_t parent, uint64_t stamp)
{
	struct catalog_block block = {.ns = 1,
				      .key = catalog_row_key(n),
				      .checksum = n * 1000,
				      .stamp = stamp,
				      .unit = n * CATALOG_ROW_UNITS,
				      .units = CATALOG_ROW_UNITS,
				      .flags = CATALOG_CHECKSUMMED};
	if (parent != 0)
		block.parent = catalog_row_key(parent);
	catalog_block_seal(&block);

	return block;
}

struct catalog_namespace catalog_row_namespace(uint64_t id)
{
	struct catalog_namespace ns = {.id = id,
				       .spec = {.model = "m", .weights = id, .block_bytes = 65536}};

	catalog_namespace_seal(&ns);

	return ns;
}

void catalog_rows_store(const char *path, uint32_t count)
{
	struct catalog_store *store = NULL;
	const struct catalog_store_options options = {
		.path = path, .file = {1}, .blocks = count, .namespaces = 4};
	struct catalog_change *changes = calloc(count, sizeof(*changes));
	struct catalog_namespace ns = catalog_row_namespace(1);
	const struct catalog_batch batch = {
		.namespaces = &ns, .namespace_count = 1, .changes = changes, .change_count = count};
	char error[256] = "";

	assert_non_null(changes);
	for (uint32_t i = 0; i < count; i++)
		changes[i] =
			(struct catalog_change){.put = true, .block = catalog_row(1 + i, 0, 1 + i)};
	if (catalog_store_open(&store, &options, &(struct reason){error, sizeof(error)}) != 0)
		fail_msg("%s", error);
	assert_int_equal(catalog_store_apply(store, &batch, true), 0);
	catalog_store_close(store);
	free(changes);
}
