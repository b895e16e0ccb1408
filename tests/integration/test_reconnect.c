/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients whose daemon is killed under them, at random moments, and comes back by hbmd --keeper:
 * no call fails, every byte that is loaded is right, fences go on counting, and nothing is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/keeper_rig.h"
#include "tests/support/kv.h"
#include "tests/support/pool_rig.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	KILLS = 50,
	WITHIN_US = 250000,
	BLOCK = 65536,
	TOGETHER = 6, /* stores and loads in flight */
	SLOTS = 8,    /* of each */
	BLOCKS = 200, /* that are stored, and loaded again */
	SLABS = 8,    /* of the region that is committed and decommitted */
	SLAB_BYTES = 2 << 20,
	FENCE = 1, /* the first fence; then one, and one for what has failed, of each */
};

static const char *const sets[] = {"nvme.path=", "nvme.size=0", NULL};
static const char *const large[] = {"nvme.size=128MiB", NULL};
static struct seed seed;
static char card[128];

/* ---- Killing ---- */

/* A process that kills the daemon so often, each time within WITHIN_US. */
static pid_t begin_killing(int kills)
{
	struct seed own = {.state = seed_next(&seed)};
	pid_t pid = fork();
	if (pid != 0)
		return pid;

	for (int i = 0; i < kills; i++)
		keeper_kill_within(&daemon_, &own, WITHIN_US);
	_exit(0);
}

static bool goes_on(pid_t killer)
{
	int status;
	if (waitpid(killer, &status, WNOHANG) == 0)
		return true;

	assert_int_equal(status, 0);

	return false;
}

/* The device is one card for all daemons. */
static void start(const char *const *with)
{
	static char word[160];
	static const char *const env[] = {word, NULL};

	snprintf(card, sizeof(card), "%s.card", daemon_.dir);
	assert_int_equal(mkdir(card, 0755), 0);
	snprintf(word, sizeof(word), "HBM_SOFT=card=%s", card);
	keeper_start(&daemon_, with, env);
}

static void finish(void)
{
	spawn_wait_warm(&daemon_);
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_log_lines(&daemon_, "error"), 0);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(rmdir(card), 0); /* nothing is left of it */
}

static uint64_t resumed(void)
{
	struct hbm_wire_status status;
	spawn_status(&daemon_, &status);
	return status.sessions_resumed;
}

/* ---- Lookups ---- */

static void test_calls_wait_and_succeed(void **state)
{
	(void)state;
	start(sets);
	struct hbm *hbm = spawn_connect(&daemon_);
	uint64_t session = hbm_info(hbm)->session;

	assert_true(hbm_info(hbm)->survives);
	for (int i = 0; i < KILLS; i++) {
		hbm_key key = {{(uint8_t)(1 + i)}};
		struct hbm_lookup found = {.resident = 1};
		uint32_t ns;
		const struct hbm_namespace_options options = {.model = "m", .block_bytes = BLOCK};

		assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
		keeper_kill_within(&daemon_, &seed, 60000);
		assert_int_equal(hbm_lookup(hbm, ns, &key, 1, &found, NULL), 0);
		assert_int_equal(found.resident, 0);
	}

	assert_int_equal(hbm_info(hbm)->session, session);
	hbm_close(hbm);
	finish();
}

/* ---- Namespaces ---- */

/* A client of its own words, whose session outlives the daemon. */
static int begin_raw(struct hbm_wire_hello_resume *resume)
{
	struct hbm_wire_hello_resume_reply reply;
	int socket = raw_connect(&daemon_);

	memset(resume, 0, sizeof(*resume));
	raw_hello_fill(&resume->hello);
	resume->hello.header.size = sizeof(*resume);
	raw_call(socket, resume, &reply, sizeof(reply));
	resume->session = reply.hello.session;
	memcpy(resume->state, reply.state, sizeof(resume->state));
	memcpy(resume->token, reply.token, sizeof(resume->token));

	return socket;
}

