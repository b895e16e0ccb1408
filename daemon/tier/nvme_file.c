/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_file.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/reason.h"
#include "daemon/config/config.h"
#include "daemon/loop/worker.h"
#include "daemon/tier/nvme_claim.h"
#include "daemon/tier/probe.h"
#include "daemon/tier/tier_resize.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define FILL_STEP (64ull << 20) /* bytes that become usable at a time; a tenth logs a line */

struct nvme_file {
	struct tier *tier;
	struct loop *loop;
	struct nvme_claim *claim;
	void (*progress)(void *arg);
	void *arg;
	struct worker *worker;
	struct job fill;
	uint64_t size;   /* bytes that it is to have; the claim's are those of the label */
	uint64_t filled; /* usable bytes */
	uint64_t from, filling, of; /* of the step in flight: its begin and end; the size then */
	bool grows;                 /* the next step begins with allocating */
	struct job shrink;
	bool shrinking;  /* it is posted */
	uint64_t shrunk; /* the size that it is cut to */
	int shrink_error;
	void (*cut)(void *arg); /* NULL: no one waits */
	void *cut_arg;
	struct timer watch;
	uint64_t timeout_ns;
	_Atomic uint64_t alive_ns; /* when the worker's step last got on */
	_Atomic bool late;         /* no one waits for it any more, and it has not ended */
	int fill_error;            /* the worker's while a step is in flight */
	double read_rate;          /* the worker's during the first step */
	struct job label;
	int label_error;       /* the worker's while it writes the label */
	bool labelling, wipes; /* the label is being written; it says so */
	struct list waits;     /* struct nvme_file_wait */
	bool settled;
	atomic_bool stop;
};

/* ---- a disk that does not answer ---- */

/* Of another size: what is done at the start may take as long as it does. */
static void nvme_file_watch(struct nvme_file *nvme)
{
	uint64_t now = clock_now();

	atomic_store(&nvme->alive_ns, now);
	loop_timer_set(nvme->loop, &nvme->watch, now + nvme->timeout_ns);
}

static void nvme_file_alive(struct nvme_file *nvme)
{
	atomic_store(&nvme->alive_ns, clock_now());
}

static void nvme_file_end_shrink(struct nvme_file *nvme, int r);
static void nvme_file_stop_growing(struct nvme_file *nvme, int r);

static void nvme_file_look(struct timer *timer)
{
	struct nvme_file *nvme = container_of(timer, struct nvme_file, watch);
	uint64_t until = atomic_load(&nvme->alive_ns) + nvme->timeout_ns;

	if (clock_now() < until) {
		loop_timer_set(nvme->loop, timer, until);
		return;
	}

	atomic_store(&nvme->late, true);
	if (nvme->shrinking)
		nvme_file_end_shrink(nvme, -ETIMEDOUT);
	else
		nvme_file_stop_growing(nvme, -ETIMEDOUT);
}

bool nvme_file_is_late(const struct nvme_file *nvme)
{
	return atomic_load(&nvme->late);
}

/* ---- filling ---- */

static void nvme_file_fill_step(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, fill);

	if (nvme->grows)
		nvme->fill_error = nvme_claim_lengthen(nvme->claim, nvme->of);
	nvme->grows = false;
	nvme_file_alive(nvme);

	uint64_t at = nvme->claim->is_device ? nvme->filling : nvme->from;
	while (at < nvme->filling && nvme->fill_error == 0) {
		if (atomic_load(&nvme->stop) || atomic_load(&nvme->late))
			return;
		uint64_t left = nvme->filling - at;
		ssize_t n = pwrite(nvme->claim->fd, nvme->claim->zeros,
				   left < NVME_ZEROS ? left : NVME_ZEROS, (off_t)(NVME_HEAD + at));
		if (n > 0)
			at += (uint64_t)n;
		else if (n == 0 || errno != EINTR)
			nvme->fill_error = n == 0 ? -ENOSPC : -errno;
		nvme_file_alive(nvme);
	}

	/* From now on it is found again, whenever this ends. */
	if (nvme->fill_error == 0)
		nvme->fill_error = nvme_claim_label(nvme->claim, nvme->filling);
	if (nvme->fill_error == 0 && nvme->filling == nvme->of)
		nvme->claim->size = nvme->of;
	if (nvme->fill_error == 0 && nvme->from == 0)
		nvme->read_rate = probe_nvme(nvme->claim->fd, NVME_HEAD, nvme->filling);
}

