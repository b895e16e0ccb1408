/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting: what goes out, every way the greeting can be wrong, and that nothing of a
 * failed connection stays. */
#include "tests/support/fakedaemon.h"
#include "tests/support/leaks.h"

#include <hbm/hbm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static struct fake fake;
static struct leaks leaks;

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	fake_open(&fake, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static int try_connect(struct hbm **out)
{
	struct hbm_options options = {.socket = fake.path, .name = "test"};
	return hbm_connect(out, &options);
}

static void test_the_greeting(void **state)
{
	(void)state;
	struct hbm *hbm;
	assert_int_equal(try_connect(&hbm), 0);
	fake_await(&fake, HBM_WIRE_HELLO, 1);
	const struct hbm_wire_hello *hello = fake.last;
	assert_int_equal(hello->header.size, sizeof(struct hbm_wire_hello_resume));
	assert_int_equal(hello->magic, HBM_WIRE_MAGIC);
	assert_string_equal(hello->name, "test");

	const struct hbm_info *info = hbm_info(hbm);
	assert_int_equal(info->session, 7);
	assert_int_equal(info->boot_id[1], 2);
	assert_int_equal(info->driver, HBM_DRIVER_SOFT);
	assert_int_equal(info->devices, FAKE_DEVICES);
	assert_int_equal(info->requests_in_flight, 64);
	assert_int_equal(info->regions, 16);
	assert_string_equal(hbm_error(hbm), "");
	assert_int_equal(fcntl(hbm_fd(hbm), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(hbm_ping(hbm), 0);
	assert_null(hbm_close(hbm));
}

static void test_names_and_the_environment(void **state)
{
	(void)state;
	struct hbm *hbm;
	setenv("HBM_SOCKET", fake.path, 1);
	assert_int_equal(hbm_connect(&hbm, NULL), 0);
	fake_await(&fake, HBM_WIRE_HELLO, 1);
	assert_string_equal(((struct hbm_wire_hello *)fake.last)->name,
			    program_invocation_short_name);
	hbm_close(hbm);

	char name[3 * HBM_WIRE_NAME_BYTES];
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	struct hbm_options options = {.name = name};
	assert_int_equal(hbm_connect(&hbm, &options), 0);
	fake_await(&fake, HBM_WIRE_HELLO, 2);
	assert_int_equal(strlen(((struct hbm_wire_hello *)fake.last)->name),
			 HBM_WIRE_NAME_BYTES - 1);
	hbm_close(hbm);
	unsetenv("HBM_SOCKET");
}

static void test_no_daemon(void **state)
{
	(void)state;
	struct hbm *untouched = (struct hbm *)8, *hbm = untouched;
	struct hbm_options options = {.socket = "/nonexistent/sock"};
	assert_int_equal(hbm_connect(&hbm, &options), -ENOENT);
	char path[200];
	memset(path, 'p', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	options.socket = path;
	assert_int_equal(hbm_connect(&hbm, &options), -ENAMETOOLONG);
	assert_ptr_equal(hbm, untouched);
}

static void test_a_stale_socket(void **state)
{
	(void)state;
	struct fake other;
	fake_open(&other, 0);
	char path[sizeof(other.path)];
	memcpy(path, other.path, sizeof(path));

	/* The file stays when only the listener goes. */
	char aside[sizeof(path) + 8];
	snprintf(aside, sizeof(aside), "%s.stale", fake.path);
	assert_int_equal(rename(path, aside), 0);
	fake_close(&other);
	struct hbm *hbm;
	struct hbm_options options = {.socket = aside};
	assert_int_equal(hbm_connect(&hbm, &options), -ECONNREFUSED);
	unlink(aside);
}

/* A listener whose queue is full. The alarms' handler makes room in it at the third, and
 * closes it at the fifth. */
static int full_listener;
static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
	(void)number;
	alarms++;

	if (alarms == 3)
		close(accept(full_listener, NULL, NULL));
	else if (alarms == 5)
		close(full_listener);
}

static int fill_queue(const struct sockaddr_un *address)
{
	full_listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(full_listener, (const struct sockaddr *)address, sizeof(*address)),
			 0);
	assert_int_equal(listen(full_listener, 0), 0);
	int first = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(first, (const struct sockaddr *)address, sizeof(*address)), 0);

	return first;
}

/* Waiting for a place in the queue, which signals do not end: for ever, or as long as was
 * wished. */
static void test_signals_while_connecting(void **state)
{
	(void)state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s.full", fake.path);
	int first = fill_queue(&address);
	struct hbm *hbm = NULL;
	struct hbm_options options = {.socket = address.sun_path, .answer_ms = 50};
	assert_int_equal(hbm_connect(&hbm, &options), -ETIMEDOUT);
	options.answer_ms = 0;
	struct sigaction old, action = {.sa_handler = on_alarm}; /* without SA_RESTART */
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	const struct itimerval often = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);

	int rc = hbm_connect(&hbm, &options);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	assert_int_equal(rc, -ENOTCONN);
	assert_in_range(alarms, 5, 1000);
	close(first);
	unlink(address.sun_path);
}

