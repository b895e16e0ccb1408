/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_kv: where the keys and values of a model (model.h) are. The model owns none of it:
 * as a FlashAttention or a paged kernel does, it takes a base address of the keys and one of
 * the values of each layer, and strides; these are those of struct hbm_kv_view, in bytes.
 *
 * A token has an index, from 0 on. Key head h of token t is at
 *
 *	keys + t * token_stride + h * head_stride
 *
 * or, with a page table, at
 *
 *	keys + pages[t / page_tokens] * page_stride + t % page_tokens * token_stride
 *	     + h * head_stride
 *
 * and its values at the same offset from `values`. Elements of a head are contiguous.
 * Memory that is not named so is neither read nor written.
 *
 * Numbers are rounded to nearest, ties to even, to what is stored; the model computes with
 * what it then reads back, of its newest token too. Without infinities and NaN.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MODEL_LAYERS = 4,
	MODEL_KV_HEADS = 4,
	MODEL_HEAD_DIM = 32,
	MODEL_KV_WIDTH =
		MODEL_KV_HEADS * MODEL_HEAD_DIM, /* keys, or values, of a token in a layer */
};

enum model_number { MODEL_FP32, MODEL_BF16, MODEL_FP16, MODEL_NUMBERS };

struct model_kv_layer {
	unsigned char *keys, *values;
	uint64_t token_stride, head_stride;
};

struct model_kv {
	enum model_number number;
	struct model_kv_layer layers[MODEL_LAYERS];
	const int32_t *pages; /* NULL: tokens are contiguous */
	uint32_t page_tokens;
	uint64_t page_stride;
	/* Called before a layer's keys and values are touched, where it is not NULL: to wait for
	 * what makes them valid. */
	void (*reach)(void *arg, uint32_t layer);
	void *reach_arg;
};

enum model_part { MODEL_KEYS, MODEL_VALUES };

uint32_t model_number_bytes(enum model_number number);
/* Bytes of a token's keys and values in all layers, without gaps. */
uint64_t model_kv_token_bytes(enum model_number number);
/* Where the CPU has the memory of a soft device's address. It faults where no slab is
 * mapped. */
unsigned char *model_kv_memory(uint64_t device_address);

/* One head of a token. */
unsigned char *model_kv_head(const struct model_kv *kv, uint32_t layer, enum model_part part,
			     uint64_t token, uint32_t head);
/* All heads of a token in a layer, MODEL_KV_WIDTH numbers: to memory, rounded. */
void model_kv_write(const struct model_kv *kv, uint32_t layer, enum model_part part, uint64_t token,
		    const float *numbers);
/* One head of a token, MODEL_HEAD_DIM numbers: from memory. */
void model_kv_read(const struct model_kv *kv, uint32_t layer, enum model_part part, uint64_t token,
		   uint32_t head, float *numbers);

/* One head at a time, byte by byte, in all layers: the same number, other strides. */
void model_kv_copy(const struct model_kv *from, uint64_t token, const struct model_kv *to,
		   uint64_t to_token);
/* Compaction: token first + i becomes what path[i] was; path is ascending and
 * path[i] >= first + i. */
void model_kv_compact(const struct model_kv *kv, uint64_t first, const uint64_t *path,
		      uint32_t count);
/* Whether tokens [first, end) have the same bytes in both. */
bool model_kv_same(const struct model_kv *a, const struct model_kv *b, uint64_t first,
		   uint64_t end);
/* Of the bytes of tokens [first, end), wherever they are. */
uint64_t model_kv_digest(const struct model_kv *kv, uint64_t first, uint64_t end);
