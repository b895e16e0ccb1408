/* SPDX-License-Identifier: Apache-2.0 */
/* store_rig: see store_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/fdpass.h"
#include "daemon/service/keeper_message.h"
#include "daemon/service/keeper_socket.h"
#include "daemon/service/keeper_store.h"
#include "daemon/state/keep.h"
#include "tests/support/store_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define ANSWER_US 20000000ull

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	int socket;
	struct keeper_store store;
} rig = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Whether there is more to come. */
static bool hear(void)
{
	char text[KEEPER_TEXT_MAX];
	struct keeper_message message;
	struct fdpass_fds fds;
	struct pollfd poller = {.fd = rig.socket, .events = POLLIN};

	poll(&poller, 1, -1);
	ssize_t n = fdpass_receive(rig.socket, text, sizeof(text), &fds, 0);
	if (n < 0 || !keeper_message_parse(&message, text, (size_t)n))
		return true;

	pthread_mutex_lock(&rig.lock);
	if (message.drop)
		keeper_store_drop(&rig.store, message.name);
	if (message.store)
		keeper_store_put(&rig.store, message.name, fds.list, fds.count);
	else
		fdpass_close(&fds);
	pthread_mutex_unlock(&rig.lock);

	return !message.stopping;
}

static void *listen_to_it(void *arg)
{
	while (hear())
		;
	return arg;
}

void store_rig_open(void)
{
	char address[KEEPER_ADDRESS_BYTES];

	keep_forget();
	assert_int_equal(keeper_socket_open(&rig.socket, address), 0);
	setenv("NOTIFY_SOCKET", address, 1);
	store_rig_limit(KEEPER_STORE_MAX);
	assert_int_equal(pthread_create(&rig.thread, NULL, listen_to_it, NULL), 0);
}

void store_rig_close(void)
{
	sd_notify(0, "STOPPING=1");
	pthread_join(rig.thread, NULL);
	keeper_store_clear(&rig.store);
	keep_forget();
	close(rig.socket);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("FDSTORE");
}

void store_rig_limit(size_t limit)
{
	char text[32];
	snprintf(text, sizeof(text), "%zu", limit);
	setenv("FDSTORE", text, 1);
}

void store_rig_next(void)
{
	char name[KEEPER_NAME_BYTES];

	keep_forget();
	for (size_t i = 0; i < rig.store.count; i++) {
		int fd = fcntl(rig.store.fds[i], F_DUPFD_CLOEXEC, 0);
		assert_true(fd >= 0);
		snprintf(name, sizeof(name), "%s", rig.store.names[i]);
		assert_int_equal(keep_came_back(name, fd), 0);
	}
}

void store_rig_settle(void)
{
	assert_true(sd_notify_barrier(0, ANSWER_US) > 0);
}

void store_rig_pause(bool paused)
{
	if (paused)
		pthread_mutex_lock(&rig.lock);
	else
		pthread_mutex_unlock(&rig.lock);
}

size_t store_rig_count(void)
{
	store_rig_settle();
	return rig.store.count;
}
