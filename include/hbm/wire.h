/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h: every byte that crosses the socket between a client and hbmd.
 *
 * The transport is a Unix SOCK_SEQPACKET socket, so one send is one message. A message is
 * a header, a body whose layout is fixed by the opcode, and possibly file descriptors.
 * All integers are in host byte order: both ends are on one host. Padding is named `zero`
 * and must be zero; unknown opcodes and flags are refused. Every request gets one reply
 * with the same `id`, except that a COMMIT reply may come in several messages, all but
 * the last carrying HBM_WIRE_MORE. Replies may come in another order than the requests.
 *
 * What is not here: behaviour (hbm-protocol(7)) and the library's interface (hbm.h).
 */
#ifndef HBM_WIRE_H
#define HBM_WIRE_H

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

/* What a refused request or a single block of an array request says. Expected outcomes:
 * positive, stable numbers. */
enum hbm_status {
	HBM_OK = 0,
	HBM_INVALID = 1,     /* an argument is malformed, misaligned or out of range */
	HBM_UNSUPPORTED = 2, /* no such opcode, flag, version or tier here */
	HBM_NO_SPACE = 3,    /* not enough memory in the pool asked */
	HBM_LIMIT = 4,       /* a limit of the configuration's [limits] section would be exceeded */
	HBM_NOT_FOUND = 5,   /* no such region, namespace, session or pin, or range not committed */
	HBM_MISS = 6,        /* the block is not in the cache (any more) */
	HBM_EXISTS = 7,      /* the block, or the committed range, is there already */
	HBM_NO_PARENT = 8,   /* its parent is not in the cache, so the block would be stranded */
	HBM_DENIED = 9,      /* the peer's credentials do not allow this */
	HBM_IO = 10,         /* a tier's I/O failed */
	HBM_DEVICE = 11,     /* a device call failed */
	HBM_TIMEOUT = 12,    /* the client's data did not become ready in time */
	HBM_SHUTDOWN = 13,   /* the daemon is stopping */
	HBM_CANCELLED = 14,  /* the client took the request back before it had begun */
};

enum hbm_wire_opcode {
	HBM_WIRE_HELLO = 1,
	HBM_WIRE_REGION_CREATE = 2,
	HBM_WIRE_REGION_DESTROY = 3,
	HBM_WIRE_COMMIT = 4,
	HBM_WIRE_DECOMMIT = 5,
	HBM_WIRE_NAMESPACE_OPEN = 6,
	HBM_WIRE_NAMESPACE_CLOSE = 7,
	HBM_WIRE_LOOKUP = 8,
	HBM_WIRE_STORE = 9,
	HBM_WIRE_LOAD = 10,
	HBM_WIRE_PREFETCH = 11,
	HBM_WIRE_TOUCH = 12,
	HBM_WIRE_PIN = 13,
	HBM_WIRE_UNPIN = 14,
	HBM_WIRE_REMOVE = 15,
	HBM_WIRE_EVICT = 16,
	HBM_WIRE_QUERY = 17,
	HBM_WIRE_PING = 18,
	HBM_WIRE_CANCEL = 19,
	HBM_WIRE_NAMESPACE_DROP = 20,
	HBM_WIRE_OPCODES = 21, /* one past the last */
};

/* header.flags */
#define HBM_WIRE_REPLY 1u /* set in every message from the daemon, in none to it */
#define HBM_WIRE_MORE 2u  /* this reply goes on in the next message with the same id */

enum hbm_tier {
	HBM_TIER_NONE = 0,
	HBM_TIER_HBM = 1,
	HBM_TIER_DDR = 2,
	HBM_TIER_NVME = 3,
	HBM_TIERS = 4, /* one past the last */
};

enum hbm_driver { HBM_DRIVER_SOFT = 1, HBM_DRIVER_CUDA = 2 };

struct hbm_wire_header {
	uint32_t size;   /* of the whole message, header included */
	uint16_t opcode; /* enum hbm_wire_opcode */
	uint16_t flags;
	uint64_t id;    /* chosen by the client; unique among its unanswered requests */
	int32_t status; /* replies: enum hbm_status; requests: 0 */
	uint32_t zero;
};
static_assert(sizeof(struct hbm_wire_header) == 24, "wire layout");

/* A reply whose status is not HBM_OK is this, or a bare header where there is no reason
 * to give. */
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

