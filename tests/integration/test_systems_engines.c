/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving engines that keep the KV cache of running requests, each by what its memory
 * does, in miniature: rows of the table in hbm(7). What a test asserts is what its system
 * needs, which is at its head.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/busy.h"
#include "tests/support/system_stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct pool_rig rig;

static void start(const char *layout, uint64_t warm_bytes)
{
	system_stage_start(NULL);
	system_stage_pool(&rig, layout, 0, warm_bytes);
}

static void finish(void)
{
	pool_rig_close(&rig);
	system_stage_finish();
}

/* ---- vLLM ---- */

#define VLLM_LAYOUT "layers=2 heads=3 dim=9000 bytes=4 order=block page=4 max=64"
#define VLLM_PAGE 4u
#define VLLM_SAMPLES 3u
#define VLLM_PAGES 16u

/* A token as a paged kernel finds it: by its page's number in the block table alone. */
static void vllm_expect_token(const int32_t *table, uint64_t token, uint64_t value)
{
	const uint64_t base = hbm_region_address(hbm_pool_region(rig.pool));
	const uint64_t page = (uint64_t)table[token / VLLM_PAGE];

	for (uint32_t layer = 0; layer < 2; layer++) {
		struct hbm_kv_view view;
		uint64_t seen;

		assert_int_equal(hbm_layout_view(rig.layout, layer, VLLM_PAGE, &view, NULL, 0), 0);
		const uint64_t at = page * view.page_stride + token % VLLM_PAGE * view.token_stride;

		kv_read(&rig.kv, &seen, base + view.keys + view.element_bytes * at, sizeof(seen));
		assert_int_equal(seen, pool_rig_word(value, layer, HBM_KEYS, false));
		kv_read(&rig.kv, &seen, base + view.values + view.element_bytes * at, sizeof(seen));
		assert_int_equal(seen, pool_rig_word(value, layer, HBM_VALUES, false));
	}
}

/* Each sequence's tokens, by the table: the prompt's, then its own. */
static void vllm_expect(struct hbm_sequence *const *sequences, size_t count, uint64_t prompt,
			uint64_t end)
{
	int32_t block_table[(VLLM_SAMPLES + 1) * VLLM_PAGES], seq_lens[VLLM_SAMPLES + 1];
	const struct hbm_vllm_table table = {block_table, VLLM_PAGES, seq_lens};
	struct hbm_slot_length slots[VLLM_SAMPLES + 1];

	for (size_t i = 0; i < count; i++)
		slots[i] = (struct hbm_slot_length){pool_rig_facts(sequences[i]).slot, end};
	assert_int_equal(hbm_layout_vllm(rig.layout, 0, VLLM_PAGE, slots, count, &table, NULL, 0),
			 0);
	for (size_t i = 0; i < count; i++)
		for (uint64_t token = 0; token < end; token++)
			vllm_expect_token(block_table + i * VLLM_PAGES, token,
					  token < prompt ? token : 1000 * (i + 1) + token);
}

/* The group goes to host memory as a whole or not at all, and comes back as it was. */
static void vllm_swap(struct hbm_sequence *const *all, uint64_t prompt, uint64_t end)
{
	const uint64_t used = system_stage_used(rig.hbm, 0);

	assert_int_equal(hbm_sequences_suspend(rig.pool, all, VLLM_SAMPLES + 1, HBM_TIER_DDR),
			 HBM_LIMIT);
	assert_int_equal(system_stage_used(rig.hbm, 0), used);
	vllm_expect(all, VLLM_SAMPLES + 1, prompt, end);
	assert_int_equal(hbm_sequences_suspend(rig.pool, all, VLLM_SAMPLES + 1, HBM_TIER_NVME), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), 0);
	assert_int_equal(hbm_sequences_resume(rig.pool, all, VLLM_SAMPLES + 1), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), used); /* shared as before */
	vllm_expect(all, VLLM_SAMPLES + 1, prompt, end);
}

