/* SPDX-License-Identifier: Apache-2.0 */
/* suspend_stage: see suspend_stage.h. */
#include "tests/support/suspend_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv_stage.h"
#include "tests/support/stage.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct pool_rig suspend_rig;
unsigned suspend_fds;

/* Half of a tier may be pinned. */
static const char *const suspend_sets[] = {"device.cache=8MiB", "ddr.size=128MiB",
					   "nvme.size=256MiB", NULL};

void suspend_start_daemon(const char *const *environment)
{
	spawn_start(&daemon_, suspend_sets, environment);
	suspend_fds = spawn_fds(&daemon_);
}

void suspend_start_with(const char *layout, const struct hbm_pool_options *options)
{
	if (daemon_.pid == 0)
		suspend_start_daemon(NULL);
	pool_rig_open(&suspend_rig, &daemon_, layout, options);
}

void suspend_start(const char *layout)
{
	const struct hbm_pool_options options = {.max_sequences = 8};

	suspend_start_with(layout, &options);
}

void suspend_finish(void)
{
	pool_rig_close(&suspend_rig);
	stage_finish(suspend_fds);
}

struct hbm_sequence *suspend_filled(uint64_t tokens, uint64_t value)
{
	struct hbm_sequence *sequence = pool_rig_sequence(&suspend_rig);

	assert_int_equal(pool_rig_step(&suspend_rig, sequence, tokens), 0);
	for (uint64_t i = 0; i < tokens; i++)
		pool_rig_write(&suspend_rig, sequence, i, value + i);

	return sequence;
}

void suspend_expect(struct hbm_sequence *sequence, uint64_t first, uint64_t end, uint64_t value)
{
	for (uint64_t i = first; i < end; i++)
		pool_rig_expect(&suspend_rig, sequence, i, value + i);
}

void suspend_grow(struct hbm_sequence *sequence, uint64_t from, uint64_t to, uint64_t value)
{
	assert_int_equal(pool_rig_step(&suspend_rig, sequence, to), 0);
	for (uint64_t i = from; i < to; i++)
		pool_rig_write(&suspend_rig, sequence, i, value + i);
}

void suspend_refused(int r, int status, const char *text)
{
	assert_int_equal(r, status);
	if (!strstr(hbm_pool_error(suspend_rig.pool), text))
		fail_msg("\"%s\" says nothing of \"%s\"", hbm_pool_error(suspend_rig.pool), text);
	assert_null(strchr(hbm_pool_error(suspend_rig.pool), '\n'));
}

uint64_t suspend_blocks(void)
{
	return kv_stage_blocks(suspend_rig.hbm).blocks;
}

void suspend_out(struct hbm_sequence *sequence, enum hbm_tier tier)
{
	if (hbm_sequences_suspend(suspend_rig.pool, &sequence, 1, tier) != 0)
		fail_msg("%s", hbm_pool_error(suspend_rig.pool));
}

void suspend_in(struct hbm_sequence *sequence)
{
	if (hbm_sequences_resume(suspend_rig.pool, &sequence, 1) != 0)
		fail_msg("%s", hbm_pool_error(suspend_rig.pool));
}

void suspend_scribble(void)
{
	struct hbm_sequence *other = suspend_filled(RIG_MAX, 777000);

	suspend_expect(other, 0, RIG_MAX, 777000);
	assert_int_equal(hbm_sequence_close(other), 0);
}

uint64_t suspend_memory(void)
{
	struct hbm_device_memory memory;

	assert_int_equal(hbm_device_memory(suspend_rig.hbm, 0, &memory), 0);

	return memory.available + memory.returning;
}

/* ---- Copies that are held ---- */

static char suspend_held[160];
static pthread_t suspend_thread;

void suspend_start_held(void)
{
	char soft[192];

	snprintf(suspend_held, sizeof(suspend_held), "%s/held", daemon_.dir);
	snprintf(soft, sizeof(soft), "HBM_SOFT=hold=%s", suspend_held);
	suspend_start_daemon((const char *[]){soft, NULL});
}

void suspend_hold(void)
{
	FILE *file = fopen(suspend_held, "we");

	assert_non_null(file);
	fclose(file);
}

static void *suspend_run(void *arg)
{
	(void)arg;
	usleep(100000);
	unlink(suspend_held);

	return NULL;
}

void suspend_let_go(void)
{
	assert_int_equal(pthread_create(&suspend_thread, NULL, suspend_run, NULL), 0);
}

void suspend_join(void)
{
	pthread_join(suspend_thread, NULL);
}
