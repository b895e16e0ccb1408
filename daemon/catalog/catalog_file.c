/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/catalog/catalog_file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The first bytes of a database; its numbers are big-endian. */
#define HEAD_BYTES 100
#define HEAD_MAGIC "SQLite format 3"
#define HEAD_VERSION 60
#define HEAD_APPLICATION 68

static uint32_t catalog_file_number(const unsigned char *at)
{
	uint32_t number;

	memcpy(&number, at, sizeof(number));
	return be32toh(number);
}

static int catalog_file_read(int fd, struct catalog_file_head *head)
{
	unsigned char bytes[HEAD_BYTES];
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;

	ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
	if (n < 0)
		return -errno;

	if (n == 0)
		head->kind = CATALOG_FILE_ABSENT;
	if (n < HEAD_BYTES || memcmp(bytes, HEAD_MAGIC, sizeof(HEAD_MAGIC)) != 0 ||
	    catalog_file_number(&bytes[HEAD_APPLICATION]) != CATALOG_APPLICATION)
		return 0;

	head->kind = CATALOG_FILE_OURS;
	head->version = catalog_file_number(&bytes[HEAD_VERSION]);

	return 0;
}

int catalog_file_look(const char *path, struct catalog_file_head *head)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);

	*head = (struct catalog_file_head){.kind = CATALOG_FILE_STRANGE};
	if (fd < 0 && errno == ENOENT) {
		head->kind = CATALOG_FILE_ABSENT;
		return 0;
	}
	if (fd < 0)
		return -errno;

	int r = catalog_file_read(fd, head);
	close(fd);

	return r;
}

static int catalog_file_unlink(const char *path, const char *end)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s%s", path, end) >= (int)sizeof(name))
		return -ENAMETOOLONG;

	return unlink(name) < 0 && errno != ENOENT ? -errno : 0;
}

/* A database's log is nothing without it. */
static int catalog_file_unlink_logs(const char *path)
{
	int r = catalog_file_unlink(path, "-wal");

	return r < 0 ? r : catalog_file_unlink(path, "-journal");
}

int catalog_file_make(const char *path, char *name, size_t size)
{
	if (snprintf(name, size, "%s.new", path) >= (int)size)
		return -ENAMETOOLONG;

	/* One of a start that was interrupted. */
	int r = catalog_file_unlink(name, "");
	if (r == 0)
		r = catalog_file_unlink_logs(name);
	if (r < 0)
		return r;

	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;

	close(fd);
	return 0;
}

/* A name is on the disk when its folder is. */
static int catalog_file_sync_folder(const char *path)
{
	char folder[PATH_MAX];
	const char *end = strrchr(path, '/');
	int length = end ? (int)(end - path) + 1 : 2;

	snprintf(folder, sizeof(folder), "%.*s", length, end ? path : "./");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	int r = fsync(fd) < 0 ? -errno : 0;
	close(fd);

	return r;
}

int catalog_file_replace(const char *path, const char *name)
{
	int r = catalog_file_unlink_logs(path);
	if (r < 0)
		return r;
	if (rename(name, path) < 0)
		return -errno;

	return catalog_file_sync_folder(path);
}
