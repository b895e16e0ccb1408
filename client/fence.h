/* SPDX-License-Identifier: Apache-2.0 */
/* fence: see the public half in hbm.h. */
#pragma once

struct hbm;

/* Unregisters the fence page from the driver, if it was registered. */
void hbm_fences_unregister(struct hbm *hbm);
