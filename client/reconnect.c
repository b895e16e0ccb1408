/* SPDX-License-Identifier: Apache-2.0 */
#include "client/reconnect.h"

#include "client/again.h"
#include "client/notice.h"
#include "client/parts.h"
#include "client/region.h"
#include "client/request.h"
#include "client/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define RECONNECT_PAUSE_MS 1      /* before the second attempt; then twice as long */
#define RECONNECT_PAUSE_MAX_MS 50 /* a daemon takes longer than that to start */
#define RECONNECT_ANSWER_MS 10000 /* that a daemon which has answered HELLO may be silent */

#define PINS_TOGETHER 4096u /* of a request, half as large as one may be */

struct opened_namespace {
	struct list link;
	uint32_t ns;
	size_t bytes;
	unsigned char message[]; /* of NAMESPACE_OPEN, with its salt */
};

static int64_t reconnect_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Messages of the exchange ---- */

/* Sends a message and waits for its reply, which the caller clears. 0 or negative errno. */
static int reconnect_ask(struct hbm *hbm, struct iovec *piece, unsigned opcode,
			 struct message *reply)
{
	uint64_t id = ++hbm->reconnect.messages;
	*(struct hbm_wire_header *)piece->iov_base = (struct hbm_wire_header){
		.size = (uint32_t)piece->iov_len, .opcode = (uint16_t)opcode, .id = id};

	int rc = hbm_channel_send(&hbm->channel, piece, 1, -1);
	while (rc == 0) {
		rc = hbm_channel_receive(&hbm->channel, false, reply);
		if (rc == -EAGAIN)
			rc = hbm_channel_wait(&hbm->channel, false, RECONNECT_ANSWER_MS);
		else if (rc == 0 && reply->header->flags == HBM_WIRE_UNASKED && hbm->unasked) {
			rc = hbm->unasked(hbm, reply);
			hbm_message_clear(reply);
		} else if (rc == 0)
			break;
	}

	if (rc == 0 && (reply->header->id != id || reply->header->opcode != opcode ||
			!(reply->header->flags & HBM_WIRE_REPLY))) {
		hbm_message_clear(reply);
		rc = -EPROTO;
	}

	return rc;
}

/* The same for a reply of a fixed size: 0, a status, or negative errno. */
static int reconnect_ask_fixed(struct hbm *hbm, struct iovec *piece, unsigned opcode, void *reply,
			       size_t size)
{
	struct message message;
	int rc = reconnect_ask(hbm, piece, opcode, &message);
	if (rc)
		return rc;

	if (hbm_reply_is_refusal(&message))
		rc = message.header->status;
	else if (message.size != size || message.header->status != HBM_OK)
		rc = -EPROTO;
	else
		memcpy(reply, message.header, size);
	hbm_message_clear(&message);

	return rc;
}

/* ---- What was opened ---- */

static void reconnect_forget(struct opened_namespace *opened)
{
	list_remove(&opened->link);
	explicit_bzero(opened->message, opened->bytes);
	free(opened);
}

static void reconnect_forget_namespace(struct hbm *hbm, uint32_t ns)
{
	list_for_each_safe (node, after, &hbm->reconnect.namespaces) {
		struct opened_namespace *opened = container_of(node, struct opened_namespace, link);
		if (opened->ns == ns)
			reconnect_forget(opened);
	}
}

bool hbm_reconnect_opened(struct hbm *hbm, uint32_t ns, const void *message, size_t bytes)
{
	if (!hbm->come_back)
		return true;

	struct opened_namespace *opened = malloc(sizeof(*opened) + bytes);
	if (!opened)
		return false;

	reconnect_forget_namespace(hbm, ns); /* opened twice is opened once */
	opened->ns = ns;
	opened->bytes = bytes;
	memcpy(opened->message, message, bytes);
	list_push_back(&hbm->reconnect.namespaces, &opened->link);

	return true;
}

void hbm_reconnect_closed(struct hbm *hbm, uint32_t ns)
{
	hbm_pins_forget(&hbm->reconnect.pins, ns);
	reconnect_forget_namespace(hbm, ns);
}

void hbm_reconnect_clear(struct hbm *hbm)
{
	list_for_each_safe (node, after, &hbm->reconnect.namespaces)
		reconnect_forget(container_of(node, struct opened_namespace, link));
	hbm_pins_clear(&hbm->reconnect.pins);
	explicit_bzero(hbm->reconnect.token, sizeof(hbm->reconnect.token));
}

