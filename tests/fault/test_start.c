/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and ending: what cannot be used is refused with one line that says why, a
 * status, and nothing left behind; what a killed daemon left is taken over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"
#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a start ends that nothing but a change can mend, or that another try may. */
enum { CONFIG = 78, UNMET = 69 };

/* ---- NVMe ---- */

static void test_nvme_files_that_cannot_be_used(void **state)
{
	(void)state;
	char missing[160], foreign[160], folder[160], set[192];
	snprintf(missing, sizeof(missing), "nvme.path=%s/missing/file", daemon_.dir);
	snprintf(foreign, sizeof(foreign), "%s/foreign", daemon_.dir);
	snprintf(folder, sizeof(folder), "nvme.path=%s", daemon_.dir);
	stage_refused((const char *[]){missing, NULL}, NULL, UNMET, "create its folder first");
	stage_refused((const char *[]){folder, NULL}, NULL, CONFIG, "nvme");
	file_write(foreign, "the only copy of something\n");
	snprintf(set, sizeof(set), "nvme.path=%s", foreign);
	stage_refused((const char *[]){set, NULL}, NULL, CONFIG, foreign);
	char line[64] = "";
	FILE *in = fopen(foreign, "r");
	assert_non_null(fgets(line, sizeof(line), in));
	fclose(in);
	assert_string_equal(line, "the only copy of something\n"); /* and it is as it was */
}

static int count_nvme(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	(void)bytes;
	*(unsigned *)arg += tier->tier == HBM_TIER_NVME;
	return 0;
}

