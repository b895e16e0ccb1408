/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_wire: what clients may say to a daemon, and when. An input is a list of steps of a few
 * clients: messages with or without descriptors, replies that are read late or never, fences,
 * hang-ups, processes that are killed. The daemon is emptied after each input, and made anew
 * after some, so that numbers are small and the same each time.
 *
 * A reply is whole, is one to a request that is waiting for it, and has the size that its
 * opcode implies. After each input the clients are killed; their sessions end, the books
 * balance, and no descriptor, mapping or object of the driver is left.
 *
 * A step is four bytes, and as many more as two of them say: see struct step.
 */
#include "tests/fuzz/clients.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/messages.h"
#include "tests/fuzz/small_daemon.h"

#include "daemon/base/fdpass.h"
#include "daemon/base/log.h"
#include "daemon/session/validate.h"

#include <hbm/wire.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 4 /* the first is an operator; the last says no HELLO unless it is told to */
#define KEPT 8    /* descriptors that a client keeps */
#define IDS 256   /* messages that a client sends */
#define STEPS 64  /* of an input */
#define ANSWER_MS 2
#define INPUTS 256 /* of one daemon */
#define SETTLE_US 1000
#define SETTLE_TRIES 2000
#define PAGE (HBM_WIRE_FENCES * sizeof(uint64_t))

enum verb { SAY, HANG_UP, DIE, FENCE, TURN, READ, CLOSE_FDS, VERIFY, VERBS };

/* flags of SAY */
enum { AS_IT_IS = 1, /* id and size are the message's own */ DO_NOT_WAIT = 2 };

struct step {
	uint8_t verb;     /* above VERBS: SAY */
	uint8_t who;      /* 2 bits: the client; 3: the descriptor that goes along; 3: flags */
	uint8_t bytes[2]; /* that follow */
};

struct client {
	int socket; /* -1: none */
	pid_t pid;  /* 0: none */
	volatile uint64_t *fences;
	int doorbell;
	int kept[KEPT];
	unsigned kept_count;
	uint32_t sent; /* its last id */
	bool waiting[IDS];
	bool own_ids; /* has said ids of its own: replies may have any */
	bool answered;
};

static struct small_daemon hbmd_;
static bool say_replies;
static struct client clients[CLIENTS];

/* The least that a reply has whose status is HBM_OK. */
#define REPLY(opcode, value, request, reply) [value] = sizeof(struct reply),
static const size_t reply_sizes[HBM_WIRE_OPCODES] = {HBM_OPCODE_LIST(REPLY)};

/* ---- A client ---- */

static void client_close_fds(struct client *client)
{
	while (client->kept_count > 0)
		close(client->kept[--client->kept_count]);
}

static void client_hang_up(struct client *client)
{
	if (client->socket >= 0)
		close(client->socket);
	if (client->fences)
		munmap((void *)client->fences, PAGE);
	if (client->doorbell >= 0)
		close(client->doorbell);
	client->socket = client->doorbell = -1;
	client->fences = NULL;
}

static void client_die(struct client *client)
{
	client_hang_up(client);
	client_close_fds(client);
	if (client->pid > 0)
		kill(client->pid, SIGKILL);
	client->pid = 0;
}

static void client_take_hello(struct client *client, struct fdpass_fds *fds)
{
	fuzz_check(fds->count == 2 && client->fences == NULL);
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fds->list[0], 0);
	fuzz_check(page != MAP_FAILED);
	client->fences = page;
	client->doorbell = fds->list[1];
	fds->list[1] = -1;
}

static bool status_is_known(int32_t status)
{
#define KNOWN(name, value, meaning) known |= status == HBM_##name;
	bool known = false;
	HBM_STATUS_LIST(KNOWN)
#undef KNOWN

	return known;
}

