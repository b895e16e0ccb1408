/* SPDX-License-Identifier: Apache-2.0 */
/* file: files that a test makes, and looks for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Whatever it is, and be it a link to nothing. */
bool file_exists(const char *path);
/* Replaces what is there; fails the test if it cannot. */
void file_write(const char *path, const char *text);
/* All of it, which the caller frees, and how much; fails the test if it cannot. */
char *file_read(const char *path, size_t *size);
