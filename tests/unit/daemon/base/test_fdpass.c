/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors over a socket: what is sent arrives, close-on-exec; whatever does not fit
 * is closed, not leaked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <hbm/wire.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "tests/support/leaks.h"

struct pair {
	struct leaks leaks;
	int ends[2];
	int event; /* something to send */
};

static int setup(void **state)
{
	static struct pair pair;

	leaks_begin(&pair.leaks);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.ends), 0);
	pair.event = eventfd(0, EFD_CLOEXEC);
	assert_true(pair.event >= 0);
	*state = &pair;

	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	close(pair->ends[0]);
	close(pair->ends[1]);
	close(pair->event);
	assert_int_equal(leaks_end(&pair->leaks), 0);

	return 0;
}

static int send_fds(const struct pair *pair, size_t count)
{
	int fds[HBM_WIRE_FDS_MAX];
	for (size_t i = 0; i < count; i++)
		fds[i] = pair->event;
	struct iovec iov[2] = {{(char[]){"he"}, 2}, {(char[]){"llo"}, 3}};
	return fdpass_send(pair->ends[0], iov, 2, fds, count);
}

static void bytes_and_fds_arrive(void **state)
{
	struct pair *pair = *state;
	for (size_t count = 0; count <= HBM_WIRE_FDS_MAX; count += count < 5 ? 1 : 31) {
		char bytes[16] = "";
		struct fdpass_fds got;

		assert_int_equal(send_fds(pair, count), 0);
		assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), &got, 0), 5);
		assert_string_equal(bytes, "hello");
		assert_int_equal(got.count, count);
		assert_false(got.lost);
		struct stat sent, received;
		assert_int_equal(fstat(pair->event, &sent), 0);

		for (size_t i = 0; i < got.count; i++) {
			assert_int_equal(fstat(got.list[i], &received), 0);
			assert_int_equal(received.st_ino, sent.st_ino);
			assert_int_equal(fcntl(got.list[i], F_GETFD), FD_CLOEXEC);
		}

		fdpass_close(&got);
	}
}

/* Somebody takes one of them, and closing leaves it alone. */
static void a_taken_fd_stays_open(void **state)
{
	struct pair *pair = *state;
	char bytes[16];
	struct fdpass_fds got;

	assert_int_equal(send_fds(pair, 3), 0);
	assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), &got, 0), 5);
	int taken = got.list[1];
	got.list[1] = -1;
	fdpass_close(&got);
	assert_int_equal(got.count, 0);
	assert_int_equal(close(taken), 0);
}

static void fds_where_none_may_be_are_an_error(void **state)
{
	struct pair *pair = *state;
	for (size_t count = 1; count < 4; count++) {
		char bytes[16];
		assert_int_equal(send_fds(pair, count), 0);
		assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0),
				 -EPROTO);
	}
}

/* The message arrives without them: none of the eight, though some of them would have
 * fitted. */
static void fds_lost_for_lack_of_room_are_reported(void **state)
{
	struct pair *pair = *state;
	struct rlimit before, tight;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	int lowest = dup(pair->event); /* the lowest free number; some above it may be taken */
	close(lowest);
	struct fdpass_fds got = {.lost = true};
	rlim_t room = 0;
	for (; got.lost; room++) {
		char bytes[16] = "";

		assert_int_equal(send_fds(pair, 8), 0);
		tight = (struct rlimit){(rlim_t)lowest + room, before.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
		ssize_t n = fdpass_receive(pair->ends[1], bytes, sizeof(bytes), &got, 0);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_int_equal(n, 5);
		assert_string_equal(bytes, "hello");
		assert_int_equal(got.count, got.lost ? 0 : 8);
		fdpass_close(&got);
	}

	assert_in_range(room, 9, 64); /* 0 to 7 were too few */
}

static void a_message_longer_than_room_is_an_error(void **state)
{
	struct pair *pair = *state;
	char bytes[4];
	struct fdpass_fds got;

	assert_int_equal(send_fds(pair, 2), 0);
	assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), &got, 0), -EMSGSIZE);
	assert_int_equal(got.count, 0);
}

