/* SPDX-License-Identifier: Apache-2.0 */
/* saved_key: see saved_key.h. */
#include "client/sequence/saved_key.h"

#include <stdio.h>
#include <string.h>

typedef unsigned __int128 hash;

static hash saved_key_add(hash sum, const void *bytes, size_t count)
{
	const hash prime = ((hash)1 << 88) + 0x13b;
	const unsigned char *byte = bytes;

	for (size_t i = 0; i < count; i++)
		sum = (sum ^ byte[i]) * prime;

	return sum;
}

static hash saved_key_begin(void)
{
	return ((hash)0x6c62272e07bb0142 << 64) | 0x62b821756295c58d;
}

static hash saved_key_add_number(hash sum, uint64_t number)
{
	unsigned char bytes[8];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(number >> 8 * i);

	return saved_key_add(sum, bytes, sizeof(bytes));
}

static hbm_key saved_key_make(char kind, uint64_t a, uint64_t b, const char *name)
{
	hash sum = saved_key_add(saved_key_begin(), &kind, 1);
	hbm_key key;

	sum = saved_key_add_number(sum, a);
	sum = saved_key_add_number(sum, b);
	sum = saved_key_add(sum, name, strlen(name));
	for (unsigned i = 0; i < sizeof(key.bytes); i++)
		key.bytes[i] = (unsigned char)(sum >> 8 * i);

	return key;
}

hbm_key hbm_saved_key_manifest(const char *name, uint64_t place)
{
	return saved_key_make('m', place, 0, name);
}

hbm_key hbm_saved_key_handle(const char *name, uint64_t save)
{
	return saved_key_make('h', save, 0, name);
}

hbm_key hbm_saved_key_guard(const char *name, uint64_t save)
{
	return saved_key_make('g', save, 0, name);
}

hbm_key hbm_saved_key_piece(const char *name, uint64_t save, uint64_t number)
{
	return saved_key_make('p', save, number, name);
}

hbm_key hbm_saved_key_slabs(const char *name, uint64_t save, uint64_t lead, uint64_t number)
{
	return saved_key_make('s', save, lead << 32 | number, name);
}

void hbm_saved_key_text(char out[HBM_WIRE_NAME_BYTES], const char *prefix, const char *a,
			const char *b)
{
	hash sum = saved_key_add(saved_key_begin(), a, strlen(a) + 1);

	sum = saved_key_add(sum, b, strlen(b) + 1);
	snprintf(out, HBM_WIRE_NAME_BYTES, "%.24s%016llx%016llx", prefix,
		 (unsigned long long)(sum >> 64), (unsigned long long)sum);
}
