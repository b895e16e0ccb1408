/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_limit: see memory_limit.h. /proc/self/cgroup says which cgroup we are in, by its
 * path below the root of its hierarchy; /proc/self/mountinfo says which part of that
 * hierarchy is mounted where. In a container that part may begin at our own cgroup: the
 * limits above it are then out of sight.
 */
#include "daemon/base/memory_limit.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The two kinds of hierarchy that can limit memory. */
struct memory_limit_kind {
	bool is_v2;
	const char *file;
};

static const struct memory_limit_kind memory_limit_v1 = {false, "memory.limit_in_bytes"};
static const struct memory_limit_kind memory_limit_v2 = {true, "memory.max"};

static FILE *memory_limit_open(const char *root, const char *path)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s%s", root, path) >= (int)sizeof(name))
		return NULL;

	return fopen(name, "re");
}

/* Whether a word is in a list whose items are separated by commas. */
static bool memory_limit_has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (; *list; list += strcspn(list, ",") + (list[strcspn(list, ",")] == ','))
		if (strcspn(list, ",") == length && strncmp(list, word, length) == 0)
			return true;

	return false;
}

/* The path of our cgroup, from a line "4:memory:/path" (v1) or "0::/path" (v2). */
static bool memory_limit_find_path(const char *root, const struct memory_limit_kind *kind,
				   char path[PATH_MAX])
{
	FILE *file = memory_limit_open(root, "/proc/self/cgroup");
	char line[PATH_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':'),
		     *at = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!at)
			continue;

		*at++ = '\0';
		at[strcspn(at, "\n")] = '\0';
		found = kind->is_v2 ? controllers[1] == '\0'
				    : memory_limit_has_word(controllers + 1, "memory");
		if (found)
			snprintf(path, PATH_MAX, "%s", at);
	}

	if (file)
		fclose(file);

	return found;
}

/* Whether a line of mountinfo is such a hierarchy; if so, which part of it is mounted and
 * where. */
static bool memory_limit_parse_mount(char *line, const struct memory_limit_kind *kind, char *part,
				     char *where)
{
	char type[32], options[512];
	const char *tail = strstr(line, " - ");

	if (!tail || sscanf(tail, " - %31s %*s %511s", type, options) != 2)
		return false;
	if (strcmp(type, kind->is_v2 ? "cgroup2" : "cgroup") != 0)
		return false;
	if (!kind->is_v2 && !memory_limit_has_word(options, "memory"))
		return false;

	return sscanf(line, "%*d %*d %*s %4095s %4095s", part, where) == 2;
}

static bool memory_limit_find_mount(const char *root, const struct memory_limit_kind *kind,
				    char part[PATH_MAX], char where[PATH_MAX])
{
	FILE *file = memory_limit_open(root, "/proc/self/mountinfo");
	char line[3 * PATH_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = memory_limit_parse_mount(line, kind, part, where);

	if (file)
		fclose(file);

	return found;
}

/* Takes the limit of one cgroup if it is lower than the current one. */
static void memory_limit_lower(struct memory_limit *limit, const char *root, const char *folder,
			       const char *name)
{
	char path[2 * PATH_MAX], text[64] = "";
	unsigned long long bytes;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = memory_limit_open(root, path);

	if (file && fgets(text, sizeof(text), file) && sscanf(text, "%llu", &bytes) == 1 &&
	    bytes < limit->bytes) {
		limit->bytes = bytes;
		snprintf(limit->cgroup, sizeof(limit->cgroup), "%s", folder);
	}

	if (file)
		fclose(file);
}

static void memory_limit_walk(struct memory_limit *limit, const char *root,
			      const struct memory_limit_kind *kind)
{
	char path[PATH_MAX], part[PATH_MAX], where[PATH_MAX], folder[2 * PATH_MAX];

	if (!memory_limit_find_path(root, kind, path) ||
	    !memory_limit_find_mount(root, kind, part, where))
		return;

	/* The part of our path below the mounted part; none if we are outside it. */
	size_t length = strcmp(part, "/") == 0 ? 0 : strlen(part);
	bool is_below =
		strncmp(path, part, length) == 0 && (path[length] == '/' || path[length] == '\0');

	snprintf(folder, sizeof(folder), "%s%s", where, is_below ? path + length : "");

	for (size_t end = strlen(folder); end >= strlen(where); end--) {
		if (folder[end] != '/' && folder[end] != '\0')
			continue;
		folder[end] = '\0';
		memory_limit_lower(limit, root, folder, kind->file);
	}
}

void memory_limit_read(struct memory_limit *out, const char *root)
{
	struct memory_limit limit = {.cgroup = ""};

	limit.host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	limit.bytes = limit.host;
	memory_limit_walk(&limit, root, &memory_limit_v2);
	memory_limit_walk(&limit, root, &memory_limit_v1);
	*out = limit;
}
