/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/slab_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int slab_rig_setup(void **state)
{
	static struct slab_rig rig;
	pool_open(&rig.pool, SLAB_RIG_BUDGET);
	rig.slabs = rig.pool.devices->list[0].slabs;
	*state = &rig;
	return 0;
}

int slab_rig_teardown(void **state)
{
	struct slab_rig *rig = *state;
	pool_close(&rig->pool);
	return 0;
}

static void slab_rig_request_over(struct slab_request *request)
{
	container_of(request, struct slab_wanted, request)->over = true;
}

bool slab_rig_is_over(void *arg)
{
	return ((struct slab_wanted *)arg)->over;
}

int slab_rig_begin(struct slab_rig *rig, struct slab_wanted *wanted, uint64_t bytes, uint64_t count)
{
	/* What an earlier use of the request left there is of no consequence. */
	*wanted = (struct slab_wanted){.request = {.bytes = bytes,
						   .count = count,
						   .done = slab_rig_request_over,
						   .status = HBM_IO}};
	return slabs_request(rig->slabs, &wanted->request);
}

int slab_rig_take(struct slab_rig *rig, struct slab_wanted *wanted, uint64_t bytes, uint64_t count)
{
	int status = slab_rig_begin(rig, wanted, bytes, count);
	if (status != HBM_OK)
		return status;

	pool_run(&rig->pool, slab_rig_is_over, wanted);
	assert_null(slabs_check(rig->slabs));

	return wanted->request.status;
}

void slab_rig_give(struct slab_rig *rig, struct slab_wanted *wanted, bool exported,
		   bool quarantined)
{
	for (struct list *node; (node = list_pop_front(&wanted->request.taken));) {
		struct slab *slab = container_of(node, struct slab, link);

		slab->exported = exported;
		if (quarantined)
			slab_quarantine(slab);

		slab_unref(slab, quarantined);
		assert_null(slabs_check(rig->slabs));
	}
}

bool slab_rig_all_ready(void *arg)
{
	struct slab_rig *rig = arg;
	return slabs_books(rig->pool.devices->list[0].slabs).ready == SLAB_RIG_BUDGET &&
	       slabs_books(rig->pool.devices->list[1].slabs).ready == SLAB_RIG_BUDGET;
}

bool slab_rig_nothing_retires(void *arg)
{
	struct slab_rig *rig = arg;
	return slabs_books(rig->slabs).retiring == 0;
}
