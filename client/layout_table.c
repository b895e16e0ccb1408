/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_table: block tables for paged kernels. Page i of slot s is page s * n + i of the
 * region, n being the pages of a slot. Everything is checked before the first entry is
 * written.
 */
#include "client/layout.h"

#include "daemon/base/checked.h"

/* One layer in pages. */
struct pages {
	uint32_t page_tokens, window;
	uint64_t max_tokens;
	uint64_t slot_pages; /* from one slot to the next; 0: no whole number */
};

static int layout_table_pages(const struct hbm_layout *layout, uint32_t layer, uint32_t page_tokens,
			      struct pages *pages, char *error, size_t error_size)
{
	struct hbm_kv_view view;

	if (page_tokens == 0 || page_tokens > INT32_MAX)
		return hbm_layout_fail(error, error_size, "pages of %u tokens", page_tokens);

	int r = hbm_layout_view(layout, layer, page_tokens, &view, error, error_size);
	if (r)
		return r;

	*pages = (struct pages){.page_tokens = page_tokens,
				.window = layout->groups[layout->layers[layer].group].window,
				.max_tokens = layout->options.max_tokens,
				.slot_pages = view.batch_stride % view.page_stride
						      ? 0
						      : view.batch_stride / view.page_stride};

	return 0;
}

static uint64_t layout_table_count(const struct pages *pages, uint64_t tokens)
{
	return tokens / pages->page_tokens + (tokens % pages->page_tokens != 0);
}

/* The sequence's pages; 0, or HBM_INVALID. */
static int layout_table_check(const struct pages *pages, const struct hbm_slot_length *sequence,
			      size_t nth, uint64_t *count, char *error, size_t error_size)
{
	uint64_t first, end;

	if (sequence->tokens > pages->max_tokens)
		return hbm_layout_fail(error, error_size,
				       "sequence %zu has %llu tokens, where %llu are possible", nth,
				       (unsigned long long)sequence->tokens,
				       (unsigned long long)pages->max_tokens);

	if (pages->slot_pages == 0 && sequence->slot > 0)
		return hbm_layout_fail(error, error_size,
				       "sequence %zu in slot %llu: what was kept of a layout has "
				       "slot 0 only",
				       nth, (unsigned long long)sequence->slot);

	*count = layout_table_count(pages, sequence->tokens);
	if (!checked_mul(sequence->slot, pages->slot_pages, &first) ||
	    !checked_add(first, *count, &end) || end > (uint64_t)INT32_MAX + 1)
		return hbm_layout_fail(error, error_size,
				       "sequence %zu in slot %llu has pages beyond %d", nth,
				       (unsigned long long)sequence->slot, INT32_MAX);

	return 0;
}

static void layout_table_fill(const struct pages *pages, const struct hbm_slot_length *sequence,
			      int32_t *entries)
{
	const uint64_t count = layout_table_count(pages, sequence->tokens),
		       hidden = pages->window && sequence->tokens > pages->window
					? (sequence->tokens - pages->window) / pages->page_tokens
					: 0;

	for (uint64_t i = 0; i < count; i++)
		entries[i] =
			(int32_t)(sequence->slot * pages->slot_pages + (i < hidden ? hidden : i));
}

int hbm_layout_flashinfer(const struct hbm_layout *layout, uint32_t layer, uint32_t page_tokens,
			  const struct hbm_slot_length *sequences, size_t count,
			  const struct hbm_flashinfer_table *table, char *error, size_t error_size)
{
	struct pages pages;
	uint64_t needed = 0, used = 0, more;

	int r = layout_table_pages(layout, layer, page_tokens, &pages, error, error_size);
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = layout_table_check(&pages, &sequences[i], i, &more, error, error_size);
		needed += r ? 0 : more;
		if (r == 0 && (needed > table->indices_max || needed > INT32_MAX))
			r = hbm_layout_fail(error, error_size,
					    "sequences 0 to %zu have %llu pages, and the table has "
					    "room for %zu",
					    i, (unsigned long long)needed, table->indices_max);
	}
	if (r)
		return r;

	for (size_t i = 0; i < count; i++) {
		const uint64_t tokens = sequences[i].tokens;

		layout_table_fill(&pages, &sequences[i], table->indices + used);
		table->indptr[i] = (int32_t)used;
		table->last_page_len[i] =
			tokens ? (int32_t)((tokens - 1) % pages.page_tokens + 1) : 0;
		used += layout_table_count(&pages, tokens);
	}
	table->indptr[count] = (int32_t)used;

	return 0;
}

static int layout_table_check_row(const struct pages *pages, const struct hbm_slot_length *sequence,
				  size_t nth, size_t max_blocks, char *error, size_t error_size)
{
	uint64_t needed;
	int r = layout_table_check(pages, sequence, nth, &needed, error, error_size);
	if (r)
		return r;

	if (sequence->tokens > INT32_MAX)
		return hbm_layout_fail(error, error_size,
				       "sequence %zu has %llu tokens, more than 32 bits", nth,
				       (unsigned long long)sequence->tokens);
	if (needed > max_blocks)
		return hbm_layout_fail(error, error_size,
				       "sequence %zu has %llu pages, and a row has room for %zu",
				       nth, (unsigned long long)needed, max_blocks);

	return 0;
}

int hbm_layout_vllm(const struct hbm_layout *layout, uint32_t layer, uint32_t page_tokens,
		    const struct hbm_slot_length *sequences, size_t count,
		    const struct hbm_vllm_table *table, char *error, size_t error_size)
{
	struct pages pages;

	int r = layout_table_pages(layout, layer, page_tokens, &pages, error, error_size);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = layout_table_check_row(&pages, &sequences[i], i, table->max_blocks, error,
					   error_size);
	if (r)
		return r;

	for (size_t i = 0; i < count; i++) {
		int32_t *row = table->block_table + i * table->max_blocks;

		layout_table_fill(&pages, &sequences[i], row);
		for (uint64_t k = layout_table_count(&pages, sequences[i].tokens);
		     k < table->max_blocks; k++)
			row[k] = 0;
		table->seq_lens[i] = (int32_t)sequences[i].tokens;
	}

	return 0;
}
