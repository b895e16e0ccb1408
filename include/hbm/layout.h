/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h: where in a contiguous address range the keys and values of each token of a KV
 * cache are, what they take, and how a kernel reads them. The sequences that have such a
 * range, and their memory, are in sequence.h.
 *
 * A layout is computed from the shape of a model's cache. It cuts the address space of a
 * region into slots of equal size, one for each sequence, and a slot into buffers:
 *
 *	region	| slot 0                      | slot 1                      | ...
 *	slot	| buffer 0 | buffer 1 | ...   |
 *
 * Buffers begin and end at slabs. A buffer has room for max_tokens tokens and is backed by
 * slabs as far as it is used. It has the same number of bytes for each token, so its end
 * follows from the number of tokens:
 *
 * HBM_ORDER_TOKEN	all layers of a token together: a buffer [token][layer][head][dim] of
 *			keys and one of values. A slab holds few tokens of all layers: the
 *			least memory for one growth step. The default.
 * HBM_ORDER_LAYER	each layer apart: for each layer a buffer [token][head][dim] of keys
 *			and one of values. A slab holds many tokens of one layer.
 * HBM_ORDER_BLOCK	for paged kernels: one buffer [page][layer][K, V][token][head][dim],
 *			or with heads_first [page][layer][K, V][head][token][dim].
 *
 * Layers may differ. In token and block order, those with the same window, the same size of
 * an element, and keys alone or both, share buffers; each such group has buffers of its own.
 * Their heads may differ. A layer with a window keeps its last `window` tokens: addresses
 * are those of all tokens, and slabs in front of the window are not needed. A layer with
 * state_bytes keeps a state of constant size (recurrent and state space models) and no
 * tokens. In token and block order all states share a buffer.
 *
 * A slab need not hold a whole number of tokens: the range is contiguous, and tokens may lie
 * across the boundary of two slabs. What is needed is therefore computed in bytes.
 *
 * These functions are arithmetic: they need no connection, no daemon and no device. A
 * layout never changes; any number of threads may use it.
 *
 * Return values are those of hbm.h. Functions with `error` write one sentence without a
 * full stop there if they return HBM_INVALID; error may be NULL if error_size is 0.
 * Outputs are written only if a function returns 0.
 */
#ifndef HBM_LAYOUT_H
#define HBM_LAYOUT_H

#include <hbm/hbm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Layouts ---- */

#define HBM_LAYERS_MAX 4096u
#define HBM_LAYOUT_SLAB (2u << 20)
/* Address space of one slot at most: what a device can address. */
#define HBM_LAYOUT_SLOT_MAX ((uint64_t)1 << 47)
/* In a buffer of states each begins at a multiple of this. */
#define HBM_STATE_ALIGNMENT 256u

struct hbm_layout;

enum hbm_layout_order { HBM_ORDER_TOKEN, HBM_ORDER_LAYER, HBM_ORDER_BLOCK, HBM_LAYOUT_ORDERS };
enum hbm_kv_part { HBM_KEYS, HBM_VALUES };

/* What a layer keeps: keys and values of tokens, or a state, and then all else is 0. */
struct hbm_layer {
	uint32_t heads, head_dim; /* of KV, not of queries */
	uint32_t element_bytes;   /* 1, 2, 4 or 8 */
	uint32_t window;          /* tokens; 0: all */
	/* no values. Latents (MLA) have 1 head of kv_lora_rank + rope_dim elements. */
	bool keys_only;
	uint64_t state_bytes;
};

struct hbm_layout_options {
	uint32_t layer_count;           /* at most HBM_LAYERS_MAX */
	const struct hbm_layer *layers; /* layer_count of them; NULL: all are `layer` */
	struct hbm_layer layer;
	enum hbm_layout_order order;
	bool values_first; /* values before keys, in a slot or in a page */
	bool heads_first;  /* in a page; HBM_ORDER_BLOCK only */
	/* tokens of a page, which are mapped together. HBM_ORDER_BLOCK needs it. In the other
	 * orders, with it paged kernels can read the slots of a region: a slot is a whole number
	 * of pages. 0: it need not be. */
	uint32_t page_tokens;
	uint32_t group_slabs; /* mapped together in a buffer by a growth step; 0: 1 */
	uint64_t slab_bytes;  /* 2 MiB times a power of two, at most 1 GiB; 0: HBM_LAYOUT_SLAB */
	uint64_t max_tokens;  /* of a sequence */
};

/* Computes a layout. The options are copied. HBM_INVALID: a number is missing, beyond its
 * range, or a slot would be larger than HBM_LAYOUT_SLOT_MAX. -ENOMEM. The caller frees
 * *out with hbm_layout_free(). */
