/* SPDX-License-Identifier: Apache-2.0 */
/* cache: code shared by requests with keys and requests with blocks. */
#pragma once

#include "client/request.h"

/* The reply is a struct hbm_wire_results; answer.results (may be NULL) has room for
 * answer.count. */
extern const struct ticket_kind hbm_kind_results;
/* The reply is a struct hbm_wire_amount; answer.body is a struct hbm_amount, or NULL. */
extern const struct ticket_kind hbm_kind_amount;
/* How often uses of a block were counted (COUNT), after one more if it says so. HBM_NOT_FOUND:
 * the cache does not have it. */
int hbm_count_use(struct hbm *hbm, uint32_t ns, const hbm_key *key, bool one_more, uint64_t *uses);
/* Whether the key is not the reserved one. */
bool hbm_key_is_valid(const hbm_key *key);