static int reconnect_open_namespaces(struct hbm *hbm)
{
	int rc = 0;

	list_for_each (node, &hbm->reconnect.namespaces) {
		struct opened_namespace *opened = container_of(node, struct opened_namespace, link);
		struct hbm_wire_namespace_reply reply;
		struct iovec piece = {opened->message, opened->bytes};

		rc = reconnect_ask_fixed(hbm, &piece, HBM_WIRE_NAMESPACE_OPEN, &reply,
					 sizeof(reply));
		if (rc == 0 && reply.ns != opened->ns)
			rc = -EPROTO;
		if (rc)
			break;
	}

	return rc;
}

/* ---- Pins ---- */

/* What is not there any more is not pinned. The keys are where replies are received, which is
 * when they have been sent. */
static int reconnect_pin(struct hbm *hbm, uint32_t ns, uint32_t count)
{
	struct hbm_wire_keys *pin = hbm->channel.buffer;
	struct iovec piece = {pin, sizeof(*pin) + count * sizeof(pin->keys[0])};
	struct message message;

	memset(pin, 0, sizeof(*pin));
	pin->ns = ns;
	pin->count = count;
	int rc = count > 0 ? reconnect_ask(hbm, &piece, HBM_WIRE_PIN, &message) : 0;
	if (rc == 0 && count > 0)
		hbm_message_clear(&message);

	return rc;
}

static int reconnect_pin_namespace(struct hbm *hbm, uint32_t ns)
{
	struct hbm_wire_keys *pin = hbm->channel.buffer;
	const struct pins *pins = &hbm->reconnect.pins;
	uint32_t count, all, at;
	int rc = 0;

	for (uint32_t times = 0, more = 1; rc == 0 && more; times++)
		for (all = at = more = 0; rc == 0 && at<pins->size; more |= all> 0) {
			count = hbm_pins_list(pins, ns, times, &at, pin->keys, PINS_TOGETHER);
			all += count;
			rc = reconnect_pin(hbm, ns, count);
		}

	return rc;
}

/* Blocks that were to be pinned as they were stored, and may have been stored. */
static int reconnect_pin_stored(struct hbm *hbm, const struct hbm_wire_blocks *blocks)
{
	struct hbm_wire_keys *pin = hbm->channel.buffer;
	uint32_t count = 0;

	for (uint32_t i = 0; i < blocks->count; i++)
		if (blocks->blocks[i].flags & HBM_WIRE_BLOCK_PIN)
			pin->keys[count++] = blocks->blocks[i].key;

	return reconnect_pin(hbm, blocks->ns, count);
}

static int reconnect_pin_again(struct hbm *hbm)
{
	struct ticket *ticket;
	int rc = 0;

	list_for_each (node, &hbm->reconnect.namespaces) {
		rc = reconnect_pin_namespace(hbm,
					     container_of(node, struct opened_namespace, link)->ns);
		if (rc)
			return rc;
	}

	for (uint64_t nth = 0; rc == 0 && (ticket = hbm_ticket_next(&hbm->tickets, nth));
	     nth = ticket->sent.nth)
		if (ticket->opcode == HBM_WIRE_STORE && !ticket->sent.noted)
			rc = reconnect_pin_stored(hbm, (const void *)ticket->sent.message);

	return rc;
}

/* ---- Boards, and the page of memory ---- */

static int reconnect_open_board(struct hbm *hbm, struct board *board)
{
	struct hbm_wire_board_open open = {.records = board->count};
	struct iovec piece = {&open, sizeof(open)};
	struct message message;
	int rc = reconnect_ask(hbm, &piece, HBM_WIRE_BOARD_OPEN, &message);
	if (rc)
		return rc;

	if (hbm_reply_is_refusal(&message))
		rc = message.header->status;
	else if (message.size != sizeof(struct hbm_wire_board_reply) || message.fds.count != 1 ||
		 !hbm_board_move(board, (const void *)message.header, message.fds.list[0]))
		rc = -EPROTO;
	hbm_message_clear(&message);

	return rc;
}

static int reconnect_open_boards(struct hbm *hbm)
{
	int rc = 0;

	hbm->notices = 0;
	list_for_each (node, &hbm->boards) {
		rc = reconnect_open_board(hbm, container_of(node, struct board, link));
		if (rc)
			break;
	}

	return rc;
}

