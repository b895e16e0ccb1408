/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_keys: the keys of the configuration. The table in config_keys.c is their only
 * definition; reading, printing and clearing walk it. Only the config modules include
 * this.
 */
#pragma once

#include <stddef.h>

#include "daemon/config/config_fields.h"
#include "daemon/config/config_value.h"

struct config_key {
	const char *section, *name;
	size_t offset; /* of the field in struct config */
	struct value_kind kind;
	const char *value; /* the default, as text: read like any other */
	const char *help;
};

extern const struct config_key config_keys[]; /* keys of a section are adjacent */
extern const size_t config_keys_count;
enum { CONFIG_KEYS_MAX = 128 };

static inline void *config_field(struct config *config, const struct config_key *key)
{
	return (char *)config + key->offset;
}
