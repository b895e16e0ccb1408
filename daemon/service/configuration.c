/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/configuration.h"

#include <errno.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/log_event.h"
#include "daemon/ledger/tenant.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/server.h"

#define ERRORS 65536 /* bytes, of all lines about the configuration */
#define LINE 512

int configuration_read(const struct configuration *configuration, struct config *config,
		       const char **wrong)
{
	static char error[ERRORS];
	int r = config_defaults(config);

	error[0] = '\0';
	if (r == 0)
		r = config_read(config, configuration->file, error, sizeof(error));
	if (r == -ENOENT && !configuration->given) {
		r = 0; /* the defaults are a configuration */
		error[0] = '\0';
	}

	for (size_t i = 0; i < configuration->set_count; i++) {
		int one = config_set(config, configuration->sets[i], error, sizeof(error));
		r = r < 0 ? r : one;
	}

	if (r == 0)
		r = config_check(config, error, sizeof(error));
	*wrong = error[0] != '\0' ? error : strerror(-r);

	return r;
}

static void configuration_log(const char *lines)
{
	while (lines) {
		const char *end = strchr(lines, '\n');

		log_error("%.*s", end ? (int)(end - lines) : LINE, lines);
		lines = end ? end + 1 : NULL;
	}
}

void configuration_reload(const struct configuration *configuration, struct hbmd *hbmd)
{
	struct config config = {0};
	const char *wrong;
	int r = configuration_read(configuration, &config, &wrong);

	if (r < 0) {
		configuration_log(wrong);
		log_event(LOG_EVENT_NOT_RELOADED, LOG_ERR, NULL,
			  "SIGHUP: the configuration cannot be used; nothing has changed");
	} else if (tenants_configure(hbmd->ledger, &config) < 0) {
		log_error("SIGHUP: out of memory; some tenants are as they were");
	} else {
		log_event(LOG_EVENT_RELOADED, LOG_NOTICE, NULL,
			  "SIGHUP: tenants are as the configuration says now; what else has "
			  "changed in it applies when hbmd is restarted");
	}

	server_tenants_changed(hbmd->server);
	config_clear(&config);
}
