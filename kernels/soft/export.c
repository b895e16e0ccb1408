/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting and importing. An exported fd has its own open file description of the file,
 * and so has the fd we keep: only then can share_is_held() tell whether another process
 * has the memory.
 */
#include "kernels/soft/backing.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/share.h"

#include <fcntl.h>
#include <unistd.h>

/* Reopens a memfd, so that the kernel counts it as open for writing. */
int backing_make_countable(struct backing *backing)
{
	int fd;

	if (backing->exported)
		return 0;

	fd = share_reopen(backing->fd);
	if (fd < 0)
		return fd;

	close(backing->fd);
	backing->fd = fd;
	backing->exported = true;

	return 0;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
				      CUmemAllocationHandleType type, unsigned long long flags)
{
	struct backing *backing;
	CUresult result;
	int fd;

	CALL_ENTER(cuMemExportToShareableHandle);
	LOCKED(vmm_lock);
	backing = backing_find(handle);
	if (backing == NULL || shareable == NULL || flags != 0 ||
	    type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !backing->shareable)
		return CUDA_ERROR_INVALID_VALUE;

	result = device_answers(backing->device);
	if (result != CUDA_SUCCESS)
		return result;
	if (backing_make_countable(backing) < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;

	fd = share_reopen(backing->fd);
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;

	*(int *)shareable = fd;

	return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
					CUmemAllocationHandleType type)
{
	struct backing model = {.shareable = true};
	int fd = (int)(intptr_t)shareable;
	struct share share;
	CUresult result;

	CALL_ENTER(cuMemImportFromShareableHandle);

	if (handle == NULL || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    share_examine(fd, &share) < 0)
		return CUDA_ERROR_INVALID_VALUE;

	LOCKED(vmm_lock);
	model.device = device_at((int)share.device);
	model.bytes = share.bytes;
	if (model.device == NULL)
		return CUDA_ERROR_INVALID_DEVICE;

	result = device_answers(model.device);
	if (result != CUDA_SUCCESS)
		return result;

	model.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (model.fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;

	result = backing_new(&model, handle);
	if (result != CUDA_SUCCESS)
		close(model.fd);

	return result;
}
