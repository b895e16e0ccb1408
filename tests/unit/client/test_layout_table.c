/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block tables: tables by hand; what is refused; and attention over layouts at random. The
 * same attention is computed over plain arrays, by strides, and by both kinds of block table,
 * and has the same bits. What a layout leaves unused in its slots is full of NaNs, and a page
 * that a table names is one that is mapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/layouts.h"

#define ROUNDS 60
#define SLOTS 4u
#define TOKENS 40u
#define HEADS 3u
#define DIM 8u
#define GROUP 2u /* query heads of a KV head */
#define PAGES (SLOTS * TOKENS)

/* ---- Attention ---- */

/* A head of a token, in whatever form. */
typedef const float *head_fn(const void *form, enum hbm_kv_part part, uint64_t token,
			     uint32_t head);

struct attention {
	head_fn *head;
	const void *form;
	uint64_t tokens, window;
	uint32_t heads, dim;
};

static float dot(const float *a, const float *b, uint32_t count)
{
	float sum = 0;

	for (uint32_t i = 0; i < count; i++)
		sum += a[i] * b[i];

	return sum;
}

static void attend_head(const struct attention *attention, const float *query, uint32_t head,
			float *out)
{
	const uint64_t first = attention->window && attention->tokens > attention->window
				       ? attention->tokens - attention->window
				       : 0;
	float weight[TOKENS], total = 0;

	for (uint64_t t = first; t < attention->tokens; t++) {
		weight[t] = expf(dot(query, attention->head(attention->form, HBM_KEYS, t, head),
				     attention->dim));
		total += weight[t];
	}
	for (uint64_t t = first; t < attention->tokens; t++) {
		const float *value = attention->head(attention->form, HBM_VALUES, t, head);

		for (uint32_t i = 0; i < attention->dim; i++)
			out[i] += weight[t] / total * value[i];
	}
}

/* One query token: [heads * GROUP][dim]. */
static void attend(const struct attention *attention, const float *query, float *out)
{
	memset(out, 0, sizeof(float) * HEADS * GROUP * DIM);
	for (uint32_t q = 0; q < attention->heads * GROUP; q++)
		attend_head(attention, query + q * attention->dim, q / GROUP,
			    out + q * attention->dim);
}

/* ---- Forms ---- */

struct plain {
	float data[2][TOKENS][HEADS][DIM];
};

static const float *plain_head(const void *form, enum hbm_kv_part part, uint64_t token,
			       uint32_t head)
{
	return ((const struct plain *)form)->data[part][token][head];
}

struct strided {
	const struct hbm_kv_view *view;
	const char *base;
	uint64_t slot;
};

static const float *strided_head(const void *form, enum hbm_kv_part part, uint64_t token,
				 uint32_t head)
{
	const struct strided *strided = form;
	const struct hbm_kv_view *view = strided->view;
	const float *elements =
		(const void *)(strided->base + (part == HBM_KEYS ? view->keys : view->values));

	return elements + strided->slot * view->batch_stride + token * view->token_stride +
	       head * view->head_stride;
}

struct paged {
	const struct hbm_kv_view *view;
	const char *base;
	const int32_t *pages;
};

static const float *paged_head(const void *form, enum hbm_kv_part part, uint64_t token,
			       uint32_t head)
{
	const struct paged *paged = form;
	const struct hbm_kv_view *view = paged->view;
	const float *elements =
		(const void *)(paged->base + (part == HBM_KEYS ? view->keys : view->values));

	return elements + (uint64_t)paged->pages[token / view->page_tokens] * view->page_stride +
	       token % view->page_tokens * view->token_stride + head * view->head_stride;
}

/* ---- A region of sequences ---- */

struct region {
	struct made_up_layout made_up;
	struct hbm_layout *layout;
	struct hbm_layout_facts facts;
	char *base;
	struct hbm_slot_length sequences[SLOTS];
	struct plain plain[SLOTS][LAYOUTS_LAYERS];
};

