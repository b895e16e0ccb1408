/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_label: what is found at nvme.path. The input is the first bytes of a file; its first
 * byte says how long the file is, and whether a label gets the checksum it should have. A
 * file that is neither empty nor ours is refused and stays as it is, and so does any that is
 * only looked at; one that is accepted is then formatted or labelled by us.
 */
#include "tests/fuzz/fuzz.h"

#include "daemon/base/log.h"
#include "daemon/config/config.h"
#include "daemon/tier/nvme_claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BYTES (1u << 20) /* of the tier */
#define CHECKSUM_AT 32   /* of a label: after its magic, version, state and size */

static char folder[64], path[96];
static uint8_t head[4096], found[4096];

static void clean_up(void)
{
	unlink(path);
	rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_folder(folder);
	snprintf(path, sizeof(path), "%s/tier", folder);
	atexit(clean_up);
	log_open(LOG_CRIT);

	return 0;
}

static void write_file(uint8_t how, size_t size)
{
	static const off_t lengths[] = {NVME_HEAD + BYTES, 0, NVME_HEAD, NVME_HEAD + 2 * BYTES};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (how & 4) {
		uint64_t checksum = XXH3_64bits(head, CHECKSUM_AT);
		memcpy(head + CHECKSUM_AT, &checksum, sizeof(checksum));
	}

	fuzz_check(fd >= 0 && write(fd, head, size) == (ssize_t)size);
	off_t length = lengths[how & 3];
	fuzz_check(length <= (off_t)size || ftruncate(fd, length) == 0);
	close(fd);
}

static size_t read_head(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, found, sizeof(found));

	fuzz_check(fd >= 0 && n >= 0);
	close(fd);

	return (size_t)n;
}

static bool is_as_written(size_t size)
{
	return read_head() >= size && memcmp(found, head, size) == 0;
}

static bool is_ours(void)
{
	return memcmp(head, "hbmd nvme tier\n", 16) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint8_t how = (uint8_t)fuzz_take(&input, 1);
	struct nvme_claim *claim = NULL;
	struct config config;
	char text[512] = "";
	const struct reason reason = {text, sizeof(text)};

	size = input.left < sizeof(head) ? input.left : sizeof(head);
	fuzz_take_bytes(&input, head, sizeof(head));
	size = how & 4 && size < CHECKSUM_AT + 8 ? CHECKSUM_AT + 8 : size;
	write_file(how, size);

	fuzz_check(config_defaults(&config) == 0);
	free(config.nvme_path);
	config.nvme_path = strdup(path);
	config.nvme_size = BYTES;

	int looked = nvme_claim_check(&config, &reason);
	fuzz_check(is_as_written(size));

	int r = nvme_claim_new(&claim, &config, 0, &reason);
	fuzz_check((r < 0) == (claim == NULL) && (r == 0 || text[0] != '\0'));
	fuzz_check(looked == r);
	if (r < 0)
		fuzz_check(is_as_written(size));
	else
		fuzz_check(size == 0 || is_ours());

	if (claim && !claim->formatted)
		fuzz_check(nvme_claim_label(claim, claim->size) == 0);
	nvme_claim_free(claim);
	config_clear(&config);

	return 0;
}