static int reconnect_map_memory(struct hbm *hbm)
{
	struct hbm_wire_header header;
	struct iovec piece = {&header, sizeof(header)};
	struct message message;
	int rc = hbm->memory ? reconnect_ask(hbm, &piece, HBM_WIRE_MEMORY, &message) : 0;
	if (rc || !hbm->memory)
		return rc;

	if (message.fds.count != 1 || !hbm_memory_move(hbm, message.fds.list[0]))
		rc = -EPROTO;
	hbm_message_clear(&message);

	return rc;
}

/* ---- What is mapped ---- */

/* Ranges of regions, in messages of as many as fit. They are built where replies are received. */
struct told {
	struct hbm *hbm;
	struct hbm_wire_ranges *message;
	int error;
};

static void reconnect_tell_flush(struct told *told)
{
	struct hbm_wire_header reply;
	struct iovec piece = {told->message,
			      sizeof(*told->message) +
				      told->message->count * sizeof(told->message->ranges[0])};

	if (!told->error)
		told->error = reconnect_ask_fixed(told->hbm, &piece, HBM_WIRE_RECONCILE, &reply,
						  sizeof(reply));
	*told->message = (struct hbm_wire_ranges){0};
}

static void reconnect_tell(struct told *told, uint32_t region, uint64_t offset, uint64_t bytes)
{
	const size_t most =
		(HBM_WIRE_MESSAGE_MAX - sizeof(*told->message)) / sizeof(told->message->ranges[0]);

	told->message->ranges[told->message->count++] =
		(struct hbm_wire_range){.region = region, .offset = offset, .bytes = bytes};
	if (told->message->count == most || region == 0)
		reconnect_tell_flush(told);
}

/* In a message of its own: the daemon may not have it any more, for this process has freed the
 * memory. What is asked of it then is refused. */
static void reconnect_tell_guest(struct told *told, const struct hbm_region *region)
{
	if (told->message->count > 0)
		reconnect_tell_flush(told);
	told->message->ranges[told->message->count++] =
		(struct hbm_wire_range){.region = region->id};
	if (told->error)
		return;

	reconnect_tell_flush(told);
	if (told->error == HBM_NOT_FOUND)
		told->error = 0;
}

static void reconnect_tell_region(struct told *told, const struct hbm_region *region)
{
	uint64_t count = region->address_space / region->slab;

	reconnect_tell(told, region->id, 0, 0);
	for (uint64_t i = 0; i < count;) {
		uint64_t first = i;

		while (i < count && region->slabs[i] == SLAB_MAPPED)
			i++;
		if (i > first)
			reconnect_tell(told, region->id, first * region->slab,
				       (i - first) * region->slab);
		else
			i++;
	}
}

/* A RESERVE without an answer may have been done, and is asked again. */
static void reconnect_tell_reserved(struct told *told)
{
	const struct hbm *hbm = told->hbm;

	for (uint32_t i = 0; hbm->reconnect.reserves && i < hbm->info.devices; i++)
		reconnect_tell(told, HBM_WIRE_RESERVED, i, hbm->reconnect.reserved[i]);
}

static int reconnect_reconcile(struct hbm *hbm)
{
	struct told told = {.hbm = hbm, .message = hbm->channel.buffer};

	*told.message = (struct hbm_wire_ranges){0};
	list_for_each (node, &hbm->regions) {
		const struct hbm_region *region = container_of(node, struct hbm_region, link);
		if (region->guest)
			reconnect_tell_guest(&told, region);
		else
			reconnect_tell_region(&told, region);
	}
	reconnect_tell_reserved(&told);
	reconnect_tell(&told, 0, 0, 0);

	return told.error;
}

/* ---- Sending again ---- */

/* Before this process says what it has: what was not answered has nothing. */
static void reconnect_lose(struct hbm *hbm)
{
	struct ticket *ticket = NULL;

	for (uint64_t nth = 0; (ticket = hbm_ticket_next(&hbm->tickets, nth));
	     nth = ticket->sent.nth)
		if (ticket->kind->lost)
			ticket->kind->lost(hbm, ticket);
}

