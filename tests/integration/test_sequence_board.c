/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool shows of its sequences, and what it is asked: hbmctl sequences, suspend, resume. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/pool_rig.h"
#include "tests/support/stage.h"
#include "tests/support/system_calls.h"

#define ALARM_S 120

static struct pool_rig rig;
static unsigned fds;

static const struct hbm_pool_options usual = {
	.max_sequences = 8, .ahead_tokens = RIG_AHEAD, .warm_bytes = 64 * RIG_SLAB};

static void start_with(const struct hbm_pool_options *options, const char *setting)
{
	const char *const sets[] = {"device.memory=140MiB", setting, NULL};

	alarm(ALARM_S);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], options);
}

static void start(void)
{
	start_with(&usual, NULL);
}

static void finish(void)
{
	pool_rig_close(&rig);
	stage_finish(fds);
	alarm(0);
}

static uint64_t session(void)
{
	return hbm_info(hbm_pool_connection(rig.pool))->session;
}

/* What hbmctl says to a command about a sequence of the pool: its exit status. */
static int ctl(const char *command, uint64_t sequence, const char *option, char *out, size_t size)
{
	char word[64];

	snprintf(word, sizeof(word), "%llu/%llu", (unsigned long long)session(),
		 (unsigned long long)sequence);

	return spawn_hbmctl(&daemon_, (const char *[]){command, word, option, NULL}, out, size);
}

static json_t *ctl_document(const char *command, json_t **first)
{
	static char out[65536];

	assert_int_equal(
		spawn_hbmctl(&daemon_, (const char *[]){command, "--json", NULL}, out, sizeof(out)),
		0);
	json_t *document = json_loads(out, 0, NULL);
	assert_non_null(document);
	*first = json_array_get(json_object_get(document, command), 0);

	return document;
}

static json_int_t number_of(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value))
		fail_msg("\"%s\" is no integer", name);

	return json_integer_value(value);
}

/* ---- What is shown ---- */

static void test_fields(void **state)
{
	(void)state;
	start();
	const struct hbm_sequence_options options = {.expected = 20,
						     .max = 40,
						     .priority = -7,
						     .next_use = 1234567890123456789,
						     .name = "a name that is longer than 31 bytes"};
	struct hbm_sequence *sequence;
	json_t *record;

	assert_int_equal(hbm_sequence_open(rig.pool, &options, &sequence), 0);
	assert_int_equal(pool_rig_step(&rig, sequence, 9), 0);
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);

	json_t *document = ctl_document("sequences", &record);
	assert_int_equal(number_of(record, "session"), session());
	assert_int_equal(number_of(record, "sequence"), facts.number);
	assert_int_equal(number_of(record, "device"), 0);
	assert_int_equal(number_of(record, "tokens"), 9);
	assert_int_equal(number_of(record, "expected"), 20);
	assert_int_equal(number_of(record, "max"), 40);
	assert_int_equal(number_of(record, "own"), facts.mapped_bytes);
	assert_int_equal(number_of(record, "shared"), 0);
	assert_int_equal(number_of(record, "suspended"), 0);
	assert_int_equal(number_of(record, "priority"), -7);
	assert_string_equal(json_string_value(json_object_get(record, "next_use")),
			    "1234567890123456789");
	assert_string_equal(json_string_value(json_object_get(record, "state")), "open");
	assert_string_equal(json_string_value(json_object_get(record, "name")),
			    "a name that is longer than 31 b");
	const json_t *sums = json_object_get(document, "sums");
	assert_int_equal(number_of(sums, "sequences"), 1);
	assert_int_equal(number_of(sums, "suspended_sequences"), 0);
	assert_int_equal(number_of(sums, "tokens"), 9);
	assert_int_equal(number_of(sums, "expected"), 20);
	assert_int_equal(number_of(sums, "own"), facts.mapped_bytes);
	assert_int_equal(number_of(sums, "shared"), 0);
	assert_int_equal(number_of(sums, "suspended"), 0);
	json_decref(document);

	assert_int_equal(hbm_sequence_close(sequence), 0);
	document = ctl_document("sequences", &record);
	assert_null(record);
	json_decref(document);
	finish();
}

