/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims about what processes share in other ways than by a slab of the daemon's. In the
 * guest regions the reader is the engine that made the memory, and the maker the daemon.
 */
#include "tests/gpu/claims.h"

#include "tests/gpu/record.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define DEAD_BYTES (256 * MIB)

/* UNSUPPORTED where the driver has no such call; true: it does, or the claim has failed. */
static bool claim_can(const char *name, struct cast *cast, const struct answer *answer)
{
	if (!cast->failed && answer->status == CUDA_ERROR_NOT_SUPPORTED) {
		record(name, OUTCOME_UNSUPPORTED, "%s", answer->text);
		return false;
	}

	if (!cast->failed && answer->status != 0) {
		snprintf(cast->failure, sizeof(cast->failure), "%s", answer->text);
		cast->failed = true;
	}

	return true;
}

/* What the daemon's patience with a commit that finds no memory rests on: a child that was
 * forked keeps the driver's files open, and nothing else. */
void claim_dead_client_with_child(const char *name)
{
	struct cast cast = {.failed = false};
	char note[200];

	if (claim_is_alone()) {
		record(name, OUTCOME_UNSUPPORTED,
		       "each process's soft driver has its own count of memory");
		return;
	}

	STEP(&cast, WATCHER, OPEN, .value = 0);
	STEP(&cast, MAKER, LOAD, .value = 0);
	STEP(&cast, MAKER, MAKE, .bytes = DEAD_BYTES);
	const uint64_t before = claim_free_bytes(&cast);
	STEP(&cast, READER, OPEN, .value = 0);
	cast_hand(&cast, MAKER, VERB_EXPORT, READER,
		  &(const struct order){VERB_IMPORT, 0, DEAD_BYTES, CLAIM_READ_WRITE});
	const pid_t child = (pid_t)STEP(&cast, READER, FORK, .value = 0);
	STEP(&cast, MAKER, DROP, .slot = 0);
	cast_kill(&cast, READER);
	const uint64_t reaped = claim_free_bytes(&cast);
	claim_sleep_ms(1000);
	const uint64_t later = claim_free_bytes(&cast);
	if (child > 0)
		kill(child, SIGKILL);
	claim_sleep_ms(1000);
	const uint64_t ended = claim_free_bytes(&cast);
	snprintf(note, sizeof(note),
		 "back of 256 MiB: client reaped %.0f MiB, a second later %.0f, its child ended "
		 "%.0f",
		 claim_mib(reaped, before), claim_mib(later, before), claim_mib(ended, before));

	/* Others may use the device too. */
	claim_verdict(name, &cast, claim_mib(ended, before) >= 192, note);
	cast_close(&cast);
}