static void nvme_file_next_step(struct nvme_file *nvme)
{
	uint64_t left = nvme->size - nvme->filled;
	nvme->of = nvme->size;
	nvme->from = nvme->filled;
	nvme->filling = nvme->filled + (left < FILL_STEP ? left : FILL_STEP);
	worker_post(nvme->worker, &nvme->fill);
}

/* It stays at what is filled. */
static void nvme_file_stop_growing(struct nvme_file *nvme, int r)
{
	log_error("nvme: formatting %s failed at %llu of %llu MiB: %s; the tier stays at that "
		  "size",
		  nvme->claim->path, (unsigned long long)(nvme->filled >> 20),
		  (unsigned long long)(nvme->size >> 20), strerror(-r));
	nvme->settled = true;
	nvme->progress(nvme->arg);
}

static void nvme_file_step_filled(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, fill);
	if (atomic_load(&nvme->stop) || nvme_file_is_late(nvme))
		return;
	if (nvme->fill_error < 0) {
		loop_timer_stop(nvme->loop, &nvme->watch);
		nvme_file_stop_growing(nvme, nvme->fill_error);
		return;
	}

	unsigned before = nvme_file_percent(nvme);
	tier_grow(nvme->tier, nvme->filled, nvme->filling - nvme->filled);
	nvme->filled = nvme->filling;
	if (nvme_file_percent(nvme) / 10 != before / 10)
		log_info("nvme: formatting %s: %u%%", nvme->claim->path, nvme_file_percent(nvme));

	nvme->settled = nvme->filled == nvme->size;
	if (nvme->settled)
		loop_timer_stop(nvme->loop, &nvme->watch);
	else
		nvme_file_next_step(nvme);

	nvme->progress(nvme->arg);
}

/* ---- the label ---- */

static void nvme_file_write_label(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, label);

	nvme->label_error = nvme_claim_label_wipes(nvme->claim, true);
}

static void nvme_file_end_waits(struct nvme_file *nvme, int result)
{
	for (struct list *node; (node = list_pop_front(&nvme->waits));) {
		struct nvme_file_wait *wait = container_of(node, struct nvme_file_wait, link);
		wait->done(wait, result);
	}
}

static void nvme_file_labelled(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, label);

	nvme->labelling = false;
	nvme->wipes = nvme->label_error == 0;
	if (nvme->label_error < 0)
		log_error("nvme: cannot write the label of %s: %s; blocks with wipe_on_free stay "
			  "in memory",
			  nvme->claim->path, strerror(-nvme->label_error));
	nvme_file_end_waits(nvme, nvme->label_error);
}

bool nvme_file_expects_wipes(const struct nvme_file *nvme)
{
	return nvme->wipes;
}

void nvme_file_expect_wipes(struct nvme_file *nvme, struct nvme_file_wait *wait)
{
	int r = nvme->worker ? 0 : worker_new(&nvme->worker, nvme->loop, "nvme-label", NULL, NULL);

	list_push_back(&nvme->waits, &wait->link);
	if (r < 0) {
		nvme_file_end_waits(nvme, r);
	} else if (!nvme->labelling) {
		nvme->labelling = true;
		nvme->label =
			(struct job){.run = nvme_file_write_label, .done = nvme_file_labelled};
		worker_post(nvme->worker, &nvme->label);
	}
}

int nvme_file_end_wipes(struct nvme_file *nvme)
{
	atomic_store(&nvme->stop, true); /* a step that has ended begins no other */
	nvme->worker = worker_free(nvme->worker);

	return nvme->wipes ? nvme_claim_label_wipes(nvme->claim, false) : 0;
}

/* ---- opening ---- */

static int nvme_file_all_filled(struct nvme_file *nvme)
{
	nvme->filled = nvme->claim->size;
	nvme->settled = true;
	nvme->read_rate = nvme->claim->read_rate;
	return tier_grow(nvme->tier, 0, nvme->claim->size);
}

