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
/* Sends, and fails the test unless it is refused with that status and exactly that reason. */
void raw_refused(int socket, const void *message, int status, const char *reason);
/* Sends, and takes the reply, which is to be HBM_OK and of exactly that size. */
void raw_call(int socket, const void *message, void *reply, size_t size);
/* A namespace of such blocks, and a region whose first slab is committed: their numbers. */
uint32_t raw_namespace(int socket, uint64_t block_bytes);
uint32_t raw_region(int socket, uint32_t device, uint64_t address_space, uint64_t slab);

/* The head of a message, and messages with one of what may be many. */
#define RAW_HEADER(name, bytes)                                                                    \
	{                                                                                          \
		.size = (uint32_t)(bytes), .opcode = HBM_WIRE_##name, .id = 1                      \
	}

struct raw_ranges {
	struct hbm_wire_ranges head;
	struct hbm_wire_range range;
};

struct raw_keys {
	struct hbm_wire_keys head;
	struct hbm_wire_key key;
};

struct raw_blocks {
	struct hbm_wire_blocks head;
	struct hbm_wire_block block;
	struct hbm_wire_range segment;
};

/* A STORE of the first bytes of a region as a block without a parent, its key that one byte
 * and zeros. It waits for no fence and sets none. */
struct raw_blocks raw_store(uint32_t ns, uint8_t key, uint32_t region, uint64_t bytes);
