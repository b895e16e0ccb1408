/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_claims: what the design takes for granted of a device and its driver and nothing
 * but a device can prove: what an exported fd is worth when its maker is dead, who may
 * import it and how often, what can be mapped how, what a fence does. Each claim is a
 * small play (cast.h); its record says whether it held and what was seen.
 *
 * A question that the design does not depend on is answered with SEEN. What the soft
 * device cannot tell is UNSUPPORTED on it, however it went there.
 *
 * 	gpu_claims		all claims, as records
 * 	gpu_claims NAME		one of them
 * 	gpu_claims --actor N	an actor on socket N
 */
#include "tests/gpu/cast.h"
#include "tests/gpu/claims.h"
#include "tests/gpu/record.h"
#include "tests/gpu/rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LARGE (64 * MIB)
#define LARGE_SLABS 4
#define READ_ONLY CU_MEM_ACCESS_FLAGS_PROT_READ

/* ---- What an fd is worth ---- */

static bool has_device_open(const char *pid)
{
	char path[600], target[64];
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	for (struct dirent *entry; dir && !found && (entry = readdir(dir)) != NULL;) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		found = strncmp(target, "/dev/nvidia", 11) == 0 && target[11] >= '0' &&
			target[11] <= '9';
	}

	if (dir)
		closedir(dir);

	return found;
}

/* Processes that can be seen from here and have a device open. */
static unsigned device_users(void)
{
	unsigned users = 0;
	DIR *dir = opendir("/proc");

	for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;)
		users += entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
			 has_device_open(entry->d_name);

	if (dir)
		closedir(dir);

	return users;
}

/* From a slab in a maker's hands to its fd in a holder's, the maker killed, and what an
 * importer finds. */
static bool outlive(struct cast *cast, unsigned *users)
{
	claim_make_slab(cast);
	cast_hand(cast, MAKER, VERB_EXPORT, HOLDER, CLAIM_HOLD);
	cast_kill(cast, MAKER);
	claim_sleep_ms(claim_is_soft()
			       ? 0
			       : 2000); /* a device that nobody uses is shut down a little later */
	*users = device_users();
	STEP(cast, READER, OPEN, .value = 0);
	cast_hand(cast, HOLDER, VERB_GIVE, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));

	return STEP(cast, READER, COMPARE, .value = 1) == 1;
}

static void claim_outlives_with_user(const char *name)
{
	struct cast cast = {.failed = false};
	unsigned users;

	STEP(&cast, WATCHER, OPEN, .value = 0);
	bool same = outlive(&cast, &users);
	claim_verdict(name, &cast, same,
		      same ? "contents kept while another process used the device"
			   : "contents lost");
	cast_close(&cast);
}

static void claim_outlives_alone(const char *name)
{
	struct cast cast = {.failed = false};
	unsigned users = 0;
	bool same = outlive(&cast, &users);
	const char *saw = cast.failed ? cast.failure : same ? "contents kept" : "contents lost";

	if (claim_is_soft() && same)
		record(name, OUTCOME_UNSUPPORTED,
		       "the soft device is not shut down with its last user (%s)", saw);
	else if (claim_is_soft())
		record(name, OUTCOME_FAIL, "%s", saw);
	else
		record(name, OUTCOME_SEEN, "%s; processes seen with a device open: %u", saw, users);

	cast_close(&cast);
}

static void claim_outlives_with_file(const char *name)
{
	struct cast cast = {.failed = false};
	unsigned users = 0;

	if (claim_is_soft()) {
		record(name, OUTCOME_UNSUPPORTED, "the soft device has no device file");
		return;
	}

	const struct answer answer =
		cast_try(&cast, HOLDER, &(const struct order){.verb = VERB_OPEN_FILE});
	if (!cast.failed && answer.status != 0) {
		record(name, OUTCOME_UNSUPPORTED, "%s", answer.text);
		cast_close(&cast);
		return;
	}

	bool same = outlive(&cast, &users);
	claim_verdict(name, &cast, same,
		      same ? "contents kept with a device file held open" : "contents lost");
	cast_close(&cast);
}

