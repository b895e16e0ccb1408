/* SPDX-License-Identifier: Apache-2.0 */
/* file: files that a test makes, and looks for. */
#pragma once

#include <stdbool.h>

/* Whatever it is, and be it a link to nothing. */
bool file_exists(const char *path);
/* Replaces what is there; fails the test if it cannot. */
void file_write(const char *path, const char *text);
