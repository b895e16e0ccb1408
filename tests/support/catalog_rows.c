/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/catalog_rows.h"

#include <string.h>

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
