/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmd: parse, set up, run, tear down. Signals are a descriptor of the loop: SIGTERM and
 * SIGINT drain (a second one does not wait for clients), SIGHUP reads the configuration again:
 * what it says of tenants applies from then on, the rest at the next start.
 */
#include "daemon/base/clock.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/base/log_event.h"
#include "daemon/base/rlimit.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/ledger/tenant.h"
#include "daemon/loop/loop.h"
#include "daemon/move/mover.h"
#include "daemon/region/publication.h"
#include "daemon/serve/drain.h"
#include "daemon/serve/handlers.h"
#include "daemon/serve/namespace_room.h"
#include "daemon/serve/pressure.h"
#include "daemon/serve/removals.h"
#include "daemon/serve/restore.h"
#include "daemon/serve/serve_keys.h"
#include "daemon/serve/server.h"
#include "daemon/service/catalog_setup.h"
#include "daemon/service/configuration.h"
#include "daemon/service/descriptors.h"
#include "daemon/service/device_nodes.h"
#include "daemon/service/exit_status.h"
#include "daemon/service/footprint.h"
#include "daemon/service/inherited.h"
#include "daemon/service/keeper.h"
#include "daemon/service/lost_device.h"
#include "daemon/service/memory_setup.h"
#include "daemon/service/notify.h"
#include "daemon/service/options.h"
#include "daemon/service/restoration_setup.h"
#include "daemon/service/start_check.h"
#include "daemon/service/state_dir.h"
#include "daemon/service/state_setup.h"
#include "daemon/tier/nvme_file.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LINE 512
/* while stopping: between checks whether the last transfer has ended */
#define IDLE_POLL_NS 5000000ull
/* for the last transfer, where a device is lost */
#define IDLE_MOST_NS 10000000000ull

struct service {
	const struct configuration *configuration;
	struct hbmd hbmd;
	struct config config;
	struct ledger ledger;
	struct memory_setup *memory_setup;
	struct notify *notify;
	struct inherited inherited;
	struct watch signals;
	struct lost_device *lost_device;
	struct timer idle;
	uint64_t idle_until_ns; /* it waits no longer; 0: it does */
	int state_dir;
	bool stopping, failed;
	bool left; /* not closed: see hbmd_leaves_memory() */
};

/* ---- running ---- */

static void hbmd_describe(const struct service *service, char *line, size_t size)
{
	const struct hbmd *hbmd = &service->hbmd;
	if (hbmd->nvme && !nvme_file_settled(hbmd->nvme))
		snprintf(line, size, "Serving; formatting NVMe, %u%%",
			 nvme_file_percent(hbmd->nvme));
	else
		snprintf(line, size, "%s",
			 hbmd->state == HBMD_WARMING ? "Serving; making memory ready" : "Serving");
}

static void hbmd_progress(void *arg)
{
	struct service *service = arg;
	if (service->stopping || !service->memory_setup)
		return;

	if (memory_setup_broken(service->memory_setup)) {
		log_error("cannot allocate the staging buffers; shutting down");
		service->failed = true;
		loop_stop(service->hbmd.loop);
		return;
	}

	if (memory_setup_warm(service->memory_setup) && service->hbmd.state == HBMD_WARMING) {
		service->hbmd.state = HBMD_RUNNING;
		log_info("all tiers are in service");
	}

	char line[LINE];
	hbmd_describe(service, line, sizeof(line));
	notify_status(line);
}

static void hbmd_stop_when_idle(struct timer *timer)
{
	struct service *service = container_of(timer, struct service, idle);
	bool late = service->idle_until_ns > 0 && clock_now() >= service->idle_until_ns;
	if (mover_is_idle(service->hbmd.mover) || late)
		loop_stop(service->hbmd.loop);
	else
		loop_timer_set(service->hbmd.loop, timer, clock_now() + IDLE_POLL_NS);
}

static void hbmd_drained(void *arg)
{
	struct service *service = arg;
	hbmd_stop_when_idle(&service->idle);
}

static void hbmd_stop(struct service *service, const char *why)
{
	if (service->stopping) {
		log_notice("%s again: not waiting for clients any longer", why);
		hbmd_stop_when_idle(&service->idle);
		return;
	}

	log_notice("%s: draining", why);
	drain_stop(&service->hbmd);
	service->stopping = true;
	service->hbmd.state = HBMD_STOPPING;
	notify_stopping();
	memory_setup_drain(service->memory_setup);
	mover_stop(service->hbmd.mover);
	server_drain(service->hbmd.server, hbmd_drained, service);
}

