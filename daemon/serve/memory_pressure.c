/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/memory_pressure.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/log_event.h"
#include "daemon/base/reason.h"
#include "daemon/cache/cache.h"
#include "daemon/config/config.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/resize.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define WINDOW_US 2000000 /* without CAP_SYS_RESOURCE it must be a multiple of two seconds */
#define TRIGGER_BYTES 256

struct memory_pressure {
	struct hbmd *hbmd;
	struct watch watch;
	struct timer quiet;
	uint64_t least, step, quiet_ns; /* of the tier */
	uint64_t full;                  /* the size that it is to have without pressure */
	uint64_t set;                   /* the last one that this module has set; 0: calm */
	uint64_t events;
	bool fifo;
};

/* ---- sizes ---- */

static struct tier *memory_pressure_tier(const struct memory_pressure *pressure)
{
	return pressure->hbmd->cache->ddr;
}

/* Another size than was set is an operator's, unless a step was undone. */
static void memory_pressure_look(struct memory_pressure *pressure)
{
	const struct tier *tier = memory_pressure_tier(pressure);

	if (pressure->set == 0 ||
	    (tier->capacity != pressure->set && !resize_was_undone(pressure->hbmd, tier)))
		pressure->full = tier->capacity;
	pressure->set = tier->capacity;
}

static bool memory_pressure_resize(struct memory_pressure *pressure, uint64_t bytes)
{
	char text[256] = "";
	const struct reason why = {text, sizeof(text)};

	if (resize_begin(pressure->hbmd, memory_pressure_tier(pressure), bytes, NULL, NULL, &why) !=
	    HBM_OK) {
		log_debug("ddr: memory pressure: %s", text);
		return false;
	}

	pressure->set = memory_pressure_tier(pressure)->capacity;

	return true;
}

static void memory_pressure_wait(struct memory_pressure *pressure)
{
	loop_timer_set(pressure->hbmd->loop, &pressure->quiet, clock_now() + pressure->quiet_ns);
}

/* ---- events ---- */

static void memory_pressure_shrink(struct memory_pressure *pressure)
{
	const struct tier *tier = memory_pressure_tier(pressure);
	bool first = !timer_is_set(&pressure->quiet);

	pressure->events++;
	memory_pressure_wait(pressure);
	if (resize_is_on(pressure->hbmd, tier))
		return;

	memory_pressure_look(pressure);
	if (first)
		log_event(LOG_EVENT_MEMORY_SHORT, LOG_NOTICE, NULL,
			  "ddr: the host is short of memory: the tier of %llu MiB shrinks by "
			  "steps of %llu MiB, to %llu MiB at least",
			  (unsigned long long)(pressure->full >> 20),
			  (unsigned long long)(pressure->step >> 20),
			  (unsigned long long)(pressure->least >> 20));
	if (tier->capacity > pressure->least)
		(void)memory_pressure_resize(pressure,
					     tier->capacity - pressure->least > pressure->step
						     ? tier->capacity - pressure->step
						     : pressure->least);
}

/* It has been quiet for long enough. */
static void memory_pressure_grow(struct timer *timer)
{
	struct memory_pressure *pressure = container_of(timer, struct memory_pressure, quiet);
	const struct tier *tier = memory_pressure_tier(pressure);

	if (!resize_is_on(pressure->hbmd, tier))
		memory_pressure_look(pressure);
	if (tier->capacity >= pressure->full) {
		log_event(LOG_EVENT_MEMORY_CALM, LOG_NOTICE, NULL,
			  "ddr: the host is not short of memory any more: the tier has %llu MiB",
			  (unsigned long long)(tier->capacity >> 20));
		pressure->set = 0;
		return;
	}

	memory_pressure_wait(pressure);
	if (!resize_is_on(pressure->hbmd, tier))
		(void)memory_pressure_resize(pressure,
					     pressure->full - tier->capacity > pressure->step
						     ? tier->capacity + pressure->step
						     : pressure->full);
}

static void memory_pressure_ready(struct watch *watch, uint32_t events)
{
	struct memory_pressure *pressure = container_of(watch, struct memory_pressure, watch);
	char discarded[256];

	if (events & (POLLERR | POLLHUP)) {
		log_warning("ddr: memory pressure is not told any more: the tier keeps its size");
		loop_unwatch(pressure->hbmd->loop, watch);
		return;
	}

	if (pressure->fifo && read(watch->fd, discarded, sizeof(discarded)) <= 0)
		return;

	memory_pressure_shrink(pressure);
}

/* ---- opening ---- */

