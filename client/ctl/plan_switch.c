/* SPDX-License-Identifier: Apache-2.0 */
/* plan_switch: see plan_switch.h. */
#include "client/ctl/plan_switch.h"
#include "client/ctl/content.h"
#include "client/ctl/copier.h"
#include "client/ctl/samples.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES (1ull << 20)
#define BATCH 64 /* blocks of one request */
#define NAP_NS 200000
#define SETTLE_NS 60000000000ull /* timeout for transfers to finish */

struct scratch {
	struct ctl *ctl;
	struct hbm *hbm;
	struct hbm_region *region;
	struct copier *copier;
	uint32_t ns;
	size_t count; /* of blocks */
	struct hbm_segment *segments;
	struct hbm_block *blocks;
	hbm_key *keys;
	hbm_result *results;
	void *staging; /* one block */
	struct plan_live *live;
};

static int plan_switch_refused(const struct scratch *scratch, const char *what, int status)
{
	return ctl_refused(scratch->hbm, what, status);
}

__attribute__((format(printf, 2, 3))) static void plan_switch_note(struct scratch *scratch,
								   const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (!*scratch->live->note)
		vsnprintf(scratch->live->note, sizeof(scratch->live->note), format, arguments);
	va_end(arguments);
}

/* ---- The scratch region ---- */

static int plan_switch_scratch_memory(struct scratch *scratch, uint64_t bytes)
{
	struct hbm_region_options options = {.address_space = bytes};
	int status = hbm_region_create(scratch->hbm, &options, &scratch->region);
	if (status != 0)
		return plan_switch_refused(scratch, "a scratch region", status);

	struct hbm_range all = {scratch->region, 0, hbm_region_bytes(scratch->region)};
	status = hbm_commit(scratch->hbm, &all, 1);

	return status == 0
		       ? CTL_DONE
		       : plan_switch_refused(
				 scratch, "memory for a scratch region (--switch-bytes takes less)",
				 status);
}

/* A namespace of its own for each run: blocks of another run are not found. */
static int plan_switch_scratch_namespace(struct scratch *scratch)
{
	char salt[HBM_WIRE_NAME_BYTES];

	snprintf(salt, sizeof(salt), "%ld %" PRIu64, (long)getpid(), samples_clock_ns());

	struct hbm_namespace_options options = {
		.model = "plan", .layout = "scratch", .salt = salt, .block_bytes = BLOCK_BYTES};
	int status = hbm_namespace_open(scratch->hbm, &options, &scratch->ns);

	return status == 0 ? CTL_DONE : plan_switch_refused(scratch, "a scratch namespace", status);
}

static int plan_switch_scratch_buffers(struct scratch *scratch)
{
	scratch->segments = calloc(scratch->count, sizeof(*scratch->segments));
	scratch->blocks = calloc(scratch->count, sizeof(*scratch->blocks));
	scratch->keys = calloc(scratch->count, sizeof(*scratch->keys));
	scratch->results = calloc(scratch->count, sizeof(*scratch->results));
	scratch->staging = aligned_alloc(4096, BLOCK_BYTES);
	if (!scratch->segments || !scratch->blocks || !scratch->keys || !scratch->results ||
	    !scratch->staging)
		return ctl_fail("out of memory");

	for (size_t i = 0; i < scratch->count; i++)
		scratch->segments[i] =
			(struct hbm_segment){scratch->region, i * BLOCK_BYTES, BLOCK_BYTES};

	return CTL_DONE;
}

static int plan_switch_scratch_copier(struct scratch *scratch)
{
	char error[256];
	if (copier_open(&scratch->copier, scratch->hbm, 0, error, sizeof(error)) < 0)
		return ctl_fail("%s", error);

	int r = copier_enter(scratch->copier);
	return r == 0 ? CTL_DONE : ctl_fail("device context: %s", copier_error(scratch->copier, r));
}

