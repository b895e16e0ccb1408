/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that are killed. A child (tests/support/child.h) goes through all that a client
 * does and is killed after its k-th step, for every k; then at random moments. Each time
 * all it had must come back, nothing may stay quarantined, and the books balance. Half of
 * the steps only submit: what they started is under way in the daemon when the child
 * goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/kv.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 65536u
#define SLAB (2ull << 20)
#define BATCH 64
/* Where it takes seconds to start a driver, fewer clients are killed at random. */
#define ENOUGH_S 20
#define ROUNDS_MIN 8

static struct leaks leaks;
static struct spawn daemon_;
static unsigned fds;

static int setup(void **state)
{
	(void)state;
	static const char *const sets[] = {"device.cache=4MiB", "ddr.size=8MiB", "nvme.size=16MiB",
					   "limits.ready_ms=600000", NULL};
	leaks_begin(&leaks);
	spawn_init(&daemon_);
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);

	return 0;
}

static void nothing_is_left(void)
{
	spawn_settle(&daemon_);
	assert_true(spawn_balanced(&daemon_));
	spawn_expect_fds(&daemon_, fds);
}

static int teardown(void **state)
{
	(void)state;
	nothing_is_left();
	assert_int_equal(spawn_stop(&daemon_), 0);
	spawn_free(&daemon_);
	assert_int_equal(leaks_end(&leaks), 0);

	return 0;
}

static void die(void)
{
	kill(getpid(), SIGKILL);
}

/* ---- After every step ---- */

struct client {
	const struct spawn *spawn;
	struct kv kv;
	struct hbm_region *region;
	struct hbm_block blocks[BATCH];
	struct hbm_segment segments[BATCH];
	hbm_result results[BATCH];
	hbm_ticket ticket;
};

static void must(int status)
{
	if (status != 0) {
		fprintf(stderr, "client: %s\n", hbm_strerror(status));
		_exit(3);
	}
}

static void connect_only(struct client *client)
{
	const struct hbm_options options = {.socket = client->spawn->socket};
	must(hbm_connect(&client->kv.hbm, &options));
}

static void create_region(struct client *client)
{
	const struct hbm_region_options options = {.address_space = 16 * SLAB, .slab = SLAB};
	must(hbm_region_create(client->kv.hbm, &options, &client->region));
}

static void submit_commit(struct client *client)
{
	const struct hbm_range ranges[] = {{client->region, 0, 4 * SLAB},
					   {client->region, 8 * SLAB, 4 * SLAB}};
	must(hbm_submit_commit(client->kv.hbm, ranges, 2, &client->ticket));
}

static void wait_ticket(struct client *client)
{
	must(hbm_wait(client->kv.hbm, client->ticket, 20000));
}

static void submit_second_commit(struct client *client)
{
	const struct hbm_range range = {client->region, 4 * SLAB, 4 * SLAB};
	must(hbm_submit_commit(client->kv.hbm, &range, 1, &client->ticket));
}

static void submit_decommit(struct client *client)
{
	const struct hbm_range range = {client->region, 8 * SLAB, 4 * SLAB};
	must(hbm_submit_decommit(client->kv.hbm, &range, 1, &client->ticket));
}

static void submit_last_commit(struct client *client)
{
	const struct hbm_range range = {client->region, 8 * SLAB, 8 * SLAB};
	must(hbm_submit_commit(client->kv.hbm, &range, 1, &client->ticket));
}

static void open_namespace(struct client *client)
{
	const struct hbm_namespace_options options = {.model = "kv", .block_bytes = BLOCK};
	must(hbm_namespace_open(client->kv.hbm, &options, &client->kv.ns));
	client->kv.region = client->region;
	client->kv.block_bytes = BLOCK;
}

/* Each round has keys of its own: a new block each time, by pid. */
static uint64_t first_block(void)
{
	return (uint64_t)getpid() << 20;
}

static void submit_store(struct client *client)
{
	kv_blocks(&client->kv, 0, first_block(), BATCH, 0, client->blocks, client->segments);
	must(hbm_submit_store(client->kv.hbm, client->kv.ns, client->blocks, BATCH, HBM_NO_FENCES,
			      client->results, &client->ticket));
}

static void submit_load(struct client *client)
{
	kv_blocks(&client->kv, 0, first_block(), BATCH, 0, client->blocks, client->segments);
	must(hbm_submit_load(client->kv.hbm, client->kv.ns, client->blocks, BATCH, HBM_NO_FENCES,
			     client->results, &client->ticket));
}

