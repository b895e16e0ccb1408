/* SPDX-License-Identifier: Apache-2.0 */
/* crowd: see crowd.h. */
#include "tests/support/crowd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/contents.h"

#include <stdio.h>
#include <string.h>

/* 14 tokens of a buffer fill a slab, and the next one lies across its end. */
#define CROWD_LAYOUT "layers=2 heads=1 dim=18000 bytes=4 order=token max=40"
#define CROWD_OTHER_LAYOUT "layers=3 heads=1 dim=18000 bytes=4 order=token max=40"

/* ---- What a process knows ---- */

struct pool_rig crowd_rig;
struct seed crowd_seed;
struct hbm_sequence *crowd_closed;
unsigned crowd_refusals;
const struct hbm_saved_space crowd_space = {.model = "crowd"};

static struct crowd_one crowd_all[CROWD_SEQUENCES];
static struct crowd_one crowd_saved; /* by the name of the process */
static uint64_t crowd_process, crowd_written;
static bool crowd_has_thread;

struct crowd_one *crowd_find(bool (*fits)(const struct crowd_one *one))
{
	const uint64_t first = seed_below(&crowd_seed, CROWD_SEQUENCES);

	for (uint64_t i = 0; i < CROWD_SEQUENCES; i++)
		if (fits(&crowd_all[(first + i) % CROWD_SEQUENCES]))
			return &crowd_all[(first + i) % CROWD_SEQUENCES];

	return NULL;
}

static bool crowd_is_none(const struct crowd_one *one)
{
	return !one->sequence;
}

bool crowd_is_suspended(const struct crowd_one *one)
{
	return one->sequence && one->suspended;
}

bool crowd_has_tokens(const struct crowd_one *one)
{
	return one->sequence && !one->suspended && one->tokens > 0;
}

static bool crowd_has_room(const struct crowd_one *one)
{
	return one->sequence && !one->suspended && one->tokens < CROWD_TOKENS;
}

/* Others have the memory: a process may be refused whatever takes some. */
bool crowd_is_done(int r)
{
	if (r != 0 && r != HBM_NO_SPACE && r != HBM_LIMIT)
		fail_msg("%d, %s", r, hbm_pool_error(crowd_rig.pool));

	return r == 0;
}

static void crowd_begin(struct crowd_one *one, struct hbm_sequence *sequence)
{
	*one = (struct crowd_one){.sequence = sequence};
	if (sequence == crowd_closed)
		crowd_closed = NULL; /* it is another's now */
}

static void crowd_end(struct crowd_one *one)
{
	crowd_closed = one->sequence;
	one->sequence = NULL;
	assert_int_equal(hbm_sequence_close(crowd_closed), 0);
}

/* ---- Calls that are right ---- */

static void crowd_open_one(void)
{
	const struct hbm_sequence_options options = {
		.expected = seed_below(&crowd_seed, CROWD_TOKENS / 2)};
	struct crowd_one *one = crowd_find(crowd_is_none);
	struct hbm_sequence *sequence;

	if (one && crowd_is_done(hbm_sequence_open(crowd_rig.pool, &options, &sequence)))
		crowd_begin(one, sequence);
}

static void crowd_close_one(void)
{
	struct crowd_one *one =
		crowd_find(seed_below(&crowd_seed, 2) ? crowd_has_tokens : crowd_is_suspended);

	if (one)
		crowd_end(one);
}

static struct contents crowd_contents(const struct crowd_one *one, uint64_t token)
{
	return (struct contents){
		.kv = &crowd_rig.kv, .tag = crowd_process, .shift = one->values[token] - token};
}

static void crowd_grow(void)
{
	struct crowd_one *one = crowd_find(crowd_has_room);

	if (!one)
		return;
	const uint64_t length =
		one->tokens + 1 + seed_below(&crowd_seed, CROWD_TOKENS - one->tokens);

	if (!crowd_is_done(pool_rig_step(&crowd_rig, one->sequence, length)))
		return;
	for (; one->tokens < length; one->tokens++) {
		one->values[one->tokens] = ++crowd_written;
		const struct contents contents = crowd_contents(one, one->tokens);

		contents_write(&contents, one->sequence, one->tokens, one->tokens + 1);
	}
}