/* What a client had open is there while it opens that again, however long it takes. */
static void test_a_namespace_waits_for_its_client(void **state)
{
	(void)state;
	struct hbm_wire_hello_resume resume;
	struct hbm_wire_hello_resume_reply reply;
	struct hbm_wire_namespace_open_flags open = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
		.spec = {.model = "m", .block_bytes = BLOCK},
		.flags = HBM_WIRE_EPHEMERAL};
	struct raw_ranges end = {
		.head = {.header = RAW_HEADER(RECONCILE, sizeof(end)), .count = 1}};
	struct hbm_wire_namespace_reply first, again;
	struct hbm_wire_header header;

	start(sets);
	int socket = begin_raw(&resume);
	raw_call(socket, &open, &first, sizeof(first));
	keeper_kill(&daemon_);
	close(socket);

	/* The daemon looks for clients that are to come back once a second. */
	socket = raw_connect(&daemon_);
	raw_call(socket, &resume, &reply, sizeof(reply));
	usleep(1100000);
	raw_call(socket, &end, &header, sizeof(header));
	usleep(1100000);
	uint32_t other = raw_namespace(socket, 2 * BLOCK);
	raw_call(socket, &open, &again, sizeof(again));
	assert_int_equal(again.ns, first.ns);
	assert_int_not_equal(again.ns, other);
	close(socket);
	finish();
}

/* ---- Reservations ---- */

static uint64_t promised(void)
{
	struct hbm *hbm = spawn_connect(&daemon_);
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(hbm, 0, &memory), 0);
	hbm_close(hbm);

	return memory.promised;
}

static void tell_reserved(int socket, uint64_t bytes, int status)
{
	struct {
		struct hbm_wire_ranges head;
		struct hbm_wire_range ranges[2];
	} told = {.head = {.header = RAW_HEADER(RECONCILE, sizeof(told)), .count = 2},
		  .ranges = {{HBM_WIRE_RESERVED, 0, 0, bytes}}};

	assert_int_equal(raw_ask(socket, &told, sizeof(told)), status);
}

/* A RESERVE whose answer was lost counts once, whether it was for more or for less; and no client
 * says that it has what it may not have. */
static void test_a_reservation_counts_once(void **state)
{
	(void)state;
	static const char *const limited[] = {"limits.reserved=24MiB", NULL};
	struct hbm_wire_hello_resume resume;
	struct hbm_wire_hello_resume_reply reply;
	struct {
		struct hbm_wire_reserve head;
		struct hbm_wire_reserve_change change;
	} reserve = {.head = {.header = RAW_HEADER(RESERVE, sizeof(reserve)), .count = 1},
		     .change = {.bytes = 16 << 20}};

	start(limited);
	int socket = begin_raw(&resume);
	uint64_t known = 0;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t expected = i == 0 ? 16 << 20 : 12 << 20;

		assert_true(raw_send(socket, &reserve, sizeof(reserve), 0));
		while (promised() != expected)
			usleep(1000);
		keeper_kill(&daemon_);
		close(socket);
		socket = raw_connect(&daemon_);
		raw_call(socket, &resume, &reply, sizeof(reply));
		assert_int_equal(promised(), expected);
		tell_reserved(socket, known, HBM_OK);
		assert_int_equal(promised(), known);
		assert_int_equal(raw_ask(socket, &reserve, sizeof(reserve)), HBM_OK);
		assert_int_equal(promised(), expected);
		known = expected;
		reserve.change.bytes = -(4 << 20);
	}

	keeper_kill(&daemon_);
	close(socket);
	socket = raw_connect(&daemon_);
	raw_call(socket, &resume, &reply, sizeof(reply));
	tell_reserved(socket, UINT64_MAX, HBM_INVALID);
	tell_reserved(socket, 25 << 20, HBM_OK);
	assert_int_equal(promised(), known);
	close(socket);
	finish();
}

/* ---- Stores and loads ---- */

struct transfer {
	bool load;
	uint64_t first, count;
	struct hbm_block blocks[SLOTS];
	struct hbm_segment segments[SLOTS];
	hbm_result results[SLOTS];
	hbm_ticket ticket;
};

struct play {
	struct kv kv;
	struct hbm_region *region; /* whose slabs come and go */
	bool committed[SLABS];
	struct transfer transfers[TOGETHER];
	uint64_t values[TOGETHER]; /* of their fences */
	uint64_t stored, loaded, missed;
};

