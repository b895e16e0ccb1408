/* SPDX-License-Identifier: Apache-2.0 */
/*
 * act_share: orders about memory that processes share in other ways than a slab, a process
 * that was forked, and a kernel that others have to wait for. See act.h.
 */
#include "tests/gpu/act.h"
#include "tests/support/busy.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define FORKED_S 60
#define KERNEL_WORD 0x1111111111111111u

static bool act_has(struct scene *scene, bool there, const char *what)
{
	if (there)
		return true;

	scene->answer.status = CUDA_ERROR_NOT_SUPPORTED;
	snprintf(scene->answer.text, sizeof(scene->answer.text), "the driver has no %s", what);

	return false;
}

void act_run_kernel(struct scene *scene)
{
	static struct busy busy;

	if (act_check(scene, "busy_open", busy_open(&busy, scene->rig->driver)))
		act_check(scene, "cuLaunchKernel",
			  busy_launch_on_all(&busy, scene->rig->stream, scene->slab->address,
					     scene->slab->bytes, KERNEL_WORD, scene->order.value));
}

void act_make_rdma(struct scene *scene)
{
	const struct driver *driver = scene->rig->driver;
	CUmemAllocationProp prop = rig_prop(scene->rig);
	struct slab_map slab = {.bytes = scene->order.bytes};
	int can = 0;

	if (!ACT(scene, cuDeviceGetAttribute, &can,
		 CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, scene->rig->device) ||
	    !act_has(scene, can != 0, "GPUDirect RDMA of such memory (attribute 110 is 0)"))
		return;

	prop.allocFlags.gpuDirectRDMACapable = 1;
	if (!ACT(scene, cuMemCreate, &slab.handle, slab.bytes, &prop, 0))
		return;

	if (act_check(scene, "map",
		      rig_map(scene->rig, slab.handle, slab.bytes,
			      CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &slab.address)))
		*scene->slab = slab;
	else
		driver->cuMemRelease(slab.handle);
}

/* The child touches nothing: it has what was open, and ends by itself if nobody ends it. */
void act_fork(struct scene *scene)
{
	const pid_t child = fork();

	if (child == 0) {
		alarm(FORKED_S);
		for (;;)
			pause();
	}

	if (child < 0)
		scene->answer.status = -errno;
	else
		scene->answer.value = (uint64_t)child;
}

/* ---- Legacy handles: 64 bytes, which travel here in a file ---- */

static int ipc_file(const CUipcMemHandle *handle)
{
	const int file = memfd_create("handle", MFD_CLOEXEC);

	if (file >= 0 && pwrite(file, handle, sizeof(*handle), 0) == (ssize_t)sizeof(*handle))
		return file;

	if (file >= 0)
		close(file);
	return -1;
}

void act_ipc_make(struct scene *scene)
{
	const struct driver *driver = scene->rig->driver;
	CUipcMemHandle handle;

	if (!act_has(scene, driver->cuMemAlloc && driver->cuIpcGetMemHandle, "cuIpcGetMemHandle"))
		return;

	*scene->slab = (struct slab_map){.bytes = scene->order.bytes};
	if (!ACT(scene, cuMemAlloc, &scene->slab->address, scene->order.bytes) ||
	    !ACT(scene, cuIpcGetMemHandle, &handle, scene->slab->address))
		return;

	scene->answer_fd = ipc_file(&handle);
	scene->closes = true;
	if (scene->answer_fd < 0)
		scene->answer.status = -EIO;
}

void act_ipc_open(struct scene *scene)
{
	const struct driver *driver = scene->rig->driver;
	CUipcMemHandle handle;

	if (!act_has(scene, driver->cuIpcOpenMemHandle && driver->cuIpcCloseMemHandle,
		     "cuIpcOpenMemHandle"))
		return;

	*scene->slab = (struct slab_map){.bytes = scene->order.bytes};
	if (pread(scene->fd, &handle, sizeof(handle), 0) != (ssize_t)sizeof(handle))
		scene->answer.status = -EIO;
	else
		ACT(scene, cuIpcOpenMemHandle, &scene->slab->address, handle,
		    CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
}

void act_ipc_close(struct scene *scene)
{
	ACT(scene, cuIpcCloseMemHandle, scene->slab->address);
	*scene->slab = (struct slab_map){0};
}

/* ---- A batch ---- */

/* The slab's quarters in reverse order, by one call. */
void act_copy_batch(struct scene *scene)
{
	enum { PIECES = 4 };
	const struct rig *rig = scene->rig;
	const size_t bytes = scene->slab->bytes / PIECES;
	CUdeviceptr targets[PIECES], sources[PIECES];
	size_t sizes[PIECES];
	struct slab_map copy = {0};
	bool same = true;

	if (!act_has(scene, driver_has_batch(rig->driver), "cuMemcpyBatchAsync") ||
	    !act_check(scene, "a slab", rig_slab(rig, scene->slab->bytes, &copy)))
		return;

	for (size_t i = 0; i < PIECES; i++) {
		sources[i] = scene->slab->address + i * bytes;
		targets[i] = copy.address + (PIECES - 1 - i) * bytes;
		sizes[i] = bytes;
		act_check(scene, "fill", rig_fill(rig, sources[i], bytes, i));
	}

	if (act_check(scene, "cuMemcpyBatchAsync",
		      driver_copy_batch(rig->driver, targets, sources, sizes, PIECES,
					(unsigned)scene->order.value, rig->stream)) &&
	    ACT(scene, cuStreamSynchronize, rig->stream)) {
		for (size_t i = 0; i < PIECES && same; i++)
			act_check(scene, "compare", rig_compare(rig, targets[i], bytes, i, &same));
	}

	rig_drop(rig, &copy);
	scene->answer.value = same;
}
