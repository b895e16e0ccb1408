/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: another process of a test that uses a device: a client to be killed, or one
 * whose calls fail. It is this program, started anew, because a process that was forked
 * by one that has used a driver can do nothing with it. What it is to do is one of the
 * test's parts; what it knows is the daemon and a number.
 *
 * 	static void live(const struct spawn *spawn, uint64_t number) { ... }
 * 	static const struct child_part parts[] = {{"live", live}, {NULL, NULL}};
 *
 * 	child_start(&child, "live", &daemon_, 5);	in a test
 * 	child_await(&child);				until live() has called child_tell()
 * 	assert_int_equal(child_kill(&child), 128 + SIGKILL);
 *
 * 	int main(int argc, char **argv)
 * 	{
 * 		child_main(argc, argv, parts);		returns only where this is no child
 * 		...
 *
 * A child dies with the test.
 */
#pragma once

#include "tests/support/spawn.h"

#include <stdint.h>
#include <sys/types.h>

struct child {
	pid_t pid; /* 0: none */
	int ear;   /* what it tells arrives here */
};

struct child_part {
	const char *name; /* NULL ends a list of them */
	void (*play)(const struct spawn *spawn, uint64_t number);
};

/* First in main(): in a child, plays its part and exits with 0 where that returns;
 * elsewhere does nothing. */
void child_main(int argc, char **argv, const struct child_part *parts);

/* The part sees the daemon's folder, socket and files, but not its pid or listener. To be
 * paired with child_wait() or child_kill(). */
void child_start(struct child *child, const char *part, const struct spawn *spawn, uint64_t number);
/* In a part: as often as its test awaits it. Starting a driver may have taken seconds:
 * what is timed begins here. */
void child_tell(void);
/* Waits for one child_tell(). Fails the test if the child ends instead, or is silent for
 * a minute. */
void child_await(struct child *child);
/* Waits for its end: the exit status, or 128 + signal. */
int child_wait(struct child *child);
int child_kill(struct child *child); /* SIGKILL, and the same */