static void submit_store_not_ready(struct client *client)
{
	const struct hbm_sync sync = {
		.ready_slot = 1, .ready_value = 1, .fence_slot = 2, .fence_value = 1};
	kv_blocks(&client->kv, BATCH, first_block() + BATCH, BATCH, 0, client->blocks,
		  client->segments);
	must(hbm_submit_store(client->kv.hbm, client->kv.ns, client->blocks, BATCH, &sync,
			      client->results, &client->ticket));
}

static void submit_load_not_ready(struct client *client)
{
	const struct hbm_sync sync = {
		.ready_slot = 1, .ready_value = 2, .fence_slot = 2, .fence_value = 1};
	kv_blocks(&client->kv, BATCH, first_block(), BATCH, 0, client->blocks, client->segments);
	must(hbm_submit_load(client->kv.hbm, client->kv.ns, client->blocks, BATCH, &sync,
			     client->results, &client->ticket));
}

static void pin(struct client *client)
{
	hbm_key key = kv_key(first_block() + 3);
	must(hbm_keys(client->kv.hbm, HBM_WIRE_PIN, client->kv.ns, 0, &key, 1, client->results));
}

static void evict_all(struct client *client)
{
	must(hbm_evict(client->kv.hbm, HBM_TIER_HBM, 0, UINT64_MAX, NULL));
}

static void evict_to_disk(struct client *client)
{
	must(hbm_evict(client->kv.hbm, HBM_TIER_DDR, 0, UINT64_MAX, NULL));
}

static void submit_prefetch(struct client *client)
{
	hbm_key keys[BATCH];
	for (uint64_t i = 0; i < BATCH; i++)
		keys[i] = kv_key(first_block() + i);
	must(hbm_submit_prefetch(client->kv.hbm, client->kv.ns, 0, keys, BATCH, 0, client->results,
				 &client->ticket));
}

static void shut_down(struct client *client)
{
	shutdown(hbm_fd(client->kv.hbm), SHUT_RDWR);
}

static void (*const life[])(struct client *) = {
	connect_only,
	create_region,
	submit_commit,
	wait_ticket,
	submit_second_commit,
	wait_ticket,
	submit_decommit,
	wait_ticket,
	open_namespace,
	submit_store,
	wait_ticket,
	submit_load,
	wait_ticket,
	pin,
	evict_all,
	submit_load,
	wait_ticket,
	evict_all,
	evict_to_disk,
	submit_load,
	wait_ticket,
	evict_all,
	evict_to_disk,
	submit_prefetch,
	submit_store_not_ready,
	submit_load_not_ready,
	submit_last_commit,
	shut_down,
};
#define LIFE (sizeof(life) / sizeof(life[0]))

static void live_and_die(const struct spawn *spawn, uint64_t count)
{
	static struct client client;
	client.spawn = spawn;
	for (uint64_t i = 0; i < count; i++)
		life[i](&client);
	die();
}

static void test_killed_after_every_step(void **state)
{
	(void)state;
	for (size_t count = 0; count <= LIFE; count++) {
		struct child child;
		child_start(&child, "live_and_die", &daemon_, count);
		assert_int_equal(child_wait(&child), 128 + SIGKILL);
		nothing_is_left();
	}
}

/* ---- At random moments ---- */

static void live_until_killed(const struct spawn *spawn, uint64_t number)
{
	static struct client client = {0};

	(void)number;
	client.spawn = spawn;
	connect_only(&client);
	create_region(&client);
	open_namespace(&client);
	submit_second_commit(&client); /* stays */
	wait_ticket(&client);
	child_tell(); /* the device is in use now, however long that took */

	for (uint64_t round = 0;; round++) {
		submit_commit(&client);
		wait_ticket(&client);
		submit_store(&client);
		submit_load(&client);
		evict_all(&client);
		submit_load(&client);
		wait_ticket(&client);
		const struct hbm_range ranges[] = {{client.region, 0, 4 * SLAB},
						   {client.region, 8 * SLAB, 4 * SLAB}};
		must(hbm_submit_decommit(client.kv.hbm, ranges, 2, &client.ticket));
		wait_ticket(&client);
	}
}

