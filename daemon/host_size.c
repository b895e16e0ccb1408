/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/host_size.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/config.h"
#include "daemon/extent.h"

#define HOST_SIZE_PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static uint64_t host_size_round_down(uint64_t bytes, uint64_t unit)
{
	return bytes / unit * unit;
}

static uint64_t host_size_round_up(uint64_t bytes, uint64_t unit)
{
	return host_size_round_down(bytes + unit - 1, unit);
}

void host_size_of(struct host_size *out, const struct config *config, const struct memory_limit *limit)
{
	uint64_t page = config->ddr_hugepages ? HOST_SIZE_HUGE_PAGE : EXTENT_UNIT;
	struct host_size size = {.staging = host_size_round_up(config->ddr_staging, page)};

	size.size = host_size_round_down(config_size_of(config->ddr_size, limit->bytes), EXTENT_UNIT);
	if (size.size > 0)
		size.reserve = host_size_round_down(config->ddr_reserve, EXTENT_UNIT);
	size.bytes = host_size_round_up(size.staging + size.reserve + size.size, page);
	*out = size;
}

static uint64_t host_size_read(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long long number = 0;

	if (file && fscanf(file, "%llu", &number) != 1)
		number = 0;
	if (file)
		fclose(file);
	return number;
}

uint64_t host_size_huge_pages(void)
{
	uint64_t reserved = host_size_read(HOST_SIZE_PAGES "resv_hugepages"); /* promised to others */
	uint64_t had = host_size_read(HOST_SIZE_PAGES "free_hugepages");
	uint64_t surplus = host_size_read(HOST_SIZE_PAGES "surplus_hugepages");
	uint64_t overcommit = host_size_read(HOST_SIZE_PAGES "nr_overcommit_hugepages");

	if (overcommit > surplus)
		had += overcommit - surplus;

	return had > reserved ? had - reserved : 0;
}

static int host_size_check_pages(const struct host_size *size, char *error, size_t error_size)
{
	uint64_t need = size->bytes / HOST_SIZE_HUGE_PAGE, have = host_size_huge_pages();

	if (need <= have)
		return 0;

	snprintf(error, error_size,
		 "ddr.hugepages: %llu huge pages of 2MiB are needed, %llu are free: reserve more (vm.nr_hugepages) or "
		 "set ddr.hugepages = no",
		 (unsigned long long)need, (unsigned long long)have);
	return -ENOMEM;
}

int host_size_check(const struct host_size *size, const struct config *config, const struct memory_limit *limit,
		    char *error, size_t error_size)
{
	if (size->bytes > limit->host) {
		snprintf(error, error_size,
			 "ddr.size: with ddr.reserve and ddr.staging %llu bytes are needed, this host has %llu: lower "
			 "ddr.size",
			 (unsigned long long)size->bytes, (unsigned long long)limit->host);
		return -EINVAL;
	}

	if (config->ddr_hugepages) /* which no memory cgroup is charged for */
		return host_size_check_pages(size, error, error_size);

	if (limit->cgroup[0] == '\0' || size->bytes + HOST_SIZE_OWN <= limit->bytes)
		return 0;

	snprintf(error, error_size,
		 "ddr.size: with ddr.reserve, ddr.staging and what hbmd itself needs %llu bytes are needed, the memory "
		 "cgroup %s allows %llu: lower ddr.size or raise its limit (MemoryMax=)",
		 (unsigned long long)(size->bytes + HOST_SIZE_OWN), limit->cgroup, (unsigned long long)limit->bytes);
	return -EINVAL;
}
