/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_state: what a daemon finds of an earlier one: what that could have had, where the input
 * changes some of it, and records of every table that the input makes, some with bytes that have
 * changed since; it says which descriptors are parked, too; a small daemon takes all of it over. What it makes of that is balanced, whatever it is;
 * and when the clients' process has ended nothing is left, in the daemon or in the state, but
 * memory that is held.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/small_daemon.h"

#include "daemon/base/fdpass.h"
#include "daemon/base/log.h"
#include "daemon/cache/block_record.h"
#include "daemon/cache/namespace_record.h"
#include "daemon/device/device.h"
#include "daemon/region/region_kept.h"
#include "daemon/session/session_kept.h"
#include "daemon/state/keep.h"
#include "daemon/state/parking.h"
#include "daemon/state/state.h"
#include "daemon/tier/extent.h"
#include "daemon/tier/hbm_kept.h"
#include "tests/support/store_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLAB (2ull << 20)
#define RECORDS 48u /* of a table, and that an input makes, at most */
#define SESSIONS 4u
#define NUMBERS 7u /* of regions, slabs and namespaces, 0 among them */
#define PARKED_MAGIC 0x676e696b726170ull

static struct config config;
static struct ledger ledger;
static struct state_shape shapes[STATE_TABLES];
static CUuuid uuids[2];
static int slabs[2][NUMBERS]; /* memory of each device; the first is of two slabs */
static struct small_daemon hbmd_;

/* ---- once ---- */

static int make_memory(const struct driver *driver, int device, uint64_t bytes)
{
	const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					  .requestedHandleTypes =
						  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					  .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
	CUmemGenericAllocationHandle handle;
	int fd = -1;

	fuzz_check(driver->cuMemCreate(&handle, bytes, &prop, 0) == CUDA_SUCCESS);
	fuzz_check(driver->cuMemExportToShareableHandle(&fd, handle,
							CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
							0) == CUDA_SUCCESS);
	fuzz_check(driver->cuMemRelease(handle) == CUDA_SUCCESS);

	return fd;
}

static void make_slabs(void)
{
	const struct driver_soft_options options = {.devices = 2, .memory = 32 << 20};
	struct driver *driver;
	char error[256] = "";

	if (driver_open(&driver, DRIVER_SOFT, &options, error, sizeof(error)) != 0)
		fuzz_fail("%s", error);
	for (int device = 0; device < 2; device++) {
		fuzz_check(driver->cuDeviceGetUuid(&uuids[device], device) == CUDA_SUCCESS);
		for (unsigned i = 0; i < NUMBERS; i++)
			slabs[device][i] = make_memory(driver, device, i == 0 ? 2 * SLAB : SLAB);
	}
	driver_close(driver);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char folder[64], word[96];

	(void)argc;
	(void)argv;
	log_open(LOG_CRIT);
	fuzz_folder(folder);
	snprintf(word, sizeof(word), "card=%s", folder);
	setenv("HBM_SOFT", word, 1); /* one card for all daemons */
	make_slabs();

	fuzz_check(config_defaults(&config) == 0);
	ledger_open(&ledger, &config);
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i] = (struct state_shape){sizeof(uint64_t), 1};
	region_kept_shapes(&ledger, shapes);
	shapes[STATE_SESSIONS].body_bytes = sizeof(struct session_kept);
	shapes[STATE_NAMESPACES].body_bytes = sizeof(struct namespace_record);
	shapes[STATE_BLOCKS].body_bytes = sizeof(struct block_record);
	shapes[STATE_TIER_PIECES].body_bytes = sizeof(struct hbm_kept_record);
	for (size_t i = 0; i < STATE_TABLES; i++)
		shapes[i].capacity = RECORDS;

	return 0;
}

/* ---- records ---- */

/* Now and then anything. */
static uint64_t some(struct fuzz_input *input, uint32_t limit)
{
	return fuzz_below(input, 24) == 1 ? fuzz_take(input, 8) : fuzz_below(input, limit);
}

static void fill_uuid(struct fuzz_input *input, uint8_t uuid[16])
{
	uint32_t device = fuzz_below(input, 9);

	if (device < 8)
		memcpy(uuid, uuids[device / 6].bytes, 16);
}