/* A step that has nothing to map makes no system call, and its tokens are seen. */
static void test_steps_are_seen_without_a_call(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);
	struct hbm_event event;

	assert_int_equal(pool_rig_step(&rig, sequence, 8), 0);
	assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);
	const uint64_t length = facts.ready - RIG_AHEAD;
	assert_true(length > 8);

	const bool counted = system_calls_begin();
	const int stepped = hbm_step(rig.pool, &sequence, &length, 1);
	const int told = hbm_pool_event(rig.pool, &event);
	if (counted)
		assert_int_equal(system_calls_end(), 0);
	assert_int_equal(stepped, 0);
	assert_int_equal(told, HBM_NOT_FOUND);
	assert_int_equal(pool_rig_shown(&rig, facts.number).tokens, length);

	assert_int_equal(hbm_sequence_truncate(sequence, 3), 0);
	assert_int_equal(pool_rig_shown(&rig, facts.number).tokens, 3);
	finish();
}

static void expect_shown(struct hbm_sequence *sequence, uint64_t own, uint64_t shared)
{
	const struct hbm_wire_sequence shown =
		pool_rig_shown(&rig, pool_rig_facts(sequence).number);

	assert_int_equal(shown.own, own);
	assert_int_equal(shown.shared, shared);
}

/* Shared is what others have too, for as long as they have it. */
static void test_shared_bytes(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *parent = pool_rig_sequence(&rig), *forks[2];

	assert_int_equal(pool_rig_step(&rig, parent, 40), 0);
	const uint64_t mapped = pool_rig_facts(parent).mapped_bytes;
	expect_shown(parent, mapped, 0);

	assert_int_equal(hbm_sequence_fork(parent, 2, forks), 0);
	assert_int_equal(hbm_pool_map_ahead(rig.pool), 0);
	const uint64_t shared = pool_rig_facts(parent).shared_bytes;
	assert_true(shared > 0);
	assert_int_equal(pool_rig_shared(&rig), 3 * shared);
	expect_shown(parent, mapped - shared, shared);
	for (unsigned i = 0; i < 2; i++)
		expect_shown(forks[i], pool_rig_facts(forks[i]).mapped_bytes - shared, shared);

	assert_int_equal(hbm_sequence_close(parent), 0);
	expect_shown(forks[0], pool_rig_facts(forks[0]).mapped_bytes - shared, shared);
	assert_int_equal(hbm_sequence_close(forks[1]), 0);
	expect_shown(forks[0], pool_rig_facts(forks[0]).mapped_bytes, 0);
	finish();
}

/* ---- What has happened ---- */

static void expect_events(const char *const *events)
{
	json_t *document, *list;
	static char out[65536];
	size_t count = 0;

	assert_int_equal(
		spawn_hbmctl(&daemon_, (const char *[]){"trace", "--json", NULL}, out, sizeof(out)),
		0);
	document = json_loads(out, 0, NULL);
	list = json_object_get(document, "events");
	for (json_int_t before = 0; events[count]; count++) {
		const json_t *event = json_array_get(list, count);

		assert_string_equal(json_string_value(json_object_get(event, "event")),
				    events[count]);
		assert_true(number_of(event, "time_ns") >= before);
		before = number_of(event, "time_ns");
		assert_int_equal(number_of(event, "session"), session());
	}
	assert_int_equal(json_array_size(list), count);
	json_decref(document);
}

static void test_events_are_in_the_trace(void **state)
{
	(void)state;
	start();
	const struct hbm_sequence_options options = {.expected = 8};
	struct hbm_sequence *sequence, *fork;
	struct hbm_switch *change;
	char out[4096];

	expect_events((const char *const[]){NULL});
	assert_int_equal(hbm_sequence_open(rig.pool, &options, &sequence), 0);
	assert_int_equal(pool_rig_step(&rig, sequence, 9), 0);
	assert_int_equal(hbm_sequences_suspend(rig.pool, &sequence, 1, HBM_TIER_DDR), 0);

	const struct hbm_switch_options back = {.in = &sequence, .in_count = 1};

	assert_int_equal(hbm_submit_switch(rig.pool, &back, &change), 0);
	const bool cancelled = hbm_switch_cancel(change) == 0;

	hbm_switch_wait(change, -1);
	if (cancelled)
		assert_int_equal(hbm_sequences_resume(rig.pool, &sequence, 1), 0);
	assert_int_equal(hbm_sequence_fork(sequence, 1, &fork), 0);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	if (cancelled)
		expect_events((const char *const[]){"opened", "overrun", "suspending", "suspended",
						    "resuming", "not resumed", "resuming",
						    "resumed", "opened", "closed", NULL});
	else
		expect_events((const char *const[]){"opened", "overrun", "suspending", "suspended",
						    "resuming", "resumed", "opened", "closed",
						    NULL});

	/* The last ones, for people. */
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"trace", "--events=2", NULL}, out,
				      sizeof(out)),
			 0);
	assert_non_null(strstr(out, "opened"));
	assert_non_null(strstr(out, "closed"));
	assert_null(strstr(out, "resumed"));
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"trace", "--events=0", NULL}, out,
				      sizeof(out)),
			 0);
	assert_null(strstr(out, "closed"));
	finish();
}

