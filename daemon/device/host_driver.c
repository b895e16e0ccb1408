/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/host_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/address_space.h"
#include "daemon/base/bulk_copy.h"
#include "daemon/base/list.h"

#define HUGE_PAGE ADDRESS_SPACE_ALIGNMENT

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* A handle is the address of one. */
struct allocation {
	struct list link; /* in lingering, once it is released */
	uint64_t bytes;
	int fd; /* the only file description of ours */
	bool exported;
};

/* Under the lock: the control thread has the calls, and at the start the loop thread. */
static struct {
	pthread_mutex_t lock;
	uint64_t total, created; /* bytes; created: not released */
	uint64_t lingers;        /* bytes of: */
	struct list lingering;   /* released, and a client has it */
	bool fragmented;         /* the kernel finds no huge pages */
} host = {.lock = PTHREAD_MUTEX_INITIALIZER, .lingering = LIST_INIT(host.lingering)};

static CUresult host_driver_result(int error)
{
	return error == ENOMEM || error == ENOSPC ? CUDA_ERROR_OUT_OF_MEMORY
						  : CUDA_ERROR_OPERATING_SYSTEM;
}

static struct allocation *host_driver_allocation(CUmemGenericAllocationHandle handle)
{
	return (struct allocation *)(uintptr_t)handle;
}

static void *host_driver_pointer(CUdeviceptr address)
{
	return (void *)(uintptr_t)address;
}

/* ---- files ---- */

/* Another file description of the same file. Negative: none. */
static int host_driver_reopen(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	return open(path, O_RDWR | O_CLOEXEC);
}

/* The one of memfd_create() is not counted as open for writing. */
static int host_driver_new_file(void)
{
	int fd = memfd_create("hbm-host", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;

	int own = host_driver_reopen(fd);
	int error = errno;
	close(fd);
	errno = error;

	return own;
}

/* As few large pages as the kernel gives: the first small one of each must be there. */
static void host_driver_collapse(int fd, uint64_t bytes)
{
	char *at = host.fragmented ? MAP_FAILED
				   : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return;

	for (uint64_t offset = 0; offset < bytes; offset += HUGE_PAGE)
		*(volatile char *)(at + offset) = 0;
	if (madvise(at, bytes, MADV_COLLAPSE) < 0)
		host.fragmented = true;
	munmap(at, bytes);
}

/* Only the daemon may open it anew. */
static int host_driver_fill_file(int fd, uint64_t bytes)
{
	if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, S_IRUSR | S_IWUSR) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -1;

	host_driver_collapse(fd, bytes);

	return fallocate(fd, 0, 0, (off_t)bytes);
}

/* Whether a client has it: another file description. If not, none can open it before it is
 * closed here. */
static bool host_driver_is_had(const struct allocation *allocation)
{
	return fcntl(allocation->fd, F_SETLEASE, F_WRLCK) < 0 && errno == EAGAIN;
}

/* ---- memory ---- */

static CUresult host_driver_add(int fd, uint64_t bytes, CUmemGenericAllocationHandle *handle)
{
	struct allocation *allocation = malloc(sizeof(*allocation));
	if (!allocation)
		return CUDA_ERROR_OUT_OF_MEMORY;

	*allocation = (struct allocation){.fd = fd, .bytes = bytes};
	*handle = (uintptr_t)allocation;
	pthread_mutex_lock(&host.lock);
	host.created += bytes;
	pthread_mutex_unlock(&host.lock);

	return CUDA_SUCCESS;
}

static CUresult host_driver_create(CUmemGenericAllocationHandle *handle, size_t bytes,
				   const CUmemAllocationProp *prop, unsigned long long flags)
{
	(void)prop;
	(void)flags;
	int fd = host_driver_new_file();
	if (fd < 0)
		return host_driver_result(errno);

	CUresult r = host_driver_fill_file(fd, bytes) < 0 ? host_driver_result(errno)
							  : host_driver_add(fd, bytes, handle);
	if (r != CUDA_SUCCESS)
		close(fd);

	return r;
}

static void host_driver_free(struct allocation *allocation)
{
	close(allocation->fd);
	free(allocation);
}

/* No client has it. What else refers to the file, by O_PATH or a watch, would keep its pages. */
static void host_driver_free_pages(struct allocation *allocation)
{
	(void)fallocate(allocation->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			(off_t)allocation->bytes);
	host_driver_free(allocation);
}

static CUresult host_driver_release(CUmemGenericAllocationHandle handle)
{
	struct allocation *allocation = host_driver_allocation(handle);

	pthread_mutex_lock(&host.lock);
	host.created -= allocation->bytes;
	if (allocation->exported && host_driver_is_had(allocation)) {
		host.lingers += allocation->bytes;
		list_push_back(&host.lingering, &allocation->link);
	} else {
		host_driver_free_pages(allocation);
	}
	pthread_mutex_unlock(&host.lock);

	return CUDA_SUCCESS;
}

static CUresult host_driver_export(void *out, CUmemGenericAllocationHandle handle,
				   CUmemAllocationHandleType type, unsigned long long flags)
{
	(void)type;
	(void)flags;
	struct allocation *allocation = host_driver_allocation(handle);
	int fd = host_driver_reopen(allocation->fd);
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;

	allocation->exported = true;
	*(int *)out = fd;

	return CUDA_SUCCESS;
}

/* What an earlier daemon has exported; its file description is a client's, too. */
static CUresult host_driver_import(CUmemGenericAllocationHandle *handle, void *shareable,
				   CUmemAllocationHandleType type)
{
	(void)type;
	struct stat stat;
	int fd = host_driver_reopen((int)(intptr_t)shareable);
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;

	CUresult r = fstat(fd, &stat) < 0 ? CUDA_ERROR_OPERATING_SYSTEM
					  : host_driver_add(fd, (uint64_t)stat.st_size, handle);
	if (r == CUDA_SUCCESS)
		host_driver_allocation(*handle)->exported = true;
	else
		close(fd);

	return r;
}

