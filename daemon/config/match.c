/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config/match.h"

#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"
#define SPACES " \t"

/* A decimal number that is an id. (id_t)-1 is none: the kernel takes it for "unchanged". */
static bool match_number(const char *text, id_t *id)
{
	if (*text == '\0' || strspn(text, DIGITS) != strlen(text) || strlen(text) > 10)
		return false;

	unsigned long long number = strtoull(text, NULL, 10);
	*id = (id_t)number;

	return number < UINT32_MAX;
}

static bool match_user(const char *name, id_t *id)
{
	const struct passwd *entry = match_number(name, id) ? NULL : getpwnam(name);
	if (entry)
		*id = entry->pw_uid;

	return entry || match_number(name, id);
}

static bool match_group(const char *name, id_t *id)
{
	const struct group *entry = match_number(name, id) ? NULL : getgrnam(name);
	if (entry)
		*id = entry->gr_gid;

	return entry || match_number(name, id);
}

static bool match_read_word(const char *word, struct match *match)
{
	if (strcmp(word, "any") == 0) {
		match->kind = MATCH_ANY;
		return true;
	}

	const char *value = strchr(word, ':');
	if (!value || *++value == '\0')
		return false;

	if (strncmp(word, "unit:", 5) == 0) {
		match->kind = MATCH_UNIT;
		strcpy(match->unit, value);
		return true;
	}

	if (strncmp(word, "uid:", 4) == 0) {
		match->kind = MATCH_UID;
		return match_user(value, &match->id);
	}

	match->kind = MATCH_GID;

	return strncmp(word, "gid:", 4) == 0 && match_group(value, &match->id);
}

/* One word of so many bytes. */
static bool match_read_one(const char *text, size_t length, struct match *match)
{
	char word[MATCH_UNIT_BYTES];

	*match = (struct match){0};
	if (length >= sizeof(word))
		return false;

	memcpy(word, text, length);
	word[length] = '\0';

	return match_read_word(word, match);
}

int match_read(const char *text, struct match *matches, size_t room)
{
	size_t count = 0;

	for (text += strspn(text, SPACES); *text; text += strspn(text, SPACES)) {
		size_t length = strcspn(text, SPACES);

		if (count == room || !match_read_one(text, length, &matches[count++]))
			return -EINVAL;
		text += length;
	}

	return count > 0 ? (int)count : -EINVAL;
}

bool match_is(const struct match *match, const struct identity *identity)
{
	switch (match->kind) {
	case MATCH_UNIT:
		return identity->unit[0] != '\0' && fnmatch(match->unit, identity->unit, 0) == 0;
	case MATCH_UID:
		return identity->uid == match->id;
	case MATCH_GID:
		return identity->gid == match->id;
	case MATCH_ANY:
		return true;
	default:
		return false;
	}
}
