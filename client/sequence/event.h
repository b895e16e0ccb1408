/* SPDX-License-Identifier: Apache-2.0 */
/* event: what a pool tells its user when asked. Nothing is allocated: each sequence has its
 * place in the queue, and what it was asked last is what is told. */
#pragma once

#include <hbm/wire.h>

struct board;
struct hbm_sequence;

/* Its tokens have become more than were expected. */
void hbm_event_overrun(struct hbm_sequence *sequence);
/* The caller gets it now, and what was asked of it while it was opened. */
void hbm_event_opened(struct hbm_sequence *sequence);
/* heard() of a pool's board: what its sequences are asked, and that its device lacks memory. */
void hbm_event_heard(struct board *board, const struct hbm_wire_ask *ask);
