/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain: one RETAIN: blocks and their ancestors are retained for the session's user, or, with
 * the priority 0, released. From tail to head: a chain's tail has its ancestors retained, too,
 * and is released before them. Each key is answered for the moment it is come to.
 */
#pragma once

#include "daemon/serve/server.h"

/* Leaves the request to its session's turns. The namespace is open. */
void retain_begin(struct hbmd *hbmd, struct request *request);
uint64_t retain_bytes(uint64_t count); /* the most memory that a request of so many keys takes */
