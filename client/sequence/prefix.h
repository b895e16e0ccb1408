/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefix: what a forked sequence shares with its source, and has not mapped yet.
 *
 * A fork records its source and nothing else: that the slabs in front of its last tokens are
 * those of the source, at the same places of another slot. They are mapped when something
 * needs them: map-ahead, a step that names the fork, or a call that would change them in the
 * source. So all slabs of the prefix stay mapped in the source as long as a fork lacks them,
 * and a source has no source itself.
 */
#pragma once

#include <stddef.h>

struct hbm_pool;
struct hbm_sequence;

/* Records that `sequence`, which has its tokens, lacks the prefix of `source`. */
void hbm_prefix_record(struct hbm_sequence *sequence, struct hbm_sequence *source);
/* Maps what it lacks. 0: it lacks nothing now. */
int hbm_prefix_map(struct hbm_sequence *sequence);
/* The same for all forks of a source: before its slabs change. */
int hbm_prefix_map_forks(struct hbm_sequence *source);
/* Both: what is in its slot then is what it has, and all that is shared with it is mapped. */
int hbm_prefix_map_both(struct hbm_sequence *sequence);
/* The same of each; ends at the first that fails. */
int hbm_prefix_map_all(struct hbm_sequence *const *sequences, size_t count);
