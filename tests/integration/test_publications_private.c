/* SPDX-License-Identifier: Apache-2.0 */
/* What a user publishes is there for no other, unless it says so and the daemon lets it: the
 * answers are those of what there is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/two_users.h"

#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUP 4321
#define NO_SUCH "nothing of that name is published"
#define OF_A_GROUP                                                                                 \
	"segment 0: that memory of region 1 was published for a group, which could write to what " \
	"is lent"

static int owner = -1, stranger = -1, member = -1;

static int setup_with(void **state, const char *groups)
{
	const char *const sets[] = {"hbmd.socket_mode=0666", "device.lend=8MiB", groups, NULL};

	stage_setup(state);
	if (geteuid() != 0)
		return 0;

	const gid_t group = GROUP;
	spawn_start(&daemon_, sets, NULL);
	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	owner = two_users_greet(TENANT);
	assert_int_equal(setgroups(0, NULL), 0);
	stranger = two_users_greet(OTHER);
	assert_int_equal(setgroups(1, &group), 0);
	member = two_users_greet(OTHER);
	assert_int_equal(setgroups(0, NULL), 0);
	two_users_region(owner);

	return 0;
}

static int setup(void **state)
{
	return setup_with(state, "device.publish_groups=no");
}

static int setup_groups(void **state)
{
	return setup_with(state, "device.publish_groups=yes");
}

static int teardown(void **state)
{
	if (geteuid() == 0) {
		close(owner);
		close(stranger);
		close(member);
		assert_true(spawn_balanced(&daemon_));
	}

	return stage_teardown(state);
}

static struct hbm_wire_publish publishing(bool for_group)
{
	return (struct hbm_wire_publish){
		.header = RAW_HEADER(PUBLISH, sizeof(struct hbm_wire_publish)),
		.region = 1,
		.flags = for_group ? HBM_WIRE_PUBLISH_GROUP : 0,
		.bytes = TWO_USERS_SLAB,
		.gid = for_group ? GROUP : 0,
		.name = "weights"};
}

static struct hbm_wire_attach attaching(uint32_t uid, const char *name, uint32_t flags)
{
	struct hbm_wire_attach attach = {
		.header = RAW_HEADER(ATTACH, sizeof(attach)), .uid = uid, .flags = flags};

	strcpy(attach.name, name);

	return attach;
}

static struct hbm_wire_unpublish unpublishing(uint32_t uid)
{
	return (struct hbm_wire_unpublish){
		.header = RAW_HEADER(UNPUBLISH, sizeof(struct hbm_wire_unpublish)),
		.uid = uid,
		.name = "weights"};
}

static void assert_sees_nothing(int socket)
{
	struct hbm_wire_attach attach = attaching(TENANT, "weights", 0);
	struct hbm_wire_unpublish unpublish = unpublishing(TENANT);

	raw_refused(socket, &attach, HBM_NOT_FOUND, NO_SUCH);
	attach = attaching(TENANT, "weights", HBM_WIRE_ATTACH_WRITE);
	raw_refused(socket, &attach, HBM_NOT_FOUND, NO_SUCH);
	attach = attaching(TENANT, "no-such", 0);
	raw_refused(socket, &attach, HBM_NOT_FOUND, NO_SUCH);
	attach = attaching(HBM_WIRE_OWN_UID, "weights", 0);
	raw_refused(socket, &attach, HBM_NOT_FOUND, NO_SUCH);
	raw_refused(socket, &unpublish, HBM_NOT_FOUND, NO_SUCH);
	assert_int_equal(two_users_query(socket, HBM_QUERY_REGIONS)->count, 0);
}

static void unpublish(int socket, uint32_t uid)
{
	const struct hbm_wire_unpublish message = unpublishing(uid);

	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
}

static void publish(bool for_group)
{
	const struct hbm_wire_publish message = publishing(for_group);

	assert_int_equal(raw_ask(owner, &message, sizeof(message)), HBM_OK);
}

static void test_others_see_nothing(void **state)
{
	(void)state;
	two_users_needed();
	const struct hbm_wire_publish for_group = publishing(true);

	raw_refused(owner, &for_group, HBM_DENIED,
		    "device.publish_groups is no: not for a group, for your user alone");
	publish(false);
	assert_sees_nothing(stranger);
	assert_sees_nothing(member);
	assert_int_equal(two_users_query(owner, HBM_QUERY_REGIONS)->count, 2);

	/* Names are each user's own. */
	two_users_region(stranger);
	const struct hbm_wire_publish same = publishing(false);
	assert_int_equal(raw_ask(stranger, &same, sizeof(same)), HBM_OK);
	unpublish(stranger, OTHER);
	unpublish(owner, TENANT);
}