static int plan_switch_scratch_open(struct scratch *scratch, uint64_t bytes)
{
	struct hbm_options options = ctl_options(scratch->ctl, "hbmctl plan");
	int status = hbm_connect(&scratch->hbm, &options);
	if (status != 0)
		return ctl_no_daemon(scratch->ctl, status);

	scratch->count = (size_t)(bytes / BLOCK_BYTES + (bytes % BLOCK_BYTES != 0));

	int r = plan_switch_scratch_memory(scratch, scratch->count * BLOCK_BYTES);
	if (r == CTL_DONE)
		r = plan_switch_scratch_namespace(scratch);
	if (r == CTL_DONE)
		r = plan_switch_scratch_copier(scratch);

	return r == CTL_DONE ? plan_switch_scratch_buffers(scratch) : r;
}

static void plan_switch_scratch_close(struct scratch *scratch)
{
	copier_close(scratch->copier);
	hbm_close(scratch->hbm);
	free(scratch->segments);
	free(scratch->blocks);
	free(scratch->keys);
	free(scratch->results);
	free(scratch->staging);
}

/* ---- Its blocks ---- */

static uint64_t plan_switch_address(const struct scratch *scratch, size_t i)
{
	return hbm_region_address(scratch->region) + i * BLOCK_BYTES;
}

/* One chain, so that the policy keeps its blocks together. */
static int plan_switch_fill(struct scratch *scratch, enum hbm_tier tier)
{
	for (size_t i = 0; i < scratch->count; i++) {
		scratch->keys[i] = content_key(((uint64_t)tier << 32) + i);
		scratch->blocks[i] = (struct hbm_block){.key = scratch->keys[i],
							.segments = &scratch->segments[i],
							.segment_count = 1};
		if (i > 0)
			scratch->blocks[i].parent = scratch->keys[i - 1];

		content_fill(&scratch->keys[i], BLOCK_BYTES, scratch->staging);
		int r = copier_write(scratch->copier, plan_switch_address(scratch, i),
				     scratch->staging, BLOCK_BYTES);
		if (r != 0)
			return ctl_fail("copy to the device: %s", copier_error(scratch->copier, r));
	}
	return CTL_DONE;
}

static int plan_switch_wipe(struct scratch *scratch)
{
	memset(scratch->staging, 0, BLOCK_BYTES);
	for (size_t i = 0; i < scratch->count; i++) {
		int r = copier_write(scratch->copier, plan_switch_address(scratch, i),
				     scratch->staging, BLOCK_BYTES);
		if (r != 0)
			return ctl_fail("copy to the device: %s", copier_error(scratch->copier, r));
	}

	return CTL_DONE;
}

static int plan_switch_compare(struct scratch *scratch)
{
	for (size_t i = 0; i < scratch->count; i++) {
		int r = copier_read(scratch->copier, scratch->staging,
				    plan_switch_address(scratch, i), BLOCK_BYTES);
		if (r != 0)
			return ctl_fail("copy from the device: %s",
					copier_error(scratch->copier, r));

		if (content_compare(&scratch->keys[i], BLOCK_BYTES, scratch->staging) !=
		    CONTENT_SAME)
			return ctl_fail(
				"block %zu differs from what was stored: see the daemon's log", i);
	}
	return CTL_DONE;
}

/* All batches are in flight before the first is waited for. */
static int plan_switch_move(struct scratch *scratch, bool out)
{
	size_t batches = (scratch->count + BATCH - 1) / BATCH;
	hbm_ticket *tickets = calloc(batches, sizeof(*tickets));
	int status = tickets ? 0 : -1;
	size_t sent = 0;

	for (; status == 0 && sent < batches; sent++) {
		size_t from = sent * BATCH,
		       count = scratch->count - from < BATCH ? scratch->count - from : BATCH;
		status = (out ? hbm_submit_store : hbm_submit_load)(
			scratch->hbm, scratch->ns, scratch->blocks + from, count, NULL,
			scratch->results + from, &tickets[sent]);
		sent -= status != 0;
	}

	for (size_t i = 0; i < sent; i++) {
		int ended = hbm_wait(scratch->hbm, tickets[i], -1);
		status = status == 0 ? ended : status;
	}

	free(tickets);
	if (!tickets)
		return ctl_fail("out of memory");

	return status == 0 ? CTL_DONE
			   : plan_switch_refused(scratch, out ? "store" : "load", status);
}

