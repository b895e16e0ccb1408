/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of an earlier daemon: what becomes of their records, and who may go on with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ledger/ledger.h"
#include "daemon/session/session.h"
#include "daemon/session/session_away.h"
#include "daemon/session/session_kept.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"
#include "tests/support/session_rig.h"

static int setup(void **state)
{
	struct state_shape shapes[STATE_TABLES];

	session_rig_setup(state);
	struct session_rig *rig = *state;

	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){8, 1};
	shapes[STATE_SESSIONS] = (struct state_shape){sizeof(struct session_kept), 4};

	/* Nothing keeps what is parked: it is as good here. */
	rig->owner.survives = true;
	assert_int_equal(parking_open(&rig->owner.parking), 0);

	return state_new(&rig->owner.state, shapes);
}

static int teardown(void **state)
{
	struct session_rig *rig = *state;

	if (rig->client >= 0)
		close(rig->client);
	pool_run(&rig->pool, pool_is_quiet, &rig->pool);
	assert_int_equal(state_count(rig->owner.state, STATE_SESSIONS), 0);
	state_free(rig->owner.state);
	parking_close(rig->owner.parking);
	pool_close(&rig->pool);
	free(rig->owner.incoming);

	return 0;
}

/* ---- Records ---- */

static uint64_t boot_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The record of a session that this process had. */
static struct session_kept record_of(pid_t pid)
{
	return (struct session_kept){.id = 7,
				     .connected_ns = boot_now(),
				     .pid = (uint32_t)pid,
				     .uid = getuid(),
				     .gid = getgid(),
				     .token = "fifteen letters",
				     .name = "engine"};
}

static int restore(struct session_rig *rig, const struct session_kept *kept, uint64_t word)
{
	uint32_t index = state_add(rig->owner.state, STATE_SESSIONS, kept, word);

	assert_int_not_equal(index, STATE_NONE);

	return session_restore(&rig->session, &rig->owner, index);
}

/* The fence page as its client has it; its descriptors are the session's. */
static volatile uint64_t *restore_fences(struct session *session)
{
	size_t bytes = HBM_WIRE_FENCES * sizeof(uint64_t);
	int memfd = memfd_create("fences", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int socket[2];

	assert_int_equal(ftruncate(memfd, (off_t)bytes), 0);
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	volatile uint64_t *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socket), 0);
	close(socket[1]);
	session_restore_part(session, SESSION_AWAY_FENCES, memfd);
	session_restore_part(session, SESSION_AWAY_DOORBELL, socket[0]);

	return page;
}

static void unmap(volatile uint64_t *page)
{
	munmap((void *)(uintptr_t)page, HBM_WIRE_FENCES * sizeof(uint64_t));
}

static void a_session_is_kept_from_hello_until_it_is_freed(void **state)
{
	struct session_rig *rig = *state;

	session_rig_connect(rig);
	memcpy(rig->session->name, "engine", sizeof("engine"));
	assert_int_equal(session_keep(rig->session, true), HBM_OK);
	assert_int_equal(state_count(rig->owner.state, STATE_SESSIONS), 1);

	const struct session_kept *kept =
		state_body(rig->owner.state, STATE_SESSIONS, rig->session->kept);
	assert_int_equal(kept->id, rig->session->id);
	assert_int_equal(kept->pid, getpid());
	assert_int_equal(kept->uid, getuid());
	assert_string_equal(kept->name, "engine");
	assert_memory_equal(kept->token, rig->session->token, sizeof(kept->token));
	static const uint8_t none[HBM_WIRE_TOKEN_BYTES];
	assert_memory_not_equal(kept->token, none, sizeof(none));
	assert_false(session_kept_is_dead(rig->owner.state, rig->session->kept));

	/* Its record is there as long as something of it is. */
	session_ref(rig->session);
	session_end(rig->session);
	assert_true(session_kept_is_dead(rig->owner.state, rig->session->kept));
	session_unref(rig->session);
	assert_int_equal(rig->freed, 1);
	assert_int_equal(state_count(rig->owner.state, STATE_SESSIONS), 0);
}

static void a_client_that_does_not_come_back_has_no_token(void **state)
{
	struct session_rig *rig = *state;
	static const uint8_t none[HBM_WIRE_TOKEN_BYTES];

	session_rig_connect(rig);
	assert_int_equal(session_keep(rig->session, false), HBM_OK);
	assert_memory_equal(rig->session->token, none, sizeof(none));
	assert_false(session_survives(rig->session));
	session_end(rig->session);

	/* Nor has one of a daemon that is not kept. */
	close(rig->client);
	rig->owner.survives = false;
	session_rig_connect(rig);
	assert_int_equal(session_keep(rig->session, true), HBM_OK);
	assert_false(session_survives(rig->session));
	session_end(rig->session);
}

