/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch of copies is one operation of its stream: all of them are checked and held, or
 * none. They are done the last one first, as no order among them is promised. An address is
 * of device memory, of registered host memory, or its alias.
 */
#include "kernels/soft/copy.h"

#include "kernels/soft/host.h"

#include <stdlib.h>

struct copy_batch {
	size_t count;
	struct op copies[];
};

/* ---- The operation ---- */

static void copy_batch_drop_first(struct copy_batch *batch, size_t count)
{
	for (size_t i = 0; i < count; i++)
		batch->copies[i].kind->drop(&batch->copies[i]);
}

static CUresult copy_batch_hold(struct op *op, struct device *device)
{
	struct copy_batch *batch = op->object;

	for (size_t i = 0; i < batch->count; i++) {
		struct op *copy = &batch->copies[i];
		CUresult result = copy->kind->hold(copy, device);

		copy->device = device;
		if (result != CUDA_SUCCESS) {
			copy_batch_drop_first(batch, i);
			return result;
		}
	}

	return CUDA_SUCCESS;
}

static void copy_batch_run(struct op *op, struct stream *stream)
{
	struct copy_batch *batch = op->object;

	for (size_t i = batch->count; i-- > 0;)
		batch->copies[i].kind->run(&batch->copies[i], stream);
}

static void copy_batch_drop(struct op *op)
{
	struct copy_batch *batch = op->object;

	copy_batch_drop_first(batch, batch->count);
	free(batch);
}

/* ---- The call ---- */

/* Addresses below those of devices are the host's. */
static bool copy_batch_is_of_host(CUdeviceptr address)
{
	return address < 2 * SOFT_ALIASES;
}

static uint64_t copy_batch_address(CUdeviceptr address)
{
	return host_is_alias(address) ? host_of_alias(address) : address;
}

/* NULL: from host to host. */
static const struct op_kind *copy_batch_kind(CUdeviceptr target, CUdeviceptr source)
{
	if (!copy_batch_is_of_host(target))
		return copy_batch_is_of_host(source) ? &copy_h2d : &copy_d2d;
	return copy_batch_is_of_host(source) ? NULL : &copy_d2h;
}

/* Each set of attributes is good, and holds from one copy to a later one. */
static bool copy_batch_attributes_fit(const CUmemcpyAttributes *attributes, const size_t *firsts,
				      size_t attribute_count, size_t count)
{
	if (attributes == NULL || firsts == NULL || attribute_count == 0 ||
	    attribute_count > count || firsts[0] != 0)
		return false;

	for (size_t i = 0; i < attribute_count; i++) {
		const CUmemcpyAttributes *one = &attributes[i];

		if (firsts[i] >= count || (i > 0 && firsts[i] <= firsts[i - 1]))
			return false;
		if (one->srcAccessOrder < CU_MEMCPY_SRC_ACCESS_ORDER_STREAM ||
		    one->srcAccessOrder > CU_MEMCPY_SRC_ACCESS_ORDER_ANY ||
		    one->flags > CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE)
			return false;
	}

	return true;
}

static bool copy_batch_fill(struct copy_batch *batch, const CUdeviceptr *targets,
			    const CUdeviceptr *sources, const size_t *sizes, size_t count)
{
	uint64_t ready = copy_ready_now();

	for (batch->count = 0; batch->count < count; batch->count++) {
		size_t i = batch->count;

		batch->copies[i] = (struct op){.kind = copy_batch_kind(targets[i], sources[i]),
					       .ready = ready,
					       .target = copy_batch_address(targets[i]),
					       .source = copy_batch_address(sources[i]),
					       .bytes = sizes[i],
					       .rows = 1};
		if (batch->copies[i].kind == NULL || sizes[i] == 0)
			return false;
	}

	return true;
}

static CUresult copy_batch_submit(const CUdeviceptr *targets, const CUdeviceptr *sources,
				  const size_t *sizes, size_t count,
				  const CUmemcpyAttributes *attributes, const size_t *firsts,
				  size_t attribute_count, CUstream stream)
{
	static const struct op_kind kind = {copy_batch_hold, copy_batch_run, copy_batch_drop};

	if (targets == NULL || sources == NULL || sizes == NULL || stream == NULL ||
	    !copy_batch_attributes_fit(attributes, firsts, attribute_count, count))
		return CUDA_ERROR_INVALID_VALUE;

	struct copy_batch *batch = calloc(1, sizeof(*batch) + count * sizeof(batch->copies[0]));
	if (batch == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	CUresult result = CUDA_ERROR_INVALID_VALUE;
	if (copy_batch_fill(batch, targets, sources, sizes, count))
		result = stream_submit(stream, &(struct op){.kind = &kind, .object = batch});
	if (result != CUDA_SUCCESS)
		free(batch);

	return result;
}

CUresult cuMemcpyBatchAsync(CUdeviceptr *targets, CUdeviceptr *sources, size_t *sizes, size_t count,
			    CUmemcpyAttributes *attributes, size_t *firsts, size_t attribute_count,
			    CUstream stream)
{
	CALL_ENTER(cuMemcpyBatchAsync);
	return copy_batch_submit(targets, sources, sizes, count, attributes, firsts,
				 attribute_count, stream);
}

/* The first version says which copy is to blame, or SIZE_MAX: none of them alone. */
CUresult cuMemcpyBatchAsync_v1(CUdeviceptr *targets, CUdeviceptr *sources, size_t *sizes,
			       size_t count, CUmemcpyAttributes *attributes, size_t *firsts,
			       size_t attribute_count, size_t *failed, CUstream stream)
{
	CALL_ENTER(cuMemcpyBatchAsync_v1);
	CUresult result = copy_batch_submit(targets, sources, sizes, count, attributes, firsts,
					    attribute_count, stream);

	if (result != CUDA_SUCCESS && failed != NULL)
		*failed = SIZE_MAX;

	return result;
}