static float number(struct seed *seed)
{
	return (float)seed_below(seed, 2001) / 1000.0f - 1.0f;
}

/* Elements of 4 bytes, and layers of at most two kinds. */
static void region_make_up(struct seed *seed, struct made_up_layout *made_up)
{
	do {
		layouts_make_up(seed, made_up);
		for (uint32_t i = 0; i < made_up->options.layer_count; i++) {
			struct hbm_layer *layer = &made_up->layers[i];

			layer->element_bytes = layer->state_bytes ? 0 : 4;
			layer->heads = layer->heads > HEADS ? HEADS : layer->heads;
			layer->head_dim = layer->head_dim > DIM ? DIM : layer->head_dim;
		}
		made_up->options.layers = made_up->layers;
	} while (made_up->options.page_tokens == 0);
}

static void region_write(struct seed *seed, struct region *region, uint32_t slot, uint32_t layer)
{
	const struct hbm_layer *shape = &region->made_up.layers[layer];
	const struct hbm_slot_length *sequence = &region->sequences[slot];
	const uint64_t first = shape->window && sequence->tokens > shape->window
				       ? sequence->tokens - shape->window
				       : 0;

	for (uint32_t part = 0; part < (shape->keys_only ? 1 : 2); part++)
		for (uint64_t t = first; t < sequence->tokens; t++)
			for (uint32_t head = 0; head < shape->heads; head++) {
				float *plain = region->plain[slot][layer].data[part][t][head];
				uint64_t offset;

				for (uint32_t i = 0; i < shape->head_dim; i++)
					plain[i] = number(seed);
				assert_int_equal(hbm_layout_offset(region->layout, layer,
								   (enum hbm_kv_part)part, t, head,
								   &offset),
						 0);
				memcpy(region->base + sequence->slot * region->facts.slot_bytes +
					       offset,
				       plain, shape->head_dim * sizeof(float));
			}
	if (shape->keys_only)
		memcpy(region->plain[slot][layer].data[HBM_VALUES],
		       region->plain[slot][layer].data[HBM_KEYS],
		       sizeof(region->plain[slot][layer].data[HBM_KEYS]));
}

/* NaNs in what the sequence has mapped; the rest of its slot cannot be read. */
static void region_map(struct region *region, const struct hbm_slot_length *sequence)
{
	char *slot = region->base + sequence->slot * region->facts.slot_bytes;

	for (uint32_t i = 0; i < region->facts.buffers; i++) {
		struct hbm_buffer buffer;
		uint64_t offset, bytes, first = 0;

		hbm_layout_buffer(region->layout, i, &buffer);
		if (buffer.window && sequence->tokens > buffer.window)
			first = sequence->tokens - buffer.window;
		hbm_layout_range(region->layout, i, first, sequence->tokens, &offset, &bytes);
		if (bytes == 0)
			continue;

		assert_int_equal(mprotect(slot + offset, bytes, PROT_READ | PROT_WRITE), 0);
		memset(slot + offset, 0xff, bytes < 65536 ? bytes : 65536);
	}
}

