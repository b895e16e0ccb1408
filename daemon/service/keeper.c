/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/service/exit_status.h"
#include "daemon/service/keeper_message.h"
#include "daemon/service/keeper_socket.h"
#include "daemon/service/keeper_store.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

/* As hbmd.service has them: StartLimitBurst=, StartLimitIntervalSec= and WatchdogSec=. */
#define KEEPER_STARTS 100
#define KEEPER_STARTS_NS (600 * SECOND)
#define KEEPER_WATCHDOG_S 30
/* of a daemon that never was ready: the first wait before it is started again, and the longest */
#define KEEPER_WAIT_NS (100 * MS)
#define KEEPER_WAIT_MAX_NS (5 * SECOND)
/* of one whose configuration is wrong: an operator mends that. Fewer starts than KEEPER_STARTS */
#define KEEPER_WAIT_CONFIG_NS (10 * SECOND)

struct keeper {
	char **command, **check; /* of the daemon, and of its --check-config */
	unsigned long starts_max, watchdog_s;
	int socket, signals;
	sigset_t mask; /* the daemon's */
	struct keeper_store store;

	pid_t pid;      /* 0: it does not run, and starts at start_ns */
	pid_t checking; /* the next version looks at its configuration; 0: none does */
	uint64_t start_ns;
	uint64_t alive_ns; /* the last sign of life of one that is ready */
	bool ready, aborted;
	bool stopping, renewing;
	bool served; /* one has been ready: there may be what is worth to be kept */

	unsigned failures; /* in a row, of daemons that never were ready */
	uint64_t window_ns;
	unsigned long starts; /* in the window */
};

/* ---- starting ---- */

/* In a child of the keeper's. */
static void keeper_become_child(const struct keeper *keeper, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_STATUS_FAILED);

	sigprocmask(SIG_SETMASK, &keeper->mask, NULL);
}

static void keeper_become_daemon(struct keeper *keeper, pid_t parent)
{
	keeper_become_child(keeper, parent);
	int r = keeper_store_pass(&keeper->store);
	if (r == 0) {
		execvp(keeper->command[0], keeper->command);
		r = -errno;
	}

	log_error("keeper: cannot start %s: %s", keeper->command[0], strerror(-r));
	_exit(EXIT_STATUS_UNMET);
}

/* Whether there may be one more start. */
static bool keeper_count_start(struct keeper *keeper)
{
	uint64_t now = clock_now();

	if (keeper->starts == 0 || now - keeper->window_ns > KEEPER_STARTS_NS) {
		keeper->window_ns = now;
		keeper->starts = 0;
	}

	return keeper->starts++ < keeper->starts_max;
}

static void keeper_start(struct keeper *keeper)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		keeper_become_daemon(keeper, parent);
	keeper->ready = keeper->aborted = keeper->renewing = false;
	keeper->pid = pid > 0 ? pid : 0;
	if (pid > 0)
		return;

	log_error("keeper: cannot start hbmd: %s", strerror(errno));
	keeper->start_ns = clock_now() + KEEPER_WAIT_MAX_NS;
}

static void keeper_pass_on(struct keeper *keeper, int signal)
{
	if (keeper->pid > 0)
		kill(keeper->pid, signal);
}

/* ---- another version ---- */

static void keeper_renew(struct keeper *keeper)
{
	keeper->renewing = true;
	keeper->start_ns = 0;
	keeper_pass_on(keeper, SIGTERM);
}

/* The daemon serves until it is known that the next one would start. */
static void keeper_check(struct keeper *keeper)
{
	pid_t parent = getpid();
	if (keeper->checking > 0)
		return;

	keeper->checking = fork();
	if (keeper->checking == 0) {
		keeper_become_child(keeper, parent);
		execvp(keeper->check[0], keeper->check);
		log_error("keeper: cannot start %s: %s", keeper->check[0], strerror(errno));
		_exit(EXIT_STATUS_UNMET);
	}

	if (keeper->checking < 0) {
		log_error("keeper: cannot check the configuration: %s", strerror(errno));
		keeper->checking = 0;
	}
}

static void keeper_checked(struct keeper *keeper, const siginfo_t *end)
{
	keeper->checking = 0;
	if (end->si_code == CLD_EXITED && end->si_status == EXIT_STATUS_OK)
		keeper_renew(keeper);
	else
		log_error("keeper: --check-config of the new version ended with %s%d: the daemon "
			  "goes on",
			  end->si_code == CLD_EXITED ? "status " : "signal ", end->si_status);
}

/* ---- what the daemon says ---- */

static void keeper_hear(struct keeper *keeper, const struct keeper_datagram *datagram)
{
	const struct keeper_message *message = &datagram->message;

	if (message->ready || message->alive)
		keeper->alive_ns = clock_now();
	if (message->ready) {
		keeper->ready = keeper->served = true;
		keeper->failures = 0;
	}

	if (message->drop)
		keeper_store_drop(&keeper->store, message->name);

	if (message->store)
		keeper_store_put(&keeper->store, message->name, datagram->fds, datagram->count);
	else
		keeper_datagram_close(datagram); /* that is the answer to a barrier */
}

