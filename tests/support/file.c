/* SPDX-License-Identifier: Apache-2.0 */
/* file: see file.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/file.h"

#include <stdio.h>
#include <sys/stat.h>

bool file_exists(const char *path)
{
	struct stat status;
	return lstat(path, &status) == 0;
}

void file_write(const char *path, const char *text)
{
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
}
