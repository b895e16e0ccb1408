/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/loop/loop_background.h"

#include "daemon/base/clock.h"

#define TURN_NS 50000u /* of a turn, for all of it together */

static bool background_is_on(const struct background *background)
{
	return background->link.next && !list_empty(&background->link);
}

void backgrounds_init(struct backgrounds *backgrounds, void (*run)(struct post *post))
{
	*backgrounds = (struct backgrounds){.post = {.run = run}};
	list_init(&backgrounds->list);
}

static bool background_must_post(struct backgrounds *backgrounds)
{
	if (backgrounds->posted || list_empty(&backgrounds->list))
		return false;

	backgrounds->posted = true;
	return true;
}

bool backgrounds_add(struct backgrounds *backgrounds, struct background *background)
{
	if (background_is_on(background))
		return false;

	list_push_back(&backgrounds->list, &background->link);
	return background_must_post(backgrounds);
}

bool backgrounds_run(struct backgrounds *backgrounds)
{
	uint64_t until = clock_now() + TURN_NS;

	/* While it runs the post counts as posted: what is turned on meanwhile has its turn
	 * here or in the next. */
	for (struct list *node; (node = list_pop_front(&backgrounds->list));) {
		struct background *background = container_of(node, struct background, link);

		if (background->run(background) && !background_is_on(background))
			list_push_back(&backgrounds->list, &background->link);
		if (clock_now() >= until)
			break;
	}

	backgrounds->posted = false;
	return background_must_post(backgrounds);
}

void backgrounds_remove(struct background *background)
{
	if (background_is_on(background))
		list_remove(&background->link);
}
