/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting and importing. An exported fd is a description of its own of the same file, and so is the one we keep after
 * that: the kernel counts descriptions open for writing, not fds, and the answer to a request for a write lease tells
 * whether ours is the only one. A mapping keeps its description open.
 */
#include "kernels/soft/share.h"

#include "kernels/soft/backing.h"
#include "kernels/soft/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "hbm-soft-device-"
#define FILE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int share_size(int fd, uint64_t bytes)
{
	if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, FILE_SEALS) < 0)
		return -errno;
	return 0;
}

int share_create(unsigned device, uint64_t bytes)
{
	char name[64];
	int fd, result;

	snprintf(name, sizeof(name), FILE_NAME "%u", device);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	result = share_size(fd, bytes);
	if (result < 0) {
		close(fd);
		return result;
	}
	return fd;
}

bool share_is_held(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

/* Another description of the same file; -errno. */
static int share_reopen(int fd)
{
	char path[64];
	int reopened;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reopened = open(path, O_RDWR | O_CLOEXEC);
	return reopened < 0 ? -errno : reopened;
}

/* From a memfd to a description that counts as open for writing. */
static int backing_make_countable(struct backing *backing)
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

/* Which device the memory of an fd is of, in *device and its size; -EINVAL if the fd is not ours. */
static int share_examine(int fd, unsigned *device, uint64_t *bytes)
{
	static const char prefix[] = "/memfd:" FILE_NAME;
	char path[64], target[128];
	struct stat status;
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0 || fstat(fd, &status) < 0)
		return -EINVAL;
	target[length] = '\0';
	if (strncmp(target, prefix, sizeof(prefix) - 1) != 0 || sscanf(target + sizeof(prefix) - 1, "%u", device) != 1)
		return -EINVAL;
	if ((fcntl(fd, F_GET_SEALS) & FILE_SEALS) != FILE_SEALS)
		return -EINVAL;
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	if (status.st_size <= 0 || (uint64_t)status.st_size % SOFT_GRANULARITY != 0)
		return -EINVAL;
	*bytes = (uint64_t)status.st_size;
	return 0;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
				      CUmemAllocationHandleType type, unsigned long long flags)
{
	struct backing *backing;
	int fd;

	CALL_ENTER(cuMemExportToShareableHandle);
	LOCKED(vmm_lock);
	backing = backing_find(handle);
	if (backing == NULL || shareable == NULL || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    !backing->shareable)
		return CUDA_ERROR_INVALID_VALUE;
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
	unsigned device;
	CUresult result;

	CALL_ENTER(cuMemImportFromShareableHandle);
	if (handle == NULL || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
	    share_examine(fd, &device, &model.bytes) < 0)
		return CUDA_ERROR_INVALID_VALUE;
	LOCKED(vmm_lock);
	model.device = device > SOFT_DEVICES_MAX ? NULL : device_at((int)device);
	if (model.device == NULL)
		return CUDA_ERROR_INVALID_DEVICE;
	model.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (model.fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	result = backing_new(&model, handle);
	if (result != CUDA_SUCCESS)
		close(model.fd);
	return result;
}
