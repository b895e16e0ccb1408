/* SPDX-License-Identifier: Apache-2.0 */
/* fit: see fit.h. */
#include "client/sequence/fit.h"

#include "client/sequence/pool.h"

static bool fit_layer(const struct hbm_layer *saved, const struct hbm_layer *layer,
		      const struct hbm_slice *slice)
{
	const uint64_t heads =
		slice->heads ? slice->heads : saved->heads - (uint64_t)slice->first_head;

	if (saved->state_bytes || layer->state_bytes)
		return saved->state_bytes == layer->state_bytes;

	return saved->head_dim == layer->head_dim && saved->element_bytes == layer->element_bytes &&
	       saved->window == layer->window && saved->keys_only == layer->keys_only &&
	       slice->first_head < saved->heads && heads == layer->heads &&
	       slice->first_head + heads <= saved->heads;
}

static bool fit_all(const struct hbm_layout *saved, const struct hbm_layout *layout,
		    const struct hbm_slice *slice)
{
	const uint32_t layers = layout->options.layer_count;

	if (slice->layers != layers ||
	    (uint64_t)slice->first_layer + layers > saved->options.layer_count)
		return false;

	for (uint32_t i = 0; i < layers; i++)
		if (!fit_layer(&saved->shapes[slice->first_layer + i], &layout->shapes[i], slice))
			return false;

	return true;
}

int hbm_fit_check(struct hbm_pool *pool, const struct hbm_layout *layout,
		  const struct hbm_layout *saved, const struct hbm_slice *slice, struct slice *part)
{
	const struct hbm_slice all = {.layers = saved->options.layer_count};
	char theirs[HBM_WIRE_NAME_BYTES], ours[HBM_WIRE_NAME_BYTES];

	if (!slice)
		slice = &all;
	if (fit_all(saved, layout, slice)) {
		*part = (struct slice){.first_layer = slice->first_layer,
				       .first_head = slice->first_head};
		return 0;
	}

	hbm_layout_fingerprint(saved, theirs);
	hbm_layout_fingerprint(layout, ours);

	return hbm_pool_fail(
		pool, HBM_INVALID, "%u layers from %u, %u heads from %u, of \"%s\" are not \"%s\"",
		slice->layers, slice->first_layer, slice->heads, slice->first_head, theirs, ours);
}
