/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_file.h"

#include "daemon/base/log.h"
#include "daemon/base/reason.h"
#include "daemon/config/config.h"
#include "daemon/loop/worker.h"
#include "daemon/tier/probe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LABEL_BYTES 4096 /* at the start of the head */
#define LABEL_MAGIC "hbmd nvme tier\n"
#define LABEL_VERSION 2         /* 1 was at the end */
#define FILL_BYTES (4ull << 20) /* bytes of one zero write */
#define FILL_STEP (64ull << 20) /* bytes that become usable at a time; a tenth logs a line */
#define SIZE_MIN (1ull << 20)
#define LOCK_TRIES 40 /* two seconds */
#define LOCK_WAIT_NS 50000000

enum label_state { LABEL_FORMATTING = 1, LABEL_FORMATTED = 2 };

struct label {
	char magic[16];
	uint32_t version, state;
	uint64_t size;
	uint64_t checksum; /* XXH3-64 of the fields before it */
};

struct nvme_file {
	struct tier *tier;
	struct loop *loop;
	char *path;
	int fd;
	bool direct, created, is_device;
	uint64_t size;
	void (*progress)(void *arg);
	void *arg;
	struct worker *worker;
	struct job fill;
	uint64_t filled, filling; /* usable bytes; end of the step in flight */
	int fill_error;           /* the worker's while a step is in flight */
	double read_rate;         /* the worker's during the first step */
	bool settled;
	atomic_bool stop;
	char *zeros; /* FILL_BYTES, aligned */
};

/* ---- the label ---- */

static uint64_t label_checksum(const struct label *label)
{
	return XXH3_64bits(label, offsetof(struct label, checksum));
}

static int nvme_file_write_label(const struct nvme_file *nvme, enum label_state state)
{
	struct label *label = (struct label *)(void *)nvme->zeros;

	memset(label, 0, LABEL_BYTES);
	memcpy(label->magic, LABEL_MAGIC, sizeof(LABEL_MAGIC));
	label->version = LABEL_VERSION;
	label->state = state;
	label->size = nvme->size;
	label->checksum = label_checksum(label);
	ssize_t n = pwrite(nvme->fd, label, LABEL_BYTES, 0);
	int r = n == LABEL_BYTES ? 0 : n < 0 ? -errno : -EIO;
	memset(label, 0, LABEL_BYTES);

	return r < 0 ? r : fdatasync(nvme->fd) < 0 ? -errno : 0;
}

/* Whether the path starts with our label. */
static int nvme_file_read_label(const struct nvme_file *nvme, struct label *label, bool *ours)
{
	ssize_t n = pread(nvme->fd, nvme->zeros, LABEL_BYTES, 0);
	int r = n < 0 ? -errno : 0;

	memcpy(label, nvme->zeros, sizeof(*label));
	*ours = n == LABEL_BYTES && memcmp(label->magic, LABEL_MAGIC, sizeof(LABEL_MAGIC)) == 0 &&
		label->version == LABEL_VERSION && label->checksum == label_checksum(label);
	memset(nvme->zeros, 0, LABEL_BYTES);

	return r;
}

/*
 * Whether a device is blank where file systems, partition tables, volume managers and
 * swap keep their signatures: in its first MiB and its last. The device has at least that
 * many bytes.
 */
static int nvme_file_read_blank(const struct nvme_file *nvme, uint64_t bytes, bool *blank)
{
	const uint64_t places[] = {0, bytes - NVME_HEAD};
	int r = 0;

	*blank = true;
	for (size_t i = 0; i < 2 && r == 0 && *blank; i++) {
		ssize_t n = pread(nvme->fd, nvme->zeros, NVME_HEAD, (off_t)places[i]);
		r = n < 0 ? -errno : n < (ssize_t)NVME_HEAD ? -EIO : 0;
		for (ssize_t at = 0; at < n; at++)
			*blank = *blank && nvme->zeros[at] == 0;
		memset(nvme->zeros, 0, NVME_HEAD);
	}

	return r;
}

/* ---- opening ---- */

/* Retries the lock: a daemon that was killed with I/O in flight keeps the file open, and
 * so the lock, until the I/O completes. */