static int nvme_file_format(struct nvme_file *nvme, const struct reason *reason)
{
	uint64_t filled = nvme->claim->filled;
	int r = filled > 0 ? tier_grow(nvme->tier, 0, filled) : 0;
	if (r == 0)
		r = worker_new(&nvme->worker, nvme->loop, "nvme-format", NULL, NULL);
	if (r < 0)
		return reason_set(reason, r, "nvme: cannot start the formatting thread: %s",
				  strerror(-r));

	log_info("nvme: formatting %s, %llu MiB", nvme->claim->path,
		 (unsigned long long)((nvme->claim->size - filled) >> 20));
	nvme->filled = filled;
	nvme->read_rate = nvme->claim->read_rate;
	nvme_file_next_step(nvme);

	return 0;
}

static int nvme_file_set_up(struct nvme_file *nvme, const struct config *config,
			    const struct reason *reason)
{
	struct tier *tier = nvme->tier;
	uint64_t wanted = tier->copies_max;
	bool claiming = tier->claiming;
	int r = nvme_claim_new(&nvme->claim, config, wanted, reason);
	if (r < 0)
		return r;

	if (!nvme->claim->direct)
		log_warning("nvme: %s is on a file system without O_DIRECT: I/O goes through the "
			    "page cache",
			    nvme->claim->path);

	uint64_t copies = nvme->claim->copies;
	if (copies == 0 && wanted > 0)
		log_notice(
			"nvme: %s has no room for %llu MiB of copies on top of nvme.size: blocks "
			"that move up are written again when they come down (nvme.copies, "
			"nvme.copies_inside)",
			nvme->claim->path, (unsigned long long)(wanted >> 20));

	r = tier_init(tier, HBM_TIER_NVME, tier->number, nvme->claim->size - copies, 0,
		      config->limit_blocks);
	if (r < 0)
		return reason_set(reason, r, "nvme: %s", strerror(-r));

	tier->ops = &tier_nvme_ops;
	tier->copies_max = copies;
	tier->claiming = claiming;
	tier->dirty = nvme->wipes = nvme->claim->wipes;
	nvme->size = nvme->claim->size;

	return nvme->claim->formatted ? nvme_file_all_filled(nvme) : nvme_file_format(nvme, reason);
}

int nvme_file_check(const struct config *config, char *error, size_t error_size)
{
	return nvme_claim_check(config, &(struct reason){error, error_size});
}

int nvme_file_open(struct nvme_file **out, const struct config *config, struct tier *tier,
		   struct loop *loop, void (*progress)(void *arg), void *arg, char *error,
		   size_t error_size)
{
	struct reason reason = {error, error_size};
	struct nvme_file *nvme = calloc(1, sizeof(*nvme));
	if (!nvme)
		return reason_set(&reason, -ENOMEM, "nvme: out of memory");

	*nvme = (struct nvme_file){.tier = tier,
				   .loop = loop,
				   .progress = progress,
				   .arg = arg,
				   .watch.fire = nvme_file_look,
				   .timeout_ns = config->nvme_timeout_ms * MS};
	list_init(&nvme->waits);
	nvme->fill = (struct job){.run = nvme_file_fill_step, .done = nvme_file_step_filled};
	int r = nvme_file_set_up(nvme, config, &reason);
	if (r < 0) {
		if (nvme->claim)
			nvme_claim_withdraw(nvme->claim);
		free(nvme);
		return r;
	}

	*out = nvme;

	return 0;
}

struct nvme_file *nvme_file_close(struct nvme_file *nvme)
{
	if (!nvme)
		return NULL;

	atomic_store(&nvme->stop, true);
	loop_timer_stop(nvme->loop, &nvme->watch);
	nvme->worker = worker_free(nvme->worker);
	nvme_claim_free(nvme->claim);
	free(nvme);

	return NULL;
}

int nvme_file_fd(const struct nvme_file *nvme)
{
	return nvme->claim->fd;
}

const uint8_t *nvme_file_id(const struct nvme_file *nvme)
{
	return nvme->claim->id;
}

bool nvme_file_is_device(const struct nvme_file *nvme)
{
	return nvme->claim->is_device;
}

double nvme_file_read_rate(const struct nvme_file *nvme)
{
	return nvme->filled > 0 ? nvme->read_rate : 0;
}

unsigned nvme_file_percent(const struct nvme_file *nvme)
{
	return (unsigned)(nvme->filled * 100 / nvme->size);
}

