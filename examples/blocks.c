/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks: a client of libhbm that needs no GPU: it fills memory, stores it as blocks, wipes it, loads
 * the blocks again and compares every byte.
 *
 *	cc blocks.c -lhbm -o blocks
 *	./blocks [SOCKET [DEVICE]]
 *
 * Its memory is the host's (ddr.regions in hbmd.conf(5)), or a device's. That of a GPU is written and
 * read by kernels and copies, at hbm_region_address(), which this program does not: hbm_region_host()
 * is NULL there, and it says so.
 */
#include <hbm/hbm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_BYTES (2u << 20)
#define BLOCK_BYTES (128u << 10)
#define BLOCKS 16u

static int check(struct hbm *hbm, const char *what, int status)
{
	if (status != 0)
		fprintf(stderr, "blocks: %s: %s: %s\n", what, hbm_strerror(status), hbm_error(hbm));
	return status;
}

/* Each block has bytes of its own. */
static unsigned char byte_at(unsigned block, unsigned offset)
{
	return (unsigned char)(block * 31 + offset * 7 + (offset >> 8));
}

static void fill(unsigned char *memory)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		for (unsigned k = 0; k < BLOCK_BYTES; k++)
			memory[i * BLOCK_BYTES + k] = byte_at(i, k);
}

static unsigned count_wrong(const unsigned char *memory)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < BLOCKS; i++) {
		unsigned k = 0;
		while (k < BLOCK_BYTES && memory[i * BLOCK_BYTES + k] == byte_at(i, k))
			k++;
		wrong += k < BLOCK_BYTES;
	}

	return wrong;
}

static unsigned count_done(const hbm_result *results)
{
	unsigned done = 0;

	for (unsigned i = 0; i < BLOCKS; i++)
		done += results[i].status == HBM_OK || results[i].status == HBM_EXISTS;

	return done;
}

/* A chain of blocks: each continues the one before. */
static void describe(struct hbm_region *region, struct hbm_segment *segments,
		     struct hbm_block *blocks)
{
	memset(blocks, 0, BLOCKS * sizeof(*blocks));
	for (unsigned i = 0; i < BLOCKS; i++) {
		segments[i] = (struct hbm_segment){region, i * BLOCK_BYTES, BLOCK_BYTES};
		blocks[i].segments = &segments[i];
		blocks[i].segment_count = 1;
		snprintf((char *)blocks[i].key.bytes, sizeof(blocks[i].key.bytes), "block %u", i);
		if (i > 0)
			blocks[i].parent = blocks[i - 1].key;
	}
}

static int store_and_load(struct hbm *hbm, struct hbm_region *region, unsigned char *memory)
{
	const struct hbm_namespace_options options = {.model = "example",
						      .block_bytes = BLOCK_BYTES};
	struct hbm_segment segments[BLOCKS];
	struct hbm_block blocks[BLOCKS];
	hbm_result results[BLOCKS];
	uint32_t ns;

	int r = check(hbm, "namespace", hbm_namespace_open(hbm, &options, &ns));
	if (r != 0)
		return r;

	describe(region, segments, blocks);
	fill(memory);
	r = check(hbm, "store", hbm_store(hbm, ns, blocks, BLOCKS, results));
	if (r != 0)
		return r;
	printf("stored %u blocks of %u\n", count_done(results), BLOCKS);

	memset(memory, 0, BLOCKS * BLOCK_BYTES);
	r = check(hbm, "load", hbm_load(hbm, ns, blocks, BLOCKS, results));
	if (r != 0)
		return r;
	printf("loaded %u blocks, %u of them wrong\n", count_done(results), count_wrong(memory));

	return count_done(results) == BLOCKS && count_wrong(memory) == 0 ? 0 : 1;
}

static int run(struct hbm *hbm, uint32_t device)
{
	const struct hbm_region_options options = {
		.device = device, .address_space = SLAB_BYTES, .slab = SLAB_BYTES};
	struct hbm_region *region;

	int r = check(hbm, "region", hbm_region_create(hbm, &options, &region));
	if (r != 0)
		return r;

	const struct hbm_range all = {region, 0, SLAB_BYTES};
	r = check(hbm, "commit", hbm_commit(hbm, &all, 1));
	if (r != 0)
		return r;

	unsigned char *memory = hbm_region_host(region);
	if (!memory) {
		fprintf(stderr, "blocks: this memory is a GPU's, for kernels and copies\n");
		return 1;
	}

	return store_and_load(hbm, region, memory);
}

int main(int argc, char **argv)
{
	const struct hbm_options options = {.socket = argc > 1 ? argv[1] : NULL};
	uint32_t device = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : HBM_DEVICE_HOST;
	struct hbm *hbm;

	int r = hbm_connect(&hbm, &options);
	if (r != 0) {
		fprintf(stderr, "blocks: no daemon: %s\n", hbm_strerror(r));
		return 1;
	}

	r = run(hbm, device);
	hbm_close(hbm);

	return r == 0 ? 0 : 1;
}