/*
 * vLLM (PagedAttention) needs blocks of one size behind a block table; forks that share the
 * blocks of a prompt, of which a writer copies the last partial one alone; a group of sequences
 * that is swapped out and in as a whole; and a count of free memory that is exact, for its
 * watermark.
 */
static void test_system_vllm(void **state)
{
	(void)state;
	const uint64_t prompt = 38, end = 45; /* the prompt's last block is half full */
	static const char *const sets[] = {"nvme.size=256MiB", NULL};
	struct hbm_sequence *all[VLLM_SAMPLES + 1];

	system_stage_start(sets);
	system_stage_pool(&rig, VLLM_LAYOUT, 0, 0);
	all[0] = system_stage_prompt(&rig, prompt, 0);
	const uint64_t alone = system_stage_used(rig.hbm, 0);

	assert_int_equal(alone, system_stage_bytes(&rig, prompt));
	assert_int_equal(hbm_sequence_fork(all[0], VLLM_SAMPLES, &all[1]), 0);
	for (size_t i = 0; i < VLLM_SAMPLES + 1; i++)
		system_stage_grow(&rig, all[i], end, 1000 * (i + 1));
	vllm_expect(all, VLLM_SAMPLES + 1, prompt, end);

	/* What a sample has for itself is what it writes to: the slabs from the last partial
	 * block on. The free count knows it to the byte. */
	const struct hbm_sequence_facts sample = pool_rig_facts(all[1]);
	uint64_t own = 0;

	assert_true(sample.shared_bytes > 0);
	assert_true(sample.mapped_bytes - sample.shared_bytes <=
		    system_stage_bytes(&rig, end) - system_stage_bytes(&rig, prompt) +
			    2 * RIG_SLAB);
	for (size_t i = 0; i < VLLM_SAMPLES + 1; i++) {
		const struct hbm_sequence_facts facts = pool_rig_facts(all[i]);

		own += facts.mapped_bytes - facts.shared_bytes;
	}
	assert_int_equal(system_stage_used(rig.hbm, 0), own + sample.shared_bytes);

	vllm_swap(all, prompt, end);

	/* The references are exact: the prompt goes with the last that has it. */
	for (size_t i = 0; i < VLLM_SAMPLES; i++)
		assert_int_equal(hbm_sequence_close(all[i]), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0),
			 pool_rig_facts(all[VLLM_SAMPLES]).mapped_bytes);
	for (uint64_t i = 0; i < end; i++)
		pool_rig_expect(&rig, all[VLLM_SAMPLES], i,
				i < prompt ? i : 1000 * (VLLM_SAMPLES + 1) + i);
	assert_int_equal(hbm_sequence_close(all[VLLM_SAMPLES]), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), 0);
	finish();
}

/* ---- vAttention ---- */

/*
 * vAttention needs a request's KV cache at one contiguous range of addresses, which it reserves
 * for the longest and backs as it grows; the pages of the next iteration mapped during this one,
 * so that a step itself makes no call; and freed pages kept for the next request.
 */
