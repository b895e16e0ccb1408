/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_name.h"

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/loop/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct nvme_name {
	struct loop *loop;
	struct worker *worker;
	struct job job;
	struct timer timer;
	int fd;
	const char *path;
	uint64_t interval_ns;
	bool found_gone; /* the worker's while it looks */
	bool gone, closing;
};

static void nvme_name_look(struct job *job)
{
	struct nvme_name *name = container_of(job, struct nvme_name, job);
	struct stat open, named;

	name->found_gone = fstat(name->fd, &open) == 0 &&
			   (stat(name->path, &named) < 0 || named.st_dev != open.st_dev ||
			    named.st_ino != open.st_ino);
}

static void nvme_name_looked(struct job *job)
{
	struct nvme_name *name = container_of(job, struct nvme_name, job);
	if (name->closing)
		return;

	if (name->found_gone && !name->gone)
		log_warning("nvme: %s was deleted or replaced: the tier goes on in the file that "
			    "is open, whose space is free when hbmd ends; restart hbmd to use "
			    "what is at the path",
			    name->path);
	if (!name->found_gone && name->gone)
		log_notice("nvme: %s is the tier's file again", name->path);

	name->gone = name->found_gone;
	loop_timer_set(name->loop, &name->timer, clock_now() + name->interval_ns);
}

static void nvme_name_wake(struct timer *timer)
{
	struct nvme_name *name = container_of(timer, struct nvme_name, timer);
	worker_post(name->worker, &name->job);
}

int nvme_name_new(struct nvme_name **out, struct loop *loop, int fd, const char *path,
		  uint64_t interval_ns)
{
	struct nvme_name *name = calloc(1, sizeof(*name));
	if (!name)
		return -ENOMEM;

	*name = (struct nvme_name){.loop = loop,
				   .job = {.run = nvme_name_look, .done = nvme_name_looked},
				   .timer = {.fire = nvme_name_wake},
				   .fd = fd,
				   .path = path,
				   .interval_ns = interval_ns};
	int r = worker_new(&name->worker, loop, "nvme-name", NULL, NULL);
	if (r < 0) {
		nvme_name_free(name);
		return r;
	}

	loop_timer_set(loop, &name->timer, clock_now() + interval_ns);
	*out = name;

	return 0;
}

struct nvme_name *nvme_name_free(struct nvme_name *name)
{
	if (!name)
		return NULL;

	name->closing = true;
	loop_timer_stop(name->loop, &name->timer);
	name->worker = worker_free(name->worker);
	loop_flush(name->loop); /* a look that has ended */
	free(name);

	return NULL;
}

bool nvme_name_is_gone(const struct nvme_name *name)
{
	return name && name->gone;
}
