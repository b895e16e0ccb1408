/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys: one LOOKUP, TOUCH, PIN, UNPIN or REMOVE: the work of a request that names keys and
 * is answered from the index alone. Each key is answered for the moment it is come to; a
 * request that is longer than a slice is no snapshot.
 *
 * 	LOOKUP		from head to tail
 * 	TOUCH		from tail to head, so that the head ends in front; then the policy
 * 			evicts what no longer fits
 * 	PIN		from head to tail, so that ancestors are pinned by then
 * 	UNPIN		some hundreds at a time, each time past all pins of the list (unpin.h)
 * 	REMOVE		from tail to head: dropping a chain's head drops its descendants, and
 * 			each block must be counted for the key that names it. The reply comes
 * 			when the descendants are gone, too; what is removed later does not
 * 			delay it
 * 	MOVE		from head to tail; with a deadline, what is to wait for its move is
 * 			queued by that when all keys have been looked at (due_moves.h)
 */
#pragma once

#include "daemon/serve/server.h"

/* The most memory that a request of so many keys takes. */
uint64_t keys_bytes(uint64_t count);
/* Leaves the request to its session's turns. The namespace is open. */
void keys_begin(struct hbmd *hbmd, struct request *request);
