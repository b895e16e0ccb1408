/* SPDX-License-Identifier: Apache-2.0 */
/*
 * act: what an actor does when it is given an order: one function for each verb of
 * actor.h. It has a rig once it was told to open the driver, a few slabs, and at most one
 * fd that it holds for others.
 */
#include "tests/gpu/act.h"

#include "tests/support/busy.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SLOTS 4
#define SPAN_MAX 64
#define AFTER_FENCE 0x77
#define BUSY_WORD 0x9999999999999999u
#define BUSY_MS 60000
#define DEVICE_FILES 64 /* /dev/nvidia0 to 63 */

static struct rig rig;
static struct slab_map slabs[SLOTS];
static int held = -1;

bool act_check(struct scene *scene, const char *call, CUresult result)
{
	if (result == CUDA_SUCCESS)
		return true;
	scene->answer.status = (int32_t)result;
	snprintf(scene->answer.text, sizeof(scene->answer.text), "%s: %s", call,
		 driver_error_name(rig.driver, result));
	return false;
}

static void act_load(struct scene *scene)
{
	if (!rig_load(&rig, scene->answer.text, sizeof(scene->answer.text)))
		scene->answer.status = -ENODEV;
	else
		scene->answer.value = rig.driver->kind;
}

/* What the kernel takes from a process that changes its user is taken back: the driver
 * writes the names of its threads into /proc/self, which is root's while the process may
 * not be dumped, and does not start if it cannot. */
static bool become_user(struct scene *scene)
{
	uid_t user = (uid_t)scene->order.value;

	if (user == 0 || (setgroups(0, NULL) == 0 && setresgid(user, user, user) == 0 &&
			  setresuid(user, user, user) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0 &&
			  prctl(PR_SET_PDEATHSIG, SIGKILL) == 0))
		return true;

	scene->answer.status = -errno;
	snprintf(scene->answer.text, sizeof(scene->answer.text), "cannot become user %u: %s", user,
		 strerror(errno));

	return false;
}

/* The soft driver is a file of this pack, which another user may not be able to read; it
 * opens nothing when it is loaded, so loading it first proves as much. */
static void act_open(struct scene *scene)
{
	const char *driver = getenv("HBM_TEST_DRIVER");
	bool soft = !driver || strcmp(driver, "cuda") != 0;

	if (!soft && !become_user(scene))
		return;

	act_load(scene);
	if (scene->answer.status != 0 || (soft && !become_user(scene)))
		return;

	act_check(scene, "context", rig_enter(&rig));
}

static void act_make(struct scene *scene)
{
	struct slab_map *slab = scene->slab;

	if (rig.context) {
		act_check(scene, "make", rig_slab(&rig, scene->order.bytes, slab));
		return;
	}

	slab->bytes = scene->order.bytes;
	act_check(scene, "cuMemCreate", rig_create(&rig, slab->bytes, &slab->handle));
}

static void act_export(struct scene *scene)
{
	int fd = -1;

	if (!ACT(scene, cuMemExportToShareableHandle, &fd, scene->slab->handle,
		 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0))
		return;

	scene->answer_fd = fd;
	scene->closes = true;
}

