/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_claim.h"

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/tier/extent.h"
#include "daemon/tier/nvme_room.h"
#include "daemon/tier/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LABEL_BYTES 4096 /* at the start of the head */
#define LABEL_MAGIC "hbmd nvme tier\n"
#define LABEL_VERSION 3 /* 1 was at the end, 2 had no id */
#define LOCK_TRIES 40   /* two seconds */
#define LOCK_WAIT_NS UINT64_C(50000000)
#define MS UINT64_C(1000000)

/* LABEL_WIPES with either: nvme_claim.wipes. */
enum label_state { LABEL_FORMATTING = 1, LABEL_FORMATTED = 2, LABEL_WIPES = 4 };

struct label {
	char magic[16];
	uint32_t version, state;
	uint64_t size;
	uint8_t id[NVME_ID_BYTES];
	uint64_t checksum; /* XXH3-64 of the fields before it */
};

/* ---- the label ---- */

static uint64_t label_checksum(const struct label *label)
{
	return XXH3_64bits(label, offsetof(struct label, checksum));
}

static int nvme_claim_write_label(struct nvme_claim *claim, enum label_state state)
{
	struct label *label = (struct label *)(void *)claim->zeros;

	memset(label, 0, LABEL_BYTES);
	memcpy(label->magic, LABEL_MAGIC, sizeof(LABEL_MAGIC));
	label->version = LABEL_VERSION;
	label->state = claim->wipes ? state | LABEL_WIPES : state;
	label->size = claim->labelled;
	memcpy(label->id, claim->id, sizeof(label->id));
	label->checksum = label_checksum(label);
	ssize_t n = pwrite(claim->fd, label, LABEL_BYTES, 0);
	int r = n == LABEL_BYTES ? 0 : n < 0 ? -errno : -EIO;
	memset(label, 0, LABEL_BYTES);
	claim->state = state;

	return r < 0 ? r : fdatasync(claim->fd) < 0 ? -errno : 0;
}

/* Whether the path starts with our label. */
static int nvme_claim_read_label(const struct nvme_claim *claim, struct label *label, bool *ours)
{
	ssize_t n = pread(claim->fd, claim->zeros, LABEL_BYTES, 0);
	int r = n < 0 ? -errno : 0;

	memcpy(label, claim->zeros, sizeof(*label));
	*ours = n == LABEL_BYTES && memcmp(label->magic, LABEL_MAGIC, sizeof(LABEL_MAGIC)) == 0 &&
		label->version == LABEL_VERSION && label->checksum == label_checksum(label);
	memset(claim->zeros, 0, LABEL_BYTES);

	return r;
}

/*
 * Whether a device is blank where file systems, partition tables, volume managers and
 * swap keep their signatures: in its first MiB and its last. The device has at least that
 * many bytes.
 */
static int nvme_claim_read_blank(const struct nvme_claim *claim, uint64_t bytes, bool *blank)
{
	const uint64_t places[] = {0, bytes - NVME_HEAD};
	int r = 0;

	*blank = true;
	for (size_t i = 0; i < 2 && r == 0 && *blank; i++) {
		ssize_t n = pread(claim->fd, claim->zeros, NVME_HEAD, (off_t)places[i]);
		r = n < 0 ? -errno : n < (ssize_t)NVME_HEAD ? -EIO : 0;
		for (ssize_t at = 0; at < n; at++)
			*blank = *blank && claim->zeros[at] == 0;
		memset(claim->zeros, 0, NVME_HEAD);
	}

	return r;
}

/* ---- opening ---- */

/* Retries the lock: a daemon that was killed with I/O in flight keeps the file open, and
 * so the lock, until the I/O completes. */