/* ---- Wrong greetings ---- */

enum wrong {
	RIGHT,
	WRONG_MAGIC,
	WRONG_VERSION,
	WRONG_PADDING,
	WRONG_DRIVER,
	TOO_MANY_DEVICES,
	WRONG_SIZE,
	HEADER_SIZE_LIES,
	SHORTER_THAN_A_HEADER,
	NEGATIVE_STATUS,
	NOT_A_REPLY,
	UNKNOWN_FLAG,
	GOES_ON,
	HEADER_PADDING,
	WRONG_OPCODE,
	WRONG_ID,
	NO_FDS,
	ONE_FD,
	THREE_FDS,
	PAGE_TOO_SMALL,
	PAGE_NOT_SEALED,
	PAGE_NOT_A_MEMFD,
	BELL_IS_A_FILE,
	BELL_IS_A_PIPE,
	BELL_BLOCKS,
	REFUSAL_WITH_A_BODY,
	WRONGS
};

static void wrong_fields(struct hbm_wire_hello_reply *reply, enum wrong wrong)
{
	switch (wrong) {
	case WRONG_MAGIC:
		reply->magic++;
		break;
	case WRONG_VERSION:
		reply->version++;
		break;
	case WRONG_PADDING:
		reply->zero = 1;
		break;
	case WRONG_DRIVER:
		reply->driver = 3;
		break;
	case TOO_MANY_DEVICES:
		reply->devices = HBM_WIRE_DEVICES_MAX + 1;
		break;
	case HEADER_SIZE_LIES:
		reply->header.size++;
		break;
	case NEGATIVE_STATUS:
		reply->header.status = -EIO;
		break;
	case NOT_A_REPLY:
		reply->header.flags = 0;
		break;
	case UNKNOWN_FLAG:
		reply->header.flags |= 4;
		break;
	case GOES_ON:
		reply->header.flags |= HBM_WIRE_MORE;
		break;
	case HEADER_PADDING:
		reply->header.zero = 1;
		break;
	case WRONG_OPCODE:
		reply->header.opcode = HBM_WIRE_PING;
		break;
	case WRONG_ID:
		reply->header.id++;
		break;
	case REFUSAL_WITH_A_BODY:
		reply->header.status = HBM_DENIED;
		break;
	default:
		break;
	}
}