static void keeper_hear_all(struct keeper *keeper)
{
	static struct keeper_datagram datagram;
	while (keeper_socket_receive(keeper->socket, keeper->pid, &datagram))
		keeper_hear(keeper, &datagram);
}

/* ---- its end ---- */

static int keeper_status(const siginfo_t *end)
{
	return end->si_code == CLD_EXITED ? end->si_status : 128 + end->si_status;
}

/* Whether only an operator can mend it. */
static bool keeper_is_wrong(const siginfo_t *end)
{
	return end->si_code == CLD_EXITED &&
	       (end->si_status == EXIT_STATUS_USAGE || end->si_status == EXIT_STATUS_CONFIG);
}

/* Whether another start would be of use. */
static bool keeper_goes_on(const struct keeper *keeper, const siginfo_t *end)
{
	if (keeper->stopping)
		return false;
	if (keeper->renewing)
		return true;
	if (keeper_is_wrong(end))
		return keeper->served;
	if (end->si_code == CLD_EXITED)
		return end->si_status != EXIT_STATUS_OK;
	return end->si_status != SIGTERM && end->si_status != SIGINT;
}

static uint64_t keeper_wait_ns(struct keeper *keeper, const siginfo_t *end)
{
	if (keeper->ready || keeper->renewing)
		return 0;
	if (keeper_is_wrong(end))
		return KEEPER_WAIT_CONFIG_NS;

	unsigned doublings = keeper->failures < 10 ? keeper->failures : 10;
	uint64_t wait = KEEPER_WAIT_NS << doublings;
	keeper->failures++;

	return wait < KEEPER_WAIT_MAX_NS ? wait : KEEPER_WAIT_MAX_NS;
}

/* -1: it is started again; or the exit status. */
static int keeper_after(struct keeper *keeper, const siginfo_t *end)
{
	if (!keeper_goes_on(keeper, end))
		return keeper_status(end);

	if (!keeper_count_start(keeper)) {
		log_error("keeper: %lu starts in ten minutes: not starting hbmd again",
			  keeper->starts_max);
		return keeper_status(end);
	}

	uint64_t wait = keeper_wait_ns(keeper, end);
	log_notice("keeper: hbmd ended with %s%d: starting it again%s, with %zu descriptors",
		   end->si_code == CLD_EXITED ? "status " : "signal ", end->si_status,
		   wait > 0 ? " soon" : "", keeper->store.count);
	if (keeper_is_wrong(end))
		log_error("keeper: until the configuration is mended clients wait; SIGUSR2 tries "
			  "it at once");
	keeper->start_ns = clock_now() + wait;

	return -1;
}

/* Of any process that has ended; where this is the first one of a container there are some that
 * are not ours. -1, or the exit status. */
static int keeper_reap(struct keeper *keeper)
{
	siginfo_t end = {.si_pid = 0};

	while (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid != 0) {
		pid_t pid = end.si_pid;
		if (pid == keeper->pid)
			keeper_hear_all(keeper); /* while its pid can be no other's */

		waitpid(pid, NULL, 0);
		if (pid == keeper->checking)
			keeper_checked(keeper, &end);
		if (pid == keeper->pid) {
			keeper->pid = 0;
			int status = keeper_after(keeper, &end);
			if (status >= 0)
				return status;
		}

		end.si_pid = 0;
	}

	return -1;
}

/* ---- signals and time ---- */

/* -1, or the exit status. */
static int keeper_signalled(struct keeper *keeper, int signal)
{
	switch (signal) {
	case SIGCHLD:
		return keeper_reap(keeper);
	case SIGHUP:
		keeper_pass_on(keeper, SIGHUP);
		return -1;
	case SIGUSR2:
		if (keeper->pid > 0 && keeper->ready)
			keeper_check(keeper);
		else
			keeper_renew(keeper);
		return -1;
	default:
		keeper->stopping = true;
		keeper_pass_on(keeper, signal);
		return keeper->pid > 0 ? -1 : EXIT_STATUS_OK;
	}
}

static int keeper_read_signals(struct keeper *keeper)
{
	struct signalfd_siginfo info;

	while (read(keeper->signals, &info, sizeof(info)) == sizeof(info)) {
		int status = keeper_signalled(keeper, (int)info.ssi_signo);
		if (status >= 0)
			return status;
	}

	return -1;
}

/* When there is something to do though no one says anything; 0: never. */
static uint64_t keeper_due_ns(const struct keeper *keeper)
{
	if (keeper->pid == 0)
		return keeper->start_ns > 0 ? keeper->start_ns : 1;
	return keeper->ready ? keeper->alive_ns + keeper->watchdog_s * SECOND : 0;
}

static void keeper_do_due(struct keeper *keeper)
{
	if (keeper->pid == 0) {
		keeper_start(keeper);
		return;
	}

	log_error("keeper: no sign of life of hbmd for %lu s: %s it", keeper->watchdog_s,
		  keeper->aborted ? "killing" : "aborting");
	keeper_pass_on(keeper, keeper->aborted ? SIGKILL : SIGABRT);
	keeper->aborted = true;
	keeper->alive_ns = clock_now();
}

