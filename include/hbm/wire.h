/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h: every byte that crosses the socket between a client and hbmd.
 *
 * The transport is a Unix SOCK_SEQPACKET socket, so one send is one message. A message is
 * a header, a body whose layout the opcode determines, and possibly file descriptors.
 * All integers are in host byte order: both ends are on one host. Padding is named `zero`
 * and must be zero; unknown opcodes and flags are refused. Every request gets one reply
 * with the same `id`, except that a COMMIT reply may come in several messages, all but
 * the last with HBM_WIRE_MORE. Replies may come in another order than the requests. What the
 * daemon sends unasked has HBM_WIRE_UNASKED instead of HBM_WIRE_REPLY; a session that has
 * opened no board gets none.
 *
 * hbm-protocol(7) describes the behaviour, hbm.h the library's interface.
 */
#ifndef HBM_WIRE_H
#define HBM_WIRE_H

#include <hbm/wire_lists.h>
#include <hbm/wire_records.h>

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define HBM_WIRE_MAGIC 0x444d4248u /* "HBMD" */
#define HBM_WIRE_VERSION 2
/* bytes; a SEQPACKET message of this size fits the kernel's default SO_SNDBUF */
#define HBM_WIRE_MESSAGE_MAX 131072
#define HBM_WIRE_FDS_MAX 253 /* the kernel's SCM_MAX_FD */
#define HBM_WIRE_KEY_BYTES 16
#define HBM_WIRE_NAME_BYTES 64
#define HBM_WIRE_GROUP_MAX 64 /* namespaces of one group */
#define HBM_WIRE_SEQUENCE_NAME_BYTES 32
#define HBM_WIRE_BOARD_EVENTS 48u /* of a board; the last that are kept */
#define HBM_WIRE_REASON_BYTES 160 /* of a refusal's reason, with its NUL */
#define HBM_WIRE_DEVICES_MAX 64
#define HBM_WIRE_DEVICE_HOST 0xfffffffeu /* host memory, in place of a device: of regions */
#define HBM_WIRE_UUID_BYTES 16
#define HBM_WIRE_FENCES 512           /* 64-bit slots in the session's shared fence page */
#define HBM_WIRE_NO_FENCE 0xffffffffu /* "no slot", in ready_slot and fence_slot */

/* The enums are made of the lists of wire_lists.h. */
#define HBM_WIRE_STATUS_ENUMERATOR(name, value, meaning) HBM_##name = (value),
#define HBM_WIRE_OPCODE_ENUMERATOR(name, value, request, reply) HBM_WIRE_##name = (value),
#define HBM_WIRE_TURNS_ENUMERATOR(name, value, text) HBM_TURNS_##name = (value),
#define HBM_WIRE_TIER_ENUMERATOR(name, value, text) HBM_TIER_##name = (value),
#define HBM_WIRE_DRIVER_ENUMERATOR(name, value, text) HBM_DRIVER_##name = (value),
#define HBM_WIRE_ENCODING_ENUMERATOR(name, value, text) HBM_ENCODING_##name = (value),
#define HBM_WIRE_LINK_ENUMERATOR(name, value, text) HBM_LINK_##name = (value),
#define HBM_WIRE_SEQUENCE_STATE_ENUMERATOR(name, value, text) HBM_SEQUENCE_##name = (value),
#define HBM_WIRE_SEQUENCE_EVENT_ENUMERATOR(name, value, text) HBM_SEQUENCE_##name = (value),
#define HBM_WIRE_CACHE_EVENT_ENUMERATOR(name, value, text) HBM_CACHE_##name = (value),
#define HBM_WIRE_ASK_ENUMERATOR(name, value, text) HBM_ASK_##name = (value),
#define HBM_WIRE_UNIT_ENUMERATOR(name, value, text) HBM_UNIT_##name = (value),
#define HBM_WIRE_QUERY_ENUMERATOR(name, value, record, text, members) HBM_QUERY_##name = (value),

/* The status of a request, or of one block of an array request: HBM_OK, HBM_INVALID, ... */
enum hbm_status { HBM_STATUS_LIST(HBM_WIRE_STATUS_ENUMERATOR) };

/* HBM_WIRE_HELLO, ... */
enum hbm_wire_opcode {
	HBM_OPCODE_LIST(HBM_WIRE_OPCODE_ENUMERATOR) HBM_WIRE_OPCODES, /* count, 0 included */
};

/* header.flags */
#define HBM_WIRE_REPLY 1u /* set in every reply, and in no request */
/* the reply continues in the next message with the same id; a STORE or LOAD in the next one */
#define HBM_WIRE_MORE 2u
/* a message from the daemon that is no reply: an ASK, to a session that has a board */
#define HBM_WIRE_UNASKED 4u

/* HBM_TIER_NONE, HBM_TIER_HBM, ... */
enum hbm_tier {
	HBM_TIER_LIST(HBM_WIRE_TIER_ENUMERATOR) HBM_TIERS, /* count, NONE included */
};

/* HBM_TURNS_100US, ... */
enum hbm_turns { HBM_TURNS_LIST(HBM_WIRE_TURNS_ENUMERATOR) HBM_TURNS /* count */ };

/* HBM_DRIVER_SOFT, HBM_DRIVER_CUDA */
enum hbm_driver { HBM_DRIVER_LIST(HBM_WIRE_DRIVER_ENUMERATOR) };

/* HBM_ENCODING_RAW, ... */
enum hbm_encoding { HBM_ENCODING_LIST(HBM_WIRE_ENCODING_ENUMERATOR) HBM_ENCODINGS /* count */ };

