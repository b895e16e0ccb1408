/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module: tokens that are saved by name in a schema, and appended to sequences. What of one is
 * whole slabs where it is appended is borrowed (variant.h), if the device has it; the rest, and
 * all where it has not, is copied from the pieces.
 *
 * 	map: find -> borrow -> step to the first block -> map -> step to the end -> load the rest
 * 	          \_______________________________________________/ refused: truncated again
 */
#include "client/sequence/ahead.h"
#include "client/sequence/credit.h"
#include "client/sequence/fit.h"
#include "client/sequence/mark.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/saved.h"
#include "client/sequence/saving.h"
#include "client/sequence/sequence.h"
#include "client/sequence/tree.h"
#include "client/sequence/variant.h"

static int module_check(struct hbm_pool *pool, const struct hbm_module *module)
{
	int r = hbm_saved_check_name(pool, module->schema);

	return r ? r : hbm_saved_check_name(pool, module->name);
}

/* ---- Put ---- */

static int module_check_tokens(const struct hbm_sequence *sequence, uint64_t first, uint64_t end)
{
	struct hbm_pool *pool = sequence->pool;
	struct hbm_layout_facts facts;

	if (first >= end || first < sequence->first || end > sequence->tokens)
		return hbm_pool_fail(
			pool, HBM_INVALID, "tokens %llu to %llu of a sequence with %llu to %llu",
			(unsigned long long)first, (unsigned long long)end,
			(unsigned long long)sequence->first, (unsigned long long)sequence->tokens);
	if (sequence->slid)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a module of a sequence whose windows have slid");

	hbm_layout_facts(hbm_sequence_layout(sequence), &facts);
	if (facts.state_bytes)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a module of a layout with states, which have no tokens");

	return 0;
}

static bool module_never(void *arg)
{
	(void)arg;

	return false;
}

/* What the sequence has of it is what others will have. */
static int module_lend(struct hbm_sequence *sequence, const struct chain *chain, enum hbm_tier tier)
{
	struct variant variant;
	int r = hbm_variant_open(&variant, sequence, chain, chain->first);

	if (r == 0) {
		hbm_variant_borrow(&variant);
		hbm_variant_lend(&variant, tier);
	}
	hbm_variant_close(&variant);

	return r;
}

static int module_save(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		       const struct hbm_module *module, uint64_t first, uint64_t end,
		       const struct hbm_save_options *options)
{
	struct hbm_pool *pool = sequence->pool;
	struct saving saving = {
		.options = options,
		.name = module->name,
		.sequence = sequence,
		.first = first,
		.tokens = end,
		.whole = true,
		.version = module->version,
		.stop = module_never,
	};
	struct chain chain;
	uint64_t saved;
	int r = hbm_archive_open(pool, space, module->schema, &saving.archive);

	if (r == 0)
		r = hbm_archive_use_of(saving.archive, sequence);
	if (r == 0)
		r = hbm_archive_land(saving.archive);
	if (r == 0)
		r = hbm_saving_run(&saving, &chain, &saved);
	if (r == 0)
		module_lend(sequence, &chain, options->tier);
	hbm_archive_close(saving.archive);

	return r;
}

static int module_put(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		      const struct hbm_module *module, uint64_t first, uint64_t end,
		      const struct hbm_save_options *options)
{
	static const struct hbm_save_options defaults;
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);

	if (r == 0)
		r = module_check(pool, module);
	if (r == 0 && module->version == 0)
		r = hbm_pool_fail(pool, HBM_INVALID, "a module of version 0: they begin with 1");
	if (r == 0)
		r = hbm_manifest_check_room(pool, sequence);
	if (r == 0)
		r = module_check_tokens(sequence, first, end);
	if (r == 0)
		r = hbm_prefix_map(sequence);

	return r ? r
		 : module_save(sequence, space, module, first, end, options ? options : &defaults);
}

int hbm_module_put(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		   const struct hbm_module *module, uint64_t first, uint64_t end,
		   const struct hbm_save_options *options)
{
	if (!sequence)
		return HBM_INVALID;

	hbm_pool_lock(sequence->pool);
	int r = module_put(sequence, space, module, first, end, options);
	hbm_pool_unlock(sequence->pool);

	return r;
}

/* ---- Map ---- */

/* A part of it is of no use. */
static int module_missing(const struct saved *saved, const struct hbm_module *module,
			  bool *replaced)
{
	int r = hbm_saved_missing(saved, module->name, replaced);
	if (r)
		return r;

	hbm_saved_evicted(saved, module->name);

	return hbm_pool_fail(saved->archive->pool, HBM_NOT_FOUND,
			     "the module \"%s\" of \"%s\" was evicted", module->name,
			     module->schema);
}