/* Something else than an eventfd that does not block, in bells[1]. */
static bool make_bell(enum wrong wrong, int bells[2])
{
	if (wrong == BELL_IS_A_FILE)
		bells[1] = open("/dev/null", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	else if (wrong == BELL_IS_A_PIPE)
		assert_int_equal(pipe2(bells, O_CLOEXEC | O_NONBLOCK), 0);
	else if (wrong == BELL_BLOCKS)
		bells[1] = eventfd(0, EFD_CLOEXEC);
	return bells[1] >= 0;
}

static bool answer_wrong(struct fake *self, const struct hbm_wire_header *request)
{
	enum wrong wrong = *(enum wrong *)self->arg;

	if (request->opcode != HBM_WIRE_HELLO)
		return false;

	struct hbm_wire_hello_reply reply = {
		.header = {sizeof(reply), HBM_WIRE_HELLO, HBM_WIRE_REPLY, request->id, HBM_OK, 0},
		.magic = HBM_WIRE_MAGIC,
		.version = HBM_WIRE_VERSION,
		.driver = HBM_DRIVER_SOFT,
		.devices = 1,
	};
	wrong_fields(&reply, wrong);
	size_t size =
		wrong == SHORTER_THAN_A_HEADER ? 5 : sizeof(reply) - (wrong == WRONG_SIZE ? 8 : 0);
	if (wrong == WRONG_SIZE)
		reply.header.size -= 8;

	int fds[3] = {self->fences, self->doorbell, self->doorbell};
	size_t count = wrong == NO_FDS ? 0 : wrong == ONE_FD ? 1 : wrong == THREE_FDS ? 3 : 2;
	int page = -1;
	if (wrong == PAGE_TOO_SMALL)
		page = fake_page(64, F_SEAL_SHRINK | F_SEAL_GROW);
	else if (wrong == PAGE_NOT_SEALED)
		page = fake_page(8192, F_SEAL_GROW);
	else if (wrong == PAGE_NOT_A_MEMFD)
		page = open("/dev/zero", O_RDWR | O_CLOEXEC);

	if (page >= 0)
		fds[0] = page;

	int bells[2] = {-1, -1};
	if (make_bell(wrong, bells))
		fds[1] = bells[1];

	fake_send(self, &reply, size, fds, count);
	if (page >= 0)
		close(page);

	for (size_t i = 0; i < 2; i++)
		if (bells[i] >= 0)
			close(bells[i]);

	return true;
}

static void test_wrong_greetings(void **state)
{
	(void)state;
	enum wrong wrong;
	fake.answer = answer_wrong;
	fake.arg = &wrong;

	for (wrong = RIGHT; wrong < WRONGS; wrong++) {
		struct hbm *hbm = NULL;
		int rc = try_connect(&hbm);
		if (rc != (wrong == RIGHT ? 0 : -EPROTO))
			fail_msg("wrong greeting %d: hbm_connect() returned %d", (int)wrong, rc);
		hbm_close(hbm);
	}
}

static bool answer_refuse(struct fake *self, const struct hbm_wire_header *request)
{
	return fake_reply(self, request, HBM_LIMIT);
}

static bool answer_hang_up(struct fake *self, const struct hbm_wire_header *request)
{
	(void)request;
	fake_hang_up(self);
	return true;
}

static void test_refused_and_dropped(void **state)
{
	(void)state;
	struct hbm *hbm = NULL;
	fake.answer = answer_refuse;
	assert_int_equal(try_connect(&hbm), HBM_LIMIT);
	fake.answer = answer_hang_up;
	assert_int_equal(try_connect(&hbm), -ENOTCONN);
	assert_null(hbm);
}

static bool answer_nothing(struct fake *self, const struct hbm_wire_header *request)
{
	return request->opcode == *(_Atomic uint16_t *)self->arg;
}

static int ignore(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	(void)arg;
	return 0;
}

/* What only asks gives up a daemon that says nothing, and the connection with it; if that
 * was wished. */
static void test_a_daemon_that_does_not_answer(void **state)
{
	(void)state;
	struct hbm *hbm = NULL;
	struct hbm_options options = {.socket = fake.path, .answer_ms = 50};
	_Atomic uint16_t silent = HBM_WIRE_HELLO;
	fake.answer = answer_nothing;
	fake.arg = &silent;
	assert_int_equal(hbm_connect(&hbm, &options), -ETIMEDOUT);
	assert_null(hbm);

	silent = HBM_WIRE_QUERY;
	assert_int_equal(hbm_connect(&hbm, &options), 0);
	assert_int_equal(hbm_ping(hbm), 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, ignore, NULL), -ETIMEDOUT);
	assert_int_equal(hbm_ping(hbm), -ENOTCONN);
	hbm_close(hbm);

	options.answer_ms = UINT32_MAX; /* more than there is: for ever */
	silent = 0;
	assert_int_equal(hbm_connect(&hbm, &options), 0);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, ignore, NULL), 0);
	hbm_close(hbm);
}

static void test_close_of_nothing(void **state)
{
	(void)state;
	assert_null(hbm_close(NULL));
}

static void test_no_devices_for_inspection(void **state)
{
	(void)state;
	struct hbm *hbm;
	struct hbm_options options = {.socket = fake.path, .inspect_only = true};
	assert_int_equal(hbm_connect(&hbm, &options), 0);
	struct hbm_region *region;
	assert_int_equal(
		hbm_region_create(hbm, &(struct hbm_region_options){.address_space = 1}, &region),
		HBM_UNSUPPORTED);
	assert_string_not_equal(hbm_error(hbm), "");
	uint64_t address;
	assert_int_equal(hbm_fence_device(hbm, 0, 0, &address), HBM_UNSUPPORTED);
	hbm_close(hbm);
}

static void test_two_connections(void **state)
{
	(void)state;
	struct fake second;
	fake_open(&second, 0);
	struct hbm *a, *b;
	assert_int_equal(try_connect(&a), 0);
	struct hbm_options options = {.socket = second.path};
	assert_int_equal(hbm_connect(&b, &options), 0);
	fake_hang_up(&fake);
	assert_int_equal(hbm_ping(a), -ENOTCONN);
	assert_int_equal(hbm_ping(b), 0);
	hbm_close(a);
	hbm_close(b);
	fake_close(&second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_greeting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_and_the_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_stale_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals_while_connecting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_greetings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_and_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_daemon_that_does_not_answer, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_close_of_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_devices_for_inspection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_connections, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
