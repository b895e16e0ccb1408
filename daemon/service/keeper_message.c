/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/keeper_message.h"

#include <string.h>

struct keeper_line {
	const char *text;
	size_t bytes;
};

static bool keeper_line_is(struct keeper_line line, const char *text)
{
	return line.bytes == strlen(text) && memcmp(line.text, text, line.bytes) == 0;
}

/* As systemd takes them: printable, and no ':', which separates them. */
static bool keeper_line_is_name(struct keeper_line line)
{
	if (line.bytes == 0 || line.bytes >= KEEPER_NAME_BYTES)
		return false;

	for (size_t i = 0; i < line.bytes; i++)
		if (line.text[i] <= ' ' || line.text[i] > '~' || line.text[i] == ':')
			return false;

	return true;
}

static void keeper_message_name(struct keeper_message *message, struct keeper_line name)
{
	memset(message->name, 0, sizeof(message->name));
	if (keeper_line_is_name(name))
		memcpy(message->name, name.text, name.bytes);
}

static void keeper_message_read(struct keeper_message *message, struct keeper_line line)
{
	static const char name[] = "FDNAME=";
	const size_t head = sizeof(name) - 1;

	if (line.bytes >= head && memcmp(line.text, name, head) == 0)
		keeper_message_name(message,
				    (struct keeper_line){line.text + head, line.bytes - head});

	message->store |= keeper_line_is(line, "FDSTORE=1");
	message->drop |= keeper_line_is(line, "FDSTOREREMOVE=1");
	message->barrier |= keeper_line_is(line, "BARRIER=1");
	message->ready |= keeper_line_is(line, "READY=1");
	message->alive |= keeper_line_is(line, "WATCHDOG=1");
	message->stopping |= keeper_line_is(line, "STOPPING=1");
}

bool keeper_message_parse(struct keeper_message *out, const char *text, size_t bytes)
{
	*out = (struct keeper_message){0};
	if (bytes > KEEPER_TEXT_MAX || memchr(text, '\0', bytes))
		return false;

	for (size_t at = 0; at < bytes;) {
		const char *end = memchr(text + at, '\n', bytes - at);
		size_t length = end ? (size_t)(end - text) - at : bytes - at;
		keeper_message_read(out, (struct keeper_line){text + at, length});
		at += length + 1;
	}

	return true;
}