/* HBM_SEQUENCE_OPEN, ... */
enum hbm_sequence_state {
	HBM_SEQUENCE_STATE_LIST(HBM_WIRE_SEQUENCE_STATE_ENUMERATOR) HBM_SEQUENCE_STATES /* count */
};
/* HBM_SEQUENCE_NOW_OPEN, ... */
enum hbm_sequence_event {
	HBM_SEQUENCE_EVENT_LIST(HBM_WIRE_SEQUENCE_EVENT_ENUMERATOR) HBM_SEQUENCE_EVENTS /* count */
};

/* HBM_CACHE_STORED, ... */
enum hbm_cache_event { HBM_CACHE_EVENT_LIST(HBM_WIRE_CACHE_EVENT_ENUMERATOR) };

/* HBM_ASK_SUSPEND, ... */
enum hbm_ask { HBM_ASK_LIST(HBM_WIRE_ASK_ENUMERATOR) };

struct hbm_wire_header {
	uint32_t size;   /* of the whole message, header included */
	uint16_t opcode; /* enum hbm_wire_opcode */
	uint16_t flags;
	uint64_t id;    /* chosen by the client; unique among its unanswered requests */
	int32_t status; /* replies: enum hbm_status; requests: 0 */
	uint32_t zero;
};
static_assert(sizeof(struct hbm_wire_header) == 24, "wire layout");

/* The reply if the status is not HBM_OK; a bare header if there is no reason to give. */
struct hbm_wire_refusal {
	struct hbm_wire_header header;
	/* for people, NUL-padded: which field or limit, and what it allows */
	char reason[HBM_WIRE_REASON_BYTES];
};
static_assert(sizeof(struct hbm_wire_refusal) == 184, "wire layout");

struct hbm_wire_key {
	/* a hash of the whole prefix ending with this block; all zero is reserved */
	uint8_t bytes[HBM_WIRE_KEY_BYTES];
};
static_assert(sizeof(struct hbm_wire_key) == 16, "wire layout");

/* ---- HELLO ---- */

/* The first message of a session. The reply carries two fds: the fence page (a sealed memfd
 * of HBM_WIRE_FENCES uint64_t) and the doorbell (an eventfd that the client writes after it
 * has set a ready fence). */
struct hbm_wire_hello {
	struct hbm_wire_header header;
	uint32_t magic;
	uint16_t version_min, version_max; /* supported by the client */
	char name[HBM_WIRE_NAME_BYTES]; /* for people: shown by hbmctl sessions; NUL-terminated */
};
static_assert(sizeof(struct hbm_wire_hello) == 96, "wire layout");

struct hbm_wire_hello_reply {
	struct hbm_wire_header header;
	uint32_t magic;
	uint16_t version, zero;
	uint64_t session;
	uint8_t boot_id[16]; /* changes when the daemon restarts */
	uint32_t driver;     /* enum hbm_driver */
	uint32_t devices;
	uint32_t requests_in_flight, regions; /* this session's limits */
	/* bytes per soft device, the same in the client's soft driver; 0: real devices */
	uint64_t soft_memory;
	/* of the devices: a client may see others, or in another order */
	uint8_t uuids[HBM_WIRE_DEVICES_MAX][HBM_WIRE_UUID_BYTES];
};
static_assert(sizeof(struct hbm_wire_hello_reply) == 1104, "wire layout");

#define HBM_WIRE_TOKEN_BYTES 16

/* The other form of HELLO, from a client that means to go on with its session when the daemon
 * has been restarted; and to go on with one. */
struct hbm_wire_hello_resume {
	struct hbm_wire_hello hello;
	/* as the reply had them to the HELLO that began the session; all zero: a new one */
	uint64_t session;
	uint8_t state[16];
	uint8_t token[HBM_WIRE_TOKEN_BYTES];
};
static_assert(sizeof(struct hbm_wire_hello_resume) == 136, "wire layout");

/* The reply to that form. No descriptors come with it if the session goes on: the client has
 * them. */
struct hbm_wire_hello_resume_reply {
	struct hbm_wire_hello_reply hello;
	uint8_t state[16]; /* of what the daemon keeps: the same after a restart */
	uint8_t token[HBM_WIRE_TOKEN_BYTES]; /* a secret of this session and its process */
	uint32_t survives;                   /* 1: the session outlives the daemon */
	uint32_t zero;
};
static_assert(sizeof(struct hbm_wire_hello_resume_reply) == 1144, "wire layout");

/* ---- Regions ---- */
/* A host region: HBM_WIRE_DEVICE_HOST as the device. The descriptors of its slabs are memfds, to be
 * mapped with MAP_SHARED. HBM_UNSUPPORTED: the daemon has no host memory for regions. */
struct hbm_wire_region_create {
	struct hbm_wire_header header;
	uint32_t device, zero;
	uint64_t address_space; /* bytes, a multiple of the slab */
	uint64_t slab;          /* bytes per slab: 2 MiB << k, k = 0..9; 0: the device's default */
};
static_assert(sizeof(struct hbm_wire_region_create) == 48, "wire layout");

struct hbm_wire_region_create_reply {
	struct hbm_wire_header header;
	uint32_t region, zero; /* the region's number in the session, never 0 */
	uint64_t address_space, slab;
};
static_assert(sizeof(struct hbm_wire_region_create_reply) == 48, "wire layout");

struct hbm_wire_region_destroy {
	struct hbm_wire_header header;
	uint32_t region, zero;
};
static_assert(sizeof(struct hbm_wire_region_destroy) == 32, "wire layout");

/* How the memory of a guest region comes. */
#define HBM_WIRE_GUEST_FD 1u     /* a descriptor of cuMemExportToShareableHandle() */
#define HBM_WIRE_GUEST_IPC 2u    /* a handle of cuIpcGetMemHandle() */
#define HBM_WIRE_HANDLE_BYTES 64 /* of such a handle */

