/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spaces: namespaces that a pool keeps open, because sequences have slabs of blocks in them, which
 * can be borrowed again only while it is open (reborrow.h). The oldest makes way: what
 * was of it is loaded then.
 */
#pragma once

#include <hbm/hbm.h>

#define SPACES_MAX 8u /* of the namespaces that a session may have open, 64 by default */

struct spaces {
	uint32_t list[SPACES_MAX]; /* 0: none */
	uint32_t next;
};

/* The pool has opened it, once or again. */
void hbm_spaces_keep(struct spaces *spaces, struct hbm *hbm, uint32_t ns);
void hbm_spaces_close(struct spaces *spaces, struct hbm *hbm);
