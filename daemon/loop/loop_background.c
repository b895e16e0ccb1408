/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/loop/loop_background.h"

#include "daemon/base/clock.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/loop_engine.h"

#define TURN_NS 200000u /* of a turn, for all of it together */

static bool background_is_on(const struct background *background)
{
	return background->link.next && !list_empty(&background->link);
}

static void background_post_all(struct backgrounds *backgrounds)
{
	if (backgrounds->posted || list_empty(&backgrounds->list))
		return;

	backgrounds->posted = true;
	loop_post(backgrounds->loop, &backgrounds->post);
}

static void background_run_turn(struct post *post)
{
	struct backgrounds *backgrounds = container_of(post, struct backgrounds, post);
	uint64_t until = clock_now() + TURN_NS;

	backgrounds->posted = false;
	for (struct list *node; (node = list_pop_front(&backgrounds->list));) {
		struct background *background = container_of(node, struct background, link);

		if (background->run(background) && !background_is_on(background))
			list_push_back(&backgrounds->list, &background->link);
		if (clock_now() >= until)
			break;
	}

	background_post_all(backgrounds);
}

void backgrounds_init(struct backgrounds *backgrounds, struct loop *loop)
{
	*backgrounds = (struct backgrounds){.loop = loop, .post = {.run = background_run_turn}};
	list_init(&backgrounds->list);
}

void loop_background(struct loop *loop, struct background *background)
{
	if (background_is_on(background))
		return;

	list_push_back(&loop->backgrounds.list, &background->link);
	background_post_all(&loop->backgrounds);
}

void loop_background_stop(struct background *background)
{
	if (background_is_on(background))
		list_remove(&background->link);
}
