/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/wipes.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_FIRST 64
#define CAPACITY_KEPT 4096 /* when none is left */

static bool wipes_grow(struct wipes *wipes)
{
	size_t capacity = wipes->capacity > 0 ? wipes->capacity * 2 : CAPACITY_FIRST;
	struct wipe *list = wipes->count < wipes->capacity
				    ? wipes->list
				    : reallocarray(wipes->list, capacity, sizeof(*list));
	if (!list)
		return false;

	if (wipes->count == wipes->capacity)
		wipes->capacity = capacity;
	wipes->list = list;

	return true;
}

bool wipes_add(struct wipes *wipes, const struct wipe *wipe)
{
	if (!wipes_grow(wipes)) {
		wipes->kept = true;
		return false;
	}

	wipes->list[wipes->count++] = *wipe;
	wipes->bytes += wipe->bytes;

	return true;
}

bool wipes_take(struct wipes *wipes, struct wipe *wipe)
{
	if (wipes->count == 0)
		return false;

	*wipe = wipes->list[--wipes->count];
	if (wipes->count == 0 && wipes->capacity > CAPACITY_KEPT) {
		free(wipes->list);
		wipes->list = NULL;
		wipes->capacity = 0;
	}

	return true;
}

void wipes_end(struct wipes *wipes, const struct wipe *wipe)
{
	assert(wipes->bytes >= wipe->bytes);
	wipes->bytes -= wipe->bytes;
}

void wipes_clear(struct wipes *wipes)
{
	free(wipes->list);
	*wipes = (struct wipes){0};
}
