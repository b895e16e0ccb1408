/* SPDX-License-Identifier: Apache-2.0 */
/* tenants: the command that shows what tenants may have and do have, and changes it. */
#pragma once

struct ctl;

int tenants_run(struct ctl *ctl);
