/* SPDX-License-Identifier: Apache-2.0 */
/* checksum: XXH3-64 of a block's bytes, by the fastest code this CPU supports. Any
 * thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t checksum(const void *bytes, size_t size);