static void test_system_vattention(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], SYSTEM_MEMORY);
	struct hbm_sequence *batch[] = {pool_rig_sequence(&rig), pool_rig_sequence(&rig)};
	uint64_t lengths[] = {20, 1};
	const uint64_t address = pool_rig_facts(batch[0]).address;

	assert_int_equal(system_stage_used(rig.hbm, 0), 0); /* reserved is not backed */
	assert_int_equal(hbm_step(rig.pool, batch, lengths, 2), 0);
	system_stage_write(&rig, batch[0], 0, 20, 0);
	system_stage_write(&rig, batch[1], 0, 1, 1000);
	const uint64_t begin = system_stage_used(rig.hbm, 0);

	while (lengths[0] < RIG_MAX) {
		assert_int_equal(hbm_pool_map_ahead(rig.pool), 0); /* while the GPU works */
		lengths[0]++;
		lengths[1]++;
		system_stage_silent_step(&rig, batch, lengths, 2);
		pool_rig_write(&rig, batch[0], lengths[0] - 1, lengths[0] - 1);
		pool_rig_write(&rig, batch[1], lengths[1] - 1, 1000 + lengths[1] - 1);
	}
	const uint64_t grown = system_stage_used(rig.hbm, 0);

	assert_true(grown >= begin + 8 * RIG_SLAB);
	assert_int_equal(pool_rig_facts(batch[0]).address, address);
	system_stage_expect(&rig, batch[0], 0, RIG_MAX, 0);
	system_stage_expect(&rig, batch[1], 0, lengths[1], 1000);

	/* Deferred reclamation: the next request finds the pages mapped. */
	assert_int_equal(hbm_sequence_close(batch[0]), 0);
	assert_int_equal(system_stage_used(rig.hbm, 0), grown);
	batch[0] = pool_rig_sequence(&rig);
	system_stage_silent_step(&rig, batch, &(uint64_t){RIG_MAX}, 1);
	assert_int_equal(system_stage_used(rig.hbm, 0), grown);
	system_stage_write(&rig, batch[0], 0, RIG_MAX, 2000);
	system_stage_expect(&rig, batch[0], 0, RIG_MAX, 2000);
	system_stage_expect(&rig, batch[1], 0, lengths[1], 1000);
	finish();
}

/* ---- FlashAttention, FlashInfer ---- */

#define FLASH_LAYOUT "layers=2 heads=2 dim=64 bytes=4 order=token page=16 max=8192"
#define FLASH_DIM 64u
#define FLASH_PAGE 16u
#define FLASH_PAGES 512u
#define FLASH_TOKENS 8000u
#define FLASH_LAYER 1u
#define FLASH_HEAD 1u

/* Some number for each element. */
static float flash_element(uint64_t token, enum hbm_kv_part part, uint32_t i)
{
	return (float)((token * 131 + part * 17 + i * 7) % 251) / 251.0f - 0.5f;
}

/* Where token t is, by what a kernel is given. */
struct flash_source {
	struct hbm_kv_view view;
	uint64_t base;              /* of slot 0 */
	uint64_t slot;              /* contiguous */
	const int32_t *pages;       /* NULL: contiguous */
	const unsigned char *bytes; /* the region's bytes from `base` on, as read */
};

static const float *flash_row(const struct flash_source *source, enum hbm_kv_part part,
			      uint64_t token)
{
	const struct hbm_kv_view *view = &source->view;
	const uint64_t plane = part == HBM_KEYS ? view->keys : view->values;
	uint64_t at = FLASH_HEAD * view->head_stride;

	if (source->pages)
		at += (uint64_t)source->pages[token / FLASH_PAGE] * view->page_stride +
		      token % FLASH_PAGE * view->token_stride;
	else
		at += source->slot * view->batch_stride + token * view->token_stride;

	return (const float *)(const void *)(source->bytes + plane + view->element_bytes * at);
}

/* Attention of one query over all tokens, in the order of the tokens. source: NULL: the
 * reference, which has no memory but knows the elements. */
static void flash_attend(const struct flash_source *source, uint64_t tokens, double *out)
{
	double sum = 0;

	memset(out, 0, FLASH_DIM * sizeof(*out));
	for (uint64_t t = 0; t < tokens; t++) {
		double score = 0;

		for (uint32_t i = 0; i < FLASH_DIM; i++)
			score += (double)(source ? flash_row(source, HBM_KEYS, t)[i]
						 : flash_element(t, HBM_KEYS, i)) /
				 (i + 1);
		score = exp(score);
		sum += score;
		for (uint32_t i = 0; i < FLASH_DIM; i++)
			out[i] += score * (double)(source ? flash_row(source, HBM_VALUES, t)[i]
							  : flash_element(t, HBM_VALUES, i));
	}
	for (uint32_t i = 0; i < FLASH_DIM; i++)
		out[i] /= sum;
}

