/* SPDX-License-Identifier: Apache-2.0 */
/* peer: see peer.h. Credentials are those of connect() time. */
#include "daemon/session/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; the C library of Debian 12 does not name it */
#endif

/* Without SO_PEERPIDFD there is only the process ID, which may have been reused since. */
static int peer_open_pidfd(int socket, pid_t pid)
{
	int fd;
	socklen_t size = sizeof(fd);
	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &size) == 0)
		return fd;
	if (errno != ENOPROTOOPT)
		return -errno;

	long r = syscall(SYS_pidfd_open, pid, 0);

	return r < 0 ? -errno : (int)r;
}

int peer_identify(int socket, struct peer *out)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -errno;

	int pidfd = peer_open_pidfd(socket, credentials.pid);
	if (pidfd < 0)
		return pidfd;

	*out = (struct peer){credentials.pid, credentials.uid, credentials.gid, pidfd};

	return 0;
}

/* The file in /proc is found by number. If the process lives after it was read, the number was
 * its own all along. */
void peer_unit(const struct peer *peer, char *unit, size_t size)
{
	struct pollfd process = {.fd = peer->pidfd, .events = POLLIN};
	char *name = NULL;

	unit[0] = '\0';
	if (sd_pid_get_unit(peer->pid, &name) >= 0 && poll(&process, 1, 0) == 0)
		snprintf(unit, size, "%s", name);
	free(name);
}

/* When the process began, in ns of CLOCK_BOOTTIME; 0: its files in /proc are hidden, or it is
 * gone. Field 22 of the file; the name before it may have spaces and parentheses. */
static uint64_t peer_began(pid_t pid)
{
	char path[32], line[1024];
	unsigned long long ticks = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;

	line[n] = '\0';
	char *field = strrchr(line, ')');
	for (int i = 2; field && i < 22; i++)
		field = strchr(field + 1, ' ');
	if (field)
		ticks = strtoull(field, NULL, 10);

	return ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* The number is a thread's of another process, or the process goes in this moment: ENOENT of newer
 * kernels. Older ones say EINVAL, and mean neither the number nor the flags, which are right. */
static int peer_find_errno(int error)
{
	return error == EINVAL || error == ENOENT ? -ESRCH : -error;
}

int peer_find(pid_t pid, uint64_t at_ns)
{
	/* A process ID of another namespace is 0. */
	long r = pid > 0 ? syscall(SYS_pidfd_open, pid, 0) : -1;
	if (r < 0)
		return pid > 0 ? peer_find_errno(errno) : -ESRCH;

	/* What began later has the number because that process is gone. */
	struct pollfd process = {.fd = (int)r, .events = POLLIN};
	if (peer_began(pid) <= at_ns && poll(&process, 1, 0) == 0)
		return (int)r;

	close((int)r);

	return -ESRCH;
}

/* Its supplementary groups, which the caller frees: how many; -1: they are not known. */
static ssize_t peer_groups(int socket, gid_t **groups)
{
	socklen_t size = 0;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0)
		return 0;
	if (errno != ERANGE)
		return -1;

	*groups = malloc(size);
	if (*groups && getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, *groups, &size) == 0)
		return (ssize_t)(size / sizeof(**groups));

	return -1;
}

bool peer_in_group(int socket, gid_t gid)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	gid_t *groups = NULL;
	bool found = getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 &&
		     credentials.gid == gid;
	ssize_t count = found ? 0 : peer_groups(socket, &groups);

	for (ssize_t i = 0; i < count; i++)
		found |= groups[i] == gid;
	free(groups);

	return found;
}
