/* SPDX-License-Identifier: Apache-2.0 */
/* serve_keys: handlers of LOOKUP, EVICT, COUNT and of lists of keys; pins. */
#pragma once

#include "daemon/cache/cache.h"
#include "daemon/serve/server.h"

request_handler serve_keys /* LOOKUP TOUCH PIN UNPIN REMOVE */, serve_evict, serve_count,
	serve_watch;
/* What the cache holds for a session that has died: namespaces opened, pins. */
void serve_session_gone(struct hbmd *hbmd, struct session *session);
/* At the end: the pins that were kept. */
void serve_close(struct hbmd *hbmd);

/* The reply to EVICT and NAMESPACE_DROP. */
void serve_keys_reply_amount(struct request *request, const struct cache_amount *amount);