static void host_driver_sweep(void)
{
	list_for_each_safe (node, after, &host.lingering) {
		struct allocation *allocation = container_of(node, struct allocation, link);

		if (host_driver_is_had(allocation))
			continue;

		list_remove(&allocation->link);
		host.lingers -= allocation->bytes;
		host_driver_free_pages(allocation);
	}
}

static CUresult host_driver_get_info(size_t *free_bytes, size_t *total)
{
	pthread_mutex_lock(&host.lock);
	host_driver_sweep();
	uint64_t used = host.created + host.lingers;
	*total = used > host.total ? used : host.total;
	*free_bytes = *total - used;
	pthread_mutex_unlock(&host.lock);

	return CUDA_SUCCESS;
}

/* ---- addresses ---- */

/* Aligned as large pages are. */
static CUresult host_driver_reserve(CUdeviceptr *out, size_t bytes, size_t alignment,
				    CUdeviceptr wanted, unsigned long long flags)
{
	(void)alignment;
	(void)wanted;
	(void)flags;
	void *start = address_space_reserve(bytes);
	if (!start)
		return CUDA_ERROR_OUT_OF_MEMORY;

	*out = (uintptr_t)start;

	return CUDA_SUCCESS;
}

static CUresult host_driver_unreserve(CUdeviceptr address, size_t bytes)
{
	return munmap(host_driver_pointer(address), bytes) < 0 ? host_driver_result(errno)
							       : CUDA_SUCCESS;
}

/* Core dumps leave it out: it is large, and a client's own. */
static CUresult host_driver_map(CUdeviceptr address, size_t bytes, size_t offset,
				CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	(void)flags;
	void *at = host_driver_pointer(address);

	if (mmap(at, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
		 host_driver_allocation(handle)->fd, (off_t)offset) == MAP_FAILED)
		return host_driver_result(errno);
	(void)madvise(at, bytes, MADV_DONTDUMP);

	return CUDA_SUCCESS;
}

static CUresult host_driver_unmap(CUdeviceptr address, size_t bytes)
{
	return address_space_empty(host_driver_pointer(address), bytes) ? CUDA_SUCCESS
									: host_driver_result(errno);
}

static CUresult host_driver_set_access(CUdeviceptr address, size_t bytes,
				       const CUmemAccessDesc *access, size_t count)
{
	(void)access;
	(void)count;

	return mprotect(host_driver_pointer(address), bytes, PROT_READ | PROT_WRITE) < 0
		       ? host_driver_result(errno)
		       : CUDA_SUCCESS;
}

/* ---- copies, and what they have to wait for ---- */

static CUresult host_driver_copy_out(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
	(void)stream;
	bulk_copy(to, host_driver_pointer(from), bytes);

	return CUDA_SUCCESS;
}

static CUresult host_driver_copy_in(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
	(void)stream;
	bulk_copy(host_driver_pointer(to), from, bytes);

	return CUDA_SUCCESS;
}

static CUresult host_driver_enter(CUcontext context)
{
	(void)context;
	return CUDA_SUCCESS;
}

static CUresult host_driver_synchronize(void)
{
	return CUDA_SUCCESS;
}

static CUresult host_driver_stream_create(CUstream *stream, unsigned flags)
{
	(void)stream;
	(void)flags;
	return CUDA_SUCCESS;
}

static CUresult host_driver_stream(CUstream stream)
{
	(void)stream;
	return CUDA_SUCCESS;
}

static CUresult host_driver_event_create(CUevent *event, unsigned flags)
{
	(void)event;
	(void)flags;
	return CUDA_SUCCESS;
}

static CUresult host_driver_record(CUevent event, CUstream stream)
{
	(void)event;
	(void)stream;
	return CUDA_SUCCESS;
}

static CUresult host_driver_event(CUevent event)
{
	(void)event;
	return CUDA_SUCCESS;
}

static const struct driver host_driver = {
	.kind = HBM_DRIVER_SOFT,
	.cuCtxSetCurrent = host_driver_enter,
	.cuCtxSynchronize = host_driver_synchronize,
	.cuMemCreate = host_driver_create,
	.cuMemRelease = host_driver_release,
	.cuMemExportToShareableHandle = host_driver_export,
	.cuMemImportFromShareableHandle = host_driver_import,
	.cuMemGetInfo = host_driver_get_info,
	.cuMemAddressReserve = host_driver_reserve,
	.cuMemAddressFree = host_driver_unreserve,
	.cuMemMap = host_driver_map,
	.cuMemUnmap = host_driver_unmap,
	.cuMemSetAccess = host_driver_set_access,
	.cuMemcpyDtoHAsync = host_driver_copy_out,
	.cuMemcpyHtoDAsync = host_driver_copy_in,
	.cuStreamCreate = host_driver_stream_create,
	.cuStreamDestroy = host_driver_stream,
	.cuStreamSynchronize = host_driver_stream,
	.cuEventCreate = host_driver_event_create,
	.cuEventDestroy = host_driver_event,
	.cuEventRecord = host_driver_record,
	.cuEventQuery = host_driver_event,
};

/* ---- opening ---- */

const struct driver *host_driver_open(uint64_t bytes)
{
	host.total = bytes;
	host.created = host.lingers = 0;
	host.fragmented = false;

	return &host_driver;
}

void host_driver_close(void)
{
	for (struct list *node; (node = list_pop_front(&host.lingering));)
		host_driver_free(container_of(node, struct allocation, link));
}
