/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan: how many users of which context length fit on a host, the time of a prompt, an
 * answer and a context switch, which hardware limits each, and the effect of more
 * hardware or compression. Connects to the daemon only with --live.
 */
#pragma once

struct ctl;

extern const char plan_details[];
int plan_run(struct ctl *ctl); /* returns an enum ctl_exit */
