/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog_setup: which catalog the NVMe tier has, and where: PATH.catalog beside a file; of a
 * block device, which has no folder of its own, "catalog" in the state folder.
 */
#pragma once

struct hbmd;

/* Begins to read it, where there is an NVMe tier, which is claiming. progress() as in
 * memory_setup.h. Negative errno. */
int catalog_setup_open(struct hbmd *hbmd, void (*progress)(void *arg), void *arg);
/* After the last transfer, the loop does not run any more; with transfers in flight the stop is
 * not clean. */
void catalog_setup_close(struct hbmd *hbmd);
