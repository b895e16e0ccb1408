/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that want to cost the others as much as they can, one attack after the other,
 * each beside a victim that wants little. An attack goes on until the victim has had all
 * it wanted, so that a daemon that lets the victim wait for the attack's end fails by the
 * timeout of this program. The attackers are served meanwhile, and when they are gone
 * nothing of them is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/attack_job.h"
#include "tests/support/stage.h"
#include "tests/support/victim.h"

#include <dirent.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 20
#define SESSIONS 4
#define SETS 16

/* More than anybody but hold needs, which is to meet the limit. */
static const char *const small[] = {"limits.sessions=48", NULL};

static void start_daemon(const struct attack *attack)
{
	const char *sets[SETS] = {NULL};
	size_t count = 0;

	for (const char *const *set = small; *set; set++)
		sets[count++] = *set;
	for (const char *const *set = attack->sets; set && *set; set++)
		sets[count++] = *set;
	assert_in_range(count, 0, SETS - 1);
	spawn_start(&daemon_, sets, NULL);
}

/* Threads of the daemon, but not those that the kernel adds for its ring and takes away. */
static unsigned count_threads(void)
{
	char path[320], name[32];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)daemon_.pid);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)daemon_.pid,
			 entry->d_name);
		FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (file && fgets(name, sizeof(name), file))
			count += strncmp(name, "iou-", 4) != 0;
		if (file)
			fclose(file);
	}

	closedir(dir);

	return count;
}

static unsigned sessions_of(const struct attack *attack)
{
	return attack->many > 1000 ? 64 : attack->many < SESSIONS ? attack->many : SESSIONS;
}

static void run_attack(void **state)
{
	const struct attack *attack = *state;
	struct attack_job job;
	struct victim victim;
	struct victim_times times;
	void *none = NULL;

	stage_setup(&none);
	start_daemon(attack);
	unsigned fds = spawn_fds(&daemon_);
	victim_open(&victim, &daemon_, attack->victims_blocks[ATTACK_BRIEF]);
	unsigned threads = count_threads();
	attack_start(&job, attack, &daemon_, sessions_of(attack), ATTACK_BRIEF);
	attack_await(&job, sessions_of(attack) + 1);
	for (unsigned i = 0; i < ROUNDS; i++)
		victim_round(&victim, &times);

	/* it goes on */
	attack_await(&job, attack_served(&job) + (attack->is_deaf ? 0 : 1));
	struct attack_counts counts = attack_counts(&job);
	attack_end(&job);
	print_message("%s: %" PRIu64 " sent, %" PRIu64 " answered, %" PRIu64 " refused, %" PRIu64
		      " keys or blocks, %" PRIu64 " dropped\n",
		      attack->name, counts.sent, counts.answered, counts.refused, counts.done,
		      counts.dropped);
	assert_int_equal(counts.done > 0, attack->has_results);
	victim_round(&victim, &times);
	victim_close(&victim);
	spawn_settle(&daemon_);
	/* the kernel's own have their maker's name until they are given one */
	for (int tries = 0; count_threads() != threads && tries < 500; tries++)
		poll(NULL, 0, 10);
	assert_int_equal(count_threads(), threads);
	stage_finish(fds);
	stage_teardown(&none);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"attack", attack_play}, {NULL, NULL}};
	static struct CMUnitTest tests[64];
	const struct attack *attack;
	size_t count = 0;

	child_main(argc, argv, parts);
	for (unsigned n = 0; (attack = attack_at(n)) != NULL; n++)
		if (argc < 2 || strcmp(argv[1], attack->name) == 0)
			tests[count++] = (struct CMUnitTest){attack->name, run_attack, NULL, NULL,
							     (void *)(uintptr_t)attack};
	alarm(400);
	return _cmocka_run_group_tests("attacks", tests, count, NULL, NULL);
}
