/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode: blocks of the client in another encoding, by kernels on the caller's stream. All
 * keys of a block are one launch and all values another, for 480 layers at most; fp8, which
 * treats both alike, takes one for both. Raw and lossless blocks are gathered.
 */
#include "client/connection.h"
#include "client/device_code.h"
#include "client/encoding.h"
#include "client/error.h"
#include "daemon/base/checked.h"
#include "kernels/device/fp8.h"
#include "kernels/device/integer.h"

#define ALIGNMENT 16u
#define PIECES 64u

struct encode_call {
	struct encoding_layout layout;
	const struct hbm_kv_shape *shape;
	const struct hbm_kv_layer *layers;
	uint64_t encoded;
	CUstream stream;
	uint32_t device;
	enum hbm_encoding encoding;
	bool decodes;
};

static uint32_t encode_parts(const struct encode_call *call)
{
	return call->shape->keys_only ? 1 : ENCODING_PARTS;
}

/* Plane i of all: those of layer 0, those of layer 1, ... */
static uint64_t encode_plane(const struct encode_call *call, uint64_t i)
{
	const struct hbm_kv_layer *layer = &call->layers[i / encode_parts(call)];

	return i % encode_parts(call) == ENCODING_KEYS ? layer->keys : layer->values;
}

static uint32_t encode_form(const struct encode_call *call)
{
	return call->shape->number == HBM_NUMBER_FP16 ? NUMBER_FP16 : NUMBER_BF16;
}

/* ---- Zeros ---- */

/* What is between scales and codes and after them: no byte of a block is left to chance. */
static bool encode_zero(struct gpu *gpu, uint32_t device, const void *arg)
{
	const struct encode_call *call = arg;
	const struct encoding_layout *layout = &call->layout;
	const uint64_t between = layout->codes - layout->scales_end;
	const uint64_t after = layout->bytes - layout->codes_end;

	(void)device;

	return call->decodes ||
	       ((between == 0 || GPU_CALL(gpu, cuMemsetD8Async, call->encoded + layout->scales_end,
					  0, between, call->stream)) &&
		(after == 0 || GPU_CALL(gpu, cuMemsetD8Async, call->encoded + layout->codes_end, 0,
					after, call->stream)));
}

/* ---- Integers ---- */

/* Of one part: a plane of each of some layers, from `first` on. */
static CUresult encode_int_some(struct kernels *kernels, const struct driver *driver,
				const struct encode_call *call, uint32_t part, uint32_t first)
{
	const struct encoding_layout *layout = &call->layout;
	const struct hbm_kv_shape *shape = call->shape;
	const uint32_t left = shape->layers - first;
	struct int_encode_job job = {
		.code_stride = hbm_encoding_code_stride(layout),
		.step_stride = hbm_encoding_scale_stride(layout),
		.tokens = shape->tokens,
		.channels = (uint64_t)shape->heads * shape->head_dim,
		.group = layout->group,
		.bits = call->encoding == HBM_ENCODING_INT8 ? 8 : 4,
		.by_channel = part == ENCODING_KEYS,
		.form = encode_form(call),
		.planes = left < ENCODE_PLANES ? left : ENCODE_PLANES,
	};

	job.steps = call->encoded + first * job.step_stride +
		    (part == ENCODING_KEYS ? 0 : layout->scale_bytes[ENCODING_KEYS]);
	job.codes = call->encoded + layout->codes + first * job.code_stride +
		    (part == ENCODING_KEYS ? 0 : layout->code_bytes[ENCODING_KEYS]);
	for (uint32_t i = 0; i < job.planes; i++)
		job.numbers[i] =
			encode_plane(call, (uint64_t)(first + i) * encode_parts(call) + part);

	return (call->decodes ? int_decode_launch : int_encode_launch)(kernels, driver,
								       call->stream, &job);
}

static bool encode_int(struct gpu *gpu, uint32_t device, const void *arg)
{
	const struct encode_call *call = arg;
	CUresult result = CUDA_SUCCESS;

	for (uint32_t part = 0; part < encode_parts(call); part++)
		for (uint64_t i = 0; i < call->shape->layers && result == CUDA_SUCCESS;
		     i += ENCODE_PLANES)
			result = encode_int_some(&gpu->kernels[device], gpu->driver, call, part,
						 (uint32_t)i);

	return hbm_gpu_check(gpu, "cuLaunchKernel", result) && encode_zero(gpu, device, call);
}

/* ---- fp8 ---- */

