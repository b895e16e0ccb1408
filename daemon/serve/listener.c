/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: see listener.h. Detecting a stale socket file, removing it and creating
 * another is not atomic: two daemons that start at once could each remove the other's. So
 * it is done under a lock on the folder, which leaves no file behind. Mode and group are
 * set before listen(), so no client connects before that.
 */
#include "daemon/serve/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/config/config.h"

/* Connections that wait to be accepted. No more than are accepted in a moment: further
 * connect() calls wait their turn in the kernel, each process with one or a few, and so a
 * flood of one is not all that is ahead of the others. hbmd.socket has the same. */
#define LISTENER_BACKLOG 128
#define LOCK_TRIES 20
#define LOCK_WAIT_NS 100000000

static int listener_refuse(int r, char *error, size_t error_size, const char *what,
			   const char *path)
{
	snprintf(error, error_size, "%s %s: %s", what, path, strerror(-r));
	return r;
}

/* Returns a locked descriptor of the folder, or negative errno. A daemon holds the lock
 * for much less than two seconds. */
static int listener_lock_folder(const char *path)
{
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;

	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd;
	free(copy);

	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (i == LOCK_TRIES) {
			close(fd);
			return -EBUSY;
		}
		nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
	}

	return r;
}

/* Whether the process that listened is gone: its io_uring may keep the socket open for a
 * moment after a SIGKILL. */
static bool listener_is_gone(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0 &&
	       kill(peer.pid, 0) < 0 && errno == ESRCH;
}

/* Whether a connection to the address is accepted: 1, 0 (a stale socket file), or
 * negative errno. */
static int listener_answers(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;

	int r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	if (r == 0 && listener_is_gone(fd))
		r = -ECONNREFUSED;

	close(fd);

	/* A full backlog means a daemon is there; so does a socket of another type. */
	if (r == 0 || r == -EAGAIN || r == -EPROTOTYPE)
		return 1;

	return r == -ECONNREFUSED ? 0 : r;
}

static int listener_remove_stale(const struct sockaddr_un *address, char *error, size_t error_size)
{
	const char *path = address->sun_path;
	struct stat status;
	if (lstat(path, &status) < 0)
		return errno == ENOENT
			       ? 0
			       : listener_refuse(-errno, error, error_size, "cannot look at", path);

	if (!S_ISSOCK(status.st_mode)) {
		snprintf(error, error_size,
			 "%s exists and is not a socket: remove it or set hbmd.socket", path);
		return -EEXIST;
	}

	int r = listener_answers(address);
	if (r < 0)
		return listener_refuse(r, error, error_size,
				       "cannot tell whether a daemon is using", path);

	if (r > 0) {
		snprintf(error, error_size, "another daemon answers at %s", path);
		return -EADDRINUSE;
	}

	log_notice("replacing the stale socket file %s", path);

	return unlink(path) < 0 && errno != ENOENT
		       ? listener_refuse(-errno, error, error_size, "cannot remove", path)
		       : 0;
}

static int listener_set_rights(const char *path, const struct config *config, char *error,
			       size_t error_size)
{
	if (config->socket_group && *config->socket_group) {
		const struct group *group = getgrnam(config->socket_group);
		if (!group) {
			snprintf(error, error_size, "hbmd.socket_group: no such group: %s",
				 config->socket_group);
			return -EINVAL;
		}

		if (chown(path, (uid_t)-1, group->gr_gid) < 0)
			return listener_refuse(-errno, error, error_size, "cannot set the group of",
					       path);
	}

	if (chmod(path, (mode_t)config->socket_mode) < 0)
		return listener_refuse(-errno, error, error_size, "cannot set the mode of", path);
	return 0;
}

static int listener_bind_and_listen(int fd, const struct sockaddr_un *address,
				    const struct config *config, char *error, size_t error_size)
{
	const char *path = address->sun_path;
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	if (r < 0)
		return listener_refuse(r, error, error_size, "cannot make the socket", path);

	r = listener_set_rights(path, config, error, error_size);
	if (r == 0 && listen(fd, LISTENER_BACKLOG) < 0)
		r = listener_refuse(-errno, error, error_size, "cannot listen at", path);
	if (r < 0)
		unlink(path);

	return r;
}

static int listener_make(struct listener *out, const struct config *config, char *error,
			 size_t error_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(config->socket) >= sizeof(address.sun_path)) {
		snprintf(error, error_size, "hbmd.socket: the path is longer than %zu bytes: %s",
			 sizeof(address.sun_path) - 1, config->socket);
		return -ENAMETOOLONG;
	}

	strcpy(address.sun_path, config->socket);
	int lock = listener_lock_folder(config->socket);
	if (lock < 0)
		return listener_refuse(lock, error, error_size, "cannot lock the folder of",
				       config->socket);

	int fd = -1;
	char *path = strdup(config->socket);
	int r = path ? listener_remove_stale(&address, error, error_size)
		     : listener_refuse(-ENOMEM, error, error_size, "no room for", "a path");
	if (r == 0) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = fd < 0 ? listener_refuse(-errno, error, error_size, "cannot make a socket for",
					     path)
			   : listener_bind_and_listen(fd, &address, config, error, error_size);
	}

	close(lock);

	if (r < 0) {
		if (fd >= 0)
			close(fd);
		free(path);
		return r;
	}

	*out = (struct listener){.fd = fd, .path = path};
	log_info("listening at %s", path);

	return 0;
}

int listener_open(struct listener *out, int inherited, const struct config *config, char *error,
		  size_t error_size)
{
	if (inherited < 0)
		return listener_make(out, config, error, error_size);

	*out = (struct listener){.fd = inherited};
	log_info("listening on the socket from the service manager");
	return 0;
}

void listener_close(struct listener *listener)
{
	if (listener->fd >= 0)
		close(listener->fd);
	if (listener->path)
		unlink(listener->path);
	free(listener->path);
	*listener = (struct listener){.fd = -1};
}
