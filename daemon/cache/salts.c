/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/salts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct salts {
	size_t bytes;
	char (*list)[HBM_WIRE_NAME_BYTES]; /* a mapping of that many bytes */
};

int salts_new(struct salts **out, uint64_t max)
{
	struct salts *salts = calloc(1, sizeof(*salts));
	if (!salts)
		return -ENOMEM;

	salts->bytes = (max + 1) * sizeof(salts->list[0]);
	void *list = mmap(NULL, salts->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	int r = list == MAP_FAILED ? -errno : 0;
	if (r == 0) {
		salts->list = list;
		r = madvise(list, salts->bytes, MADV_DONTDUMP) == 0 ? 0 : -errno;
	}

	if (r < 0) {
		salts_free(salts);
		return r;
	}

	*out = salts;

	return 0;
}

struct salts *salts_free(struct salts *salts)
{
	if (salts && salts->list)
		munmap(salts->list, salts->bytes);

	free(salts);
	return NULL;
}

void salts_set(struct salts *salts, uint64_t number, const char salt[HBM_WIRE_NAME_BYTES])
{
	memcpy(salts->list[number], salt, HBM_WIRE_NAME_BYTES);
}

bool salts_same(const char one[HBM_WIRE_NAME_BYTES], const char other[HBM_WIRE_NAME_BYTES])
{
	unsigned difference = 0;
	for (size_t i = 0; i < HBM_WIRE_NAME_BYTES; i++)
		difference |= (unsigned char)(one[i] ^ other[i]);

	return difference == 0;
}

bool salts_equal(const struct salts *salts, uint64_t number, const char salt[HBM_WIRE_NAME_BYTES])
{
	return salts_same(salts->list[number], salt);
}

void salts_copy(const struct salts *salts, uint64_t number, char salt[HBM_WIRE_NAME_BYTES])
{
	memcpy(salt, salts->list[number], HBM_WIRE_NAME_BYTES);
}

void salts_clear(struct salts *salts, uint64_t number)
{
	explicit_bzero(salts->list[number], HBM_WIRE_NAME_BYTES);
}