static uint64_t boot_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The process of all clients; another has ended. */
static void make_session(struct fuzz_input *input, struct session_kept *kept, pid_t pid)
{
	*kept = (struct session_kept){.id = some(input, SESSIONS),
				      .connected_ns = fuzz_below(input, 16) == 1 ? 1 : boot_now(),
				      .pid = fuzz_below(input, 16) == 1 ? 0 : (uint32_t)pid,
				      .uid = getuid(),
				      .gid = getgid(),
				      .token = {(uint8_t)(fuzz_below(input, 8) != 1)},
				      .name = "client"};
	if (fuzz_below(input, 8) == 1)
		fuzz_take_bytes(input, kept->name, sizeof(kept->name));
}

static void make_region(struct fuzz_input *input, struct kept_region *kept)
{
	*kept = (struct kept_region){
		.session = some(input, SESSIONS),
		.address_space = some(input, 5) * SLAB,
		.slab = fuzz_below(input, 8) == 1 ? some(input, 255) << 20 : SLAB,
		.region = (uint32_t)some(input, NUMBERS),
		.attached = fuzz_below(input, 3) == 1 ? fuzz_below(input, 7) : 0,
		.guest = fuzz_below(input, 16) == 1,
		.read_only = fuzz_below(input, 4) == 1};
	fill_uuid(input, kept->uuid);
}

static uint64_t make_slab(struct fuzz_input *input, struct kept_slab *kept)
{
	*kept = (struct kept_slab){.slab = some(input, NUMBERS),
				   .bytes = fuzz_below(input, 8) == 1 ? some(input, 255) << 20
								      : SLAB,
				   .session = some(input, SESSIONS)};
	fill_uuid(input, kept->uuid);

	return fuzz_below(input, 4) == 1 ? KEPT_HELD | some(input, SESSIONS)
					 : fuzz_below(input, 32) == 1;
}

static void make_slot(struct fuzz_input *input, struct kept_slot *kept)
{
	*kept = (struct kept_slot){.session = some(input, SESSIONS),
				   .slab = some(input, NUMBERS),
				   .slot = some(input, 5),
				   .region = (uint32_t)some(input, NUMBERS),
				   .flags = fuzz_below(input, 2) == 1 ? fuzz_below(input, 5) : 0};
}

static uint64_t make_reservation(struct fuzz_input *input, struct kept_reservation *kept)
{
	*kept = (struct kept_reservation){.session = some(input, SESSIONS)};
	fill_uuid(input, kept->uuid);

	return some(input, 8) * SLAB;
}

static uint64_t make_publication(struct fuzz_input *input, struct kept_publication *kept)
{
	*kept = (struct kept_publication){.region = (uint32_t)some(input, NUMBERS),
					  .uid = fuzz_below(input, 4) == 1 ? 7 : getuid(),
					  .gid = getgid(),
					  .flags = fuzz_below(input, 5),
					  .name = {(char)('a' + fuzz_below(input, 3))}};
	if (fuzz_below(input, 16) == 1)
		fuzz_take_bytes(input, kept->name, sizeof(kept->name));
	if (fuzz_below(input, 16) == 1)
		memcpy(kept->tenant, "gone", sizeof("gone"));

	return fuzz_below(input, 8) == 1;
}

static uint64_t make_namespace(struct fuzz_input *input, struct namespace_record *record)
{
	*record = (struct namespace_record){
		.spec = {.model = "m",
			 .weights = fuzz_below(input, 4),
			 .block_bytes = some(input, 5) * EXTENT_UNIT},
		.uid = getuid(),
		.number = (uint16_t)some(input, NUMBERS),
		.flags = (uint16_t)(fuzz_below(input, 4) == 1 ? fuzz_take(input, 2) : 0)};
	if (fuzz_below(input, 8) == 1)
		fuzz_take_bytes(input, &record->encoding, sizeof(record->encoding));
	if (fuzz_below(input, 16) == 1)
		fuzz_take_bytes(input, record->tenant, sizeof(record->tenant));

	return fuzz_below(input, 4) == 1 ? fuzz_take(input, 1) : 0;
}

