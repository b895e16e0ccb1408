/* SPDX-License-Identifier: Apache-2.0 */
/* progress: see progress.h. */
#include "client/ctl/progress.h"
#include "client/ctl/units.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 40

void progress_show(size_t done, size_t total, uint64_t elapsed_ns)
{
	char bar[BAR_WIDTH + 1];

	if (!isatty(STDERR_FILENO) || total == 0)
		return;

	size_t filled = (size_t)((double)done / (double)total * BAR_WIDTH);
	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', filled < BAR_WIDTH ? filled : BAR_WIDTH);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r[%s] %zu of %zu requests, %s\033[K", bar, done, total,
		units_duration_ns(elapsed_ns).text);
}

void progress_end(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}
