/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: the same tests of what it watches for both engines, then what only one of
 * them can get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "tests/support/loop_rig.h"

#define MS UINT64_C(1000000)

static void stop_at(struct timer *timer)
{
	(void)timer;
	loop_stop(loop);
}

/* Runs the loop until somebody stops it, or for so long. */
static void run_for(uint64_t ns)
{
	struct timer timer = {.fire = stop_at};
	loop_timer_set(loop, &timer, clock_now() + ns);
	assert_int_equal(loop_run(loop), 0);
	loop_timer_stop(loop, &timer);
}

/* A watch that counts its calls and does one thing. */
struct seer {
	struct watch watch;
	int other; /* the other end of watch.fd */
	unsigned calls, left;
	uint32_t events; /* last seen */
	struct seer *victim;
};

static void seer_open(struct seer *seer, void (*ready)(struct watch *, uint32_t), uint32_t events)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends),
			 0);
	*seer = (struct seer){.watch = {.fd = ends[0], .events = events, .ready = ready},
			      .other = ends[1]};
	assert_int_equal(loop_watch(loop, &seer->watch), 0);
}

static void seer_close(struct seer *seer)
{
	loop_unwatch(loop, &seer->watch);
	close(seer->watch.fd);
	if (seer->other >= 0)
		close(seer->other);
}

static void say(const struct seer *seer, const char *text)
{
	assert_int_equal(write(seer->other, text, strlen(text)), strlen(text));
}

static struct seer *note(struct watch *watch, uint32_t events)
{
	struct seer *seer = container_of(watch, struct seer, watch);
	seer->calls++;
	seer->events = events;
	return seer;
}

static void see(struct watch *watch, uint32_t events)
{
	note(watch, events);
}

static void see_and_stop(struct watch *watch, uint32_t events)
{
	note(watch, events);
	loop_stop(loop);
}

static void read_one_byte(struct watch *watch, uint32_t events)
{
	struct seer *seer = note(watch, events);
	char byte;
	assert_int_equal(read(watch->fd, &byte, 1), 1);
	if (--seer->left == 0)
		loop_stop(loop);
}

static void test_level_triggered(void **state)
{
	(void)state;
	struct seer seer;
	seer_open(&seer, read_one_byte, POLLIN);
	say(&seer, "abcdef");
	seer.left = 6;
	loop_rig_run();
	assert_int_equal(seer.calls, 6);
	assert_int_equal(seer.events, POLLIN);
	run_for(5 * MS);
	assert_int_equal(seer.calls, 6);
	say(&seer, "gh");
	seer.left = 2;
	loop_rig_run();
	assert_int_equal(seer.calls, 8);
	seer_close(&seer);
}

static void test_watch_refuses(void **state)
{
	(void)state;
	struct watch watch = {.fd = 987654, .events = POLLIN, .ready = see};
	assert_int_equal(loop_watch(loop, &watch), -EBADF);
	assert_null(watch.private);
	loop_unwatch(loop, &watch);
	struct seer seer;
	seer_open(&seer, see, POLLIN);
	assert_int_equal(loop_watch(loop, &seer.watch), -EEXIST);
	seer_close(&seer);
}

static void unwatch_and_free(struct watch *watch, uint32_t events)
{
	struct seer *seer = note(watch, events);
	seer_close(seer);
	memset(seer, 0xa5, sizeof(*seer));
	free(seer);
	loop_stop(loop);
}

static void test_unwatch_in_own_callback(void **state)
{
	(void)state;
	struct seer *seer = malloc(sizeof(*seer));
	seer_open(seer, unwatch_and_free, POLLIN);
	say(seer, "x");
	loop_rig_run();
	run_for(5 * MS);
}

static void unwatch_victim(struct watch *watch, uint32_t events)
{
	struct seer *seer = note(watch, events), *victim = seer->victim;
	char byte;

	assert_int_equal(read(watch->fd, &byte, 1), 1);

	/* Whichever is called first takes the other away. */
	victim->victim = NULL;
	seer_close(victim);
	memset(victim, 0xa5, sizeof(*victim));
	free(victim);
	seer->victim = NULL;
	loop_stop(loop);
}

static void test_unwatch_another_of_the_same_batch(void **state)
{
	(void)state;
	struct seer *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
	seer_open(a, unwatch_victim, POLLIN);
	seer_open(b, unwatch_victim, POLLIN);
	a->victim = b;
	b->victim = a;
	run_for(2 * MS); /* armed both; now both become ready before the loop looks */
	say(a, "x");
	say(b, "x");
	loop_rig_run();
	run_for(5 * MS);

	/* One of the two is left: the one that was called. Engines may differ in which. */
	struct seer *left = a->calls == 1 ? a : b;
	assert_int_equal(left->calls, 1);
	seer_close(left);
	free(left);
}

