/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h: every byte that crosses the socket between a client and hbmd.
 *
 * The transport is a Unix SOCK_SEQPACKET socket, so one send is one message. A message is
 * a header, a body whose layout the opcode determines, and possibly file descriptors.
 * All integers are in host byte order: both ends are on one host. Padding is named `zero`
 * and must be zero; unknown opcodes and flags are refused. Every request gets one reply
 * with the same `id`, except that a COMMIT reply may come in several messages, all but
 * the last with HBM_WIRE_MORE. Replies may come in another order than the requests.
 *
 * hbm-protocol(7) describes the behaviour, hbm.h the library's interface.
 */
#ifndef HBM_WIRE_H
#define HBM_WIRE_H

#include <hbm/wire_lists.h>

#include <assert.h>
#include <stdint.h>

#define HBM_WIRE_MAGIC 0x444d4248u /* "HBMD" */
#define HBM_WIRE_VERSION 2
/* bytes; a SEQPACKET message of this size fits the kernel's default SO_SNDBUF */
#define HBM_WIRE_MESSAGE_MAX 131072
#define HBM_WIRE_FDS_MAX 253 /* the kernel's SCM_MAX_FD */
#define HBM_WIRE_KEY_BYTES 16
#define HBM_WIRE_NAME_BYTES 64
#define HBM_WIRE_REASON_BYTES 160 /* of a refusal's reason, with its NUL */
#define HBM_WIRE_DEVICES_MAX 64
#define HBM_WIRE_UUID_BYTES 16
#define HBM_WIRE_FENCES 512           /* 64-bit slots in the session's shared fence page */
#define HBM_WIRE_NO_FENCE 0xffffffffu /* "no slot", in ready_slot and fence_slot */

/* The enums are made of the lists of wire_lists.h. */
#define HBM_WIRE_STATUS_ENUMERATOR(name, value, meaning) HBM_##name = (value),
#define HBM_WIRE_OPCODE_ENUMERATOR(name, value, request, reply) HBM_WIRE_##name = (value),
#define HBM_WIRE_TIER_ENUMERATOR(name, value, text) HBM_TIER_##name = (value),
#define HBM_WIRE_DRIVER_ENUMERATOR(name, value, text) HBM_DRIVER_##name = (value),
#define HBM_WIRE_LINK_ENUMERATOR(name, value, text) HBM_LINK_##name = (value),
#define HBM_WIRE_UNIT_ENUMERATOR(name, value, text) HBM_UNIT_##name = (value),
#define HBM_WIRE_QUERY_ENUMERATOR(name, value, record, text) HBM_QUERY_##name = (value),

/* The status of a request, or of one block of an array request: HBM_OK, HBM_INVALID, ... */
enum hbm_status { HBM_STATUS_LIST(HBM_WIRE_STATUS_ENUMERATOR) };

/* HBM_WIRE_HELLO, ... */
enum hbm_wire_opcode {
	HBM_OPCODE_LIST(HBM_WIRE_OPCODE_ENUMERATOR) HBM_WIRE_OPCODES, /* count, 0 included */
};

/* header.flags */
#define HBM_WIRE_REPLY 1u /* set in every message from the daemon, in none to it */
#define HBM_WIRE_MORE 2u  /* the reply continues in the next message with the same id */

/* HBM_TIER_NONE, HBM_TIER_HBM, ... */
enum hbm_tier {
	HBM_TIER_LIST(HBM_WIRE_TIER_ENUMERATOR) HBM_TIERS, /* count, NONE included */
};

/* HBM_DRIVER_SOFT, HBM_DRIVER_CUDA */
enum hbm_driver { HBM_DRIVER_LIST(HBM_WIRE_DRIVER_ENUMERATOR) };

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

/* ---- Regions ---- */
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

struct hbm_wire_range {
	uint32_t region, zero;
	uint64_t offset, bytes; /* in COMMIT and DECOMMIT: multiples of the region's slab */
};
static_assert(sizeof(struct hbm_wire_range) == 24, "wire layout");

/* COMMIT, DECOMMIT, and the reply to COMMIT. The reply has a range of one slab for each fd
 * of the message, in order. */
struct hbm_wire_ranges {
	struct hbm_wire_header header;
	uint32_t count, zero;
	struct hbm_wire_range ranges[];
};
static_assert(sizeof(struct hbm_wire_ranges) == 32, "wire layout");

/* ---- Namespaces ---- */

