/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/log_event.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/log.h"

#define JOURNAL "/run/systemd/journal/socket"
#define TEXT 1024

static const char *const log_event_ids[] = {
#define LOG_EVENT_ID(name, id) [LOG_EVENT_##name] = id,
	LOG_EVENT_LIST(LOG_EVENT_ID)
#undef LOG_EVENT_ID
};

/* Whether standard error is the journal's own socket. */
static bool log_event_has_journal(void)
{
	struct stat stat;
	return log_is_journal() && fstat(STDERR_FILENO, &stat) == 0 && S_ISSOCK(stat.st_mode);
}

/* Whether the journal has it. */
static bool log_event_send(const char *entry, size_t bytes)
{
	static const struct sockaddr_un journal = {.sun_family = AF_UNIX, .sun_path = JOURNAL};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;

	ssize_t n = sendto(fd, entry, bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
			   (const struct sockaddr *)&journal, sizeof(journal));
	close(fd);

	return n == (ssize_t)bytes;
}

/* An entry of the journal is a line for each field, of which none may have another. */
static bool log_event_to_journal(enum log_event event, int level, const char *fields,
				 const char *message)
{
	char entry[2 * TEXT];
	int length = snprintf(
		entry, sizeof(entry),
		"PRIORITY=%d\nSYSLOG_IDENTIFIER=hbmd\nMESSAGE_ID=%s\n%s%sMESSAGE=%s\n", level,
		log_event_ids[event], fields ? fields : "", fields ? "\n" : "", message);

	return length < (int)sizeof(entry) && log_event_send(entry, (size_t)length);
}

void log_event(enum log_event event, int level, const char *fields, const char *format, ...)
{
	char message[TEXT];
	va_list arguments;

	if (!log_wants(level))
		return;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	log_replace_controls(message);

	if (!log_event_has_journal() || !log_event_to_journal(event, level, fields, message))
		log_message(level, "%s", message);
}