static void a_full_table_is_a_limit(void **state)
{
	struct session_rig *rig = *state;
	const struct session_kept other = record_of(getpid());
	uint32_t records[4];

	session_rig_connect(rig);
	for (int i = 0; i < 4; i++)
		records[i] = state_add(rig->owner.state, STATE_SESSIONS, &other, 0);

	assert_int_equal(session_keep(rig->session, true), HBM_LIMIT);
	session_end(rig->session);

	for (int i = 0; i < 4; i++)
		state_drop(rig->owner.state, STATE_SESSIONS, records[i]);
}

/* ---- Restoring ---- */

static void a_session_waits_for_its_client(void **state)
{
	struct session_rig *rig = *state;
	struct session_kept kept = record_of(getpid());

	kept.connected_ns -= 1000000; /* a millisecond before */
	assert_int_equal(restore(rig, &kept, 0), 0);
	volatile uint64_t *page = restore_fences(rig->session);
	session_restored(rig->session);

	assert_int_equal(rig->session->state, SESSION_AWAY);
	assert_int_equal(rig->session->id, 7);
	assert_int_equal(rig->session->pid, getpid());
	assert_string_equal(rig->session->name, "engine");
	assert_int_equal(ledger_used(&rig->session->payer, LEDGER_SESSIONS), 1);
	assert_int_equal(rig->died, 0);

	page[3] = 5;
	session_complete(rig->session, &(struct completion_fence){3, 0, 6}, 0);
	assert_int_equal(page[3], 6);
	unmap(page);

	session_end(rig->session);
	assert_int_equal(rig->freed, 1);
}

