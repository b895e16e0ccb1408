/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_rig: a daemon of spawn.h under hbmd --keeper, to be killed, and started again with what
 * was kept. spawn->pid is the keeper's, so that spawn_stop() and spawn_free() end both.
 *
 * 	keeper_start(&daemon_, sets, env);		both serve
 * 	...
 * 	keeper_kill(&daemon_);				SIGKILL; the next one serves, all tiers in service
 * 	...
 * 	assert_int_equal(spawn_stop(&daemon_), 0);
 */
#pragma once

#include "tests/support/seed.h"
#include "tests/support/spawn.h"

/* As spawn_start() and spawn_launch(); with as many starts as there are kills, unless the test has
 * set spawn->keeper_options. */
void keeper_start(struct spawn *spawn, const char *const *sets, const char *const *env);
void keeper_launch(struct spawn *spawn, const char *const *sets, const char *const *env);
/* The daemon's pid; 0: none runs at the moment. */
pid_t keeper_daemon(const struct spawn *spawn);
/* SIGKILL to the daemon, without waiting for anything; nothing where none runs. */
void keeper_kill_now(const struct spawn *spawn);
/* The same within `most_us` from now, at a random moment. */
void keeper_kill_within(const struct spawn *spawn, struct seed *seed, unsigned most_us);
/* Waits until a daemon serves that is another process than `before`, with all tiers in
 * service. */
void keeper_await_next(struct spawn *spawn, pid_t before);
/* keeper_kill_now() and keeper_await_next(). */
void keeper_kill(struct spawn *spawn);
/* The daemon is ended by SIGTERM and started again, as for an upgrade. */
void keeper_renew(struct spawn *spawn);
/* The daemon as spawn_fds() and others that look at a process want it: a copy of spawn with its
 * pid, not to be started, stopped or freed. */
struct spawn keeper_view(const struct spawn *spawn);
/* How many descriptors the keeper has for the daemon, once the daemon is in service. */
unsigned keeper_stored(const struct spawn *spawn);