static int memory_pressure_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Base64, as of systemd: how many bytes; 0: it is not, or too long. */
static size_t memory_pressure_decode(const char *text, char *to, size_t room)
{
	size_t count = 0;
	unsigned bits = 0, have = 0;

	for (; *text != '\0' && *text != '='; text++) {
		int digit = memory_pressure_digit(*text);
		if (digit < 0 || count == room)
			return 0;

		bits = bits << 6 | (unsigned)digit;
		have += 6;
		if (have >= 8) {
			have -= 8;
			to[count++] = (char)(bits >> have & 0xff);
		}
	}

	return count;
}

/* What is written to the file, and its path. */
static size_t memory_pressure_trigger(const struct config *config, const char **path,
				      char trigger[TRIGGER_BYTES])
{
	const char *watch = getenv("MEMORY_PRESSURE_WATCH"),
		   *line = getenv("MEMORY_PRESSURE_WRITE");

	*path = config->ddr_pressure_path;
	if (config->ddr_pressure_path[0] != '\0' || !watch) {
		if (config->ddr_pressure_path[0] == '\0')
			*path = "/proc/pressure/memory";
		int n = snprintf(trigger, TRIGGER_BYTES, "some %llu %u",
				 (unsigned long long)config->ddr_pressure_ms * 1000, WINDOW_US);
		return (size_t)n + 1;
	}

	*path = watch;

	return line ? memory_pressure_decode(line, trigger, TRIGGER_BYTES) : 0;
}

static int memory_pressure_watch(struct memory_pressure *pressure, const char **path)
{
	char trigger[TRIGGER_BYTES];
	size_t bytes = memory_pressure_trigger(pressure->hbmd->config, path, trigger);
	struct stat st;
	int fd = open(*path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	pressure->watch.fd = fd;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;

	pressure->fifo = S_ISFIFO(st.st_mode);
	pressure->watch.events = pressure->fifo ? POLLIN : POLLPRI;
	if (!pressure->fifo && bytes > 0 && write(fd, trigger, bytes) < 0)
		return -errno;

	return loop_watch(pressure->hbmd->loop, &pressure->watch);
}

static bool memory_pressure_is_wanted(const struct hbmd *hbmd)
{
	const char *watch = getenv("MEMORY_PRESSURE_WATCH");
	bool off = hbmd->config->ddr_pressure_path[0] == '\0' && watch &&
		   strcmp(watch, "/dev/null") == 0; /* the service manager's word for no */

	return hbmd->config->ddr_pressure_ms > 0 && hbmd->cache->ddr->capacity > 0 && !off;
}

static uint64_t memory_pressure_units(struct config_size size, uint64_t whole)
{
	uint64_t bytes = config_size_of(size, whole) / EXTENT_UNIT * EXTENT_UNIT;

	return bytes > EXTENT_UNIT ? bytes : EXTENT_UNIT;
}

int memory_pressure_open(struct hbmd *hbmd)
{
	const struct config *config = hbmd->config;
	const char *path = "";
	if (!memory_pressure_is_wanted(hbmd))
		return 0;

	struct memory_pressure *pressure = calloc(1, sizeof(*pressure));
	if (!pressure)
		return -ENOMEM;

	uint64_t size = hbmd->cache->ddr->capacity;
	*pressure = (struct memory_pressure){
		.hbmd = hbmd,
		.watch.ready = memory_pressure_ready,
		.quiet.fire = memory_pressure_grow,
		.least = memory_pressure_units(config->ddr_pressure_least, size),
		.step = memory_pressure_units(config->ddr_pressure_step, size),
		.quiet_ns = config->ddr_pressure_quiet_ms * MS};
	int r = memory_pressure_watch(pressure, &path);
	if (r < 0) {
		log_warning("ddr.pressure_ms: cannot watch %s: %s; the DDR tier keeps its size "
			    "when the host is short of memory",
			    path, strerror(-r));
		if (pressure->watch.fd >= 0)
			close(pressure->watch.fd);
		free(pressure);
		return 0;
	}

	hbmd->memory_pressure = pressure;

	return 0;
}

void memory_pressure_close(struct hbmd *hbmd)
{
	struct memory_pressure *pressure = hbmd->memory_pressure;
	if (!pressure)
		return;

	loop_timer_stop(hbmd->loop, &pressure->quiet);
	loop_unwatch(hbmd->loop, &pressure->watch);
	close(pressure->watch.fd);
	free(pressure);
	hbmd->memory_pressure = NULL;
}

uint64_t memory_pressure_events(const struct hbmd *hbmd)
{
	return hbmd->memory_pressure ? hbmd->memory_pressure->events : 0;
}