static int nvme_file_lock(int fd)
{
	for (unsigned tries = 1; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
		if (errno != EWOULDBLOCK || tries == LOCK_TRIES)
			return -1;
		nanosleep(&(const struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
	}
	return 0;
}

static bool nvme_file_is_block_device(const struct nvme_file *nvme)
{
	struct stat st;
	return fstat(nvme->fd, &st) == 0 && S_ISBLK(st.st_mode);
}

/*
 * For a device only: the kernel refuses one that is mounted, used for swap, or part of
 * another device, and prevents all of these while we have it open.
 */
static int nvme_file_open_exclusively(struct nvme_file *nvme, const struct reason *reason)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", nvme->fd);
	int fd = -1;
	for (unsigned tries = 1; fd < 0; tries++) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT | O_EXCL);
		if (fd < 0 && (errno != EBUSY || tries == LOCK_TRIES))
			return reason_set(reason, -errno,
					  "nvme.path: %s is in use: mounted, swap, part of "
					  "another device, or another "
					  "hbmd's (%s)",
					  nvme->path, strerror(errno));

		if (fd < 0)
			nanosleep(&(const struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
	}

	close(nvme->fd);
	nvme->fd = fd;

	return 0;
}

static int nvme_file_open_path(struct nvme_file *nvme, const struct reason *reason)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOCTTY;

	nvme->direct = true;
	nvme->fd = open(nvme->path, flags | O_DIRECT);
	if (nvme->fd < 0 && errno == ENOENT) {
		nvme->fd = open(nvme->path, flags | O_DIRECT | O_CREAT | O_EXCL, 0600);
		nvme->created =
			nvme->fd >= 0 || errno == EINVAL; /* open() creates the file, then fails */
	}

	if (nvme->fd < 0 && errno == EINVAL) { /* a file system without O_DIRECT */
		nvme->direct = false;
		nvme->fd = open(nvme->path, flags | O_CREAT, 0600);
	}

	if (nvme->fd < 0) {
		int error = errno;
		return reason_set(reason, -error, "nvme.path: cannot open %s: %s%s", nvme->path,
				  strerror(error),
				  error == ENOENT ? "; create its folder first"
				  : error == EROFS
					  ? "; in a service its folder must be in ReadWritePaths="
					  : "");
	}

	int r = nvme_file_is_block_device(nvme) ? nvme_file_open_exclusively(nvme, reason) : 0;
	if (r == 0 && nvme_file_lock(nvme->fd) < 0)
		return reason_set(reason, -errno, "nvme.path: %s is in use: %s holds its lock",
				  nvme->path,
				  errno == EWOULDBLOCK ? "another hbmd" : strerror(errno));

	return r;
}

/* Measures the size, and whether the file was never written to (a start may have been
 * interrupted before the label). */
static int nvme_file_measure(const struct nvme_file *nvme, uint64_t *bytes, bool *empty,
			     const struct reason *reason)
{
	struct stat st;

	*empty = false;

	if (fstat(nvme->fd, &st) < 0)
		return reason_set(reason, -errno, "nvme.path: %s: %s", nvme->path, strerror(errno));

	if (S_ISREG(st.st_mode)) {
		*bytes = (uint64_t)st.st_size;
		*empty = st.st_blocks == 0;
		return 0;
	}

	if (!S_ISBLK(st.st_mode))
		return reason_set(reason, -ENOTBLK,
				  "nvme.path: %s is neither a file nor a block device", nvme->path);

	if (ioctl(nvme->fd, BLKGETSIZE64, bytes) < 0)
		return reason_set(reason, -errno, "nvme.path: %s: cannot read its size: %s",
				  nvme->path, strerror(errno));

	return 0;
}