static int nvme_claim_lock(int fd)
{
	for (unsigned tries = 1; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
		if (errno != EWOULDBLOCK || tries == LOCK_TRIES)
			return -1;
		nanosleep(&(const struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
	}
	return 0;
}

static bool nvme_claim_is_block_device(const struct nvme_claim *claim)
{
	struct stat st;
	return fstat(claim->fd, &st) == 0 && S_ISBLK(st.st_mode);
}

/*
 * For a device only: the kernel refuses one that is mounted, used for swap, or part of
 * another device, and prevents all of these while we have it open.
 */
static int nvme_claim_open_exclusively(struct nvme_claim *claim, const struct reason *reason)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", claim->fd);
	int fd = -1;
	for (unsigned tries = 1; fd < 0; tries++) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT | O_EXCL);
		if (fd < 0 && (errno != EBUSY || tries == LOCK_TRIES))
			return reason_set(reason, -errno,
					  "nvme.path: %s is in use: mounted, swap, part of "
					  "another device, or another "
					  "hbmd's (%s)",
					  claim->path, strerror(errno));

		if (fd < 0)
			nanosleep(&(const struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
	}

	close(claim->fd);
	claim->fd = fd;

	return 0;
}

static int nvme_claim_open_path(struct nvme_claim *claim, const struct reason *reason)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOCTTY;

	claim->direct = true;
	claim->fd = open(claim->path, flags | O_DIRECT);
	if (claim->fd < 0 && errno == ENOENT) {
		claim->fd = open(claim->path, flags | O_DIRECT | O_CREAT | O_EXCL, 0600);
		claim->created =
			claim->fd >= 0 || errno == EINVAL; /* open() creates the file, then fails */
	}

	if (claim->fd < 0 && errno == EINVAL) { /* a file system without O_DIRECT */
		claim->direct = false;
		claim->fd = open(claim->path, flags | O_CREAT, 0600);
	}

	if (claim->fd < 0) {
		int error = errno;
		return reason_set(reason, -error, "nvme.path: cannot open %s: %s%s", claim->path,
				  strerror(error),
				  error == ENOENT ? "; create its folder first"
				  : error == EROFS
					  ? "; in a service its folder must be in ReadWritePaths="
					  : "");
	}

	int r = nvme_claim_is_block_device(claim) ? nvme_claim_open_exclusively(claim, reason) : 0;
	if (r == 0 && nvme_claim_lock(claim->fd) < 0)
		return reason_set(reason, -errno, "nvme.path: %s is in use: %s holds its lock",
				  claim->path,
				  errno == EWOULDBLOCK ? "another hbmd" : strerror(errno));

	return r;
}

/* Measures the size, and whether the file was never written to (a start may have been
 * interrupted before the label). */
static int nvme_claim_measure(const struct nvme_claim *claim, uint64_t *bytes, bool *empty,
			      const struct reason *reason)
{
	struct stat st;

	*empty = false;

	if (fstat(claim->fd, &st) < 0)
		return reason_set(reason, -errno, "nvme.path: %s: %s", claim->path,
				  strerror(errno));

	if (S_ISREG(st.st_mode)) {
		*bytes = (uint64_t)st.st_size;
		*empty = st.st_blocks == 0;
		return 0;
	}

	if (!S_ISBLK(st.st_mode))
		return reason_set(reason, -ENOTBLK,
				  "nvme.path: %s is neither a file nor a block device",
				  claim->path);

	if (ioctl(claim->fd, BLKGETSIZE64, bytes) < 0)
		return reason_set(reason, -errno, "nvme.path: %s: cannot read its size: %s",
				  claim->path, strerror(errno));

	return 0;
}

static int nvme_claim_choose_size(struct nvme_claim *claim, uint64_t bytes,
				  const struct reason *reason)
{
	claim->size = claim->configured / EXTENT_UNIT * EXTENT_UNIT;
	if (claim->is_device && claim->configured == 0 && bytes >= NVME_HEAD)
		claim->size = (bytes - NVME_HEAD) / EXTENT_UNIT * EXTENT_UNIT;

	if (claim->size < NVME_SIZE_MIN)
		return reason_set(reason, -EINVAL,
				  "nvme.size: %llu bytes are too small, expected at least 1MiB",
				  (unsigned long long)claim->size);

	if (claim->is_device && (bytes < NVME_HEAD || claim->size > bytes - NVME_HEAD))
		return reason_set(reason, -ENOSPC,
				  "nvme.size: %s has %llu bytes, too small for %llu and a "
				  "head of %llu: lower nvme.size",
				  claim->path, (unsigned long long)bytes,
				  (unsigned long long)claim->size, NVME_HEAD);

	return 0;
}

