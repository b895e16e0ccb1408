/* SPDX-License-Identifier: Apache-2.0 */
/* fence: see the public half in hbm.h. */
#pragma once

struct hbm;

/* Takes the fence page back from the driver, if it was ever given to it. */
void hbm_fences_unregister(struct hbm *hbm);
