/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine: see machine.h. A call that hbmd can do without is UNSUPPORTED where it is
 * missing; one that it cannot, FAIL.
 */
#include "tests/gpu/machine.h"

#include "tests/gpu/record.h"
#include "tests/gpu/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* ---- What is written somewhere ---- */

/* The line of a file that begins with `key`, without it; "" where there is none. */
static void read_line(const char *path, const char *key, char *line, int size)
{
	FILE *file = fopen(path, "r");
	bool found = false;

	while (file && !found && fgets(line, size, file))
		found = strncmp(line, key, strlen(key)) == 0;
	if (file)
		fclose(file);

	line[found ? strcspn(line, "\n") : 0] = '\0';
	memmove(line, line + (found ? strlen(key) : 0),
		strlen(line + (found ? strlen(key) : 0)) + 1);
}

static void limit_fact(const char *name, __rlimit_resource_t resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) != 0)
		return;
	if (limit.rlim_max == RLIM_INFINITY)
		record_word(name, "unlimited");
	else
		record_number(name, (double)limit.rlim_max, "", "%s", "");
}

static void written_facts(void)
{
	char line[256], libc[64];
	struct utsname name;
	struct sysinfo info;

	if (uname(&name) == 0)
		record_word("kernel", name.release);

	snprintf(libc, sizeof(libc), "glibc %s", gnu_get_libc_version());
	record_word("libc", libc);
	record_number("processors", (double)sysconf(_SC_NPROCESSORS_ONLN), "", "%s", "");

	if (sysinfo(&info) == 0)
		record_number("memory", (double)info.totalram * info.mem_unit / (double)GIB, "GiB",
			      "%s", "");

	read_line("/sys/fs/cgroup/memory.max", "", line, sizeof(line));
	record_word("memory of the container, at most", line[0] ? line : "?");
	limit_fact("open files, at most", RLIMIT_NOFILE);
	limit_fact("locked memory, at most", RLIMIT_MEMLOCK);
	record_number("user", (double)geteuid(), "", "%s", "");
	read_line("/proc/sys/vm/nr_hugepages", "", line, sizeof(line));
	record_word("huge pages reserved", line[0] ? line : "none");
	read_line("/proc/self/status", "Seccomp:\t", line, sizeof(line));
	record_word("system calls filtered", strcmp(line, "2") == 0   ? "yes"
					     : strcmp(line, "0") == 0 ? "no"
								      : "?");
	read_line("/proc/driver/nvidia/version", "", line, sizeof(line));
	record_word("kernel module", line[0] ? line : "none");
}

/* ---- What is there when it is called; negative errno where it is not ---- */

static int try_io_uring(void)
{
	struct io_uring ring;
	int r = io_uring_queue_init(8, &ring, 0);

	if (r == 0)
		io_uring_queue_exit(&ring);
	return r;
}

static int try_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return fd < 0 ? -errno : close(fd);
}

static int try_peer_pidfd(void)
{
	int ends[2], fd = -1, r;
	socklen_t size = sizeof(fd);

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;

	r = getsockopt(ends[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &size) < 0 ? -errno : close(fd);
	close(ends[0]);
	close(ends[1]);

	return r;
}

static int try_seals(void)
{
	int fd = memfd_create("seals", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return -errno;

	r = ftruncate(fd, 4096) < 0 ||
			    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0
		    ? -errno
		    : 0;
	close(fd);

	return r;
}

/* On a huge page's worth of a memory file, mapped where a huge page could be. */
static int try_advice(int advice)
{
	const size_t huge = 2 * MIB;
	char *room = mmap(NULL, 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = memfd_create("advice", MFD_CLOEXEC), r = -ENOMEM;
	char *memory = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, (off_t)huge) == 0 && room != MAP_FAILED)
		memory = mmap(room + (huge - (uintptr_t)room % huge) % huge, huge,
			      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);

	if (memory != MAP_FAILED) {
		*(volatile char *)memory = 0;
		r = madvise(memory, huge, advice) < 0 ? -errno : 0;
	}

	if (room != MAP_FAILED)
		munmap(room, 2 * huge);
	if (fd >= 0)
		close(fd);

	return r;
}

static int try_populate(void)
{
	return try_advice(MADV_POPULATE_WRITE);
}

static int try_collapse(void)
{
	return try_advice(MADV_COLLAPSE);
}

static const struct {
	const char *name;
	int (*try)(void);
	const char *without; /* what hbmd does then; NULL: it does not work */
} kernel_calls[] = {
	{"pidfd", try_pidfd, NULL},
	{"sealed memory files", try_seals, NULL},
	{"io_uring", try_io_uring, "threads read and write"},
	{"pidfd of a socket's peer", try_peer_pidfd, "the pidfd is opened by number"},
	{"pages made ahead", try_populate, "they are touched one by one"},
	{"huge pages on demand", try_collapse, "small ones"},
};

static void kernel_facts(void)
{
	for (size_t i = 0; i < sizeof(kernel_calls) / sizeof(kernel_calls[0]); i++) {
		const char *name = kernel_calls[i].name, *without = kernel_calls[i].without;
		int r = kernel_calls[i].try();

		if (r == 0)
			record(name, OUTCOME_PASS, "%s", "");
		else if (without)
			record(name, OUTCOME_UNSUPPORTED, "%s; instead: %s", strerror(-r), without);
		else
			record(name, OUTCOME_FAIL, "%s; hbmd needs it", strerror(-r));
	}
}

void machine_facts(void)
{
	written_facts();
	kernel_facts();
}