/* Allocates the blocks. If the file system cannot, the formatting writes the file out
 * anyway, and the reported free space must suffice. Returns 0 or an errno. */
static int nvme_claim_allocate_blocks(const struct nvme_claim *claim, uint64_t length)
{
	while (fallocate(claim->fd, 0, 0, (off_t)length) < 0) {
		if (errno == EOPNOTSUPP || errno == ENOSYS) {
			log_notice("nvme: %s is on a file system without fallocate: formatting "
				   "allocates it",
				   claim->path);
			return nvme_room_of(claim->fd) < length ? ENOSPC : 0;
		}
		if (errno != EINTR)
			return errno;
	}
	return 0;
}

static int nvme_claim_allocate(struct nvme_claim *claim, const struct reason *reason)
{
	uint64_t length = NVME_HEAD + claim->size, room = nvme_room_of(claim->fd);
	uint64_t kept = claim->filled > 0 ? NVME_HEAD + claim->filled : 0;

	/* What is there stays right at every instant, and if this fails. */
	claim->labelled = kept > 0 ? claim->filled : claim->size;
	int r = -nvme_claim_write_label(claim, kept > 0 ? LABEL_FORMATTED : LABEL_FORMATTING);
	if (r == 0 && ftruncate(claim->fd, (off_t)length) < 0)
		r = errno;
	if (r == 0)
		r = nvme_claim_allocate_blocks(claim, length);
	if (r == 0)
		return 0;
	if (ftruncate(claim->fd, (off_t)kept) < 0)
		log_warning("nvme: cannot shorten %s: %s", claim->path, strerror(errno));

	if (r == ENOSPC)
		return reason_set(
			reason, -r,
			"nvme.size: %llu bytes are needed for %s, there are %llu: lower nvme.size",
			(unsigned long long)length, claim->path, (unsigned long long)room);

	return reason_set(reason, -r, "nvme.path: cannot allocate %llu bytes for %s: %s",
			  (unsigned long long)length, claim->path, strerror(r));
}

/* Of bytes that follow the head: what the device has, or the file may have. */
static uint64_t nvme_claim_most(const struct nvme_claim *claim, uint64_t bytes)
{
	struct rlimit limit;

	if (!claim->is_device) {
		bytes = nvme_room_of(claim->fd);
		if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
			bytes = limit.rlim_cur;
	}

	return bytes > NVME_HEAD ? bytes - NVME_HEAD : 0;
}

/* Contents that stay keep their id; NULL: there are none, or they will be filled with zeros. */
static int nvme_claim_identify(struct nvme_claim *claim, const uint8_t *id,
			       const struct reason *reason)
{
	if (id)
		memcpy(claim->id, id, sizeof(claim->id));
	else if (getrandom(claim->id, sizeof(claim->id), 0) != sizeof(claim->id))
		return reason_set(reason, -EIO, "nvme.path: cannot make an id for %s", claim->path);

	return 0;
}