static int nvme_file_choose_size(struct nvme_file *nvme, uint64_t configured, uint64_t bytes,
				 const struct reason *reason)
{
	nvme->size = configured / EXTENT_UNIT * EXTENT_UNIT;
	if (nvme->is_device && configured == 0 && bytes >= NVME_HEAD)
		nvme->size = (bytes - NVME_HEAD) / EXTENT_UNIT * EXTENT_UNIT;

	if (nvme->size < SIZE_MIN)
		return reason_set(reason, -EINVAL,
				  "nvme.size: %llu bytes are too small, expected at least 1MiB",
				  (unsigned long long)nvme->size);

	if (nvme->is_device && (bytes < NVME_HEAD || nvme->size > bytes - NVME_HEAD))
		return reason_set(reason, -ENOSPC,
				  "nvme.size: %s has %llu bytes, too small for %llu and a "
				  "head of %llu: lower nvme.size",
				  nvme->path, (unsigned long long)bytes,
				  (unsigned long long)nvme->size, NVME_HEAD);

	return 0;
}

/* The largest size the file can have: the free bytes of the file system and its own. Some
 * file systems do not report them. */
static uint64_t nvme_file_room_for(const struct nvme_file *nvme)
{
	struct statvfs fs;
	struct stat st;
	if (fstatvfs(nvme->fd, &fs) < 0 || fstat(nvme->fd, &st) < 0 || fs.f_blocks == 0)
		return UINT64_MAX;
	return (uint64_t)fs.f_bavail * fs.f_frsize + (uint64_t)st.st_blocks * 512;
}

/* Allocates the blocks. If the file system cannot, the formatting writes the file out
 * anyway, and the reported free space must suffice. Returns 0 or an errno. */
static int nvme_file_allocate_blocks(const struct nvme_file *nvme, uint64_t length)
{
	while (fallocate(nvme->fd, 0, 0, (off_t)length) < 0) {
		if (errno == EOPNOTSUPP || errno == ENOSYS) {
			log_notice("nvme: %s is on a file system without fallocate: formatting "
				   "allocates it",
				   nvme->path);
			return nvme_file_room_for(nvme) < length ? ENOSPC : 0;
		}
		if (errno != EINTR)
			return errno;
	}
	return 0;
}

static int nvme_file_allocate(struct nvme_file *nvme, const struct reason *reason)
{
	uint64_t length = NVME_HEAD + nvme->size, room = nvme_file_room_for(nvme);
	int r = ftruncate(nvme->fd, (off_t)length) < 0
			? errno
			: -nvme_file_write_label(nvme, LABEL_FORMATTING);
	if (r == 0)
		r = nvme_file_allocate_blocks(nvme, length);
	if (r == 0)
		return 0;
	if (ftruncate(nvme->fd, 0) < 0)
		log_warning("nvme: cannot shorten %s: %s", nvme->path, strerror(errno));

	if (r == ENOSPC)
		return reason_set(
			reason, -r,
			"nvme.size: %llu bytes are needed for %s, there are %llu: lower nvme.size",
			(unsigned long long)length, nvme->path, (unsigned long long)room);

	return reason_set(reason, -r, "nvme.path: cannot allocate %llu bytes for %s: %s",
			  (unsigned long long)length, nvme->path, strerror(r));
}

/* Decides whether the path may be used and whether it must be formatted. */
static int nvme_file_claim(struct nvme_file *nvme, uint64_t configured, bool *formatted,
			   const struct reason *reason)
{
	uint64_t bytes = 0;
	struct label label;
	bool ours = false, empty = false;

	nvme->is_device = nvme_file_is_block_device(nvme);
	int r = nvme_file_measure(nvme, &bytes, &empty, reason);
	if (r == 0)
		r = nvme_file_choose_size(nvme, configured, bytes, reason);
	if (r < 0)
		return r;

	r = nvme_file_read_label(nvme, &label, &ours);
	if (r == 0 && !ours && nvme->is_device)
		r = nvme_file_read_blank(nvme, bytes, &empty);

	if (r < 0)
		return reason_set(reason, r, "nvme.path: cannot read %s: %s", nvme->path,
				  strerror(-r));

	if (!ours && !empty)
		return reason_set(reason, -EEXIST,
				  "nvme.path: %s holds data that is not hbmd's: name another "
				  "path, or empty it first%s",
				  nvme->path, nvme->is_device ? " (wipefs, blkdiscard)" : "");

	*formatted = ours && label.state == LABEL_FORMATTED && label.size == nvme->size &&
		     (nvme->is_device || bytes == NVME_HEAD + nvme->size);

	return 0;
}