/* Namespaces whose specs differ in any field share no block. */
struct hbm_wire_namespace_spec {
	/* the strings are NUL-padded */
	char model[HBM_WIRE_NAME_BYTES];  /* the model, dtype, and so on */
	char layout[HBM_WIRE_NAME_BYTES]; /* the engine's name for the KV layout of a block */
	char salt[HBM_WIRE_NAME_BYTES];   /* a tenant's secret, or empty; never shown */
	uint64_t weights;                 /* version of the weights */
	uint64_t block_bytes;             /* of every block: a multiple of 4 KiB */
};
static_assert(sizeof(struct hbm_wire_namespace_spec) == 208, "wire layout");

struct hbm_wire_namespace_open {
	struct hbm_wire_header header;
	struct hbm_wire_namespace_spec spec;
};
static_assert(sizeof(struct hbm_wire_namespace_open) == 232, "wire layout");

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
 * while other sessions, or operators, pin blocks of it. Reply: a bare header, when no
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

/* LOOKUP, PREFETCH, TOUCH, PIN, UNPIN, REMOVE */
struct hbm_wire_keys {
	struct hbm_wire_header header;
	uint32_t ns, count;
	uint32_t device;      /* PREFETCH: move the blocks to its HBM tier; else 0 */
	uint32_t flags;       /* PIN, UNPIN: HBM_WIRE_KEEP or 0; else 0 */
	uint64_t deadline_us; /* PREFETCH: us from now, or 0: none; else 0 */
	struct hbm_wire_key keys[];
};
static_assert(sizeof(struct hbm_wire_keys) == 48, "wire layout");

/* One block of STORE or LOAD. Its bytes are the concatenation of its segments, which have
 * the namespace's block_bytes in total. The segments of successive blocks follow each other
 * in the request's segment array. */
