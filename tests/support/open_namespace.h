/* SPDX-License-Identifier: Apache-2.0 */
/* open_namespace: opens a namespace as the client of an operator does, whom no share
 * bounds. */
#pragma once

#include "daemon/cache/namespace.h"

/* 0: there are as many as may be. */
uint16_t open_namespace(struct namespaces *namespaces, struct ledger *ledger,
			const struct hbm_wire_namespace_spec *spec);
/* The same, of blocks that are encoded. */
uint16_t open_namespace_as(struct namespaces *namespaces, struct ledger *ledger,
			   const struct hbm_wire_namespace_spec *spec,
			   const struct hbm_wire_encoding *encoding);
