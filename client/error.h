/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: the error line of a connection, which hbm_error() returns: why the last call was
 * refused or failed.
 */
#pragma once

struct hbm;

/* Writes the error line and returns status. */
int hbm_fail(struct hbm *hbm, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Whether this process opened the connection: 0; -EPERM with an error line in a child
 * made by fork(). */
int hbm_check_owner(struct hbm *hbm);
/* Same as hbm_fail(), naming the device call that failed; HBM_DEVICE. */
int hbm_fail_device(struct hbm *hbm, const char *call, int result);