/* One that is to be appended. */
struct mapping {
	struct hbm_sequence *sequence;
	const struct hbm_module *module;
	struct saved saved;
	struct slice all;
	struct variant variant;
	uint64_t at, end; /* tokens of the sequence */
	bool replaced;    /* something newer has the name now */
};

static int module_check_room(const struct mapping *mapping)
{
	const struct hbm_sequence *sequence = mapping->sequence;
	struct hbm_pool *pool = sequence->pool;

	if (mapping->end > sequence->max)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a module of %llu tokens, for a sequence with %llu, of at "
				     "most %llu",
				     (unsigned long long)(mapping->end - mapping->at),
				     (unsigned long long)mapping->at,
				     (unsigned long long)sequence->max);
	if (hbm_tree_count(sequence->tree) > 0)
		return hbm_pool_fail(pool, HBM_INVALID,
				     "a sequence that has drafts: they are accepted or pruned "
				     "before a module is appended");

	return 0;
}

static int module_find(struct mapping *mapping, const struct hbm_saved_space *space)
{
	struct hbm_sequence *sequence = mapping->sequence;
	struct hbm_pool *pool = sequence->pool;
	const struct hbm_module *module = mapping->module;
	struct saved *saved = &mapping->saved;
	int r = hbm_sequence_check(pool, sequence);

	if (r == 0)
		r = module_check(pool, module);
	if (r == 0)
		r = hbm_saved_open(pool, space, module->schema, module->name, saved);
	if (r == 0)
		r = hbm_fit_check(pool, hbm_sequence_layout(sequence), saved->layout, NULL,
				  &mapping->all);
	if (r)
		return r;

	if (module->version && module->version != saved->manifest.version)
		return hbm_pool_fail(pool, HBM_NOT_FOUND,
				     "version %llu of the module \"%s\": there is version %llu",
				     (unsigned long long)module->version, module->name,
				     (unsigned long long)saved->manifest.version);
	if (saved->present < hbm_chain_count(&saved->chain))
		return module_missing(saved, module, &mapping->replaced);

	mapping->at = sequence->tokens;
	mapping->end = mapping->at + saved->manifest.tokens - saved->manifest.first;

	return module_check_room(mapping);
}

/* Whether some of it is borrowed. */
static bool module_is_borrowed(const struct mapping *mapping)
{
	return hbm_variant_begin(&mapping->variant) < hbm_variant_end(&mapping->variant);
}

static int module_open(struct mapping *mapping, const struct hbm_saved_space *space)
{
	int r = module_find(mapping, space);

	if (r == 0)
		r = hbm_variant_open(&mapping->variant, mapping->sequence, &mapping->saved.chain,
				     mapping->at);
	if (r == 0)
		hbm_variant_borrow(&mapping->variant);

	return r;
}

/* The sequence has all tokens in front of what is borrowed. */
static int module_map_slabs(struct mapping *mapping)
{
	struct hbm_sequence *sequence = mapping->sequence;
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);
	if (r)
		return r;

	r = hbm_variant_map(&mapping->variant);
	if (module_is_borrowed(mapping))
		sequence->tokens = hbm_variant_end(&mapping->variant);
	hbm_sequence_refresh(sequence);
	hbm_mark_set(pool, sequence->index);
	hbm_ahead_wake(pool);

	return r ? r : hbm_credit_settle(pool, &sequence, 1);
}

static int module_step(const struct mapping *mapping, uint64_t length)
{
	struct hbm_sequence *sequence = mapping->sequence;

	return hbm_step(sequence->pool, &sequence, &length, 1);
}

/* Memory for all of its tokens, some of them with their bytes. For windows it is one step, as no
 * work on the device comes between. */
static int module_grow(struct mapping *mapping)
{
	struct hbm_sequence *sequence = mapping->sequence;
	struct hbm_pool *pool = sequence->pool;
	const uint64_t before = sequence->before[0];
	int r;

	if (!module_is_borrowed(mapping))
		return module_step(mapping, mapping->end);

	r = module_step(mapping, hbm_variant_begin(&mapping->variant));
	if (r)
		return r;

	hbm_pool_lock(pool);
	r = module_map_slabs(mapping);
	hbm_pool_unlock(pool);
	if (r == 0)
		r = module_step(mapping, mapping->end);
	if (r == 0 && pool->has_windows) {
		sequence->before[0] = mapping->at;
		sequence->before[1] = before;
	}

	return r;
}