static void test_rewatch(void **state)
{
	(void)state;
	struct seer seer;
	seer_open(&seer, see_and_stop, 0);
	say(&seer, "x");
	run_for(5 * MS);
	assert_int_equal(seer.calls, 0);

	/* While armed. */
	assert_int_equal(loop_rewatch(loop, &seer.watch, POLLIN), 0);
	loop_rig_run();
	assert_int_equal(seer.events, POLLIN);
	assert_int_equal(loop_rewatch(loop, &seer.watch, POLLOUT), 0);
	loop_rig_run();
	assert_int_equal(seer.events, POLLOUT);

	/* Several times before the loop looks: the last counts. */
	assert_int_equal(loop_rewatch(loop, &seer.watch, POLLIN), 0);
	assert_int_equal(loop_rewatch(loop, &seer.watch, 0), 0);
	assert_int_equal(loop_rewatch(loop, &seer.watch, POLLIN | POLLOUT), 0);
	assert_int_equal(loop_rewatch(loop, &seer.watch, 0), 0);
	unsigned before = seer.calls;
	run_for(5 * MS);
	assert_int_equal(seer.calls, before);
	seer_close(&seer);
}

static void test_unwatch_after_rewatch(void **state)
{
	(void)state;
	struct seer seer;
	seer_open(&seer, see, POLLIN);
	run_for(2 * MS);
	assert_int_equal(loop_rewatch(loop, &seer.watch, POLLOUT), 0);
	loop_unwatch(loop, &seer.watch);
	assert_null(seer.watch.private);
	say(&seer, "x");
	run_for(5 * MS);
	assert_int_equal(seer.calls, 0);
	assert_int_equal(loop_watch(loop, &seer.watch), 0);
	run_for(2 * MS);
	assert_int_not_equal(seer.calls, 0);
	seer_close(&seer);
}

static void test_hang_up_is_always_seen(void **state)
{
	(void)state;
	struct seer seer;
	seer_open(&seer, see_and_stop, 0);
	run_for(2 * MS);
	close(seer.other);
	seer.other = -1;
	loop_rig_run();
	assert_true(seer.events & POLLHUP);
	seer_close(&seer);
}

/* The other end stops writing: no event, unless POLLIN is asked for. */
static void test_half_closed(void **state)
{
	(void)state;
	struct seer seer;
	seer_open(&seer, see_and_stop, 0);
	run_for(2 * MS);
	assert_int_equal(shutdown(seer.other, SHUT_WR), 0);
	run_for(30 * MS);
	assert_int_equal(seer.calls, 0);
	assert_int_equal(loop_rewatch(loop, &seer.watch, POLLIN), 0);
	loop_rig_run();
	assert_int_equal(seer.events, POLLIN);
	assert_int_equal(loop_rewatch(loop, &seer.watch, 0), 0);
	run_for(5 * MS);
	close(seer.other);
	seer.other = -1;
	loop_rig_run();
	assert_true(seer.events & POLLHUP);
	assert_int_equal(loop_rewatch(loop, &seer.watch, 0), 0);
	seer_close(&seer);
}

static void test_descriptor_number_used_again(void **state)
{
	(void)state;
	struct seer first, second;
	seer_open(&first, see, POLLIN);
	run_for(2 * MS);
	int fd = first.watch.fd, keep = dup(fd);
	loop_unwatch(loop, &first.watch);
	close(fd);
	seer_open(&second, see_and_stop, POLLIN);
	assert_int_equal(second.watch.fd, fd);
	say(&first, "not for the second");
	run_for(5 * MS);
	assert_int_equal(first.calls + second.calls, 0);
	say(&second, "x");
	loop_rig_run();
	assert_int_equal(second.calls, 1);
	seer_close(&second);
	close(keep);
	close(first.other);
}

static void test_closing_after_unwatch_is_seen_by_the_other_side(void **state)
{
	(void)state;
	struct seer seer;
	char byte;
	seer_open(&seer, see, POLLIN);
	run_for(2 * MS);
	loop_unwatch(loop, &seer.watch);
	close(seer.watch.fd);
	run_for(2 * MS);
	assert_int_equal(read(seer.other, &byte, 1), 0);
	close(seer.other);
}

static void count_down(struct watch *watch, uint32_t events)
{
	static unsigned total;
	struct seer *seer = note(watch, events);
	uint64_t value;

	assert_int_equal(read(watch->fd, &value, sizeof(value)), sizeof(value));
	if (++total % seer->left == 0)
		loop_stop(loop);
}

static void test_many_watches(void **state)
{
	(void)state;
	enum { MANY = 700 };
	struct seer *seers = calloc(MANY, sizeof(*seers));
	for (int i = 0; i < MANY; i++) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_not_equal(fd, -1);
		seers[i] = (struct seer){.watch = {.fd = fd, .events = POLLIN, .ready = count_down},
					 .left = MANY};
		assert_int_equal(loop_watch(loop, &seers[i].watch), 0);
	}

	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < MANY; i++)
			assert_int_equal(eventfd_write(seers[i].watch.fd, 1), 0);
		loop_rig_run();
		for (int i = 0; i < MANY; i++)
			assert_int_equal(seers[i].calls, round);
	}

	for (int i = 0; i < MANY; i++) {
		loop_unwatch(loop, &seers[i].watch);
		close(seers[i].watch.fd);
	}

	free(seers);
}