static CUresult encode_fp8_some(struct kernels *kernels, const struct driver *driver,
				const struct encode_call *call, uint64_t first, uint64_t count)
{
	const struct encoding_layout *layout = &call->layout;
	struct fp8_encode_job job = {
		.codes = call->encoded + layout->codes + first * layout->code_bytes[ENCODING_KEYS],
		.code_stride = layout->code_bytes[ENCODING_KEYS],
		.amax = call->encoded + first * layout->scale_bytes[ENCODING_KEYS],
		.tokens = call->shape->tokens,
		.heads = call->shape->heads,
		.head = call->shape->head_dim,
		.form = encode_form(call),
		.planes = (uint32_t)count,
	};

	for (uint64_t i = 0; i < count; i++)
		job.numbers[i] = encode_plane(call, first + i);

	return (call->decodes ? fp8_decode_launch : fp8_encode_launch)(kernels, driver,
								       call->stream, &job);
}

static bool encode_fp8(struct gpu *gpu, uint32_t device, const void *arg)
{
	const struct encode_call *call = arg;
	const uint64_t planes = (uint64_t)call->shape->layers * encode_parts(call);
	CUresult result = CUDA_SUCCESS;

	for (uint64_t i = 0; i < planes && result == CUDA_SUCCESS; i += ENCODE_PLANES)
		result = encode_fp8_some(&gpu->kernels[device], gpu->driver, call, i,
					 planes - i < ENCODE_PLANES ? planes - i : ENCODE_PLANES);

	return hbm_gpu_check(gpu, "cuLaunchKernel", result) && encode_zero(gpu, device, call);
}

/* ---- Raw ---- */

static int encode_raw(struct hbm *hbm, const struct encode_call *call)
{
	const uint64_t bytes = call->layout.code_bytes[ENCODING_KEYS];
	const uint64_t planes = (uint64_t)call->shape->layers * encode_parts(call);
	struct hbm_piece pieces[PIECES];
	int r = 0;

	for (uint64_t i = 0; i < planes && r == 0; i += PIECES) {
		size_t some = 0;

		for (; some < PIECES && i + some < planes; some++)
			pieces[some] = (struct hbm_piece){encode_plane(call, i + some), bytes};
		r = (call->decodes ? hbm_scatter : hbm_gather)(
			hbm, call->device, pieces, some, call->encoded + i * bytes, call->stream);
	}

	return r ? r : hbm_device_code_run(hbm, call->device, encode_zero, call);
}

/* ---- The calls ---- */

static int encode_run(struct hbm *hbm, const struct encode_call *call)
{
	switch (call->encoding) {
	case HBM_ENCODING_FP8:
		return hbm_device_code_need(hbm, call->device, KERNEL_fp8_encode, "fp8", encode_fp8,
					    call);
	case HBM_ENCODING_INT8:
	case HBM_ENCODING_INT4:
		return hbm_device_code_need(hbm, call->device, KERNEL_int_encode, "int8 and int4",
					    encode_int, call);
	default:
		return encode_raw(hbm, call);
	}
}

static int encode_check(struct hbm *hbm, struct encode_call *call)
{
	uint64_t end;
	int r = hbm_check_owner(hbm);

	if (r)
		return r;
	if (!hbm_encoding_layout(call->encoding, call->shape, &call->layout))
		return hbm_fail(hbm, HBM_INVALID,
				"the shape has no numbers or too many, or there is no such "
				"encoding, number or group");
	if (call->encoded % ALIGNMENT != 0 || !checked_add(call->encoded, call->layout.bytes, &end))
		return hbm_fail(hbm, HBM_INVALID,
				"the encoded block is not aligned to %u bytes, or beyond the last "
				"address",
				ALIGNMENT);

	return hbm_kv_check_layers(hbm, call->shape, call->layers, hbm_kv_plane_bytes(call->shape));
}

static int encode_or_decode(struct hbm *hbm, struct encode_call call)
{
	int r = encode_check(hbm, &call);

	return r ? r : encode_run(hbm, &call);
}

int hbm_encode(struct hbm *hbm, uint32_t device, enum hbm_encoding encoding,
	       const struct hbm_kv_shape *shape, const struct hbm_kv_layer *layers,
	       uint64_t encoded, void *stream)
{
	return encode_or_decode(hbm, (struct encode_call){.shape = shape,
							  .layers = layers,
							  .encoded = encoded,
							  .stream = stream,
							  .device = device,
							  .encoding = encoding});
}

int hbm_decode(struct hbm *hbm, uint32_t device, enum hbm_encoding encoding,
	       const struct hbm_kv_shape *shape, const struct hbm_kv_layer *layers,
	       uint64_t encoded, void *stream)
{
	return encode_or_decode(hbm, (struct encode_call){.shape = shape,
							  .layers = layers,
							  .encoded = encoded,
							  .stream = stream,
							  .device = device,
							  .encoding = encoding,
							  .decodes = true});
}
