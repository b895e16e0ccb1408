/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/checksum.h"

#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* XXH3_64bits chooses among SSE2, AVX2 and AVX-512 at run time */
#else
#include <xxhash.h>
#endif

uint64_t checksum(const void *bytes, size_t size)
{
	return XXH3_64bits(bytes, size);
}
