/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/catalog_setup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "daemon/catalog/catalog.h"
#include "daemon/config/config.h"
#include "daemon/move/mover.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/tier/nvme_file.h"

#define MS UINT64_C(1000000)

static bool catalog_setup_fits(void *arg, const struct namespace_identity *identity)
{
	return serve_namespace_may_be_on_nvme(arg, identity);
}

static int catalog_setup_path(const struct hbmd *hbmd, char *path, size_t size)
{
	const struct config *config = hbmd->config;
	int n = nvme_file_is_device(hbmd->nvme)
			? snprintf(path, size, "%s/catalog", config->state_dir)
			: snprintf(path, size, "%s.catalog", config->nvme_path);

	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int catalog_setup_open(struct hbmd *hbmd, void (*progress)(void *arg), void *arg)
{
	const struct config *config = hbmd->config;
	char path[PATH_MAX];
	if (!hbmd->nvme || !config->nvme_catalog)
		return 0;

	int r = catalog_setup_path(hbmd, path, sizeof(path));
	if (r < 0)
		return r;

	const struct catalog_options options = {.loop = hbmd->loop,
						.cache = hbmd->cache,
						.path = path,
						.file = nvme_file_id(hbmd->nvme),
						.fd = nvme_file_fd(hbmd->nvme),
						.checksums =
							config->checksum != CONFIG_CHECKSUM_OFF,
						.commit_ns = config->nvme_catalog_ms * MS,
						.flush_ns = config->nvme_catalog_flush_ms * MS,
						.timeout_ns = config->nvme_timeout_ms * MS,
						.fits = catalog_setup_fits,
						.fits_arg = hbmd,
						.progress = progress,
						.arg = arg};

	return catalog_open(&hbmd->catalog, &options);
}

/* Whether nothing is left in the file that would have to be overwritten some day. */
static bool catalog_setup_ends_wipes(const struct hbmd *hbmd)
{
	const struct cache *cache = hbmd->cache;

	return hbmd->nvme && nvme_file_expects_wipes(hbmd->nvme) && !cache->nvme->dirty &&
	       !tier_has_wiped(cache->nvme) && !namespaces_have_wiped(cache->namespaces, false);
}

void catalog_setup_close(struct hbmd *hbmd)
{
	bool idle = !hbmd->mover || mover_active(hbmd->mover) == 0;

	/* Its thread may wait for the disk that does not answer them. */
	if (!idle)
		return;
	hbmd->catalog = catalog_close(hbmd->catalog, true);
	if (catalog_setup_ends_wipes(hbmd))
		(void)nvme_file_end_wipes(hbmd->nvme);
}