static void flash_write(struct hbm_sequence *sequence, uint64_t first, uint64_t end)
{
	const uint64_t address = pool_rig_facts(sequence).address;
	float row[FLASH_DIM];
	uint64_t offset;

	for (uint64_t t = first; t < end; t++) {
		for (int part = HBM_KEYS; part <= HBM_VALUES; part++) {
			for (uint32_t i = 0; i < FLASH_DIM; i++)
				row[i] = flash_element(t, part, i);
			assert_int_equal(hbm_layout_offset(rig.layout, FLASH_LAYER, part, t,
							   FLASH_HEAD, &offset),
					 0);
			kv_write(&rig.kv, address + offset, row, sizeof(row));
		}
	}
}

/* All that is mapped of a slot, at its place; the rest is 0. */
static unsigned char *flash_read(const struct hbm_sequence_facts *facts, uint64_t slot_bytes)
{
	unsigned char *bytes = calloc(1, (facts->slot + 1) * slot_bytes);
	uint64_t offset, size;

	assert_non_null(bytes);
	for (uint32_t buffer = 0; buffer < 2; buffer++) {
		assert_int_equal(
			hbm_layout_range(rig.layout, buffer, 0, facts->tokens, &offset, &size), 0);
		kv_read(&rig.kv, bytes + facts->slot * slot_bytes + offset, facts->address + offset,
			size);
	}

	return bytes;
}

static void flash_compare(struct hbm_sequence *sequence)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);
	struct hbm_layout_facts sizes;
	struct hbm_slot_length slot = {facts.slot, facts.tokens};
	int32_t indptr[2], indices[FLASH_PAGES], last[1];
	const struct hbm_flashinfer_table table = {indptr, indices, FLASH_PAGES, last};
	double reference[FLASH_DIM], plain[FLASH_DIM], paged[FLASH_DIM];
	struct flash_source source = {.slot = facts.slot};

	hbm_layout_facts(rig.layout, &sizes);
	unsigned char *bytes = flash_read(&facts, sizes.slot_bytes);

	source.bytes = bytes;
	flash_attend(NULL, facts.tokens, reference);
	assert_int_equal(hbm_layout_view(rig.layout, FLASH_LAYER, 0, &source.view, NULL, 0), 0);
	flash_attend(&source, facts.tokens, plain);
	assert_memory_equal(plain, reference, sizeof(reference));

	assert_int_equal(
		hbm_layout_view(rig.layout, FLASH_LAYER, FLASH_PAGE, &source.view, NULL, 0), 0);
	assert_int_equal(hbm_layout_flashinfer(rig.layout, FLASH_LAYER, FLASH_PAGE, &slot, 1,
					       &table, NULL, 0),
			 0);
	assert_int_equal((uint64_t)(indptr[1] - 1) * FLASH_PAGE + (uint64_t)last[0], facts.tokens);
	source.pages = indices;
	flash_attend(&source, facts.tokens, paged);
	assert_memory_equal(paged, reference, sizeof(reference));
	free(bytes);
}

/*
 * FlashAttention and FlashInfer need a pointer with constant strides, aligned to 2 MiB, and a
 * block table over the same memory for their paged forms, with the same results; and that
 * nothing is mapped anew under a kernel that runs: memory stays as it is while others grow.
 */