static void test_freed_while_watching(void **state)
{
	struct loop_rig *rig = *state;
	struct seer armed, fresh;

	seer_open(&armed, see, POLLIN);
	run_for(2 * MS);
	seer_open(&fresh, see, POLLIN);
	assert_int_equal(loop_rewatch(loop, &armed.watch, POLLIN | POLLOUT), 0);
	loop_free(loop);
	close(armed.watch.fd);
	close(armed.other);
	close(fresh.watch.fd);
	close(fresh.other);
	loop = loop_rig_new(rig->engine); /* never run: this one must be freed as well */
}

static void *stop_from_thread(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void test_stop(void **state)
{
	(void)state;
	pthread_t thread;
	loop_stop(loop);
	loop_rig_run();
	assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, loop), 0);
	loop_rig_run();
	pthread_join(thread, NULL);
}

static void set_to_the_past(struct timer *timer)
{
	loop_timer_set(loop, timer, 1);
}

static void test_timer_set_to_the_past_starves_nobody(void **state)
{
	(void)state;
	struct timer timer = {.fire = set_to_the_past};
	struct seer seer;
	seer_open(&seer, see_and_stop, POLLIN);
	loop_timer_set(loop, &timer, 1);
	say(&seer, "x");
	loop_rig_run();
	assert_int_equal(seer.calls, 1);
	loop_timer_stop(loop, &timer);
	seer_close(&seer);
}

static void test_name(void **state)
{
	const struct loop_rig *rig = *state;
	assert_string_equal(loop_engine_name(loop),
			    rig->engine == LOOP_URING ? "io_uring" : "threads");
	assert_null(loop_fallback_reason(loop));
}

/* What has no engine, or one only. */

static void test_options_refused(void **state)
{
	(void)state;
	struct loop *none = NULL;
	assert_int_equal(loop_new(&none, &(struct loop_options){.io_depth = 0}), -EINVAL);
	assert_null(none);
	assert_null(loop_free(NULL));
}

static unsigned unseen;

static void see_once(struct watch *watch, uint32_t events)
{
	if (note(watch, events)->calls == 1 && --unseen == 0)
		loop_stop(loop);
}

/* More completions at once than the ring has room for, and for ever: none may be lost,
 * none may starve. */
static void test_completions_overflow(void **state)
{
	(void)state;
	enum { MANY = 6000 };
	struct seer *seers = calloc(MANY, sizeof(*seers));
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (int i = 0; i < MANY; i++) {
		seers[i].watch = (struct watch){.fd = fd, .events = POLLIN, .ready = see_once};
		assert_int_equal(loop_watch(loop, &seers[i].watch), 0);
	}

	run_for(2 * MS);
	unseen = MANY;
	assert_int_equal(eventfd_write(fd, 1), 0);
	loop_rig_run();
	for (int i = 0; i < MANY; i++)
		loop_unwatch(loop, &seers[i].watch);
	close(fd);
	free(seers);
}

/* In a child that may not use io_uring: 0 if the loop noticed and said so. */
static int without_io_uring(void)
{
	struct sock_filter refuse_setup[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = refuse_setup};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 2;

	struct loop *fallback;
	if (loop_new(&fallback, &(struct loop_options){.engine = LOOP_URING, .io_depth = 1}) !=
	    -EPERM)
		return 3;

	if (loop_new(&fallback, &(struct loop_options){.engine = LOOP_AUTO, .io_depth = 1}) < 0)
		return 4;
	if (strcmp(loop_engine_name(fallback), "threads") != 0)
		return 5;
	if (!strstr(loop_fallback_reason(fallback), "forbidden"))
		return 6;

	loop_free(fallback);

	return 0;
}

static void test_auto_falls_back(void **state)
{
	(void)state;
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(without_io_uring());

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_name),
		LOOP_RIG_BOTH(test_level_triggered),
		LOOP_RIG_BOTH(test_watch_refuses),
		LOOP_RIG_BOTH(test_unwatch_in_own_callback),
		LOOP_RIG_BOTH(test_unwatch_another_of_the_same_batch),
		LOOP_RIG_BOTH(test_rewatch),
		LOOP_RIG_BOTH(test_unwatch_after_rewatch),
		LOOP_RIG_BOTH(test_hang_up_is_always_seen),
		LOOP_RIG_BOTH(test_half_closed),
		LOOP_RIG_BOTH(test_descriptor_number_used_again),
		LOOP_RIG_BOTH(test_closing_after_unwatch_is_seen_by_the_other_side),
		LOOP_RIG_BOTH(test_many_watches),
		LOOP_RIG_BOTH(test_freed_while_watching),
		LOOP_RIG_BOTH(test_stop),
		LOOP_RIG_BOTH(test_timer_set_to_the_past_starves_nobody),
		LOOP_RIG_WITH(test_completions_overflow, loop_rig_uring),
		cmocka_unit_test(test_options_refused),
		cmocka_unit_test(test_auto_falls_back),
	};
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));

	return cmocka_run_group_tests(tests, NULL, NULL);
}
