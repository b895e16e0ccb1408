/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/bulk_copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__ /* every x86-64 has it */

#include <emmintrin.h>

#define LINE 64u
#define PAGE 4096u
#define PAGES 4u   /* in turns: the processor reads ahead in each by itself */
#define AHEAD 256u /* bytes */

/* `to` is where a line begins. */
static void bulk_copy_line(char *to, const char *from)
{
	__m128i parts[LINE / sizeof(__m128i)];

	for (size_t i = 0; i < LINE / sizeof(__m128i); i++)
		parts[i] = _mm_loadu_si128((const void *)(from + i * sizeof(__m128i)));
	for (size_t i = 0; i < LINE / sizeof(__m128i); i++)
		_mm_stream_si128((void *)(to + i * sizeof(__m128i)), parts[i]);
}

static void bulk_copy_pages(char *to, const char *from)
{
	for (size_t at = 0; at < PAGE; at += LINE) {
		for (size_t page = 0; page < PAGES * PAGE; page += PAGE) {
			_mm_prefetch(from + page + at + AHEAD, _MM_HINT_T0);
			bulk_copy_line(to + page + at, from + page + at);
		}
	}
}

void bulk_copy(void *to, const void *from, size_t bytes)
{
	size_t head = (LINE - (uintptr_t)to % LINE) % LINE, at = head;

	if (bytes < BULK_COPY_LEAST) {
		memcpy(to, from, bytes);
		return;
	}

	memcpy(to, from, head);
	for (; bytes - at >= (size_t)PAGES * PAGE; at += (size_t)PAGES * PAGE)
		bulk_copy_pages((char *)to + at, (const char *)from + at);
	memcpy((char *)to + at, (const char *)from + at, bytes - at);
	_mm_sfence(); /* such writes are not in order with others */
}

#else

void bulk_copy(void *to, const void *from, size_t bytes)
{
	memcpy(to, from, bytes);
}

#endif