/* Decides whether the path may be used and whether it must be formatted. */
static int nvme_claim_decide(struct nvme_claim *claim, const struct reason *reason)
{
	uint64_t bytes = 0;
	struct label label;
	bool ours = false, empty = false;

	claim->is_device = nvme_claim_is_block_device(claim);
	int r = nvme_claim_measure(claim, &bytes, &empty, reason);
	if (r == 0)
		r = nvme_claim_choose_size(claim, bytes, reason);
	if (r < 0)
		return r;

	claim->room.most = nvme_claim_most(claim, bytes);
	claim->copies = nvme_room_for_copies(&claim->room, &claim->size);

	r = nvme_claim_read_label(claim, &label, &ours);
	if (r == 0 && !ours && claim->is_device)
		r = nvme_claim_read_blank(claim, bytes, &empty);

	if (r < 0)
		return reason_set(reason, r, "nvme.path: cannot read %s: %s", claim->path,
				  strerror(-r));

	if (!ours && !empty)
		return reason_set(reason, -EEXIST,
				  "nvme.path: %s holds data that is not hbmd's: name another "
				  "path, or empty it first%s",
				  claim->path, claim->is_device ? " (wipefs, blkdiscard)" : "");

	/* One that is longer was being resized: the label says how much of it is right. */
	bool whole = ours && (label.state & ~(uint32_t)LABEL_WIPES) == LABEL_FORMATTED &&
		     (claim->is_device || bytes >= NVME_HEAD + label.size);
	claim->formatted = whole && label.size == claim->size &&
			   (claim->is_device || bytes == NVME_HEAD + claim->size);
	claim->wipes = whole && label.state & LABEL_WIPES;
	claim->state = LABEL_FORMATTED;
	claim->labelled = whole ? label.size : 0;
	if (whole)
		claim->filled = label.size < claim->size ? label.size : claim->size;

	return nvme_claim_identify(claim, whole ? label.id : NULL, reason);
}

/* ---- the steps together ---- */

/* The first step that fails ends it. */
static int nvme_claim_take(struct nvme_claim *claim, const struct reason *reason)
{
	int r = nvme_claim_open_path(claim, reason);
	if (r == 0)
		r = nvme_claim_decide(claim, reason);

	if (r == 0 && !claim->formatted && !claim->is_device)
		r = nvme_claim_allocate(claim, reason);

	/* A device needs no filling, and what was larger has been filled. */
	bool needless = claim->is_device || claim->filled == claim->size;
	if (r == 0 && !claim->formatted && needless) {
		r = nvme_claim_label(claim, claim->size);
		if (r < 0)
			return reason_set(reason, r, "nvme.path: cannot write to %s: %s",
					  claim->path, strerror(-r));
		claim->formatted = true;
	}

	uint64_t filled = claim->formatted ? claim->size : claim->filled;
	if (r == 0 && filled > 0)
		claim->read_rate = probe_nvme(claim->fd, NVME_HEAD, filled);

	return r;
}