/* A fork can be read when a step has named it. */
static void crowd_fork(void)
{
	struct crowd_one *one = crowd_find(crowd_has_tokens), *child = crowd_find(crowd_is_none);
	struct hbm_sequence *sequence;

	if (!one || !child || !crowd_is_done(hbm_sequence_fork(one->sequence, 1, &sequence)))
		return;

	crowd_begin(child, sequence);
	memcpy(child->values, one->values, sizeof(one->values));
	child->tokens = one->tokens;
	if (!crowd_is_done(pool_rig_step(&crowd_rig, sequence, child->tokens)))
		crowd_end(child);
}

static void crowd_truncate(void)
{
	struct crowd_one *one = crowd_find(crowd_has_tokens);

	if (!one)
		return;
	one->tokens -= seed_below(&crowd_seed, one->tokens);
	assert_int_equal(hbm_sequence_truncate(one->sequence, one->tokens), 0);
}

/* The second becomes the first. */
static void crowd_reorder(void)
{
	struct crowd_one *one = crowd_find(crowd_has_tokens), *other = crowd_find(crowd_has_tokens);

	if (!one || one == other)
		return;
	if (!crowd_is_done(hbm_sequences_reorder(
		    crowd_rig.pool, (struct hbm_sequence *[]){one->sequence, other->sequence},
		    (const uint32_t[]){0, 0}, 2)))
		return;
	memcpy(other->values, one->values, sizeof(one->values));
	other->tokens = one->tokens;
}

/* Every other token. */
static void crowd_keep(void)
{
	struct crowd_one *one = crowd_find(crowd_has_tokens);
	uint64_t set[CROWD_TOKENS];
	size_t count = 0;

	for (uint64_t i = 0; one && i < one->tokens; i += 2)
		set[count++] = i;
	if (!one || !crowd_is_done(hbm_sequence_keep(one->sequence, HBM_AXIS_TOKENS, set, count)))
		return;
	for (size_t i = 0; i < count; i++)
		one->values[i] = one->values[set[i]];
	one->tokens = count;
}

static void crowd_suspend(void)
{
	const enum hbm_tier tier = seed_below(&crowd_seed, 2) ? HBM_TIER_DDR : HBM_TIER_NVME;
	struct crowd_one *one = crowd_find(crowd_has_tokens);

	if (one)
		one->suspended = crowd_is_done(
			hbm_sequences_suspend(crowd_rig.pool, &one->sequence, 1, tier));
}

static void crowd_resume(void)
{
	struct crowd_one *one = crowd_find(crowd_is_suspended);

	if (one)
		one->suspended =
			!crowd_is_done(hbm_sequences_resume(crowd_rig.pool, &one->sequence, 1));
}

static const char *crowd_own_name(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "%llx", (unsigned long long)crowd_process);

	return name;
}

static void crowd_save(void)
{
	const struct crowd_one *one = crowd_find(crowd_has_tokens);
	uint64_t tokens;

	if (!one)
		return;
	const struct hbm_save save = {one->sequence, crowd_own_name(), 0};
	const struct hbm_save_options options = {.space = crowd_space};

	crowd_is_done(hbm_sequences_save(crowd_rig.pool, &save, 1, &options, &tokens));
	if (tokens > 0) {
		crowd_saved = *one;
		crowd_saved.tokens = tokens;
	}
}

/* Others may have evicted it, from its end on. */
static void crowd_restore(void)
{
	struct crowd_one *one = crowd_find(crowd_is_none);
	struct hbm_sequence *sequence;

	if (!one || crowd_saved.tokens == 0)
		return;
	int r = hbm_sequence_restore(crowd_rig.pool, &crowd_space, crowd_own_name(), NULL,
				     &sequence);
	if (r == HBM_NOT_FOUND || !crowd_is_done(r))
		return;

	crowd_begin(one, sequence);
	memcpy(one->values, crowd_saved.values, sizeof(crowd_saved.values));
	one->tokens = pool_rig_facts(sequence).tokens;
	assert_in_range(one->tokens, 1, crowd_saved.tokens);
}

/* ---- What must not change ---- */

void crowd_remember(void)
{
	for (struct crowd_one *one = crowd_all; one < crowd_all + CROWD_SEQUENCES; one++)
		if (one->sequence)
			one->facts = pool_rig_facts(one->sequence);
}

