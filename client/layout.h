/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout: what a layout is made of. Every layer is in one group, and a group has one buffer
 * (block order, keys alone, states) or two of the same size. Of a token, a part (the keys or
 * the values) of all layers of a group is a row: layers lie in it one after the other, and
 * `offset` is where a layer begins. In block order rows do not lie together; a layer's page
 * begins at page_tokens * parts * offset. For states, `offset` is counted from the buffer's
 * first byte.
 *
 * Invariants, made sure of by hbm_layout_new(): no size of a slot overflows 64 bits, nor does
 * the product of any token, head or page in it.
 */
#pragma once

#include <hbm/sequence.h>

struct layout_layer {
	uint32_t group;
	uint64_t offset;
};

struct layout_group {
	uint32_t window, element_bytes;
	bool is_state;
	uint32_t parts;        /* 2; 1: keys alone, or states */
	uint64_t row_bytes;    /* or of all states */
	uint64_t state_bytes;  /* without what aligns them */
	uint32_t first_buffer; /* of it, by number */
};

struct hbm_layout {
	struct hbm_layout_options options; /* options.layers is an array of ours */
	uint32_t group_count, buffer_count;
	uint64_t slot_bytes;
	uint32_t others; /* hbm_layout_ref() */
	struct hbm_layer *shapes;
	struct layout_layer *layers;
	struct layout_group *groups;
	struct hbm_buffer *buffers;
};

/* Writes the sentence, unless error_size is 0, and returns HBM_INVALID. */
int hbm_layout_fail(char *error, size_t error_size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The greatest number that divides both. */
uint64_t hbm_layout_gcd(uint64_t a, uint64_t b);
/* Bytes of a token in one part of a layer. */
uint64_t hbm_layout_plane_bytes(const struct hbm_layer *layer);
/* Bytes from the start of a page to that of the next in a layer's buffers. */
uint64_t hbm_layout_page_bytes(const struct hbm_layout *layout, const struct layout_group *group,
			       uint32_t page_tokens);
/* A buffer of tokens, or of states, of a group at the begin of a slot. False: it is beyond what a
 * device can address. */
bool hbm_layout_size_tokens(const struct hbm_layout_options *options,
			    const struct layout_group *group, struct hbm_buffer *buffer);
bool hbm_layout_size_states(const struct hbm_layout_options *options,
			    const struct layout_group *group, struct hbm_buffer *buffer);

/* ---- Layouts with less (layout_keep.c) ---- */

/* The layout with so many of its layers, or all of its layers with so many of their heads: they
 * exist, and are in ascending order. Groups and buffers stay where they are in the slot; those
 * without layers need nothing. NULL: no memory. */
struct hbm_layout *hbm_layout_keep(const struct hbm_layout *layout, enum hbm_axis axis,
				   const uint64_t *set, size_t count);
/* The same layout once more: it is freed as often, by one thread at a time. Takes NULL. */
struct hbm_layout *hbm_layout_ref(struct hbm_layout *layout);
/* Whether all is at the same places in a slot. */
bool hbm_layout_is_same(const struct hbm_layout *a, const struct hbm_layout *b);
