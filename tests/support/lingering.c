/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lingering.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct lingering lingering_make(void)
{
	static char bytes[65536];
	const struct linger linger = {.l_onoff = 1, .l_linger = 3600};
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct lingering made = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

	assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	assert_int_equal(connect(made.fd, (const struct sockaddr *)&address, size), 0);
	made.peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(made.peer >= 0);
	close(listener);
	while (send(made.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(setsockopt(made.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);

	return made;
}