static void crowd_check_facts(const struct crowd_one *one, bool all)
{
	const struct hbm_sequence_facts *was = &one->facts, is = pool_rig_facts(one->sequence);

	assert_int_equal(was->number, is.number);
	assert_int_equal(was->address, is.address);
	assert_int_equal(was->tokens, is.tokens);
	assert_int_equal(was->drafts, is.drafts);
	assert_int_equal(was->first, is.first);
	assert_int_equal(was->max, is.max);
	assert_int_equal(was->state, is.state);
	assert_int_equal(was->tier, is.tier);
	assert_int_equal(was->suspended_bytes, is.suspended_bytes);
	if (!all)
		return;
	assert_int_equal(was->ready, is.ready);
	assert_int_equal(was->mapped_bytes, is.mapped_bytes);
	assert_int_equal(was->shared_bytes, is.shared_bytes);
	assert_int_equal(was->promised_bytes, is.promised_bytes);
}

static void crowd_check_refusal(int r, int status, const char *line, const char *text, bool all)
{
	if (r != status || line[0] == '\0' || strchr(line, '\n') || !strstr(line, text))
		fail_msg("%d, \"%s\", instead of %d and a line with \"%s\"", r, line, status, text);
	for (const struct crowd_one *one = crowd_all; one < crowd_all + CROWD_SEQUENCES; one++)
		if (one->sequence)
			crowd_check_facts(one, all);
	crowd_refusals++;
}

/* A thread maps at any time. */
void crowd_refused(int r, int status, const char *text)
{
	crowd_check_refusal(r, status, hbm_pool_error(crowd_rig.pool), text, !crowd_has_thread);
}

void crowd_refused_for_memory(int r, int status, const char *line, const char *text)
{
	crowd_check_refusal(r, status, line, text, false);
}

void crowd_check(void)
{
	for (const struct crowd_one *one = crowd_all; one < crowd_all + CROWD_SEQUENCES; one++) {
		if (!one->sequence)
			continue;
		assert_int_equal(pool_rig_facts(one->sequence).tokens, one->tokens);
		for (uint64_t i = 0; i < one->tokens && !one->suspended; i++) {
			const struct contents contents = crowd_contents(one, i);

			if (!contents_are(&contents, one->sequence, i, i + 1))
				fail_msg("token %llu of %llu is another", (unsigned long long)i,
					 (unsigned long long)one->tokens);
		}
	}
}

static void (*const crowd_calls[])(void) = {
	crowd_open_one, crowd_open_one, crowd_close_one, crowd_grow,     crowd_grow,
	crowd_grow,     crowd_fork,     crowd_fork,      crowd_truncate, crowd_reorder,
	crowd_keep,     crowd_save,     crowd_restore,   crowd_suspend,  crowd_resume,
};

void crowd_call(void)
{
	crowd_calls[seed_below(&crowd_seed, sizeof(crowd_calls) / sizeof(crowd_calls[0]))]();
}

/* ---- Pools ---- */

void crowd_open(const struct spawn *spawn, uint64_t number)
{
	crowd_has_thread = number & 1;
	const struct hbm_pool_options options = {.max_sequences = CROWD_SEQUENCES + 2,
						 .map_ahead_thread = crowd_has_thread,
						 .warm_bytes = number & 2 ? 4 * RIG_SLAB : 0};

	crowd_process = crowd_seed.state = number;
	pool_rig_open(&crowd_rig, spawn, CROWD_LAYOUT, &options);
}

void crowd_open_other(const struct spawn *spawn, const char *name)
{
	const struct hbm_pool_options options = {.max_sequences = 1};
	const struct hbm_save_options pinned = {.space = crowd_space, .pin = true};
	uint64_t tokens;

	pool_rig_open(&crowd_rig, spawn, CROWD_OTHER_LAYOUT, &options);
	const struct hbm_save save = {pool_rig_sequence(&crowd_rig), name, 0};

	assert_int_equal(pool_rig_step(&crowd_rig, save.sequence, 3), 0);
	assert_int_equal(hbm_sequences_save(crowd_rig.pool, &save, 1, &pinned, &tokens), 0);
	assert_int_equal(tokens, 3);
	assert_int_equal(hbm_sequence_close(save.sequence), 0);
}