/* Two pools of a session have numbers of their own; a pool that is closed shows nothing. */
static void test_two_pools(void **state)
{
	(void)state;
	start();
	struct hbm_pool_options options = usual;
	struct hbm_sequence *one = pool_rig_sequence(&rig), *two;
	struct hbm_pool *second;
	struct hbm_event event;
	char out[4096];
	json_t *record;

	options.layout = rig.layout;
	assert_int_equal(hbm_pool_open(rig.hbm, &options, &second), 0);
	assert_int_equal(hbm_sequence_open(second, NULL, &two), 0);
	const uint64_t number = pool_rig_facts(two).number;
	assert_true(pool_rig_facts(one).number != number);

	assert_int_equal(ctl("suspend", number, "--wait=0", out, sizeof(out)), 0);
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);
	assert_int_equal(hbm_pool_event(second, &event), 0);
	assert_int_equal(event.kind, HBM_EVENT_SUSPEND);
	assert_ptr_equal(event.sequence, two);

	assert_int_equal(hbm_pool_close(second), 0);
	json_t *document = ctl_document("sequences", &record);
	assert_int_equal(json_array_size(json_object_get(document, "sequences")), 1);
	json_decref(document);
	assert_int_equal(ctl("suspend", number, NULL, out, sizeof(out)), 1);
	assert_non_null(strstr(out, "no sequence"));
	finish();
}

/* A pool without a board, for want of room, is as good as any. */
static void test_no_room_for_a_board(void **state)
{
	(void)state;
	start_with(&(struct hbm_pool_options){.max_sequences = 40, .warm_bytes = 0},
		   "limits.sequences=32");
	struct hbm_sequence *sequence = pool_rig_sequence(&rig);
	struct hbm_event event;
	json_t *record;

	assert_int_equal(pool_rig_step(&rig, sequence, 9), 0);
	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);
	json_t *document = ctl_document("sequences", &record);
	assert_null(record);
	json_decref(document);
	finish();
}

/* ---- What is asked ---- */

static struct hbm_event next_event(void)
{
	struct hbm_event event;

	assert_int_equal(hbm_pool_event(rig.pool, &event), 0);

	return event;
}

static void expect_no_event(void)
{
	struct hbm_event event;

	assert_int_equal(hbm_pool_event(rig.pool, &event), HBM_NOT_FOUND);
}

static void ask_run(bool thread)
{
	struct hbm_pool_options options = usual;

	options.map_ahead_thread = thread;
	start_with(&options, NULL);
	struct hbm_sequence *a = pool_rig_sequence(&rig), *b = pool_rig_sequence(&rig);
	char out[4096];

	assert_int_equal(ctl("suspend", pool_rig_facts(b).number, "--wait=0", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "0 of 1 sequences suspended"));
	struct hbm_event event = next_event();
	assert_int_equal(event.kind, HBM_EVENT_SUSPEND);
	assert_ptr_equal(event.sequence, b);
	assert_int_equal(event.tier, HBM_TIER_NONE);
	expect_no_event();

	/* of one sequence, the last */
	const uint64_t number = pool_rig_facts(a).number;
	struct hbm *operator_ = spawn_connect(&daemon_);
	assert_int_equal(hbm_ask(operator_, session(), number, HBM_ASK_RESUME, HBM_TIER_NONE), 0);
	assert_int_equal(hbm_ask(operator_, session(), number, HBM_ASK_SUSPEND, HBM_TIER_NVME), 0);
	event = next_event();
	assert_int_equal(event.kind, HBM_EVENT_SUSPEND);
	assert_int_equal(event.tier, HBM_TIER_NVME);
	assert_ptr_equal(event.sequence, a);
	expect_no_event();

	/* all; and an overrun beside it */
	assert_int_equal(hbm_ask(operator_, session(), 0, HBM_ASK_RESUME, HBM_TIER_NONE), 0);
	assert_int_equal(next_event().kind, HBM_EVENT_RESUME);
	assert_int_equal(next_event().kind, HBM_EVENT_RESUME);
	expect_no_event();

	/* one that has gone meanwhile */
	assert_int_equal(hbm_ask(operator_, session(), number, HBM_ASK_SUSPEND, 0), 0);
	assert_int_equal(hbm_sequence_close(a), 0);
	expect_no_event();
	assert_int_equal(hbm_ask(operator_, session(), number, HBM_ASK_SUSPEND, 0), 0);
	expect_no_event();
	hbm_close(operator_);
	finish();
}

