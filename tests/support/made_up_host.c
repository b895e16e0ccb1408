/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/made_up_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/file.h"

int made_up_host_setup(void **state)
{
	static struct made_up_host host;

	host = (struct made_up_host){.root = "/tmp/hbm-host-XXXXXX"};
	leaks_begin(&host.leaks);
	assert_non_null(mkdtemp(host.root));
	*state = &host;

	return 0;
}

static int made_up_host_remove(const char *path, const struct stat *status, int type,
			       struct FTW *walk)
{
	(void)status, (void)type, (void)walk;
	return remove(path);
}

int made_up_host_teardown(void **state)
{
	struct made_up_host *host = *state;

	assert_int_equal(nftw(host->root, made_up_host_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(leaks_end(&host->leaks), 0);

	return 0;
}

void made_up_host_write(const struct made_up_host *host, const char *path, const char *text)
{
	char name[512];

	snprintf(name, sizeof(name), "%s/%s", host->root, path);

	for (char *at = strchr(name + strlen(host->root) + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		mkdir(name, 0700);
		*at = '/';
	}

	file_write(name, text);
}
