/* SPDX-License-Identifier: Apache-2.0 */
/* field: see field.h. */
#include "daemon/session/field.h"

#include <inttypes.h>
#include <string.h>

int field_zero(const char *field, uint64_t value, struct refusal *why)
{
	if (value == 0)
		return HBM_OK;
	return field_refuse(why, HBM_INVALID, "%s is %" PRIu64 ", expected 0", field, value);
}

int field_zero_of(const char *array, uint32_t index, uint32_t value, struct refusal *why)
{
	if (value == 0)
		return HBM_OK;
	return field_refuse(why, HBM_INVALID, "%s[%u].zero is %u, expected 0", array, index, value);
}

int field_flags(const char *field, uint32_t flags, uint32_t known, struct refusal *why)
{
	if ((flags & ~known) == 0)
		return HBM_OK;
	return field_refuse(why, HBM_UNSUPPORTED, "%s is %u, unknown are %#x", field, flags,
			    flags & ~known);
}

int field_text(const char *field, const char text[HBM_WIRE_NAME_BYTES], struct refusal *why)
{
	size_t length = strnlen(text, HBM_WIRE_NAME_BYTES);
	if (length == HBM_WIRE_NAME_BYTES)
		return field_refuse(why, HBM_INVALID,
				    "%s does not end, expected at most %d bytes and a NUL", field,
				    HBM_WIRE_NAME_BYTES - 1);

	for (size_t i = length; i < HBM_WIRE_NAME_BYTES; i++)
		if (text[i] != 0)
			return field_refuse(why, HBM_INVALID,
					    "%s has byte %u at %zu, after its NUL, expected 0",
					    field, (unsigned char)text[i], i);

	return HBM_OK;
}

int field_slot(const char *field, uint32_t slot, struct refusal *why)
{
	if (slot == HBM_WIRE_NO_FENCE || slot < HBM_WIRE_FENCES)
		return HBM_OK;
	return field_refuse(why, HBM_INVALID, "%s is %u, expected 0 to %d, or %u for none", field,
			    slot, HBM_WIRE_FENCES - 1, HBM_WIRE_NO_FENCE);
}

bool field_is_reserved(const struct hbm_wire_key *key)
{
	uint64_t half[2];
	memcpy(half, key, sizeof(half));
	return (half[0] | half[1]) == 0;
}