/* Of a sequence that a call still waits to open nothing is said, but then it is. */
static void *open_late(void *arg)
{
	const struct hbm_sequence_options options = {.expected = 40};

	assert_int_equal(hbm_sequences_open(rig.pool, &options, 1, 60000, arg), 0);

	return NULL;
}

static void test_asking_while_one_is_opened(void **state)
{
	(void)state;
	struct hbm_pool_options options = usual;

	options.map_ahead_thread = true;
	options.warm_bytes = 0;
	start_with(&options, NULL);
	struct hbm_sequence_options expected = {.expected = 40};
	struct hbm_sequence *all[8], *late;
	struct hbm_pool_facts facts;
	size_t count = 0;
	pthread_t thread;

	while (count < 7 && hbm_sequence_open(rig.pool, &expected, &all[count]) == 0)
		count++;
	assert_in_range(count, 1, 6);
	assert_int_equal(pthread_create(&thread, NULL, open_late, &late), 0);
	do
		hbm_pool_facts(rig.pool, &facts);
	while (facts.open == count);

	assert_int_equal(hbm_ask(rig.hbm, session(), 0, HBM_ASK_SUSPEND, HBM_TIER_NONE), 0);
	for (size_t i = 0; i < count; i++)
		assert_ptr_equal(next_event().sequence, all[i]);
	expect_no_event();

	assert_int_equal(hbm_sequence_close(all[0]), 0);
	pthread_join(thread, NULL);

	/* It is the pool itself that has too much. */
	struct hbm_sequence *more;

	assert_int_equal(hbm_sequences_open(rig.pool, &expected, 1, 50, &more), HBM_TIMEOUT);
	const struct hbm_event event = next_event();

	assert_int_equal(event.kind, HBM_EVENT_SUSPEND);
	assert_ptr_equal(event.sequence, late);
	expect_no_event();
	finish();
}

static void test_asking(void **state)
{
	(void)state;
	ask_run(false);
}

static void test_asking_a_pool_with_a_thread(void **state)
{
	(void)state;
	ask_run(true);
}

/* Any call that reads from the socket may come upon a notice. */
static void test_notices_between_replies(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *a = pool_rig_sequence(&rig);
	struct hbm *operator_ = spawn_connect(&daemon_);

	assert_int_equal(
		hbm_ask(operator_, session(), pool_rig_facts(a).number, HBM_ASK_SUSPEND, 0), 0);
	assert_int_equal(hbm_ping(rig.hbm), 0);
	assert_int_equal(pool_rig_step(&rig, a, 20), 0);
	assert_int_equal(next_event().kind, HBM_EVENT_SUSPEND);
	hbm_close(operator_);
	finish();
}

static void test_hbmctl_waits(void **state)
{
	(void)state;
	start();
	struct hbm_sequence *a = pool_rig_sequence(&rig);
	const uint64_t number = pool_rig_facts(a).number;
	char out[4096];

	/* what is open already needs no wait */
	assert_int_equal(ctl("resume", number, NULL, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "1 of 1 sequences open"));
	assert_int_equal(ctl("suspend", number, "--wait=1", out, sizeof(out)), 1);
	assert_non_null(strstr(out, "after 1 s it is open"));
	assert_int_equal(ctl("suspend", number + 1, NULL, out, sizeof(out)), 1);
	assert_non_null(strstr(out, "no sequence"));
	assert_int_equal(ctl("suspend", number, "--tier=hbm", out, sizeof(out)), 2);
	assert_int_equal(ctl("suspend", 0, NULL, out, sizeof(out)), 2);
	assert_int_equal(
		spawn_hbmctl(&daemon_, (const char *[]){"suspend", "7", NULL}, out, sizeof(out)),
		2);
	assert_int_equal(spawn_hbmctl(&daemon_, (const char *[]){"suspend", "999/all", NULL}, out,
				      sizeof(out)),
			 1);
	finish();
}

