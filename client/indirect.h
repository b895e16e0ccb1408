/* SPDX-License-Identifier: Apache-2.0 */
/*
 * indirect: stores from, and loads to, memory that is in no region: by way of the bounce buffer,
 * a slot at a time.
 *
 * A call is divided into flights, each of as many blocks as fit in a slot, and has one ticket.
 * Calls take turns in the order in which they came, and so do their flights: parents come first.
 *
 * 	a store	free --- copied into the slot, STORE sent ---> under way --- answered ---> free
 * 	a load	free --- LOAD sent ---> under way --- answered ---> ended --- copied out ---> free
 *
 * It has no thread: flights begin and end in the calls of the connection that submit, dispatch
 * and wait (hbm->go_on), never while a reply is handled. A block that was not loaded is not copied.
 * Status and results are as those of a call in parts (parts.h).
 */
#pragma once

struct hbm;

/* Frees what is left of calls, whose tickets are not touched. */
void hbm_indirect_clear(struct hbm *hbm);
