/* SPDX-License-Identifier: Apache-2.0 */
/* plan_shapes: see plan_shapes.h. Doubles: shapes from a file may multiply to
 * anything. */
#include "client/ctl/plan_shapes.h"

/* Keys and values come from a latent vector, and queries may come from one of their
 * own. */
static double plan_shapes_latent_attention(const struct plan_shapes *s)
{
	double hidden = s->hidden, heads = s->heads;
	double query_dim = heads * ((double)s->nope_dim + s->rope_dim);
	double queries = s->q_rank ? (hidden + query_dim) * s->q_rank : hidden * query_dim;
	double latent = hidden * ((double)s->kv_rank + s->rope_dim);
	double unpacked = heads * s->kv_rank * ((double)s->nope_dim + s->value_dim);

	return queries + latent + unpacked + heads * s->value_dim * hidden;
}

static double plan_shapes_attention(const struct plan_shapes *s)
{
	if (s->kv_rank)
		return plan_shapes_latent_attention(s);
	return 2 * (double)s->hidden * s->head_dim * ((double)s->heads + s->kv_heads);
}

struct plan_parameters plan_shapes_count(const struct plan_shapes *s)
{
	double hidden = s->hidden, per_width = s->matrices * hidden;
	double sparse_layers = (double)s->layers - s->dense_layers;
	double rest = (double)s->vocabulary * hidden * (s->tied ? 1 : 2);

	rest += s->layers * plan_shapes_attention(s) + s->dense_layers * per_width * s->width;
	rest += sparse_layers * (hidden * s->experts + per_width * s->shared_width);

	double expert = sparse_layers * per_width * s->expert_width;
	struct plan_parameters count = {.experts = expert * s->experts};
	count.all = rest + count.experts;
	count.active = rest + expert * s->experts_used;

	return count;
}