HBM_API int hbm_layout_new(struct hbm_layout **out, const struct hbm_layout_options *options,
			   char *error, size_t error_size);
/* Takes NULL, returns NULL. */
HBM_API struct hbm_layout *hbm_layout_free(struct hbm_layout *layout);
/* The options that it was computed from, with defaults filled in and `layers` set. Valid as
 * long as the layout. */
HBM_API const struct hbm_layout_options *hbm_layout_options(const struct hbm_layout *layout);

/*
 * The text form: words of KEY=VALUE, separated by blanks, in any order:
 *
 *	layers=60 heads=8 dim=128 bytes=2 order=token max=200000
 *
 * layers, heads, dim, bytes, window, order (token, layer or block), page, group, slab and
 * max are the options; slab may end in MiB or GiB. keys=only, values=first, and
 * page_form=hnd (nhd: heads not first) are the switches, and state is state_bytes.
 *
 * Where layers differ, each kind begins with `layer=` and its layers, as numbers and ranges
 * from 0 on; heads, dim, bytes, window, keys and state behind it are of these layers:
 *
 *	layers=6 order=token max=131072 layer=0-4 heads=16 dim=128 bytes=2 window=1024
 *	layer=5 heads=16 dim=128 bytes=2
 */

/* hbm_layout_new() from a text. HBM_INVALID also: no such key, a key given twice, no number,
 * a layer with two kinds or none. */
HBM_API int hbm_layout_parse(struct hbm_layout **out, const char *text, char *error,
			     size_t error_size);
/* Writes the canonical text: layouts are equal if their texts are. Returns its length; if
 * that is size or more, the text is cut, as by snprintf(3). */
HBM_API size_t hbm_layout_print(const struct hbm_layout *layout, char *text, size_t size);
/* A name for what the bytes of a block mean, for hbm_namespace_options.layout: equal if
 * shapes, orders and, in block order, pages are; slab, group and max do not count. The
 * canonical text of these if it is short enough, else its beginning and a hash of it. */
HBM_API void hbm_layout_fingerprint(const struct hbm_layout *layout,
				    char text[HBM_WIRE_NAME_BYTES]);

/* ---- Sizes ---- */

struct hbm_layout_facts {
	uint32_t layers, groups, buffers;
	uint64_t token_bytes;      /* one token in all layers, without states */
	uint64_t state_bytes;      /* all states */
	uint64_t slot_bytes;       /* address space from one slot to the next */
	uint64_t page_group_bytes; /* of one growth step of all buffers; 0: states only */
	/* the most that is mapped and not used, of a sequence of any length from 1 on */
	uint64_t waste_bytes;
	double waste_fraction; /* of what a sequence of max_tokens may have mapped */
};

/* A buffer of a slot. */
struct hbm_buffer {
	uint32_t group;         /* layers of a group share their buffers */
	uint32_t window;        /* tokens that it keeps; 0: all */
	uint64_t offset;        /* of its first byte in a slot */
	uint64_t address_space; /* a multiple of step_bytes */
	uint64_t token_bytes;   /* 0: it has states */
	uint64_t state_bytes;   /* from its first byte on; 0: it has tokens */
	uint32_t page_tokens;   /* mapped together; 1: the layout has no pages; 0: states */
	bool straddles;         /* tokens, or pages of block order, lie across slabs */
	uint64_t slab_tokens;   /* bytes of so many whole tokens fit in a slab */
	uint64_t step_bytes;    /* what is mapped together: slab_bytes * group_slabs */
	uint64_t waste_bytes;   /* as of the layout */
};

/* What a sequence of some length takes. */
struct hbm_layout_use {
	uint64_t kv_bytes;     /* of tokens in their windows, and of states */
	uint64_t mapped_bytes; /* of slabs */
	uint64_t slabs;
};

HBM_API void hbm_layout_facts(const struct hbm_layout *layout, struct hbm_layout_facts *facts);
/* HBM_INVALID: there is no such buffer. */
HBM_API int hbm_layout_buffer(const struct hbm_layout *layout, uint32_t index,
			      struct hbm_buffer *buffer);
/* HBM_INVALID: more than max_tokens. */
HBM_API int hbm_layout_use(const struct hbm_layout *layout, uint64_t tokens,
			   struct hbm_layout_use *use);
/* The bytes of a slot that tokens [first, end) of a buffer need, in whole steps: what has to
 * be mapped for them. A buffer of states needs all of its bytes if end > 0. None are needed:
 * *bytes is 0. HBM_INVALID: there is no such buffer, end is more than max_tokens or less than
 * first. */
HBM_API int hbm_layout_range(const struct hbm_layout *layout, uint32_t buffer, uint64_t first,
			     uint64_t end, uint64_t *offset, uint64_t *bytes);