static int nvme_claim_look(struct nvme_claim *claim, const struct reason *reason)
{
	claim->fd = open(claim->path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (claim->fd < 0) {
		int r = -errno;
		return reason_set(reason, r, "nvme.path: cannot open %s: %s", claim->path,
				  strerror(-r));
	}

	int r = nvme_claim_decide(claim, reason);
	uint64_t length = NVME_HEAD + claim->size;
	if (r == 0 && !claim->is_device && nvme_room_of(claim->fd) < length)
		r = reason_set(
			reason, -ENOSPC,
			"nvme.size: %llu bytes are needed for %s, there are %llu: lower nvme.size",
			(unsigned long long)length, claim->path,
			(unsigned long long)nvme_room_of(claim->fd));

	return r;
}

static void nvme_claim_run(struct attempt *attempt)
{
	struct nvme_claim *claim = container_of(attempt, struct nvme_claim, attempt);

	claim->result = claim->step(claim, &(struct reason){claim->text, sizeof(claim->text)});
	if (claim->result < 0 && claim->created)
		unlink(claim->path);
}

static void nvme_claim_late(struct attempt *attempt)
{
	struct nvme_claim *claim = container_of(attempt, struct nvme_claim, attempt);

	log_notice("nvme: %s has answered now, too late for this start: restart hbmd to use it",
		   claim->path);
	nvme_claim_withdraw(claim);
}

static struct nvme_claim *nvme_claim_make(const struct config *config, uint64_t copies,
					  int (*step)(struct nvme_claim *, const struct reason *))
{
	struct nvme_claim *claim = calloc(1, sizeof(*claim));
	if (!claim)
		return NULL;

	*claim = (struct nvme_claim){
		.attempt = {.run = nvme_claim_run, .late = nvme_claim_late},
		.step = step,
		.configured = config->nvme_size,
		.room = {.wanted = copies, .inside = config->nvme_copies_inside},
		.fd = -1};
	claim->path = strdup(config->nvme_path);
	claim->zeros = aligned_alloc(LABEL_BYTES, NVME_ZEROS);
	if (!claim->path || !claim->zeros)
		return nvme_claim_free(claim);

	memset(claim->zeros, 0, NVME_ZEROS);

	return claim;
}

/* Takes the step with a new claim, which is in *out if that succeeds. */
static int nvme_claim_try(struct nvme_claim **out, const struct config *config, uint64_t copies,
			  int (*step)(struct nvme_claim *, const struct reason *),
			  const struct reason *reason)
{
	struct nvme_claim *claim = nvme_claim_make(config, copies, step);
	if (!claim)
		return reason_set(reason, -ENOMEM, "nvme: out of memory");

	int r = attempt_run(&claim->attempt, "nvme-open",
			    config->nvme_timeout_ms * MS + LOCK_TRIES * LOCK_WAIT_NS);
	if (r == -ETIMEDOUT)
		return reason_set(reason, r,
				  "nvme.path: %s has had no answer for more than %llu ms "
				  "(nvme.timeout_ms): look at the disk",
				  config->nvme_path, (unsigned long long)config->nvme_timeout_ms);

	if (r < 0)
		reason_set(reason, r, "nvme: cannot start a thread to open %s: %s", claim->path,
			   strerror(-r));
	else if (claim->result < 0)
		r = reason_set(reason, claim->result, "%s", claim->text);

	if (r < 0) {
		nvme_claim_free(claim);
		return r;
	}

	*out = claim;

	return 0;
}

int nvme_claim_new(struct nvme_claim **out, const struct config *config, uint64_t copies,
		   const struct reason *reason)
{
	return nvme_claim_try(out, config, copies, nvme_claim_take, reason);
}

int nvme_claim_check(const struct config *config, const struct reason *reason)
{
	struct nvme_claim *claim = NULL;
	int r = nvme_claim_try(&claim, config, 0, nvme_claim_look, reason);
	nvme_claim_free(claim);
	return r;
}

uint64_t nvme_claim_room(const struct nvme_claim *claim)
{
	uint64_t bytes = 0;

	if (claim->is_device && ioctl(claim->fd, BLKGETSIZE64, &bytes) < 0)
		return claim->size;

	bytes = nvme_claim_most(claim, bytes);

	return bytes < EXTENT_END ? bytes : EXTENT_END;
}

int nvme_claim_lengthen(const struct nvme_claim *claim, uint64_t size)
{
	return claim->is_device ? 0 : -nvme_claim_allocate_blocks(claim, NVME_HEAD + size);
}

int nvme_claim_shorten(struct nvme_claim *claim, uint64_t size)
{
	int r;

	claim->size = size;
	r = nvme_claim_label(claim, size);
	if (r == 0 && !claim->is_device && ftruncate(claim->fd, (off_t)(NVME_HEAD + size)) < 0)
		r = -errno;

	return r;
}

int nvme_claim_label(struct nvme_claim *claim, uint64_t size)
{
	claim->labelled = size;
	return nvme_claim_write_label(claim, LABEL_FORMATTED);
}

int nvme_claim_label_wipes(struct nvme_claim *claim, bool wipes)
{
	claim->wipes = wipes;
	return nvme_claim_write_label(claim, (enum label_state)claim->state);
}

struct nvme_claim *nvme_claim_free(struct nvme_claim *claim)
{
	if (!claim)
		return NULL;

	if (claim->fd >= 0)
		close(claim->fd); /* also releases the lock */
	free(claim->zeros);
	free(claim->path);
	free(claim);

	return NULL;
}

void nvme_claim_withdraw(struct nvme_claim *claim)
{
	if (claim->created)
		unlink(claim->path);
	nvme_claim_free(claim);
}