static void client_check_reply(struct client *client, const struct hbm_wire_header *reply,
			       size_t size)
{
	const unsigned known = HBM_WIRE_REPLY | HBM_WIRE_MORE;

	fuzz_check(size >= sizeof(*reply) && reply->size == size && reply->zero == 0);
	if (reply->flags == HBM_WIRE_UNASKED)
		return;

	fuzz_check(reply->flags & HBM_WIRE_REPLY && !(reply->flags & ~known));
	fuzz_check(status_is_known(reply->status));
	if (reply->opcode >= HBM_WIRE_OPCODES)
		fuzz_check(reply->status == HBM_UNSUPPORTED);
	size_t least = reply->opcode < HBM_WIRE_OPCODES ? reply_sizes[reply->opcode] : 0;
	fuzz_check(size >= least || (reply->status != HBM_OK && size == sizeof(*reply)) ||
		   (reply->status != HBM_OK && size == sizeof(struct hbm_wire_refusal)));

	if (client->own_ids) {
		client->answered = true;
		return;
	}
	fuzz_check(reply->id < IDS && client->waiting[reply->id]);
	client->waiting[reply->id] = (reply->flags & HBM_WIRE_MORE) != 0;
	client->answered = client->answered || reply->id == client->sent;
}

/* For people who run an input again, with HBM_FUZZ_SAY set. */
static void client_say(const struct client *client, const struct hbm_wire_header *reply)
{
	const struct hbm_wire_refusal *refusal = (const void *)reply;
	const char *name = validate_opcode_name(reply->opcode);

	fprintf(stderr, "client %d: %s %llu: status %d %.*s\n", (int)(client - clients),
		name ? name : "?", (unsigned long long)reply->id, reply->status,
		reply->size == sizeof(*refusal) && reply->status > 0 ? HBM_WIRE_REASON_BYTES : 0,
		refusal->reason);
}

/* Reads what there is. */
static void client_read(struct client *client)
{
	static _Alignas(64) unsigned char bytes[HBM_WIRE_MESSAGE_MAX];
	const struct hbm_wire_header *reply = (const void *)bytes;
	struct fdpass_fds fds;

	while (client->socket >= 0) {
		ssize_t n = fdpass_receive(client->socket, bytes, sizeof(bytes), &fds, 0);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			client_hang_up(client);
			return;
		}

		if (say_replies)
			client_say(client, reply);
		client_check_reply(client, reply, (size_t)n);
		if (reply->opcode == HBM_WIRE_HELLO && fds.count > 0)
			client_take_hello(client, &fds);
		for (size_t i = 0; i < fds.count; i++) {
			if (fds.list[i] < 0 || client->kept_count == KEPT)
				continue;
			client->kept[client->kept_count++] = fds.list[i];
			fds.list[i] = -1;
		}
		fdpass_close(&fds);
	}
}

static bool client_is_answered(void *arg)
{
	struct client *client = arg;

	client_read(client);

	return client->answered || client->socket < 0;
}

static void client_send(struct client *client, const void *message, size_t size, const int *fds,
			size_t fd_count)
{
	struct iovec piece = {(void *)(uintptr_t)message, size};

	/* It may be full, or closed; and a message of nothing is none. */
	if (size > 0)
		(void)fdpass_send(client->socket, &piece, 1, fds, fd_count);
}

static void client_greet(struct client *client)
{
	const struct hbm_wire_hello hello = {
		.header = {.size = sizeof(hello), .opcode = HBM_WIRE_HELLO},
		.magic = HBM_WIRE_MAGIC,
		.version_min = HBM_WIRE_VERSION,
		.version_max = HBM_WIRE_VERSION,
		.name = "fuzz",
	};

	client->waiting[0] = true;
	client->answered = false;
	client_send(client, &hello, sizeof(hello), NULL, 0);
	fuzz_check(small_daemon_run(&hbmd_, client_is_answered, client, 10000));
}

static void client_open(struct client *client)
{
	unsigned which = (unsigned)(client - clients);

	client_die(client);
	memset(client->waiting, 0, sizeof(client->waiting));
	client->own_ids = false;
	client->sent = 0;
	client->socket = clients_connect(hbmd_.socket, which > 0, &client->pid);
	if (which < CLIENTS - 1)
		client_greet(client);
}

/* ---- Steps ---- */

/* Descriptors that go along with a message: their number. Those made here are to be closed. */
static size_t step_fds(const struct client *client, unsigned kind, int fds[3], size_t *made)
{
	*made = 0;
	switch (kind) {
	case 2:
		fds[0] = client->kept_count > 0 ? client->kept[client->kept_count - 1] : 0;
		return client->kept_count > 0;
	case 3:
		fds[0] = memfd_create("fuzz", MFD_CLOEXEC);
		return *made = 1;
	case 4:
		fds[0] = eventfd(0, EFD_CLOEXEC);
		return *made = 1;
	case 5:
		fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
		return *made = 1;
	case 6:
		fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
		return *made = 2;
	default:
		return 0;
	}
}