/* REGION_IMPORT: memory that the client allocated and lends to the daemon: a guest region. It
 * is one allocation; nothing of it is committed or decommitted. By descriptor, one comes with
 * the message. Reply: hbm_wire_region_create_reply. */
struct hbm_wire_region_import {
	struct hbm_wire_header header;
	uint32_t device, kind;                 /* HBM_WIRE_GUEST_FD, HBM_WIRE_GUEST_IPC */
	uint64_t bytes;                        /* by descriptor: a multiple of 2 MiB */
	uint8_t handle[HBM_WIRE_HANDLE_BYTES]; /* by descriptor: all zero */
};
static_assert(sizeof(struct hbm_wire_region_import) == 104, "wire layout");

struct hbm_wire_range {
	uint32_t region, zero;
	uint64_t offset, bytes; /* in COMMIT and DECOMMIT: multiples of the region's slab */
};
static_assert(sizeof(struct hbm_wire_range) == 24, "wire layout");

/* COMMIT, DECOMMIT, RECONCILE, and the reply to COMMIT. The reply has a range of one slab for each
 * fd of the message, in order. RECONCILE: what the client has of a session that goes on with
 * another daemon: of each region a range of 0 bytes, and those that are committed; of a device
 * of which it has reserved memory, one of region HBM_WIRE_RESERVED, whose offset is the device. A
 * range of region 0 ends it: the daemon gives back what else the session has, and replies then. */
struct hbm_wire_ranges {
	struct hbm_wire_header header;
	uint32_t count, zero;
	struct hbm_wire_range ranges[];
};
static_assert(sizeof(struct hbm_wire_ranges) == 32, "wire layout");
#define HBM_WIRE_RESERVED UINT32_MAX /* no region has that number */

/* A read-only target: the client maps it so, and the daemon loads nothing into it. */
#define HBM_WIRE_READ_ONLY 1u
/* The slabs are those of a block that is on loan to the session: `source_offset` is the loan,
 * and `source` the first piece. The target is read-only. It keeps the slabs as the loan does,
 * which may be returned: they stay lent, and are no memory of the session. */
#define HBM_WIRE_OF_LOAN 2u

/* Backs a range of empty slots, the target, with the slabs of another, the source. Both are
 * in regions of the session, of one device and one slab size, or in one region. */
struct hbm_wire_share {
	uint32_t source, target; /* regions */
	uint64_t source_offset, target_offset, bytes;
	uint32_t flags, zero;
};
static_assert(sizeof(struct hbm_wire_share) == 40, "wire layout");

/* SHARE. No descriptor comes with the reply: the client maps the slabs that it has already. */
struct hbm_wire_shares {
	struct hbm_wire_header header;
	uint32_t count, zero;
	struct hbm_wire_share shares[];
};
static_assert(sizeof(struct hbm_wire_shares) == 32, "wire layout");
/* ---- Reservations ---- */

struct hbm_wire_reserve_change {
	uint32_t device, zero;
	int64_t bytes; /* more that is reserved, or less if negative: at most all */
};
static_assert(sizeof(struct hbm_wire_reserve_change) == 16, "wire layout");

/* RESERVE: changes what the session has reserved of the memory for regions of devices, all or
 * none: each is named once. Less is always granted, at once. timeout_ms: how long to wait, if
 * there is not enough memory that is free and not promised; 0: the answer is HBM_NO_SPACE then.
 * Reply: a bare header. HBM_TIMEOUT: it has waited so long. */
struct hbm_wire_reserve {
	struct hbm_wire_header header;
	uint32_t count, timeout_ms;
	struct hbm_wire_reserve_change changes[];
};
static_assert(sizeof(struct hbm_wire_reserve) == 32, "wire layout");

/* A device's memory for regions, at one moment. The daemon writes it whenever it changes:
 * `sequence` is odd meanwhile, and what was read is to be read again if it was, or differs
 * afterwards. */
struct hbm_wire_memory {
	uint64_t sequence;
	uint64_t capacity;
	uint64_t free;     /* that a commit could have at once */
	uint64_t promised; /* of it: reserved by sessions, and not committed yet */
	/* of it: neither promised nor set aside for what waits; what a new reservation can have */
	uint64_t available;
	uint64_t largest_slab; /* that available is enough for; 0: none */
	uint64_t returning;    /* given back or left by a client, and not free yet */
	uint64_t waiting;      /* RESERVE requests that wait for more of it */
	uint64_t default_slab;
	uint64_t lost; /* 1: the device is lost until hbmd restarts */
	uint64_t zero[6];
};
static_assert(sizeof(struct hbm_wire_memory) == 128, "wire layout");

/* MEMORY: the reply, a bare header, carries one fd: a sealed memfd that can be mapped for
 * reading only, with a record for each of HBM_WIRE_DEVICES_MAX devices. */
#define HBM_WIRE_MEMORY_BYTES (HBM_WIRE_DEVICES_MAX * sizeof(struct hbm_wire_memory))

/* A uid in ATTACH and UNPUBLISH: the client's own. */
#define HBM_WIRE_OWN_UID 0xffffffffu
/* ATTACH: what it maps may be written to, also by the daemon, in a LOAD. */
#define HBM_WIRE_ATTACH_WRITE 1u

/* PUBLISH: members of the group may attach, too. Only where device.publish_groups allows it. */
#define HBM_WIRE_PUBLISH_GROUP 1u

/* PUBLISH: a committed range of a region gets a name: its slabs outlive the region, and the
 * client. Reply: a bare header. */
