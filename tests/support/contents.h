/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contents: every byte of sequences, for tests that look at all of them: what a head of a token
 * holds follows from a tag, its layer, part, token and head, whatever the layout, and what a
 * state holds from the tag and its layer.
 */
#pragma once

#include "tests/support/kv.h"

#include <hbm/sequence.h>

struct contents {
	struct kv *kv;
	uint64_t tag;
	/* the layer and the head of what the layout's layer 0 and head 0 are */
	uint32_t first_layer, first_head;
	uint64_t shift; /* token t of the sequence has the contents of token t + shift */
};

/* Writes tokens [first, end) and the states. */
void contents_write(const struct contents *contents, struct hbm_sequence *sequence, uint64_t first,
		    uint64_t end);
/* Whether they are that; of layers with a window, those in it. */
bool contents_are(const struct contents *contents, struct hbm_sequence *sequence, uint64_t first,
		  uint64_t end);
