/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/namespace_restore.h"

#include "daemon/cache/namespace_record.h"
#include "daemon/state/state.h"

/* NULL: the section of its tenant is gone, or there is no memory. */
static struct user *namespace_restore_user(const struct namespace_record *record,
					   struct ledger *ledger)
{
	struct tenant *tenant = tenant_find(ledger, record->tenant);

	return tenant || record->tenant[0] == '\0' ? user_open_of(ledger, record->uid, tenant)
						   : NULL;
}

uint32_t namespace_restore_all(struct namespaces *namespaces, struct state *state,
			       struct ledger *ledger,
			       bool (*fits)(void *arg, const struct namespace_identity *identity),
			       void *arg)
{
	uint32_t refused = 0;

	for (uint32_t i = 0; (i = state_next(state, STATE_NAMESPACES, i)) != STATE_NONE; i++) {
		const struct namespace_record *record = state_body(state, STATE_NAMESPACES, i);
		const struct namespace_identity identity = namespaces_recorded_identity(record);
		struct user *user = namespace_restore_user(record, ledger);

		if (!user || !fits(arg, &identity) || !namespaces_restore(namespaces, i, user)) {
			state_drop(state, STATE_NAMESPACES, i);
			refused++;
		}
		user_close(user);
	}

	return refused;
}
