/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/rlimit.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const struct {
	int resource;
	const char *name, *unit, *option;
} rlimit_names[] = {
	{RLIMIT_NOFILE, "NOFILE", "", "-n"},         {RLIMIT_FSIZE, "FSIZE", " bytes", "-f"},
	{RLIMIT_MEMLOCK, "MEMLOCK", " bytes", "-l"}, {RLIMIT_AS, "AS", " bytes", "-v"},
	{RLIMIT_NPROC, "NPROC", "", "-u"},
};

static bool rlimit_is_set(__rlimit_resource_t resource)
{
	struct rlimit limit;
	return getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

int rlimit_of_error(int error)
{
	switch (abs(error)) {
	case EMFILE:
		return RLIMIT_NOFILE;
	case EFBIG:
		return RLIMIT_FSIZE;
	case ENOMEM:
		return RLIMIT_AS;
	case EAGAIN: /* a thread that cannot be created, for its stack or its number */
		return rlimit_is_set(RLIMIT_AS) ? RLIMIT_AS : RLIMIT_NPROC;
	default:
		return -1;
	}
}

const char *rlimit_hint(char text[static RLIMIT_HINT], int resource)
{
	struct rlimit limit;
	text[0] = '\0';

	for (size_t i = 0; i < sizeof(rlimit_names) / sizeof(rlimit_names[0]); i++) {
		if (rlimit_names[i].resource != resource ||
		    getrlimit((__rlimit_resource_t)resource, &limit) < 0 ||
		    limit.rlim_cur == RLIM_INFINITY)
			continue;
		snprintf(text, RLIMIT_HINT,
			 "; RLIMIT_%s is %llu%s: raise Limit%s= of the unit, or ulimit %s",
			 rlimit_names[i].name, (unsigned long long)limit.rlim_cur,
			 rlimit_names[i].unit, rlimit_names[i].name, rlimit_names[i].option);
	}

	return text;
}
