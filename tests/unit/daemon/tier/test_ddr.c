/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory on its way into service: which part of it is which tier, in what order, and
 * what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "daemon/cache/cache.h"
#include "daemon/region/slab.h"
#include "daemon/tier/ddr.h"
#include "tests/support/soft_pool.h"

struct setting {
	struct soft_pool pool;
	struct ledger ledger;
	struct cache *cache;
	struct ddr *ddr;
	int kept; /* the memory of the daemon before, or -1 */
	unsigned steps;
	uint64_t staging_first; /* of the staging area in service at the first step */
	char error[512];
};

static bool is_warm(void *arg)
{
	const struct setting *setting = arg;
	return ddr_warm(setting->ddr);
}

static void progress(void *arg)
{
	struct setting *setting = arg;
	if (setting->steps++ == 0)
		setting->staging_first = setting->cache->staging->usable;
}

/* Slabs of so many bytes on each device. */
static int setup_with(void **state, uint64_t budget)
{
	struct setting *setting = calloc(1, sizeof(*setting));

	assert_non_null(setting);
	setting->kept = -1;
	pool_open(&setting->pool, budget);
	setting->pool.config.ddr_size = (struct config_size){.bytes = 5 * MIB + 4096};
	setting->pool.config.ddr_headroom = 1 * MIB;
	setting->pool.config.ddr_staging = 3 * MIB;
	setting->pool.config.limit_blocks = 1024;
	ledger_open(&setting->ledger, &setting->pool.config);
	assert_int_equal(cache_open(&setting->cache, &setting->pool.config, &setting->ledger, 2),
			 0);
	*state = setting;

	return 0;
}

static int setup(void **state)
{
	return setup_with(state, 8 * MIB);
}

/* A device that is gone gives no slab back; and no other thread uses the devices. */
static int setup_without_slabs(void **state)
{
	return setup_with(state, 0);
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	for (uint32_t i = 0; i < 2; i++) { /* before the host: this lets the loop run */
		struct device *device = &setting->pool.devices->list[i];
		device->slabs = slabs_close(device->slabs);
	}

	setting->ddr = ddr_close(setting->ddr);
	assert_int_equal(setting->pool.call.live("registrations"), 0);
	setting->cache = cache_close(setting->cache);
	pool_close(&setting->pool);
	free(setting);

	return 0;
}

static int open_host(struct setting *setting)
{
	return ddr_open(&setting->ddr, &setting->pool.config, setting->kept,
			setting->cache->staging, setting->cache->ddr, setting->pool.devices,
			setting->pool.loop, progress, setting, setting->error,
			sizeof(setting->error));
}

static void assert_in_service(struct setting *setting)
{
	struct cache *cache = setting->cache;

	assert_int_equal(cache->staging->usable, setting->pool.config.ddr_staging);
	assert_int_equal(extent_capacity(cache->staging->extents),
			 setting->pool.config.ddr_staging);
	assert_int_equal(cache->ddr->usable, setting->pool.config.ddr_size.bytes);
	assert_int_equal(cache->ddr->capacity, setting->pool.config.ddr_size.bytes);
	assert_int_equal(extent_capacity(cache->ddr->extents),
			 setting->pool.config.ddr_size.bytes + setting->pool.config.ddr_headroom);
	assert_ptr_equal(cache->staging->host, ddr_base(setting->ddr));
	assert_ptr_equal(cache->ddr->host,
			 ddr_base(setting->ddr) + setting->pool.config.ddr_staging);
}

