/* SPDX-License-Identifier: Apache-2.0 */
/* module: tokens that are saved by name in a schema, and appended to sequences. */
#include "client/sequence/fit.h"
#include "client/sequence/pool.h"
#include "client/sequence/prefix.h"
#include "client/sequence/saved.h"
#include "client/sequence/saving.h"
#include "client/sequence/sequence.h"

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

static int module_save(const struct hbm_sequence *sequence, const struct hbm_saved_space *space,
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
	uint64_t saved;
	int r = hbm_archive_open(pool, space, module->schema, &saving.archive);

	if (r == 0)
		r = hbm_archive_use_of(saving.archive, sequence);
	if (r == 0)
		r = hbm_archive_land(saving.archive);
	if (r == 0)
		r = hbm_saving_run(&saving, &saved);
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

static int module_open(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		       const struct hbm_module *module, struct saved *saved, struct slice *all,
		       bool *replaced)
{
	struct hbm_pool *pool = sequence->pool;
	int r = hbm_sequence_check(pool, sequence);

	if (r == 0)
		r = module_check(pool, module);
	if (r == 0)
		r = hbm_saved_open(pool, space, module->schema, module->name, saved);
	if (r == 0)
		r = hbm_fit_check(pool, hbm_sequence_layout(sequence), saved->layout, NULL, all);
	if (r)
		return r;

	if (module->version && module->version != saved->manifest.version)
		return hbm_pool_fail(pool, HBM_NOT_FOUND,
				     "version %llu of the module \"%s\": there is version %llu",
				     (unsigned long long)module->version, module->name,
				     (unsigned long long)saved->manifest.version);
	if (saved->present < hbm_chain_count(&saved->chain))
		return module_missing(saved, module, replaced);

	return hbm_archive_land(saved->archive);
}

/* There is memory from token `at` on. */
static int module_load(struct hbm_sequence *sequence, const struct hbm_module *module,
		       const struct saved *saved, const struct slice *all, uint64_t at,
		       bool *replaced)
{
	uint64_t done, uses = 0;
	int r = hbm_chain_load(&saved->chain, sequence, all, at, saved->present, &done);

	if (r == 0 && done < saved->present)
		r = module_missing(saved, module, replaced);

	return r ? r : hbm_saved_count(saved, module->name, true, &uses);
}

/* What was appended is dropped again if it cannot be loaded. */
static int module_append(struct hbm_sequence *sequence, const struct hbm_module *module,
			 const struct saved *saved, const struct slice *all, bool *replaced)
{
	struct hbm_pool *pool = sequence->pool;
	const uint64_t at = sequence->tokens;
	const uint64_t length = at + saved->manifest.tokens - saved->manifest.first;
	int r = hbm_step(pool, &sequence, &length, 1);

	if (r)
		return r;

	hbm_pool_lock(pool);
	r = module_load(sequence, module, saved, all, at, replaced);
	hbm_pool_unlock(pool);
	if (r)
		hbm_sequence_truncate(sequence, at);

	return r;
}

static int module_try(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		      const struct hbm_module *module, bool *replaced)
{
	struct hbm_pool *pool = sequence->pool;
	struct saved saved = {0};
	struct slice all;

	hbm_pool_lock(pool);
	int r = module_open(sequence, space, module, &saved, &all, replaced);
	hbm_pool_unlock(pool);

	if (r == 0)
		r = module_append(sequence, module, &saved, &all, replaced);

	hbm_pool_lock(pool);
	hbm_saved_close(&saved);
	hbm_pool_unlock(pool);

	return r;
}

int hbm_module_map(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
		   const struct hbm_module *module)
{
	bool replaced = true;
	int r = HBM_INVALID;

	for (int i = 0; sequence && replaced && i < SAVED_TRIES; i++) {
		replaced = false;
		r = module_try(sequence, space, module, &replaced);
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
