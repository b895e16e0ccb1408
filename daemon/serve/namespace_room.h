/* SPDX-License-Identifier: Apache-2.0 */
/*
 * namespace_room: makes room for new namespaces when [limits] allows no more. One that no
 * session has open gives way: the coldest, which was closed longest ago, loses its blocks
 * and its number, and the request for a new one waits for that. Blocks are dropped as
 * NAMESPACE_DROP drops them, a few thousand in a turn of the loop, and one namespace at a
 * time.
 *
 * Which one: a user that has its share of namespaces, or an equal part of all, gives way
 * with its own first; for one that has less, those of users that have more go first, and
 * then the coldest of all. One that has pins stays, as its pins ask, and still counts for
 * the user that made it.
 *
 * Requests wait in the order they came, and users take turns: one that opens thousands
 * delays itself. NAMESPACE_OPEN is refused only when every namespace that might give way
 * is open or pinned. Opening a namespace that is giving way waits, too, and makes it anew.
 *
 * An ephemeral namespace loses its blocks as soon as no session has it open.
 *
 * 	              no room, some may give way         one is gone
 * 	NAMESPACE_OPEN ----------------------> waiting -----------------> opened
 * 	                                          |  none may any more
 * 	                                          `---------------------> refused
 */
#pragma once

#include "daemon/serve/server.h"

struct namespace_room;

int namespace_room_open(struct namespace_room **out, struct hbmd *hbmd); /* negative errno */
struct namespace_room *namespace_room_close(struct namespace_room *room);

/* NAMESPACE_OPEN: opens it now, or when there is room, or refuses it with
 * HBM_LIMIT. */
request_handler serve_namespace_open;
