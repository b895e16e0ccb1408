/* SPDX-License-Identifier: Apache-2.0 */
/* device_record: see device_record.h. */
#include "tests/support/device_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static int device_record_first(const void *record, size_t bytes, void *arg)
{
	assert_int_equal(bytes, sizeof(struct hbm_wire_device));
	memcpy(arg, record, bytes);

	return 1;
}

struct hbm_wire_device device_record(struct hbm *hbm)
{
	struct hbm_wire_device device;

	assert_int_equal(hbm_query(hbm, HBM_QUERY_DEVICES, device_record_first, &device), 1);

	return device;
}