static void step_say(struct client *client, unsigned who, uint8_t *message, size_t size)
{
	unsigned flags = who >> 5;
	struct hbm_wire_header *header = (void *)message;
	int fds[3];
	size_t made, count = step_fds(client, who >> 2 & 7, fds, &made);

	if (client->socket < 0 || client->sent == IDS - 1)
		client_open(client);
	client->sent++;
	if (flags & AS_IT_IS || size < sizeof(*header)) {
		client->own_ids = true;
	} else {
		header->id = client->sent;
		header->size = (uint32_t)size;
		client->waiting[client->sent] = true;
	}

	client->answered = false;
	if (client->socket >= 0)
		client_send(client, message, size, fds, count);
	for (size_t i = 0; i < made; i++)
		close(fds[i]);

	if (flags & DO_NOT_WAIT)
		small_daemon_turn(&hbmd_, 1);
	else
		small_daemon_run(&hbmd_, client_is_answered, client, ANSWER_MS);
}

static void step_fence(struct client *client, const uint8_t *bytes, size_t size)
{
	const uint64_t one = 1;

	if (!client->fences || size < 2)
		return;
	client->fences[bytes[0] % HBM_WIRE_FENCES] = bytes[1];
	(void)!write(client->doorbell, &one, sizeof(one));
	small_daemon_turn(&hbmd_, 2);
}

static void step_run(const struct step *step, uint8_t *bytes, size_t size)
{
	struct client *client = &clients[step->who & 3];

	switch (step->verb) {
	case HANG_UP:
		client_hang_up(client);
		small_daemon_turn(&hbmd_, 3);
		break;
	case DIE:
		client_die(client);
		small_daemon_turn(&hbmd_, 3);
		break;
	case FENCE:
		step_fence(client, bytes, size);
		break;
	case TURN:
		small_daemon_turn(&hbmd_, 1 + (step->who >> 2));
		break;
	case READ:
		client_read(client);
		break;
	case CLOSE_FDS:
		client_close_fds(client);
		break;
	case VERIFY:
		small_daemon_check(&hbmd_);
		break;
	default:
		step_say(client, step->who, bytes, size);
		break;
	}
}

static size_t step_size(const struct step *step)
{
	return step->bytes[0] | (size_t)step->bytes[1] << 8;
}

static void play(struct fuzz_input *input)
{
	static _Alignas(64) uint8_t bytes[65536];

	for (unsigned i = 0; i < STEPS && input->left >= sizeof(struct step); i++) {
		struct step step;

		fuzz_take_bytes(input, &step, sizeof(step));
		size_t size = step_size(&step) < input->left ? step_size(&step) : input->left;
		fuzz_take_bytes(input, bytes, size);
		step_run(&step, bytes, size);
	}
}

/* ---- The daemon ---- */

static unsigned played, descriptors;

static void daemon_renew(void)
{
	if (played > 0)
		small_daemon_close(&hbmd_);
	fuzz_check(fuzz_descriptors_of_slabs() == 0);
	small_daemon_open(&hbmd_);
	descriptors = fuzz_descriptors(false);
}

static void daemon_prepare(void)
{
	if (played % INPUTS == 0)
		daemon_renew();
	played++;
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] = (struct client){.socket = -1, .doorbell = -1};
}

/* Those of clients may be closed by a thread. */
static void assert_no_descriptor_left(void)
{
	unsigned now = fuzz_descriptors(false);

	for (unsigned i = 0; i < SETTLE_TRIES && now != descriptors; i++) {
		usleep(SETTLE_US);
		now = fuzz_descriptors(false);
	}
	if (now != descriptors)
		fuzz_fail("%u descriptors, there were %u", fuzz_descriptors(true), descriptors);
}

