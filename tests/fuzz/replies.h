/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replies: a daemon that answers as it should, but for what an input changes: the fake daemon
 * of tests/support, whose messages are changed on their way to the library. Each message takes
 * some bytes of the input: what is changed, and to what.
 */
#pragma once

#include "tests/fuzz/fuzz.h"

/* Starts it, once in a process: the path of its socket. */
const char *replies_open(void);
/* The changes of the next connection. */
void replies_begin(struct fuzz_input changes);
/* All connections have been served: they are in their order, and the last is one of our own. */
void replies_end(void);
/* A descriptor of memory of its device, to be imported; borrowed. */
int replies_slab(void);
