/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: the commands that show the daemon's records, with one view for each kind. */
#pragma once

#include "client/ctl/options.h"

struct ctl;

int inspect_status(struct ctl *ctl);
int inspect_devices(struct ctl *ctl);
int inspect_tiers(struct ctl *ctl);
int inspect_sessions(struct ctl *ctl);
int inspect_regions(struct ctl *ctl);
int inspect_sequences(struct ctl *ctl);
int inspect_namespaces(struct ctl *ctl);
int inspect_blocks(struct ctl *ctl);
int inspect_limits(struct ctl *ctl);
int inspect_tenants(struct ctl *ctl);
int inspect_version(struct ctl *ctl);

extern const struct option_spec inspect_blocks_options[];
