/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address_space: a range of this process's addresses with nothing behind it, in which memory is
 * mapped with MAP_FIXED. It costs no memory, an access is a fault, and it begins where a large
 * page does, so that the kernel can use such pages there.
 *
 * What is mapped in it, and its end, are the caller's: munmap().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ADDRESS_SPACE_ALIGNMENT ((size_t)2 << 20) /* a large page, bytes */

/* `bytes`: a multiple of the page. NULL: there is none; errno says why. */
void *address_space_reserve(size_t bytes);
/* Takes away what is mapped there; the addresses stay reserved. False: errno says why. */
bool address_space_empty(void *at, size_t bytes);
