/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_lent: the query that reads again what is lent (lent_check.h). One check goes on at a
 * time. A request that arrives meanwhile waits for the next one, with all others that do: what
 * is reported to it was read after its arrival. A check ends early when no client waits for it
 * any more, or the daemon stops.
 */
#include "daemon/serve/serve_lent.h"

#include "daemon/device/device.h"
#include "daemon/move/lent_check.h"

#include <stdlib.h>
#include <string.h>

struct lent_verification {
	struct hbmd *hbmd;
	struct lent_check *check;
	struct list requests; /* that it is for */
	struct list next;     /* that came later */
};

/* The answer is built here and copied when sent; only the loop thread uses it. */
static struct {
	struct hbm_wire_query_reply reply;
	struct hbm_wire_lent results[HBM_WIRE_DEVICES_MAX];
} answer;

static void serve_lent_send(const struct lent_verification *verification, struct request *request)
{
	uint32_t count = verification->hbmd->devices->count;

	if (verification->hbmd->state == HBMD_STOPPING) {
		request_refuse(request, HBM_SHUTDOWN, "the daemon is stopping");
		return;
	}

	memset(&answer, 0, sizeof(answer));
	answer.reply.kind = HBM_QUERY_LENT;
	answer.reply.count = count;
	answer.reply.record_bytes = sizeof(answer.results[0]);
	memcpy(answer.results, lent_check_results(verification->check),
	       count * sizeof(answer.results[0]));
	request_reply(request, HBM_OK, &answer.reply.kind,
		      sizeof(answer.reply) - sizeof(answer.reply.header) +
			      count * sizeof(answer.results[0]));
}

/* While one of the clients that wait for it is connected. */
static bool serve_lent_goes_on(void *arg)
{
	const struct lent_verification *verification = arg;
	bool wanted = false;

	list_for_each (node, &verification->requests) {
		const struct request *request = container_of(node, struct request, link);
		wanted |= request->session->state != SESSION_DEAD;
	}

	return wanted && verification->hbmd->state != HBMD_STOPPING;
}

static void serve_lent_done(void *arg);

/* Begins the check for those that wait; with none of them it ends. */
static void serve_lent_begin(struct lent_verification *verification)
{
	const struct lent_check_options options = {.mover = verification->hbmd->mover,
						   .goes_on = serve_lent_goes_on,
						   .done = serve_lent_done,
						   .arg = verification};

	while (!list_empty(&verification->next))
		list_push_back(&verification->requests, list_pop_front(&verification->next));
	if (!list_empty(&verification->requests) &&
	    lent_check_new(&verification->check, &options) == 0)
		return;

	for (struct list *node; (node = list_pop_front(&verification->requests));)
		request_refuse(container_of(node, struct request, link), HBM_LIMIT,
			       "the daemon is out of memory");
	verification->hbmd->lent_verification = NULL;
	free(verification);
}

static void serve_lent_done(void *arg)
{
	struct lent_verification *verification = arg;

	for (struct list *node; (node = list_pop_front(&verification->requests));)
		serve_lent_send(verification, container_of(node, struct request, link));
	verification->check = lent_check_free(verification->check);
	serve_lent_begin(verification);
}

static struct lent_verification *serve_lent_new(struct hbmd *hbmd)
{
	struct lent_verification *verification = calloc(1, sizeof(*verification));
	if (!verification)
		return NULL;

	verification->hbmd = hbmd;
	list_init(&verification->requests);
	list_init(&verification->next);
	hbmd->lent_verification = verification;

	return verification;
}

void serve_lent(struct hbmd *hbmd, struct request *request)
{
	struct lent_verification *verification = hbmd->lent_verification;
	bool first = !verification;

	if (first)
		verification = serve_lent_new(hbmd);
	if (!verification) {
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
		return;
	}

	list_push_back(&verification->next, &request->link);
	if (first)
		serve_lent_begin(verification);
}
