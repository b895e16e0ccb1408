/* SPDX-License-Identifier: Apache-2.0 */
/* fences: see fences.h. The doorbell is watched and the page polled only while a request
 * waits. */
#include "daemon/session/fences.h"
#include "daemon/base/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <hbm/wire.h>

#define PAGE_BYTES (HBM_WIRE_FENCES * sizeof(uint64_t))

static void fences_look(struct fences *fences);

static void fences_tick_fire(struct timer *timer)
{
	fences_look(container_of(timer, struct fences, tick));
}

static void fences_rung_ready(struct watch *watch, uint32_t events)
{
	struct fences *fences = container_of(watch, struct fences, rung);
	uint64_t count;
	struct iovec iov = {&count, sizeof(count)};

	(void)events;

	/* The client can clear O_NONBLOCK, as it shares the file: only RWF_NOWAIT never
	 * blocks. If the kernel does not support it, the tick suffices. */
	if (preadv2(fences->doorbell, &iov, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN)
		loop_unwatch(fences->loop, watch);

	fences_look(fences);
}

static int fences_map_page(struct fences *fences)
{
	void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fences->memfd, 0);
	if (page == MAP_FAILED)
		return -errno;

	fences->page = page;

	return 0;
}

/* Makes a page whose size is sealed: if a client shrank it, an access would kill the
 * daemon. */