static uint64_t make_block(struct fuzz_input *input, struct block_record *record)
{
	*record = (struct block_record){
		.key = {{(uint8_t)fuzz_below(input, 12)}},
		.parent = {{(uint8_t)fuzz_below(input, 12)}},
		.came = some(input, 64),
		.unit = (uint32_t)some(input, 30),
		.stored_units = (uint32_t)some(input, 5),
		.ns = (uint16_t)some(input, NUMBERS),
		.tier = fuzz_below(input, 8) == 1 ? (uint8_t)fuzz_take(input, 1) : HBM_TIER_DDR,
		.flags = (uint8_t)fuzz_below(input, 3),
		.memory = (uint32_t)some(input, HBM_KEPT_FIRST + 2)};
	if (record->memory >= HBM_KEPT_FIRST && fuzz_below(input, 8) != 1)
		record->tier = HBM_TIER_HBM;

	return fuzz_below(input, 8) == 1 ? 0 : 1 + fuzz_take(input, 1);
}

static void make_piece(struct fuzz_input *input, struct hbm_kept_record *record)
{
	*record = (struct hbm_kept_record){
		.piece = some(input, NUMBERS),
		.offset = some(input, 3) * SLAB,
		.bytes = fuzz_below(input, 8) == 1 ? some(input, 255) << 20 : SLAB,
		.number = (uint32_t)some(input, HBM_KEPT_FIRST + 2)};
	fill_uuid(input, record->uuid);
}

union record {
	struct session_kept session;
	struct kept_region region;
	struct kept_slab slab;
	struct kept_slot slot;
	struct kept_reservation reservation;
	struct kept_publication publication;
	struct namespace_record ns;
	struct block_record block;
	struct hbm_kept_record piece;
	struct kept_device device;
};

/* Its word. */
static uint64_t make_record(struct fuzz_input *input, enum state_table table, union record *record,
			    pid_t pid)
{
	switch (table) {
	case STATE_SESSIONS:
		make_session(input, &record->session, pid);
		return fuzz_below(input, 8) == 1;
	case STATE_REGIONS:
		make_region(input, &record->region);
		return 0;
	case STATE_SLABS:
		return make_slab(input, &record->slab);
	case STATE_SLOTS:
		make_slot(input, &record->slot);
		return 0;
	case STATE_RESERVED:
		return make_reservation(input, &record->reservation);
	case STATE_PUBLICATIONS:
		return make_publication(input, &record->publication);
	case STATE_NAMESPACES:
		return make_namespace(input, &record->ns);
	case STATE_TIER_PIECES:
		make_piece(input, &record->piece);
		return 0;
	case STATE_DEVICES:
		fill_uuid(input, record->device.uuid);
		return some(input, 8) * SLAB;
	default:
		return make_block(input, &record->block);
	}
}

/* ---- records of a daemon ---- */

/* Now and then a word of it is another. */
static void add(struct fuzz_input *input, struct state *state, enum state_table table,
		const void *body, uint64_t word)
{
	union record record;
	size_t size = shapes[table].body_bytes;

	memcpy(&record, body, size);
	if (fuzz_below(input, 8) == 1) {
		uint64_t value = some(input, 9);
		memcpy((char *)&record + 8 * fuzz_below(input, (uint32_t)size / 8), &value,
		       sizeof(value));
	}
	(void)state_add(state, table, &record, word);
}

static void add_region(struct fuzz_input *input, struct state *state, uint32_t number,
		       uint64_t session, uint32_t attached)
{
	struct kept_region region = {.session = session,
				     .address_space = number < 3 ? 4 * SLAB : 2 * SLAB,
				     .slab = SLAB,
				     .region = number,
				     .attached = attached};

	memcpy(region.uuid, uuids[0].bytes, 16);
	add(input, state, STATE_REGIONS, &region, 0);
}

/* All slots of a region, of two slabs from that one on. */
static void add_slots(struct fuzz_input *input, struct state *state, uint32_t region,
		      uint64_t session, uint64_t slab, uint32_t flags)
{
	for (uint64_t i = 0; i < (flags == KEPT_READ_ONLY || session == 0 ? 2 : 4); i++) {
		const struct kept_slot slot = {.session = session,
					       .slab = slab + i % 2,
					       .slot = i,
					       .region = region,
					       .flags = i < 2 ? flags : KEPT_READ_ONLY};
		add(input, state, STATE_SLOTS, &slot, 0);
	}
}

