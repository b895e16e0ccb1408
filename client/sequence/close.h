/* SPDX-License-Identifier: Apache-2.0 */
/* close: the end of a sequence that its user never got. */
#pragma once

struct hbm_sequence;

/* Closes one whose opening has failed with that status, which it returns: it is counted nowhere
 * in the pool's totals, and the line stays that of the failure. */
int hbm_sequence_abandon(struct hbm_sequence *sequence, int status);
