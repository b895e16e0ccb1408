/* SPDX-License-Identifier: Apache-2.0 */
/* suspend: see suspend.h. */
#include "client/ctl/suspend.h"

#include "client/ctl/query.h"
#include "client/ctl/view.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define SUSPEND_WAIT_S 10 /* also in hbmctl(1) */
#define SUSPEND_PAUSE_MS 10

enum { SUSPEND_WAIT, SUSPEND_TIER };
#define SUSPEND_WAIT_OPTION                                                                        \
	{                                                                                          \
		"wait", "SECONDS", "wait so long until it is done; default 10; 0: only ask"        \
	}
const struct option_spec suspend_options[] = {
	[SUSPEND_WAIT] = SUSPEND_WAIT_OPTION,
	[SUSPEND_TIER] = {"tier", "TIER", "to ddr or nvme; default: where its client likes"},
	{NULL, NULL, NULL},
};
const struct option_spec suspend_resume_options[] = {
	[SUSPEND_WAIT] = SUSPEND_WAIT_OPTION,
	{NULL, NULL, NULL},
};

/* What is asked for, of which sequences. */
struct suspend {
	uint64_t session, sequence; /* sequence 0: all */
	enum hbm_ask ask;
	enum hbm_tier tier;
	uint32_t wanted; /* enum hbm_sequence_state */
	uint64_t wait_s;
	/* as seen last */
	uint64_t count, done;
	uint32_t state; /* of one that is not there yet, or else of all */
};

/* ---- Words ---- */

static int suspend_parse_name(struct ctl *ctl, struct suspend *suspend)
{
	char session[32];
	const char *word = ctl->words[0], *slash = strchr(word, '/');
	if (!slash || slash == word || (size_t)(slash - word) >= sizeof(session))
		return ctl_usage(ctl, "\"%s\" is no sequence: expected SESSION/SEQUENCE", word);

	memcpy(session, word, (size_t)(slash - word));
	session[slash - word] = '\0';
	int r = ctl_count(ctl, "SESSION", session, &suspend->session);
	if (r != CTL_DONE || strcmp(slash + 1, "all") == 0)
		return r;

	r = ctl_count(ctl, "SEQUENCE", slash + 1, &suspend->sequence);

	return r == CTL_DONE && suspend->sequence == 0
		       ? ctl_usage(ctl, "SEQUENCE is 0: expected a number from 1 on, or all")
		       : r;
}

static int suspend_parse_tier(struct ctl *ctl, struct suspend *suspend)
{
	const char *tier =
		suspend->ask == HBM_ASK_SUSPEND ? ctl->options.values[SUSPEND_TIER] : NULL;
	if (!tier)
		return CTL_DONE;

	const int index = view_index(&view_tiers, tier);

	if (index != HBM_TIER_DDR && index != HBM_TIER_NVME)
		return ctl_usage(ctl, "--tier is \"%s\": expected ddr or nvme", tier);
	suspend->tier = (enum hbm_tier)index;

	return CTL_DONE;
}

static int suspend_parse(struct ctl *ctl, struct suspend *suspend)
{
	int r = suspend_parse_name(ctl, suspend);
	if (r == CTL_DONE)
		r = suspend_parse_tier(ctl, suspend);
	if (r == CTL_DONE)
		r = ctl_count(ctl, "--wait", ctl->options.values[SUSPEND_WAIT], &suspend->wait_s);

	return r;
}

/* ---- Looking ---- */

static bool suspend_is_meant(const void *record, const void *arg)
{
	const struct hbm_wire_sequence *sequence = record;
	const struct suspend *suspend = arg;

	return sequence->session == suspend->session &&
	       (suspend->sequence == 0 || sequence->sequence == suspend->sequence);
}

static int suspend_look(struct ctl *ctl, struct suspend *suspend)
{
	struct query query;
	int r = query_some(ctl->hbm, HBM_QUERY_SEQUENCES, suspend_is_meant, suspend, 0, &query);
	if (r != 0)
		return ctl_refused(ctl->hbm, "sequences", r);

	suspend->count = query.count;
	suspend->done = 0;
	suspend->state = suspend->wanted;
	for (size_t i = 0; i < query.count; i++) {
		const struct hbm_wire_sequence *sequence = query_record(&query, i);

		if (sequence->state == suspend->wanted)
			suspend->done++;
		else
			suspend->state = sequence->state;
	}
	query_clear(&query);

	return CTL_DONE;
}

