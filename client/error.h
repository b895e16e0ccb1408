/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: the error line of a connection, which hbm_error() returns: what the last call that was refused or failed found
 * wrong.
 */
#pragma once

struct hbm;

/* Writes the error line and returns status. */
int hbm_fail(struct hbm *hbm, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Same, naming the device call that failed; HBM_DEVICE. */
int hbm_fail_device(struct hbm *hbm, const char *call, int result);
