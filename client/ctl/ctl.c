/* SPDX-License-Identifier: Apache-2.0 */
/* ctl: see ctl.h. */
#include "client/ctl/ctl.h"
#include "client/ctl/no_daemon.h"
#include "client/ctl/units.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *ctl_socket(const struct ctl *ctl)
{
	const char *environment = getenv("HBM_SOCKET");
	if (ctl->socket)
		return ctl->socket;
	return environment && *environment ? environment : HBM_DEFAULT_SOCKET;
}

struct hbm_options ctl_options(const struct ctl *ctl, const char *name)
{
	uint64_t answer_ms =
		ctl->timeout_s < UINT32_MAX / 1000 ? ctl->timeout_s * 1000 : UINT32_MAX;
	return (struct hbm_options){
		.socket = ctl_socket(ctl), .name = name, .answer_ms = (uint32_t)answer_ms};
}

int ctl_connect(struct ctl *ctl)
{
	struct hbm_options options = ctl_options(ctl, "hbmctl");
	options.inspect_only = true;
	int r = hbm_connect(&ctl->hbm, &options);
	return r == 0 ? CTL_DONE : ctl_no_daemon(ctl, r);
}

int ctl_no_daemon(const struct ctl *ctl, int status)
{
	char text[512];
	no_daemon_text(text, sizeof(text), ctl_socket(ctl), status);
	return ctl_fail("%s", text);
}

__attribute__((format(printf, 1, 0))) static void ctl_say(const char *format, va_list arguments)
{
	fflush(stdout);
	fputs("hbmctl: ", stderr);
	vfprintf(stderr, format, arguments);
}

int ctl_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	flockfile(stderr); /* a line of any thread stays whole */
	ctl_say(format, arguments);
	fputc('\n', stderr);
	funlockfile(stderr);
	va_end(arguments);

	return CTL_FAILED;
}

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	ctl_say(format, arguments);
	va_end(arguments);
	const char *command = ctl->command ? ctl->command->name : "";
	fprintf(stderr, "; see hbmctl%s%s --help\n", *command ? " " : "", command);

	return CTL_USAGE;
}

static const char *ctl_advice(int status)
{
	switch (status) {
	case HBM_DENIED:
		return ": run it as root or as the daemon's user";
	case HBM_NO_SPACE:
		return ": see hbmctl tiers and hbmctl devices for what is free";
	case HBM_LIMIT:
		return ": see [limits] in hbmd.conf(5)";
	case HBM_UNSUPPORTED:
		return ": compare hbmctl version, and see hbmctl tiers for what this daemon has";
	case HBM_SHUTDOWN:
		return ": try again when hbmd is up";
	case HBM_IO:
	case HBM_DEVICE:
		return ": see the daemon's log";
	case -ENOTCONN:
	case -EPIPE:
	case -ECONNRESET:
		return ": the daemon went away; see its log";
	default:
		return "";
	}
}

int ctl_refused(const struct hbm *hbm, const char *what, int status)
{
	const char *detail = hbm_error(hbm);
	return ctl_fail("%s: %s%s", what, *detail ? detail : hbm_strerror(status),
			ctl_advice(status));
}

int ctl_print_json(json_t *document)
{
	if (!document)
		return ctl_fail("out of memory");

	int r = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	json_decref(document);
	putchar('\n');

	return r == 0 ? CTL_DONE : ctl_fail("cannot write the result: %s", strerror(errno));
}

int ctl_printed(int r)
{
	return r == 0 ? CTL_DONE : ctl_fail("%s", hbm_strerror(r));
}

int ctl_count(const struct ctl *ctl, const char *what, const char *value, uint64_t *out)
{
	int r = value ? units_parse_count(value, out) : 0;
	if (r == 0)
		return CTL_DONE;
	return ctl_usage(ctl, "%s is \"%s\": expected a whole number%s", what, value,
			 r == -ERANGE ? " below 2^64" : "");
}

int ctl_bytes(const struct ctl *ctl, const char *what, const char *value, uint64_t *out)
{
	int r = value ? units_parse_bytes(value, out) : 0;
	if (r == 0)
		return CTL_DONE;
	return ctl_usage(ctl, "%s is \"%s\": expected a size such as 65536, 64KiB or 2GiB%s", what,
			 value, r == -ERANGE ? ", below 2^64 bytes" : "");
}