static void test_it_comes_into_service(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(open_host(setting), 0);
	assert_int_equal(setting->cache->ddr->usable, 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_in_service(setting);
	assert_int_equal(setting->steps, 1);
	assert_int_equal(setting->staging_first, 3 * MIB);
	assert_int_equal(setting->pool.call.live("registrations"), 1);
	memset(setting->cache->staging->host, 1, 3 * MIB);
	memset(setting->cache->ddr->host, 1, 6 * MIB + 4096);
}

static struct driver real;
static struct gate *gate_of_all;
static atomic_uint registered, registered_outside;

static CUresult watched_register(void *host, size_t bytes, unsigned flags)
{
	atomic_fetch_add(&registered, 1);
	if (gate_try(gate_of_all)) {
		atomic_fetch_add(&registered_outside, 1);
		gate_leave(gate_of_all);
	}

	return real.cuMemHostRegister(host, bytes, flags);
}

/* The loop can see that memory is being registered, which can keep any call waiting. */
static void test_registered_inside_the_gate(void **state)
{
	struct setting *setting = *state;
	struct driver watched = real = *setting->pool.devices->driver;

	gate_of_all = &setting->pool.devices->gate;
	watched.cuMemHostRegister = watched_register;
	for (uint32_t i = 0; i < setting->pool.devices->count; i++)
		setting->pool.devices->list[i].driver = &watched;

	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	for (uint32_t i = 0; i < setting->pool.devices->count; i++)
		setting->pool.devices->list[i].driver = setting->pool.devices->driver;
	assert_int_equal(registered, 1);
	assert_int_equal(registered_outside, 0);
}

/* More than one registration, and the first one ends within the DDR tier. */
static void test_several_chunks(void **state)
{
	struct setting *setting = *state;

	setting->pool.config.ddr_size.bytes = setting->pool.config.ddr_chunk;
	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_in_service(setting);
	assert_int_equal(setting->steps, 2);
	assert_int_equal(setting->pool.call.live("registrations"), 2);
}

static void test_closed_while_it_warms_up(void **state)
{
	struct setting *setting = *state;
	setting->pool.config.ddr_size.bytes = 3 * setting->pool.config.ddr_chunk;
	assert_int_equal(open_host(setting), 0);
	assert_int_equal(ddr_warm(setting->ddr), false);
}

static void test_without_ddr(void **state)
{
	struct setting *setting = *state;

	setting->pool.config.ddr_size.bytes = 0;
	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_int_equal(setting->cache->staging->usable, 3 * MIB);
	assert_int_equal(setting->cache->ddr->usable, 0);
	assert_int_equal(setting->cache->ddr->headroom, 0);
}

static uint64_t in_service(const struct setting *setting)
{
	return extent_capacity(setting->cache->staging->extents) +
	       extent_capacity(setting->cache->ddr->extents);
}

static void test_a_refused_registration_is_tried_again(void **state)
{
	struct setting *setting = *state;

	setting->pool.config.ddr_size.bytes = setting->pool.config.ddr_chunk;
	assert_int_equal(
		setting->pool.call.fail_nth("cuMemHostRegister", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_int_equal(setting->steps, 2);
	assert_int_equal(setting->pool.call.live("registrations"), 2);
	assert_int_equal(in_service(setting),
			 setting->cache->staging->capacity + setting->cache->ddr->capacity + MIB);
	assert_int_equal(setting->pool.devices->list[0].errors, 1);
	assert_int_equal(ddr_broken(setting->ddr), false);
}

/* Memory that one device's context registers is for all: any that answers will do. */
static void test_another_device_registers_memory(void **state)
{
	struct setting *setting = *state;

	setting->pool.config.ddr_size.bytes = 2 * setting->pool.config.ddr_chunk;
	assert_int_equal(setting->pool.call.gone(0), 0);
	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_int_equal(setting->pool.call.live("registrations"), 3);
	assert_int_equal(in_service(setting),
			 setting->cache->staging->capacity + setting->cache->ddr->capacity + MIB);
	assert_int_equal(ddr_broken(setting->ddr), false);
}

/* Nothing comes into service, and the daemon can know that it never will. */
static void test_registration_that_is_always_refused(void **state)
{
	struct setting *setting = *state;

	setting->pool.config.ddr_size.bytes = setting->pool.config.ddr_chunk;
	for (unsigned nth = 1; nth <= 8; nth++)
		assert_int_equal(setting->pool.call.fail_nth("cuMemHostRegister", nth,
							     CUDA_ERROR_OUT_OF_MEMORY),
				 0);

	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_int_equal(setting->steps, 2);
	assert_int_equal(setting->pool.call.live("registrations"), 0);
	assert_int_equal(in_service(setting), 0);
	assert_int_equal(ddr_broken(setting->ddr), true);
}

static uint64_t free_huge_pages(void)
{
	FILE *file = fopen("/proc/meminfo", "re");

	assert_non_null(file);
	char line[128];
	unsigned long long pages = 0;
	while (fgets(line, sizeof(line), file))
		sscanf(line, "HugePages_Free: %llu", &pages);
	fclose(file);

	return pages;
}

/* One line that says what to reserve; with pages reserved, the tiers are as large as
 * asked all the same. */
static void test_huge_pages(void **state)
{
	struct setting *setting = *state;

	setting->pool.config.ddr_hugepages = true;
	setting->pool.config.ddr_staging = 4 * MIB;
	uint64_t pages = free_huge_pages();
	int r = open_host(setting);
	assert_int_equal(r < 0, pages < 6);
	if (r < 0) {
		assert_null(setting->ddr);
		assert_non_null(strstr(setting->error, "vm.nr_hugepages"));
		assert_null(strchr(setting->error, '\n'));
		return;
	}

	pool_run(&setting->pool, is_warm, setting);
	assert_in_service(setting);
}

/* From now on, for this thread and those it makes: no advice to madvise() that came after
 * Linux 5.13. */
static void forget_new_advice(void)
{
	struct sock_filter refuse_advice[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 22, 0, 1), /* MADV_POPULATE_READ */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 6, .filter = refuse_advice};
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* The last test: what it takes away does not come back. */
static void test_an_old_kernel(void **state)
{
	struct setting *setting = *state;

	forget_new_advice();
	assert_int_equal(open_host(setting), 0);
	pool_run(&setting->pool, is_warm, setting);
	assert_in_service(setting);
	unsigned char resident[3];
	char *pages = setting->cache->ddr->host + 4 * MIB;
	assert_int_equal(mincore(pages, 3 * 4096, resident), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(resident[i] & 1, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_comes_into_service, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registered_inside_the_gate,
						setup_without_slabs, teardown),
		cmocka_unit_test_setup_teardown(test_several_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed_while_it_warms_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_ddr, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_refused_registration_is_tried_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_another_device_registers_memory,
						setup_without_slabs, teardown),
		cmocka_unit_test_setup_teardown(test_registration_that_is_always_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_huge_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_old_kernel, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
