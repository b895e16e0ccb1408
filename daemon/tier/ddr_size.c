/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/ddr_size.h"

#include <errno.h>
#include <stdio.h>

#include "daemon/config/config.h"
#include "daemon/tier/extent.h"

#define DDR_SIZE_PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static uint64_t ddr_size_round_down(uint64_t bytes, uint64_t unit)
{
	return bytes / unit * unit;
}

static uint64_t ddr_size_round_up(uint64_t bytes, uint64_t unit)
{
	return ddr_size_round_down(bytes + unit - 1, unit);
}

uint64_t ddr_size_regions(const struct config *config, const struct memory_limit *limit)
{
	return ddr_size_round_down(config_size_of(config->ddr_regions, limit->bytes),
				   DDR_SIZE_HUGE_PAGE);
}

void ddr_size_of(struct ddr_size *out, const struct config *config,
		 const struct memory_limit *limit)
{
	uint64_t page = config->ddr_hugepages ? DDR_SIZE_HUGE_PAGE : EXTENT_UNIT;
	struct ddr_size size = {.staging = ddr_size_round_up(config->ddr_staging, page)};

	size.size =
		ddr_size_round_down(config_size_of(config->ddr_size, limit->bytes), EXTENT_UNIT);
	if (size.size > 0)
		size.headroom = ddr_size_round_down(config->ddr_headroom, EXTENT_UNIT);

	size.bytes = ddr_size_round_up(size.staging + size.headroom + size.size, page);
	size.regions = ddr_size_regions(config, limit);
	*out = size;
}

static uint64_t ddr_size_read(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long long number = 0;

	if (file && fscanf(file, "%llu", &number) != 1)
		number = 0;
	if (file)
		fclose(file);

	return number;
}

uint64_t ddr_size_huge_pages(void)
{
	uint64_t reserved = ddr_size_read(DDR_SIZE_PAGES "resv_hugepages"); /* promised to others */
	uint64_t had = ddr_size_read(DDR_SIZE_PAGES "free_hugepages");
	uint64_t surplus = ddr_size_read(DDR_SIZE_PAGES "surplus_hugepages");
	uint64_t overcommit = ddr_size_read(DDR_SIZE_PAGES "nr_overcommit_hugepages");

	if (overcommit > surplus)
		had += overcommit - surplus;

	return had > reserved ? had - reserved : 0;
}

static int ddr_size_check_pages(const struct ddr_size *size, char *error, size_t error_size)
{
	uint64_t have = ddr_size_huge_pages() + size->taken / DDR_SIZE_HUGE_PAGE,
		 need = size->bytes / DDR_SIZE_HUGE_PAGE;

	if (need <= have)
		return 0;

	snprintf(error, error_size,
		 "ddr.hugepages: %llu huge pages of 2MiB are needed, %llu are free: reserve more "
		 "(vm.nr_hugepages) or "
		 "set ddr.hugepages = no",
		 (unsigned long long)need, (unsigned long long)have);
	return -ENOMEM;
}

int ddr_size_check(const struct ddr_size *size, const struct config *config,
		   const struct memory_limit *limit, char *error, size_t error_size)
{
	const char *with = size->regions > 0 ? "ddr.regions, " : "";
	const char *lower = size->regions > 0 ? "ddr.size or ddr.regions" : "ddr.size";
	uint64_t all = size->bytes + size->regions;
	if (all > limit->host) {
		snprintf(error, error_size,
			 "ddr.size: with %sddr.headroom and ddr.staging %llu bytes are needed, "
			 "this host has %llu: lower %s",
			 with, (unsigned long long)all, (unsigned long long)limit->host, lower);
		return -EINVAL;
	}

	/* huge pages are not charged to a memory cgroup */
	int r = config->ddr_hugepages ? ddr_size_check_pages(size, error, error_size) : 0;
	uint64_t charged = config->ddr_hugepages ? size->regions : all;
	if (r < 0 || limit->cgroup[0] == '\0' || charged == 0 ||
	    charged + DDR_SIZE_OWN <= limit->bytes)
		return r;

	snprintf(error, error_size,
		 "ddr.size: with %sddr.headroom, ddr.staging and what hbmd itself needs %llu "
		 "bytes are needed, the memory cgroup %s allows %llu: lower %s or raise its limit "
		 "(MemoryMax=)",
		 with, (unsigned long long)(charged + DDR_SIZE_OWN), limit->cgroup,
		 (unsigned long long)limit->bytes, lower);

	return -EINVAL;
}