/* The device that was lost may never answer what waits for it. */
static void hbmd_restart(void *arg)
{
	struct service *service = arg;
	if (service->stopping)
		return;

	service->failed = true;
	service->idle_until_ns = clock_now() + IDLE_MOST_NS;
	hbmd_stop(service, "a device is lost");
}

/* A drain goes on, or is over. */
static void hbmd_drain_changed(void *arg, const char *left)
{
	char line[LINE];

	if (left) {
		snprintf(line, sizeof(line), "Draining: %s", left);
		notify_status(line);
	} else {
		hbmd_progress(arg);
	}
}

static void hbmd_drain_ended(void *arg)
{
	hbmd_stop(arg, "drained");
}

static void hbmd_signalled(struct watch *watch, uint32_t events)
{
	struct service *service = container_of(watch, struct service, signals);

	(void)events;
	struct signalfd_siginfo info;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;

	if (info.ssi_signo == SIGHUP)
		configuration_reload(service->configuration, &service->hbmd);
	else
		hbmd_stop(service, info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
}

static int hbmd_watch_signals(struct service *service)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN);   /* of F_SETLEASE: host_driver.h */
	signal(SIGXFSZ, SIG_IGN); /* exceeding a file size limit is then an error, EFBIG */
	service->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	return service->signals.fd < 0 ? -errno : 0;
}

/* Every slab is a descriptor while it is being passed to a client, so the daemon uses all
 * that the service manager allows. */
static void hbmd_raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static enum loop_engine hbmd_engine_of(const struct config *config)
{
	static const enum loop_engine engines[] = {[CONFIG_IO_AUTO] = LOOP_AUTO,
						   [CONFIG_IO_URING] = LOOP_URING,
						   [CONFIG_IO_THREADS] = LOOP_THREADS};
	return engines[config->io];
}

static int hbmd_set_up_loop(struct service *service, char *error, size_t error_size)
{
	struct hbmd *hbmd = &service->hbmd;
	int r = hbmd_watch_signals(service); /* before any thread: all of them inherit the mask */
	const struct loop_options options = {.engine = hbmd_engine_of(&service->config),
					     .io_depth = config_nvme_depth_max(&service->config)};

	if (r == 0)
		r = loop_new(&hbmd->loop, &options);

	if (r < 0) {
		snprintf(error, error_size, "cannot set up the event loop%s: %s%s",
			 service->config.io == CONFIG_IO_URING ? " (hbmd.io = io_uring)" : "",
			 strerror(-r),
			 rlimit_hint((char[RLIMIT_HINT]){""}, r == -ENOMEM ? RLIMIT_MEMLOCK : -1));
		return r;
	}

	const char *fallback = loop_fallback_reason(hbmd->loop);
	if (fallback)
		log_notice("I/O by threads, not io_uring: %s", fallback);

	service->signals.events = POLLIN;
	service->signals.ready = hbmd_signalled;
	service->idle.fire = hbmd_stop_when_idle;

	return loop_watch(hbmd->loop, &service->signals);
}

static void hbmd_tell_footprint(struct hbmd *hbmd)
{
	struct footprint footprint = footprint_of(hbmd->config, hbmd->devices);
	char text[LINE];

	hbmd->footprint = footprint_total(&footprint);
	log_info("%s", footprint_text(&footprint, text, sizeof(text)));
}

/* What clients ask, and what those of the daemon before had, on top of its memory. */
static int hbmd_set_up_server(struct service *service, char *error, size_t error_size)
{
	struct hbmd *hbmd = &service->hbmd;
	int r = namespace_room_open(&hbmd->namespace_room, hbmd);

	if (r == 0)
		r = publications_open(&hbmd->publications, hbmd->ledger);

	if (r == 0)
		r = server_open(&hbmd->server, hbmd, &handlers, service->inherited.socket, error,
				error_size);

	if (r == 0) {
		service->inherited.socket = -1; /* the server's now */
		descriptors_apply(hbmd);
		server_tenants_changed(hbmd->server);
	}

	if (r == 0)
		r = server_restore_sessions(hbmd->server, error, error_size);

	if (r == 0) {
		restore_regions(hbmd);
		server_sessions_restored(hbmd->server);
		r = pressure_open(&hbmd->pressure, hbmd);
	}

	return r;
}