/* ---- filling ---- */

static void nvme_file_fill_step(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, fill);
	for (uint64_t at = nvme->filled; at < nvme->filling && nvme->fill_error == 0;) {
		if (atomic_load(&nvme->stop))
			return;
		uint64_t left = nvme->filling - at;
		ssize_t n = pwrite(nvme->fd, nvme->zeros, left < FILL_BYTES ? left : FILL_BYTES,
				   (off_t)(NVME_HEAD + at));
		if (n > 0)
			at += (uint64_t)n;
		else if (n == 0 || errno != EINTR)
			nvme->fill_error = n == 0 ? -ENOSPC : -errno;
	}

	if (nvme->fill_error == 0 && nvme->filling == nvme->size)
		nvme->fill_error = nvme_file_write_label(nvme, LABEL_FORMATTED);
	if (nvme->fill_error == 0 && nvme->filled == 0)
		nvme->read_rate = probe_nvme(nvme->fd, NVME_HEAD, nvme->filling);
}

static void nvme_file_next_step(struct nvme_file *nvme)
{
	uint64_t left = nvme->size - nvme->filled;
	nvme->filling = nvme->filled + (left < FILL_STEP ? left : FILL_STEP);
	worker_post(nvme->worker, &nvme->fill);
}

static void nvme_file_step_filled(struct job *job)
{
	struct nvme_file *nvme = container_of(job, struct nvme_file, fill);
	if (atomic_load(&nvme->stop))
		return;

	if (nvme->fill_error < 0) {
		log_error("nvme: formatting %s failed at %llu of %llu MiB: %s; the tier stays at "
			  "that size",
			  nvme->path, (unsigned long long)(nvme->filled >> 20),
			  (unsigned long long)(nvme->size >> 20), strerror(-nvme->fill_error));
		nvme->settled = true;
		nvme->progress(nvme->arg);
		return;
	}

	unsigned before = nvme_file_percent(nvme);
	tier_grow(nvme->tier, nvme->filled, nvme->filling - nvme->filled);
	nvme->filled = nvme->filling;
	if (nvme_file_percent(nvme) / 10 != before / 10)
		log_info("nvme: formatting %s: %u%%", nvme->path, nvme_file_percent(nvme));

	nvme->settled = nvme->filled == nvme->size;
	if (!nvme->settled)
		nvme_file_next_step(nvme);

	nvme->progress(nvme->arg);
}

static int nvme_file_all_filled(struct nvme_file *nvme)
{
	nvme->filled = nvme->size;
	nvme->settled = true;
	nvme->read_rate = probe_nvme(nvme->fd, NVME_HEAD, nvme->size);
	return tier_grow(nvme->tier, 0, nvme->size);
}

static int nvme_file_format(struct nvme_file *nvme, const struct reason *reason)
{
	if (nvme->is_device) {
		int r = nvme_file_write_label(nvme, LABEL_FORMATTED);
		if (r < 0)
			return reason_set(reason, r, "nvme.path: cannot write to %s: %s",
					  nvme->path, strerror(-r));
		return nvme_file_all_filled(nvme);
	}

	int r = nvme_file_allocate(nvme, reason);
	if (r < 0)
		return r;

	r = worker_new(&nvme->worker, nvme->loop, "nvme-format", NULL, NULL);
	if (r < 0)
		return reason_set(reason, r, "nvme: cannot start the formatting thread: %s",
				  strerror(-r));

	log_info("nvme: formatting %s, %llu MiB", nvme->path,
		 (unsigned long long)(nvme->size >> 20));
	nvme_file_next_step(nvme);

	return 0;
}