/* Two clients with a region each; what the one has published the other has attached. */
static void add_regions(struct fuzz_input *input, struct state *state)
{
	const struct kept_publication publication = {.region = 3, .uid = getuid(), .name = "a"};
	struct kept_reservation reserved = {.session = 1};
	struct kept_slab slab = {.bytes = SLAB, .session = 1};

	memcpy(reserved.uuid, uuids[0].bytes, 16);
	memcpy(slab.uuid, uuids[0].bytes, 16);
	for (slab.slab = 1; slab.slab < NUMBERS; slab.slab++)
		add(input, state, STATE_SLABS, &slab, 0);
	add_region(input, state, 1, 1, 0);
	add_region(input, state, 2, 2, 0);
	add_region(input, state, 3, 0, 0);
	add_region(input, state, 4, 2, 3);
	add_slots(input, state, 1, 1, 1, 0);
	add_slots(input, state, 2, 2, 3, KEPT_LENT);
	add_slots(input, state, 3, 0, 5, 0);
	add_slots(input, state, 4, 2, 5, KEPT_READ_ONLY);
	add(input, state, STATE_PUBLICATIONS, &publication, 0);
	add(input, state, STATE_RESERVED, &reserved, 4 * SLAB);
}

static void add_clients(struct fuzz_input *input, struct state *state, pid_t pid)
{
	struct session_kept session = {.connected_ns = boot_now(),
				       .pid = (uint32_t)pid,
				       .uid = getuid(),
				       .gid = getgid(),
				       .token = {1}};

	for (session.id = 1; session.id < 3; session.id++)
		add(input, state, STATE_SESSIONS, &session, 0);
}

static void add_blocks(struct fuzz_input *input, struct state *state)
{
	const struct namespace_record ns = {
		.spec = {.block_bytes = 2 * EXTENT_UNIT}, .uid = getuid(), .number = 1};
	struct block_record block = {
		.stored_units = 2, .ns = 1, .tier = HBM_TIER_DDR, .memory = BLOCK_RECORD_DDR};

	add(input, state, STATE_NAMESPACES, &ns, 0);
	for (uint8_t i = 0; i < 9; i++) {
		if (i == 6) {
			block.tier = HBM_TIER_HBM;
			block.memory = HBM_KEPT_FIRST;
		}
		block.parent = block.key;
		block.key.bytes[0] = i + 1;
		block.came = block.unit = 2u * i;
		add(input, state, STATE_BLOCKS, &block, 7);
	}
}

/* The memory behind an HBM tier. */
static void add_pieces(struct fuzz_input *input, struct state *state)
{
	struct hbm_kept_record piece = {.bytes = SLAB, .number = HBM_KEPT_FIRST};

	memcpy(piece.uuid, uuids[0].bytes, 16);
	for (piece.piece = 1; piece.piece < 3; piece.piece++) {
		add(input, state, STATE_TIER_PIECES, &piece, 0);
		piece.offset += SLAB;
	}
}

/* Memory may have other bytes than were written: none of the header, of which a daemon has a
 * page, but of records. */