struct hbm_wire_publish {
	struct hbm_wire_header header;
	uint32_t region, flags;         /* HBM_WIRE_PUBLISH_GROUP or 0 */
	uint64_t offset, bytes;         /* multiples of the region's slab */
	uint32_t gid, zero;             /* gid: of the group; without one 0 */
	char name[HBM_WIRE_NAME_BYTES]; /* of printable ASCII characters but the space */
};
static_assert(sizeof(struct hbm_wire_publish) == 120, "wire layout");

/* ATTACH: makes a region of the size of what was published. A COMMIT of its ranges backs them
 * with those slabs. */
struct hbm_wire_attach {
	struct hbm_wire_header header;
	uint32_t uid, flags; /* of who published it, or HBM_WIRE_OWN_UID; HBM_WIRE_ATTACH_WRITE */
	char name[HBM_WIRE_NAME_BYTES];
};
static_assert(sizeof(struct hbm_wire_attach) == 96, "wire layout");

struct hbm_wire_attached {
	struct hbm_wire_header header;
	uint32_t region, device;
	uint64_t address_space, slab;
};
static_assert(sizeof(struct hbm_wire_attached) == 48, "wire layout");

/* UNPUBLISH: the name goes; what is attached stays. Another uid's: for operators only. Reply: a
 * bare header. */
struct hbm_wire_unpublish {
	struct hbm_wire_header header;
	uint32_t uid, zero; /* of who published it, or HBM_WIRE_OWN_UID */
	char name[HBM_WIRE_NAME_BYTES];
};
static_assert(sizeof(struct hbm_wire_unpublish) == 96, "wire layout");

/* ---- Namespaces ---- */

/* Namespaces whose specs differ in any field share no block. */
struct hbm_wire_namespace_spec {
	/* the strings are NUL-padded */
	char model[HBM_WIRE_NAME_BYTES];  /* the model, dtype, and so on */
	char layout[HBM_WIRE_NAME_BYTES]; /* the engine's name for the KV layout of a block */
	char salt[HBM_WIRE_NAME_BYTES];   /* a tenant's secret, or empty; never shown */
	uint64_t weights;                 /* version of the weights */
	uint64_t block_bytes;             /* of every block, > 0 */
};
static_assert(sizeof(struct hbm_wire_namespace_spec) == 208, "wire layout");

struct hbm_wire_namespace_open {
	struct hbm_wire_header header;
	struct hbm_wire_namespace_spec spec;
};
static_assert(sizeof(struct hbm_wire_namespace_open) == 232, "wire layout");

/* How the blocks of a namespace are encoded; all zero: raw. Part of what namespaces are told
 * apart by. */
struct hbm_wire_encoding {
	uint32_t encoding;      /* enum hbm_encoding */
	uint32_t element_bytes; /* LOSSLESS: of a number, 1, 2 or 4; otherwise 0 */
	/* FP8, INT8, INT4: of a block before it is encoded, at least block_bytes; otherwise 0 */
	uint64_t logical_bytes;
};
static_assert(sizeof(struct hbm_wire_encoding) == 16, "wire layout");

/* The same with an encoding. */
struct hbm_wire_namespace_open_encoded {
	struct hbm_wire_header header;
	struct hbm_wire_namespace_spec spec;
	struct hbm_wire_encoding encoding;
};
static_assert(sizeof(struct hbm_wire_namespace_open_encoded) == 248, "wire layout");

/* The namespace is its sessions' own: when the last of them closes it, or ends, its blocks are
 * dropped, pinned or not. As soon as one open says so. */
#define HBM_WIRE_EPHEMERAL 1u
/* Its blocks stay in memory: none is ever written to NVMe. Part of what namespaces are told
 * apart by. */
#define HBM_WIRE_MEMORY_ONLY 2u
/* The bytes of its blocks are overwritten wherever they have been, before what held them is used
 * for anything else. Part of what namespaces are told apart by. */
#define HBM_WIRE_WIPE_ON_FREE 4u

/* The same with flags. */
struct hbm_wire_namespace_open_flags {
	struct hbm_wire_header header;
	struct hbm_wire_namespace_spec spec;
	struct hbm_wire_encoding encoding;
	uint32_t flags; /* HBM_WIRE_EPHEMERAL, _MEMORY_ONLY, _WIPE_ON_FREE */
	uint32_t zero;
};
static_assert(sizeof(struct hbm_wire_namespace_open_flags) == 256, "wire layout");

/* The same with a group: that of the namespaces with one group, model, weights and salt, each of
 * which has a part of what a key stands for. What is used in one of them is used in all, and so is
 * what is evicted from the cache. Part of what namespaces are told apart by. */
struct hbm_wire_namespace_open_group {
	struct hbm_wire_header header;
	struct hbm_wire_namespace_spec spec;
	struct hbm_wire_encoding encoding;
	uint32_t flags;
	uint32_t zero;
	char group[HBM_WIRE_NAME_BYTES]; /* NUL-padded; empty: none */
};
static_assert(sizeof(struct hbm_wire_namespace_open_group) == 320, "wire layout");

/* By number instead of by spec: for uid 0 and the daemon's own uid only. */
struct hbm_wire_namespace_ref {
	struct hbm_wire_header header;
	uint32_t ns, zero;
};
static_assert(sizeof(struct hbm_wire_namespace_ref) == 32, "wire layout");

struct hbm_wire_namespace_reply {
	struct hbm_wire_header header;
	uint32_t ns, zero; /* the namespace's number, never 0 */
	uint64_t block_bytes;
	uint8_t fingerprint[16];
};
static_assert(sizeof(struct hbm_wire_namespace_reply) == 56, "wire layout");

