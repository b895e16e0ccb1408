/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold: copies that are held back. While hbm_soft_hold() says so, or the file that the
 * option `hold` names exists, a stream does not begin the next copy. One that is held goes
 * on when it is let go even if its context has failed or its device is gone meanwhile: a
 * copy engine does not ask. Calls that wait for a failed context return all the same, so a
 * process sees memory change after it was told of an error.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct stream;

/* On a stream's thread, before a copy: returns when it may begin. False: the library is torn
 * down, and its memory with it. */
bool hold_wait(const struct stream *stream);
bool hold_is_on(void);
uint64_t hold_waiting(void);           /* how many copies are held */
void hold_configure(const char *file); /* "": none */