/* What is not borrowed. For the order of eviction all of it is used. */
static int module_load(struct mapping *mapping, uint64_t *done)
{
	const struct saved *saved = &mapping->saved;
	const struct chain *chain = &saved->chain;
	const struct chain_gap gap = {hbm_variant_begin(&mapping->variant) - mapping->at,
				      hbm_variant_end(&mapping->variant) - mapping->at};
	const bool is_borrowed = module_is_borrowed(mapping);
	int r = 0;

	*done = saved->present;
	if (is_borrowed)
		hbm_chain_touch(chain);
	if (is_borrowed && gap.end - gap.begin == mapping->end - mapping->at)
		return 0;

	r = hbm_archive_land(saved->archive);

	return r ? r
		 : hbm_chain_load(chain, mapping->sequence, &mapping->all, mapping->at,
				  is_borrowed ? &gap : NULL, saved->present, done);
}

static int module_fill(struct mapping *mapping)
{
	struct hbm_sequence *sequence = mapping->sequence;
	const struct saved *saved = &mapping->saved;
	uint64_t done, uses = 0;
	int r = hbm_sequence_check(sequence->pool, sequence);

	if (r == 0)
		r = module_load(mapping, &done);
	if (r == 0 && done < saved->present)
		r = module_missing(saved, mapping->module, &mapping->replaced);
	if (r == 0)
		hbm_variant_lend(&mapping->variant, HBM_TIER_NONE);

	return r ? r : hbm_saved_count(saved, mapping->module->name, true, &uses);
}

/* What was appended is dropped again if it cannot be loaded. */
static int module_append(struct mapping *mapping)
{
	struct hbm_pool *pool = mapping->sequence->pool;
	int r = module_grow(mapping);

	hbm_pool_lock(pool);
	if (r == 0)
		r = module_fill(mapping);
	hbm_pool_unlock(pool);
	if (r && mapping->sequence->tokens > mapping->at)
		hbm_sequence_truncate(mapping->sequence, mapping->at);

	return r;
}

static int module_try(struct mapping *mapping, const struct hbm_saved_space *space)
{
	struct hbm_pool *pool = mapping->sequence->pool;

	hbm_pool_lock(pool);
	int r = module_open(mapping, space);
	hbm_pool_unlock(pool);

	if (r == 0)
		r = module_append(mapping);

	hbm_pool_lock(pool);
	hbm_variant_close(&mapping->variant);
	hbm_saved_close(&mapping->saved);
	hbm_pool_unlock(pool);

	return r;
}

int hbm_module_map(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		   const struct hbm_module *module)
{
	int r = HBM_INVALID;

	for (int i = 0; sequence && i < SAVED_TRIES; i++) {
		struct mapping mapping = {.sequence = sequence, .module = module};

		r = module_try(&mapping, space);
		if (!mapping.replaced)
			break;
	}

	return r;
}

/* ---- Find and drop ---- */

int hbm_module_find(struct hbm_pool *pool, const struct hbm_saved_space *space,
		    const struct hbm_module *module, struct hbm_saved *out)
{
	hbm_pool_lock(pool);
	int r = module_check(pool, module);
	if (r == 0)
		r = hbm_saved_find_in(pool, space, module->schema, module->name, out);
	hbm_pool_unlock(pool);

	return r;
}

int hbm_module_drop(struct hbm_pool *pool, const struct hbm_saved_space *space,
		    const struct hbm_module *module)
{
	hbm_pool_lock(pool);
	int r = module_check(pool, module);
	if (r == 0)
		r = hbm_saved_drop_in(pool, space, module->schema, module->name);
	hbm_pool_unlock(pool);

	return r;
}

static int module_drop_schema(struct hbm_pool *pool, const struct hbm_saved_space *space,
			      const char *schema)
{
	struct archive *archive = NULL;
	int r = hbm_saved_check_name(pool, schema);

	if (r == 0)
		r = hbm_archive_open(pool, space, schema, &archive);
	if (r == 0)
		r = hbm_archive_use(archive, pool->layout);
	if (r == 0) {
		r = hbm_namespace_drop(pool->hbm, archive->pieces, 0, NULL);
		if (r == 0)
			r = hbm_namespace_drop(pool->hbm, archive->manifests, 0, NULL);
		if (r)
			hbm_pool_fail_call(pool, r, "a schema was not dropped");
		else
			hbm_variants_drop(archive);
	}
	hbm_archive_close(archive);

	return r;
}

int hbm_schema_drop(struct hbm_pool *pool, const struct hbm_saved_space *space, const char *schema)
{
	hbm_pool_lock(pool);
	int r = module_drop_schema(pool, space, schema);
	hbm_pool_unlock(pool);

	return r;
}
