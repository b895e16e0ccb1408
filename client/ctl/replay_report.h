/* SPDX-License-Identifier: Apache-2.0 */
/* replay_report: the outcome of a replay, as a table for people or as one JSON document. */
#pragma once

#include "client/ctl/ctl.h"
#include "client/ctl/replay_worker.h"

struct replay_outcome {
	const char *trace; /* its name */
	const struct replay_plan *plan;
	struct tally tally; /* of all workers, samples sorted */
	uint64_t elapsed_ns;
	bool interrupted;
};

/* Prints on stdout. Returns an exit status that only says whether printing worked. */
int replay_report(const struct ctl *ctl, const struct replay_outcome *outcome);
