/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reshape: copies tokens, or states, between a slot and a piece (chunk.h), of the same layout
 * or of another one with a part of its layers and heads.
 */
#pragma once

#include "client/sequence/chunk.h"

struct copy_list;

/* What of a sequence is copied. Layers, and heads of each, are as many as the target has. */
struct slice {
	uint32_t first_layer, first_head;
	uint64_t token; /* number in the sequence of the first token that is copied */
	/* layers with a window lack what is in front of the windows of so many tokens */
	uint64_t slid;
};

/* Tokens from `first` on, in a slot or in a piece. */
struct place {
	const struct hbm_layout *layout;
	const struct chunk *chunk; /* NULL: a slot */
	uint64_t address;          /* of the slot or piece */
	uint64_t first;
};

/* Adds the copies of so many tokens. The target's layout is the slice of the source's. */
void hbm_reshape_tokens(struct copy_list *list, const struct place *target,
			const struct place *source, const struct slice *slice, uint64_t tokens);
/* Adds the copies of piece `number` of all states of a layout, from a slot with these layers. */
void hbm_reshape_states_out(struct copy_list *list, const struct chunk *chunk, uint64_t number,
			    uint64_t piece, const struct place *source);
/* The other way: to a slot of a layout that has the layers from first_layer on. */
void hbm_reshape_states_in(struct copy_list *list, const struct chunk *chunk, uint64_t number,
			   uint64_t piece, const struct place *target, const struct slice *slice);
