/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_verify: the queries that visit everything. One audit goes on at a time, in the
 * background of the loop. A request that arrives meanwhile waits for the next one, with
 * all others that do: what is reported to it is as of a moment after its arrival.
 */
#include "daemon/serve/serve_verify.h"

#include "daemon/cache/cache.h"
#include "daemon/ledger/ledger.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/audit.h"
#include "daemon/serve/audit_limits.h"

#include <stdlib.h>
#include <string.h>

#define VERIFY_SLICE 512 /* entries */
#define VERIFY_ACCOUNTS (TIER_NUMBERS + HBM_WIRE_DEVICES_MAX)

struct verification {
	struct background background;
	struct hbmd *hbmd;
	struct audit *audit;
	struct list requests; /* that it is for */
	struct list next;     /* that came later */
};

/* The answer is built here and copied when sent; only the loop thread uses it. */
static struct {
	struct hbm_wire_query_reply reply;
	union {
		struct hbm_wire_account accounts[VERIFY_ACCOUNTS];
		struct hbm_wire_limit limits[LEDGER_LIMITS];
	};
} answer;

static void serve_verify_send(struct verification *verification, struct request *request)
{
	const struct audit *audit = verification->audit;
	uint32_t kind = ((const struct hbm_wire_query *)request->message)->kind, size;

	memset(&answer, 0, sizeof(answer));
	answer.reply.kind = kind;
	if (kind == HBM_QUERY_VERIFY) {
		size = sizeof(answer.accounts[0]);
		answer.reply.count = audit_accounts(audit, answer.accounts, VERIFY_ACCOUNTS);
	} else {
		size = sizeof(answer.limits[0]);
		answer.reply.count = audit_limits(verification->hbmd, audit_recount(audit),
						  answer.limits, LEDGER_LIMITS);
	}

	answer.reply.record_bytes = size;
	request_reply(request, HBM_OK, &answer.reply.kind,
		      sizeof(answer.reply) - sizeof(answer.reply.header) +
			      (size_t)answer.reply.count * size);
}

static void serve_verify_refuse(struct request *request)
{
	request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
}

/* Begins the audit for those that wait. False: none does, or there is no memory for it. */
static bool serve_verify_begin(struct verification *verification)
{
	while (!list_empty(&verification->next)) {
		struct list *node = list_pop_front(&verification->next);
		list_push_back(&verification->requests, node);
	}

	if (list_empty(&verification->requests))
		return false;
	if (audit_new(&verification->audit, verification->hbmd) == 0)
		return true;

	for (struct list *node; (node = list_pop_front(&verification->requests));)
		serve_verify_refuse(container_of(node, struct request, link));

	return false;
}

static bool serve_verify_some(struct background *background)
{
	struct verification *verification =
		container_of(background, struct verification, background);

	if (audit_some(verification->audit, VERIFY_SLICE))
		return true;

	for (struct list *node; (node = list_pop_front(&verification->requests));)
		serve_verify_send(verification, container_of(node, struct request, link));

	verification->audit = audit_free(verification->audit);
	if (serve_verify_begin(verification))
		return true;

	verification->hbmd->verification = NULL;
	free(verification);

	return false;
}

static struct verification *serve_verify_new(struct hbmd *hbmd)
{
	struct verification *verification = calloc(1, sizeof(*verification));
	if (!verification)
		return NULL;

	verification->background.run = serve_verify_some;
	verification->hbmd = hbmd;
	list_init(&verification->requests);
	list_init(&verification->next);
	hbmd->verification = verification;

	return verification;
}

void serve_verify(struct hbmd *hbmd, struct request *request)
{
	struct verification *verification = hbmd->verification;
	bool first = !verification;

	if (first)
		verification = serve_verify_new(hbmd);
	if (!verification) {
		serve_verify_refuse(request);
		return;
	}

	list_push_back(&verification->next, &request->link);
	if (!first)
		return;

	if (serve_verify_begin(verification)) {
		loop_background(hbmd->loop, &verification->background);
	} else {
		hbmd->verification = NULL;
		free(verification);
	}
}
