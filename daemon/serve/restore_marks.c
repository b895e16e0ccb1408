/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/restore_marks.h"

#include "daemon/cache/marks.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/pins.h"

#include <errno.h>
#include <stdlib.h>

#define SLICE_NS UINT64_C(200000) /* in a turn of the loop */

struct restored_marks {
	struct hbmd *hbmd;
	struct marks marks;
	struct mark *mark; /* that is being made; NULL: none */
	uint32_t number;   /* its block */
	uint32_t walk;
	union {
		struct cache_pinning pinning;
		struct cache_retaining retaining;
	};
	uint64_t again; /* of what is retained: those from it on enter their orders again */
	bool complete;  /* all blocks are there that come back */
	struct background background;
};

/* The block, or 0. */
static uint32_t restore_marks_find(const struct restored_marks *restored, const struct mark *mark)
{
	const struct cache *cache = restored->hbmd->cache;

	return namespaces_get(cache->namespaces, mark->ns) ? cache_find(cache, mark->ns, &mark->key)
							   : 0;
}

/* ---- Pins ---- */

static void restore_marks_drop(const struct restored_marks *restored, const struct mark *mark)
{
	state_drop(restored->marks.state, mark->retained ? STATE_RETAINED : STATE_PINS,
		   mark->record);
}

static bool restore_marks_pin(struct restored_marks *restored, struct slice *slice)
{
	struct cache *cache = restored->hbmd->cache;

	if (!cache_pin_some(cache, &restored->pinning, &restored->walk, slice))
		return false;

	struct pin *pin = restored->pinning.status == HBM_OK
				  ? pin_new_always(&restored->hbmd->ledger->host)
				  : NULL;
	if (pin) {
		pin->number = restored->number;
		pin->mark = restored->mark->record + 1;
		list_push_back(&cache->kept_pins, &pin->link);
	} else {
		if (restored->pinning.status == HBM_OK)
			cache_unpin(cache, restored->number);
		restore_marks_drop(restored, restored->mark);
	}

	return true;
}

/* ---- What is retained ---- */

/* NULL: its tenant is gone, its time is over, or there is no memory. */
static struct user *restore_marks_user(const struct restored_marks *restored,
				       const struct mark_retained *record)
{
	struct ledger *ledger = restored->hbmd->ledger;
	struct tenant *tenant = tenant_find(ledger, record->tenant);

	return record->until_ns > clock_now() && (tenant || record->tenant[0] == '\0')
		       ? user_open_of(ledger, record->uid, tenant)
		       : NULL;
}

/* It has a record of its own then, and so have its ancestors. */
static bool restore_marks_retain(struct restored_marks *restored, struct slice *slice)
{
	struct cache_retaining *retaining = &restored->retaining;

	if (retaining->user &&
	    !cache_retain_some(restored->hbmd->cache, retaining, &restored->walk, slice))
		return false;

	user_close(retaining->user);
	restore_marks_drop(restored, restored->mark);

	return true;
}

/* ---- One after the other ---- */

static void restore_marks_begin(struct restored_marks *restored, struct mark *mark, uint32_t number)
{
	restored->mark = mark;
	restored->number = number;
	restored->walk = CACHE_WALK_MAX;
	if (!mark->retained) {
		cache_pin_begin(&restored->pinning, number);
		restored->pinning.always = true;
		return;
	}

	const struct mark_retained *record =
		state_body(restored->marks.state, STATE_RETAINED, mark->record);
	cache_retain_begin(&restored->retaining, number, restore_marks_user(restored, record),
			   record->priority, record->until_ns);
	restored->retaining.always = true;
}

/* False: the slice is over. */
static bool restore_marks_go_on(struct restored_marks *restored, struct slice *slice)
{
	const struct mark *mark = restored->mark;
	bool is_there = restore_marks_find(restored, mark) == restored->number;

	/* Its number may be another's meanwhile. */
	if (!is_there && mark->retained)
		restored->retaining.status = HBM_MISS;
	else if (!is_there && !restored->pinning.done)
		restored->pinning.status = HBM_MISS;
	if (!(mark->retained ? restore_marks_retain(restored, slice)
			     : restore_marks_pin(restored, slice)))
		return false;

	restored->mark = NULL;

	return true;
}

static bool restore_marks_again(struct restored_marks *restored)
{
	struct cache *cache = restored->hbmd->cache;
	const struct retention *retention = &cache->retention;

	if (!restored->complete || restored->again >= retention->count)
		return false;

	cache_retain_again(cache, retention->by_end[restored->again++]->number);

	return true;
}

/* False: nothing is to be done. */
static bool restore_marks_step(struct restored_marks *restored, struct slice *slice)
{
	struct mark *mark = restored->mark;
	if (mark) {
		(void)restore_marks_go_on(restored, slice);
		return true;
	}

	mark = marks_next(&restored->marks);
	if (!mark && restored->complete)
		mark = marks_rest(&restored->marks);
	if (!mark)
		return restore_marks_again(restored);

	uint32_t number = restore_marks_find(restored, mark);
	if (number != 0)
		restore_marks_begin(restored, mark, number);
	else
		restore_marks_drop(restored, mark);

	return true;
}

static bool restore_marks_run(struct background *background)
{
	struct restored_marks *restored =
		container_of(background, struct restored_marks, background);
	struct slice slice = {.until_ns = clock_now() + SLICE_NS};
	bool more;

	do
		more = restore_marks_step(restored, &slice);
	while (more && !slice_is_over(&slice));

	return more;
}

static void restore_marks_found(void *arg, uint32_t number)
{
	struct restored_marks *restored = arg;
	const struct block *block = cache_block(restored->hbmd->cache, number);

	marks_found(&restored->marks, block->ns, &block->key);
	if (restored->marks.first != 0)
		loop_background(restored->hbmd->loop, &restored->background);
}

/* ---- All of it ---- */

int restore_marks_open(struct hbmd *hbmd)
{
	struct restored_marks *restored = calloc(1, sizeof(*restored));
	if (!restored)
		return -ENOMEM;

	restored->hbmd = hbmd;
	restored->background.run = restore_marks_run;
	int r = marks_open(&restored->marks, hbmd->kept);
	if (r < 0) {
		free(restored);
		return r;
	}

	hbmd->restored_marks = restored;
	hbmd->cache->kept = hbmd->kept;
	hbmd->cache->recovered = restore_marks_found;
	hbmd->cache->recovered_arg = restored;

	return 0;
}

void restore_marks_finish(struct hbmd *hbmd)
{
	struct restored_marks *restored = hbmd->restored_marks;
	if (!restored || restored->complete)
		return;

	restored->complete = true;
	loop_background(hbmd->loop, &restored->background);
}

void restore_marks_close(struct hbmd *hbmd)
{
	struct restored_marks *restored = hbmd->restored_marks;

	hbmd->restored_marks = NULL;
	if (hbmd->cache) {
		hbmd->cache->kept = NULL;
		hbmd->cache->recovered = NULL;
	}
	if (!restored)
		return;

	loop_background_stop(&restored->background);
	if (restored->mark && restored->mark->retained)
		user_close(restored->retaining.user);
	marks_close(&restored->marks);
	free(restored);
}