/* drop pinned blocks too; for uid 0 and the daemon's own uid only */
#define HBM_WIRE_PINNED 1u

/* Drops every block of a namespace that the session has open. Refused with HBM_DENIED
 * while other sessions, or operators, pin blocks of it. Reply: hbm_wire_amount, when no
 * block is left. */
struct hbm_wire_namespace_drop {
	struct hbm_wire_header header;
	uint32_t ns, flags;
};
static_assert(sizeof(struct hbm_wire_namespace_drop) == 32, "wire layout");

/* ---- Cache ---- */

/* PIN: the pin outlives its session. UNPIN: removes such a pin. For uid 0 and the daemon's
 * own uid only. */
#define HBM_WIRE_KEEP 1u

/* RETAIN: the highest priority; 0 is that of all blocks. */
#define HBM_WIRE_PRIORITY_MAX 3u

/* LOOKUP, PREFETCH, TOUCH, PIN, UNPIN, REMOVE, MOVE, RETAIN */
struct hbm_wire_keys {
	struct hbm_wire_header header;
	uint32_t ns, count;
	uint32_t
		device; /* PREFETCH, MOVE to HBM_TIER_HBM: move the blocks to its HBM tier; else 0 */
	/* PIN, UNPIN: HBM_WIRE_KEEP or 0; MOVE: the enum hbm_tier that the blocks go to, or the
	 * next one below that exists; RETAIN: the priority, 0: retained no longer; else 0 */
	uint32_t flags;
	/* PREFETCH, MOVE: us from now, or 0: none; RETAIN: for so long, in us, or 0: as long as
	 * may be; else 0 */
	uint64_t deadline_us;
	struct hbm_wire_key keys[];
};
static_assert(sizeof(struct hbm_wire_keys) == 48, "wire layout");

/* The session pins the block, a root, as it stores it: there is no moment in which it could be
 * evicted. One that cannot be pinned is not stored: HBM_LIMIT. */
#define HBM_WIRE_BLOCK_PIN 1u
/* The block's segments are whole slabs of regions, and the client will not write to them any
 * more: they may be lent as they are, to its user. Without effect where that cannot be. */
#define HBM_WIRE_BLOCK_LEND 2u
/* The block goes to NVMe and stays there. Its result comes when its bytes and its record in the
 * catalog are flushed; so does that of a block that exists, which becomes durable. */
#define HBM_WIRE_BLOCK_DURABLE 4u

/* One block of STORE or LOAD. Its bytes are the concatenation of its segments, which have
 * the namespace's block_bytes in total. The segments of successive blocks follow each other
 * in the request's segment array. */
struct hbm_wire_block {
	struct hbm_wire_key key, parent; /* parent: all zero for a root, and in every LOAD */
	uint32_t segments;               /* how many it has, >= 1 */
	/* STORE: the enum hbm_tier that the block goes to, or the next one below that exists;
	 * HBM_TIER_NONE: where the policy puts it. LOAD: 0 */
	uint16_t tier;
	uint16_t flags; /* STORE: HBM_WIRE_BLOCK_PIN, _LEND, _DURABLE; LOAD: 0 */
};
static_assert(sizeof(struct hbm_wire_block) == 40, "wire layout");

/* STORE and LOAD. `segments` ranges (struct hbm_wire_range) follow `blocks`. All segments of
 * a request are in regions of one device. */
struct hbm_wire_blocks {
	struct hbm_wire_header header;
	uint32_t ns, count;
	uint32_t segments; /* length of the segment array */
	/* start when the fence in this slot is >= ready_value; HBM_WIRE_NO_FENCE: at once */
	uint32_t ready_slot;
	uint64_t ready_value;
	/* set to fence_value when the request ends, with any status; or HBM_WIRE_NO_FENCE */
	uint32_t fence_slot;
	/* set, before that one, to how many blocks failed: 1 to HBM_WIRE_FENCES - 1; 0: none */
	uint32_t failed_slot;
	uint64_t fence_value;
	struct hbm_wire_block blocks[];
};
static_assert(sizeof(struct hbm_wire_blocks) == 64, "wire layout");

struct hbm_wire_result {
	uint8_t status; /* enum hbm_status */
	/* enum hbm_tier: the block's target tier, when the request arrived or after STORE */
	uint8_t tier;
	uint16_t zero;
};
static_assert(sizeof(struct hbm_wire_result) == 4, "wire layout");

/* The reply to LOOKUP, STORE, LOAD, PREFETCH, TOUCH, PIN, UNPIN, REMOVE, MOVE, RETAIN. */
struct hbm_wire_results {
	struct hbm_wire_header header;
	uint32_t count; /* of results: one for each key or block of the request */
	/* LOOKUP: length of the leading run of resident blocks; else: how many are HBM_OK */
	uint32_t done;
	/* LOOKUP: estimated time to load that run, from measured bandwidths; else 0 */
	uint64_t load_ns;
	struct hbm_wire_result results[];
};
static_assert(sizeof(struct hbm_wire_results) == 40, "wire layout");

#define HBM_WIRE_COUNT_ONE 1u /* one use more */

/* COUNT: how often clients have used what a block stands for, by what they say with this
 * request, since it was stored; after this one, if it is one. Nothing else counts for it. */
struct hbm_wire_count {
	struct hbm_wire_header header;
	uint32_t ns, flags; /* HBM_WIRE_COUNT_ONE or 0 */
	struct hbm_wire_key key;
};
static_assert(sizeof(struct hbm_wire_count) == 48, "wire layout");