static int hbmd_set_up(struct service *service, char *error, size_t error_size)
{
	struct hbmd *hbmd = &service->hbmd;

	hbmd->config = &service->config;
	hbmd->ledger = &service->ledger;
	ledger_open(&service->ledger, &service->config);
	hbmd->started_ns = clock_now();
	hbmd->state = HBMD_WARMING;
	if (getrandom(hbmd->boot_id, sizeof(hbmd->boot_id), 0) != sizeof(hbmd->boot_id))
		return -EIO;

	int r = inherited_open(&service->inherited, &state_setup_taker, 1, error, error_size);
	if (r == 0)
		r = hbmd_set_up_loop(service, error, error_size);

	if (r == 0)
		r = state_dir_lock(service->config.state_dir, &service->state_dir, error,
				   error_size);

	/* One daemon at a time has it: what clients have of its soft devices is not free. */
	if (r == 0)
		service->config.soft_card = state_dir_number(service->state_dir);

	if (r == 0)
		r = state_setup_open(hbmd, error, error_size);

	if (r == 0)
		r = tenants_configure(hbmd->ledger, hbmd->config);

	if (r == 0)
		r = devices_open(&hbmd->devices, &service->config, hbmd->loop, error, error_size);

	if (r == 0) {
		hbmd_tell_footprint(hbmd);
		device_nodes_keep(hbmd->devices, DEVICE_NODES_FACTS, DEVICE_NODES_FOLDER);
	}

	if (r == 0)
		r = memory_setup_open(&service->memory_setup, hbmd, hbmd_progress, service, error,
				      error_size);

	if (r == 0)
		r = hbmd_set_up_server(service, error, error_size);

	if (r == 0)
		r = lost_device_open(&service->lost_device, hbmd, hbmd_restart, service);

	if (r == 0)
		r = drain_open(hbmd, &(struct drain_calls){.changed = hbmd_drain_changed,
							   .drained = hbmd_drain_ended,
							   .arg = service});

	if (r == 0)
		r = removals_open(hbmd);

	if (r == 0)
		r = notify_open(&service->notify, hbmd->loop);

	if (r == 0)
		state_setup_finish(hbmd);

	return r;
}

/* Whether the process ends as it is, without closing what it has: because the loop has ended
 * with transfers in flight, whose late completions must find everything in place; or because
 * of a GPU, where the kernel takes back memory that is mapped and registered in less time than
 * it takes to undo each call. */
static bool hbmd_leaves_memory(const struct hbmd *hbmd)
{
	return (hbmd->mover && mover_active(hbmd->mover) > 0) ||
	       (hbmd->devices && hbmd->devices->kind == HBM_DRIVER_CUDA);
}

static void hbmd_tear_down(struct service *service)
{
	struct hbmd *hbmd = &service->hbmd;

	service->stopping = true;
	service->notify = notify_close(service->notify);
	service->lost_device = lost_device_close(service->lost_device);
	restoration_setup_close(hbmd);
	hbmd->pressure = pressure_close(hbmd->pressure);
	drain_close(hbmd);
	removals_stop(hbmd);
	removals_close(hbmd);
	/* The next one takes over what it has. */
	service->left = hbmd->server && server_survives(hbmd->server);
	if (service->left)
		server_leave(hbmd->server);
	else
		hbmd->server = server_close(hbmd->server);
	inherited_close(&service->inherited);

	catalog_setup_close(hbmd);
	service->left |= hbmd_leaves_memory(hbmd);
	if (service->left)
		return;
	if (hbmd->cache)
		serve_close(hbmd);

	hbmd->publications = publications_close(hbmd->publications);
	service->memory_setup = memory_setup_close(service->memory_setup);
	hbmd->devices = devices_close(hbmd->devices);
	state_setup_close(hbmd);
	if (service->state_dir >= 0)
		close(service->state_dir);

	if (hbmd->loop) {
		loop_timer_stop(hbmd->loop, &service->idle);
		loop_unwatch(hbmd->loop, &service->signals);
	}

	hbmd->loop = loop_free(hbmd->loop);
	hbmd->namespace_room = namespace_room_close(hbmd->namespace_room);
	if (hbmd->ledger)
		tenants_close(hbmd->ledger);
	if (service->signals.fd >= 0)
		close(service->signals.fd);
}

