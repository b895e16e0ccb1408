/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/power.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/power_entry.h"

#define SECTOR 512u
#define FILES 16

/* A write that may not have been flushed. */
struct power_write {
	struct power_write *next;
	uint64_t number, at, bytes;
	char data[];
};

/* What the disk has of a file. */
struct power_file {
	char name[40];
	char *data;
	uint64_t bytes, room;
	struct power_write *first, **last;
};

static struct power_file files[FILES];

void power_open(struct power *power, const struct spawn *spawn)
{
	const char *asan = getenv("ASAN_OPTIONS");

	snprintf(power->dir, sizeof(power->dir), "%s/disk", spawn->dir);
	snprintf(power->log, sizeof(power->log), "%s/power", spawn->dir);
	snprintf(power->variables[0], sizeof(power->variables[0]), "HBM_POWER_DIR=%s", power->dir);
	snprintf(power->variables[1], sizeof(power->variables[1]), "HBM_POWER_LOG=%s", power->log);
	snprintf(power->variables[2], sizeof(power->variables[2]), "LD_PRELOAD=%s",
		 spawn_path("tests/stub/power.so"));
	snprintf(power->variables[3], sizeof(power->variables[3]),
		 "ASAN_OPTIONS=%s%sverify_asan_link_order=0", asan ? asan : "", asan ? ":" : "");
	for (int i = 0; i < 4; i++)
		power->env[i] = power->variables[i];
	power->env[4] = NULL;
	assert_int_equal(mkdir(power->dir, 0700), 0);
}

/* ---- files ---- */

static void power_path(const struct power *power, const char *name, char path[256])
{
	snprintf(path, 256, "%.95s/%.39s", power->dir, name);
}

static void file_reserve(struct power_file *file, uint64_t bytes)
{
	if (bytes > file->room) {
		uint64_t room = bytes * 2;
		file->data = realloc(file->data, room);
		assert_non_null(file->data);
		memset(file->data + file->room, 0, room - file->room);
		file->room = room;
	}

	if (bytes > file->bytes)
		file->bytes = bytes;
}

static void file_clear(struct power_file *file)
{
	while (file->first) {
		struct power_write *write = file->first;
		file->first = write->next;
		free(write);
	}

	free(file->data);
	*file = (struct power_file){.name = ""};
}

/* The file of that name, as the disk had it before if it is new here. */
static struct power_file *file_of(const struct power *power, const char *name)
{
	struct power_file *file = NULL;
	char path[256];

	for (int i = FILES - 1; i >= 0; i--) {
		if (strcmp(files[i].name, name) == 0)
			return &files[i];
		if (files[i].name[0] == '\0')
			file = &files[i];
	}

	assert_non_null(file);
	snprintf(file->name, sizeof(file->name), "%.39s", name);
	file->last = &file->first;
	snprintf(path, sizeof(path), "%.95s/%.39s.before", power->dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd >= 0) {
		assert_int_equal(fstat(fd, &st), 0);
		file_reserve(file, (uint64_t)st.st_size);
		assert_int_equal(read(fd, file->data, (size_t)st.st_size), st.st_size);
		close(fd);
	}

	return file;
}

static void file_copy(const char *from, const char *to)
{
	char command[640];

	snprintf(command, sizeof(command), "cp --sparse=always '%s' '%s'", from, to);
	assert_int_equal(system(command), 0);
}

void power_on(const struct power *power)
{
	static const char *const names[] = {"nvme", "nvme.catalog", "nvme.catalog-wal"};
	char path[256], before[280];

	unlink(power->log);
	for (int i = 0; i < 3; i++) {
		power_path(power, names[i], path);
		snprintf(before, sizeof(before), "%s.before", path);
		unlink(before);
		if (access(path, F_OK) == 0)
			file_copy(path, before);
	}
}

/* ---- what the disk had ---- */

static void file_write(struct power_file *file, const struct power_write *write, uint64_t from,
		       uint64_t end)
{
	file_reserve(file, write->at + end);
	memcpy(file->data + write->at + from, write->data + from, end - from);
}

/* What was made before the flush began is on the disk. */
static void file_flush(struct power_file *file, uint64_t begun)
{
	while (file->first && file->first->number < begun) {
		struct power_write *write = file->first;

		file_write(file, write, 0, write->bytes);
		file->first = write->next;
		free(write);
	}

	if (!file->first)
		file->last = &file->first;
}

/* All of it, nothing, or some of its sectors. */
static void file_tear(struct power_file *file, const struct power_write *write, struct seed *seed)
{
	uint64_t kind = seed_below(seed, 4);

	for (uint64_t from = 0; kind > 0 && from < write->bytes;) {
		uint64_t end = from + SECTOR - (write->at + from) % SECTOR;

		end = end < write->bytes ? end : write->bytes;
		if (kind == 1 || seed_below(seed, 2) == 0)
			file_write(file, write, from, end);
		from = end;
	}
}

static void power_truncated(struct power_file *file, uint64_t length)
{
	file_flush(file, UINT64_MAX);
	file_reserve(file, length);
	if (length < file->bytes)
		memset(file->data + length, 0, file->bytes - length);
	file->bytes = length;
}

static void power_written(struct power_file *file, uint64_t number, const struct power_entry *entry,
			  FILE *log)
{
	struct power_write *write = malloc(sizeof(*write) + entry->bytes);

	assert_non_null(write);
	*write = (struct power_write){.number = number, .at = entry->at, .bytes = entry->bytes};
	if (fread(write->data, 1, entry->bytes, log) != entry->bytes) {
		free(write); /* it was killed as it wrote this down */
		return;
	}

	*file->last = write;
	file->last = &write->next;
}

static void power_renamed(const struct power *power, struct power_file *file, const char *to)
{
	file_clear(file_of(power, to));
	snprintf(file->name, sizeof(file->name), "%.39s", to);
}

static void power_replay(const struct power *power, FILE *log)
{
	struct power_entry entry;
	char to[40] = "";

	for (uint64_t number = 0; fread(&entry, sizeof(entry), 1, log) == 1; number++) {
		struct power_file *file = file_of(power, entry.name);

		switch (entry.kind) {
		case POWER_WRITE:
			power_written(file, number, &entry, log);
			break;
		case POWER_FLUSHED:
			file_flush(file, entry.at);
			break;
		case POWER_TRUNCATE:
			power_truncated(file, entry.at);
			break;
		case POWER_UNLINK:
			power_truncated(file, 0);
			break;
		case POWER_RENAME:
			assert_true(entry.bytes <= sizeof(to));
			assert_int_equal(fread(to, 1, entry.bytes, log), entry.bytes);
			power_renamed(power, file, to);
			break;
		default:
			break;
		}
	}
}

static void power_save(const struct power *power, const struct power_file *file)
{
	char path[256];

	power_path(power, file->name, path);
	unlink(path);
	if (file->bytes == 0)
		return;

	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, file->data, file->bytes), file->bytes);
	close(fd);
}

void power_cut(const struct power *power, struct seed *seed)
{
	FILE *log = fopen(power->log, "re");

	if (log) {
		power_replay(power, log);
		fclose(log);
	}

	for (int i = 0; i < FILES; i++) {
		struct power_file *file = &files[i];
		if (file->name[0] == '\0')
			continue;
		for (struct power_write *write = file->first; write; write = write->next)
			file_tear(file, write, seed);
		power_save(power, file);
		file_clear(file);
	}
}