struct hbm_wire_counted {
	struct hbm_wire_header header;
	uint64_t uses; /* at most 2^32 - 1, where it stays */
};
static_assert(sizeof(struct hbm_wire_counted) == 32, "wire layout");

#define HBM_WIRE_WATCH_MAX 256             /* events of a reply */
#define HBM_WIRE_MISSED_UNKNOWN UINT64_MAX /* missed: events were lost with a daemon */

/* WATCH: what has happened to the blocks of a namespace behind event `after`, the oldest first,
 * at most `most` (0: as many as a reply has). after 0: nothing, only where events begin, which
 * they do for the namespace with the first such request. */
struct hbm_wire_watch {
	struct hbm_wire_header header;
	uint32_t ns, most;
	uint64_t after;
};
static_assert(sizeof(struct hbm_wire_watch) == 40, "wire layout");

struct hbm_wire_cache_event {
	struct hbm_wire_key key;
	uint32_t event;    /* enum hbm_cache_event */
	uint16_t from, to; /* enum hbm_tier; NONE: it was not there before, or is in none now */
};
static_assert(sizeof(struct hbm_wire_cache_event) == 24, "wire layout");

struct hbm_wire_watched {
	struct hbm_wire_header header;
	uint64_t last;   /* the number of the last event that is here, to ask on from */
	uint64_t missed; /* events before the first that is here, which are not kept any more */
	uint32_t count, zero;
	struct hbm_wire_cache_event events[HBM_WIRE_WATCH_MAX]; /* [count]; the others are zero */
};
static_assert(sizeof(struct hbm_wire_watched) == 48 + 24 * HBM_WIRE_WATCH_MAX, "wire layout");

/* Only of what the device has such a copy of: no other is made, and the block is a miss. */
#define HBM_WIRE_BORROW_READY 1u

/* BORROW: blocks to be mapped by the client instead of loaded: copies of them in device
 * memory that it must not write to. piece: 0: each block lies somewhere in a slab; or 2 MiB
 * << k, a divisor of the namespace's block_bytes: each piece of so many bytes is a slab of its
 * own, which can be mapped anywhere. At most HBM_WIRE_FDS_MAX pieces. */
struct hbm_wire_borrow {
	struct hbm_wire_header header;
	uint32_t ns, count;
	uint32_t device, flags; /* HBM_WIRE_BORROW_READY */
	uint64_t piece;
	struct hbm_wire_key keys[];
};
static_assert(sizeof(struct hbm_wire_borrow) == 48, "wire layout");

struct hbm_wire_loan {
	uint64_t loan;   /* its number in the session; 0: there is none */
	uint32_t pieces; /* of the block, 0 or at least 1 */
	uint8_t status;  /* enum hbm_status */
	uint8_t tier;    /* enum hbm_tier: the block's target tier when the request arrived */
	uint16_t zero;
};
static_assert(sizeof(struct hbm_wire_loan) == 16, "wire layout");

struct hbm_wire_piece {
	uint32_t slab, zero;    /* slab: index in the reply's array */
	uint64_t offset, bytes; /* in the slab */
};
static_assert(sizeof(struct hbm_wire_piece) == 24, "wire layout");

struct hbm_wire_slab {
	uint64_t slab;  /* its number, of all that the daemon lends */
	uint64_t bytes; /* of the slab */
	/* 1: its descriptor comes with the message, behind those of earlier slabs; 0: the session
	 * has it, by an earlier reply */
	uint32_t sent;
	uint32_t zero;
};
static_assert(sizeof(struct hbm_wire_slab) == 24, "wire layout");

/* The reply to BORROW. `pieces` hbm_wire_piece follow `loans`, those of successive blocks
 * after each other, then `slabs` hbm_wire_slab. */
struct hbm_wire_borrowed {
	struct hbm_wire_header header;
	uint32_t count; /* of loans: one for each key of the request */
	uint32_t pieces, slabs, zero;
	struct hbm_wire_loan loans[];
};
static_assert(sizeof(struct hbm_wire_borrowed) == 40, "wire layout");

/* RETURN: the client has unmapped what it borrowed, or will not touch it again. Reply: a bare
 * header; HBM_NOT_FOUND: one of them is no loan of the session, or named twice; none was
 * returned. Loans of a daemon before are gone already, and may be named beside others. */
struct hbm_wire_return {
	struct hbm_wire_header header;
	uint32_t count, zero;
	uint64_t loans[];
};
static_assert(sizeof(struct hbm_wire_return) == 32, "wire layout");

/* EVICT: evicts the least recently used blocks of a tier. Reply: hbm_wire_amount. */
struct hbm_wire_evict {
	struct hbm_wire_header header;
	uint32_t tier, device; /* enum hbm_tier; device: HBM_TIER_HBM only */
	uint64_t bytes;        /* at least; UINT64_MAX: every block that can be evicted */
};
static_assert(sizeof(struct hbm_wire_evict) == 40, "wire layout");

/* The reply to EVICT and NAMESPACE_DROP: what was evicted from the tier, or dropped. */
struct hbm_wire_amount {
	struct hbm_wire_header header;
	uint64_t blocks;
	uint64_t bytes; /* as stored */
};
static_assert(sizeof(struct hbm_wire_amount) == 40, "wire layout");

#define HBM_WIRE_ALL 1u /* every request of the session; target is 0 */

/* CANCEL: cancels a STORE or LOAD that still waits for its ready fence. That request is
 * answered first, with HBM_CANCELLED. Reply: a bare header; HBM_NOT_FOUND: no such request
 * waits. */
struct hbm_wire_cancel {
	struct hbm_wire_header header;
	uint64_t target; /* the id of the request */
	uint32_t flags, zero;
};
static_assert(sizeof(struct hbm_wire_cancel) == 40, "wire layout");

