/* SPDX-License-Identifier: Apache-2.0 */
/* saving: see saving.h. */
#include "client/sequence/saving.h"

#include "client/sequence/manifest.h"
#include "client/sequence/pool.h"
#include "client/sequence/saved.h"
#include "client/sequence/sequence.h"

#include <errno.h>
#include <sys/random.h>

/* What the name stands for until then. */
struct before {
	bool exists;
	struct manifest manifest;
	struct hbm_layout *layout;
};

static int saving_look(const struct saving *saving, struct before *before)
{
	struct archive *archive = saving->archive;
	int r = hbm_manifest_find(archive, saving->name, &before->manifest);

	if (r == 0)
		r = hbm_manifest_layout(archive, &before->manifest, &before->layout);
	before->exists = r == 0;
	if (r == 0 && saving->version && saving->version <= before->manifest.version)
		return hbm_pool_fail(archive->pool, HBM_EXISTS,
				     "version %llu of \"%s\": there is version %llu",
				     (unsigned long long)saving->version, saving->name,
				     (unsigned long long)before->manifest.version);

	return r == HBM_NOT_FOUND ? 0 : r;
}

static int saving_name_chain(struct chain *chain)
{
	return getrandom(&chain->save, sizeof(chain->save), 0) == sizeof(chain->save)
		       ? 0
		       : hbm_pool_fail(chain->archive->pool, -errno, "no random number");
}

/* Its pieces are there: makes the name stand for the first `count` of them. */
static int saving_finish(const struct saving *saving, const struct before *before,
			 const struct chain *chain, uint64_t count, uint64_t *saved)
{
	struct manifest manifest = {
		.save = chain->save,
		.first = saving->first,
		.tokens = hbm_chain_tokens(chain, count),
		.least = chain->least,
		.slid = chain->slid,
		.committed = saving->committed,
		.version = saving->version,
	};
	int r = hbm_chain_keep(chain, count, saving->options);

	if (r == 0)
		r = hbm_manifest_store(saving->archive, saving->name, &manifest,
				       before->exists ? &before->manifest : NULL, saving->options);
	if (r)
		return r;

	*saved = manifest.tokens;
	if (before->exists) {
		hbm_manifest_remove(saving->archive, saving->name, &before->manifest);
		hbm_saved_remove_pieces(saving->archive, saving->name, &before->manifest,
					before->layout);
	}

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

int hbm_saving_run(const struct saving *saving, uint64_t *saved)
{
	struct before before = {0};
	struct chain chain = {
		.archive = saving->archive,
		.name = saving->name,
		.first = saving->first,
		.tokens = saving->tokens,
		.slid = saving->sequence->slid,
	};
	uint64_t count = 0;

	*saved = 0;
	const bool whole = saving->whole || saving->archive->chunk.state_bytes;

	chain.least = whole ? chain.tokens : chain.slid;
	int r = saving_look(saving, &before);
	if (r == 0)
		r = saving_name_chain(&chain);
	if (r) {
		hbm_layout_free(before.layout);
		return r;
	}

	/* What came before a failure is worth having. */
	r = hbm_chain_store(&chain, saving->sequence, saving->options, saving->stop, saving->arg,
			    &count);
	if (r >= 0 && (hbm_chain_tokens(&chain, count) > 0 || hbm_chain_count(&chain) == 0)) {
		const int finished = saving_finish(saving, &before, &chain, count, saved);

		r = r ? r : finished;
	}
	if (*saved == 0 && r >= 0)
		saving_undo(&chain, count);
	hbm_layout_free(before.layout);

	return r;
}
