/* SPDX-License-Identifier: Apache-2.0 */
/* Device code, the checksum: its definition, the host's and the device's sums, and what they
 * tell apart. */
#include "kernels/device/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/support/device_rig.h"

#define SUMS (DEVICE_RIG_BYTES - 8192) /* where they are, in memory and image */

/* Computed by hand from the definition, so that it does not change unseen. */
static void test_definition(void **state)
{
	static const unsigned char zero[32], ones[16] = {1, 0, 0, 0, 0, 0, 0, 0, 1};

	(void)state;
	assert_int_equal(checksum_of(zero, 0, 0), 0);
	assert_true(checksum_of(zero, 16, 0) == 0xa035e2cc637f5704u);
	assert_true(checksum_of(zero, 32, 0) == 0x19edb77eebdbfdc2u);
	assert_true(checksum_of(ones, 16, 16) == 0xb386f8f65a969d8u);
}

/* Pieces of one block may be taken in any order. */
static void test_pieces_add_up(void **state)
{
	struct device_rig rig;

	device_rig_open(&rig, *state);
	assert_true(checksum_of(rig.image + 1, 4096, 0) ==
		    checksum_of(rig.image + 1 + 1600, 4096 - 1600, 1600) +
			    checksum_of(rig.image + 1, 1600, 0));
	device_rig_close(&rig);
}

static void test_every_bit_and_order_counts(void **state)
{
	unsigned char block[256] = {0}, other[256];

	(void)state;
	for (size_t i = 0; i < 256; i++)
		block[i] = (unsigned char)(i / 16);
	for (size_t bit = 0; bit < 8 * sizeof(block); bit++) {
		memcpy(other, block, sizeof(block));
		other[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_true(checksum_of(other, 256, 0) != checksum_of(block, 256, 0));
	}

	memcpy(other, block, sizeof(block));
	memcpy(other + 16, block + 32, 16);
	memcpy(other + 32, block + 16, 16);
	assert_true(checksum_of(other, 256, 0) != checksum_of(block, 256, 0));
}

/* Blocks in any number of pieces; the sums are all that is written. */
static void test_device(void **state)
{
	static struct checksum_piece pieces[400];
	struct device_rig rig;

	device_rig_open(&rig, *state);
	for (size_t round = 0; round < 4; round++) {
		const size_t blocks = 1 + 99 * (round % 2), count = round < 2 ? blocks : 400;
		uint64_t *sums = (uint64_t *)(void *)(rig.image + SUMS), at[100] = {0};

		memset(sums, 0, blocks * sizeof(*sums));
		for (size_t i = 0; i < count; i++) {
			const uint64_t from = 16 * seed_below(&rig.seed, 60000),
				       bytes = 16 * seed_below(&rig.seed, round == 0 ? 60000 : 300),
				       sum = i % blocks;

			pieces[i] = (struct checksum_piece){rig.memory + from, bytes, at[sum], sum};
			sums[sum] += checksum_of(rig.image + from, bytes, at[sum]);
			at[sum] += bytes;
		}

		assert_int_equal(checksum_launch(&rig.kernels, rig.driver, rig.stream,
						 rig.memory + SUMS, blocks, pieces, count),
				 CUDA_SUCCESS);
		device_rig_check(&rig);
	}

	device_rig_close(&rig);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, soft_setup, soft_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_definition),
		cmocka_unit_test(test_every_bit_and_order_counts),
		TEST(test_pieces_add_up),
		TEST(test_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