static void act_import(struct scene *scene)
{
	struct slab_map slab = {.bytes = scene->order.bytes};

	if (!ACT(scene, cuMemImportFromShareableHandle, &slab.handle, (void *)(uintptr_t)scene->fd,
		 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
		return;

	if (!act_check(scene, "map",
		       rig_map(&rig, slab.handle, slab.bytes, (CUmemAccess_flags)scene->order.value,
			       &slab.address)))
		rig.driver->cuMemRelease(slab.handle);
	else
		*scene->slab = slab;

	scene->answer.value = slab.handle;
}

/* The new slot has the address only: the handle stays the other's. */
static void act_map_again(struct scene *scene)
{
	const struct slab_map *first = &slabs[scene->order.value % SLOTS];
	struct slab_map slab = {.bytes = first->bytes};

	if (act_check(scene, "map",
		      rig_map(&rig, first->handle, slab.bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
			      &slab.address)))
		*scene->slab = slab;
}

static void act_map_part(struct scene *scene)
{
	const size_t bytes = scene->order.bytes;
	CUdeviceptr address;

	if (!ACT(scene, cuMemAddressReserve, &address, bytes, 0, 0, 0))
		return;
	if (ACT(scene, cuMemMap, address, bytes, scene->order.value, scene->slab->handle, 0))
		rig.driver->cuMemUnmap(address, bytes);

	rig.driver->cuMemAddressFree(address, bytes);
}

static void act_fill(struct scene *scene)
{
	act_check(scene, "fill",
		  rig_fill(&rig, scene->slab->address, scene->slab->bytes, scene->order.value));
}

static void act_compare(struct scene *scene)
{
	bool same = false;

	act_check(scene, "compare",
		  rig_compare(&rig, scene->slab->address, scene->slab->bytes, scene->order.value,
			      &same));
	scene->answer.value = same;
}

static void act_clear(struct scene *scene)
{
	const size_t bytes = scene->slab->bytes;
	unsigned char *copy = malloc(bytes);

	if (!copy)
		scene->answer.status = -ENOMEM;
	else if (ACT(scene, cuMemcpyDtoH, copy, scene->slab->address, bytes))
		scene->answer.value = copy[0] == 0 && memcmp(copy, copy + 1, bytes - 1) == 0;

	free(copy);
}

static void act_memset(struct scene *scene)
{
	if (ACT(scene, cuMemsetD8Async, scene->slab->address, (unsigned char)scene->order.value,
		scene->slab->bytes, rig.stream))
		ACT(scene, cuStreamSynchronize, rig.stream);
}

/* Maps count slabs side by side, and opens them with one call. How many were mapped. */
static size_t span_map(struct scene *scene, CUdeviceptr range, size_t bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		CUmemGenericAllocationHandle handle;

		if (!act_check(scene, "cuMemCreate", rig_create(&rig, bytes, &handle)))
			return i;

		bool mapped = ACT(scene, cuMemMap, range + i * bytes, bytes, 0, handle, 0);
		rig.driver->cuMemRelease(handle); /* the mapping keeps it */
		if (!mapped)
			return i;
	}
	return count;
}

static void act_span(struct scene *scene)
{
	const size_t bytes = scene->order.bytes;
	const size_t count = scene->order.value < SPAN_MAX ? scene->order.value : SPAN_MAX;
	const CUmemAccessDesc access = {rig_prop(&rig).location,
					CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	bool same = false;
	CUdeviceptr range;

	if (!ACT(scene, cuMemAddressReserve, &range, bytes * count, 0, 0, 0))
		return;

	size_t mapped = span_map(scene, range, bytes, count);
	if (mapped == count && ACT(scene, cuMemSetAccess, range, bytes * count, &access, 1) &&
	    act_check(scene, "fill", rig_fill(&rig, range, bytes * count, count)) &&
	    act_check(scene, "compare", rig_compare(&rig, range, bytes * count, count, &same)))
		ACT(scene, cuMemUnmap, range, bytes * count);
	else
		for (size_t i = 0; i < mapped; i++)
			rig.driver->cuMemUnmap(range + i * bytes, bytes);

	ACT(scene, cuMemAddressFree, range, bytes * count);
	scene->answer.value = same;
}

static void act_drop(struct scene *scene)
{
	rig_drop(&rig, scene->slab);
}

static void act_free_bytes(struct scene *scene)
{
	size_t free_bytes = 0, total;

	ACT(scene, cuMemGetInfo, &free_bytes, &total);
	scene->answer.value = free_bytes;
}

/* What a busy process copies from: half a slab. */
static void *busy_host;

/* Keeps the second half under copies without end; the kernel has the first. */
static void *copy_on(void *argument)
{
	const struct slab_map *slab = argument;
	size_t half = slab->bytes / 2;

	rig.driver->cuCtxSetCurrent(rig.context);

	for (unsigned round = 0;; round++) {
		rig.driver->cuMemcpyHtoDAsync(slab->address + half, busy_host, half, rig.stream);
		if (round % 64 == 63)
			rig.driver->cuStreamSynchronize(rig.stream);
	}

	return NULL;
}

/* Before a kernel is under way, which registering memory might have to wait for. */
static bool make_busy_host(struct scene *scene, size_t bytes)
{
	busy_host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (busy_host != MAP_FAILED)
		return ACT(scene, cuMemHostRegister, busy_host, bytes, CU_MEMHOSTREGISTER_PORTABLE);
	scene->answer.status = -errno;
	return false;
}

static void act_keep_busy(struct scene *scene)
{
	static struct busy busy;
	CUstream stream = NULL;
	pthread_t thread;

	if (!make_busy_host(scene, scene->slab->bytes / 2) ||
	    !ACT(scene, cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING) ||
	    !act_check(scene, "busy_open", busy_open(&busy, rig.driver)) ||
	    !act_check(scene, "busy_launch",
		       busy_launch(&busy, stream, scene->slab->address, scene->slab->bytes / 2,
				   BUSY_WORD, BUSY_MS)))
		return;

	if (pthread_create(&thread, NULL, copy_on, scene->slab) == 0)
		pthread_detach(thread);
	else
		scene->answer.status = -EAGAIN;
}

static void *map_page(struct scene *scene)
{
	void *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED,
			  scene->fd, 0);

	if (page != MAP_FAILED)
		return page;

	scene->answer.status = -errno;
	snprintf(scene->answer.text, sizeof(scene->answer.text), "mmap: %s", strerror(errno));

	return NULL;
}

static void act_wait_fence(struct scene *scene)
{
	void *page = map_page(scene);
	CUdeviceptr word;

	if (page &&
	    ACT(scene, cuMemHostRegister, page, (size_t)sysconf(_SC_PAGESIZE),
		CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP) &&
	    ACT(scene, cuMemHostGetDevicePointer, &word, page, 0) &&
	    ACT(scene, cuStreamWaitValue64, rig.stream, word, scene->order.value,
		CU_STREAM_WAIT_VALUE_GEQ))
		ACT(scene, cuMemsetD8Async, scene->slab->address, AFTER_FENCE, scene->slab->bytes,
		    rig.stream);
}

static void act_fence_passed(struct scene *scene)
{
	CUresult result = rig.driver->cuStreamQuery(rig.stream);

	scene->answer.value = result == CUDA_SUCCESS;
	if (result != CUDA_ERROR_NOT_READY)
		act_check(scene, "cuStreamQuery", result);
}

static void act_hold(struct scene *scene)
{
	held = scene->fd;
	scene->fd = -1;
}

static void act_give(struct scene *scene)
{
	scene->answer_fd = held;
}

static void act_lose(struct scene *scene)
{
	(void)scene;
	if (held >= 0)
		close(held);
	held = -1;
}

/* The driver's first device may have any number. The files stay open as long as the
 * process. */
static void act_open_file(struct scene *scene)
{
	bool any = false;
	int why = ENOENT; /* or what one that is there says */
	char path[32];

	for (int i = 0; i < DEVICE_FILES; i++) {
		snprintf(path, sizeof(path), "/dev/nvidia%d", i);
		if (open(path, O_RDWR | O_CLOEXEC) >= 0)
			any = true;
		else if (errno != ENOENT)
			why = errno;
	}

	if (any)
		return;

	scene->answer.status = -why;
	snprintf(scene->answer.text, sizeof(scene->answer.text),
		 "no /dev/nvidia0 to 63 can be opened: %s", strerror(why));
}

static void act_set_word(struct scene *scene)
{
	uint64_t *page = map_page(scene);

	if (!page)
		return;
	__atomic_store_n(page, scene->order.value, __ATOMIC_SEQ_CST);
	munmap(page, (size_t)sysconf(_SC_PAGESIZE));
}

static void (*const acts[VERBS])(struct scene *scene) = {
	[VERB_OPEN] = act_open,
	[VERB_LOAD] = act_load,
	[VERB_MAKE] = act_make,
	[VERB_EXPORT] = act_export,
	[VERB_IMPORT] = act_import,
	[VERB_MAP_AGAIN] = act_map_again,
	[VERB_MAP_PART] = act_map_part,
	[VERB_FILL] = act_fill,
	[VERB_COMPARE] = act_compare,
	[VERB_CLEAR] = act_clear,
	[VERB_MEMSET] = act_memset,
	[VERB_SPAN] = act_span,
	[VERB_DROP] = act_drop,
	[VERB_FREE_BYTES] = act_free_bytes,
	[VERB_KEEP_BUSY] = act_keep_busy,
	[VERB_WAIT_FENCE] = act_wait_fence,
	[VERB_FENCE_PASSED] = act_fence_passed,
	[VERB_HOLD] = act_hold,
	[VERB_GIVE] = act_give,
	[VERB_LOSE] = act_lose,
	[VERB_OPEN_FILE] = act_open_file,
	[VERB_SET_WORD] = act_set_word,
	[VERB_RUN_KERNEL] = act_run_kernel,
	[VERB_MAKE_RDMA] = act_make_rdma,
	[VERB_FORK] = act_fork,
	[VERB_IPC_MAKE] = act_ipc_make,
	[VERB_IPC_OPEN] = act_ipc_open,
	[VERB_IPC_CLOSE] = act_ipc_close,
	[VERB_COPY_BATCH] = act_copy_batch,
};

int actor_play(int socket)
{
	struct scene scene = {.rig = &rig, .fd = -1};

	while (message_receive(socket, &scene.order, sizeof(scene.order), &scene.fd)) {
		if (scene.order.verb >= VERBS)
			return 2;

		scene.slab = &slabs[scene.order.slot % SLOTS];
		scene.answer_fd = -1;
		scene.answer = (struct answer){.status = 0};
		scene.closes = false;
		acts[scene.order.verb](&scene);
		if (!message_send(socket, &scene.answer, sizeof(scene.answer), scene.answer_fd))
			return 1;
		if (scene.closes)
			close(scene.answer_fd);
		if (scene.fd >= 0)
			close(scene.fd);
	}

	return 0;
}