/* The last daemon ends with the process. */
static void daemon_end(void)
{
	if (played > 0)
		small_daemon_close(&hbmd_);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *library = getenv("HBM_SOFT_DRIVER");

	(void)argc;
	(void)argv;
	if (!library || !dlopen(library, RTLD_NOW | RTLD_NODELETE)) /* it stays when it is closed */
		fuzz_fail("HBM_SOFT_DRIVER is to name the libhbmsoft.so of this build");
	say_replies = getenv("HBM_FUZZ_SAY") != NULL;
	clients_init();
	signal(SIGPIPE, SIG_IGN);
	log_open(LOG_EMERG);
	atexit(daemon_end);

	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};

	daemon_prepare();
	play(&input);
	for (unsigned i = 0; i < CLIENTS; i++)
		client_die(&clients[i]);
	small_daemon_empty(&hbmd_);
	assert_no_descriptor_left();

	return 0;
}

/* ---- The mutator ---- */

/* Where each step begins; their number. */
static unsigned steps_find(const uint8_t *data, size_t size, size_t at[STEPS + 1])
{
	unsigned count = 0;
	size_t next = 0;

	while (count < STEPS && next + sizeof(struct step) <= size) {
		at[count++] = next;
		next += sizeof(struct step) + (data[next + 2] | (size_t)data[next + 3] << 8);
	}
	at[count] = next < size ? next : size;

	return count;
}

static void step_put_size(uint8_t *step, size_t size)
{
	step[2] = (uint8_t)size;
	step[3] = (uint8_t)(size >> 8);
}

/* Makes a step there; its bytes, or 0 if there is no room. */
static size_t step_make(uint8_t *to, size_t room, unsigned *seed)
{
	if (room < sizeof(struct step) + 2)
		return 0;

	bool says = message_below(seed, 4) > 0;
	size_t size = says ? message_make_any(to + 4, room - 4, seed) : 2;
	to[0] = (uint8_t)(says ? SAY : 1 + message_below(seed, VERBS - 1));
	to[1] = (uint8_t)(message_below(seed, 4) > 0 ? 0 : message_below(seed, CLIENTS));
	if (message_below(seed, 6) == 0)
		to[1] |= (uint8_t)(message_below(seed, 64) << 2);
	if (!says) {
		to[4] = (uint8_t)message_below(seed, 4);
		to[5] = (uint8_t)message_below(seed, 8);
	}
	step_put_size(to, size);

	return sizeof(struct step) + size;
}

/* Changes what a step says, which may move those behind it. */
static size_t step_change(uint8_t *data, size_t size, size_t room, size_t from, size_t end,
			  unsigned *seed)
{
	static uint8_t message[4096];
	size_t old = end - from - sizeof(struct step), most = room - (size - old);

	if (message_below(seed, 8) == 0)
		data[from + message_below(seed, 2)] ^= (uint8_t)(1u << message_below(seed, 8));
	if (old > sizeof(message))
		return size;

	memcpy(message, data + from + sizeof(struct step), old);
	size_t now =
		message_change(message, old, most < sizeof(message) ? most : sizeof(message), seed);
	memmove(data + from + sizeof(struct step) + now, data + end, size - end);
	memcpy(data + from + sizeof(struct step), message, now);
	step_put_size(data + from, now);

	return size - old + now;
}

/* Puts a copy of some bytes before a step. */
static size_t steps_insert(uint8_t *data, size_t size, size_t room, size_t at, const uint8_t *what,
			   size_t bytes)
{
	if (bytes > room - size)
		return size;

	memmove(data + at + bytes, data + at, size - at);
	memcpy(data + at, what, bytes);

	return size + bytes;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
	static uint8_t copy[65536];
	size_t at[STEPS + 1], bytes;
	unsigned count = steps_find(data, size, at);
	unsigned which = count > 0 ? message_below(&seed, count) : 0;

	size = at[count];
	switch (count == 0 ? 0 : message_below(&seed, 10)) {
	case 0:
	case 1:
	case 2: /* a new one, more often at the end */
		bytes = step_make(copy, sizeof(copy), &seed);
		which = message_below(&seed, 4) > 0 ? count : which;
		return steps_insert(data, size, room, at[which], copy, bytes);
	case 3: /* one again, somewhere */
		bytes = at[which + 1] - at[which];
		if (bytes > sizeof(copy))
			return size;
		memcpy(copy, data + at[which], bytes);
		return steps_insert(data, size, room, at[message_below(&seed, count + 1)], copy,
				    bytes);
	case 4: /* without one */
		memmove(data + at[which], data + at[which + 1], size - at[which + 1]);
		return size - (at[which + 1] - at[which]);
	default:
		return step_change(data, size, room, at[which], at[which + 1], &seed);
	}
}