void claim_rdma(const char *name)
{
	const struct order make = {.verb = VERB_MAKE_RDMA, .bytes = CLAIM_SLAB};
	struct cast cast = {.failed = false};

	STEP(&cast, MAKER, OPEN, .value = 0);
	const struct answer made = cast_try(&cast, MAKER, &make);

	if (claim_can(name, &cast, &made)) {
		STEP(&cast, MAKER, FILL, .value = 1);
		STEP(&cast, READER, OPEN, .value = 0);
		cast_hand(&cast, MAKER, VERB_EXPORT, READER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
		const bool same = STEP(&cast, READER, COMPARE, .value = 1) == 1;

		claim_verdict(name, &cast, same,
			      "made with gpuDirectRDMACapable, exported as a descriptor, imported "
			      "and read");
	}

	cast_close(&cast);
}

static void batch_with(const char *name, unsigned flags, const char *note)
{
	const struct order copy = {.verb = VERB_COPY_BATCH, .value = flags};
	struct cast cast = {.failed = false};

	claim_make_slab(&cast);
	const struct answer copied = cast_try(&cast, MAKER, &copy);

	if (claim_can(name, &cast, &copied))
		claim_verdict(name, &cast, copied.value == 1, note);

	cast_close(&cast);
}

void claim_batch(const char *name)
{
	batch_with(name, CU_MEMCPY_FLAG_DEFAULT,
		   "the quarters of a slab to another one, every byte compared");
}

void claim_batch_beside_compute(const char *name)
{
	batch_with(name, CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE,
		   "the same with PREFER_OVERLAP_WITH_COMPUTE");
}

/* ---- Guest regions ---- */

/* Both write what the other reads. */
static bool guest_is_shared(struct cast *cast)
{
	bool same = STEP(cast, MAKER, COMPARE, .value = 1) == 1;

	STEP(cast, MAKER, FILL, .value = 2);
	return STEP(cast, READER, COMPARE, .value = 2) == 1 && same;
}

void claim_guest_descriptor(const char *name)
{
	const struct order other = {.verb = VERB_OPEN, .value = CLAIM_NOBODY};
	struct cast cast = {.failed = false};
	char note[160];

	STEP(&cast, MAKER, OPEN, .value = 0);
	const bool can_change = !claim_is_soft() || claim_is_alone();
	const bool changed = can_change && cast_try(&cast, READER, &other).status == 0;

	if (!changed) { /* such a user cannot use the device, or see the folder of a soft one */
		cast_kill(&cast, READER);
		STEP(&cast, READER, OPEN, .value = 0);
	}

	STEP(&cast, READER, MAKE, .bytes = CLAIM_SLAB);
	STEP(&cast, READER, FILL, .value = 1);
	cast_hand(&cast, READER, VERB_EXPORT, MAKER, CLAIM_IMPORT(0, CLAIM_READ_WRITE));
	bool same = guest_is_shared(&cast);
	cast_kill(&cast, READER);
	same = STEP(&cast, MAKER, COMPARE, .value = 2) == 1 && same;
	snprintf(note, sizeof(note),
		 "made by %s, imported, read and written; kept while the importer has it",
		 changed ? "uid 65534" : "another process of the same user");
	claim_verdict(name, &cast, same, note);
	cast_close(&cast);
}

/* The engine's memory in the daemon. False: there is no such call, which is recorded. */
static bool guest_legacy(const char *name, struct cast *cast)
{
	const struct order make = {.verb = VERB_IPC_MAKE, .bytes = CLAIM_SLAB};
	struct answer made = {.status = 0};
	int fd = -1;

	STEP(cast, MAKER, OPEN, .value = 0);
	STEP(cast, READER, OPEN, .value = 0);
	if (!cast->failed)
		made = actor_fetch(&cast->actors[READER], &make, &fd);
	if (!claim_can(name, cast, &made))
		return false;

	STEP(cast, READER, FILL, .value = 1);
	cast_step_fd(cast, MAKER, &(const struct order){.verb = VERB_IPC_OPEN, .bytes = CLAIM_SLAB},
		     fd);
	if (fd >= 0)
		close(fd);

	return true;
}

void claim_guest_legacy(const char *name)
{
	struct cast cast = {.failed = false};

	if (guest_legacy(name, &cast)) {
		const bool same = guest_is_shared(&cast);

		STEP(&cast, MAKER, IPC_CLOSE, .slot = 0);
		claim_verdict(name, &cast, same && STEP(&cast, READER, COMPARE, .value = 2) == 1,
			      "opened, read and written by another process, closed; the engine "
			      "keeps it");
	}

	cast_close(&cast);
}

void claim_guest_legacy_death(const char *name)
{
	struct cast cast = {.failed = false};

	if (guest_legacy(name, &cast)) {
		cast_kill(&cast, READER);
		STEP(&cast, MAKER, IPC_CLOSE, .slot = 0);
		STEP(&cast, MAKER, MAKE, .slot = 1, .bytes = CLAIM_SLAB);
		STEP(&cast, MAKER, FILL, .slot = 1, .value = 3);
		claim_verdict(name, &cast, STEP(&cast, MAKER, COMPARE, .slot = 1, .value = 3) == 1,
			      "the context that had it open goes on with its own memory");
	}

	cast_close(&cast);
}

/* A copy may be on its way when the engine dies. */
void claim_guest_legacy_read(const char *name)
{
	const struct order compare = {.verb = VERB_COMPARE, .value = 1};
	const struct order own = {.verb = VERB_MAKE, .slot = 1, .bytes = CLAIM_SLAB};
	struct cast cast = {.failed = false};

	if (guest_legacy(name, &cast)) {
		cast_kill(&cast, READER);
		const struct answer read = cast_try(&cast, MAKER, &compare);
		const struct answer made = cast_try(&cast, MAKER, &own);

		if (cast.failed)
			claim_verdict(name, &cast, false, "");
		else
			record(name, OUTCOME_SEEN, "reading: %s; afterwards the context %s%s",
			       read.status != 0  ? read.text
			       : read.value == 1 ? "as the engine left it"
						 : "other bytes",
			       made.status == 0 ? "works" : "says ",
			       made.status == 0 ? "" : made.text);
	}

	cast_close(&cast);
}
