/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_watch.h"

#include "daemon/base/log.h"
#include "daemon/base/log_event.h"

#define MS UINT64_C(1000000)

static const struct nvme_watched *nvme_watch_oldest(const struct nvme_watch *watch)
{
	return list_empty(&watch->outstanding)
		       ? NULL
		       : container_of(watch->outstanding.next, struct nvme_watched, link);
}

static bool nvme_watch_is_older(const struct nvme_watched *watched, uint64_t than_ns, uint64_t now)
{
	return watched && than_ns > 0 && now - watched->since_ns >= than_ns;
}

static uint64_t nvme_watch_earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Sets the timer to the next time at which there is something to see. It is not moved when
 * I/Os end: it looks, and is set again. */
static void nvme_watch_look_later(struct nvme_watch *watch, uint64_t now)
{
	const struct nvme_watch_options *options = &watch->options;
	const struct nvme_watched *oldest = nvme_watch_oldest(watch);
	if (!options->loop || !oldest || watch->silent || timer_is_set(&watch->timer))
		return;

	uint64_t at = UINT64_MAX;
	if (options->timeout_ns > 0)
		at = oldest->since_ns + options->timeout_ns;
	if (options->late_ns > 0) {
		bool late = nvme_watch_is_older(oldest, options->late_ns, now);
		at = nvme_watch_earlier(at, (late ? now : oldest->since_ns) + options->late_ns);
	}

	if (at != UINT64_MAX)
		loop_timer_set(options->loop, &watch->timer, at);
}

static void nvme_watch_hangs(struct nvme_watch *watch, const struct nvme_watched *oldest,
			     uint64_t now)
{
	watch->silent = true;
	watch->silent_since_ns = oldest->since_ns;
	watch->hangs++;
	log_event(LOG_EVENT_NVME_LOST, LOG_ERR, NULL,
		  "nvme: a %s has had no answer for %llu ms: the tier counts as lost until it is "
		  "answered; look at the disk",
		  oldest->write ? "write" : "read",
		  (unsigned long long)((now - oldest->since_ns) / MS));
	watch->options.changed(watch->options.arg, true);
}

static void nvme_watch_look(struct timer *timer)
{
	struct nvme_watch *watch = container_of(timer, struct nvme_watch, timer);
	const struct nvme_watched *oldest = nvme_watch_oldest(watch);
	uint64_t now = clock_now();

	if (nvme_watch_is_older(oldest, watch->options.timeout_ns, now))
		nvme_watch_hangs(watch, oldest, now);
	else if (nvme_watch_is_older(oldest, watch->options.late_ns, now))
		watch->options.late(watch->options.arg);

	nvme_watch_look_later(watch, now);
}

void nvme_watch_begin(struct nvme_watch *watch, struct nvme_watched *watched)
{
	watched->since_ns = clock_now();
	list_push_back(&watch->outstanding, &watched->link);
	nvme_watch_look_later(watch, watched->since_ns);
}

void nvme_watch_end(struct nvme_watch *watch, struct nvme_watched *watched)
{
	list_remove(&watched->link);
	if (!watch->silent)
		return;

	uint64_t now = clock_now();
	if (nvme_watch_is_older(nvme_watch_oldest(watch), watch->options.timeout_ns, now))
		return;

	watch->silent = false;
	log_event(LOG_EVENT_NVME_BACK, LOG_NOTICE, NULL,
		  "nvme: answers again after %llu ms; the tier is in service",
		  (unsigned long long)((now - watch->silent_since_ns) / MS));
	nvme_watch_look_later(watch, now);
	watch->options.changed(watch->options.arg, false);
}

void nvme_watch_open(struct nvme_watch *watch, const struct nvme_watch_options *options)
{
	*watch = (struct nvme_watch){.options = *options, .timer = {.fire = nvme_watch_look}};
	list_init(&watch->outstanding);
}

void nvme_watch_close(struct nvme_watch *watch)
{
	if (watch->options.loop)
		loop_timer_stop(watch->options.loop, &watch->timer);
}
