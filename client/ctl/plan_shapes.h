/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_shapes: how many parameters a transformer of given shapes has, and how many of
 * them work on one token. Matrices only: attention, feed-forward, experts with their
 * router, embeddings.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct plan_shapes {
	uint32_t layers, hidden, vocabulary, heads;
	bool tied;                    /* one matrix for the first and the last step */
	uint32_t kv_heads, head_dim;  /* without a latent vector */
	uint32_t kv_rank, rope_dim;   /* with one */
	uint32_t q_rank;              /* 0: queries are not compressed */
	uint32_t nope_dim, value_dim; /* of a head, with a latent vector */
	uint32_t matrices;            /* in a feed-forward block: 3 with a gate, 2 without */
	uint32_t width;               /* of a dense feed-forward block */
	uint32_t dense_layers;        /* those without experts; all of them if there are none */
	uint32_t experts, experts_used, expert_width, shared_width;
};

struct plan_parameters {
	double all, active, experts; /* the last: of all, those in experts a token chooses from */
};

struct plan_parameters plan_shapes_count(const struct plan_shapes *shapes);
