/* SPDX-License-Identifier: Apache-2.0 */
/*
 * squeeze: what a sequence keeps goes from the places of one layout to those of one with fewer
 * layers or heads in the same slot. Both have the same order, so in order of addresses every
 * piece goes to a lower one, or stays, and none is overwritten before it is read.
 */
#pragma once

#include <hbm/sequence.h>

struct hbm_sequence;

struct squeeze {
	struct hbm_sequence *sequence;
	const struct hbm_layout *from, *to;
	enum hbm_axis axis;
	const uint64_t *set;
	size_t count;
	bool moved; /* some copies have been queued */
};

/* The first token of a buffer that the sequence still has: in front of a window there may be
 * none. */
uint64_t hbm_squeeze_first(const struct hbm_sequence *sequence, const struct hbm_buffer *buffer);
/* Queues all. False: the device refuses a copy. */
bool hbm_squeeze(struct squeeze *squeeze);
