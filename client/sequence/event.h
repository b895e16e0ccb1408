/* SPDX-License-Identifier: Apache-2.0 */
/* event: what a pool tells its user when asked. Nothing is allocated: each sequence has its
 * place in the queue. */
#pragma once

struct hbm_sequence;

/* Its tokens have become more than were expected. */
void hbm_event_overrun(struct hbm_sequence *sequence);
