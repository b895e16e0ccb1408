/* SPDX-License-Identifier: Apache-2.0 */
/* restore: the regions of the sessions of an earlier daemon, which are away (region_restore.h). */
#pragma once

struct hbmd;

/* Between server_restore_sessions() and server_sessions_restored(). */
void restore_regions(struct hbmd *hbmd);
