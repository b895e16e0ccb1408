/* SPDX-License-Identifier: Apache-2.0 */
/* copies: see copies.h. */
#include "client/sequence/copies.h"

#include "client/error.h"
#include "client/sequence/pool.h"

/* The caller's, or one of the pool's from its first copy on. */
static bool copies_have_stream(struct hbm_pool *pool)
{
	struct gpu *gpu = &pool->hbm->gpu;
	CUstream stream;

	if (pool->stream)
		return true;
	if (!GPU_CALL(gpu, cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING))
		return false;
	pool->stream = stream;
	pool->own_stream = true;

	return true;
}

bool hbm_copies_prepare(struct hbm_pool *pool)
{
	struct gpu *gpu = &pool->hbm->gpu;

	if (!hbm_gpu_enter(gpu, pool->region->device))
		return false;

	bool prepared = copies_have_stream(pool);

	hbm_gpu_leave(gpu);

	return prepared;
}

bool hbm_copies_queue(struct hbm_pool *pool, uint64_t target, uint64_t source, uint64_t bytes)
{
	struct gpu *gpu = &pool->hbm->gpu;

	if (!hbm_gpu_enter(gpu, pool->region->device))
		return false;

	bool queued = copies_have_stream(pool) &&
		      GPU_CALL(gpu, cuMemcpyDtoDAsync, target, source, bytes, pool->stream);

	hbm_gpu_leave(gpu);

	return queued;
}

bool hbm_copies_wait(struct hbm_pool *pool)
{
	struct gpu *gpu = &pool->hbm->gpu;

	if (!pool->stream)
		return true;
	pool->copies_unsure = true;
	if (!hbm_gpu_enter(gpu, pool->region->device))
		return false;

	bool done = GPU_CALL(gpu, cuStreamSynchronize, pool->stream);

	hbm_gpu_leave(gpu);
	pool->copies_unsure = !done;

	return done;
}

bool hbm_copies_settle(struct hbm_pool *pool)
{
	return !pool->copies_unsure || hbm_copies_wait(pool);
}

int hbm_copies_fail(struct hbm_pool *pool)
{
	const struct gpu *gpu = &pool->hbm->gpu;

	hbm_fail_device(pool->hbm, gpu->failed_call, (int)gpu->failed_result);

	return hbm_pool_fail(pool, HBM_DEVICE, "%s", hbm_error(pool->hbm));
}

bool hbm_copies_finish(struct hbm_pool *pool)
{
	return !pool->own_stream || hbm_copies_wait(pool);
}

void hbm_copies_close(struct hbm_pool *pool)
{
	struct gpu *gpu = &pool->hbm->gpu;

	if (!pool->own_stream || !hbm_gpu_enter(gpu, pool->region->device))
		return;
	GPU_CALL(gpu, cuStreamDestroy, pool->stream);
	hbm_gpu_leave(gpu);
}