/* ---- HELLO: the first message of a session. The reply carries two fds: the fence page (a sealed memfd of
 * HBM_WIRE_FENCES uint64_t) and the doorbell (an eventfd the client writes after making a
 * ready fence true). ---- */
struct hbm_wire_hello {
	struct hbm_wire_header header;
	uint32_t magic;
	uint16_t version_min, version_max; /* what the client speaks */
	char name[HBM_WIRE_NAME_BYTES]; /* for people: shown by hbmctl sessions; NUL-terminated */
};
static_assert(sizeof(struct hbm_wire_hello) == 96, "wire layout");

struct hbm_wire_hello_reply {
	struct hbm_wire_header header;
	uint32_t magic;
	uint16_t version, zero;
	uint64_t session;
	uint8_t boot_id[16]; /* new at every start of the daemon */
	uint32_t driver;     /* enum hbm_driver */
	uint32_t devices;
	uint32_t requests_in_flight, regions; /* this session's limits */
	/* bytes per soft device, 0 on a real one: the client's soft driver must agree */
	uint64_t soft_memory;
	/* Of the devices: a client may see others, or in another order. */
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
	uint32_t region, zero; /* the session's name for it, never 0 */
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

/* COMMIT, DECOMMIT, and the reply to COMMIT: there, one range of one slab for each fd of
 * the message, in order. */
struct hbm_wire_ranges {
	struct hbm_wire_header header;
	uint32_t count, zero;
	struct hbm_wire_range ranges[];
};
static_assert(sizeof(struct hbm_wire_ranges) == 32, "wire layout");

/* ---- Namespaces: two specs that differ in any field never share a block. ---- */
struct hbm_wire_namespace_spec {
	/* the model and what else makes bytes interchangeable, NUL-padded */
	char model[HBM_WIRE_NAME_BYTES];
	/* the engine's name for how KV lies in a block, NUL-padded */
	char layout[HBM_WIRE_NAME_BYTES];
	char salt[HBM_WIRE_NAME_BYTES]; /* the tenant's secret or empty, NUL-padded; never shown */
	uint64_t weights;               /* version of the weights */
	uint64_t block_bytes;           /* of every block: a multiple of 4 KiB */
};
static_assert(sizeof(struct hbm_wire_namespace_spec) == 208, "wire layout");

struct hbm_wire_namespace_open {
	struct hbm_wire_header header;
	struct hbm_wire_namespace_spec spec;
};
static_assert(sizeof(struct hbm_wire_namespace_open) == 232, "wire layout");

/* By id instead of by spec: for inspection, allowed to uid 0 and the daemon's own uid. */
struct hbm_wire_namespace_ref {
	struct hbm_wire_header header;
	uint32_t ns, zero;
};
static_assert(sizeof(struct hbm_wire_namespace_ref) == 32, "wire layout");

struct hbm_wire_namespace_reply {
	struct hbm_wire_header header;
	uint32_t ns, zero; /* the daemon's number for the namespace, never 0 */
	uint64_t block_bytes;
	uint8_t fingerprint[16];
};
static_assert(sizeof(struct hbm_wire_namespace_reply) == 56, "wire layout");

/* Drops every block of a namespace that the session has open. Refused with HBM_DENIED
 * while other sessions, or operators, pin blocks of it. Reply: a bare header, when no
 * block is left. */
#define HBM_WIRE_PINNED 1u /* drop pinned blocks too; allowed to uid 0 and the daemon's own uid */
struct hbm_wire_namespace_drop {
	struct hbm_wire_header header;
	uint32_t ns, flags;
};
static_assert(sizeof(struct hbm_wire_namespace_drop) == 32, "wire layout");

/* A pin that outlives its session; allowed to uid 0 and the daemon's own uid. UNPIN with
 * it takes back such a pin. */
#define HBM_WIRE_KEEP 1u

/* ---- Cache. LOOKUP, PREFETCH, TOUCH, PIN, UNPIN, REMOVE carry keys only. ---- */
struct hbm_wire_keys {
	struct hbm_wire_header header;
	uint32_t ns, count;
	uint32_t device;      /* PREFETCH: whose HBM the blocks should come to; else 0 */
	uint32_t flags;       /* PIN, UNPIN: HBM_WIRE_KEEP or 0; else 0 */
	uint64_t deadline_us; /* PREFETCH: from now, 0 for none; else 0 */
	struct hbm_wire_key keys[];
};
static_assert(sizeof(struct hbm_wire_keys) == 48, "wire layout");

/* One block of STORE or LOAD. Its bytes are the concatenation of its segments, which
 * follow those of the block before it in the request's segment array; together they have
 * exactly the namespace's block_bytes. */
struct hbm_wire_block {
	struct hbm_wire_key key, parent; /* parent: all zero for a root, and in every LOAD */
	uint32_t segments, zero;         /* how many of the segment array, >= 1 */
};
static_assert(sizeof(struct hbm_wire_block) == 40, "wire layout");

/* STORE and LOAD. After `blocks` follow `segments` ranges (struct hbm_wire_range). All
 * segments of one request lie in regions of one device. */
struct hbm_wire_blocks {
	struct hbm_wire_header header;
	uint32_t ns, count;
	uint32_t segments; /* length of the segment array */
	/* start only when fence page[ready_slot] >= ready_value; HBM_WIRE_NO_FENCE: at
	 * once */
	uint32_t ready_slot;
	uint64_t ready_value;
	/* when done, however it ends: fence page[fence_slot] = fence_value; or
	 * HBM_WIRE_NO_FENCE */
	uint32_t fence_slot;
	uint32_t zero;
	uint64_t fence_value;
	struct hbm_wire_block blocks[];
};
static_assert(sizeof(struct hbm_wire_blocks) == 64, "wire layout");

struct hbm_wire_result {
	uint8_t status; /* enum hbm_status */
	/* enum hbm_tier: where the block belonged when the request arrived; STORE:
	 * where it went */
	uint8_t tier;
	uint16_t zero;
};
static_assert(sizeof(struct hbm_wire_result) == 4, "wire layout");

/* The reply to LOOKUP, STORE, LOAD, PREFETCH, TOUCH, PIN, UNPIN, REMOVE. */
struct hbm_wire_results {
	struct hbm_wire_header header;
	uint32_t count; /* results that follow: one for each key or block asked */
	uint32_t done; /* LOOKUP: length of the leading resident run; else: how many ended HBM_OK */
	/* LOOKUP: estimated time to load that run, from measured bandwidths; else 0 */
	uint64_t load_ns;
	struct hbm_wire_result results[];
};
static_assert(sizeof(struct hbm_wire_results) == 40, "wire layout");

/* EVICT: push least recently used blocks out of a tier, to the next one below or away.
 * Reply: a bare header. */
struct hbm_wire_evict {
	struct hbm_wire_header header;
	uint32_t tier, device; /* enum hbm_tier; the device only for HBM_TIER_HBM */
	uint64_t bytes;        /* at least this many; UINT64_MAX for all that can go */
};
static_assert(sizeof(struct hbm_wire_evict) == 40, "wire layout");

/* CANCEL: takes back a STORE or LOAD that still waits for its ready fence; that one is
 * answered HBM_CANCELLED, before this one. Reply: a bare header, HBM_NOT_FOUND where no
 * such request waits (any more). */
#define HBM_WIRE_ALL 1u /* every request of the session; target is 0 */
struct hbm_wire_cancel {
	struct hbm_wire_header header;
	uint64_t target; /* the id of the request */
	uint32_t flags, zero;
};
static_assert(sizeof(struct hbm_wire_cancel) == 40, "wire layout");

/* ---- QUERY: inspection. Records of one kind, from a cursor on; the reply says where to go on. ----
 */
enum hbm_wire_query_kind {
	HBM_QUERY_STATUS = 1,     /* one struct hbm_wire_status */
	HBM_QUERY_DEVICES = 2,    /* struct hbm_wire_device */
	HBM_QUERY_TIERS = 3,      /* struct hbm_wire_tier */
	HBM_QUERY_SESSIONS = 4,   /* struct hbm_wire_session */
	HBM_QUERY_REGIONS = 5,    /* struct hbm_wire_region */
	HBM_QUERY_NAMESPACES = 6, /* struct hbm_wire_namespace_spec */
	HBM_QUERY_BLOCKS = 7,     /* struct hbm_wire_block_info */
	HBM_QUERY_VERIFY = 8,     /* struct hbm_wire_account: one for each pool */
	HBM_QUERY_LINKS = 9,      /* struct hbm_wire_link: one for each kind of link */
	HBM_QUERY_TIMELINE = 10,  /* struct hbm_wire_interval: the last few thousand movements */
	HBM_QUERY_KINDS = 11,     /* one past the last */
};

struct hbm_wire_query {
	struct hbm_wire_header header;
	uint32_t kind, zero;
	uint64_t cursor; /* 0 first, then what the reply said */
};
static_assert(sizeof(struct hbm_wire_query) == 40, "wire layout");

struct hbm_wire_query_reply {
	struct hbm_wire_header header;
	uint32_t kind, count;
	uint32_t record_bytes, zero;
	uint64_t next; /* cursor of the next page, 0 when this was the last */
		       /* count records follow */
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
	uint64_t index_bytes;       /* memory of the index, per-block share and tables */
	uint64_t requests, refused; /* since start */
	/* LOOKUP: requests; keys asked for, found and not found */
	uint64_t lookups, lookup_keys, lookup_hits, lookup_misses;
	uint64_t hits[HBM_TIERS]; /* blocks of LOAD by the tier that was their target; [0] unused */
	uint64_t late_misses;     /* blocks of LOAD that were not there: gone since the lookup */
	uint64_t stores, stored_blocks, stored_bytes, loads, loaded_blocks, loaded_bytes;
	uint64_t evicted_blocks, removed_blocks;
	uint64_t checksum_failures, io_errors, device_errors;
	uint64_t sessions_total,
		sessions_dropped; /* ever accepted; dropped for breaking the protocol */
};
static_assert(sizeof(struct hbm_wire_status) == 400, "wire layout");

struct hbm_wire_device {
	uint32_t index, zero;
	char name[HBM_WIRE_NAME_BYTES];
	uint64_t total, memory;            /* bytes the device has; bytes hbmd owns */
	uint64_t cache, headroom, regions; /* how hbmd divides them */
	uint64_t leased, quarantined, retiring, ready,
		uncreated; /* of `regions`: they add up to it */
	uint64_t slab, granularity;
	/* 1: after an error that does not pass; nothing works on it until hbmd starts
	 * again */
	uint64_t lost;
	uint8_t uuid[HBM_WIRE_UUID_BYTES]; /* as cuDeviceGetUuid tells it */
};
static_assert(sizeof(struct hbm_wire_device) == 192, "wire layout");

struct hbm_wire_tier {
	uint32_t tier, device;       /* enum hbm_tier; device only for HBM */
	uint64_t capacity, headroom; /* bytes */
	/* of capacity: usable now (DDR grows while it is touched, NVMe while it is
	 * formatted) */
	uint64_t usable;
	uint64_t blocks, bytes; /* that belong here (the policy's view); bytes: what they occupy */
	uint64_t placed, moving,
		free; /* bytes: hold a block, are source or target of a movement, nothing */
	uint64_t pinned;
	uint64_t in_blocks, in_bytes, out_blocks, out_bytes; /* moved in, moved out, since start */
	uint64_t logical_bytes; /* of the blocks that belong here, as clients see them */
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
	uint32_t tier, place; /* where it belongs, where its bytes are now */
	uint64_t offset, bytes, checksum;
	uint32_t children; /* at most 1,024 are counted */
	uint32_t pins;     /* its own; its ancestors stay because of them, too */
	uint32_t readers, checksummed;
};
static_assert(sizeof(struct hbm_wire_block_info) == 88, "wire layout");

/* One pool's books: capacity = free + placed + moving (+ quarantined), or the daemon is
 * wrong. */
struct hbm_wire_account {
	char pool[32]; /* "hbm 0 cache", "hbm 0 regions", "ddr", "nvme", "staging" */
	uint64_t capacity, free, placed, moving, quarantined;
	uint32_t balanced, zero; /* 1 when they add up and every deeper check of this pool passed */
	char problem[128];       /* the first thing found wrong, or empty */
};
static_assert(sizeof(struct hbm_wire_account) == 208, "wire layout");

enum hbm_link {
	HBM_LINK_D2D = 0,        /* region <-> HBM tier */
	HBM_LINK_D2H = 1,        /* device to host memory */
	HBM_LINK_H2D = 2,        /* host memory to device */
	HBM_LINK_NVME_WRITE = 3, /* host memory to NVMe */
	HBM_LINK_NVME_READ = 4,  /* NVMe to host memory */
	HBM_LINKS = 5,
};

struct hbm_wire_link {
	uint32_t link, zero; /* enum hbm_link */
	uint64_t count, bytes;
	uint64_t busy_ns; /* time with at least one such movement under way */
	/* of busy_ns: for NVMe links, while a device copy was under way; for device
	 * links, while an NVMe movement was */
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

#endif
