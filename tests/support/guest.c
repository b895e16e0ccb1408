/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/raw.h"

#define FLOOD_MAX 512

void guest_admit(const struct spawn *spawn)
{
	if (geteuid() != 0) {
		print_message("needs root, to connect as others\n");
		skip();
	}

	assert_int_equal(chmod(spawn->dir, 0755), 0);
}

/* By a path from the folder: those above it may be closed to the user. */
int guest_connect(const struct spawn *spawn, uid_t uid)
{
	struct spawn near = {.socket = "sock"};
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_true(here >= 0);
	assert_int_equal(chdir(spawn->dir), 0);
	assert_int_equal(seteuid(uid), 0);
	int socket = raw_connect(&near);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(fchdir(here), 0);
	close(here);

	return socket;
}

void guest_flood(const struct spawn *spawn, uid_t uid, unsigned held, bool greets)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "sock"};
	struct hbm_wire_hello hello;
	int sockets[FLOOD_MAX];

	raw_hello_fill(&hello);
	memset(sockets, -1, sizeof(sockets));
	if (held > FLOOD_MAX || chdir(spawn->dir) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
		_exit(1);

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* after setuid(), which clears it */
	for (unsigned i = 0;; i = (i + 1) % held) {
		if (sockets[i] >= 0)
			close(sockets[i]);

		sockets[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (connect(sockets[i], (const struct sockaddr *)&address, sizeof(address)) == 0 &&
		    greets)
			(void)raw_send(sockets[i], &hello, sizeof(hello), 0);
	}
}

int guest_greet(const struct spawn *spawn, uid_t uid, int *out)
{
	struct hbm_wire_hello hello;
	int socket = guest_connect(spawn, uid);

	raw_hello_fill(&hello);
	int status = raw_ask(socket, &hello, sizeof(hello));
	if (status == HBM_OK)
		*out = socket;
	else
		close(socket);

	return status;
}