/* The first block that did not end HBM_OK, or count. */
static size_t plan_switch_first_bad(const struct scratch *scratch)
{
	size_t i = 0;
	while (i < scratch->count && scratch->results[i].status == HBM_OK)
		i++;
	return i;
}

/* ---- Tiers ---- */

struct tier_state {
	uint64_t capacity, used, blocks, moving;
};

static int plan_switch_add_tier(const void *record, size_t record_bytes, void *arg)
{
	const struct hbm_wire_tier *tier = record;
	struct tier_state *states = arg;

	(void)record_bytes;

	if (tier->tier < HBM_TIERS && tier->device == 0) {
		states[tier->tier].capacity += tier->capacity;
		states[tier->tier].used += tier->bytes;
		states[tier->tier].blocks += tier->blocks;
		states[tier->tier].moving += tier->moving;
	}

	return 0;
}

static int plan_switch_read_tiers(struct scratch *scratch, struct tier_state states[HBM_TIERS])
{
	memset(states, 0, HBM_TIERS * sizeof(*states));

	int status = hbm_query(scratch->hbm, HBM_QUERY_TIERS, plan_switch_add_tier, states);
	return status == 0 ? CTL_DONE : plan_switch_refused(scratch, "tiers", status);
}

static int plan_switch_settle(struct scratch *scratch)
{
	uint64_t end = samples_clock_ns() + SETTLE_NS;

	for (;;) {
		struct tier_state states[HBM_TIERS];
		int r = plan_switch_read_tiers(scratch, states);
		uint64_t moving = states[HBM_TIER_HBM].moving + states[HBM_TIER_DDR].moving +
				  states[HBM_TIER_NVME].moving;
		if (r != CTL_DONE || moving == 0)
			return r;
		if (samples_clock_ns() >= end)
			return ctl_fail("transfers did not finish in 60 s: see hbmctl trace");

		nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
	}
}

/* Evicts everything from the tiers above `tier`, from the top. */
static int plan_switch_push_down(struct scratch *scratch, enum hbm_tier tier)
{
	for (int above = HBM_TIER_HBM; above < (int)tier; above++) {
		int status = hbm_evict(scratch->hbm, (enum hbm_tier)above, 0, UINT64_MAX, NULL);
		if (status != 0 && status != HBM_UNSUPPORTED)
			return plan_switch_refused(scratch, "evict", status);
		int r = plan_switch_settle(scratch);
		if (r != CTL_DONE)
			return r;
	}
	return plan_switch_settle(scratch);
}

/* Whether every block of ours is in `tier`. */
static int plan_switch_all_in_tier(struct scratch *scratch, enum hbm_tier tier, bool *all)
{
	*all = true;
	for (size_t from = 0; from < scratch->count; from += BATCH) {
		size_t count = scratch->count - from < BATCH ? scratch->count - from : BATCH;
		struct hbm_lookup answer;
		hbm_result results[BATCH];
		int status = hbm_lookup(scratch->hbm, scratch->ns, scratch->keys + from, count,
					&answer, results);
		if (status != 0)
			return plan_switch_refused(scratch, "lookup", status);

		for (size_t i = 0; i < count; i++)
			*all = *all && results[i].status == HBM_OK && results[i].tier == tier;
	}

	return CTL_DONE;
}

/* Removing the head of the chain removes the others. */
static int plan_switch_remove(struct scratch *scratch)
{
	int status =
		hbm_keys(scratch->hbm, HBM_WIRE_REMOVE, scratch->ns, 0, scratch->keys, 1, NULL);
	return status == 0 ? plan_switch_settle(scratch)
			   : plan_switch_refused(scratch, "remove", status);
}

static double plan_switch_since(uint64_t start)
{
	return (double)(samples_clock_ns() - start) / 1e9;
}