bool nvme_file_settled(const struct nvme_file *nvme)
{
	return nvme->settled;
}

/* ---- another size ---- */

static int nvme_file_start_worker(struct nvme_file *nvme)
{
	return nvme->worker ? 0 : worker_new(&nvme->worker, nvme->loop, "nvme-format", NULL, NULL);
}

int nvme_file_may_have(const struct nvme_file *nvme, uint64_t bytes, const struct reason *why)
{
	if (nvme_file_is_late(nvme))
		return reason_set(why, HBM_IO,
				  "nvme: %s has not got its last size yet: the disk "
				  "does not answer",
				  nvme->claim->path);

	uint64_t most = nvme_claim_room(nvme->claim);

	if (bytes < NVME_SIZE_MIN)
		return reason_set(why, HBM_NO_SPACE,
				  "nvme: %llu bytes are too small, expected at least 1MiB",
				  (unsigned long long)bytes);
	if (bytes > nvme->size && bytes > most)
		return reason_set(why, HBM_NO_SPACE,
				  "nvme: %llu bytes are needed for %s, with its copies; there are "
				  "%llu",
				  (unsigned long long)bytes, nvme->claim->path,
				  (unsigned long long)most);

	return HBM_OK;
}

void nvme_file_grow(struct nvme_file *nvme, uint64_t bytes)
{
	if (nvme_file_is_late(nvme))
		return;

	int r = nvme_file_start_worker(nvme);
	if (r < 0) {
		log_error("nvme: cannot start the formatting thread: %s", strerror(-r));
		return;
	}

	nvme->size = nvme->filled + bytes;
	nvme->fill_error = 0;
	nvme->settled = false;
	nvme->grows = true;
	nvme_file_watch(nvme);
	nvme_file_next_step(nvme);
}

uint64_t nvme_file_bytes(const struct nvme_file *nvme)
{
	return nvme->size;
}

static void nvme_file_cut(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, shrink);

	nvme_file_alive(nvme);
	if (!atomic_load(&nvme->stop))
		nvme->shrink_error = nvme_claim_shorten(nvme->claim, nvme->shrunk);
}

/* Whoever waits is told once: when it is cut, or that takes too long. */
static void nvme_file_end_shrink(struct nvme_file *nvme, int r)
{
	void (*cut)(void *arg) = nvme->cut;

	if (r < 0)
		log_error("nvme: cannot shorten %s to %llu MiB: %s; it has the tier's new size "
			  "after a restart",
			  nvme->claim->path, (unsigned long long)(nvme->shrunk >> 20),
			  strerror(-r));

	nvme->cut = NULL;
	if (!cut)
		return;

	nvme->size = nvme->filled = nvme->shrunk;
	nvme->settled = true;
	cut(nvme->cut_arg);
}

static void nvme_file_is_cut(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, shrink);
	if (atomic_load(&nvme->stop))
		return;

	loop_timer_stop(nvme->loop, &nvme->watch);
	nvme->shrinking = false;
	atomic_store(&nvme->late, false);
	nvme_file_end_shrink(nvme, nvme->shrink_error);
}

static void nvme_file_post_shrink(struct nvme_file *nvme, uint64_t bytes)
{
	nvme->shrunk = bytes;
	nvme->shrinking = true;
	nvme->shrink = (struct job){.run = nvme_file_cut, .done = nvme_file_is_cut};
	worker_post(nvme->worker, &nvme->shrink);
}

void nvme_file_shrink(struct nvme_file *nvme, uint64_t bytes, void (*cut)(void *arg), void *arg)
{
	int r = nvme_file_start_worker(nvme);

	if (bytes < nvme->filled)
		(void)tier_cut(nvme->tier, bytes, nvme->filled - bytes);
	if (nvme_file_is_late(nvme)) {
		nvme->size = nvme->filled = bytes;
		if (!nvme->shrinking)
			nvme_file_post_shrink(nvme, bytes);
		cut(arg);
		return;
	}

	nvme->shrunk = bytes;
	nvme->cut = cut;
	nvme->cut_arg = arg;
	if (r < 0) {
		nvme_file_end_shrink(nvme, r);
		return;
	}

	nvme_file_watch(nvme);
	nvme_file_post_shrink(nvme, bytes);
}
