/* SPDX-License-Identifier: Apache-2.0 */
/* saving: some tokens of a sequence put in the place of what a name stands for. */
#pragma once

#include "client/sequence/chain.h"

struct saving {
	struct archive *archive; /* in use for the pool's layout, with a landing */
	const struct hbm_save_options *options;
	const char *name;
	const struct hbm_sequence *sequence;
	uint64_t first, tokens; /* of it: [first, tokens) */
	bool whole;             /* all of it or nothing */
	uint64_t committed, version;
	chain_stop *stop;
	void *arg;
};

/* *saved: up to which token, whatever the status; 0: nothing has changed. *chain: what was saved.
 * HBM_EXISTS: of a module, the version is not later than the one that is there. */
int hbm_saving_run(const struct saving *saving, struct chain *chain, uint64_t *saved);
