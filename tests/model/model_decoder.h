/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_decoder: a model (model.h) that decodes with its KV in sequences, as a serving engine
 * does: a server is a pool of the model's layout, a decoder a generation in a sequence of it.
 * What they are refused fails the test.
 *
 * The model reads and writes device memory as a CPU: with soft devices only.
 */
#pragma once

#include "tests/model/model_run.h"
#include "tests/support/seed.h"
#include "tests/support/spawn.h"

#include <hbm/sequence.h>

enum {
	MODEL_PAGE = 16,   /* tokens of a page in HBM_ORDER_BLOCK */
	MODEL_PAGES = 256, /* of a sequence, at most */
	MODEL_DRAFTS = 12, /* of a tree, at most */
};

struct model_server {
	struct hbm *hbm;
	struct hbm_pool *pool;
	struct hbm_layout *layout;
	enum model_number number;
	bool is_paged;
	int32_t pages[MODEL_PAGES]; /* page i is the i-th of its slot */
};

struct model_decoder {
	struct model_server *server;
	struct hbm_sequence *sequence;
	struct model_kv kv;
	struct model_run run;
};

/* Connects, and opens a pool of so many sequences of at most max_tokens. */
void model_server_open(struct model_server *server, const struct spawn *spawn,
		       enum hbm_layout_order order, enum model_number number, uint64_t max_tokens,
		       uint32_t max_sequences);
void model_server_close(struct model_server *server);

/* A decoder of an open sequence; its run is the caller's. */
void model_decoder_take(struct model_decoder *decoder, struct model_server *server,
			struct hbm_sequence *sequence);
/* The same of a new one. */
void model_decoder_open(struct model_decoder *decoder, struct model_server *server);
void model_decoder_close(struct model_decoder *decoder);
/* Computes tokens up to `cached`, with memory for all of them. */
void model_decoder_prefill(struct model_decoder *decoder, struct model *model, uint32_t cached);
/* Token by token, each with a step. */
void model_decoder_go(struct model_decoder *decoder, struct model *model, uint32_t more);
/* A step of speculation: a random tree of drafts below the last token, of which those that
 * follow in `line`, a longer run of the same prompt, are right; the longest right path is
 * accepted. How many tokens it has; *moved is set if some of them were compacted. */
uint32_t model_decoder_speculate(struct model_decoder *decoder, struct model *model,
				 const struct model_run *line, struct seed *seed, bool *moved);
