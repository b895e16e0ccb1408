/* SPDX-License-Identifier: Apache-2.0 */
/* lingering: sockets with bytes that nobody reads, whose close() waits for that for an hour,
 * or until the peer is closed. */
#pragma once

struct lingering {
	int fd, peer;
};

struct lingering lingering_make(void);
