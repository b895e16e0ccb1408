/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_marks: makes the pins that operators keep, and what users retain, again as the blocks of
 * an earlier daemon come back (marks.h), in the background of the loop:
 *
 * 	a block has come back	its marks are made, whatever the limits are now
 * 	all have		marks of blocks that have been stored again are made too; those of
 * 				blocks that are not there are dropped; and what a tier had no room for
 * 				while it came into service goes to its level (cache_retain.c)
 *
 * What is retained by a user whose tenant is gone is retained no longer.
 */
#pragma once

#include <stdbool.h>

struct hbmd;
struct restored_marks;

/* When the namespaces are there again, before any block is. Sets hbmd->restored_marks. -ENOMEM. */
int restore_marks_open(struct hbmd *hbmd);
/* All blocks have come back that will: may be called again. */
void restore_marks_finish(struct hbmd *hbmd);
/* What is kept stays so; of what comes later nothing is. May be called again. */
void restore_marks_close(struct hbmd *hbmd);
