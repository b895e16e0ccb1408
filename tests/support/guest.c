/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/raw.h"

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