/* The fewest tokens that are whole slabs in every buffer. Blocks of so many tokens, or of a
 * multiple, can be lent without a copy. 0: there are none, as the layout has states, or they
 * are too many for 64 bits. */
HBM_API uint64_t hbm_layout_block_tokens(const struct hbm_layout *layout);
/* The reverse: how many tokens the first `bytes` of a buffer have room for, at most
 * max_tokens; of pages, whole ones. A buffer of states has room for all if it has for its
 * states, else for none. 0: there is no such buffer. */
HBM_API uint64_t hbm_layout_room(const struct hbm_layout *layout, uint32_t buffer, uint64_t bytes);

/* ---- Addresses ---- */

/*
 * How a kernel reads a layer. With base, the address of slot 0, and strides in elements
 * (times element_bytes in bytes), token t of head h in slot s begins at
 *
 *	base + keys + element_bytes * (s * batch_stride + t * token_stride + h * head_stride)
 *
 * as FlashAttention takes it, and in pages of p tokens, page i of a block table at
 *
 *	base + keys + element_bytes * (i * page_stride + (t % p) * token_stride + h * head_stride)
 *
 * Elements of a head are contiguous. Strides of values are those of keys. Every address is a
 * multiple of element_bytes; of 16, if head_dim * element_bytes is in all layers.
 */
struct hbm_kv_view {
	uint64_t keys, values; /* bytes; keys_only: values is keys, as latents are both */
	uint64_t batch_stride; /* of slots */
	uint64_t page_stride;  /* 0: not in pages */
	uint64_t token_stride, head_stride;
	uint32_t page_tokens; /* 0: not in pages */
	uint32_t heads, head_dim, element_bytes;
};

/* page_tokens: 0 for contiguous tokens, else those of a page.
 * HBM_INVALID: there is no such layer, or it has a state; contiguous tokens in block order,
 * where only tokens of one page have a constant stride; pages of another size than that of
 * the options, or in the other orders than a part of it, as a slot need not be a whole
 * number of them, and pages of a region then have no constant stride. */
HBM_API int hbm_layout_view(const struct hbm_layout *layout, uint32_t layer, uint32_t page_tokens,
			    struct hbm_kv_view *view, char *error, size_t error_size);
/* Bytes from a slot's base to an element 0. HBM_INVALID: there is no such layer, part, token
 * or head, or the layer has a state. */
HBM_API int hbm_layout_offset(const struct hbm_layout *layout, uint32_t layer,
			      enum hbm_kv_part part, uint64_t token, uint32_t head,
			      uint64_t *offset);
/* Bytes from a slot's base to the layer's state. HBM_INVALID: there is no such layer, or it
 * has none. */
HBM_API int hbm_layout_state(const struct hbm_layout *layout, uint32_t layer, uint64_t *offset,
			     uint64_t *bytes);

/* ---- Block tables ---- */

/*
 * The tokens of sequences as pages of a region, for paged kernels: numbers of pages as
 * hbm_layout_view() of the same layer and page_tokens has them. All layers of a group, and in
 * layer order all of one shape and window, have the same tables. Of a layer with a window,
 * pages in front of it may have no memory: in their places the table has the first page of
 * the window, which a kernel with that window masks.
 *
 * HBM_INVALID: as hbm_layout_view(); also a sequence longer than max_tokens, a table with too
 * little room, a page beyond 2^31 - 1.
 */
struct hbm_slot_length {
	uint64_t slot, tokens;
};

/* FlashInfer: the pages of sequence i are indices[indptr[i]] to indices[indptr[i + 1] - 1];
 * the last one has last_page_len[i] tokens, 0 if there are no pages. */
struct hbm_flashinfer_table {
	int32_t *indptr; /* count + 1 */
	int32_t *indices;
	size_t indices_max;     /* room for so many */
	int32_t *last_page_len; /* count */
};
HBM_API int hbm_layout_flashinfer(const struct hbm_layout *layout, uint32_t layer,
				  uint32_t page_tokens, const struct hbm_slot_length *sequences,
				  size_t count, const struct hbm_flashinfer_table *table,
				  char *error, size_t error_size);

/* vLLM: the pages of sequence i are the first of block_table[i * max_blocks]; the others of
 * its row are 0. */
struct hbm_vllm_table {
	int32_t *block_table; /* count * max_blocks */
	size_t max_blocks;    /* of a sequence */
	int32_t *seq_lens;    /* count */
};
HBM_API int hbm_layout_vllm(const struct hbm_layout *layout, uint32_t layer, uint32_t page_tokens,
			    const struct hbm_slot_length *sequences, size_t count,
			    const struct hbm_vllm_table *table, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
