/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaks: see leaks.h. A snapshot is a list of strings, so that comparing is taking away
 * equal strings. A mapping is named by file and size and not by address: it may be moved
 * without being leaked.
 */
#include "tests/support/leaks.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOKS = 100, PAUSE_NS = 10000000 };

__attribute__((format(printf, 2, 3))) static void add(struct leaks *leaks, const char *format, ...)
{
	char *thing;
	va_list arguments;

	va_start(arguments, format);
	int length = vasprintf(&thing, format, arguments);
	va_end(arguments);
	leaks->things = reallocarray(leaks->things, leaks->count + 1, sizeof(char *));
	assert(length >= 0 && leaks->things);
	leaks->things[leaks->count++] = thing;
}

static void clear(struct leaks *leaks)
{
	for (size_t i = 0; i < leaks->count; i++)
		free(leaks->things[i]);
	free(leaks->things);
	leaks->things = NULL;
	leaks->count = 0;
}

/* ---- What is ours, and what a driver's ---- */

static bool driver_keeps_things(void)
{
	const char *driver = getenv("HBM_TEST_DRIVER"), *soft = getenv("HBM_SOFT");
	return (driver && strcmp(driver, "cuda") == 0) || (soft && strstr(soft, "litter=1"));
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static bool is_of_cuda(pid_t pid, unsigned long socket)
{
	char path[64], line[512], name[256];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/net/unix", pid);
	FILE *file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		unsigned long inode;
		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %lu %255s", &inode, name) == 2)
			found = inode == socket && starts_with(name, "@cuda");
	}

	if (file)
		fclose(file);

	return found;
}

bool leaks_counts_fd(pid_t pid, const char *target)
{
	static const char *const ours[] = {"/memfd:hbm", "anon_inode:[io_uring]",
					   "anon_inode:[pidfd]", "pidfd:"};
	static const char *const others[] = {"/memfd:", "/dev/", "/proc/", "/sys/"};
	unsigned long inode;

	if (!driver_keeps_things())
		return true;
	if (sscanf(target, "socket:[%lu]", &inode) == 1)
		return !is_of_cuda(pid, inode);

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (starts_with(target, ours[i]))
			return true;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (starts_with(target, others[i]))
			return false;

	return target[0] == '/'; /* a file */
}

/* The name in a file of /proc; "" where that is gone. */
__attribute__((format(printf, 2, 3))) static void read_name(char name[64], const char *format, ...)
{
	char path[320];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	name[0] = '\0';
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(name, 64, file))
		name[0] = '\0';

	fclose(file);
}

/* A thread has its maker's name until it is given one. Threads of the kernel's that do a
 * ring's I/O end by themselves, some time after it is closed. */
bool leaks_counts_thread(pid_t pid, const char *thread)
{
	char process[64], name[64];

	read_name(name, "/proc/%d/task/%s/comm", pid, thread);
	if (starts_with(name, "iou-"))
		return false;
	if (!driver_keeps_things())
		return true;

	read_name(process, "/proc/%d/comm", pid);

	return strcmp(name, process) != 0 && !starts_with(name, "cuda");
}

static bool counts_mapping(const char *name)
{
	return !driver_keeps_things() || !starts_with(name, "memfd:") ||
	       starts_with(name, "memfd:hbm");
}

/* ---- Looking ---- */

static void add_fds(struct leaks *leaks)
{
	char path[320], target[256];

	snprintf(path, sizeof(path), "/proc/%d/fd", leaks->pid);
	DIR *folder = opendir(path);
	assert(folder);
	for (struct dirent *entry; (entry = readdir(folder));) {
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || (leaks->pid == getpid() && fd == dirfd(folder)))
			continue;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", leaks->pid, entry->d_name);
		ssize_t length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			continue;

		target[length] = '\0';
		if (leaks_counts_fd(leaks->pid, target))
			add(leaks, "fd %d -> %s", fd, target);
	}

	closedir(folder);
}

static void add_threads(struct leaks *leaks)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", leaks->pid);
	DIR *folder = opendir(path);
	assert(folder);
	for (struct dirent *entry; (entry = readdir(folder));)
		if (entry->d_name[0] != '.' && leaks_counts_thread(leaks->pid, entry->d_name))
			add(leaks, "thread %s", entry->d_name);

	closedir(folder);
}

static void add_mappings(struct leaks *leaks)
{
	char path[64], line[4096 + 256];

	snprintf(path, sizeof(path), "/proc/%d/maps", leaks->pid);
	FILE *file = fopen(path, "re");
	assert(file);
	while (fgets(line, sizeof(line), file)) {
		uint64_t from, to;
		char *name = strstr(line, "memfd:");
		if (!name)
			name = strstr(line, "[io_uring]");
		if (!name || sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) != 2)
			continue;

		name[strcspn(name, "\n")] = '\0';
		if (counts_mapping(name))
			add(leaks, "mapping %s of %" PRIu64 " bytes", name, to - from);
	}

	fclose(file);
}

void leaks_begin_process(struct leaks *leaks, pid_t pid)
{
	*leaks = (struct leaks){.pid = pid};
	add_fds(leaks);
	add_threads(leaks);
	add_mappings(leaks);
}

static void *leaks_return(void *arg)
{
	return arg;
}

/* ThreadSanitizer starts a thread of its own with the first one of a process: that is to
 * have happened. */
static void leaks_make_first_thread(void)
{
	static pid_t made_in;
	pthread_t thread;

	if (made_in == getpid() || pthread_create(&thread, NULL, leaks_return, NULL) != 0)
		return;

	pthread_join(thread, NULL);
	made_in = getpid();
}

void leaks_begin(struct leaks *leaks)
{
	leaks_make_first_thread();
	leaks_begin_process(leaks, getpid());
}

/* Removes one thing equal to `thing`, if there is one. */
static void take_away(struct leaks *leaks, const char *thing)
{
	for (size_t i = 0; i < leaks->count; i++) {
		if (strcmp(leaks->things[i], thing) == 0) {
			free(leaks->things[i]);
			leaks->things[i] = leaks->things[--leaks->count];
			return;
		}
	}
}

static void look(const struct leaks *before, struct leaks *appeared)
{
	leaks_begin_process(appeared, before->pid);
	for (size_t i = 0; i < before->count; i++)
		take_away(appeared, before->things[i]);
}

size_t leaks_end(struct leaks *leaks)
{
	struct leaks appeared;

	look(leaks, &appeared);

	for (int i = 0; appeared.count > 0 && i < LOOKS; i++) {
		clear(&appeared);
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
		look(leaks, &appeared);
	}

	size_t count = appeared.count;
	for (size_t i = 0; i < count; i++)
		fprintf(stderr, "leaked: %s\n", appeared.things[i]);
	clear(&appeared);
	clear(leaks);

	return count;
}

unsigned long leaks_address_space(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	assert(file);
	if (fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	fclose(file);
	assert(pages > 0);

	return pages;
}
