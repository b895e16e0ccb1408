/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ledger/user.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

bool user_is_operator(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static struct user *user_find(const struct ledger *ledger, uid_t uid)
{
	list_for_each (node, &ledger->users) {
		struct user *user = container_of(node, struct user, link);
		if (user->uid == uid)
			return user;
	}

	return NULL;
}

static struct user *user_new(struct ledger *ledger, uid_t uid)
{
	bool is_operator = user_is_operator(uid);
	struct user *user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;

	user->uid = uid;
	list_init(&user->silent);
	list_init(&user->waiting);
	list_init(&user->turn);
	payer_open_below(&user->payer, is_operator ? &ledger->host : &ledger->unprivileged,
			 PAYER_USER);
	for (unsigned i = 0; is_operator && i < LEDGER_RESOURCES; i++)
		ledger_set_limit(&user->payer, (enum ledger_resource)i, UINT64_MAX);

	list_push_back(&ledger->users, &user->link);

	return user;
}

struct user *user_open(struct ledger *ledger, uid_t uid)
{
	struct user *user = user_find(ledger, uid);

	return user_ref(user ? user : user_new(ledger, uid));
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
	list_remove(&user->link);
	free(user);

	return NULL;
}