/* *there: all blocks are in the tier; otherwise the note says why not. */
static int plan_switch_store_down(struct scratch *scratch, enum hbm_tier tier, double *out_s,
				  bool *there)
{
	*there = false;

	int r = plan_switch_fill(scratch, tier);
	uint64_t start = samples_clock_ns();
	if (r == CTL_DONE)
		r = plan_switch_move(scratch, true);

	size_t bad = plan_switch_first_bad(scratch);
	if (r == CTL_DONE && bad < scratch->count) {
		plan_switch_note(scratch, "%s not measured: storing block %zu: %s",
				 view_name(&view_tiers, tier), bad,
				 hbm_strerror(scratch->results[bad].status));
		return CTL_DONE;
	}

	if (r == CTL_DONE)
		r = plan_switch_push_down(scratch, tier);

	*out_s = plan_switch_since(start);
	if (r == CTL_DONE)
		r = plan_switch_all_in_tier(scratch, tier, there);

	if (r == CTL_DONE && !*there)
		plan_switch_note(scratch, "%s not measured: not all blocks reached it",
				 view_name(&view_tiers, tier));

	return r;
}

static int plan_switch_load_back(struct scratch *scratch, double *in_s)
{
	int r = plan_switch_wipe(scratch);
	uint64_t start = samples_clock_ns();

	if (r == CTL_DONE)
		r = plan_switch_move(scratch, false);

	*in_s = plan_switch_since(start);

	size_t bad = plan_switch_first_bad(scratch);
	if (r == CTL_DONE && bad < scratch->count)
		return ctl_fail("loading block %zu: %s", bad,
				hbm_strerror(scratch->results[bad].status));

	return r == CTL_DONE ? plan_switch_compare(scratch) : r;
}

static int plan_switch_round_trip(struct scratch *scratch, enum hbm_tier tier)
{
	struct plan_live *live = scratch->live;
	double out_s = 0, in_s = 0;
	bool there = false;
	int r = plan_switch_store_down(scratch, tier, &out_s, &there);
	if (r == CTL_DONE && there)
		r = plan_switch_load_back(scratch, &in_s);

	if (r != CTL_DONE) {
		/* Already reported; remove what can still be removed. */
		hbm_keys(scratch->hbm, HBM_WIRE_REMOVE, scratch->ns, 0, scratch->keys, 1, NULL);
		return r;
	}

	if (there)
		live->switches[live->switch_count++] =
			(struct plan_switch){.tier = tier,
					     .bytes = scratch->count * BLOCK_BYTES,
					     .out_s = out_s,
					     .in_s = in_s};

	return plan_switch_remove(scratch);
}

/* Why this tier cannot be measured without harm, or NULL. */
static const char *plan_switch_obstacle(const struct tier_state *states, enum hbm_tier tier,
					uint64_t bytes)
{
	if (states[tier].capacity < bytes)
		return "it is smaller than --switch-bytes";
	if (states[tier].capacity - states[tier].used < bytes)
		return "it has less room than --switch-bytes, and blocks of others would be "
		       "evicted";

	for (int above = HBM_TIER_HBM; above < (int)tier; above++) {
		if (states[above].blocks > 0)
			return "the tiers above hold blocks of others, which would be evicted";
	}

	return NULL;
}

static int plan_switch_measure(struct scratch *scratch, enum hbm_tier tier)
{
	struct tier_state states[HBM_TIERS];
	int r = plan_switch_read_tiers(scratch, states);
	if (r != CTL_DONE || states[tier].capacity == 0)
		return r;

	const char *why = plan_switch_obstacle(states, tier, scratch->count * BLOCK_BYTES);
	if (!why)
		return plan_switch_round_trip(scratch, tier);

	plan_switch_note(scratch, "%s not measured: %s", view_name(&view_tiers, tier), why);

	return CTL_DONE;
}

int plan_switch_perform(struct ctl *ctl, uint64_t bytes, struct plan_live *live)
{
	struct scratch scratch = {.ctl = ctl, .live = live};
	int r = plan_switch_scratch_open(&scratch, bytes);

	for (int tier = HBM_TIER_HBM; r == CTL_DONE && tier <= HBM_TIER_NVME; tier++)
		r = plan_switch_measure(&scratch, (enum hbm_tier)tier);
	plan_switch_scratch_close(&scratch);

	return r;
}
