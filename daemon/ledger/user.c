/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ledger/user.h"

#include "daemon/base/guesses.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The number of the first user that is a tenant alone; those of tenants are lower. */
#define USER_NUMBERS (UINT64_C(1) << 32)

bool user_is_operator(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static struct user *user_find(const struct ledger *ledger, uid_t uid, const struct tenant *tenant)
{
	list_for_each (node, &ledger->users) {
		struct user *user = container_of(node, struct user, link);
		if (user->uid == uid && user->tenant == tenant)
			return user;
	}

	return NULL;
}

static struct payer *user_parent(struct ledger *ledger, uid_t uid, struct tenant *tenant)
{
	if (tenant)
		return &tenant->payer;

	return user_is_operator(uid) ? &ledger->host : &ledger->unprivileged;
}

static struct user *user_new(struct ledger *ledger, uid_t uid, struct tenant *tenant)
{
	bool unbounded = tenant || user_is_operator(uid);
	struct user *user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;

	user->uid = uid;
	user->tenant = tenant_ref(tenant);
	list_init(&user->silent);
	list_init(&user->waiting);
	list_init(&user->turn);
	payer_open_below(&user->payer, user_parent(ledger, uid, tenant), PAYER_USER);
	for (unsigned i = 0; unbounded && i < LEDGER_RESOURCES; i++)
		ledger_set_limit(&user->payer, (enum ledger_resource)i, UINT64_MAX);

	list_push_back(&ledger->users, &user->link);

	return user;
}

struct user *user_open_of(struct ledger *ledger, uid_t uid, struct tenant *tenant)
{
	struct user *user = user_find(ledger, uid, tenant);

	return user_ref(user ? user : user_new(ledger, uid, tenant));
}

struct user *user_open(struct ledger *ledger, uid_t uid)
{
	return user_open_of(ledger, uid, NULL);
}

bool user_shares(const struct user *user, const struct user *other)
{
	const struct tenant *one = user->tenant, *two = other->tenant;

	if (user == other || (one && one == two))
		return true;
	if (!one || !two)
		return !one && !two && user->payer.ledger->share_namespaces;

	return one->rule.share[0] != '\0' && strcmp(one->rule.share, two->rule.share) == 0;
}

static uint64_t user_number_of(const struct tenant *tenant, uid_t uid)
{
	return tenant ? tenant->number : USER_NUMBERS + (uint64_t)uid;
}

uint64_t user_number(const struct user *user)
{
	return user_number_of(user->tenant, user->uid);
}

uint64_t user_guesses(const struct user *user)
{
	return user->tenant ? user->tenant->rule.guesses : GUESSES_BURST;
}

struct log_who user_log_who(const struct tenant *tenant, uid_t uid)
{
	struct log_who who = {.number = user_number_of(tenant, uid), .lines = LOG_PEERS_LINES};

	if (tenant)
		who.lines = tenant->rule.log_lines;
	if (tenant)
		snprintf(who.name, sizeof(who.name), "tenant %s", tenant->rule.name);
	else
		snprintf(who.name, sizeof(who.name), "uid %u", (unsigned)uid);

	return who;
}

struct fair_payer user_fair_payer(const struct user *user, uint64_t session)
{
	const struct tenant *tenant = user->tenant;

	return (struct fair_payer){
		.id = session,
		.tenant = tenant ? tenant->number : user->uid,
		.weight = tenant ? (uint16_t)tenant->rule.weight : 1,
		.is_user = !tenant,
	};
}

struct user *user_ref(struct user *user)
{
	if (user)
		user->refs++;

	return user;
}

struct user *user_close(struct user *user)
{
	if (!user || --user->refs > 0)
		return NULL;

	assert(list_empty(&user->silent) && list_empty(&user->waiting));
	payer_close(&user->payer);
	tenant_close(user->tenant);
	list_remove(&user->link);
	free(user);

	return NULL;
}
