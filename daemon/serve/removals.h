/* SPDX-License-Identifier: Apache-2.0 */
/*
 * removals: REMOVE and NAMESPACE_DROP while what a daemon before this one has left is still being
 * found again (catalog.h, restoration.h). They would not see what has not come yet, and it would be
 * there after them; and their records go when those of before are known. So they wait until all has
 * come, nvme.timeout_ms at most, because a disk may not answer: then they are refused with
 * HBM_TIMEOUT, and nothing has changed.
 */
#pragma once

#include "daemon/serve/server.h"

struct removals;

int removals_open(struct hbmd *hbmd); /* sets hbmd->removals. -ENOMEM */
/* The daemon stops: who waits is refused. Before sessions are freed. */
void removals_stop(struct hbmd *hbmd);
void removals_close(struct hbmd *hbmd);

/* Whether the request waits, or has been refused: then its handler is called again when all has come.
 */
bool removals_wait(struct hbmd *hbmd, struct request *request, request_handler *handler);
