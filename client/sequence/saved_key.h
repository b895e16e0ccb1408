/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved_key: keys of what is saved by name. A key is the FNV-1a hash of 128 bits (offset
 * 0x6c62272e07bb014262b821756295c58d, prime 2^88 + 0x13b), stored with the lowest byte first,
 * of
 *
 *	kind	1 byte: 'm', a manifest; 'h', its handle; 'g', its guard; 'p', a piece; 's', slabs
 *	a, b	8 bytes each, the lowest first: of a manifest its place and 0; of a handle and a
 *		guard the save and 0; of a piece the save that it is of and its number; of slabs
 *		the save, and the lead of their variant times 2^32 and their number in it
 *	name	its bytes, without a NUL
 *
 * Names of one namespace do not collide by accident; they are no secret, salts are.
 */
#pragma once

#include <hbm/hbm.h>

hbm_key hbm_saved_key_manifest(const char *name, uint64_t place);
hbm_key hbm_saved_key_handle(const char *name, uint64_t save);
hbm_key hbm_saved_key_guard(const char *name, uint64_t save);
hbm_key hbm_saved_key_piece(const char *name, uint64_t save, uint64_t number);
hbm_key hbm_saved_key_slabs(const char *name, uint64_t save, uint64_t lead, uint64_t number);
/* A name for a namespace: the hash of two texts and their NULs, as 32 hexadecimal digits behind
 * a prefix. */
void hbm_saved_key_text(char out[HBM_WIRE_NAME_BYTES], const char *prefix, const char *a,
			const char *b);