/* What an engine does: it does what it is told by an event, when it likes. */
static void serve_one(const char *command, uint64_t number, enum hbm_event_kind expected,
		      const char *wait)
{
	struct hbm_event event;
	char out[4096];
	int status;

	const pid_t child = fork();
	if (child == 0)
		_exit(ctl(command, number, wait, out, sizeof(out)));

	while (hbm_pool_event(rig.pool, &event) == HBM_NOT_FOUND)
		poll(NULL, 0, 1);
	assert_int_equal(event.kind, expected);
	assert_int_equal(expected == HBM_EVENT_SUSPEND
				 ? hbm_sequences_suspend(rig.pool, &event.sequence, 1, HBM_TIER_DDR)
				 : hbm_sequences_resume(rig.pool, &event.sequence, 1),
			 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_suspend_and_resume(void **state)
{
	(void)state;
	start_with(&usual, "ddr.size=128MiB");
	struct hbm_sequence *a = pool_rig_sequence(&rig);

	assert_int_equal(pool_rig_step(&rig, a, 9), 0);
	pool_rig_write(&rig, a, 8, 4711);
	const struct hbm_sequence_facts facts = pool_rig_facts(a);

	/* so long that it has no end */
	serve_one("suspend", facts.number, HBM_EVENT_SUSPEND, "--wait=18446744073709551615");
	struct hbm_wire_sequence shown = pool_rig_shown(&rig, facts.number);
	assert_int_equal(shown.state, HBM_SEQUENCE_SUSPENDED);
	assert_int_equal(shown.suspended, facts.mapped_bytes);
	assert_int_equal(shown.own, 0);
	assert_int_equal(shown.tokens, 9);

	serve_one("resume", facts.number, HBM_EVENT_RESUME, "--wait=60");
	shown = pool_rig_shown(&rig, facts.number);
	assert_int_equal(shown.state, HBM_SEQUENCE_OPEN);
	assert_int_equal(shown.suspended, 0);
	assert_int_equal(shown.own, facts.mapped_bytes);
	pool_rig_expect(&rig, a, 8, 4711);
	finish();
}

/* ---- Pressure ---- */

static void test_pressure(void **state)
{
	(void)state;
	start_with(&usual, "device.watermark=20MiB");
	struct hbm_region *region;
	struct hbm_device_memory memory;
	const struct hbm_region_options options = {.address_space = 256ull << 20, .slab = RIG_SLAB};

	expect_no_event();
	assert_int_equal(hbm_device_memory(rig.hbm, 0, &memory), 0);
	assert_int_equal(hbm_region_create(rig.hbm, &options, &region), 0);
	const struct hbm_range range = {region, 0, memory.available - 4 * RIG_SLAB};
	assert_int_equal(hbm_commit(rig.hbm, &range, 1), 0);
	assert_int_equal(hbm_ping(rig.hbm), 0); /* the daemon has looked by then */
	struct hbm_event event = next_event();
	assert_int_equal(event.kind, HBM_EVENT_PRESSURE);
	assert_int_equal(event.bytes, 6 * RIG_SLAB);
	assert_null(event.sequence);
	expect_no_event();
	assert_int_equal(hbm_region_destroy(rig.hbm, region), 0);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
		TEST(test_fields),
		TEST(test_steps_are_seen_without_a_call),
		TEST(test_shared_bytes),
		TEST(test_events_are_in_the_trace),
		TEST(test_two_pools),
		TEST(test_no_room_for_a_board),
		TEST(test_asking),
		TEST(test_asking_a_pool_with_a_thread),
		TEST(test_asking_while_one_is_opened),
		TEST(test_notices_between_replies),
		TEST(test_hbmctl_waits),
		TEST(test_suspend_and_resume),
		TEST(test_pressure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
