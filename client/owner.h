/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owner: whether this is the process that opened a connection, or a child of it. Every call
 * asks, so it must cost nothing: the kernel gives the children of fork() zeros in place of a
 * page (MADV_WIPEONFORK, Linux 4.14). Where it does not know that, they are told by their pid.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct owner {
	const volatile unsigned char *page; /* its first byte is 1 here, 0 in a child; or NULL */
	size_t page_bytes;
	pid_t pid;
};

/* This process is the owner. */
void hbm_owner_init(struct owner *owner);
bool hbm_owner_is_here(const struct owner *owner);
void hbm_owner_clear(struct owner *owner);
