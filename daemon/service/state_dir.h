/* SPDX-License-Identifier: Apache-2.0 */
/* state_dir: the daemon's folder, created if missing, and locked (by its file "lock",
 * which stays) while the daemon runs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * *fd: the lock file, with an exclusive lock. -EBUSY: another daemon has it. Negative
 * errno and one line in error.
 */
int state_dir_lock(const char *path, int *fd, char *error, size_t error_size);
/* A number that no other folder of this host has, by that file. 0: unknown. */
uint64_t state_dir_number(int fd);
