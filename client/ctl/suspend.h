/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suspend: the commands suspend and resume. They ask a session, through the daemon, and look at
 * its board until it shows what they asked for: only the client can unmap its memory, and
 * its engine decides when, and whether.
 */
#pragma once

#include "client/ctl/ctl.h"

extern const struct option_spec suspend_options[], suspend_resume_options[];

int suspend_run(struct ctl *ctl);
int suspend_resume(struct ctl *ctl);