static void begin_transfer(struct play *play, unsigned nth)
{
	struct transfer *transfer = &play->transfers[nth];
	const struct hbm_sync sync = {
		.ready_slot = HBM_WIRE_NO_FENCE,
		.fence_slot = FENCE + 2 * nth,
		.failed_slot = FENCE + 2 * nth + 1,
		.fence_value = ++play->values[nth],
	};
	uint64_t slot = nth * SLOTS;

	transfer->load = seed_below(&seed, 2) == 0;
	transfer->count = 1 + seed_below(&seed, SLOTS);
	transfer->first = 1 + seed_below(&seed, BLOCKS - SLOTS);
	for (uint64_t i = 0; i < transfer->count; i++)
		if (transfer->load)
			kv_wipe(&play->kv, slot + i);
		else
			kv_put(&play->kv, slot + i, transfer->first + i);

	kv_blocks(&play->kv, slot, transfer->first, transfer->count, 0, transfer->blocks,
		  transfer->segments);
	for (uint64_t i = 0; i < transfer->count; i++)
		transfer->blocks[i].parent = (hbm_key){{0}};
	assert_int_equal((transfer->load ? hbm_submit_load : hbm_submit_store)(
				 play->kv.hbm, play->kv.ns, transfer->blocks, transfer->count,
				 &sync, transfer->results, &transfer->ticket),
			 0);
}

static void end_transfer(struct play *play, unsigned nth)
{
	struct transfer *transfer = &play->transfers[nth];
	int rc = hbm_wait(play->kv.hbm, transfer->ticket, -1);
	if (rc != 0)
		fail_msg("%s: %s", transfer->load ? "load" : "store", hbm_error(play->kv.hbm));

	assert_int_equal(*hbm_fence(play->kv.hbm, FENCE + 2 * nth), play->values[nth]);
	for (uint64_t i = 0; i < transfer->count; i++) {
		uint8_t status = transfer->results[i].status;

		if (transfer->load && status == HBM_OK)
			assert_int_equal(kv_holds(&play->kv, nth * SLOTS + i, transfer->first + i),
					 1);
		play->loaded += transfer->load && status == HBM_OK;
		play->missed += transfer->load && status == HBM_MISS;
		play->stored += !transfer->load && status == HBM_OK;
		if (status != HBM_OK && status != (transfer->load ? HBM_MISS : HBM_EXISTS))
			fail_msg("%s of block %u: %s", transfer->load ? "load" : "store",
				 (unsigned)(transfer->first + i), hbm_strerror(status));
	}
}

/* Commits a slab of the other region and writes to it, or gives it back. What is there stays. */
static void change_slab(struct play *play)
{
	uint64_t nth = seed_below(&seed, SLABS), slab = hbm_region_slab(play->region),
		 word = nth + 7, found = 0;
	const struct hbm_range range = {play->region, nth * slab, slab};
	uint64_t address = hbm_region_address(play->region) + range.offset;
	int rc = play->committed[nth] ? 0 : hbm_commit(play->kv.hbm, &range, 1);

	if (rc == 0 && play->committed[nth]) {
		kv_read(&play->kv, &found, address, sizeof(found));
		assert_int_equal(found, word);
		rc = hbm_decommit(play->kv.hbm, &range, 1);
	} else if (rc == 0) {
		kv_write(&play->kv, address, &word, sizeof(word));
	}

	if (rc != 0)
		fail_msg("slab %u: %s", (unsigned)nth, hbm_error(play->kv.hbm));
	play->committed[nth] = !play->committed[nth];
}

static void play_once(struct play *play)
{
	for (unsigned i = 0; i < TOGETHER; i++)
		begin_transfer(play, i);
	change_slab(play);
	for (unsigned i = 0; i < TOGETHER; i++)
		end_transfer(play, i);

	if (seed_below(&seed, 8) == 0) {
		hbm_region_destroy(play->kv.hbm, play->region);
		const struct hbm_region_options options = {.address_space = SLABS * (2 << 20),
							   .slab = 2 << 20};
		assert_int_equal(hbm_region_create(play->kv.hbm, &options, &play->region), 0);
		memset(play->committed, 0, sizeof(play->committed));
	}
}

static void test_stores_and_loads_in_flight(void **state)
{
	(void)state;
	struct play *play = calloc(1, sizeof(*play));
	const struct hbm_region_options options = {.address_space = SLABS * (2 << 20),
						   .slab = 2 << 20};

	start(sets);
	kv_open(&play->kv, &daemon_, 0, BLOCK, TOGETHER * SLOTS);
	assert_int_equal(hbm_region_create(play->kv.hbm, &options, &play->region), 0);
	uint64_t session = hbm_info(play->kv.hbm)->session;

	pid_t killer = begin_killing(KILLS);
	uint64_t rounds = 0;
	for (; goes_on(killer); rounds++)
		play_once(play);
	play_once(play);

	assert_int_equal(hbm_info(play->kv.hbm)->session, session);
	assert_int_equal(resumed(), 1);
	print_message("%u rounds, %u blocks stored, %u loaded, %u missed\n", (unsigned)rounds,
		      (unsigned)play->stored, (unsigned)play->loaded, (unsigned)play->missed);
	kv_close(&play->kv);
	free(play);
	finish();
}

