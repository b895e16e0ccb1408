/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* "unknown" is what sd_listen_fds_with_names(3) calls all of them where none has a name. */
static bool inherited_is_socket_name(const char *name)
{
	return strcmp(name, "hbmd") == 0 || strcmp(name, "hbmd.socket") == 0 ||
	       strcmp(name, "unknown") == 0;
}

static int inherited_take_socket(struct inherited *inherited, int fd, const char *name, char *error,
				 size_t error_size)
{
	if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0) {
		snprintf(error, error_size,
			 "the service manager passed '%s', which is not a socket with "
			 "ListenSequentialPacket=",
			 name);
		return -EINVAL;
	}

	if (inherited->socket >= 0) {
		snprintf(error, error_size,
			 "the service manager passed two listening sockets, expected one");
		return -EINVAL;
	}

	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		int r = -errno;

		snprintf(error, error_size, "cannot use the socket from the service manager: %s",
			 strerror(-r));
		return r;
	}

	inherited->socket = fd;

	return 0;
}

static int inherited_hand_over(struct inherited *inherited, int fd, const char *name,
			       const struct inherited_taker *takers, size_t taker_count,
			       char *error, size_t error_size)
{
	for (size_t i = 0; i < taker_count; i++)
		if (strncmp(takers[i].beginning, name, strlen(takers[i].beginning)) == 0)
			return takers[i].take(takers[i].arg, name, fd, error, error_size);

	if (inherited_is_socket_name(name))
		return inherited_take_socket(inherited, fd, name, error, error_size);

	snprintf(error, error_size,
		 "the service manager passed a descriptor named '%s', which this hbmd does not "
		 "know: remove it from "
		 "the unit, or start the version that stored it",
		 name);
	return -EINVAL;
}

int inherited_open(struct inherited *out, const struct inherited_taker *takers, size_t taker_count,
		   char *error, size_t error_size)
{
	struct inherited inherited = {.socket = -1};
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);
	int r = count < 0 ? count : 0;

	if (r < 0)
		snprintf(error, error_size,
			 "cannot read which descriptors the service manager passed: %s",
			 strerror(-r));

	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (r == 0)
			r = inherited_hand_over(&inherited, fd, names[i], takers, taker_count,
						error, error_size);

		if (r < 0)
			close(fd);
		free(names[i]);
	}

	free(names);

	if (r < 0) {
		inherited_close(&inherited);
		return r;
	}

	*out = inherited;

	return 0;
}

void inherited_close(struct inherited *inherited)
{
	if (inherited->socket >= 0)
		close(inherited->socket);

	inherited->socket = -1;
}
