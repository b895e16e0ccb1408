/* SPDX-License-Identifier: Apache-2.0 */
/* raw: a client that may say anything: messages as bytes on a socket of its own, without
 * the library. */
#pragma once

#include "tests/support/spawn.h"

#include <stddef.h>

int raw_connect(const struct spawn *spawn);
/* Connected, and its HELLO answered. */
int raw_greet(const struct spawn *spawn);
void raw_hello_fill(struct hbm_wire_hello *hello);
/* As one message, with `fd_count` copies of standard error attached. True if the kernel
 * took it. */
bool raw_send(int socket, const void *message, size_t size, size_t fd_count);
/* The header of the next message, its fds closed; false if the daemon hung up. Fails the
 * test after 20 s. */
bool raw_receive(int socket, struct hbm_wire_header *header);
/* Sends, and says what came back: the status of the reply, or RAW_DROPPED. */
#define RAW_DROPPED (-1)
int raw_ask(int socket, const void *message, size_t size);