static void test_system_flashattention(void **state)
{
	(void)state;
	start(FLASH_LAYOUT, SYSTEM_MEMORY);
	struct hbm_sequence *other = pool_rig_sequence(&rig), *one = pool_rig_sequence(&rig);
	const struct hbm_sequence_facts facts = pool_rig_facts(one);
	struct busy busy;
	CUstream stream;

	assert_int_equal(facts.address % (2ull << 20), 0);
	assert_int_not_equal(facts.slot, 0);
	assert_int_equal(pool_rig_step(&rig, one, FLASH_TOKENS / 2), 0);
	flash_write(one, 0, FLASH_TOKENS / 2);
	assert_int_equal(pool_rig_step(&rig, other, 1), 0);

	/* A kernel writes to the other sequence's memory while both grow. */
	assert_int_equal(rig.kv.driver->cuCtxSetCurrent(rig.kv.context), 0);
	assert_int_equal(rig.kv.driver->cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), 0);
	assert_int_equal(busy_open(&busy, rig.kv.driver), 0);
	const uint64_t at = pool_rig_facts(other).address;

	assert_int_equal(busy_launch(&busy, stream, at, RIG_SLAB, 77, 100), 0);
	assert_int_equal(pool_rig_step(&rig, other, FLASH_TOKENS), 0);
	assert_int_equal(pool_rig_step(&rig, one, FLASH_TOKENS), 0);
	assert_int_equal(rig.kv.driver->cuStreamSynchronize(stream), 0);
	for (uint64_t i = 0; i < RIG_SLAB; i += 65536) {
		uint64_t seen;

		kv_read(&rig.kv, &seen, at + i, sizeof(seen));
		assert_int_equal(seen, 77);
	}
	assert_int_equal(busy_close(&busy), 0);
	assert_int_equal(rig.kv.driver->cuStreamDestroy(stream), 0);

	flash_write(one, FLASH_TOKENS / 2, FLASH_TOKENS);
	assert_int_equal(pool_rig_facts(one).address, facts.address);
	flash_compare(one);
	finish();
}

/* ---- FasterTransformer ---- */

#define FASTER_BATCH 4u

/*
 * FasterTransformer serves a batch request by request with static KV: all memory for the longest
 * reply is there before the first token, no step can fail or call afterwards, a reply that ends
 * early gives its unused tail back, and a batch ends with one call that frees all.
 */
static void test_system_fastertransformer(void **state)
{
	(void)state;
	start(pool_rig_layouts[0], SYSTEM_MEMORY);
	const uint64_t replies[FASTER_BATCH] = {11, RIG_MAX, 23, 40};
	struct hbm_sequence *batch[FASTER_BATCH];
	uint64_t lengths[FASTER_BATCH];

	for (size_t i = 0; i < FASTER_BATCH; i++) {
		batch[i] = pool_rig_sequence(&rig);
		lengths[i] = RIG_MAX;
	}
	assert_int_equal(hbm_step(rig.pool, batch, lengths, FASTER_BATCH), 0);
	const uint64_t all = FASTER_BATCH * system_stage_bytes(&rig, RIG_MAX);

	assert_int_equal(system_stage_used(rig.hbm, 0), all);

	/* Another engine takes what is left; the batch does not notice. */
	struct kv other = {.hbm = spawn_connect(&daemon_)};

	system_stage_take_all(&other);
	assert_int_equal(system_stage_memory(other.hbm, 0).free, 0);
	for (size_t i = 0; i < FASTER_BATCH; i++)
		system_stage_write(&rig, batch[i], 0, replies[i], 1000 * i);
	system_stage_silent_step(&rig, batch, lengths, FASTER_BATCH);

	/* Two end early; their tails serve the other engine at once. */
	uint64_t tails = 0;

	for (size_t i = 0; i < FASTER_BATCH; i += 2) {
		assert_int_equal(hbm_sequence_truncate(batch[i], replies[i]), 0);
		tails += system_stage_bytes(&rig, RIG_MAX) -
			 system_stage_bytes(&rig, replies[i] + 2 * RIG_AHEAD);
	}
	assert_true(tails > 0);
	assert_int_equal(system_stage_memory(other.hbm, 0).free, tails);
	kv_region(&other, tails);
	for (size_t i = 0; i < FASTER_BATCH; i++)
		system_stage_expect(&rig, batch[i], 0, replies[i], 1000 * i);

	/* One call for all that the batch has. */
	pool_rig_close(&rig);
	assert_int_equal(system_stage_memory(other.hbm, 0).free, all - tails);
	hbm_close(other.hbm);
	system_stage_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_system_vllm),
		TEST(test_system_vattention),
		TEST(test_system_flashattention),
		TEST(test_system_fastertransformer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