static void what_cannot_come_back_is_dead(void **state)
{
	struct session_rig *rig = *state;
	struct session_kept kept = record_of(getpid());

	/* Its fences are lost. */
	assert_int_equal(restore(rig, &kept, 0), 0);
	session_restored(rig->session);
	assert_int_equal(rig->freed, 1);

	/* It was dead. */
	assert_int_equal(restore(rig, &kept, 1), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	assert_int_equal(rig->freed, 2);

	/* It has no token. */
	memset(kept.token, 0, sizeof(kept.token));
	assert_int_equal(restore(rig, &kept, 0), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	assert_int_equal(rig->freed, 3);

	/* A page that could be cut. */
	kept = record_of(getpid());
	assert_int_equal(restore(rig, &kept, 0), 0);
	session_restore_part(rig->session, SESSION_AWAY_FENCES, memfd_create("fences", 0));
	session_restore_part(rig->session, SESSION_AWAY_DOORBELL, memfd_create("bell", 0));
	session_restored(rig->session);
	assert_int_equal(rig->freed, 4);
}

static void a_process_that_has_ended_has_no_session(void **state)
{
	struct session_rig *rig = *state;
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);

	assert_int_equal(waitpid(pid, NULL, 0), pid);
	const struct session_kept kept = record_of(pid);
	assert_int_equal(restore(rig, &kept, 0), -ESRCH);

	/* Another has its ID: it began later than the session. */
	struct session_kept other = record_of(getpid());
	other.connected_ns = 1;
	assert_int_equal(restore(rig, &other, 0), -ESRCH);

	/* Of another namespace of process IDs. */
	struct session_kept foreign = record_of(0);
	assert_int_equal(restore(rig, &foreign, 0), -ESRCH);
}

/* It may live: nothing that it has may be used again. */
static void a_process_that_cannot_be_looked_at_keeps_its_record(void **state)
{
	struct session_rig *rig = *state;
	const struct session_kept kept = record_of(getpid());
	struct rlimit limit, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int r = restore(rig, &kept, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(state_count(rig->owner.state, STATE_SESSIONS), 1);

	assert_int_equal(session_restore(&rig->session, &rig->owner,
					 state_next(rig->owner.state, STATE_SESSIONS, 0)),
			 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	assert_int_equal(rig->session->state, SESSION_AWAY);
	session_end(rig->session);
}

static void a_process_that_ends_ends_its_session(void **state)
{
	struct session_rig *rig = *state;
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}

	const struct session_kept kept = record_of(pid);
	assert_int_equal(restore(rig, &kept, 0), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	assert_int_equal(rig->session->state, SESSION_AWAY);
	session_rig_idle(rig);
	assert_int_equal(rig->freed, 0);

	kill(pid, SIGKILL);
	pool_run(&rig->pool, session_rig_is_freed, rig);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- Coming back ---- */

/* A client that has said HELLO, which is kept: its session is greeting. */
static struct request *greet(struct session_rig *rig, struct session **greeting)
{
	int ends[2];

	rig->park = true;
	rig->wanted = rig->arrived_count + 1;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(session_open(greeting, &rig->owner, ends[0], 99), 0);
	rig->client = ends[1];
	session_rig_hello(rig);
	pool_run(&rig->pool, session_rig_has_arrived, rig);
	rig->park = false;

	return container_of(list_pop_front(&rig->parked), struct request, link);
}

static void a_client_goes_on_with_its_session(void **state)
{
	struct session_rig *rig = *state;
	const struct session_kept kept = record_of(getpid());
	struct hbm_wire_header reply;
	struct session *greeting;

	assert_int_equal(restore(rig, &kept, 0), 0);
	volatile uint64_t *page = restore_fences(rig->session);
	session_restored(rig->session);

	struct request *request = greet(rig, &greeting);
	assert_true(session_may_return(rig->session, greeting, kept.token));
	assert_int_equal(session_return(rig->session, request), 0);
	request_reply(request, HBM_OK, NULL, 0);

	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_HELLO, 1, HBM_OK);
	pool_run(&rig->pool, session_rig_is_freed, rig); /* the greeting one */
	assert_int_equal(rig->session->state, SESSION_LIVE);

	/* It is awaited until it has said what it has, and then until it has opened what it had open;
	 * but not for ever. */
	assert_true(session_is_awaited(rig->session));
	rig->session->returned_ns = clock_now() - SESSION_RECONCILES_NS / 2;
	assert_true(session_is_awaited(rig->session));
	rig->session->returned_ns = clock_now() - SESSION_RECONCILES_NS;
	assert_false(session_is_awaited(rig->session));
	rig->session->returned = false;
	rig->session->returned_ns = clock_now() - SESSION_REOPENS_NS;
	assert_false(session_is_awaited(rig->session));
	rig->session->returned_ns = clock_now();
	assert_true(session_is_awaited(rig->session));

	/* It is used up. */
	assert_false(session_may_return(rig->session, rig->session, kept.token));

	session_rig_ping(rig, 5);
	session_rig_hear(rig, &reply, sizeof(reply), HBM_WIRE_PING, 5, HBM_OK);
	assert_int_equal(rig->session->requests, 1);

	/* It ends as any other. */
	close(rig->client);
	rig->client = -1;
	rig->freed = 0;
	pool_run(&rig->pool, session_rig_is_freed, rig);
	unmap(page);
}

static void nobody_else_goes_on_with_it(void **state)
{
	struct session_rig *rig = *state;
	const struct session_kept kept = record_of(getpid());
	uint8_t token[HBM_WIRE_TOKEN_BYTES];
	struct session *greeting;

	assert_int_equal(restore(rig, &kept, 0), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	struct request *request = greet(rig, &greeting);

	for (size_t bit = 0; bit < sizeof(token) * 8; bit++) {
		memcpy(token, kept.token, sizeof(token));
		token[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(session_may_return(rig->session, greeting, token));
	}

	greeting->uid++;
	assert_false(session_may_return(rig->session, greeting, kept.token));
	greeting->uid--;
	greeting->pid++;
	assert_false(session_may_return(rig->session, greeting, kept.token));
	greeting->pid--;
	assert_true(session_may_return(rig->session, greeting, kept.token));

	session_end(rig->session);
	request_refuse(request, HBM_NOT_FOUND, "none");
	rig->freed = 0;
	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_freed, rig);
}

/* The process has ended, and its pidfd was not looked at yet: another may have its ID. */
static void the_token_of_a_dead_process_is_stale(void **state)
{
	struct session_rig *rig = *state;
	struct session *greeting;
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}

	const struct session_kept kept = record_of(pid);
	assert_int_equal(restore(rig, &kept, 0), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	struct request *request = greet(rig, &greeting);
	greeting->pid = pid;
	assert_true(session_may_return(rig->session, greeting, kept.token));

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(rig->session->state, SESSION_AWAY);
	assert_false(session_may_return(rig->session, greeting, kept.token));

	session_end(rig->session);
	request_refuse(request, HBM_NOT_FOUND, "none");
	rig->freed = 0;
	close(rig->client);
	rig->client = -1;
	pool_run(&rig->pool, session_rig_is_freed, rig);
}

static void a_daemon_that_stops_ends_it(void **state)
{
	struct session_rig *rig = *state;
	const struct session_kept kept = record_of(getpid());

	assert_int_equal(restore(rig, &kept, 0), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	session_drain(rig->session);
	assert_int_equal(rig->freed, 1);

	/* And an operator. */
	assert_int_equal(restore(rig, &kept, 0), 0);
	unmap(restore_fences(rig->session));
	session_restored(rig->session);
	rig->freed = 0;
	session_break(rig->session, "an operator has ended it");
	pool_run(&rig->pool, session_rig_is_freed, rig);
}

#define RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG(a_session_is_kept_from_hello_until_it_is_freed),
		RIG(a_client_that_does_not_come_back_has_no_token),
		RIG(a_full_table_is_a_limit),
		RIG(a_session_waits_for_its_client),
		RIG(what_cannot_come_back_is_dead),
		RIG(a_process_that_has_ended_has_no_session),
		RIG(a_process_that_cannot_be_looked_at_keeps_its_record),
		RIG(a_process_that_ends_ends_its_session),
		RIG(a_client_goes_on_with_its_session),
		RIG(nobody_else_goes_on_with_it),
		RIG(the_token_of_a_dead_process_is_stale),
		RIG(a_daemon_that_stops_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