static void spoil(struct fuzz_input *input, int fd)
{
	uint8_t *memory =
		mmap(NULL, state_bytes(shapes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	fuzz_check(memory != MAP_FAILED);
	for (uint32_t times = fuzz_below(input, 8) == 1 ? fuzz_below(input, 6) : 0; times > 0;
	     times--)
		memory[fuzz_take(input, 4) % state_bytes(shapes)] ^= (uint8_t)fuzz_take(input, 1);
	munmap(memory, state_bytes(shapes));
}

/* The state as its daemon has left it. */
static int make_state(struct fuzz_input *input, pid_t pid)
{
	struct state *state;

	fuzz_check(state_new(&state, shapes) == 0);
	for (enum state_counter i = 0; i < STATE_WIPED; i++)
		state_count_to(state, i, some(input, 12));
	state_count_to(state, STATE_LAST_TIER_MEMORY, some(input, 12));
	state_count_to(state, STATE_LAST_TIER_PIECE, some(input, 12));
	state_count_to(state, STATE_WIPED, fuzz_below(input, 8) == 1);
	if (fuzz_below(input, 8) != 1) {
		add_clients(input, state, pid);
		add_regions(input, state);
		add_blocks(input, state);
		add_pieces(input, state);
	}
	for (uint32_t i = 0; input->left > 0 && i < RECORDS; i++) {
		union record record;
		enum state_table table = (enum state_table)fuzz_below(input, STATE_TABLES);

		memset(&record, 0, sizeof(record));
		uint64_t word = make_record(input, table, &record, pid);
		(void)state_add(state, table, &record, word);
	}

	int fd = fcntl(state_fd(state), F_DUPFD_CLOEXEC, 0);
	state_free(state);
	spoil(input, fd);

	return fd;
}

/* ---- what is parked ---- */

static void park(int in, enum parking_kind kind, uint64_t number, int fd)
{
	const struct {
		uint64_t magic, id;
	} message = {PARKED_MAGIC, parking_id(kind, number)};
	const struct iovec iov = {(void *)(uintptr_t)&message, sizeof(message)};

	fuzz_check(fdpass_send(in, &iov, 1, &fd, 1) == 0);
}

static void park_fences(int in, uint64_t session)
{
	int page = memfd_create("fences", MFD_CLOEXEC | MFD_ALLOW_SEALING), bell[2];

	fuzz_check(page >= 0 && ftruncate(page, HBM_WIRE_FENCES * sizeof(uint64_t)) == 0 &&
		   fcntl(page, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bell) == 0);
	park(in, PARK_FENCE, session, page);
	park(in, PARK_DOORBELL, session, bell[0]);
	close(page);
	close(bell[0]);
	close(bell[1]);
}

/* Some of it is not there, or is of another device or size. */
static void make_parking(struct fuzz_input *input)
{
	int ends[2];

	fuzz_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) ==
		   0);
	for (uint64_t i = 0; i < SESSIONS; i++)
		if (fuzz_below(input, 8) != 1)
			park_fences(ends[0], i);
	for (uint64_t i = 0; i < NUMBERS; i++)
		if (fuzz_below(input, 8) != 1)
			park(ends[0], PARK_SLAB, i,
			     slabs[fuzz_below(input, 16) == 1][fuzz_below(input, 16) == 1 ? 0 : i]);
	for (uint64_t i = 0; i < 3; i++)
		if (fuzz_below(input, 8) != 1)
			park(ends[0], PARK_TIER, i,
			     slabs[fuzz_below(input, 16) == 1][fuzz_below(input, 16) == 1 ? 0 : i]);
	fuzz_check(keep_came_back("kept-park-1", ends[0]) == 0);
	fuzz_check(keep_came_back("kept-park-1", ends[1]) == 0);
}

/* ---- one input ---- */

static pid_t begin_client(void)
{
	pid_t parent = getpid(), pid = fork();

	fuzz_check(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}

	return pid;
}

static void end_client(pid_t pid)
{
	pid_t ended;

	fuzz_check(kill(pid, SIGKILL) == 0);
	while ((ended = waitpid(pid, NULL, 0)) < 0 && errno == EINTR) /* libFuzzer's clock */
		;
	fuzz_check(ended == pid);
}

/* Only what is held may be left, without a descriptor, and the memory of the tiers. */
static void check_left(const struct state *state)
{
	static const enum state_table empty[] = {
		STATE_SESSIONS,     STATE_REGIONS,    STATE_SLOTS, STATE_RESERVED,
		STATE_PUBLICATIONS, STATE_NAMESPACES, STATE_BLOCKS};

	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		if (state_count(state, empty[i]) != 0)
			fuzz_fail("%u records are left in table %u", state_count(state, empty[i]),
				  empty[i]);
	fuzz_check(parking_count(hbmd_.hbmd.parking) <= state_count(state, STATE_TIER_PIECES));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	pid_t pid = begin_client();

	store_rig_open();
	make_parking(&input);
	fuzz_check(keep_came_back("kept-ddr", memfd_create("hbmd-ddr", MFD_CLOEXEC)) == 0);
	fuzz_check(keep_came_back("kept-state-a", make_state(&input, pid)) == 0);

	small_daemon_take_over(&hbmd_);
	small_daemon_check(&hbmd_);
	small_daemon_turn(&hbmd_, 3);
	end_client(pid);
	small_daemon_empty(&hbmd_);
	check_left(hbmd_.hbmd.kept);
	small_daemon_close(&hbmd_);
	store_rig_close();

	return 0;
}
