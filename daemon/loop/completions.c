/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/loop/completions.h"

#include "daemon/loop/loop.h"

#define DELIVER_NS 50000u
#define DELIVER_COUNT 8 /* between two looks at the clock */

/* Takes the first ones, at most DELIVER_COUNT; whether that leaves others. */
static struct post *completions_take(struct completions *completions, bool *more)
{
	pthread_mutex_lock(&completions->lock);

	struct post *first = completions->first, **rest = &first;
	for (unsigned i = 0; i < DELIVER_COUNT && *rest; i++)
		rest = &(*rest)->next;

	completions->first = *rest;
	*rest = NULL;
	*more = completions->first != NULL;
	if (!*more)
		completions->last = &completions->first;

	pthread_mutex_unlock(&completions->lock);

	return first;
}

static void completions_deliver(struct post *post)
{
	struct completions *completions = container_of(post, struct completions, post);
	uint64_t until = clock_now() + DELIVER_NS;
	bool more;

	do {
		struct post *next, *taken = completions_take(completions, &more);
		for (; taken; taken = next) {
			next = taken->next; /* first: run() may free it */
			taken->run(taken);
		}
	} while (more && clock_now() < until);

	if (more)
		loop_post(completions->loop, post);
	if (completions->batch_done)
		completions->batch_done(completions->arg);
}

void completions_open(struct completions *completions, struct loop *loop)
{
	*completions = (struct completions){.loop = loop, .post.run = completions_deliver};
	completions->last = &completions->first;
	pthread_mutex_init(&completions->lock, NULL);
}

void completions_close(struct completions *completions)
{
	pthread_mutex_destroy(&completions->lock);
}

void completions_on_batch(struct completions *completions, void (*batch_done)(void *arg), void *arg)
{
	completions->batch_done = batch_done;
	completions->arg = arg;
}

void completions_add(struct completions *completions, struct post *posts)
{
	pthread_mutex_lock(&completions->lock);
	bool was_empty = completions->first == NULL;
	*completions->last = posts;
	while (*completions->last)
		completions->last = &(*completions->last)->next;
	pthread_mutex_unlock(&completions->lock);

	if (was_empty)
		loop_post(completions->loop, &completions->post);
}
