/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: the daemon's numbers as Prometheus text (or JSON), names hbmd_*. */
#pragma once

struct ctl;

int metrics_run(struct ctl *ctl);
