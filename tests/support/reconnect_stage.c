/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/reconnect_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>

struct reconnect_stage reconnect;
const hbm_key reconnect_key = {{1}};

bool reconnect_answer(struct fake *self, const struct hbm_wire_header *request)
{
	if (request->opcode == HBM_WIRE_HELLO) {
		reconnect.hellos++;
		memcpy(&reconnect.resume, request,
		       request->size < sizeof(reconnect.resume) ? request->size
								: sizeof(reconnect.resume));
		if (reconnect.hellos > 1 && reconnect.refuse_hello)
			return fake_reply(self, request, reconnect.refuse_hello);
		return false;
	}

	if (request->opcode == HBM_WIRE_RECONCILE) {
		const struct hbm_wire_ranges *ranges = (const void *)request;
		reconnect.told_count = ranges->count;
		memcpy(reconnect.told, ranges->ranges, ranges->count * sizeof(reconnect.told[0]));
		return false;
	}

	if (reconnect.heard_count < RECONNECT_HEARD) {
		reconnect.heard_ids[reconnect.heard_count] = request->id;
		reconnect.heard[reconnect.heard_count++] = request->opcode;
	}
	if (request->opcode == reconnect.die_opcode && reconnect.die_at > 0 &&
	    --reconnect.die_at == 0) {
		shutdown(self->peer, SHUT_RDWR);
		return true;
	}

	return false;
}

void reconnect_connect(const struct hbm_options *options)
{
	hbm = hbm_close(hbm);
	assert_int_equal(hbm_connect(&hbm, options), 0);
}

int reconnect_setup(void **state)
{
	(void)state;
	reconnect.hellos = reconnect.heard_count = reconnect.die_at = 0;
	reconnect.refuse_hello = 0;
	memset(&reconnect.resume, 0, sizeof(reconnect.resume));
	fake_stage_open(8);
	fake.survives = true;
	fake.answer = reconnect_answer;
	reconnect_connect(&(struct hbm_options){.socket = fake.path, .name = "test"});

	return 0;
}

void reconnect_die_on(unsigned opcode, unsigned at)
{
	reconnect.die_opcode = opcode;
	reconnect.die_at = at;
}

int reconnect_lookup(void)
{
	struct hbm_lookup found;
	return hbm_lookup(hbm, 5, &reconnect_key, 1, &found, NULL);
}

void reconnect_open_region(void)
{
	const struct hbm_region_options options = {.address_space = 4 * SLAB, .slab = SLAB};

	assert_int_equal(hbm_region_create(hbm, &options, &reconnect.region), 0);
	assert_int_equal(hbm_commit(hbm, &(struct hbm_range){reconnect.region, 0, SLAB}, 1), 0);
}