static bool suspend_is_done(const struct suspend *suspend)
{
	return suspend->done == suspend->count;
}

static uint64_t suspend_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* One that is later than the clock goes is none. */
static uint64_t suspend_deadline_ms(uint64_t wait_s)
{
	const uint64_t now = suspend_now_ms();

	return wait_s < (UINT64_MAX - now) / 1000 ? now + wait_s * 1000 : UINT64_MAX;
}

/* Looks until all is done, none is left or the time is over. */
static int suspend_wait(struct ctl *ctl, struct suspend *suspend)
{
	const uint64_t until = suspend_deadline_ms(suspend->wait_s);
	int r = suspend_look(ctl, suspend);

	while (r == CTL_DONE && !suspend_is_done(suspend) && suspend_now_ms() < until) {
		nanosleep(&(struct timespec){.tv_nsec = SUSPEND_PAUSE_MS * 1000000}, NULL);
		r = suspend_look(ctl, suspend);
	}

	return r;
}

/* ---- Showing ---- */

static int suspend_show(struct ctl *ctl, const struct suspend *suspend)
{
	const char *state = view_name(&view_phases, suspend->state);

	if (ctl->json)
		return ctl_print_json(json_pack(
			"{s:o,s:o,s:o,s:o,s:s}", "session", view_json_count(suspend->session),
			"sequence",
			suspend->sequence ? view_json_count(suspend->sequence) : json_null(),
			"sequences", view_json_count(suspend->count), "done",
			view_json_count(suspend->done), "state", state));

	printf("asked session %" PRIu64 ": %" PRIu64 " of %" PRIu64 " sequences %s\n",
	       suspend->session, suspend->done, suspend->count,
	       view_name(&view_phases, suspend->wanted));

	return CTL_DONE;
}

static int suspend_finish(struct ctl *ctl, const struct suspend *suspend)
{
	if (suspend->count == 0)
		return ctl_fail("%s: asked, and %s has ended", ctl->command->name, ctl->words[0]);

	int r = suspend_show(ctl, suspend);
	if (r != CTL_DONE || suspend_is_done(suspend) || suspend->wait_s == 0)
		return r;

	return ctl_fail(
		"%s: asked, and after %" PRIu64 " s it is %s: its engine decides when it does it",
		ctl->command->name, suspend->wait_s, view_name(&view_phases, suspend->state));
}

static int suspend_ask(struct ctl *ctl, struct suspend *suspend)
{
	int r = suspend_look(ctl, suspend);
	if (r != CTL_DONE)
		return r;
	if (suspend->count == 0)
		return ctl_fail("%s: no sequence %s: see hbmctl sequences", ctl->command->name,
				ctl->words[0]);

	/* What is so already, is asked for all the same: it may be about to change. */
	int status =
		hbm_ask(ctl->hbm, suspend->session, suspend->sequence, suspend->ask, suspend->tier);
	if (status != 0)
		return ctl_refused(ctl->hbm, ctl->command->name, status);

	r = suspend_wait(ctl, suspend);

	return r == CTL_DONE ? suspend_finish(ctl, suspend) : r;
}

static int suspend_start(struct ctl *ctl, struct suspend *suspend)
{
	int r = suspend_parse(ctl, suspend);
	if (r == CTL_DONE)
		r = ctl_connect(ctl);

	return r == CTL_DONE ? suspend_ask(ctl, suspend) : r;
}

int suspend_run(struct ctl *ctl)
{
	struct suspend suspend = {
		.ask = HBM_ASK_SUSPEND, .wanted = HBM_SEQUENCE_SUSPENDED, .wait_s = SUSPEND_WAIT_S};

	return suspend_start(ctl, &suspend);
}

int suspend_resume(struct ctl *ctl)
{
	struct suspend suspend = {
		.ask = HBM_ASK_RESUME, .wanted = HBM_SEQUENCE_OPEN, .wait_s = SUSPEND_WAIT_S};

	return suspend_start(ctl, &suspend);
}