static int fences_make_page(struct fences *fences)
{
	fences->memfd = memfd_create("hbm-fences", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fences->memfd < 0)
		return -errno;

	if (ftruncate(fences->memfd, PAGE_BYTES) < 0 ||
	    fcntl(fences->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;

	return fences_map_page(fences);
}

static void fences_init(struct fences *fences, struct loop *loop, uint64_t timeout_ns, int memfd,
			int doorbell)
{
	*fences = (struct fences){
		.loop = loop,
		.memfd = memfd,
		.doorbell = doorbell,
		.timeout_ns = timeout_ns,
		.rung = {.fd = doorbell, .events = POLLIN, .ready = fences_rung_ready},
		.tick.fire = fences_tick_fire,
	};
	list_init(&fences->waiting);
}

int fences_open(struct fences *fences, struct loop *loop, uint64_t timeout_ns)
{
	fences_init(fences, loop, timeout_ns, -1, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	int r = fences->doorbell < 0 ? -errno : fences_make_page(fences);
	if (r < 0)
		fences_close(fences);

	return r;
}

/* Whether an access to the page can fail. */
static bool fences_is_page(int memfd)
{
	struct stat stat;
	int seals = fcntl(memfd, F_GET_SEALS);

	return seals >= 0 && seals & F_SEAL_SHRINK && fstat(memfd, &stat) == 0 &&
	       stat.st_size == PAGE_BYTES;
}

int fences_adopt(struct fences *fences, struct loop *loop, uint64_t timeout_ns, int memfd,
		 int doorbell)
{
	if (!fences_is_page(memfd))
		return -EPROTO;

	fences_init(fences, loop, timeout_ns, memfd, doorbell);
	int r = fences_map_page(fences);
	if (r < 0)
		*fences = (struct fences){0};
	else
		fences_handed_over(fences);

	return r;
}

void fences_handed_over(struct fences *fences)
{
	close(fences->memfd);
	fences->memfd = -1;
}

void fences_close(struct fences *fences)
{
	if (!fences->loop)
		return;

	loop_unwatch(fences->loop, &fences->rung);
	loop_timer_stop(fences->loop, &fences->tick);
	if (fences->page)
		munmap((void *)(uintptr_t)fences->page, PAGE_BYTES);
	if (fences->memfd >= 0)
		close(fences->memfd);
	if (fences->doorbell >= 0)
		close(fences->doorbell);

	*fences = (struct fences){0};
}

static void fences_set(struct fences *fences, uint32_t slot, uint64_t value)
{
	assert(slot < HBM_WIRE_FENCES);
	/* Release: a reader that sees the value also sees all writes before it. */
	__atomic_store_n(&fences->page[slot], value, __ATOMIC_RELEASE);
}

void fences_complete(struct fences *fences, const struct completion_fence *fence, uint64_t failed)
{
	if (fence->failed_slot != 0)
		fences_set(fences, fence->failed_slot, failed);
	if (fence->slot != HBM_WIRE_NO_FENCE)
		fences_set(fences, fence->slot, fence->value);
}

static bool fences_is_over(const struct fences *fences, const struct ready_wait *wait, uint64_t now,
			   int *status)
{
	if (fences->ended)
		*status = HBM_SHUTDOWN;
	else if (__atomic_load_n(&fences->page[wait->slot], __ATOMIC_ACQUIRE) >= wait->value)
		*status = HBM_OK;
	else if (now >= wait->deadline_ns)
		*status = HBM_TIMEOUT;
	else
		return false;
	return true;
}

/* The time of the next poll, for those that wait. */
static uint64_t fences_next_look(const struct fences *fences)
{
	uint64_t now = clock_now(), next = UINT64_MAX;
	list_for_each (node, &fences->waiting) {
		const struct ready_wait *wait = container_of(node, struct ready_wait, link);
		uint64_t pause = (now - wait->since_ns) / FENCES_BACKOFF;
		uint64_t at = now + (pause > FENCES_TICK_NS ? pause : FENCES_TICK_NS);
		at = at < wait->deadline_ns ? at : wait->deadline_ns;
		next = at < next ? at : next;
	}

	return next;
}

static void fences_set_over(struct ready_wait *wait, int status, struct list *over)
{
	wait->status = status;
	list_remove(&wait->link);
	list_push_back(over, &wait->link);
}

/* Schedules the next poll if requests still wait, and fires the waits on `over`. */
static void fences_go_on(struct fences *fences, struct list *over)
{
	if (list_empty(&fences->waiting)) {
		loop_unwatch(fences->loop, &fences->rung);
		loop_timer_stop(fences->loop, &fences->tick);
	} else {
		loop_timer_set(fences->loop, &fences->tick, fences_next_look(fences));
	}

	for (struct list *node; (node = list_pop_front(over));) {
		struct ready_wait *wait = container_of(node, struct ready_wait, link);
		wait->fire(wait, wait->status);
	}
}

static void fences_look(struct fences *fences)
{
	uint64_t now = clock_now();
	struct list over;

	list_init(&over);

	list_for_each_safe (node, after, &fences->waiting) {
		struct ready_wait *wait = container_of(node, struct ready_wait, link);
		int status;
		if (fences_is_over(fences, wait, now, &status))
			fences_set_over(wait, status, &over);
	}

	fences_go_on(fences, &over);
}

const struct ready_wait *fences_find(const struct fences *fences, uint64_t id)
{
	list_for_each (node, &fences->waiting) {
		const struct ready_wait *wait = container_of(node, struct ready_wait, link);
		if (wait->id == id)
			return wait;
	}

	return NULL;
}

bool fences_cancel(struct fences *fences, const uint64_t *id, const struct parts *parts)
{
	struct list over;

	list_init(&over);

	list_for_each_safe (node, after, &fences->waiting) {
		struct ready_wait *wait = container_of(node, struct ready_wait, link);
		if (!id || wait->id == *id || (parts && wait->parts == parts))
			fences_set_over(wait, HBM_CANCELLED, &over);
	}

	bool any = !list_empty(&over);
	if (any)
		fences_go_on(fences, &over);

	return any;
}

void fences_wait(struct fences *fences, struct ready_wait *wait)
{
	assert(wait->slot < HBM_WIRE_FENCES);
	wait->since_ns = clock_now();
	wait->deadline_ns = wait->since_ns + fences->timeout_ns;
	list_push_back(&fences->waiting, &wait->link);

	/* If this fails, only a hint is lost. */
	(void)loop_watch(fences->loop, &fences->rung);
	loop_timer_set(fences->loop, &fences->tick, 0);
}

void fences_end(struct fences *fences)
{
	fences->ended = true;
	if (fences->loop)
		fences_look(fences);
}
