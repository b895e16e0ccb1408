/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/start_check.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/service/footprint.h"
#include "daemon/service/memory_setup.h"
#include "daemon/tier/ddr_size.h"
#include "daemon/tier/nvme_faults.h"
#include "daemon/tier/nvme_file.h"

#define LINE 512

struct start_check {
	const struct config *config;
	FILE *errors;
	unsigned count;
	bool optional;     /* what is found now prevents no start */
	bool without_nvme; /* but an NVMe tier */
};

__attribute__((format(printf, 2, 3))) static void start_check_report(struct start_check *check,
								     const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs(check->optional ? "hbmd: without NVMe: " : "hbmd: ", check->errors);
	vfprintf(check->errors, format, arguments);
	fputc('\n', check->errors);
	va_end(arguments);
	check->without_nvme = check->without_nvme || check->optional;
	check->count += !check->optional;
}

/* ---- folders ---- */

/* The folder a path is in; free() it. */
static char *start_check_parent(const char *path)
{
	char *parent = strdup(path);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	if (slash)
		slash[slash == parent ? 1 : 0] = '\0';
	return parent;
}

/* Whether a file can be created in the folder. */
static bool start_check_folder(struct start_check *check, const char *key, const char *folder)
{
	struct stat st;
	if (stat(folder, &st) < 0)
		start_check_report(check, "%s: %s: %s%s", key, folder, strerror(errno),
				   errno == ENOENT ? "; create it first" : "");
	else if (!S_ISDIR(st.st_mode))
		start_check_report(check, "%s: %s is not a folder", key, folder);
	else if (access(folder, W_OK | X_OK) < 0)
		start_check_report(check, "%s: cannot write to %s: %s", key, folder,
				   strerror(errno));
	else
		return true;

	return false;
}

/* A missing folder is created: by the service manager, or by hbmd if its parent allows
 * it. */
static void start_check_state_dir(struct start_check *check)
{
	struct stat st;
	const char *path = check->config->state_dir;
	if (stat(path, &st) == 0 || errno != ENOENT) {
		start_check_folder(check, "hbmd.state_dir", path);
		return;
	}

	char *parent = start_check_parent(path);
	if (parent && stat(parent, &st) < 0)
		start_check_report(check, "hbmd.state_dir: %s: %s; create it first", parent,
				   strerror(errno));
	free(parent);
}

static void start_check_socket_group(struct start_check *check)
{
	const char *name = check->config->socket_group;
	if (*name && !getgrnam(name))
		start_check_report(check, "hbmd.socket_group: no such group: %s", name);
}

/* ---- tiers ---- */

static void start_check_ddr(struct start_check *check, struct ddr_size *size)
{
	char error[LINE] = "";
	struct memory_limit limit;
	memory_limit_read(&limit, "");
	ddr_size_of(size, check->config, &limit);
	if (ddr_size_check(size, check->config, &limit, error, sizeof(error)) < 0)
		start_check_report(check, "%s", error);
}

static void start_check_nvme_room(struct start_check *check, const char *folder)
{
	struct statvfs fs;
	uint64_t length = NVME_HEAD + check->config->nvme_size;
	if (statvfs(folder, &fs) < 0 || fs.f_blocks == 0)
		return;

	uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (room < length)
		start_check_report(check,
				   "nvme.size: %llu bytes are needed for %s, there are %llu: "
				   "lower nvme.size",
				   (unsigned long long)length, check->config->nvme_path,
				   (unsigned long long)room);
}

/* A file that a start would create. */
static void start_check_nvme_new(struct start_check *check)
{
	const struct config *config = check->config;
	if (config->nvme_size < NVME_SIZE_MIN)
		start_check_report(check,
				   "nvme.size: %llu bytes are too small, expected at least 1MiB",
				   (unsigned long long)config->nvme_size);

	char *parent = start_check_parent(config->nvme_path);
	struct stat st;
	bool made = parent && strcmp(parent, config->state_dir) == 0 && stat(parent, &st) < 0;
	if (parent && !made && start_check_folder(check, "nvme.path", parent))
		start_check_nvme_room(check, parent);
	free(parent);
}

/* The file size limit of this process, which a daemon started from here inherits. */
static void start_check_nvme_limit(struct start_check *check)
{
	struct rlimit limit;
	uint64_t length = NVME_HEAD + check->config->nvme_size;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    length > limit.rlim_cur)
		start_check_report(check,
				   "nvme.size: %llu bytes are needed for %s, the file size limit "
				   "(LimitFSIZE=, ulimit -f) is %llu",
				   (unsigned long long)length, check->config->nvme_path,
				   (unsigned long long)limit.rlim_cur);
}

static void start_check_nvme(struct start_check *check)
{
	struct stat st;
	struct nvme_faults faults;
	char error[LINE] = "";
	const char *path = check->config->nvme_path;
	if (path[0] == '\0')
		return;

	if (nvme_faults_parse(&faults, check->config->nvme_fail,
			      &(struct reason){error, sizeof(error)}) < 0)
		start_check_report(check, "%s", error);

	check->optional = !check->config->nvme_required;
	start_check_nvme_limit(check);
	if (stat(path, &st) < 0 && errno == ENOENT)
		start_check_nvme_new(check);
	else if (nvme_file_check(check->config, error, sizeof(error)) < 0)
		start_check_report(check, "%s", error);
	check->optional = false;
}

/* ---- devices ---- */

/* NULL: already reported. */
static struct devices *start_check_devices(struct start_check *check)
{
	char error[LINE] = "";
	struct devices *devices = NULL;
	if (devices_open(&devices, check->config, NULL, error, sizeof(error)) < 0) {
		start_check_report(check, "hbmd.driver: %s", error);
		return NULL;
	}

	if (memory_setup_check(check->config, devices, error, sizeof(error)) < 0)
		start_check_report(check, "%s", error);

	return devices;
}

int start_check(const struct config *config, FILE *ok, FILE *errors)
{
	struct start_check check = {.config = config, .errors = errors};
	struct ddr_size ddr;

	start_check_socket_group(&check);
	start_check_state_dir(&check);
	start_check_ddr(&check, &ddr);
	start_check_nvme(&check);

	struct devices *devices = start_check_devices(&check);
	if (check.count == 0) {
		struct footprint footprint = footprint_of(config, devices);
		char text[LINE];

		fprintf(ok, "ok: %u %s device%s, DDR tier %llu MiB, NVMe tier %s; %s\n",
			devices->count, driver_kind_name(devices->kind),
			devices->count == 1 ? "" : "s", (unsigned long long)(ddr.size >> 20),
			config->nvme_path[0] && !check.without_nvme ? config->nvme_path : "none",
			footprint_text(&footprint, text, sizeof(text)));
	}

	devices_close(devices);

	return check.count == 0 ? 0 : -EINVAL;
}

int start_check_become(const char *user)
{
	errno = 0;
	const struct passwd *entry = getpwnam(user);
	if (!entry)
		return errno != 0 ? -errno : -ENOENT;
	if (entry->pw_uid == geteuid())
		return 0;

	if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 ||
	    setuid(entry->pw_uid) < 0)
		return -errno;

	return 0;
}
