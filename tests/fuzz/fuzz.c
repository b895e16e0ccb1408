/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void fuzz_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "fuzz: ");
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	abort();
}

void fuzz_take_bytes(struct fuzz_input *input, void *to, size_t size)
{
	size_t have = size < input->left ? size : input->left;

	if (have > 0)
		memcpy(to, input->at, have);
	memset((char *)to + have, 0, size - have);
	input->at += have;
	input->left -= have;
}

uint64_t fuzz_take(struct fuzz_input *input, size_t bytes)
{
	uint64_t value = 0;

	fuzz_take_bytes(input, &value, bytes);

	return value;
}

uint32_t fuzz_below(struct fuzz_input *input, uint32_t limit)
{
	return (uint32_t)fuzz_take(input, limit > 256 ? 4 : 1) % limit;
}

char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	fuzz_check(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';

	return text;
}

int fuzz_file(const void *data, size_t size, char path[32])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, 32, "/proc/self/fd/%d", fd);

	return fd;
}

void fuzz_folder(char path[64])
{
	const char *parent = getenv("TMPDIR");
	int n = snprintf(path, 64, "%s/hbm-fuzz-XXXXXX", parent ? parent : "/tmp");

	fuzz_check(n < 64 && mkdtemp(path) != NULL && chmod(path, 0755) == 0);
}

char *fuzz_printed(void (*print)(const void *what, FILE *out), const void *what)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	fuzz_check(out != NULL);
	print(what, out);
	fuzz_check(fclose(out) == 0);

	return text;
}

static unsigned fuzz_count(bool of_slabs, bool say)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;
	struct dirent *entry;

	fuzz_check(folder != NULL);
	while ((entry = readdir(folder))) {
		char target[128] = "";
		ssize_t n = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0 || strncmp(target, "pipe:", 5) == 0 ||
		    of_slabs != (strstr(target, "memfd:hbm-soft-device") != NULL))
			continue;
		if (say)
			fprintf(stderr, "fuzz: descriptor %s is %s\n", entry->d_name, target);
		count++;
	}
	closedir(folder);

	return count;
}

unsigned fuzz_descriptors(bool say)
{
	return fuzz_count(false, say);
}

unsigned fuzz_descriptors_of_slabs(void)
{
	return fuzz_count(true, false);
}