static void *send_late(void *arg)
{
	usleep(1000);
	assert_int_equal(send_fds(arg, 0), 0);
	return NULL;
}

/* Whichever of the two is first. */
static void waiting_ends_with_a_message(void **state)
{
	struct pair *pair = *state;
	pthread_t sender;
	char bytes[16];

	assert_int_equal(pthread_create(&sender, NULL, send_late, pair), 0);
	assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, FDPASS_WAIT), 5);
	assert_int_equal(pthread_join(sender, NULL), 0);
}

static void neither_end_blocks(void **state)
{
	struct pair *pair = *state;
	char bytes[1024] = "";

	assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0), -EAGAIN);
	struct iovec iov = {bytes, sizeof(bytes)};
	int r, sent = 0;
	while ((r = fdpass_send(pair->ends[0], &iov, 1, NULL, 0)) == 0)
		sent++;
	assert_int_equal(r, -EAGAIN);
	assert_in_range(sent, 1, 100000);
}

static void the_largest_message_fits(void **state)
{
	struct pair *pair = *state;
	static char bytes[HBM_WIRE_MESSAGE_MAX];
	struct iovec iov = {bytes, sizeof(bytes)};

	assert_int_equal(fdpass_send(pair->ends[0], &iov, 1, NULL, 0), 0);
	assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0),
			 HBM_WIRE_MESSAGE_MAX);
}

static ssize_t receive_foreign(const struct pair *pair, size_t room, struct fdpass_fds *fds)
{
	char bytes[16];

	assert_true(room <= sizeof(bytes));

	return fdpass_receive_foreign(pair->ends[1], bytes, room, fds);
}

/* All that came are the receiver's, whatever else is wrong with the message. */
static void foreign_fds_are_all_received(void **state)
{
	static const size_t counts[] = {0, 1, 2, HBM_WIRE_FDS_MAX};
	const struct pair *pair = *state;
	struct fdpass_fds fds;

	for (size_t i = 0; i < 2 * sizeof(counts) / sizeof(counts[0]); i++) {
		bool fits = i % 2 == 0;

		assert_int_equal(send_fds(pair, counts[i / 2]), 0);
		assert_int_equal(receive_foreign(pair, fits ? 5 : 4, &fds), fits ? 5 : -EMSGSIZE);
		assert_int_equal(fds.count, counts[i / 2]);
		assert_false(fds.lost);
		for (size_t fd = 0; fd < fds.count; fd++)
			assert_int_equal(fcntl(fds.list[fd], F_GETFD), FD_CLOEXEC);
		fdpass_close(&fds);
	}

	assert_int_equal(receive_foreign(pair, 16, &fds), -EAGAIN);
	assert_int_equal(fds.count, 0);
}

static void foreign_fds_that_are_lost_are_reported(void **state)
{
	struct rlimit before, none;
	struct fdpass_fds fds;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(send_fds(*state, 1), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	ssize_t size = receive_foreign(*state, 16, &fds);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(size, 5);
	assert_int_equal(fds.count, 0);
	assert_true(fds.lost);
}

static void a_closed_peer_is_seen(void **state)
{
	struct pair *pair = *state;
	char bytes[16];
	assert_int_equal(shutdown(pair->ends[0], SHUT_RDWR), 0);
	assert_int_equal(fdpass_receive(pair->ends[1], bytes, sizeof(bytes), NULL, 0), 0);
	assert_int_equal(send_fds(pair, 1), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(bytes_and_fds_arrive, setup, teardown),
		cmocka_unit_test_setup_teardown(a_taken_fd_stays_open, setup, teardown),
		cmocka_unit_test_setup_teardown(fds_where_none_may_be_are_an_error, setup,
						teardown),
		cmocka_unit_test_setup_teardown(fds_lost_for_lack_of_room_are_reported, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_message_longer_than_room_is_an_error, setup,
						teardown),
		cmocka_unit_test_setup_teardown(waiting_ends_with_a_message, setup, teardown),
		cmocka_unit_test_setup_teardown(neither_end_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(the_largest_message_fits, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_fds_are_all_received, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_fds_that_are_lost_are_reported, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_closed_peer_is_seen, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