/* ---- Sequences ---- */

/* A sequence grows token by token, is forked, and both grow on. */
static void grow_once(struct pool_rig *rig)
{
	enum { TOKENS = 24, MORE = 8 };
	struct hbm_sequence *sequence = pool_rig_sequence(rig), *fork = NULL;
	uint64_t value = 1 + seed_below(&seed, 1000);

	for (uint64_t token = 0; token < TOKENS; token++) {
		assert_int_equal(pool_rig_step(rig, sequence, token + 1), 0);
		pool_rig_write(rig, sequence, token, value + token);
	}

	assert_int_equal(hbm_sequence_fork(sequence, 1, &fork), 0);
	for (uint64_t token = TOKENS; token < TOKENS + MORE; token++) {
		assert_int_equal(pool_rig_step(rig, fork, token + 1), 0);
		pool_rig_write(rig, fork, token, value + token);
	}

	for (uint64_t token = 0; token < TOKENS; token++) {
		pool_rig_expect(rig, sequence, token, value + token);
		pool_rig_expect(rig, fork, token, value + token);
	}
	for (uint64_t token = TOKENS; token < TOKENS + MORE; token++)
		pool_rig_expect(rig, fork, token, value + token);
	assert_int_equal(hbm_sequence_close(sequence), 0);
	assert_int_equal(hbm_sequence_close(fork), 0);
}

static void test_sequences_go_on(void **state)
{
	(void)state;
	struct pool_rig rig;
	const struct hbm_pool_options options = {.max_sequences = 4};
	unsigned rounds = 0;

	start(large);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	pid_t killer = begin_killing(KILLS);
	do {
		grow_once(&rig);
		rounds++;
	} while (goes_on(killer));
	print_message("%u rounds\n", rounds);
	pool_rig_close(&rig);
	finish();
}

static int count_record(const void *record, size_t bytes, void *arg)
{
	(void)record;
	(void)bytes;
	++*(unsigned *)arg;
	return 0;
}

/* What a client shows of its sequences, and the page in which it sees what is free, are those of
 * the daemon that it has now. */
static void test_what_is_shown_is_of_the_next_daemon(void **state)
{
	(void)state;
	struct pool_rig rig;
	struct hbm_sequence *sequence;
	struct hbm_device_memory before, after;
	const struct hbm_pool_options options = {.max_sequences = 4};

	start(large);
	pool_rig_open(&rig, &daemon_, pool_rig_layouts[0], &options);
	assert_int_equal(hbm_sequence_open(rig.pool, NULL, &sequence), 0);
	for (unsigned i = 0; i < 5; i++) {
		unsigned sequences = 0;

		assert_int_equal(hbm_device_memory(rig.hbm, 0, &before), 0);
		keeper_kill(&daemon_);
		assert_int_equal(hbm_ping(rig.hbm), 0);
		struct hbm *other = spawn_connect(&daemon_);
		assert_int_equal(hbm_query(other, HBM_QUERY_SEQUENCES, count_record, &sequences),
				 0);
		assert_int_equal(sequences, 1);

		/* Memory of others is seen to go. */
		struct hbm_region *region;
		const struct hbm_region_options of = {.address_space = 4 << 20, .slab = 2 << 20};
		assert_int_equal(hbm_region_create(other, &of, &region), 0);
		assert_int_equal(hbm_device_memory(rig.hbm, 0, &before), 0);
		assert_int_equal(hbm_commit(other, &(struct hbm_range){region, 0, 4 << 20}, 1), 0);
		assert_int_equal(hbm_device_memory(rig.hbm, 0, &after), 0);
		assert_int_equal(before.free - after.free, 4 << 20);
		hbm_close(other);
	}

	hbm_sequence_close(sequence);
	pool_rig_close(&rig);
	finish();
}

int main(void)
{
	seed_open(&seed, "reconnect");
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_calls_wait_and_succeed),
		TEST(test_a_namespace_waits_for_its_client),
		TEST(test_a_reservation_counts_once),
		TEST(test_stores_and_loads_in_flight),
		TEST(test_sequences_go_on),
		TEST(test_what_is_shown_is_of_the_next_daemon),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
