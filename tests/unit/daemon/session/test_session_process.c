/* SPDX-License-Identifier: Apache-2.0 */
/* A session and the process of its client: memory is quarantined until that process is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/device/device.h"
#include "daemon/region/commit.h"
#include "daemon/region/slab.h"
#include "daemon/session/session.h"
#include "tests/support/region_rig.h"
#include "tests/support/session_rig.h"

struct process {
	pid_t pid;
	int orders; /* a byte makes it close its socket; the end of file makes it end */
};

static void be_a_client(int listener, int orders)
{
	char byte;
	struct sockaddr_un address;
	socklen_t size = sizeof(address);

	getsockname(listener, (struct sockaddr *)&address, &size);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	connect(fd, (struct sockaddr *)&address, size);
	while (read(orders, &byte, 1) == 1)
		close(fd);
	_exit(0);
}

/* A session of another process, connected. */
static struct process spawn_client(struct session_rig *rig)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), orders[2];

	/* The kernel picks an abstract name. */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(orders[1]);
		be_a_client(listener, orders[0]);
	}

	close(orders[0]);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	close(listener);
	assert_int_equal(session_open(&rig->session, &rig->owner, fd, 2), 0);
	assert_int_equal(rig->session->pid, pid);

	return (struct process){pid, orders[1]};
}

/* Leases 8 MiB to the session. */
static void lease_some(struct session_rig *rig)
{
	struct region_outcome outcome = {0};

	assert_int_equal(region_create(&rig->session->regions, &rig->pool.devices->list[0],
				       16 * MIB, 0, region_rig_region_over, &outcome),
			 HBM_OK);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	struct hbm_wire_range range = {.region = region_id(outcome.region), .bytes = 8 * MIB};
	struct commit *commit;
	assert_int_equal(commit_new(&commit, &rig->session->regions, &range, 1), HBM_OK);
	outcome.over = false;
	commit_start(commit, region_rig_op_over, &outcome);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_OK);
	commit_free(commit);
}

static struct slabs_books books(const struct session_rig *rig)
{
	return slabs_books(rig->pool.devices->list[0].slabs);
}

static void a_killed_clients_memory_comes_back(void **state)
{
	struct session_rig *rig = *state;
	struct process process = spawn_client(rig);

	lease_some(rig);
	assert_int_equal(books(rig).leased, 8 * MIB);
	assert_int_equal(kill(process.pid, SIGKILL), 0);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(books(rig).leased + books(rig).quarantined, 0);
	assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
	close(process.orders);
}

static void memory_is_quarantined_while_the_process_lives(void **state)
{
	struct session_rig *rig = *state;
	struct process process = spawn_client(rig);

	lease_some(rig);
	assert_int_equal(write(process.orders, "", 1), 1);
	pool_run(&rig->pool, session_rig_is_dead, rig);
	session_rig_idle(rig);
	assert_int_equal(books(rig).quarantined, 8 * MIB);
	assert_int_equal(rig->freed, 0);
	close(process.orders);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(books(rig).quarantined, 0);
	assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
}

static void draining_does_not_wait_for_processes(void **state)
{
	struct session_rig *rig = *state;
	struct process process = spawn_client(rig);

	lease_some(rig);
	session_drain(rig->session);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	close(process.orders);
	assert_int_equal(waitpid(process.pid, NULL, 0), process.pid);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, session_rig_setup, session_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_killed_clients_memory_comes_back),
		TEST(memory_is_quarantined_while_the_process_lives),
		TEST(draining_does_not_wait_for_processes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
