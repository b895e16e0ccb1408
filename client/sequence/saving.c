/* SPDX-License-Identifier: Apache-2.0 */
/* saving: see saving.h. */
#include "client/sequence/saving.h"

#include "client/sequence/manifest.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved.h"
#include "client/sequence/saved_key.h"
#include "client/sequence/sequence.h"

#include <errno.h>
#include <sys/random.h>

/* HBM_EXISTS: there is this version, or a later one. */
static int saving_look(const struct saving *saving)
{
	struct archive *archive = saving->archive;
	struct manifest now;

	if (saving->version == 0)
		return 0;

	int r = hbm_manifest_find(archive, saving->name, &now);
	if (r == 0 && saving->version <= now.version)
		return hbm_pool_fail(archive->pool, HBM_EXISTS,
				     "version %llu of \"%s\": there is version %llu",
				     (unsigned long long)saving->version, saving->name,
				     (unsigned long long)now.version);

	return r == HBM_NOT_FOUND ? 0 : r;
}

/* A kept pin outlives this process. So there is none before the manifest, by which the next
 * call finds what is pinned. */
static int saving_may_keep(const struct saving *saving)
{
	struct hbm_pool *pool = saving->archive->pool;
	const hbm_key none = hbm_saved_key_guard("", 0);

	if (!saving->options->keep)
		return 0;

	int r = hbm_keys(pool->hbm, HBM_WIRE_PIN, saving->archive->manifests, HBM_WIRE_KEEP, &none,
			 1, NULL);

	return r ? hbm_pool_fail_call(pool, r, "pieces were not pinned") : 0;
}

static int saving_name_chain(struct chain *chain)
{
	return getrandom(&chain->save, sizeof(chain->save), 0) == sizeof(chain->save)
		       ? 0
		       : hbm_pool_fail(chain->archive->pool, -errno, "no random number");
}

/* Others save by the same name, or were killed when they did. */
static int saving_store_manifest(const struct saving *saving, struct manifest *manifest)
{
	int r = HBM_EXISTS;

	for (int i = 0; r == HBM_EXISTS && i < SAVED_TRIES; i++) {
		hbm_saved_tidy(saving->archive, saving->name);
		r = hbm_manifest_store(saving->archive, saving->name, manifest, saving->options);
	}

	return r == HBM_EXISTS ? HBM_DENIED : r;
}

/* Its pieces are there: makes the name stand for the first `count` of them. */
static int saving_finish(const struct saving *saving, const struct chain *chain, uint64_t count,
			 uint64_t *saved)
{
	const struct hbm_save_options *options = saving->options;
	struct manifest manifest = {
		.save = chain->save,
		.first = saving->first,
		.tokens = hbm_chain_tokens(chain, count),
		.least = chain->least,
		.slid = chain->slid,
		.committed = saving->committed,
		.version = saving->version,
	};
	int r = saving_may_keep(saving);
	if (r == 0 && (options->pin || options->keep))
		r = hbm_chain_pin(chain, count, false);
	if (r == 0)
		r = saving_store_manifest(saving, &manifest);
	if (r == 0 && options->keep) {
		r = hbm_chain_pin(chain, count, true);
		hbm_chain_unpin(chain, count);
		if (r)
			hbm_manifest_remove(saving->archive, saving->name, &manifest);
	}
	if (r)
		return r;

	*saved = manifest.tokens;
	hbm_saved_tidy(saving->archive, saving->name);

	return 0;
}

/* Nothing stands for its pieces. Their pin, if there is one, is on the last of the first
 * `count`. */
static void saving_undo(struct chain *chain, uint64_t count)
{
	const uint64_t tokens = hbm_chain_tokens(chain, count);

	if (tokens > 0)
		chain->tokens = tokens;
	hbm_chain_remove(chain);
}

static int saving_store(const struct saving *saving, struct chain *chain, uint64_t *saved)
{
	uint64_t count = 0;
	int r = hbm_chain_store(chain, saving->sequence, saving->options, saving->stop, saving->arg,
				&count);

	/* What came before a failure is worth having. */
	if (r >= 0 && (hbm_chain_tokens(chain, count) > 0 || hbm_chain_count(chain) == 0)) {
		const int finished = saving_finish(saving, chain, count, saved);

		r = r ? r : finished;
	}
	if (*saved == 0 && r >= 0)
		saving_undo(chain, count);

	return r;
}

int hbm_saving_run(const struct saving *saving, struct chain *chain, uint64_t *saved)
{
	const bool whole = saving->whole || saving->archive->chunk.state_bytes;

	*chain = (struct chain){
		.archive = saving->archive,
		.name = saving->name,
		.first = saving->first,
		.tokens = saving->tokens,
		.slid = saving->sequence->slid,
		.least = whole ? saving->tokens : saving->sequence->slid,
	};

	*saved = 0;
	int r = saving_look(saving);
	if (r == 0)
		r = saving_name_chain(chain);

	return r ? r : saving_store(saving, chain, saved);
}