static int nvme_file_set_up(struct nvme_file *nvme, const struct config *config,
			    const struct reason *reason)
{
	bool formatted = false;
	int r = nvme_file_open_path(nvme, reason);
	if (r == 0)
		r = nvme_file_claim(nvme, config->nvme_size, &formatted, reason);
	if (r < 0)
		return r;

	if (!nvme->direct)
		log_warning("nvme: %s is on a file system without O_DIRECT: I/O goes through the "
			    "page cache",
			    nvme->path);

	struct tier *tier = nvme->tier;
	r = tier_init(tier, HBM_TIER_NVME, tier->number, nvme->size, 0, config->limit_blocks);
	if (r < 0)
		return reason_set(reason, r, "nvme: %s", strerror(-r));

	tier->ops = &tier_nvme_ops;
	if (!formatted)
		return nvme_file_format(nvme, reason);

	return nvme_file_all_filled(nvme);
}

static int nvme_file_check_claim(struct nvme_file *nvme, uint64_t configured,
				 const struct reason *reason)
{
	bool formatted;

	nvme->fd = open(nvme->path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (nvme->fd < 0) {
		int r = -errno;
		return reason_set(reason, r, "nvme.path: cannot open %s: %s", nvme->path,
				  strerror(-r));
	}

	int r = nvme_file_claim(nvme, configured, &formatted, reason);
	uint64_t length = NVME_HEAD + nvme->size;
	if (r == 0 && !nvme->is_device && nvme_file_room_for(nvme) < length)
		r = reason_set(
			reason, -ENOSPC,
			"nvme.size: %llu bytes are needed for %s, there are %llu: lower nvme.size",
			(unsigned long long)length, nvme->path,
			(unsigned long long)nvme_file_room_for(nvme));

	return r;
}

int nvme_file_check(const struct config *config, char *error, size_t error_size)
{
	struct reason reason = {error, error_size};
	struct nvme_file nvme = {.path = config->nvme_path,
				 .fd = -1,
				 .zeros = aligned_alloc(LABEL_BYTES, FILL_BYTES)};
	if (!nvme.zeros)
		return reason_set(&reason, -ENOMEM, "nvme: out of memory");

	memset(nvme.zeros, 0, FILL_BYTES);
	int r = nvme_file_check_claim(&nvme, config->nvme_size, &reason);
	if (nvme.fd >= 0)
		close(nvme.fd);
	free(nvme.zeros);

	return r;
}

int nvme_file_open(struct nvme_file **out, const struct config *config, struct tier *tier,
		   struct loop *loop, void (*progress)(void *arg), void *arg, char *error,
		   size_t error_size)
{
	struct reason reason = {error, error_size};
	struct nvme_file *nvme = calloc(1, sizeof(*nvme));
	if (!nvme)
		return reason_set(&reason, -ENOMEM, "nvme: out of memory");

	*nvme = (struct nvme_file){
		.tier = tier, .loop = loop, .fd = -1, .progress = progress, .arg = arg};
	nvme->fill = (struct job){.run = nvme_file_fill_step, .done = nvme_file_step_filled};
	nvme->path = strdup(config->nvme_path);
	nvme->zeros = aligned_alloc(LABEL_BYTES, FILL_BYTES);
	int r = nvme->path && nvme->zeros ? 0 : reason_set(&reason, -ENOMEM, "nvme: out of memory");
	if (r == 0) {
		memset(nvme->zeros, 0, FILL_BYTES);
		r = nvme_file_set_up(nvme, config, &reason);
	}

	if (r < 0) {
		if (nvme->created)
			unlink(nvme->path);
		nvme_file_close(nvme);
		return r;
	}

	*out = nvme;

	return 0;
}

struct nvme_file *nvme_file_close(struct nvme_file *nvme)
{
	if (!nvme)
		return NULL;

	atomic_store(&nvme->stop, true);
	nvme->worker = worker_free(nvme->worker);
	if (nvme->fd >= 0)
		close(nvme->fd); /* also releases the lock */

	free(nvme->zeros);
	free(nvme->path);
	free(nvme);

	return NULL;
}

int nvme_file_fd(const struct nvme_file *nvme)
{
	return nvme->fd;
}

double nvme_file_read_rate(const struct nvme_file *nvme)
{
	return nvme->filled > 0 ? nvme->read_rate : 0;
}

unsigned nvme_file_percent(const struct nvme_file *nvme)
{
	return (unsigned)(nvme->filled * 100 / nvme->size);
}

bool nvme_file_settled(const struct nvme_file *nvme)
{
	return nvme->settled;
}
