/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn: a daemon of one's own for a test: hbmd on soft devices, in a folder that is made
 * for it and removed with it. Its log goes to a file there and is shown when the test
 * fails to get what it waits for. HBM_TEST_DRIVER=cuda puts the daemon on a real device,
 * the first that is visible; a test that sets what only soft ones have is then skipped.
 */
#pragma once

#include <hbm/hbm.h>
#include <stdbool.h>
#include <sys/types.h>

/* What setrlimit(2) is to allow the daemon. */
struct spawn_limit {
	int resource;
	unsigned long long value;
};

struct spawn {
	/* $TMPDIR/hbmd-test.XXXXXX; in /tmp where there is none, or its name is long */
	char dir[64];
	char socket[96]; /* dir/sock */
	char nvme[96];   /* dir/nvme */
	char log[96];    /* dir/log */
	pid_t pid;       /* 0 when it does not run */
	/* of the build, or with its whole path, instead of hbmd; NULL: none */
	const char *program;
	/* of hbmd --keeper, whose pid is `pid` then (keeper_rig.h), NULL-terminated, the
	 * test's own; NULL: there is none */
	const char *const *keeper_options;
	const struct spawn_limit *limit; /* the test's own; NULL: none */
	/* > 0: a listening socket to hand over at the start, as systemd does; the
	 * test's own */
	int listener;
	/* > 0: one more descriptor to hand over beside it, named "extra"; the test's
	 * own */
	int extra;
};

/* Makes the folder. The daemon is not started. */
void spawn_init(struct spawn *spawn);
/* What another process has started in that folder: to connect to, and to ask. */
void spawn_of(struct spawn *spawn, const char *dir);
/* Starts the daemon with `sets` (NULL-terminated "section.key=value", on top of small
 * defaults: one soft device of 256 MiB, 16 MiB of HBM cache, 32 MiB of DDR, NVMe of 64
 * MiB in the folder) and environment assignments (NULL-terminated, may be NULL), and
 * waits until it answers and all tiers are in service. */
void spawn_start(struct spawn *spawn, const char *const *sets, const char *const *env);
/* The same without waiting for anything. */
void spawn_launch(struct spawn *spawn, const char *const *sets, const char *const *env);
void spawn_wait_warm(struct spawn *spawn);
/* Skips the test where the device is real: for what no settings of the daemon tell. */
void spawn_needs_soft(void);
/* After spawn_launch(): -1 as soon as it is in service with all tiers, or the exit status
 * if it ended before. */
int spawn_try_warm(struct spawn *spawn);
/* SIGTERM; the exit status, or 128 + signal. */
int spawn_stop(struct spawn *spawn);
/* Waits for it to end by itself. */
int spawn_wait(struct spawn *spawn);
void spawn_kill(struct spawn *spawn); /* SIGKILL, and reaped */
/* Stops what runs and removes the folder; fails the test if anything but what a daemon
 * may leave is in it. */
void spawn_free(struct spawn *spawn);

/* A connection to it; fails the test if there is none. */
struct hbm *spawn_connect(const struct spawn *spawn);
/* Whether every account and limit of hbmctl verify balances; prints those that do not. */
bool spawn_balanced(const struct spawn *spawn);
/* Waits until nothing moves, nothing is leased and nothing is quarantined: fails the test
 * after 20 s. */
void spawn_settle(const struct spawn *spawn);
void spawn_status(const struct spawn *spawn, struct hbm_wire_status *status);
/* Whether the log contains a text. */
bool spawn_logged(const struct spawn *spawn, const char *text);
/* How many lines of the log contain a text. */
unsigned spawn_log_lines(const struct spawn *spawn, const char *text);
void spawn_forget_log(const struct spawn *spawn); /* between two runs */
void spawn_show_log(const struct spawn *spawn);
/* Path of a built file: name in $HBM_BUILD, if it is no whole path. Static buffer. */
const char *spawn_path(const char *name);
/* Runs hbmctl against it with arguments (NULL-terminated): exit status; its output, at
 * most size - 1 bytes, in out. */
int spawn_hbmctl(const struct spawn *spawn, const char *const *arguments, char *out, size_t size);
/* The same as another user, who needs no access to the build; as root. */
int spawn_hbmctl_as(const struct spawn *spawn, uid_t uid, const char *const *arguments, char *out,
		    size_t size);
/* Open descriptors of the daemon at rest, without those of a driver that keeps its own
 * (leaks.h): it has seen that nobody is connected any more, and has made slabs ahead of
 * all device memory that is free (of at most 1 GiB). A slab of the soft device counts
 * once for each 2 MiB of it. Fails the test after 20 s. */
unsigned spawn_fds(const struct spawn *spawn);
/* Fails after 20 s, and shows them, unless there are so many. */
void spawn_expect_fds(const struct spawn *spawn, unsigned fds);
