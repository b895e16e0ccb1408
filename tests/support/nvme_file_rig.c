/* SPDX-License-Identifier: Apache-2.0 */
/* nvme_file_rig: see nvme_file_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/nvme_file_rig.h"

#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "daemon/base/log.h"

#define SIZE (3ull << 20)

static void progress(void *arg)
{
	struct nvme_file_rig *rig = arg;
	rig->steps++;
	if (nvme_file_settled(rig->nvme))
		loop_stop(rig->loop);
}

static void too_long(struct timer *timer)
{
	struct nvme_file_rig *rig = container_of(timer, struct nvme_file_rig, watchdog);
	fail_msg("formatting is at %u%%", nvme_file_percent(rig->nvme));
}

int nvme_file_rig_setup(void **state)
{
	struct nvme_file_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	leaks_begin(&rig->leaks);
	log_open(LOG_CRIT);
	strcpy(rig->folder, "/var/tmp/hbmd-nvme-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	snprintf(rig->path, sizeof(rig->path), "%s/tier", rig->folder);
	assert_int_equal(config_defaults(&rig->config), 0);
	free(rig->config.nvme_path);
	rig->config.nvme_path = strdup(rig->path);
	rig->config.nvme_size = SIZE;
	rig->config.limit_blocks = 1024;
	rig->watchdog.fire = too_long;
	*state = rig;

	return 0;
}

void nvme_file_rig_close(struct nvme_file_rig *rig)
{
	rig->nvme = nvme_file_close(rig->nvme);
	rig->loop = loop_free(rig->loop);
}

int nvme_file_rig_teardown(void **state)
{
	struct nvme_file_rig *rig = *state;

	nvme_file_rig_close(rig);
	rig->cache = cache_close(rig->cache);
	config_clear(&rig->config);

	if (rig->device > 0) {
		ioctl(rig->device, LOOP_CLR_FD, 0);
		close(rig->device);
	}

	umount(rig->folder); /* a test that failed may have left it */
	unlink(rig->path);
	assert_int_equal(rmdir(rig->folder), 0);
	assert_int_equal(leaks_end(&rig->leaks), 0);
	free(rig);

	return 0;
}

int nvme_file_rig_open(struct nvme_file_rig *rig)
{
	rig->cache = cache_close(rig->cache);
	if (!rig->loop)
		assert_int_equal(loop_new(&rig->loop, &(struct loop_options){.io_depth = 1}), 0);

	ledger_open(&rig->ledger, &rig->config);
	assert_int_equal(cache_open(&rig->cache, &rig->config, &rig->ledger, 1), 0);
	rig->error[0] = '\0';
	rig->cache->nvme->copies_max = rig->copies;

	return nvme_file_open(&rig->nvme, &rig->config, rig->cache->nvme, rig->loop, progress, rig,
			      rig->error, sizeof(rig->error));
}

void nvme_file_rig_assert_refused(struct nvme_file_rig *rig, int error, const char *words)
{
	assert_int_equal(nvme_file_rig_open(rig), error);
	assert_null(rig->nvme);
	if (!strstr(rig->error, words))
		fail_msg("\"%s\" does not say \"%s\"", rig->error, words);
	assert_null(strchr(rig->error, '\n'));
}
