/* SPDX-License-Identifier: Apache-2.0 */
/* attack_job: see attack_job.h. */
#include "tests/support/attack_job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/raw.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SESSIONS_MAX 4096
#define PATIENCE_MS 60000
#define STEP_MS 2
#define IDLE_MS 20 /* between attempts to connect */

/* A file in the daemon's folder: what is to be done, and what has come of it. */
struct attack_board {
	char name[32];
	unsigned sessions;
	enum attack_scale scale;
	struct attack_counts counts;
};

static struct attack_board *board_open(const struct spawn *spawn, int flags)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/attack", spawn->dir);
	int fd = open(path, flags | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, sizeof(struct attack_board)), 0);
	void *board =
		mmap(NULL, sizeof(struct attack_board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_ptr_not_equal(board, MAP_FAILED);

	return board;
}

/* ---- The test's side ---- */

void attack_let_in(const struct spawn *spawn)
{
	assert_int_equal(chmod(spawn->dir, 0755), 0);
	assert_int_equal(chmod(spawn->socket, 0666), 0);
}

void attack_start(struct attack_job *job, const struct attack *attack, const struct spawn *spawn,
		  unsigned sessions, enum attack_scale scale)
{
	assert_in_range(sessions, 1, SESSIONS_MAX);
	attack_let_in(spawn);
	job->board = board_open(spawn, O_CREAT | O_TRUNC);
	snprintf(job->board->name, sizeof(job->board->name), "%s", attack->name);
	job->board->sessions = sessions;
	job->board->scale = scale;
	child_start(&job->child, "attack", spawn, 0);
	child_await(&job->child);
}

struct attack_counts attack_counts(const struct attack_job *job)
{
	/* another process writes them */
	const volatile struct attack_counts *counts = &job->board->counts;
	return (struct attack_counts){counts->sent, counts->answered, counts->refused, counts->done,
				      counts->dropped};
}

uint64_t attack_served(const struct attack_job *job)
{
	struct attack_counts counts = attack_counts(job);
	return attack_find(job->board->name)->is_deaf ? counts.sent : counts.answered;
}

void attack_await(const struct attack_job *job, uint64_t served)
{
	const struct timespec step = {.tv_nsec = STEP_MS * 1000000};

	for (int waited = 0; waited < PATIENCE_MS; waited += STEP_MS) {
		if (attack_served(job) >= served)
			return;
		nanosleep(&step, NULL);
	}

	fail_msg("%s: not served any more", job->board->name);
}

void attack_end(struct attack_job *job)
{
	assert_int_equal(child_kill(&job->child), 128 + SIGKILL);
	munmap(job->board, sizeof(*job->board));
	job->board = NULL;
}

/* ---- The attack's side ---- */

static _Alignas(16) unsigned char reply[ATTACKER_REPLY_BYTES];

static bool attack_session_open(struct attack_run *run, struct attacker *attacker)
{
	int status = attacker_open(attacker, run->spawn, run->attack->is_bare);
	if (status != 0) {
		run->counts->answered += status > 0;
		run->counts->refused++;
		return false;
	}

	if (run->attack->begin)
		run->attack->begin(run, attacker);

	return true;
}

static void attack_session_send(struct attack_run *run, struct attacker *attacker)
{
	while (run->attack->next && attacker->in_flight < run->attack->in_flight) {
		struct hbm_wire_header *message = run->attack->next(run, attacker);
		if (!message || !attacker_send(attacker, message))
			return;
		run->counts->sent++;
	}
}

static void attack_count(struct attack_counts *counts, const struct hbm_wire_header *header)
{
	counts->answered++;
	counts->refused += header->status != HBM_OK;
	bool has_results = header->opcode >= HBM_WIRE_LOOKUP && header->opcode <= HBM_WIRE_REMOVE;
	if (header->status == HBM_OK && has_results &&
	    header->size >= sizeof(struct hbm_wire_results))
		counts->done += ((const struct hbm_wire_results *)header)->done;
}

/* Takes what there is; false: the session is over. */
static bool attack_session_take(struct attack_run *run, struct attacker *attacker)
{
	const struct hbm_wire_header *header = (const void *)reply;
	int n;

	while ((n = attacker_take(attacker, reply, run->attack->keeps_fds)) > 0) {
		if (header->flags & HBM_WIRE_MORE)
			continue;
		attack_count(run->counts, header);
		if (run->attack->replied && !run->attack->replied(run, attacker, header))
			return false;
	}

	if (n < 0) {
		run->counts->answered += run->attack->is_bare;
		run->counts->dropped += !run->attack->is_bare;
	}

	return n == 0;
}

/* Opens what is closed, and sends what may be sent. False if a session cannot be had. */
static bool attack_send_all(struct attack_run *run, struct attacker *attackers, unsigned count)
{
	bool all_open = true;

	for (unsigned i = 0; i < count; i++) {
		bool open = attackers[i].socket >= 0 || attack_session_open(run, &attackers[i]);
		if (open)
			attack_session_send(run, &attackers[i]);
		all_open = all_open && open;
	}

	return all_open;
}

/* Waits until something can be done, and takes what has come. */
static void attack_take_all(struct attack_run *run, struct attacker *attackers, unsigned count,
			    bool all_open)
{
	static struct pollfd pollers[SESSIONS_MAX];

	for (unsigned i = 0; i < count; i++) {
		int in = run->attack->is_deaf ? 0 : POLLIN;
		int out = attackers[i].is_blocked ? POLLOUT : 0;
		pollers[i] =
			(struct pollfd){.fd = attackers[i].socket, .events = (short)(in | out)};
	}

	poll(pollers, count, all_open ? -1 : IDLE_MS);

	for (unsigned i = 0; i < count; i++) {
		bool readable = (pollers[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
		if (readable && !attack_session_take(run, &attackers[i]))
			attacker_close(&attackers[i]);
	}
}

static void attack_allow_fds(void)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void attack_play(const struct spawn *spawn, uint64_t number)
{
	static struct attack_run run;
	static struct attacker attackers[SESSIONS_MAX];
	struct attack_board *board = board_open(spawn, 0);

	(void)number;
	run.attack = attack_find(board->name);
	run.spawn = spawn;
	run.counts = &board->counts;
	run.size = run.attack->size[board->scale];
	attack_allow_fds();
	if (run.attack->prepare) {
		int socket = raw_greet(spawn);

		run.attack->prepare(&run, socket);
		close(socket);
	}

	if (!run.attack->is_operator)
		attacker_become_nobody();
	for (unsigned i = 0; i < board->sessions; i++)
		attackers[i] = (struct attacker){.number = i, .socket = -1, .doorbell = -1};

	for (bool told = false;; told = true) {
		bool all_open = attack_send_all(&run, attackers, board->sessions);
		if (!told)
			child_tell();
		attack_take_all(&run, attackers, board->sessions, all_open);
	}
}