static void test_operators_unpublish(void **state)
{
	(void)state;
	two_users_needed();
	int operator_ = raw_greet(&daemon_);
	const struct hbm_wire_attach attach = attaching(TENANT, "weights", 0);

	publish(false);
	assert_int_equal(two_users_query(operator_, HBM_QUERY_REGIONS)->count, 2);
	const struct hbm_wire_region *record =
		two_users_record(two_users_query(operator_, HBM_QUERY_REGIONS), 0);
	assert_int_equal(record->session, 0);
	assert_int_equal(record->uid, TENANT);
	assert_string_equal(record->name, "weights");

	/* They are no more its user than others are. */
	raw_refused(operator_, &attach, HBM_NOT_FOUND, NO_SUCH);
	unpublish(operator_, TENANT);
	close(operator_);
}

static uint64_t lent(void)
{
	const struct hbm_wire_device *device =
		two_users_record(two_users_query(owner, HBM_QUERY_DEVICES), 0);

	return device->lent;
}

static void test_a_group(void **state)
{
	(void)state;
	two_users_needed();
	const struct hbm_wire_attach reads = attaching(TENANT, "weights", 0),
				     writes = attaching(TENANT, "weights", HBM_WIRE_ATTACH_WRITE);
	const struct hbm_wire_unpublish message = unpublishing(TENANT);
	struct hbm_wire_attached attached;

	publish(true);
	assert_sees_nothing(stranger);
	raw_refused(member, &writes, HBM_DENIED, "only its own user may write to it");
	raw_refused(member, &message, HBM_NOT_FOUND, NO_SUCH);
	raw_call(member, &reads, &attached, sizeof(attached));
	assert_int_equal(attached.address_space, TWO_USERS_SLAB);

	const struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range = {.region = attached.region, .bytes = TWO_USERS_SLAB}};
	assert_int_equal(raw_ask(member, &commit, sizeof(commit)), HBM_OK);

	/* The daemon does not write for it either, and lets it pass on nothing. */
	struct hbm_wire_publish again = publishing(true);
	again.region = attached.region;
	raw_refused(member, &again, HBM_DENIED, "part of the range is read-only here");
	assert_true(spawn_balanced(&daemon_));
	unpublish(owner, HBM_WIRE_OWN_UID);
	assert_true(spawn_balanced(&daemon_));
}

/* Who has attached what another user published may store blocks of it, and not lend them as they
 * are: the processes that would borrow them have no say about who writes there. */
static void test_what_is_attached_is_not_lent_on(void **state)
{
	(void)state;
	two_users_needed();
	const struct hbm_wire_attach reads = attaching(TENANT, "weights", 0);
	const struct hbm_wire_namespace_spec spec = {
		.model = "whole", .layout = "slabs", .block_bytes = TWO_USERS_SLAB};
	struct hbm_wire_attached attached;

	publish(true);
	raw_call(member, &reads, &attached, sizeof(attached));
	const struct raw_ranges commit = {
		.head = {.header = RAW_HEADER(COMMIT, sizeof(commit)), .count = 1},
		.range = {.region = attached.region, .bytes = TWO_USERS_SLAB}};
	assert_int_equal(raw_ask(member, &commit, sizeof(commit)), HBM_OK);

	struct raw_blocks store =
		two_users_blocks(HBM_WIRE_STORE, two_users_open(member, &spec), 1);
	store.segment = (struct hbm_wire_range){.region = attached.region, .bytes = TWO_USERS_SLAB};
	store.block.flags = HBM_WIRE_BLOCK_LEND;
	raw_refused(member, &store, HBM_DENIED,
		    "segment 0: uid 1234 has published that memory of region 1, and is alone to "
		    "lend it");
	assert_int_equal(lent(), 0);
	store.block.flags = 0;
	assert_int_equal(two_users_result(member, &store).status, HBM_OK);
	assert_int_equal(lent(), 0);

	/* Nor does its own user, while the other could write to it: also when it has no name. */
	store = two_users_blocks(HBM_WIRE_STORE, two_users_open(owner, &spec), 2);
	store.segment.bytes = TWO_USERS_SLAB;
	store.block.flags = HBM_WIRE_BLOCK_LEND;
	raw_refused(owner, &store, HBM_DENIED, OF_A_GROUP);
	unpublish(owner, HBM_WIRE_OWN_UID);
	raw_refused(owner, &store, HBM_DENIED, OF_A_GROUP);
	publish(false);
	raw_refused(owner, &store, HBM_DENIED, OF_A_GROUP);
	assert_int_equal(lent(), 0);
	store.block.flags = 0;
	assert_int_equal(two_users_result(owner, &store).status, HBM_OK);
	assert_true(spawn_balanced(&daemon_));
	unpublish(owner, HBM_WIRE_OWN_UID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_others_see_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operators_unpublish, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_group, setup_groups, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_attached_is_not_lent_on, setup_groups,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