static void test_killed_at_random_moments(void **state)
{
	(void)state;
	struct seed seed;
	bool thorough = getenv("HBM_TEST_LONG") != NULL;
	time_t enough = time(NULL) + ENOUGH_S;
	seed_open(&seed, "test_client_death");

	for (int round = 0; round < (thorough ? 1000 : 40); round++) {
		if (!thorough && round >= ROUNDS_MIN && time(NULL) >= enough)
			break;

		struct child child;
		child_start(&child, "live_until_killed", &daemon_, 0);
		child_await(&child);
		const struct timespec time = {0, (long)seed_below(&seed, 40000000)};
		nanosleep(&time, NULL);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
		nothing_is_left();
	}
}

/* ---- A socket that closes before its process ---- */

static int add_device(const void *record, size_t bytes, void *arg)
{
	assert_int_equal(bytes, sizeof(struct hbm_wire_device));
	memcpy(arg, record, bytes);
	return 0;
}

static struct hbm_wire_device device_now(struct hbm *hbm)
{
	struct hbm_wire_device device = {0};
	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, add_device, &device), 0);
	return device;
}

static void shut_down_and_stay(const struct spawn *spawn, uint64_t number)
{
	static struct client client;

	(void)number;
	client.spawn = spawn;
	connect_only(&client);
	create_region(&client);
	submit_commit(&client);
	wait_ticket(&client);
	shut_down(&client);
	child_tell();
	for (;;)
		pause();
}

static void test_quarantined_until_the_process_is_gone(void **state)
{
	(void)state;
	struct child child;
	child_start(&child, "shut_down_and_stay", &daemon_, 0);
	child_await(&child);
	struct hbm *hbm = spawn_connect(&daemon_);
	struct hbm_wire_device device = device_now(hbm);
	for (int i = 0; i < 20000 && device.quarantined != 8 * SLAB; i++) {
		poll(NULL, 0, 1);
		device = device_now(hbm);
	}

	assert_int_equal(device.quarantined, 8 * SLAB);
	assert_int_equal(device.leased, 0);

	/* It is nobody else's. */
	struct hbm_region *region;
	const struct hbm_region_options options = {.address_space = device.regions, .slab = SLAB};
	assert_int_equal(hbm_region_create(hbm, &options, &region), 0);
	const struct hbm_range all = {region, 0, device.regions};
	assert_int_equal(hbm_commit(hbm, &all, 1), HBM_NO_SPACE);
	assert_int_equal(device_now(hbm).quarantined, 8 * SLAB);
	assert_int_equal(child_kill(&child), 128 + SIGKILL);
	for (int i = 0; i < 20000 && device_now(hbm).quarantined != 0; i++)
		poll(NULL, 0, 1);
	assert_int_equal(hbm_commit(hbm, &all, 1), 0);
	hbm_close(hbm);
}

/* ---- One of two ---- */

static pid_t start_replay(const char *trace, const char *output)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;

	int out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	const char *path = spawn_path("hbmctl");
	execl(path, path, "--socket", daemon_.socket, "--json", "replay", trace, (char *)NULL);
	_exit(127);
}

static void generate(const char *path)
{
	static char trace[1 << 20];
	const char *arguments[] = {"replay", "--generate", "users=32,turns=8,seed=5", NULL};

	assert_int_equal(spawn_hbmctl(&daemon_, arguments, trace, sizeof(trace)), 0);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	fputs(trace, out);
	assert_int_equal(fclose(out), 0);
}

static void test_the_other_one_does_not_notice(void **state)
{
	(void)state;
	char trace[128], output[128], scrap[128];
	int status = -1;
	struct seed seed;
	seed_open(&seed, "test_client_death");
	snprintf(trace, sizeof(trace), "%s/trace", daemon_.dir);
	snprintf(output, sizeof(output), "%s/output", daemon_.dir);
	snprintf(scrap, sizeof(scrap), "%s/scrap", daemon_.dir);
	generate(trace);
	pid_t survivor = start_replay(trace, output);
	for (int i = 0; waitpid(survivor, &status, WNOHANG) == 0; i++) {
		pid_t victim = start_replay(trace, scrap);
		const struct timespec time = {0, (long)seed_below(&seed, 200000000)};
		nanosleep(&time, NULL);
		kill(victim, SIGKILL);
		waitpid(victim, NULL, 0);
	}

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0); /* not one wrong byte */
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"live_and_die", live_and_die},
						  {"live_until_killed", live_until_killed},
						  {"shut_down_and_stay", shut_down_and_stay},
						  {NULL, NULL}};
	child_main(argc, argv, parts);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_killed_after_every_step),
		TEST(test_killed_at_random_moments),
		TEST(test_quarantined_until_the_process_is_gone),
		TEST(test_the_other_one_does_not_notice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
