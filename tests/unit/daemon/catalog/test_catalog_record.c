/* SPDX-License-Identifier: Apache-2.0 */
/* A record is read as it was written, or is none: whatever single bit is another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "daemon/catalog/catalog_record.h"

static struct catalog_block block_of(uint32_t unit)
{
	struct catalog_block block = {.ns = 7,
				      .key.bytes = {1, 2, 3},
				      .parent.bytes = {4, 5, 6},
				      .checksum = 0x1234,
				      .stamp = 99,
				      .unit = unit,
				      .units = 16,
				      .flags = CATALOG_CHECKSUMMED};
	catalog_block_seal(&block);
	return block;
}

static struct catalog_namespace ns_of(uint64_t id)
{
	struct catalog_namespace ns = {.id = id,
				       .spec = {.model = "m",
						.layout = "l",
						.salt = "s",
						.weights = 3,
						.block_bytes = 4096},
				       .uid = 1000};
	catalog_namespace_seal(&ns);
	return ns;
}

static void test_round(void **state)
{
	struct catalog_block block = block_of(40), read;
	struct catalog_namespace ns = ns_of(5), ns_read;

	(void)state;
	assert_true(catalog_block_read(&read, &block, sizeof(block)));
	assert_memory_equal(&read, &block, sizeof(block));
	assert_true(catalog_namespace_read(&ns_read, &ns, sizeof(ns)));
	assert_memory_equal(&ns_read, &ns, sizeof(ns));
}

static void test_sizes(void **state)
{
	struct catalog_block block = block_of(40), read;
	struct catalog_namespace ns = ns_of(5), ns_read;

	(void)state;
	assert_false(catalog_block_read(&read, &block, sizeof(block) - 1));
	assert_false(catalog_block_read(&read, &block, 0));
	assert_false(catalog_namespace_read(&ns_read, &ns, sizeof(ns) - 8));
}

static void test_every_bit(void **state)
{
	struct catalog_block block = block_of(40), read;
	struct catalog_namespace ns = ns_of(5), ns_read;
	unsigned char *bytes = (unsigned char *)&block;

	(void)state;
	for (size_t bit = 0; bit < 8 * sizeof(block); bit++) {
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_false(catalog_block_read(&read, &block, sizeof(block)));
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}

	bytes = (unsigned char *)&ns;
	for (size_t bit = 0; bit < 8 * sizeof(ns); bit++) {
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_false(catalog_namespace_read(&ns_read, &ns, sizeof(ns)));
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

/* Of a newer daemon, with a check that is right. */
static void test_unknown(void **state)
{
	struct catalog_block block = block_of(40), read;
	struct catalog_namespace ns = ns_of(5), ns_read;

	(void)state;
	block.flags |= 1u << 9;
	catalog_block_seal(&block);
	assert_false(catalog_block_read(&read, &block, sizeof(block)));

	block = block_of(40);
	block.zero = 1;
	catalog_block_seal(&block);
	assert_false(catalog_block_read(&read, &block, sizeof(block)));

	block = block_of(40);
	block.units = 0;
	catalog_block_seal(&block);
	assert_false(catalog_block_read(&read, &block, sizeof(block)));

	ns.flags = 2;
	catalog_namespace_seal(&ns);
	assert_false(catalog_namespace_read(&ns_read, &ns, sizeof(ns)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_unknown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
