/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/service/notify.h"
#include "daemon/service/start_check.h"

#define LINE 512
#define SERVICE_USER "hbmd"

static const char usage[] =
	"Usage: hbmd [--config FILE] [--set SECTION.KEY=VALUE]...\n"
	"or:    hbmd --keeper [--starts N] [--watchdog SECONDS] -- OPTION...\n"
	"\n"
	"Owns this host's GPU memory, pinned host memory and a piece of its NVMe, and provides\n"
	"KV-cache memory to LLM-serving processes over a Unix socket. See hbmd(8), hbmd.conf(5).\n"
	"\n"
	"  -c, --config FILE            read FILE and FILE.d/*.conf instead of " OPTIONS_CONFIG "\n"
	"  -s, --set SECTION.KEY=VALUE  override one key; may be repeated\n"
	"      --keeper                 keep the memory of a daemon that it starts, again when it "
	"dies\n"
	"      --starts N               of the keeper: at most N starts in ten minutes; 100\n"
	"      --watchdog SECONDS       the same: abort a daemon that is silent for so long; 30\n"
	"      --check-config           report every reason to refuse a start, or ok, and exit\n"
	"      --user NAME              check as user NAME; for root and the default file: hbmd\n"
	"      --print-config           print the configuration that would be used\n"
	"      --help-config            print every key with its default, as a configuration file\n"
	"  -h, --help                   print this help\n"
	"      --version                print the version\n";

enum { OPTION_CHECK = 256, OPTION_USER, OPTION_PRINT, OPTION_REFERENCE, OPTION_VERSION };

void options_report(const char *format, ...)
{
	char line[LINE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);

	if (log_is_journal())
		log_error("%s", line);
	else
		fprintf(stderr, "hbmd: %s\n", line);

	notify_failed(line);
}

void options_report_all(const char *lines)
{
	const char *next = lines;
	while (next) {
		const char *end = strchr(next, '\n');
		options_report("%.*s", end ? (int)(end - next) : LINE, next);
		next = end ? end + 1 : NULL;
	}
}

int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"set", required_argument, NULL, 's'},
		{"check-config", no_argument, NULL, OPTION_CHECK},
		{"user", required_argument, NULL, OPTION_USER},
		{"print-config", no_argument, NULL, OPTION_PRINT},
		{"help-config", no_argument, NULL, OPTION_REFERENCE},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, OPTION_VERSION},
		{NULL, 0, NULL, 0},
	};

	opterr = 0; /* its messages have no priority */

	for (int c; (c = getopt_long(argc, argv, ":c:s:h", longs, NULL)) != -1;) {
		switch (c) {
		case 'c':
			options->configuration.file = optarg;
			options->configuration.given = true;
			break;
		case 's':
			if (options->configuration.set_count == CONFIGURATION_SETS) {
				options_report("more than %d --set: put them into a file",
					       CONFIGURATION_SETS);
				return 2;
			}
			options->configuration.sets[options->configuration.set_count++] = optarg;
			break;
		case OPTION_CHECK:
			options->check = true;
			break;
		case OPTION_USER:
			options->user = optarg;
			break;
		case OPTION_PRINT:
			options->print = true;
			break;
		case OPTION_REFERENCE:
			config_print_reference(stdout);
			return 1;
		case 'h':
			fputs(usage, stdout);
			return 1;
		case OPTION_VERSION:
			puts("hbmd " HBM_VERSION);
			return 1;
		case ':':
			options_report("option '%s' needs a value; see hbmd --help",
				       argv[optind - 1]);
			return 2;
		default:
			options_report("unknown option '%s'; see hbmd --help", argv[optind - 1]);
			return 2;
		}
	}

	if (optind < argc) {
		options_report("unexpected argument '%s'; see hbmd --help", argv[optind]);
		return 2;
	}

	return 0;
}

int options_become_user(const struct options *options)
{
	if (!options->check)
		return 0;

	const char *user = options->user ? options->user : SERVICE_USER;
	if (!options->user && (options->configuration.given || geteuid() != 0))
		return 0;

	int r = start_check_become(user);
	if (r == -ENOENT && !options->user)
		return 0;
	if (r < 0)
		options_report("cannot check as user %s: %s", user,
			       r == -ENOENT ? "there is no such user" : strerror(-r));

	return r;
}