/* Serves until told to stop. Returns the exit status. */
static enum exit_status hbmd_serve(struct service *service)
{
	char line[LINE];

	hbmd_describe(service, line, sizeof(line));
	char fields[64];
	snprintf(fields, sizeof(fields), "HBMD_VERSION=%s", HBM_VERSION);
	log_event(LOG_EVENT_SERVING, LOG_NOTICE, fields,
		  "hbmd %s serving on %s, %u %s device%s, I/O by %s", HBM_VERSION,
		  service->config.socket, service->hbmd.devices->count,
		  driver_kind_name(service->hbmd.devices->kind),
		  service->hbmd.devices->count == 1 ? "" : "s",
		  loop_engine_name(service->hbmd.loop));
	notify_ready(line);
	int r = loop_run(service->hbmd.loop);
	if (r < 0)
		log_error("the event loop failed: %s", strerror(-r));

	return r < 0 || service->failed ? EXIT_STATUS_FAILED : EXIT_STATUS_OK;
}

/* Logs one line, the last of the log and the status that the service manager shows. */
static enum exit_status hbmd_refuse_start(int r, const char *error)
{
	char line[LINE + RLIMIT_HINT];

	snprintf(line, sizeof(line), "%s%s%s",
		 error[0] != '\0' ? error : "cannot start: ", error[0] != '\0' ? "" : strerror(-r),
		 rlimit_hint((char[RLIMIT_HINT]){""}, rlimit_of_error(r)));
	char fields[64];
	snprintf(fields, sizeof(fields), "HBMD_STATUS=%d", exit_status_of_start(r));
	log_event(LOG_EVENT_NOT_STARTED, LOG_ERR, fields, "%s", line);
	notify_failed(line);

	return exit_status_of_start(r);
}

static enum exit_status hbmd_run(struct service *service)
{
	char error[LINE] = "";
	int r = log_start();
	if (r < 0)
		snprintf(error, sizeof(error), "cannot start the thread of the log: %s",
			 strerror(-r));
	else
		r = hbmd_set_up(service, error, sizeof(error));
	enum exit_status status = r < 0 ? hbmd_refuse_start(r, error) : hbmd_serve(service);

	hbmd_tear_down(service);
	if (status == EXIT_STATUS_OK)
		log_event(LOG_EVENT_STOPPED, LOG_NOTICE, NULL, "stopped");

	return status;
}

/* What is wrong in a configuration stays wrong; what kept it from being read may pass. */
static enum exit_status hbmd_status_of_config(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE ? EXIT_STATUS_UNMET
							    : EXIT_STATUS_CONFIG;
}

static enum exit_status hbmd_check(const struct config *config)
{
	log_open(LOG_WARNING);
	return start_check(config, stdout, stderr) < 0 ? EXIT_STATUS_CONFIG : EXIT_STATUS_OK;
}

int main(int argc, char **argv)
{
	struct options options = {.configuration.file = OPTIONS_CONFIG};

	log_open(LOG_INFO);
	if (argc > 1 && strcmp(argv[1], "--keeper") == 0)
		return keeper_main(argc, argv);

	int r = options_parse(argc, argv, &options);
	if (r != 0)
		return r == 1 ? EXIT_STATUS_OK : EXIT_STATUS_USAGE;

	static struct service service = {
		.signals = {.fd = -1}, .inherited = {.socket = -1}, .state_dir = -1};
	enum exit_status status = EXIT_STATUS_OK;
	r = options_become_user(&options);
	if (r == 0) {
		const char *wrong;
		r = configuration_read(&options.configuration, &service.config, &wrong);
		if (r < 0)
			options_report_all(wrong);
	}

	if (r < 0) {
		status = hbmd_status_of_config(r);
	} else if (options.print) {
		config_print(&service.config, stdout);
	} else if (options.check) {
		status = hbmd_check(&service.config);
	} else {
		service.configuration = &options.configuration;
		log_open((int)service.config.log_level);
		hbmd_raise_descriptor_limit();
		status = hbmd_run(&service);
		log_stop();
	}

	if (service.left)
		_exit(status);

	config_clear(&service.config);

	return status;
}
