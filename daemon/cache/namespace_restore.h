/* SPDX-License-Identifier: Apache-2.0 */
/* namespace_restore: makes the namespaces that an earlier daemon has left in the state again. */
#pragma once

#include "daemon/cache/namespace.h"

/*
 * Makes the namespaces of all records of the state again, as namespaces_restore() does, for those
 * of their users whose tenants there are. `fits` says whether there may still be such a
 * namespace. Records that are refused are dropped: how many.
 */
uint32_t namespace_restore_all(struct namespaces *namespaces, struct state *state,
			       struct ledger *ledger,
			       bool (*fits)(void *arg, const struct namespace_identity *identity),
			       void *arg);
