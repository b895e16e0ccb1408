/* SPDX-License-Identifier: Apache-2.0 */
/*
 * borrow: one BORROW, from its arrival to its reply.
 *
 * 	find	finds its blocks
 * 	touch	uses them all, as a load does
 * 	settle	lets the policy evict what no longer fits
 * 	lend	finds their replicas, or begins to make them
 * 	made	all are ready, or have failed
 * 	export	the control worker makes descriptors of slabs that the session does not have
 * 	reply	the loans are made
 *
 * The first four go in slices of the session's turns. Until the reply the replicas are held,
 * and loans charged; a request that is refused has left nothing but replicas, which are idle.
 * What others do meanwhile may drop a block. Before it is lent: its replicas are lost with it
 * (lend.h), and none is made (replicate.h), so that it is a miss. Later: who was given its replica
 * has the right bytes.
 */
#pragma once

#include "daemon/serve/server.h"

/* The most memory that a request takes. */
uint64_t borrow_bytes(void);
/* The request is sound, its namespace open, its device there; count and pieces fit. */
void borrow_begin(struct hbmd *hbmd, struct request *request);