/* Sends one, and handles replies while the socket is full. */
static int reconnect_send(struct hbm *hbm, const struct ticket *ticket)
{
	const struct hbm_wire_header *header = (const void *)ticket->sent.message;
	const struct iovec piece = {ticket->sent.message, header->size};
	int rc;

	while ((rc = hbm_channel_send(&hbm->channel, &piece, 1, ticket->sent.fd)) == -EAGAIN) {
		struct message message;

		rc = hbm_channel_wait(&hbm->channel, true, RECONNECT_ANSWER_MS);
		if (rc == 0)
			rc = hbm_channel_receive(&hbm->channel, false, &message);
		if (rc == 0) {
			rc = hbm_request_handle(hbm, &message);
			hbm_message_clear(&message);
		}
		if (rc && rc != -EAGAIN)
			break;
	}

	return rc;
}

static int reconnect_send_again(struct hbm *hbm)
{
	struct ticket *ticket;
	int rc = 0;

	hbm_cork_forget(&hbm->cork);
	hbm_tickets_mark_late(&hbm->tickets);
	for (uint64_t nth = 0; rc == 0 && (ticket = hbm_ticket_next(&hbm->tickets, nth));) {
		nth = ticket->sent.nth;

		int status = hbm_again_settle(hbm, ticket);
		if (status == TICKET_MORE) {
			ticket->sent.again = true;
			rc = reconnect_send(hbm, ticket);
		} else {
			hbm_ticket_end(&hbm->tickets, ticket, status);
		}
	}

	return rc;
}

/* ---- The exchange ---- */

/* From the next daemon, which has answered HELLO: all that this process has there. */
static int reconnect_restore(struct hbm *hbm)
{
	hbm_parts_reopen(hbm);
	reconnect_lose(hbm);
	int rc = reconnect_reconcile(hbm);
	if (rc == 0)
		rc = reconnect_open_namespaces(hbm);
	if (rc == 0)
		rc = reconnect_pin_again(hbm);
	if (rc == 0)
		rc = reconnect_open_boards(hbm);
	if (rc == 0)
		rc = reconnect_map_memory(hbm);
	if (rc == 0)
		rc = reconnect_send_again(hbm);

	return rc;
}

static int reconnect_say_hello(struct hbm *hbm)
{
	struct hbm_wire_hello_resume resume = {
		.hello = {.header = {.size = sizeof(resume), .opcode = HBM_WIRE_HELLO},
			  .magic = HBM_WIRE_MAGIC,
			  .version_min = HBM_WIRE_VERSION,
			  .version_max = HBM_WIRE_VERSION},
		.session = hbm->info.session,
	};
	const struct iovec piece = {&resume, sizeof(resume)};

	memcpy(resume.hello.name, hbm->name, strnlen(hbm->name, sizeof(resume.hello.name) - 1));
	memcpy(resume.state, hbm->reconnect.state, sizeof(resume.state));
	memcpy(resume.token, hbm->reconnect.token, sizeof(resume.token));
	hbm->reconnect.messages = 0;
	int rc = hbm_channel_send(&hbm->channel, &piece, 1, -1);
	explicit_bzero(&resume, sizeof(resume));

	return rc;
}

/* Whether the devices are those that this process has memory of. */
static bool reconnect_is_same(const struct hbm *hbm,
			      const struct hbm_wire_hello_resume_reply *reply)
{
	return reply->hello.magic == HBM_WIRE_MAGIC && reply->hello.version == HBM_WIRE_VERSION &&
	       reply->hello.session == hbm->info.session &&
	       reply->hello.driver == (uint32_t)hbm->info.driver &&
	       reply->hello.devices == hbm->info.devices &&
	       reply->hello.soft_memory == hbm->gpu.soft_memory &&
	       memcmp(reply->hello.uuids, hbm->gpu.uuids, sizeof(hbm->gpu.uuids)) == 0;
}

static int reconnect_take_hello(struct hbm *hbm, const struct message *message)
{
	const struct hbm_wire_hello_resume_reply *reply = (const void *)message->header;

	if (message->header->opcode != HBM_WIRE_HELLO || message->header->id != 0)
		return -EPROTO;
	if (hbm_reply_is_refusal(message)) /* it stops, and another follows; or it begins */
		return message->header->status == HBM_SHUTDOWN ||
				       message->header->status == HBM_NO_SPACE
			       ? -EAGAIN
			       : -ENOTCONN;
	if (message->size != sizeof(*reply) || message->header->status != HBM_OK ||
	    message->fds.count > 0 || !reconnect_is_same(hbm, reply))
		return -EPROTO;

	hbm->info.requests_in_flight = reply->hello.requests_in_flight;
	hbm->info.regions = reply->hello.regions;
	memcpy(hbm->info.boot_id, reply->hello.boot_id, sizeof(hbm->info.boot_id));

	return 0;
}

