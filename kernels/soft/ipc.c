/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles of allocations for other processes. A handle says which file of which process the
 * memory is, and is opened through /proc: by a process that may look at the other one's
 * descriptors. It is worth nothing when its memory was freed or its process has ended;
 * memory that was opened lives on until it is closed.
 *
 * Stricter than the real driver: a handle is opened once in a process, and only in a
 * context of its device.
 */
#include "kernels/soft/allocation.h"
#include "kernels/soft/lock.h"
#include "kernels/soft/mapping.h"
#include "kernels/soft/share.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IPC_MAGIC 0x6370692074666f73ull

/* What a handle holds. */
struct ipc_name {
	uint64_t magic;
	uint64_t file;  /* its inode: descriptors and processes are numbered anew */
	uint64_t asked; /* bytes of the allocation */
	int32_t pid, fd;
};
static_assert(sizeof(struct ipc_name) <= sizeof(CUipcMemHandle), "a handle has the room");

static uint64_t ipc_file(int fd)
{
	struct stat status;

	return fstat(fd, &status) < 0 ? 0 : status.st_ino;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address)
{
	const struct reservation *in;
	struct ipc_name name = {IPC_MAGIC, .pid = getpid()};
	struct backing *backing;
	struct device *device;
	CUresult result;

	CALL_ENTER(cuIpcGetMemHandle);
	LOCKED(vmm_lock);
	result = allocation_device(&device);
	if (result != CUDA_SUCCESS)
		return result;

	in = reservation_find(address, 1);
	if (handle == NULL || in == NULL || in->kind != ALLOCATED)
		return CUDA_ERROR_INVALID_VALUE;

	backing = mapping_backing(in->address);
	if (backing_make_countable(backing) < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;

	name.fd = backing->fd;
	name.file = ipc_file(backing->fd);
	name.asked = in->asked;
	memset(handle, 0, sizeof(*handle));
	memcpy(handle, &name, sizeof(name));

	return CUDA_SUCCESS;
}

static bool ipc_is_open(uint64_t file)
{
	const struct reservation *in;

	for (size_t i = 0; (in = reservation_nth(i)) != NULL; i++)
		if (in->kind == OPENED && in->file == file)
			return true;
	return false;
}

/* A descriptor of the other process's memory; negative: it has no such memory any more, or
 * is not ours to look at. */
static int ipc_open_file(const struct ipc_name *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", name->pid, name->fd);
	fd = share_open(path);
	if (fd < 0)
		return fd;

	if (ipc_file(fd) != name->file) {
		close(fd);
		return -1;
	}

	return fd;
}

/* The memory of a name as a backing with one reference. */
static CUresult ipc_import(const struct ipc_name *name, const struct device *current,
			   struct backing **out)
{
	struct backing model = {.fd = ipc_open_file(name)};
	CUmemGenericAllocationHandle handle;
	struct share share;
	CUresult result = CUDA_ERROR_MAP_FAILED;

	if (model.fd < 0)
		return result;

	if (share_examine(model.fd, &share) == 0 && share.device == current->index) {
		model.device = device_at((int)share.device);
		model.bytes = share.bytes;
		result = backing_new(&model, &handle);
	}

	if (result == CUDA_SUCCESS)
		*out = backing_find(handle);
	else
		close(model.fd);

	return result;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags)
{
	struct ipc_name name;
	struct backing *backing;
	struct reservation *made;
	struct device *device;
	CUresult result;

	CALL_ENTER(cuIpcOpenMemHandle);
	memcpy(&name, &handle, sizeof(name));
	if (address == NULL || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	if (name.magic != IPC_MAGIC)
		return CUDA_ERROR_INVALID_HANDLE;
	if (name.pid == getpid())
		return CUDA_ERROR_INVALID_CONTEXT;

	LOCKED(vmm_lock);
	result = allocation_device(&device);
	if (result != CUDA_SUCCESS)
		return result;
	if (ipc_is_open(name.file))
		return CUDA_ERROR_ALREADY_MAPPED;

	result = ipc_import(&name, device, &backing);
	if (result == CUDA_SUCCESS)
		result = allocation_make(OPENED, backing, &made);
	if (result != CUDA_SUCCESS)
		return result;

	made->asked = name.asked;
	made->file = name.file;
	*address = made->address;

	return CUDA_SUCCESS;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
	CALL_ENTER(cuIpcCloseMemHandle);
	LOCKED(vmm_lock);
	return allocation_unmake(OPENED, address);
}