static void region_open(struct seed *seed, struct region *region)
{
	memset(region, 0, sizeof(*region));
	region_make_up(seed, &region->made_up);
	region->layout = layouts_new(&region->made_up.options);
	hbm_layout_facts(region->layout, &region->facts);
	region->base = mmap(NULL, SLOTS * region->facts.slot_bytes, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(region->base, MAP_FAILED);

	/* Slots in another order than sequences, and one without tokens. */
	for (uint32_t i = 0; i < SLOTS; i++) {
		region->sequences[i] = (struct hbm_slot_length){
			.slot = (i + 1) % SLOTS,
			.tokens =
				i == 2 ? 0
				       : 1 + seed_below(seed, region->made_up.options.max_tokens)};
		region_map(region, &region->sequences[i]);
	}
	for (uint32_t i = 0; i < SLOTS; i++)
		for (uint32_t layer = 0; layer < region->made_up.options.layer_count; layer++)
			if (!region->made_up.layers[layer].state_bytes)
				region_write(seed, region, i, layer);
}

static void region_close(struct region *region)
{
	assert_int_equal(munmap(region->base, SLOTS * region->facts.slot_bytes), 0);
	hbm_layout_free(region->layout);
}

/* ---- The same bits ---- */

struct tables {
	int32_t indptr[SLOTS + 1], indices[PAGES], last_page_len[SLOTS];
	int32_t block_table[SLOTS * TOKENS], seq_lens[SLOTS];
};

static void make_tables(const struct region *region, uint32_t layer, uint32_t page_tokens,
			struct tables *tables)
{
	const struct hbm_flashinfer_table flashinfer = {.indptr = tables->indptr,
							.indices = tables->indices,
							.indices_max = PAGES,
							.last_page_len = tables->last_page_len};
	const struct hbm_vllm_table vllm = {.block_table = tables->block_table,
					    .max_blocks = TOKENS,
					    .seq_lens = tables->seq_lens};

	assert_int_equal(hbm_layout_flashinfer(region->layout, layer, page_tokens,
					       region->sequences, SLOTS, &flashinfer, NULL, 0),
			 0);
	assert_int_equal(hbm_layout_vllm(region->layout, layer, page_tokens, region->sequences,
					 SLOTS, &vllm, NULL, 0),
			 0);
}

/* The tokens of sequence i as a kernel takes them from the table. */
static uint64_t flashinfer_tokens(const struct tables *tables, uint32_t i, uint32_t page_tokens)
{
	const int32_t pages = tables->indptr[i + 1] - tables->indptr[i];

	return pages ? (uint64_t)(pages - 1) * page_tokens + (uint64_t)tables->last_page_len[i] : 0;
}

/* All of every page that is named can be read. */
static void read_pages(const struct region *region, const struct hbm_kv_view *view,
		       const int32_t *pages, uint64_t tokens)
{
	const struct paged paged = {view, region->base, pages};
	volatile float sum = 0;

	if (tokens == 0)
		return;
	for (uint64_t t = 0;
	     t < (tokens - 1) / view->page_tokens * view->page_tokens + view->page_tokens; t++)
		for (uint32_t part = 0; part < 2; part++)
			for (uint32_t head = 0; head < view->heads; head++)
				sum += paged_head(&paged, (enum hbm_kv_part)part, t,
						  head)[view->head_dim - 1];

	(void)sum;
}

static void compare_paged(const struct region *region, uint32_t layer, uint32_t page_tokens,
			  uint32_t i, struct attention attention, const float *query,
			  const float *expected)
{
	struct tables tables;
	struct hbm_kv_view view;
	float out[HEADS * GROUP * DIM];

	assert_int_equal(hbm_layout_view(region->layout, layer, page_tokens, &view, NULL, 0), 0);
	make_tables(region, layer, page_tokens, &tables);

	struct paged paged = {&view, region->base, tables.indices + tables.indptr[i]};
	attention.head = paged_head;
	attention.form = &paged;
	attention.tokens = flashinfer_tokens(&tables, i, page_tokens);
	attend(&attention, query, out);
	assert_memory_equal(out, expected, sizeof(out));
	read_pages(region, &view, paged.pages, attention.tokens);

	paged.pages = tables.block_table + (size_t)i * TOKENS;
	attention.tokens = (uint64_t)tables.seq_lens[i];
	attend(&attention, query, out);
	assert_memory_equal(out, expected, sizeof(out));
	read_pages(region, &view, paged.pages, attention.tokens);
}

static void compare_strided(const struct region *region, uint32_t layer, uint32_t i,
			    struct attention attention, const float *query, const float *expected)
{
	struct hbm_kv_view view;
	const struct strided strided = {&view, region->base, region->sequences[i].slot};
	float out[HEADS * GROUP * DIM];

	assert_int_equal(hbm_layout_view(region->layout, layer, 0, &view, NULL, 0), 0);
	attention.head = strided_head;
	attention.form = &strided;
	attend(&attention, query, out);
	assert_memory_equal(out, expected, sizeof(out));
}

static void compare_sequence(struct seed *seed, const struct region *region, uint32_t layer,
			     uint32_t i)
{
	const struct hbm_layout_options *options = &region->made_up.options;
	const struct hbm_layer *shape = &region->made_up.layers[layer];
	struct attention attention = {.head = plain_head,
				      .form = &region->plain[i][layer],
				      .tokens = region->sequences[i].tokens,
				      .window = shape->window,
				      .heads = shape->heads,
				      .dim = shape->head_dim};
	float query[HEADS * GROUP * DIM], expected[HEADS * GROUP * DIM];

	for (size_t k = 0; k < HEADS * GROUP * DIM; k++)
		query[k] = number(seed);
	attend(&attention, query, expected);
	for (size_t k = 0; k < HEADS * GROUP * DIM; k++)
		assert_false(isnan(expected[k]));

	if (options->order != HBM_ORDER_BLOCK)
		compare_strided(region, layer, i, attention, query, expected);
	for (uint32_t p = 1; p <= options->page_tokens; p++)
		if (p == options->page_tokens ||
		    (options->order != HBM_ORDER_BLOCK && options->page_tokens % p == 0))
			compare_paged(region, layer, p, i, attention, query, expected);
}

static void test_attention_at_random(void **state)
{
	(void)state;
	struct seed seed;
	struct region *region = malloc(sizeof(*region));

	assert_non_null(region);
	seed_open(&seed, "layout_table");
	for (int round = 0; round < ROUNDS; round++) {
		region_open(&seed, region);
		for (uint32_t layer = 0; layer < region->made_up.options.layer_count; layer++)
			for (uint32_t i = 0; i < SLOTS; i++)
				if (!region->made_up.layers[layer].state_bytes)
					compare_sequence(&seed, region, layer, i);
		region_close(region);
	}
	free(region);
}

/* ---- By hand ---- */

static const struct hbm_layout_options example = {
	.layer_count = 1,
	.layer = {.heads = 8, .head_dim = 128, .element_bytes = 2},
	.page_tokens = 16,
	.max_tokens = 1024,
};

/* Keys and values have a slab each: a slot is 4 MiB, 128 pages of 32 KiB. */
static void test_by_hand(void **state)
{
	(void)state;
	static const struct hbm_slot_length sequences[] = {{2, 33}, {0, 0}, {1, 32}};
	struct hbm_layout *layout = layouts_new(&example);
	int32_t indptr[4], indices[8], last[3], blocks[12], lengths[3];
	const struct hbm_flashinfer_table flashinfer = {indptr, indices, 5, last};
	const struct hbm_vllm_table vllm = {blocks, 4, lengths};

	assert_int_equal(hbm_layout_flashinfer(layout, 0, 16, sequences, 3, &flashinfer, NULL, 0),
			 0);
	assert_memory_equal(indptr, ((int32_t[]){0, 3, 3, 5}), sizeof(indptr));
	assert_memory_equal(indices, ((int32_t[]){256, 257, 258, 128, 129}), 5 * sizeof(int32_t));
	assert_memory_equal(last, ((int32_t[]){1, 0, 16}), sizeof(last));

	assert_int_equal(hbm_layout_vllm(layout, 0, 16, sequences, 3, &vllm, NULL, 0), 0);
	assert_memory_equal(blocks, ((int32_t[]){256, 257, 258, 0, 0, 0, 0, 0, 128, 129, 0, 0}),
			    sizeof(blocks));
	assert_memory_equal(lengths, ((int32_t[]){33, 0, 32}), sizeof(lengths));
	hbm_layout_free(layout);
}

/* Tokens 18 to 49 are in the window: page 0 is not, and page 1 stands for it. */
static void test_window_by_hand(void **state)
{
	(void)state;
	static const struct hbm_slot_length sequence = {0, 50};
	struct hbm_layout_options options = example;
	int32_t blocks[4], length;
	const struct hbm_vllm_table vllm = {blocks, 4, &length};

	options.layer.window = 32;
	struct hbm_layout *layout = layouts_new(&options);
	assert_int_equal(hbm_layout_vllm(layout, 0, 16, &sequence, 1, &vllm, NULL, 0), 0);
	assert_memory_equal(blocks, ((int32_t[]){1, 1, 2, 3}), sizeof(blocks));
	hbm_layout_free(layout);
}

/* ---- What is refused ---- */

static void check_refused(const struct hbm_layout *layout, uint32_t page_tokens,
			  const struct hbm_slot_length *sequences, const char *flashinfer_why,
			  const char *vllm_why)
{
	int32_t out[16];
	const struct hbm_flashinfer_table flashinfer = {out, out, 3, out};
	const struct hbm_vllm_table vllm = {out, 2, out};
	char error[256];

	memset(out, 0x55, sizeof(out));
	assert_int_equal(hbm_layout_flashinfer(layout, 0, page_tokens, sequences, 2, &flashinfer,
					       error, sizeof(error)),
			 HBM_INVALID);
	assert_string_equal(error, flashinfer_why);
	assert_int_equal(
		hbm_layout_vllm(layout, 0, page_tokens, sequences, 2, &vllm, error, sizeof(error)),
		HBM_INVALID);
	assert_string_equal(error, vllm_why);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(out[i], 0x55555555);
}

static void test_refused(void **state)
{
	(void)state;
	static const struct hbm_slot_length fine[] = {{0, 16}, {1, 16}},
					    many[] = {{0, 16}, {1, 49}},
					    is_long[] = {{0, 16}, {1, 1025}},
					    far[] = {{0, 16}, {1u << 24, 1}},
					    very_far[] = {{0, 16}, {UINT64_MAX, 1}};
	struct hbm_layout *layout = layouts_new(&example);

	check_refused(layout, 0, fine, "pages of 0 tokens", "pages of 0 tokens");
	check_refused(layout, 1u << 31, fine, "pages of 2147483648 tokens",
		      "pages of 2147483648 tokens");
	check_refused(layout, 17, fine, "pages of 17 tokens: the layout needs page=17, and has 16",
		      "pages of 17 tokens: the layout needs page=17, and has 16");
	check_refused(layout, 16, many,
		      "sequences 0 to 1 have 5 pages, and the table has room for 3",
		      "sequence 1 has 4 pages, and a row has room for 2");
	check_refused(layout, 16, is_long, "sequence 1 has 1025 tokens, where 1024 are possible",
		      "sequence 1 has 1025 tokens, where 1024 are possible");
	check_refused(layout, 16, far, "sequence 1 in slot 16777216 has pages beyond 2147483647",
		      "sequence 1 in slot 16777216 has pages beyond 2147483647");
	check_refused(layout, 16, very_far,
		      "sequence 1 in slot 18446744073709551615 has pages beyond 2147483647",
		      "sequence 1 in slot 18446744073709551615 has pages beyond 2147483647");
	hbm_layout_free(layout);
}

/* Slot 2^24 - 1 has the last page that a number of 32 bits can name. */
static void test_last_page(void **state)
{
	(void)state;
	static const struct hbm_slot_length sequence = {(1u << 24) - 1, 1024};
	struct hbm_layout *layout = layouts_new(&example);
	int32_t blocks[64], length;
	const struct hbm_vllm_table vllm = {blocks, 64, &length};

	assert_int_equal(hbm_layout_vllm(layout, 0, 16, &sequence, 1, &vllm, NULL, 0), 0);
	assert_int_equal(blocks[63], INT32_MAX - 127 + 63);
	hbm_layout_free(layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attention_at_random), cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_window_by_hand),      cmocka_unit_test(test_refused),
		cmocka_unit_test(test_last_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