/* Unless the configuration does without it. */
static void test_an_nvme_tier_that_is_not_required(void **state)
{
	(void)state;
	char path[160];
	unsigned tiers = 0;
	struct hbm_wire_status status;
	snprintf(path, sizeof(path), "nvme.path=%s", daemon_.dir);
	spawn_start(&daemon_, (const char *[]){path, "nvme.required=no", NULL}, NULL);
	assert_true(spawn_logged(&daemon_, "starting without the NVMe tier"));
	spawn_status(&daemon_, &status);
	assert_int_equal(status.nvme_missing, 1);
	assert_int_equal(status.nvme_depth, 0);
	assert_int_equal(status.nvme_window, 0);
	assert_string_equal(status.state, "running, without NVMe");
	struct hbm *hbm = spawn_connect(&daemon_);
	assert_int_equal(hbm_query(hbm, HBM_QUERY_TIERS, count_nvme, &tiers), 0);
	assert_int_equal(tiers, 0);
	hbm_close(hbm);
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* Keeps open(2) of the tier's file from returning, as a disk does that hangs. */
static int keep_from_opening(void)
{
	signal(SIGIO, SIG_IGN); /* it says that somebody waits */
	int fd = open(daemon_.nvme, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
		close(fd);
		print_message("SKIP: no file can be leased here\n");
		skip();
	}
	return fd;
}

static void test_a_disk_that_does_not_answer(void **state)
{
	(void)state;
	int lease = keep_from_opening();
	stage_refused((const char *[]){"nvme.timeout_ms=1", NULL}, NULL, UNMET,
		      "has had no answer for more than 1 ms");
	close(lease);
}

/* It goes on without, also when the disk answers after all. */
static void test_a_disk_that_answers_too_late(void **state)
{
	(void)state;
	struct hbm_wire_status status;
	int lease = keep_from_opening();
	spawn_start(&daemon_, (const char *[]){"nvme.timeout_ms=1", "nvme.required=no", NULL},
		    NULL);
	assert_int_equal(spawn_log_lines(&daemon_, "has had no answer"), 1);
	assert_false(spawn_logged(&daemon_, "has answered now"));
	close(lease);
	while (!spawn_logged(&daemon_, "has answered now"))
		;
	spawn_status(&daemon_, &status);
	assert_string_equal(status.state, "running, without NVMe");
	assert_int_equal(spawn_stop(&daemon_), 0);

	spawn_start(&daemon_, (const char *[]){"nvme.depth_max=7", NULL},
		    NULL); /* and may have it then */
	spawn_status(&daemon_, &status);
	assert_string_equal(status.state, "running");
	assert_int_equal(status.nvme_depth, 7);
	assert_int_equal(status.nvme_window, 8 << 20);
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* The signal that comes with it would end the daemon without a word. */
static void test_a_file_that_may_not_grow(void **state)
{
	(void)state;
	struct rlimit limit, small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = (struct rlimit){.rlim_cur = 8 << 20, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	spawn_launch(&daemon_,
		     (const char *[]){"nvme.size=32MiB", "ddr.size=0", "ddr.headroom=1MiB",
				      "ddr.staging=1MiB", "soft.memory=16MiB",
				      "device.memory=12MiB", "device.cache=2MiB",
				      "device.headroom=2MiB", NULL},
		     NULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(spawn_wait(&daemon_), CONFIG);
	assert_int_equal(spawn_log_lines(&daemon_, " error: "), 1);
	assert_true(spawn_logged(&daemon_, "; RLIMIT_FSIZE is 8388608 bytes: raise LimitFSIZE="));
	assert_int_equal(file_exists(daemon_.nvme), false);
	assert_int_equal(file_exists(daemon_.socket), false);
}

/* ---- Two daemons ---- */

static void test_one_of_everything(void **state)
{
	(void)state;
	struct spawn second = daemon_;
	char state_dir[128], socket[128], nvme[160];
	spawn_start(&daemon_, NULL, NULL);
	snprintf(second.log, sizeof(second.log), "%s/log2", daemon_.dir);
	snprintf(state_dir, sizeof(state_dir), "hbmd.state_dir=%s/state2", daemon_.dir);
	snprintf(socket, sizeof(socket), "hbmd.socket=%s/sock2", daemon_.dir);
	snprintf(nvme, sizeof(nvme), "nvme.path=%s/nvme2", daemon_.dir);
	const struct {
		const char *sets[3];
		const char *expected;
	} tries[] = {
		{{state_dir, nvme, NULL}, "sock"},   /* the same socket */
		{{socket, nvme, NULL}, "state"},     /* the same folder */
		{{socket, state_dir, NULL}, "nvme"}, /* the same file */
	};
	for (size_t i = 0; i < 3; i++) {
		spawn_forget_log(&second);
		spawn_launch(&second, tries[i].sets, NULL);
		assert_int_equal(spawn_wait(&second), UNMET);

		if (spawn_log_lines(&second, " error: ") != 1 ||
		    !spawn_logged(&second, tries[i].expected)) {
			spawn_show_log(&second);
			fail_msg("try %zu", i);
		}
	}

	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* ---- The socket ---- */

static void test_the_socket_file(void **state)
{
	(void)state;
	struct stat status;
	spawn_start(&daemon_, (const char *[]){"hbmd.socket_mode=0600", NULL}, NULL);
	assert_int_equal(stat(daemon_.socket, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(file_exists(daemon_.socket), false);
	file_write(daemon_.socket, "no socket\n");
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, NULL, NULL);
	assert_int_equal(spawn_wait(&daemon_), CONFIG);
	assert_true(spawn_logged(&daemon_, daemon_.socket));
	assert_true(file_exists(daemon_.socket));
}

static void test_killed_and_started_again(void **state)
{
	(void)state;
	spawn_start(&daemon_, NULL, NULL);
	assert_true(spawn_logged(&daemon_, "formatting"));
	spawn_kill(&daemon_);
	assert_true(file_exists(daemon_.socket)); /* stale now */
	spawn_forget_log(&daemon_);
	spawn_start(&daemon_, NULL, NULL);
	assert_false(spawn_logged(&daemon_, "formatting"));
	assert_true(spawn_balanced(&daemon_));
	assert_int_equal(spawn_stop(&daemon_), 0);
}

/* Whether a daemon that is still warming up lets us in. */
static struct hbm *connect_early(void)
{
	const struct hbm_options options = {.socket = daemon_.socket, .name = "early"};
	struct hbm *hbm = NULL;

	for (int tries = 0; tries < 1000 && hbm_connect(&hbm, &options) != 0; tries++)
		usleep(5000);
	assert_non_null(hbm);

	return hbm;
}

/* Some of the staging area is in service, blocks are copied into it, slowly, and then the
 * rest cannot be had. */
static void test_a_start_that_fails_while_blocks_move(void **state)
{
	enum { BLOCKS = 8, BLOCK = 65536 };

	(void)state;
	static const char *const sets[] = {"device.cache=0",
					   "ddr.size=0",
					   "ddr.staging=300MiB",
					   "soft.d2h_gib_s=0.0001",
					   "soft.fail=cuMemHostRegister:2+",
					   NULL};
	spawn_start(&daemon_, NULL, NULL); /* which formats the NVMe tier */
	assert_int_equal(spawn_stop(&daemon_), 0);
	spawn_forget_log(&daemon_);
	spawn_launch(&daemon_, sets,
		     (const char *[]){"HBM_SOFT=slow=cuMemHostRegister:2000000", NULL});
	const struct hbm_namespace_options options = {.model = "early", .block_bytes = BLOCK};
	const struct hbm_region_options region_options = {.address_space = 2ull << 20,
							  .slab = 2ull << 20};
	struct hbm *hbm = connect_early();
	struct hbm_region *region;
	struct hbm_block blocks[BLOCKS];
	struct hbm_segment segments[BLOCKS];
	hbm_result results[BLOCKS];
	uint32_t ns;
	assert_int_equal(hbm_namespace_open(hbm, &options, &ns), 0);
	assert_int_equal(hbm_region_create(hbm, &region_options, &region), 0);
	assert_int_equal(hbm_commit(hbm, &(struct hbm_range){region, 0, 2ull << 20}, 1), 0);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		segments[i] = (struct hbm_segment){region, i * BLOCK, BLOCK};
		blocks[i] = (struct hbm_block){
			.key = kv_key(1 + i), .segments = &segments[i], .segment_count = 1};
	}

	int r;
	do /* there is no tier before the catalog is read */
		r = hbm_store(hbm, ns, blocks, BLOCKS, results);
	while (r == 0 && results[0].status == HBM_NO_SPACE);
	assert_int_not_equal(r, 0); /* the daemon goes */
	hbm_close(hbm);
	assert_int_equal(spawn_wait(&daemon_), 1);
	assert_true(spawn_logged(&daemon_, "cannot allocate the staging buffers"));
	assert_false(file_exists(daemon_.socket));
}

/* ---- Ending ---- */

static void test_sigterm_while_warming(void **state)
{
	(void)state;
	spawn_launch(&daemon_, (const char *[]){"nvme.size=1GiB", "ddr.size=512MiB", NULL}, NULL);
	for (int i = 0; i < 20000 && !spawn_logged(&daemon_, "serving on"); i++)
		poll(NULL, 0, 1);
	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(file_exists(daemon_.socket), false);
}

/*
 * A session that is drained gives its memory back while its process still has it mapped,
 * so the device is full and nobody will want what is free by the books: nothing is made
 * ahead of need, and nothing fails. A second client keeps the daemon draining for a
 * while, with a store from a slow device.
 */
static void test_draining_makes_nothing_ahead(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.memory=192MiB", "soft.latency_us=500000", NULL};
	struct kv waiting, holder;
	struct hbm_block block;
	struct hbm_segment segment;
	hbm_ticket ticket;

	spawn_start(&daemon_, sets, NULL);
	kv_open(&waiting, &daemon_, 0, 2 << 20, 1);
	kv_open(&holder, &daemon_, 0, 2 << 20, 83); /* with the other's all of the pool */
	kv_blocks(&waiting, 0, 1, 1, 0, &block, &segment);
	assert_int_equal(hbm_submit_store(waiting.hbm, waiting.ns, &block, 1, NULL, NULL, &ticket),
			 0);
	assert_int_equal(hbm_ping(waiting.hbm), 0); /* so the store has arrived */

	assert_int_equal(spawn_stop(&daemon_), 0);

	if (spawn_log_lines(&daemon_, " error: ") > 0) {
		spawn_show_log(&daemon_);
		fail_msg("a clean stop logs errors");
	}

	kv_close(&holder);
	kv_close(&waiting);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_nvme_files_that_cannot_be_used),
		TEST(test_an_nvme_tier_that_is_not_required),
		TEST(test_a_disk_that_does_not_answer),
		TEST(test_a_disk_that_answers_too_late),
		TEST(test_a_file_that_may_not_grow),
		TEST(test_one_of_everything),
		TEST(test_the_socket_file),
		TEST(test_killed_and_started_again),
		TEST(test_a_start_that_fails_while_blocks_move),
		TEST(test_sigterm_while_warming),
		TEST(test_draining_makes_nothing_ahead),
	};
	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