/* ---- Attempts ---- */

/* The socket is of no use: the descriptor tells when to try again. */
static int reconnect_pause(struct hbm *hbm)
{
	struct reconnect *reconnect = &hbm->reconnect;
	uint32_t pause = reconnect->pause_ms;
	struct itimerspec when = {.it_value = {pause / 1000, pause % 1000 * 1000000}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	reconnect->greeting = false;
	reconnect->next_ms = reconnect_now_ms() + pause;
	reconnect->pause_ms =
		pause * 2 < RECONNECT_PAUSE_MAX_MS ? pause * 2 : RECONNECT_PAUSE_MAX_MS;
	if (fd >= 0) {
		timerfd_settime(fd, 0, &when, NULL);
		dup3(fd, hbm->channel.fd, O_CLOEXEC);
		close(fd);
	}

	return -EAGAIN;
}

/* What has ended an attempt: whether the next one may do better. */
static bool reconnect_may_pass(int rc)
{
	return rc == -ENOTCONN || rc == -ETIMEDOUT || rc == HBM_SHUTDOWN;
}

static int reconnect_hear(struct hbm *hbm)
{
	struct message message;
	int rc = hbm_channel_receive(&hbm->channel, false, &message);
	if (rc == -EAGAIN)
		return rc;
	if (rc)
		return rc == -ENOTCONN ? reconnect_pause(hbm) : rc;

	rc = reconnect_take_hello(hbm, &message);
	hbm_message_clear(&message);
	if (rc)
		return rc == -EAGAIN ? reconnect_pause(hbm) : rc;

	rc = reconnect_restore(hbm);

	return reconnect_may_pass(rc) ? reconnect_pause(hbm) : rc <= 0 ? rc : -ENOTCONN;
}

/* Does what can be done without waiting. 0: done; -EAGAIN: wait for the descriptor. */
static int reconnect_try(struct hbm *hbm)
{
	struct reconnect *reconnect = &hbm->reconnect;

	if (!reconnect->greeting) {
		if (reconnect_now_ms() < reconnect->next_ms)
			return -EAGAIN;
		if (hbm_channel_reopen(&hbm->channel, hbm->socket) != 0 ||
		    reconnect_say_hello(hbm) != 0)
			return reconnect_pause(hbm);
		reconnect->greeting = true;
	}

	return reconnect_hear(hbm);
}

/* How long to wait before the next attempt: ms, at most so long. */
static int reconnect_wait_ms(const struct reconnect *reconnect, int64_t now, int64_t until)
{
	int64_t left = reconnect->since_ms + reconnect->limit_ms - now;

	if (!reconnect->greeting && reconnect->next_ms - now < left)
		left = reconnect->next_ms - now;
	if (until >= 0 && until - now < left)
		left = until - now;

	return left > 0 ? (int)left : 0;
}

static int reconnect_come_back(struct hbm *hbm, int timeout_ms)
{
	struct reconnect *reconnect = &hbm->reconnect;
	int64_t now = reconnect_now_ms(), until = timeout_ms < 0 ? -1 : now + timeout_ms;
	int rc;

	if (reconnect->pause_ms == 0) {
		reconnect->since_ms = reconnect->next_ms = now;
		reconnect->pause_ms = RECONNECT_PAUSE_MS;
		reconnect->greeting = false;
	}

	while ((rc = reconnect_try(hbm)) == -EAGAIN) {
		now = reconnect_now_ms();
		if (now - reconnect->since_ms >= reconnect->limit_ms)
			return -ENOTCONN;
		if (until >= 0 && now >= until)
			return -EAGAIN;

		rc = hbm_channel_wait(&hbm->channel, false,
				      reconnect_wait_ms(reconnect, now, until));
		if (rc && rc != -ETIMEDOUT)
			return rc;
	}

	reconnect->pause_ms = 0;
	hbm->away = rc != 0;
	reconnect->times += rc == 0;

	return rc;
}

void hbm_reconnect_allow(struct hbm *hbm, const struct hbm_wire_hello_resume_reply *reply)
{
	memcpy(hbm->reconnect.state, reply->state, sizeof(reply->state));
	memcpy(hbm->reconnect.token, reply->token, sizeof(reply->token));
	hbm->come_back = reconnect_come_back;
	hbm->info.survives = true;
}