static int keeper_poll_ms(const struct keeper *keeper)
{
	uint64_t due = keeper_due_ns(keeper), now = clock_now();
	if (due == 0)
		return -1;
	return due > now ? (int)((due - now) / MS) + 1 : 0;
}

static int keeper_run(struct keeper *keeper)
{
	int status = -1;

	while (status < 0) {
		struct pollfd polls[] = {{.fd = keeper->socket, .events = POLLIN},
					 {.fd = keeper->signals, .events = POLLIN}};
		if (poll(polls, 2, keeper_poll_ms(keeper)) < 0 && errno != EINTR &&
		    errno != ENOMEM && errno != EAGAIN)
			return EXIT_STATUS_FAILED;

		keeper_hear_all(keeper);
		status = keeper_read_signals(keeper);
		uint64_t due = keeper_due_ns(keeper);
		if (status < 0 && due > 0 && due <= clock_now())
			keeper_do_due(keeper);
	}

	return status;
}

/* ---- setting up ---- */

static int keeper_refuse(const char *wrong)
{
	log_error("%s; see hbmd --help", wrong);
	return EXIT_STATUS_USAGE;
}

/* Where the number of an option goes, or NULL. */
static unsigned long *keeper_option(struct keeper *keeper, const char *name)
{
	if (strcmp(name, "--starts") == 0)
		return &keeper->starts_max;
	return strcmp(name, "--watchdog") == 0 ? &keeper->watchdog_s : NULL;
}

static bool keeper_read_number(unsigned long *out, const char *text)
{
	char *end;
	unsigned long number = text ? strtoul(text, &end, 10) : 0;
	if (number == 0 || number > UINT32_MAX || *end != '\0')
		return false;

	*out = number;

	return true;
}

/* The command with one option more. False: no memory. */
static bool keeper_make_check(struct keeper *keeper)
{
	static char option[] = "--check-config";
	size_t count = 0;

	while (keeper->command[count])
		count++;
	keeper->check = calloc(count + 2, sizeof(*keeper->check));
	if (!keeper->check)
		return false;

	memcpy(keeper->check, keeper->command, count * sizeof(*keeper->check));
	keeper->check[count] = option;

	return true;
}

/* 0, or the exit status. The command becomes the daemon's, with its program first. */
static int keeper_parse(struct keeper *keeper, int argc, char **argv)
{
	int next = 2;

	keeper->starts_max = KEEPER_STARTS;
	keeper->watchdog_s = KEEPER_WATCHDOG_S;

	for (; next < argc && strcmp(argv[next], "--") != 0; next += 2) {
		unsigned long *number = keeper_option(keeper, argv[next]);
		if (!number)
			return keeper_refuse("options of the daemon come after --keeper --");
		if (!keeper_read_number(number, argv[next + 1]))
			return keeper_refuse("--starts and --watchdog need a number above 0");
	}

	keeper->command = next < argc ? argv + next : argv + argc - 1;
	keeper->command[0] = argv[0];

	return keeper_make_check(keeper) ? 0 : EXIT_STATUS_UNMET;
}

/* What is kept are descriptors: as many as the system allows. */
static void keeper_raise_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* A socket for clients, where one was passed to this process. */
static void keeper_take_inherited(struct keeper *keeper)
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);

	for (int i = 0; i < count; i++) {
		keeper_store_put(&keeper->store, names[i], &(int){SD_LISTEN_FDS_START + i}, 1);
		free(names[i]);
	}

	free(names);
}

static int keeper_watch_signals(struct keeper *keeper)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &keeper->mask);
	keeper->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	return keeper->signals < 0 ? -errno : 0;
}

static int keeper_tell_environment(const struct keeper *keeper, const char *address)
{
	char store[32], watchdog[32];

	/* What it passes on has a place, too. */
	snprintf(store, sizeof(store), "%zu", KEEPER_STORE_MAX - keeper->store.count);
	snprintf(watchdog, sizeof(watchdog), "%lu", keeper->watchdog_s * 1000000);
	unsetenv("WATCHDOG_PID");

	return setenv("NOTIFY_SOCKET", address, 1) < 0 || setenv("FDSTORE", store, 1) < 0 ||
			       setenv("WATCHDOG_USEC", watchdog, 1) < 0
		       ? -errno
		       : 0;
}

int keeper_main(int argc, char **argv)
{
	static struct keeper keeper = {.socket = -1, .signals = -1};
	char address[KEEPER_ADDRESS_BYTES];
	int status = keeper_parse(&keeper, argc, argv);
	if (status != 0)
		return status;

	keeper_raise_limit();
	keeper_take_inherited(&keeper);
	int r = keeper_watch_signals(&keeper);
	if (r == 0)
		r = keeper_socket_open(&keeper.socket, address);
	if (r == 0)
		r = keeper_tell_environment(&keeper, address);
	if (r < 0) {
		log_error("keeper: cannot start: %s", strerror(-r));
		return EXIT_STATUS_UNMET;
	}

	keeper_count_start(&keeper);

	return keeper_run(&keeper);
}