struct hbm_wire_block {
	struct hbm_wire_key key, parent; /* parent: all zero for a root, and in every LOAD */
	uint32_t segments, zero;         /* how many it has, >= 1 */
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
	uint32_t zero;
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

/* The reply to LOOKUP, STORE, LOAD, PREFETCH, TOUCH, PIN, UNPIN, REMOVE. */
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

/* EVICT: evicts the least recently used blocks of a tier. Reply: a bare header. */
struct hbm_wire_evict {
	struct hbm_wire_header header;
	uint32_t tier, device; /* enum hbm_tier; device: HBM_TIER_HBM only */
	uint64_t bytes;        /* at least; UINT64_MAX: every block that can be evicted */
};
static_assert(sizeof(struct hbm_wire_evict) == 40, "wire layout");

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

struct hbm_wire_status {
	char version[32];
	char driver[32]; /* "soft", "cuda" */
	char io[32];     /* "io_uring", "threads" */
	char state[32];  /* "running", "warming", "stopping" */
	uint8_t boot_id[16];
	uint64_t pid, uptime_ms;
	uint64_t sessions, regions, namespaces, blocks, blocks_max;
	uint64_t index_bytes;       /* memory of the block index */
	uint64_t requests, refused; /* since start */
	/* of LOOKUP: requests, keys, keys found, keys not found */
	uint64_t lookups, lookup_keys, lookup_hits, lookup_misses;
	uint64_t hits[HBM_TIERS]; /* blocks of LOAD by target tier; [0] unused */
	uint64_t late_misses;     /* blocks of LOAD that were not in the cache */
	uint64_t stores, stored_blocks, stored_bytes, loads, loaded_blocks, loaded_bytes;
	uint64_t evicted_blocks, removed_blocks;
	uint64_t checksum_failures, io_errors, device_errors;
	/* since start: accepted; closed for breaking the protocol */
	uint64_t sessions_total, sessions_dropped;
};
static_assert(sizeof(struct hbm_wire_status) == 400, "wire layout");

struct hbm_wire_device {
	uint32_t index, zero;
	char name[HBM_WIRE_NAME_BYTES];
	uint64_t total, memory;            /* bytes of the device; bytes that hbmd owns */
	uint64_t cache, headroom, regions; /* add up to memory */
	/* bytes; add up to regions */
	uint64_t leased, quarantined, retiring, ready, uncreated;
	uint64_t slab, granularity;
	uint64_t lost; /* 1: after a sticky error; unusable until hbmd restarts */
	uint8_t uuid[HBM_WIRE_UUID_BYTES]; /* from cuDeviceGetUuid() */
};
static_assert(sizeof(struct hbm_wire_device) == 192, "wire layout");

struct hbm_wire_tier {
	uint32_t tier, device;       /* enum hbm_tier; device only for HBM */
	uint64_t capacity, headroom; /* bytes */
	/* bytes of capacity in service (DDR while it is touched, NVMe while it is formatted) */
	uint64_t usable;
	uint64_t blocks, bytes; /* with this target tier; bytes of their extents */
	/* bytes of extents: that hold a block, that a transfer uses, that are free */
	uint64_t placed, moving, free;
	uint64_t pinned;
	uint64_t in_blocks, in_bytes, out_blocks, out_bytes; /* moved in and out since start */
	uint64_t logical_bytes; /* block_bytes of the blocks with this target tier */
};
static_assert(sizeof(struct hbm_wire_tier) == 120, "wire layout");

struct hbm_wire_session {
	uint64_t session;
	uint32_t pid, uid, gid, zero;
	char name[HBM_WIRE_NAME_BYTES];
	uint64_t connected_ms;
	uint64_t regions, address_space, leased; /* leased: bytes of HBM */
	uint64_t requests, in_flight;
	uint64_t loaded_bytes, stored_bytes;
	uint32_t state, zero2; /* 0 live, 1 dead and quarantined */
};
static_assert(sizeof(struct hbm_wire_session) == 160, "wire layout");

struct hbm_wire_region {
	uint64_t session;
	uint32_t region, device;
	uint64_t address_space, slab, committed;
};
static_assert(sizeof(struct hbm_wire_region) == 40, "wire layout");

struct hbm_wire_namespace {
	uint32_t ns, opens;
	char model[HBM_WIRE_NAME_BYTES], layout[HBM_WIRE_NAME_BYTES];
	uint8_t fingerprint[16];
	uint64_t weights, block_bytes, blocks;
	uint64_t blocks_in[HBM_TIERS];
	uint32_t salted, zero;
};
static_assert(sizeof(struct hbm_wire_namespace) == 216, "wire layout");

struct hbm_wire_block_info {
	uint32_t ns, device;
	struct hbm_wire_key key, parent;
	uint32_t tier, place; /* target tier, actual tier */
	uint64_t offset, bytes, checksum;
	uint32_t children; /* counted up to 1,024 */
	uint32_t pins;     /* of the block itself; they keep its ancestors too */
	uint32_t readers, checksummed;
};
static_assert(sizeof(struct hbm_wire_block_info) == 88, "wire layout");

/* The account of one pool: capacity = free + placed + moving + quarantined. */
struct hbm_wire_account {
	char pool[32]; /* "hbm 0 cache", "hbm 0 regions", "ddr", "nvme", "staging" */
	uint64_t capacity, free, placed, moving, quarantined;
	uint32_t balanced, zero; /* 1: they add up, and every other check of the pool passed */
	char problem[128];       /* the first problem found, or empty */
};
static_assert(sizeof(struct hbm_wire_account) == 208, "wire layout");

/* HBM_UNIT_COUNT, ... */
enum hbm_wire_unit { HBM_UNIT_LIST(HBM_WIRE_UNIT_ENUMERATOR) };

/* A limit of the configuration, and what is charged against it. Some bound one request, one
 * block or one wait: nothing is charged against these. */
struct hbm_wire_limit {
	char name[40];          /* "limits.regions" */
	uint64_t limit;         /* of each session, tier, ..., or of all; UINT64_MAX: none */
	uint64_t used, highest; /* by all together; by the one that uses most */
	uint64_t refused;       /* requests, since start */
	uint32_t unit;          /* enum hbm_wire_unit */
	uint32_t balanced;      /* 1: what is charged is what is there */
	char problem[96];       /* otherwise: the first difference found, or empty */
};
static_assert(sizeof(struct hbm_wire_limit) == 176, "wire layout");

/* HBM_LINK_D2D, ... */
enum hbm_link { HBM_LINK_LIST(HBM_WIRE_LINK_ENUMERATOR) HBM_LINKS };

struct hbm_wire_link {
	uint32_t link, zero; /* enum hbm_link */
	uint64_t count, bytes;
	uint64_t busy_ns; /* time with at least one movement in flight */
	/* of busy_ns: of NVMe links while a device copy was in flight, and conversely */
	uint64_t overlapped_ns;
	uint64_t errors;
};
static_assert(sizeof(struct hbm_wire_link) == 48, "wire layout");

struct hbm_wire_interval {
	uint64_t start_ns, end_ns; /* CLOCK_MONOTONIC */
	uint64_t bytes;
	uint32_t link, device;
};
static_assert(sizeof(struct hbm_wire_interval) == 32, "wire layout");

#undef HBM_WIRE_STATUS_ENUMERATOR
#undef HBM_WIRE_OPCODE_ENUMERATOR
#undef HBM_WIRE_TIER_ENUMERATOR
#undef HBM_WIRE_DRIVER_ENUMERATOR
#undef HBM_WIRE_LINK_ENUMERATOR
#undef HBM_WIRE_UNIT_ENUMERATOR
#undef HBM_WIRE_QUERY_ENUMERATOR

#endif
