/* SPDX-License-Identifier: Apache-2.0 */
/* thread: see thread.h. */
#include "tests/support/thread.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* A line of a file of a thread. */
static bool thread_read(pid_t pid, const char *thread, const char *file, char *line, int size)
{
	char path[320];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", (int)pid, thread, file);
	FILE *in = fopen(path, "re");
	if (!in)
		return false;

	bool is_read = fgets(line, size, in) != NULL;
	fclose(in);

	return is_read;
}

bool thread_is_asleep(pid_t pid, const char *thread)
{
	char line[512];

	if (!thread_read(pid, thread, "stat", line, sizeof(line)))
		return false;

	const char *name_end = strrchr(line, ')');

	return name_end && strncmp(name_end, ") S", 3) == 0;
}

bool thread_find(pid_t pid, const char *name, char *thread, size_t size)
{
	char path[64], line[64];
	bool is_found = false;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *folder = opendir(path);
	for (struct dirent *entry; !is_found && folder && (entry = readdir(folder));) {
		if (entry->d_name[0] == '.' ||
		    !thread_read(pid, entry->d_name, "comm", line, sizeof(line)))
			continue;

		line[strcspn(line, "\n")] = '\0';
		is_found = strcmp(line, name) == 0;
		snprintf(thread, size, "%s", entry->d_name);
	}

	if (folder)
		closedir(folder);

	return is_found;
}