static void claim_no_context_needed(const char *name)
{
	struct cast cast = {.failed = false};

	STEP(&cast, MAKER, LOAD, .value = 0);
	STEP(&cast, MAKER, MAKE, .bytes = CLAIM_SLAB);
	STEP(&cast, READER, OPEN, .value = 0);
	cast_hand(&cast, MAKER, VERB_EXPORT, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
	STEP(&cast, READER, FILL, .value = 3);
	bool same = STEP(&cast, READER, COMPARE, .value = 3) == 1;
	claim_verdict(name, &cast, same,
		      "created and exported by a process without a context, used by another");
	cast_close(&cast);
}

static void claim_another_user(const char *name)
{
	const struct order open = {.verb = VERB_OPEN, .value = CLAIM_NOBODY};
	struct cast cast = {.failed = false};

	claim_make_slab(&cast);
	const struct answer answer = cast_try(&cast, READER, &open);
	if (!cast.failed && answer.status != 0) {
		record(name, OUTCOME_UNSUPPORTED, "uid 65534 cannot use the device at all: %s",
		       answer.text);
		cast_close(&cast);
		return;
	}

	cast_hand(&cast, MAKER, VERB_EXPORT, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
	bool same = STEP(&cast, READER, COMPARE, .value = 1) == 1;
	STEP(&cast, READER, FILL, .value = 2);
	same = STEP(&cast, MAKER, COMPARE, .value = 2) == 1 && same;
	claim_verdict(name, &cast, same, "made by uid 0, imported, read and written by uid 65534");
	cast_close(&cast);
}

static void claim_second_import(const char *name)
{
	struct cast cast = {.failed = false};
	char note[120];

	claim_make_slab(&cast);
	STEP(&cast, READER, OPEN, .value = 0);
	int fd = cast_fetch(&cast, MAKER, &(const struct order){.verb = VERB_EXPORT});
	uint64_t first = cast_step_fd(&cast, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE), fd);
	uint64_t second = cast_step_fd(&cast, READER, CLAIM_IMPORT(1, CLAIM_READ_WRITE), fd);
	STEP(&cast, READER, FILL, .slot = 0, .value = 4);
	bool same = STEP(&cast, READER, COMPARE, .slot = 1, .value = 4) == 1;
	STEP(&cast, READER, DROP, .slot = 0);
	same = STEP(&cast, READER, COMPARE, .slot = 1, .value = 4) == 1 && same;
	snprintf(note, sizeof(note), "both usable, the handles are %s, one outlives the other",
		 first == second ? "equal" : "different");

	if (cast.failed)
		record(name, OUTCOME_SEEN, "not possible: %s", cast.failure);
	else
		claim_verdict(name, &cast, same, note);

	if (fd >= 0)
		close(fd);

	cast_close(&cast);
}

static void claim_export_again(const char *name)
{
	struct cast cast = {.failed = false};

	claim_make_slab(&cast);
	STEP(&cast, READER, OPEN, .value = 0);
	cast_hand(&cast, MAKER, VERB_EXPORT, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
	STEP(&cast, WATCHER, OPEN, .value = 0);
	cast_kill(&cast, MAKER);
	cast_hand(&cast, READER, VERB_EXPORT, WATCHER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
	bool same = STEP(&cast, WATCHER, COMPARE, .value = 1) == 1;
	if (cast.failed)
		record(name, OUTCOME_SEEN, "not possible: %s", cast.failure);
	else
		claim_verdict(name, &cast, same,
			      "exported by an importer after its maker's death, with its contents");

	cast_close(&cast);
}

/* ---- Mapping ---- */

static void claim_two_addresses(const char *name)
{
	struct cast cast = {.failed = false};

	claim_make_slab(&cast);
	STEP(&cast, MAKER, MAP_AGAIN, .slot = 1, .value = 0);
	STEP(&cast, MAKER, FILL, .slot = 1, .value = 5);
	bool same = STEP(&cast, MAKER, COMPARE, .slot = 0, .value = 5) == 1;
	STEP(&cast, MAKER, DROP, .slot = 1);
	same = STEP(&cast, MAKER, COMPARE, .slot = 0, .value = 5) == 1 && same;
	claim_verdict(name, &cast, same, "written at one address, read at the other");
	cast_close(&cast);
}

static void claim_one_access(const char *name)
{
	struct cast cast = {.failed = false};

	STEP(&cast, MAKER, OPEN, .value = 0);
	bool same = STEP(&cast, MAKER, SPAN, .bytes = 2 * MIB, .value = 32) == 1;
	claim_verdict(
		name, &cast, same,
		"32 slabs of 2 MiB opened by one cuMemSetAccess and unmapped by one cuMemUnmap");
	cast_close(&cast);
}

/* Refused: as the soft driver has it. Accepted: the soft driver is the stricter one. */
static void map_part(const char *name, uint64_t offset)
{
	const struct order order = {.verb = VERB_MAP_PART, .bytes = 2 * MIB, .value = offset};
	struct cast cast = {.failed = false};

	claim_make_slab(&cast);
	const struct answer answer = cast_try(&cast, MAKER, &order);
	if (cast.failed)
		claim_verdict(name, &cast, false, "");
	else
		record(name, OUTCOME_SEEN, "%s", answer.status == 0 ? "accepted" : answer.text);

	cast_close(&cast);
}

static void claim_map_beginning(const char *name)
{
	map_part(name, 0);
}

static void claim_map_middle(const char *name)
{
	map_part(name, 2 * MIB);
}

static void claim_read_only(const char *name)
{
	struct cast cast = {.failed = false};
	char note[240];

	claim_make_slab(&cast);
	STEP(&cast, READER, OPEN, .value = 0);
	cast_hand(&cast, MAKER, VERB_EXPORT, READER, CLAIM_IMPORT(0, READ_ONLY));
	bool holds = STEP(&cast, READER, COMPARE, .value = 1) == 1;
	const struct answer answer =
		cast_try(&cast, READER, &(const struct order){VERB_MEMSET, 0, 0, 0x99});
	bool same = STEP(&cast, MAKER, COMPARE, .value = 1) == 1;
	holds = holds && (same || answer.status == 0);
	STEP(&cast, MAKER, MEMSET, .value = 0x12);
	snprintf(note, sizeof(note), "%s; other processes unharmed: %s",
		 answer.status > 0    ? answer.text
		 : answer.status == 0 ? "the write went through"
				      : "the writer died",
		 holds && !cast.failed ? "yes" : "no");
	if (cast.failed || !holds || answer.status > 0)
		claim_verdict(name, &cast, holds, note);
	else
		record(name, OUTCOME_SEEN, "%s", note);

	cast_close(&cast);
}

/* ---- Time ---- */

static void claim_fence(const char *name)
{
	const struct order passed = {.verb = VERB_FENCE_PASSED};
	struct cast cast = {.failed = false};
	int page = memfd_create("fence", MFD_CLOEXEC);
	bool early, late = false;

	if (page < 0 || ftruncate(page, sysconf(_SC_PAGESIZE)) < 0) {
		record(name, OUTCOME_FAIL, "no page for the fence");
		return;
	}

	claim_make_slab(&cast);
	cast_step_fd(&cast, MAKER, &(const struct order){.verb = VERB_WAIT_FENCE, .value = 5},
		     page);
	cast_step_fd(&cast, HOLDER, &(const struct order){.verb = VERB_SET_WORD, .value = 4}, page);
	claim_sleep_ms(50);
	early = cast_step(&cast, MAKER, &passed) == 1;
	cast_step_fd(&cast, HOLDER, &(const struct order){.verb = VERB_SET_WORD, .value = 5}, page);

	for (int waited = 0; waited < 500 && !late && !cast.failed; waited++) {
		late = cast_step(&cast, MAKER, &passed) == 1;
		claim_sleep_ms(late ? 0 : 10);
	}

	claim_verdict(name, &cast, !early && late,
		      early  ? "the stream did not wait"
		      : late ? "the stream went on when another process's CPU wrote the value"
			     : "never went on");
	close(page);
	cast_close(&cast);
}

static void claim_no_write_after_death(const char *name)
{
	struct cast cast = {.failed = false};

	claim_make_slab(&cast);
	STEP(&cast, READER, OPEN, .value = 0);
	cast_hand(&cast, MAKER, VERB_EXPORT, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
	STEP(&cast, READER, KEEP_BUSY, .slot = 0);
	claim_sleep_ms(200);
	STEP(&cast, MAKER, FILL, .value = 6);
	claim_sleep_ms(100);
	bool was_busy = STEP(&cast, MAKER, COMPARE, .value = 6) == 0;
	cast_kill(&cast, READER);
	STEP(&cast, MAKER, FILL, .value = 7);
	claim_sleep_ms(500);
	bool same = STEP(&cast, MAKER, COMPARE, .value = 7) == 1;
	claim_verdict(
		name, &cast, was_busy && same,
		!was_busy ? "the client wrote nothing while it lived"
		: same    ? "killed with a kernel and copies in flight; nothing came after it was "
			    "reaped"
			  : "written to after its client was reaped");
	cast_close(&cast);
}

/* What a slab held is gone when its memory is created anew: by the process that made it,
 * after another used it too. */
static void claim_made_anew_is_clear(const char *name)
{
	struct cast cast = {.failed = false};
	bool clear = true;

	STEP(&cast, MAKER, OPEN, .value = 0);

	for (uint32_t slot = 0; slot < LARGE_SLABS; slot++) {
		STEP(&cast, MAKER, MAKE, .slot = slot, .bytes = LARGE);
		STEP(&cast, MAKER, FILL, .slot = slot, .value = 8);
	}

	STEP(&cast, READER, OPEN, .value = 0);
	cast_hand(&cast, MAKER, VERB_EXPORT, READER,
		  &(const struct order){VERB_IMPORT, 0, LARGE, CLAIM_READ_WRITE});
	STEP(&cast, READER, FILL, .value = 9);
	STEP(&cast, READER, DROP, .slot = 0);
	for (uint32_t slot = 0; slot < LARGE_SLABS; slot++)
		STEP(&cast, MAKER, DROP, .slot = slot);
	for (uint32_t slot = 0; slot < LARGE_SLABS; slot++) {
		STEP(&cast, MAKER, MAKE, .slot = slot, .bytes = LARGE);
		clear = STEP(&cast, MAKER, CLEAR, .slot = slot) == 1 && clear;
	}

	claim_verdict(
		name, &cast, clear,
		clear ? "4 slabs of 64 MiB: filled, released, created again, all zero"
		      : "4 slabs of 64 MiB: filled, released, created again, not zero: hbmd has to "
			"clear them itself");
	cast_close(&cast);
}

/* ---- What memory is taken ---- */

static void claim_memory_of_the_dead(const char *name)
{
	const uint64_t bytes = 256 * MIB;
	struct cast cast = {.failed = false};
	char note[200];

	if (claim_is_alone()) {
		record(name, OUTCOME_UNSUPPORTED,
		       "each process's soft driver has its own count of memory");
		return;
	}

	STEP(&cast, WATCHER, OPEN, .value = 0);
	uint64_t before = claim_free_bytes(&cast);
	STEP(&cast, MAKER, LOAD, .value = 0);
	STEP(&cast, MAKER, MAKE, .bytes = bytes);
	uint64_t made = claim_free_bytes(&cast);
	cast_hand(&cast, MAKER, VERB_EXPORT, HOLDER, CLAIM_HOLD);
	cast_kill(&cast, MAKER);
	claim_sleep_ms(1000);
	uint64_t dead = claim_free_bytes(&cast);
	STEP(&cast, HOLDER, LOSE, .value = 0);
	claim_sleep_ms(1000);
	uint64_t closed = claim_free_bytes(&cast);
	snprintf(note, sizeof(note),
		 "taken of 256 MiB: made %.0f MiB, maker dead and its fd held %.0f, fd closed %.0f",
		 claim_mib(before, made), claim_mib(before, dead), claim_mib(before, closed));

	/* Others may use the device too. */
	claim_verdict(name, &cast, claim_mib(before, dead) >= 192 && claim_mib(before, closed) < 64,
		      note);
	cast_close(&cast);
}

/* What the account of held memory rests on (daemon/region/held.h): who releases memory sees
 * whether it has become free, and sees it when the last descriptor is closed. */
static void claim_given_back_and_held(const char *name)
{
	const uint64_t bytes = 256 * MIB;
	struct cast cast = {.failed = false};
	char note[200];

	STEP(&cast, MAKER, OPEN, .value = 0);
	uint64_t before = STEP(&cast, MAKER, FREE_BYTES, .value = 0);
	STEP(&cast, MAKER, MAKE, .bytes = bytes);
	cast_hand(&cast, MAKER, VERB_EXPORT, HOLDER, CLAIM_HOLD);
	STEP(&cast, MAKER, DROP, .slot = 0);
	uint64_t released = STEP(&cast, MAKER, FREE_BYTES, .value = 0);
	STEP(&cast, HOLDER, LOSE, .value = 0);
	uint64_t closed = STEP(&cast, MAKER, FREE_BYTES, .value = 0);
	snprintf(note, sizeof(note),
		 "taken of 256 MiB, as its maker sees it: released and its fd held %.0f MiB, fd "
		 "closed %.0f",
		 claim_mib(before, released), claim_mib(before, closed));

	/* Others may use the device too. */
	claim_verdict(name, &cast,
		      claim_mib(before, released) >= 192 && claim_mib(before, closed) < 64, note);
	cast_close(&cast);
}

static void claim_context_cost(const char *name)
{
	struct cast cast = {.failed = false};

	if (claim_is_soft()) {
		record(name, OUTCOME_UNSUPPORTED, "a context takes no memory of the soft device");
		return;
	}

	STEP(&cast, WATCHER, OPEN, .value = 0);
	uint64_t before = claim_free_bytes(&cast);
	STEP(&cast, MAKER, OPEN, .value = 0);
	uint64_t after = claim_free_bytes(&cast);
	if (cast.failed)
		claim_verdict(name, &cast, false, "");
	else
		record_number(name, claim_mib(before, after), "MiB",
			      "of one process with one stream");

	cast_close(&cast);
}

/* The first ones ask what becomes of a device that nobody has open. */
static const struct claim {
	const char *name;
	void (*check)(const char *name);
	bool asleep;
} claims[] = {
	{"fd outlives its maker, another user", claim_outlives_with_user, true},
	{"fd outlives its maker, no other user", claim_outlives_alone, true},
	{"fd outlives its maker, device file kept", claim_outlives_with_file, true},
	{"no context is needed to create and export", claim_no_context_needed, false},
	{"import by another uid", claim_another_user, false},
	{"second import of one fd", claim_second_import, false},
	{"export of an imported handle", claim_export_again, false},
	{"one handle at two addresses", claim_two_addresses, false},
	{"one set-access over many slabs", claim_one_access, false},
	{"mapping the beginning of a handle", claim_map_beginning, false},
	{"mapping the middle of a handle", claim_map_middle, false},
	{"write through a read-only mapping", claim_read_only, false},
	{"stream waits for a fence written by a CPU", claim_fence, false},
	{"no write after a client's death", claim_no_write_after_death, false},
	{"memory created anew is clear", claim_made_anew_is_clear, false},
	{"memory of a dead maker while its fd is open", claim_memory_of_the_dead, false},
	{"memory that was given back while its fd is open", claim_given_back_and_held, false},
	{"memory of a context", claim_context_cost, false},
	{"memory of a dead client whose child lives", claim_dead_client_with_child, false},
	{"memory that other devices may read, exported", claim_rdma, false},
	{"a batch copies what it lists", claim_batch, false},
	{"a batch beside compute", claim_batch_beside_compute, false},
	{"guest region by a descriptor", claim_guest_descriptor, false},
	{"guest region by a legacy handle", claim_guest_legacy, false},
	{"legacy handle closed after its engine's death", claim_guest_legacy_death, false},
	{"legacy handle read after its engine's death", claim_guest_legacy_read, false},
};

/* Has the devices held open, where that can be: else each claim waits for one to be woken
 * that the last one let go. */
static void keep_awake(struct actor *keeper)
{
	if (keeper->pid == 0 && !claim_is_soft() && actor_start(keeper))
		actor_tell(keeper, &(const struct order){.verb = VERB_OPEN_FILE}, -1);
}

int main(int argc, char **argv)
{
	struct actor keeper = {.pid = 0};

	if (argc == 3 && strcmp(argv[1], "--actor") == 0)
		return actor_play(atoi(argv[2]));

	record_part("claims");

	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		if (argc >= 2 && strcmp(argv[1], claims[i].name) != 0)
			continue;
		if (!claims[i].asleep)
			keep_awake(&keeper);
		claims[i].check(claims[i].name);
	}

	actor_end(&keeper);

	return 0;
}