/* SESSION_END: ends another session, as if its client had hung up. For uid 0 and the
 * daemon's own uid only. Reply: a bare header; HBM_NOT_FOUND: it has ended, or never was. */
struct hbm_wire_session_ref {
	struct hbm_wire_header header;
	uint64_t session;
};
static_assert(sizeof(struct hbm_wire_session_ref) == 32, "wire layout");

/* RESIZE: makes a tier larger or smaller, until the daemon restarts. For uid 0 and the daemon's own
 * uid only. Reply, when that is over: a bare header. Refused, nothing has changed: HBM_UNSUPPORTED:
 * there is no such tier; HBM_LIMIT: its memory is still coming into service; HBM_NO_SPACE: it has
 * more pinned bytes, or there is not so much memory. HBM_CANCELLED: another RESIZE of it has come,
 * whose size it gets. */
struct hbm_wire_resize {
	struct hbm_wire_header header;
	uint32_t tier, device; /* enum hbm_tier; device: HBM_TIER_HBM only */
	uint64_t bytes;        /* in whole 4 KiB; less is cut */
};
static_assert(sizeof(struct hbm_wire_resize) == 40, "wire layout");

/* DRAIN: from now on no memory is granted (HBM_DRAINING), what the cache has in memory goes to NVMe,
 * and when nothing is leased any more the daemon stops. For uid 0 and the daemon's own uid only. The
 * reply, a bare header, comes just before that. HBM_TIMEOUT: there was something left after
 * timeout_ms, and the daemon serves as before; the reason says what. HBM_CANCELLED: another DRAIN has
 * cancelled it. HBM_EXISTS: one goes on already. It goes on when the session ends. */
#define HBM_WIRE_DRAIN_CANCEL 1u /* ends the one that goes on; HBM_NOT_FOUND: there is none */
struct hbm_wire_drain {
	struct hbm_wire_header header;
	uint32_t flags; /* HBM_WIRE_DRAIN_CANCEL */
	uint32_t zero;
	uint64_t timeout_ms; /* 0: none; ignored with CANCEL */
};
static_assert(sizeof(struct hbm_wire_drain) == 40, "wire layout");

/* TENANT_SET: sets a key of a tenant, as a line of the configuration would, until the
 * configuration is read again. For uid 0 and the daemon's own uid only. What is used beyond a new
 * limit stays. Reply: a bare header; HBM_NOT_FOUND: there is no such tenant; HBM_INVALID: there is
 * no such key, or it cannot have that value. */
struct hbm_wire_tenant_set {
	struct hbm_wire_header header;
	char tenant[HBM_WIRE_NAME_BYTES], key[HBM_WIRE_NAME_BYTES], value[HBM_WIRE_NAME_BYTES];
};
static_assert(sizeof(struct hbm_wire_tenant_set) == 216, "wire layout");

/* ---- Sequences ---- */

/* A board: a memfd in which a client says what sequences it has, and the daemon reads when it is
 * asked (HBM_QUERY_SEQUENCES, HBM_QUERY_EVENTS). It has a head, `records` records, and behind
 * them HBM_WIRE_BOARD_EVENTS events; its size is sealed. The
 * client writes to the records at any time, without a call: to each member with one store.
 * A record with the number 0 stands for no sequence. So that no other sequence's members are
 * seen under a number, it is 0 while the members of the next one are written. Event n is at
 * n % HBM_WIRE_BOARD_EVENTS, and is written before the head counts it. The daemon believes none
 * of it, and shows it to those that may see the session. */
struct hbm_wire_board_head {
	/* messages of this session with HBM_WIRE_UNASKED, so far; written by the daemon. A client
	 * that has received fewer may find one in the socket. */
	uint64_t notices;
	uint64_t events; /* so far; written by the client */
	uint64_t zero[14];
};
static_assert(sizeof(struct hbm_wire_board_head) == 128, "wire layout");

struct hbm_wire_board_record {
	uint64_t number;        /* of the sequence, chosen by the client; 0: there is none */
	uint32_t state, device; /* enum hbm_sequence_state */
	uint64_t tokens, expected, max;
	uint64_t own, shared, suspended; /* bytes */
	uint64_t next_use;
	int32_t priority;
	uint32_t zero;
	char name[HBM_WIRE_SEQUENCE_NAME_BYTES]; /* NUL-padded */
	uint64_t zero2[2];
};
static_assert(sizeof(struct hbm_wire_board_record) == 128, "wire layout");

struct hbm_wire_board_event {
	uint64_t time_ns;  /* CLOCK_MONOTONIC */
	uint64_t sequence; /* its number */
	uint64_t tokens;
	uint64_t bytes; /* that it has in other tiers */
	uint32_t event; /* enum hbm_sequence_event */
	uint32_t zero;
};
static_assert(sizeof(struct hbm_wire_board_event) == 40, "wire layout");

/* BOARD_OPEN: the reply carries one fd, the memfd. */
struct hbm_wire_board_open {
	struct hbm_wire_header header;
	uint32_t records, zero; /* at least 1 */
};
static_assert(sizeof(struct hbm_wire_board_open) == 32, "wire layout");

struct hbm_wire_board_reply {
	struct hbm_wire_header header;
	uint32_t board, records; /* board: its number in the session, never 0 */
	uint64_t bytes;          /* of the memfd: at least the head, the records and the events */
};
static_assert(sizeof(struct hbm_wire_board_reply) == 40, "wire layout");

/* BOARD_CLOSE: the daemon reads it no more. A session that ends closes its boards. */
struct hbm_wire_board_ref {
	struct hbm_wire_header header;
	uint32_t board, zero;
};
static_assert(sizeof(struct hbm_wire_board_ref) == 32, "wire layout");

