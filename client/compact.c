/* SPDX-License-Identifier: Apache-2.0 */
/* compact: KV with fewer tokens or heads, by a kernel on the caller's stream. */
#include "client/connection.h"
#include "client/device_code.h"
#include "client/encoding.h"
#include "client/error.h"
#include "daemon/base/checked.h"
#include "kernels/device/gather.h"

#define NUMBER_BYTES 2u

struct compact_call {
	const struct hbm_kv_shape *shape;
	const struct hbm_kv_layer *from, *to;
	CUstream stream;
	struct compact_rows_job job; /* without its planes */
};

static uint64_t compact_plane(const struct hbm_kv_layer *layers, bool keys_only, uint64_t i)
{
	if (keys_only)
		return layers[i].keys;

	return i % ENCODING_PARTS == ENCODING_KEYS ? layers[i / ENCODING_PARTS].keys
						   : layers[i / ENCODING_PARTS].values;
}

static bool compact_run(struct gpu *gpu, uint32_t device, const void *arg)
{
	const struct compact_call *call = arg;
	const bool keys_only = call->shape->keys_only;
	const uint64_t planes = (uint64_t)call->shape->layers * (keys_only ? 1 : ENCODING_PARTS);
	struct compact_rows_job job = call->job;

	for (uint64_t i = 0; i < planes; i += job.planes) {
		for (job.planes = 0; job.planes < COMPACT_PLANES && i + job.planes < planes;
		     job.planes++)
			job.plane[job.planes] = (struct compact_plane){
				compact_plane(call->to, keys_only, i + job.planes),
				compact_plane(call->from, keys_only, i + job.planes)};

		if (!hbm_gpu_check(gpu, "cuLaunchKernel",
				   compact_rows_launch(&gpu->kernels[device], gpu->driver,
						       call->stream, &job)))
			return false;
	}

	return true;
}

static int compact_check(struct hbm *hbm, const struct compact_call *call)
{
	const struct compact_rows_job *job = &call->job;
	const uint64_t bytes = hbm_kv_plane_bytes(call->shape);
	uint64_t end;
	int r;

	if (bytes == 0)
		return hbm_fail(hbm, HBM_INVALID, "the shape has no numbers, or too many");
	if (job->kept > job->rows)
		return hbm_fail(hbm, HBM_INVALID, "%llu kept of %llu",
				(unsigned long long)job->kept, (unsigned long long)job->rows);
	if (job->indices % sizeof(uint32_t) != 0 ||
	    !checked_add(job->indices, job->kept * sizeof(uint32_t), &end))
		return hbm_fail(hbm, HBM_INVALID,
				"the indices are not aligned to 4 bytes, or beyond the last "
				"address");

	r = hbm_kv_check_layers(hbm, call->shape, call->from, bytes);

	return r ? r
		 : hbm_kv_check_layers(hbm, call->shape, call->to,
				       job->outer * job->kept * job->row_bytes);
}

static int compact_rows(struct hbm *hbm, uint32_t device, const struct compact_call *call)
{
	int r = hbm_check_owner(hbm);

	if (r == 0)
		r = compact_check(hbm, call);

	return r ? r
		 : hbm_device_code_need(hbm, device, KERNEL_compact_rows, "compaction", compact_run,
					call);
}

int hbm_compact_tokens(struct hbm *hbm, uint32_t device, const struct hbm_kv_shape *shape,
		       const struct hbm_kv_layer *from, const struct hbm_kv_layer *to,
		       uint64_t indices, uint32_t kept, void *stream)
{
	const struct compact_call call = {
		.shape = shape,
		.from = from,
		.to = to,
		.stream = stream,
		.job = {.indices = indices,
			.outer = 1,
			.rows = shape->tokens,
			.kept = kept,
			.row_bytes = (uint64_t)shape->heads * shape->head_dim * NUMBER_BYTES}};

	return compact_rows(hbm, device, &call);
}

int hbm_compact_heads(struct hbm *hbm, uint32_t device, const struct hbm_kv_shape *shape,
		      const struct hbm_kv_layer *from, const struct hbm_kv_layer *to,
		      uint64_t indices, uint32_t kept, void *stream)
{
	const struct compact_call call = {
		.shape = shape,
		.from = from,
		.to = to,
		.stream = stream,
		.job = {.indices = indices,
			.outer = shape->tokens,
			.rows = shape->heads,
			.kept = kept,
			.row_bytes = (uint64_t)shape->head_dim * NUMBER_BYTES}};

	return compact_rows(hbm, device, &call);
}