/*
 * ASK: asks another session to suspend or to resume a sequence. For uid 0 and the daemon's own
 * uid only. Reply: a bare header; HBM_NOT_FOUND: there is no such session, or it has no board;
 * HBM_LIMIT: it does not read what it is sent. Whether it has such a sequence, and does what it
 * is asked, its boards show.
 *
 * It reaches that session as the same message with HBM_WIRE_UNASKED, with the id 0. The daemon
 * asks too, unbidden: HBM_ASK_PRESSURE, when a device has less memory for regions that is free
 * and not promised than device.watermark; once, until it has as much again.
 */
struct hbm_wire_ask {
	struct hbm_wire_header header;
	uint64_t session, sequence; /* sequence 0: all of the session's; PRESSURE: 0 */
	uint32_t ask;               /* enum hbm_ask */
	/* SUSPEND: the enum hbm_tier that it is to go to; HBM_TIER_NONE: where its client likes;
	 * else 0 */
	uint32_t tier;
	uint32_t device, zero; /* PRESSURE; else 0 */
	uint64_t bytes;        /* PRESSURE: what is lacking; else 0 */
};
static_assert(sizeof(struct hbm_wire_ask) == 64, "wire layout");

/* ---- QUERY ---- */

/* Inspection: records of one kind, a page at a time, from a cursor. */
enum hbm_wire_query_kind {
	HBM_QUERY_LIST(HBM_WIRE_QUERY_ENUMERATOR) HBM_QUERY_KINDS, /* count, 0 included */
};

struct hbm_wire_query {
	struct hbm_wire_header header;
	uint32_t kind, zero;
	uint64_t cursor; /* 0 for the first page, then `next` of the last reply */
};
static_assert(sizeof(struct hbm_wire_query) == 40, "wire layout");

/* `count` records follow. */
struct hbm_wire_query_reply {
	struct hbm_wire_header header;
	uint32_t kind, count;
	uint32_t record_bytes, zero;
	uint64_t next; /* cursor of the next page; 0: this is the last */
};
static_assert(sizeof(struct hbm_wire_query_reply) == 48, "wire layout");

/* HBM_UNIT_COUNT, ... */
enum hbm_wire_unit { HBM_UNIT_LIST(HBM_WIRE_UNIT_ENUMERATOR) };

/* HBM_LINK_D2D, ... */
enum hbm_link { HBM_LINK_LIST(HBM_WIRE_LINK_ENUMERATOR) HBM_LINKS };

/* The records: their members are in wire_records.h. New ones come at the end, so the last of
 * version 2 stays where it is. */
#define HBM_WIRE_MEMBER(R, type, member, dimension, ...) type member dimension;

struct hbm_wire_status {
	HBM_RECORD_STATUS(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_status, sessions_dropped) == 392, "wire layout");

struct hbm_wire_device {
	HBM_RECORD_DEVICE(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_device, uuid) == 176, "wire layout");

struct hbm_wire_tier {
	HBM_RECORD_TIER(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_tier, logical_bytes) == 112, "wire layout");

struct hbm_wire_session {
	HBM_RECORD_SESSION(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_session, zero2) == 156, "wire layout");

struct hbm_wire_region {
	HBM_RECORD_REGION(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_region, committed) == 32, "wire layout");

struct hbm_wire_namespace {
	HBM_RECORD_NAMESPACE(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_namespace, zero) == 212, "wire layout");

struct hbm_wire_block_info {
	HBM_RECORD_BLOCK_INFO(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_block_info, checksummed) == 84, "wire layout");

struct hbm_wire_account {
	HBM_RECORD_ACCOUNT(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_account, problem) == 80, "wire layout");

struct hbm_wire_limit {
	HBM_RECORD_LIMIT(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_limit, problem) == 80, "wire layout");

struct hbm_wire_node {
	HBM_RECORD_NODE(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_node, staging_used) == 32, "wire layout");

struct hbm_wire_sequence {
	HBM_RECORD_SEQUENCE(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_sequence, zero) == 116, "wire layout");

struct hbm_wire_event {
	HBM_RECORD_EVENT(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_event, zero) == 44, "wire layout");

struct hbm_wire_lent {
	HBM_RECORD_LENT(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_lent, unchecked) == 32, "wire layout");

struct hbm_wire_tenant {
	HBM_RECORD_TENANT(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_tenant, configured) == 92, "wire layout");

struct hbm_wire_link {
	HBM_RECORD_LINK(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_link, errors) == 40, "wire layout");

struct hbm_wire_interval {
	HBM_RECORD_INTERVAL(HBM_WIRE_MEMBER, )
};
static_assert(offsetof(struct hbm_wire_interval, errors) == 36, "wire layout");

#undef HBM_WIRE_MEMBER
#undef HBM_WIRE_STATUS_ENUMERATOR
#undef HBM_WIRE_OPCODE_ENUMERATOR
#undef HBM_WIRE_TURNS_ENUMERATOR
#undef HBM_WIRE_TIER_ENUMERATOR
#undef HBM_WIRE_DRIVER_ENUMERATOR
#undef HBM_WIRE_LINK_ENUMERATOR
#undef HBM_WIRE_SEQUENCE_STATE_ENUMERATOR
#undef HBM_WIRE_SEQUENCE_EVENT_ENUMERATOR
#undef HBM_WIRE_CACHE_EVENT_ENUMERATOR
#undef HBM_WIRE_ASK_ENUMERATOR
#undef HBM_WIRE_UNIT_ENUMERATOR
#undef HBM_WIRE_QUERY_ENUMERATOR

#endif
