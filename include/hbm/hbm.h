/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbm.h: the client library of hbmd. A serving process connects, creates regions of
 * GPU memory at stable addresses, and asks the daemon to store, look up and load KV blocks
 * in its shared cache.
 *
 * Every operation that takes time has two forms: hbm_submit_X() returns a ticket, and
 * hbm_X() submits and waits. Tickets end inside hbm_dispatch(), inside hbm_wait() on any
 * ticket, and inside every other call that waits for the daemon, hbm_close() included.
 * hbm_fd() polls readable when there is something to dispatch. hbm_info's
 * requests_in_flight less one limits how many requests may be in flight. At that limit a
 * submit waits, and handles replies while it waits. An event loop therefore calls
 * hbm_dispatch(hbm, 0) before it sleeps on hbm_fd().
 *
 * Only one thread at a time may use a connection: threads that share one hold a lock
 * around every call except hbm_fence_signal(). Several connections in a process are
 * independent. The library never prints, never exits and never touches signals. It starts
 * no thread but the one that a pool of sequences can be opened with (sequence.h).
 *
 * Return values: 0: done. Positive, an enum hbm_status: refused, and nothing has changed.
 * Negative errno: the connection or this process failed. hbm_strerror() describes all of
 * them. Outputs are written only if a function returns 0, unless it says otherwise.
 *
 * A connection ends when the daemon exits (-ENOTCONN) or breaks the protocol (-EPROTO).
 * Every ticket then ends with that error, and later calls fail with -ENOTCONN. Regions
 * stay mapped and fences readable until hbm_close(). Fences that the daemon has not set
 * keep their values.
 */
#ifndef HBM_H
#define HBM_H

#include <assert.h>
#if !defined(__cplusplus) && !defined(static_assert)
#define static_assert _Static_assert /* C99 */
#endif

/* enum hbm_status, enum hbm_tier, struct hbm_wire_key, the records of hbm_query() */
#include <hbm/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HBM_DEFAULT_SOCKET "/run/hbmd/hbmd.sock" /* the environment's HBM_SOCKET overrides it */
#define HBM_API __attribute__((visibility("default")))

struct hbm;        /* a connection */
struct hbm_region; /* a contiguous device address range, owned by its connection */
typedef uint64_t hbm_ticket;
typedef struct hbm_wire_key hbm_key;
typedef struct hbm_wire_result hbm_result;

/* ---- Connection ---- */

struct hbm_options {
	const char *socket; /* NULL: $HBM_SOCKET, else HBM_DEFAULT_SOCKET */
	const char *name;   /* shown by hbmctl sessions; NULL: the process name */
	/* do not open a device driver: regions of devices are refused, host regions and queries work */
	bool inspect_only;
	/* timeout for calls that the daemon answers at once: the connection ends with
	 * -ETIMEDOUT if the daemon sends nothing for so long. 0: no timeout. Tickets have
	 * the timeout of hbm_wait(). */
	uint32_t answer_ms;
	/* how long calls that wait look for the reply again and again before they sleep: it
	 * saves a wake, and costs that much of a processor each time. 0: they sleep at once */
	uint32_t poll_us;
	/* for how long calls wait for the next daemon when the daemon goes away, where its
	 * sessions outlive it (hbm_info.survives): then they go on as if nothing had happened.
	 * 0: HBM_RECONNECT_MS; HBM_RECONNECT_NEVER: the connection ends with the daemon. Not
	 * with inspect_only. */
	uint32_t reconnect_ms;
};

#define HBM_RECONNECT_MS 60000
#define HBM_RECONNECT_NEVER UINT32_MAX

struct hbm_info {
	uint64_t session;
	uint8_t boot_id[16]; /* changes when the daemon restarts */
	enum hbm_driver driver;
	uint32_t devices;
	uint32_t requests_in_flight, regions; /* limits of this session */
	bool survives; /* the connection goes on when the daemon is restarted: reconnect_ms */
};

/* Connects. options may be NULL. The caller closes *out with hbm_close(). -ECONNREFUSED,
 * -ENOENT: no daemon listens there. -EMFILE: this process has no descriptors left. */
HBM_API int hbm_connect(struct hbm **out, const struct hbm_options *options);
/* Unmaps all regions and frees the connection. The caller must first synchronise every
 * stream that uses a region or a fence. Cancels requests that have not begun and waits for
 * the others, but gives up on a daemon that sends nothing for 10 s; the daemon then
 * reuses this process's slabs only after the process has exited. In a child made by
 * fork() it only closes the child's descriptors: the connection stays open in the parent,
 * and any other call on it in the child is refused with -EPERM (hbm_fence(): NULL). Takes
 * NULL, returns NULL. */
HBM_API struct hbm *hbm_close(struct hbm *hbm);
HBM_API const struct hbm_info *hbm_info(const struct hbm *hbm);
/* The ordinal in this process of the daemon's `device`, for cuDeviceGet(). The two may see
 * different devices, or the same in another order (CUDA_VISIBLE_DEVICES). -ENODEV: the
 * device is not visible to this process. */
HBM_API int hbm_device_ordinal(struct hbm *hbm, uint32_t device, int *ordinal);
/* A borrowed fd that polls readable when hbm_dispatch() has something to do. Its number stays, but
 * it is another file when the daemon goes away and when the next one is there: epoll(7) is to be
 * told of it again after hbm_dispatch() has found nothing. */
HBM_API int hbm_fd(const struct hbm *hbm);
/* From hbm_cork() on, requests that are submitted are kept and sent together: by
 * hbm_uncork(), by hbm_wait() on any ticket, by hbm_dispatch(), or when there are 64 of them
 * or 256 KiB. Nothing else changes: submitting returns a ticket, replies come in any order,
 * and a request that would be refused is refused. -ENOMEM; -ENOTCONN, or another negative
 * errno: the connection has ended, and every ticket with it. */
HBM_API int hbm_cork(struct hbm *hbm);
HBM_API int hbm_uncork(struct hbm *hbm);
/* Handles replies that have arrived. If no ticket has ended, waits at most timeout_ms for
 * one (-1: no timeout). Returns the number of tickets that have ended since the last call
 * and have not been freed, or a negative errno: the connection has ended. */
HBM_API int hbm_dispatch(struct hbm *hbm, int timeout_ms);
/* Waits for a ticket at most timeout_ms (-1: no timeout), frees it and returns its status.
 * -ETIMEDOUT: the ticket has not ended and stays valid. -EINVAL: no such ticket. */
HBM_API int hbm_wait(struct hbm *hbm, hbm_ticket ticket, int timeout_ms);
/* Like hbm_wait(ticket, 0), without reading from the socket: -EAGAIN while the ticket has
 * not ended. */
HBM_API int hbm_poll(struct hbm *hbm, hbm_ticket ticket);
/* Cancels a store or load that still waits for its ready fence, or a reservation that waits
 * for memory. 0: its ticket has ended HBM_CANCELLED, nothing was stored, loaded or reserved,
 * and its completion fence is set; free the
 * ticket with hbm_wait() like any other. HBM_NOT_FOUND: the request has begun or ended, or
 * is of another kind; its ticket ends as usual. -EINVAL: no such ticket. */
HBM_API int hbm_cancel(struct hbm *hbm, hbm_ticket ticket);
/* A static sentence for a status or a negative errno; never NULL. */
HBM_API const char *hbm_strerror(int status);
/* The constant's name ("HBM_NO_SPACE"), or NULL if there is no such status. */
HBM_API const char *hbm_status_name(int status);
/* One line about why the last call on this connection was refused or failed; "" if none
 * was. hbm_fence_signal() never changes it, nor do hbm_poll() and hbm_dispatch() when no
 * ticket has ended. */
HBM_API const char *hbm_error(const struct hbm *hbm);

/* ---- Fences ---- */

/* HBM_WIRE_FENCES 64-bit values in memory shared with the daemon, one in each slot. The
 * caller chooses the slots of a request. A GPU stream can wait for a value
 * (hbm_fence_device()). */

/* The slot's address in this process; NULL: no such slot. */
HBM_API volatile uint64_t *hbm_fence(struct hbm *hbm, uint32_t slot);
/* The slot's address for a stream of `device`, for cuStreamWaitValue64() and
 * cuStreamWriteValue64(). Registers the fences with the driver on first use. */
HBM_API int hbm_fence_device(struct hbm *hbm, uint32_t device, uint32_t slot, uint64_t *address);
/* Sets a ready fence from the CPU and rings the daemon's doorbell. Any thread may call it
 * at any time, and so may a host function on a stream. */
HBM_API int hbm_fence_signal(struct hbm *hbm, uint32_t slot, uint64_t value);

/* ---- Regions ---- */

#define HBM_DEVICE_HOST HBM_WIRE_DEVICE_HOST

struct hbm_region_options {
	/* HBM_DEVICE_HOST: host memory of the daemon, which needs no device in this process: mapped
	 * read-write at hbm_region_host(), so that the caller reads and writes it like its own */
	uint32_t device;
	/* bytes, > 0; rounded up to a multiple of slab */
	uint64_t address_space;
	uint64_t slab; /* bytes per slab, 2 MiB << k; 0: the daemon's default */
};

struct hbm_range {
	struct hbm_region *region;
	uint64_t offset, bytes; /* multiples of the region's slab */
};

/* Reserves address space; allocates no memory. HBM_UNSUPPORTED: the daemon has no host memory for
 * regions (ddr.regions). */
HBM_API int hbm_region_create(struct hbm *hbm, const struct hbm_region_options *options,
			      struct hbm_region **out);
struct hbm_import_options {
	uint32_t device;
	/* From cuMemExportToShareableHandle(); borrowed. Ignored if there is an ipc_handle. */
	int fd;
	/* of the allocation, from its begin on; by descriptor, a multiple of 2 MiB */
	uint64_t bytes;
	uint64_t address; /* what hbm_region_address() is to say: where the caller has it */
	/* HBM_WIRE_HANDLE_BYTES bytes of cuIpcGetMemHandle(), or NULL: by descriptor */
	const void *ipc_handle;
};

/* Lends the daemon one allocation of the caller, as a guest region: it can be stored from and
 * loaded into like any other, and is never committed or decommitted (HBM_UNSUPPORTED). The
 * memory stays the caller's: keep it until hbm_region_destroy() has returned. It stays when a daemon
 * ends whose sessions survive; if the next one cannot open the memory, the region is of no use
 * (HBM_NOT_FOUND). HBM_INVALID: the device refuses it, it is on another device, or smaller than said.
 * HBM_EXISTS: the handle is open already. */
HBM_API int hbm_region_import(struct hbm *hbm, const struct hbm_import_options *options,
			      struct hbm_region **out);
/* Unmaps and decommits the region and frees the object, after waiting for commits in
 * flight. A region of this connection is freed whatever the status. */
HBM_API int hbm_region_destroy(struct hbm *hbm, struct hbm_region *region);
/* A CUdeviceptr; of a host region, the host's address. It never changes. */
HBM_API uint64_t hbm_region_address(const struct hbm_region *region);
/* Its begin for this process's own loads and stores, to what is committed: of a host region; and, on
 * soft devices alone, of one of theirs, where nothing orders them with a stream. NULL: its memory is
 * a GPU's, or the caller's own. */
HBM_API void *hbm_region_host(const struct hbm_region *region);
HBM_API uint64_t hbm_region_bytes(const struct hbm_region *region);
HBM_API uint64_t hbm_region_slab(const struct hbm_region *region);
/* HBM_DEVICE_HOST: of none. */
HBM_API uint32_t hbm_region_device(const struct hbm_region *region);

/* Backs the ranges with slabs, all or none. They are mapped read-write in this process
 * when the ticket has ended HBM_OK. -EMFILE: this process cannot open enough descriptors,
 * one for each slab and up to HBM_WIRE_FDS_MAX at a time; nothing was committed, and the
 * connection stays open. */
HBM_API int hbm_submit_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
			      hbm_ticket *ticket);
HBM_API int hbm_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count);
/* Unmaps the ranges at once and gives their slabs back, all or none. The caller must first
 * synchronise its streams. If the device refuses to unmap a range (HBM_DEVICE), only the
 * ranges before it are decommitted. */
HBM_API int hbm_submit_decommit(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
				hbm_ticket *ticket);
HBM_API int hbm_decommit(struct hbm *hbm, const struct hbm_range *ranges, size_t count);

/* Registers a committed range of a host region with the driver, for all devices of this process: their
 * copies to and from it go by themselves then, as to memory that the driver has allocated. It is
 * done in the context of `device`; *address, unless it is NULL, is where that finds it. One copy must
 * not cross from one registered range into the next. All of it ends, before it is unmapped, when
 * any part is decommitted: no copy may use it then. Without a GPU it is of no use. HBM_EXISTS: part
 * of it is registered. HBM_UNSUPPORTED: the region is no host region. HBM_DEVICE: the driver
 * refused. */
HBM_API int hbm_region_register(struct hbm *hbm, const struct hbm_range *range, uint32_t device,
				uint64_t *address);

struct hbm_publish_options {
	const char *name;
	/* Members of the group may attach it, too, without HBM_ATTACH_WRITE. HBM_DENIED, unless
	 * the daemon's configuration lets that be, and where part of it is lent (hbm_block.lend). */
	bool for_group;
	uint32_t gid; /* of the group */
};

/* A committed range of a region gets a name, of at most HBM_WIRE_NAME_BYTES - 1 printable
 * characters and no space: its memory outlives the region, this connection and this process,
 * until hbm_region_unpublish(), and the daemon where hbm_info.survives. The memory stays where
 * it is; this process may go on to read, write, decommit and destroy its region. HBM_EXISTS: the
 * name is taken, or part of the range is published. */
HBM_API int hbm_region_publish(struct hbm *hbm, struct hbm_region *region, uint64_t offset,
			       uint64_t bytes, const struct hbm_publish_options *options);

#define HBM_OWN_UID 0xffffffffu /* the user of this process */
#define HBM_ATTACH_WRITE 1u     /* it may be written, and be loaded into */

/* Maps what that user has published, in a region of its own, without a copy. Without
 * HBM_ATTACH_WRITE it is mapped read-only, and a load into it is refused (HBM_DENIED). It is
 * destroyed like any other region, which gives up this mapping alone. HBM_NOT_FOUND: nothing of
 * that name is published, or this user may not attach it. */
HBM_API int hbm_region_attach(struct hbm *hbm, uint32_t uid, const char *name, uint32_t flags,
			      struct hbm_region **out);
/* The name goes; regions that have the memory keep it. It is free when the last of them is
 * gone. Another user's: for operators (uid 0 or the daemon's). */
HBM_API int hbm_region_unpublish(struct hbm *hbm, uint32_t uid, const char *name);

/* The memory of a committed range, the source, at another address, the target: what a kernel
 * wrote through one is read through the other once it has ended. Nothing is allocated, and
 * the memory is charged once: it is given back when the last range that has it is
 * decommitted, in any order. A range is moved by a share and a decommit of its source. */
#define HBM_SHARE_READ_ONLY 1u /* the target cannot be written, nor be loaded into (HBM_DENIED) */

struct hbm_loan;

struct hbm_share {
	struct hbm_region *source, *target;           /* of one device and slab size, or the same */
	uint64_t source_offset, target_offset, bytes; /* multiples of the slab */
	uint32_t flags;
	/* not NULL: the source is this loan, of pieces as large as the target's slabs, which is
	 * not charged for them, and read-only (HBM_SHARE_READ_ONLY), also where it is shared
	 * further. It keeps the slabs; the loan may be returned after the call. */
	struct hbm_loan *loan;
};

/* Shares, all or none. The targets are not committed (HBM_EXISTS), their sources are
 * (HBM_NOT_FOUND) and are no targets of the same call (HBM_INVALID); several targets may have
 * one source. The targets are mapped in this process at once, and may be used when the ticket
 * has ended HBM_OK. The sources may be decommitted at any time after the call; where
 * hbm_info.survives, that waits for the answer to this. HBM_DEVICE: a device call failed, here or in
 * the daemon. */
HBM_API int hbm_submit_share(struct hbm *hbm, const struct hbm_share *shares, size_t count,
			     hbm_ticket *ticket);
HBM_API int hbm_share(struct hbm *hbm, const struct hbm_share *shares, size_t count);

/* ---- Reservations ---- */

/*
 * Of each device's memory for regions a connection may reserve bytes before it commits them.
 * What it has reserved and not committed is promised to it: others cannot commit it, so a
 * commit within the reservation never lacks budget. A commit beyond it takes what is not
 * promised. What is decommitted is promised again as soon as it is free. A client that keeps
 * what it decommitted has that much less. The reservation ends with the connection.
 */
struct hbm_reserve_change {
	uint32_t device;
	int64_t bytes; /* more to be reserved; less, if negative: at most all that is */
};

/* Changes what is reserved, all or none; each device is named once. Less is always granted,
 * and at once. For more, copies of blocks that are on loan to no one make way: the ticket ends
 * when they have, also with a timeout_ms of 0. HBM_NO_SPACE: there is not enough that is free
 * and not promised, and timeout_ms is 0, or the device has never as much. Otherwise the ticket
 * waits for memory, after those that asked before, until: HBM_TIMEOUT; HBM_CANCELLED, by
 * hbm_cancel(); HBM_DRAINING, when a drain begins. HBM_LIMIT: more than limits.reserved, or a
 * timeout longer than limits.reserve_ms. */
HBM_API int hbm_submit_reserve(struct hbm *hbm, const struct hbm_reserve_change *changes,
			       size_t count, uint32_t timeout_ms, hbm_ticket *ticket);
HBM_API int hbm_reserve(struct hbm *hbm, const struct hbm_reserve_change *changes, size_t count,
			uint32_t timeout_ms);

/* A device's memory for regions, all in bytes and of one moment. */
struct hbm_device_memory {
	uint64_t capacity;
	uint64_t free;         /* that a commit could have at once */
	uint64_t promised;     /* of it: reserved, by this connection too, and not committed */
	uint64_t available;    /* of it: what a new reservation can have */
	uint64_t largest_slab; /* that `available` is enough for; 0: none */
	uint64_t returning;    /* given back or left by a client, and not free yet */
	uint64_t waiting;      /* how many reservations wait for more of it */
	uint64_t default_slab;
	bool lost;
};

/* Reads it from memory that the daemon writes and this process maps for reading. The first
 * call on a connection asks the daemon for that; any other makes no system call, and may be
 * made while another thread uses the connection. HBM_UNSUPPORTED: an older daemon, which has
 * none. -EAGAIN: the daemon was writing all the time, or ended while it was. */
HBM_API int hbm_device_memory(struct hbm *hbm, uint32_t device, struct hbm_device_memory *out);

/* ---- Cache ---- */

/* Strings have at most HBM_WIRE_NAME_BYTES - 1 bytes; NULL means "". Namespaces that differ
 * in any field share no block. */
struct hbm_namespace_options {
	const char *model, *layout, *salt;
	uint64_t weights;
	uint64_t block_bytes; /* any number; in a tier a block takes these in whole 4 KiB */
	/* HBM_ENCODING_LOSSLESS: the daemon encodes blocks on the way to NVMe, as numbers of
	 * element_bytes: 1, 2 or 4; 0: 2. FP8, INT8, INT4: the caller encodes blocks before it
	 * stores them, and decodes them after it loads them; they were of logical_bytes. */
	enum hbm_encoding encoding;
	uint32_t element_bytes;
	uint64_t logical_bytes;
	/* Its blocks are dropped, pinned or not, when the last connection that has it open
	 * closes it or ends, the process killed or not. */
	bool ephemeral;
	/* Its blocks stay in memory: they are never written to NVMe, and what does not fit in DDR
	 * is dropped. A call that would have them there is refused with HBM_INVALID. With it, it
	 * is another namespace than without. */
	bool memory_only;
	/* The bytes of its blocks are overwritten in HBM, DDR and the NVMe file before the space is
	 * used again: when a block is evicted, dropped or moved. It is another namespace than
	 * without. */
	bool wipe_on_free;
	/* For ranks that each have a part of what a key stands for, as in tensor parallelism: the
	 * namespaces with the same group, model, weights and salt, at most HBM_WIRE_GROUP_MAX, which
	 * their layouts tell apart. A use of a block is a use of the blocks of its key in all of
	 * them, and one that is evicted from the cache in one of them is dropped in the others, but
	 * where it is pinned, being stored, or to be kept longer: durable, or retained with a higher
	 * priority. What is removed is removed in one alone. It is another namespace than without.
	 * NULL: none. HBM_LIMIT: the group is full. */
	const char *group;
};

HBM_API int hbm_namespace_open(struct hbm *hbm, const struct hbm_namespace_options *options,
			       uint32_t *ns);
/* Opens an existing namespace by its number; for operators (uid 0 or the daemon's). */
HBM_API int hbm_namespace_attach(struct hbm *hbm, uint32_t ns, uint64_t *block_bytes);
HBM_API int hbm_namespace_close(struct hbm *hbm, uint32_t ns);
/* What was dropped or evicted; bytes as stored. */
struct hbm_amount {
	uint64_t blocks, bytes;
};

/* Drops every block of the namespace, as after a change of the weights. The namespace stays
 * open. Its blocks are misses for every session as soon as the request is handled. Stores
 * into it before the ticket ends are refused with HBM_NOT_FOUND. flags: 0: refused with
 * HBM_DENIED while others pin blocks of it. HBM_WIRE_PINNED, for operators: drops pinned
 * blocks too. After a start of the daemon it waits, as HBM_WIRE_REMOVE does, until all that was in
 * the tiers before is found again: HBM_TIMEOUT if that takes too long; and, as that does, until
 * durable blocks are gone from the disk, too: HBM_IO if that fails. dropped may be NULL. */
HBM_API int hbm_submit_namespace_drop(struct hbm *hbm, uint32_t ns, uint32_t flags,
				      struct hbm_amount *dropped, hbm_ticket *ticket);
HBM_API int hbm_namespace_drop(struct hbm *hbm, uint32_t ns, uint32_t flags,
			       struct hbm_amount *dropped);

struct hbm_segment {
	struct hbm_region *region;
	uint64_t offset, bytes;
};

struct hbm_block {
	hbm_key key;
	hbm_key parent;                     /* store: all zero for a root; load: ignored */
	const struct hbm_segment *segments; /* block_bytes of the namespace in total */
	size_t segment_count;
	/* store: where it goes, or the next tier below that exists, without a use of it;
	 * HBM_TIER_NONE: where the policy puts it, which is the top. load: ignored */
	enum hbm_tier tier;
	/* store, of a root: it is pinned from the moment it is there, or HBM_LIMIT and not
	 * stored. load: ignored */
	bool pin;
	/* store: if its segments are whole slabs of regions, all of one size, these slabs are lent
	 * to the caller's user as they are, with that size as `piece`, also after the region has
	 * given them back; the caller must not write to them any more. A block that exists, or
	 * that may not be lent for lack of room, is only stored; HBM_DENIED: another user has
	 * published such a slab, or it was published for a group. load: ignored */
	bool lend;
	/* store: its result comes when its bytes and its record are on the disk, HBM_OK or
	 * HBM_EXISTS: from then on a power cut does not take it. It goes to NVMe and is never moved
	 * up: loads read it there. It is evicted and removed as any other block (`pin` keeps it).
	 * tier: HBM_TIER_NONE or HBM_TIER_NVME. HBM_NO_SPACE: it was dropped meanwhile. HBM_IO: the
	 * disk did not take it; it may be there or not, and a store of it tries again.
	 * HBM_UNSUPPORTED: there is no NVMe, no catalog or no checksums; HBM_INVALID: the namespace
	 * is ephemeral, or stays in memory. load: ignored */
	bool durable;
};

/* Each is optional: HBM_WIRE_NO_FENCE as the slot, or 0 as failed_slot. HBM_NO_FENCES has
 * none. */
struct hbm_sync {
	uint32_t ready_slot; /* the daemon starts when this fence has reached ready_value */
	/* the daemon sets this fence to fence_value when the request ends, with any status */
	uint32_t fence_slot;
	uint64_t ready_value, fence_value;
	/* Before that, the daemon sets this one to the number of blocks that failed: a stream
	 * that has waited for the fence reads here whether the blocks are what it asked for. A
	 * result other than HBM_OK and HBM_EXISTS is a failure; of a refused request all blocks
	 * have failed. 1 to HBM_WIRE_FENCES - 1, not fence_slot; 0: none. */
	uint32_t failed_slot;
};
#ifdef __cplusplus
#define HBM_NO_FENCES ((const struct hbm_sync *)0)
#else
#define HBM_NO_FENCES (&(const struct hbm_sync){HBM_WIRE_NO_FENCE, HBM_WIRE_NO_FENCE, 0, 0, 0})
#endif

struct hbm_lookup {
	uint32_t resident; /* length of the leading run of resident blocks */
	/* estimated time to load that run, from measured bandwidths: those of the
	 * transfers so far, before the first those of a probe at startup */
	uint64_t load_ns;
};

/*
 * Array calls. `results` has room for `count` results and must stay valid until the ticket
 * ends; it may be NULL. If the ticket ends HBM_OK, it has the status of each block, which
 * may be another: HBM_MISS if the block is not in the cache, HBM_EXISTS if it already is.
 *
 * A call may have any number of keys and blocks; only what one block has is limited, by
 * limits.block_segments, and to the segments that fit in a message (HBM_LIMIT). What is larger
 * than a message (8,189 keys, 2,047 blocks of one segment) is sent as several requests, at
 * most half of requests_in_flight at a time: a submit that has more of them to send handles
 * replies meanwhile. It remains one call, with one ticket: the ready fence holds for all of it,
 * the other fences are set once, when all of it has ended, and it is cancelled as a whole. If
 * the daemon refuses a part, for a segment that is not committed or a limit, the ticket ends
 * with the status of the first that it has refused, and `results` has that status for the
 * blocks of a refused part, and for all others what has become of them; HBM_SHUTDOWN: the
 * connection ended before that was known.
 *
 * If hbm_submit_X() does not return 0, nothing was sent and no fence will be set.
 *
 * sync may be NULL: start at once, set no fence. Do not write (store) or read (load) the
 * segments between the submit and the end of the ticket or its fence.
 */
HBM_API int hbm_submit_lookup(struct hbm *hbm, uint32_t ns, const hbm_key *keys, size_t count,
			      struct hbm_lookup *answer, hbm_result *results, hbm_ticket *ticket);
HBM_API int hbm_lookup(struct hbm *hbm, uint32_t ns, const hbm_key *keys, size_t count,
		       struct hbm_lookup *answer, hbm_result *results);
HBM_API int hbm_submit_store(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
			     size_t count, const struct hbm_sync *sync, hbm_result *results,
			     hbm_ticket *ticket);
HBM_API int hbm_store(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		      hbm_result *results);
HBM_API int hbm_submit_load(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
			    size_t count, const struct hbm_sync *sync, hbm_result *results,
			    hbm_ticket *ticket);
HBM_API int hbm_load(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
		     hbm_result *results);
/* An address of this process, as the offset of a segment without a region. */
#define HBM_ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))

/* The same from, and to, memory of this process that is in no region: of each segment, region is
 * NULL and offset HBM_ADDRESS() of its first byte. The bytes pass through a bounce buffer, a host
 * region of 8 MiB, or of four blocks if that is more, that the first such call makes and
 * hbm_close() gives back; they are copied by this process, within this call and those that
 * dispatch and wait, while the daemon works on others. So there are no fences, `lend` has no
 * effect, and such a call goes on only while the connection is used. Until the ticket has ended
 * the memory is not to be written (store) or used (load); blocks and segments themselves are
 * copied. The bytes of a block that is not loaded stay as they are. Status and results are as of
 * a call that is sent as several requests. HBM_UNSUPPORTED: the daemon has no host memory for
 * regions (ddr.regions). Memory in a host region saves the copy. */
HBM_API int hbm_submit_store_from(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
				  size_t count, hbm_result *results, hbm_ticket *ticket);
HBM_API int hbm_store_from(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
			   size_t count, hbm_result *results);
HBM_API int hbm_submit_load_to(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks,
			       size_t count, hbm_result *results, hbm_ticket *ticket);
HBM_API int hbm_load_to(struct hbm *hbm, uint32_t ns, const struct hbm_block *blocks, size_t count,
			hbm_result *results);
/* Moves blocks to the HBM tier of `device`, or to DDR for HBM_DEVICE_HOST, and counts as a use of
 * them. The ticket ends when they have arrived. */
HBM_API int hbm_submit_prefetch(struct hbm *hbm, uint32_t ns, uint32_t device, const hbm_key *keys,
				size_t count, uint64_t deadline_us, hbm_result *results,
				hbm_ticket *ticket);
HBM_API int hbm_prefetch(struct hbm *hbm, uint32_t ns, uint32_t device, const hbm_key *keys,
			 size_t count, uint64_t deadline_us, hbm_result *results);

/* ---- Loans ---- */

/*
 * A block that is borrowed is not copied into memory of the caller: the daemon has a copy of
 * it in device memory, one for all processes of a user, and each maps it read-only. It stays
 * as it is until it is returned, whatever becomes of the block. A loan (struct hbm_loan) is
 * owned by its connection.
 *
 * piece: 0: the block lies somewhere in a slab, beside others. 2 MiB << k, a divisor of
 * block_bytes: each piece of so many bytes is a slab of its own, which can be mapped at any
 * address that the caller has reserved.
 *
 * Nothing keeps a process from mapping what it borrowed with write access, by other means
 * than this library: the memory is lent to processes of one user only.
 */
/* Borrows blocks, and counts as a use of them: when the ticket has ended HBM_OK, loans[i] is
 * the loan of keys[i], or NULL, and results[i] says why. `loans` and `results`, which may be
 * NULL, must stay valid until then. At most HBM_WIRE_FDS_MAX pieces in all. Results:
 * HBM_MISS; HBM_NO_SPACE: all that may be lent is on loan; HBM_LIMIT. HBM_UNSUPPORTED: the
 * daemon lends nothing (device.lend). -EMFILE: this process has no descriptors left;
 * nothing is borrowed. There is no fence: the blocks are there when the ticket has ended. */
HBM_API int hbm_submit_borrow(struct hbm *hbm, uint32_t ns, uint32_t device, uint64_t piece,
			      const hbm_key *keys, size_t count, struct hbm_loan **loans,
			      hbm_result *results, hbm_ticket *ticket);
HBM_API int hbm_borrow(struct hbm *hbm, uint32_t ns, uint32_t device, uint64_t piece,
		       const hbm_key *keys, size_t count, struct hbm_loan **loans,
		       hbm_result *results);
/* Unmaps loans and returns them; they are freed. The caller must first synchronise every
 * stream that reads them. HBM_INVALID: one is no loan of this connection, or named twice, and
 * all are as before. After an errno they are freed, too, and the daemon has them back when
 * the connection ends. */
HBM_API int hbm_submit_return(struct hbm *hbm, struct hbm_loan *const *loans, size_t count,
			      hbm_ticket *ticket);
HBM_API int hbm_return(struct hbm *hbm, struct hbm_loan *const *loans, size_t count);
/* Maps the loan read-only, as one range, at an address that stays until it is returned. */
HBM_API int hbm_loan_map(struct hbm *hbm, struct hbm_loan *loan, uint64_t *address);
/* Where that is for this process's own loads: on soft devices alone, where nothing orders them with a
 * stream. NULL: its memory is a GPU's, or it is not mapped so. */
HBM_API const void *hbm_loan_host(const struct hbm_loan *loan);
/* Maps one piece that is a slab of its own read-only at an address that the caller has
 * reserved (cuMemAddressReserve). It is unmapped when the loan is returned. HBM_INVALID: it is
 * no such piece. HBM_EXISTS: it is mapped by this call already. */
HBM_API int hbm_loan_map_piece(struct hbm *hbm, struct hbm_loan *loan, uint32_t piece,
			       uint64_t address);
HBM_API uint64_t hbm_loan_bytes(const struct hbm_loan *loan);
HBM_API uint32_t hbm_loan_pieces(const struct hbm_loan *loan);

/* op is one of:
 * HBM_WIRE_TOUCH: counts as a use of the blocks;
 * HBM_WIRE_PIN: keeps them from being evicted until as many UNPINs, or until the session
 * ends;
 * HBM_WIRE_UNPIN: removes one pin for each time a key is named; HBM_NOT_FOUND if none is
 * left;
 * HBM_WIRE_REMOVE: drops them and their descendants; ends when all are gone, durable ones also from
 * the disk. HBM_IO: that failed, or took longer than nvme.timeout_ms: they are gone, but may be found
 * again after a restart. So may blocks that are not durable after a kill or a power cut.
 * flags: 0, or HBM_WIRE_KEEP for PIN and UNPIN: such pins stay when the session ends, and when a
 * daemon does whose sessions survive. If that one does not answer, it is not known whether it was
 * done: the call ends with HBM_SHUTDOWN. */
HBM_API int hbm_submit_keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint32_t flags,
			    const hbm_key *keys, size_t count, hbm_result *results,
			    hbm_ticket *ticket);
HBM_API int hbm_keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint32_t flags,
		     const hbm_key *keys, size_t count, hbm_result *results);

/* Retains blocks, with all their ancestors: they are evicted from a tier when nothing of a lower
 * priority is left there. It is no pin: they are used, moved and removed as any other. priority:
 * 1 to HBM_WIRE_PRIORITY_MAX, the last to go; all others have 0. for_us: from now, in us; 0: as
 * long as limits.retain_ms allows. Then a block is as one that was used last. What is retained
 * already stays so with the higher priority and until the later end. A user has so much in each
 * tier (limits.retained): what it retains beyond that is in the tier as any other.
 * With the priority 0 they are released; a chain from its tail. It stays when the session ends, and
 * when a daemon does whose sessions survive, for blocks that do.
 * Results: HBM_LIMIT: it, or an ancestor, exceeds what the user may retain in the tier where it is,
 * or of blocks (limits.retained_total, retained_per_user); nothing of it has changed. HBM_DENIED:
 * another user retains it, or what continues it is retained. HBM_MISS. */
HBM_API int hbm_submit_retain(struct hbm *hbm, uint32_t ns, uint32_t priority, uint64_t for_us,
			      const hbm_key *keys, size_t count, hbm_result *results,
			      hbm_ticket *ticket);
HBM_API int hbm_retain(struct hbm *hbm, uint32_t ns, uint32_t priority, uint64_t for_us,
		       const hbm_key *keys, size_t count, hbm_result *results);

/* What has happened to the blocks of a namespace since the last call, the oldest first: `count` of
 * at most `room` events, and at most HBM_WIRE_WATCH_MAX; ask again while count is not 0. *position
 * says where the caller is, and is moved on. Begin with 0: no events, only where they begin; the
 * daemon keeps events of the namespace from then on, for all that ask, until it has neither
 * blocks nor users. It keeps the last 2,048; *missed are those before the first that is here which
 * it does not have any more: what they told of is then to be looked up. After a daemon has ended
 * whose sessions survive, *missed is HBM_WIRE_MISSED_UNKNOWN once: any may be missed.
 * HBM_LIMIT: limits.watched; HBM_NOT_FOUND: the namespace is not open; HBM_INVALID: there is no such
 * position. */
HBM_API int hbm_watch(struct hbm *hbm, uint32_t ns, uint64_t *position,
		      struct hbm_wire_cache_event *events, size_t room, size_t *count,
		      uint64_t *missed);

/* Moves blocks to a tier, of HBM to that of `device` (else 0), or to the next one below it that
 * exists, without a use of them; their ancestors stay. Pinned ones stay pinned. The ticket ends
 * when it is decided; the bytes follow, and blocks can be loaded all the time. Results:
 * HBM_LIMIT: it is pinned, and there are too many pinned bytes in that tier. HBM_DENIED: it is
 * durable, and stays in NVMe. HBM_MISS. */
HBM_API int hbm_submit_move(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
			    const hbm_key *keys, size_t count, hbm_result *results,
			    hbm_ticket *ticket);
HBM_API int hbm_move(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
		     const hbm_key *keys, size_t count, hbm_result *results);
/* The same by a deadline, in us from now; 0: none. Moves that have one begin in the order of
 * their deadlines, among those of a session, and one that cannot be met any more begins behind
 * all that can. It is the time that the last of the keys is to be there; it promises nothing.
 * Blocks that wait for a move already keep their place, and moves to a disk have no deadline. */
HBM_API int hbm_submit_move_by(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
			       uint64_t deadline_us, const hbm_key *keys, size_t count,
			       hbm_result *results, hbm_ticket *ticket);
HBM_API int hbm_move_by(struct hbm *hbm, uint32_t ns, enum hbm_tier tier, uint32_t device,
			uint64_t deadline_us, const hbm_key *keys, size_t count,
			hbm_result *results);

/* For operators (uid 0 or the daemon's): evicts the least recently used blocks of a tier,
 * at least `bytes` of them. evicted may be NULL. */
HBM_API int hbm_evict(struct hbm *hbm, enum hbm_tier tier, uint32_t device, uint64_t bytes,
		      struct hbm_amount *evicted);
HBM_API int hbm_ping(struct hbm *hbm);
/* Ends the session of that number (HBM_QUERY_SESSIONS), as if its client had hung up. What
 * it has comes back as after that: device memory when its process ends. For operators;
 * HBM_NOT_FOUND: it has ended, or never was. */
HBM_API int hbm_session_end(struct hbm *hbm, uint64_t session);
/* Sets a key of a tenant (HBM_QUERY_TENANTS), as a line of the configuration would, until the
 * daemon reads that again: see hbmd.conf(5). Nothing is taken back that is used beyond a new
 * limit. For operators. HBM_NOT_FOUND: there is no such tenant; HBM_INVALID: no such key, or
 * not that value, or one of them is longer than the protocol carries. */
HBM_API int hbm_tenant_set(struct hbm *hbm, const char *tenant, const char *key, const char *value);
/* Makes a tier larger or smaller, until the daemon restarts; returns when that is over. The daemon
 * serves meanwhile, and goes on with it if the caller does not wait. device: of HBM, else 0. For
 * operators. HBM_NO_SPACE, and it has its old size: it has more pinned bytes than that, or there is
 * not so much memory; HBM_IO: the disk does not answer, and the tier has its old size, or the new one
 * if that is smaller; HBM_CANCELLED: another resize has come. */
HBM_API int hbm_resize(struct hbm *hbm, enum hbm_tier tier, uint32_t device, uint64_t bytes);
/* Drains the daemon: from now on it grants no memory (HBM_DRAINING: commits, new regions, loans),
 * what the cache has in memory goes to NVMe, and when nothing is leased any more it stops: then the
 * ticket ends with 0. timeout_ms: 0: none; HBM_TIMEOUT: something is left, hbm_error() says what, and
 * the daemon serves as before. It goes on when this connection ends. For operators. HBM_EXISTS: one
 * goes on. */
HBM_API int hbm_submit_drain(struct hbm *hbm, uint64_t timeout_ms, hbm_ticket *ticket);
/* Ends a drain, whose ticket ends with HBM_CANCELLED. What has been moved or dropped stays so.
 * HBM_NOT_FOUND: there is none. */
HBM_API int hbm_drain_cancel(struct hbm *hbm);
/* Asks another session to suspend or resume a sequence (HBM_QUERY_SEQUENCES), 0: all of its
 * sequences; it decides whether and when. tier: where they are to be suspended to;
 * HBM_TIER_NONE: where it likes, and to resume. For operators. HBM_NOT_FOUND: there is no such
 * session, or it shows no sequences; HBM_LIMIT: it does not read what it is sent. */
HBM_API int hbm_ask(struct hbm *hbm, uint64_t session, uint64_t sequence, enum hbm_ask ask,
		    enum hbm_tier tier);

/* ---- Device code ---- */

/*
 * Kernels of the library, launched on a stream of the caller, in order with its other work:
 * a call returns when the work is queued, and only the caller knows when it is done. The
 * stream is a CUstream of the primary context of `device`, which is the daemon's number.
 * Addresses are those of that device, of regions or of any other memory it can reach.
 * The daemon takes no part.
 *
 * The device code is loaded when it is first used on a device. Where the driver refuses it,
 * hbm_gather() and the like queue plain copies instead, one for each piece.
 *
 * HBM_INVALID: ranges that overflow. HBM_DEVICE: a call of the driver failed: an address
 * that is no device memory is only found when the kernel runs, and ruins the context.
 */
struct hbm_piece {
	uint64_t address, bytes; /* neither needs an alignment */
};

/* Rows of equal size: row i at address + i * stride. */
struct hbm_rows {
	uint64_t address, stride, row_bytes, count;
};

/* Copies pieces, in order and without gaps, to the range of device memory at `flat`, or
 * back. It is as long as the pieces together, and overlaps none of them; in a scatter they
 * do not overlap each other. Fastest where a piece and its part of the range are equal
 * modulo 16. */
HBM_API int hbm_gather(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces,
		       size_t count, uint64_t flat, void *stream);
HBM_API int hbm_scatter(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces,
			size_t count, uint64_t flat, void *stream);
HBM_API int hbm_gather_rows(struct hbm *hbm, uint32_t device, const struct hbm_rows *rows,
			    uint64_t flat, void *stream);
HBM_API int hbm_scatter_rows(struct hbm *hbm, uint32_t device, const struct hbm_rows *rows,
			     uint64_t flat, void *stream);

/* The 64-bit checksum of what the pieces hold in order, written to the 8 bytes of device
 * memory at `sum`: for each unit n of 16 bytes, two little-endian words a and b, the
 * halves of the 128-bit product
 * 	(a ^ (0x9e3779b97f4a7c15 * (n + 1))) *
 * 	(b ^ (0xbf58476d1ce4e5b9 + 0xd1b54a32d192ed03 * n))
 * xored; of all units the sum, modulo 2^64. Against accidents, not against forgers.
 * Addresses and sizes of pieces are multiples of 16, `sum` of 8, else HBM_INVALID.
 * HBM_UNSUPPORTED: the driver refuses the device code. */
HBM_API int hbm_checksum(struct hbm *hbm, uint32_t device, const struct hbm_piece *pieces,
			 size_t count, uint64_t sum, void *stream);

/* ---- Encodings ---- */

/*
 * Blocks of fewer bytes for the cache, made by kernels on a stream of the caller, as above;
 * what the daemon stores is the encoded block. The namespace has the encoding, so that no
 * block is taken for one of another:
 *
 * open:	hbm_namespace_open() with the encoding, block_bytes = hbm_encoded_bytes() and
 * 		logical_bytes = hbm_encoded_bytes() for HBM_ENCODING_RAW.
 * store:	hbm_encode() to a committed range of a region; hbm_submit_store() of that range,
 * 		when the stream is done or with a ready fence that it sets.
 * load:	hbm_load() or hbm_submit_load() to such a range; when it has ended, or behind its
 * 		fence on the stream, hbm_decode().
 *
 * RAW, LOSSLESS: the numbers as they are, gathered; what LOSSLESS saves, the daemon saves.
 * Where the driver refuses the device code, copies take its place; nothing takes that of the
 * others.
 *
 * FP8: e4m3, with a scale for each head of each plane: its largest magnitude, amax, becomes
 * 448 (Micikevicius et al., FP8 Formats for Deep Learning, 2022). A number comes back with
 * an error of at most 1/16 of its magnitude or, below amax / 28672, of amax / 458752. NaN
 * stays NaN; infinities become amax. A head whose amax is below 2^-110 may come back as 0.
 * 0.50 of the bytes.
 *
 * INT8, INT4: `group` numbers share the lowest of them and a step, of 16 bits each: keys of
 * a channel, which few channels far larger than the rest leave alone; values of a token
 * (Liu et al., KIVI, 2024; Hooper et al., KVQuant, 2024). A number comes back with an error
 * of at most half a step: of 1/510 of the group's range with INT8, of 1/30 with INT4, as the
 * step is rounded up by at most 1/128 (bf16), or by 1/1024 or 2^-24 (fp16). NaN comes back as the lowest
 * number of its group, infinities as the lowest or the highest; finite numbers stay finite.
 * 0.53 and 0.31 of the bytes, if a block has as many tokens as a group has numbers; more
 * with fewer.
 *
 * Beside these errors, what comes back is rounded to bf16 or fp16: by 2^-8 or 2^-11 of its
 * magnitude. The same numbers give the same bytes, whatever the device: unused bytes of an
 * encoded block are zeros. Encoding what was decoded need not.
 */
enum hbm_number { HBM_NUMBER_BF16, HBM_NUMBER_FP16 };

/* What a block holds: for each layer a plane of keys and one of values, each
 * [tokens][heads][head_dim], contiguous. A cache that is [heads][tokens][head_dim] has
 * layers * heads layers of one head here. Blocks have at most 2^48 bytes. */
struct hbm_kv_shape {
	uint32_t layers, tokens, heads, head_dim; /* heads of KV, not of queries */
	enum hbm_number number;
	uint32_t group; /* even; 0: 64 for INT8, 32 for INT4; other encodings ignore it */
	bool keys_only; /* no planes of values, as of the latents of MLA */
};

/* Device addresses of a layer's planes, aligned to 2 bytes; keys_only: values is ignored. */
struct hbm_kv_layer {
	uint64_t keys, values;
};

/* Bytes of an encoded block, a multiple of 4 KiB. 0: the shape has no numbers or too many,
 * its group is odd, or there is no such encoding. */
HBM_API uint64_t hbm_encoded_bytes(enum hbm_encoding encoding, const struct hbm_kv_shape *shape);
/* Encodes what is at `layers`, an array of shape->layers, to hbm_encoded_bytes() of device
 * memory at `encoded`, or decodes it back. `encoded` is aligned to 16 bytes, and overlaps no
 * plane. The arrays are read before the call returns. HBM_UNSUPPORTED: the driver refuses
 * the device code of FP8, INT8 or INT4: use RAW. Nothing was queued then. */
HBM_API int hbm_encode(struct hbm *hbm, uint32_t device, enum hbm_encoding encoding,
		       const struct hbm_kv_shape *shape, const struct hbm_kv_layer *layers,
		       uint64_t encoded, void *stream);
HBM_API int hbm_decode(struct hbm *hbm, uint32_t device, enum hbm_encoding encoding,
		       const struct hbm_kv_shape *shape, const struct hbm_kv_layer *layers,
		       uint64_t encoded, void *stream);

/* ---- Compaction ---- */

/* Copies the tokens or heads that an engine keeps, in the order of `indices`, from planes of
 * `shape` to planes of `kept` tokens or heads, which overlap none of the first. `indices` is
 * device memory, aligned to 4 bytes: `kept` numbers of 32 bits, the same for all layers; for
 * a choice of its own each layer has a call of its own, with shape->layers 1. An index that
 * does not exist leaves its token or head as it was. kept: at most as many as there are.
 * HBM_UNSUPPORTED: the driver refuses the device code. */
HBM_API int hbm_compact_tokens(struct hbm *hbm, uint32_t device, const struct hbm_kv_shape *shape,
			       const struct hbm_kv_layer *from, const struct hbm_kv_layer *to,
			       uint64_t indices, uint32_t kept, void *stream);
HBM_API int hbm_compact_heads(struct hbm *hbm, uint32_t device, const struct hbm_kv_shape *shape,
			      const struct hbm_kv_layer *from, const struct hbm_kv_layer *to,
			      uint64_t indices, uint32_t kept, void *stream);

/* ---- Landing ---- */

/*
 * Blocks of many small segments travel faster over the link as one piece: by way of a
 * landing, a committed range of a region, which kernels scatter from after a load and
 * gather to before a store. Used with the calls above:
 *
 * load:	hbm_landing_plan(); hbm_load() or hbm_submit_load() of `landed`; when it has
 * 		ended, or behind its fence on the stream, hbm_landing_scatter().
 * store:	hbm_landing_plan(); hbm_landing_gather(); hbm_submit_store() of `landed`, when
 * 		the stream is done or with a ready fence that it sets.
 */
#define HBM_LANDING_THRESHOLD (28u << 10) /* copies of fewer bytes cost more than their bytes */

struct hbm_landing {
	struct hbm_region *region; /* on the device of the blocks */
	uint64_t offset, bytes;
	/* blocks whose segments have fewer bytes on average land; 0: HBM_LANDING_THRESHOLD */
	uint64_t threshold;
};

/* Writes `count` blocks to `landed`, and a segment of the landing to segments[i] for each
 * block i that lands: they lie one after the other, as long as there is room. All others
 * are as they were: landed[i].segments is blocks[i].segments. Sends nothing.
 * HBM_INVALID: a segment or the landing is in no region of this connection, on another
 * device, or beyond the end of its region. HBM_UNSUPPORTED: of host memory. */
HBM_API int hbm_landing_plan(struct hbm *hbm, const struct hbm_landing *landing,
			     const struct hbm_block *blocks, size_t count, struct hbm_block *landed,
			     struct hbm_segment *segments);
/* Queues what copies the landed blocks, as hbm_scatter() and hbm_gather() do, on a stream of
 * their device. results: those of the load; blocks with another status than HBM_OK are left
 * out. NULL: all are copied, and a block that was not loaded becomes what the landing held. */
HBM_API int hbm_landing_scatter(struct hbm *hbm, const struct hbm_block *blocks,
				const struct hbm_block *landed, const hbm_result *results,
				size_t count, void *stream);
HBM_API int hbm_landing_gather(struct hbm *hbm, const struct hbm_block *blocks,
			       const struct hbm_block *landed, size_t count, void *stream);

/* ---- Admission ---- */

/* A sequence: it has `present` tokens and gets `to_come` more, one in each step of the batch;
 * then it ends and frees all. A token takes token_bytes; memory is taken in slabs of
 * slab_bytes (0: by the byte). */
struct hbm_sequence_demand {
	uint64_t present, to_come;
	uint64_t token_bytes, slab_bytes;
};

/*
 * How many of the candidates, in their order, can run beside what runs so that at no future
 * step all together need more than `free_bytes`. It is the bytes that the running sequences
 * may have in all, those they have now included. Pure arithmetic, without a connection.
 *
 * Let sequence i have p tokens, of b bytes each, and r to come. Before the step t + 1 it has
 * p + t tokens if t <= r, and none if t > r. The need of all,
 *
 * 	N(t) = sum over all i with r(i) >= t of bytes(p(i) + t)
 *
 * grows between two ends of sequences and falls at an end alone: its largest value is at some
 * t = r(j). So the peak is the largest N(r(j)) over all j; with sequences in the order of
 * falling r, those that count at r(j) are the first j of the order, and by the byte
 *
 * 	N(r(j)) = sum of b(i) p(i) over i <= j  +  r(j) * sum of b(i) over i <= j
 *
 * (Gong et al., LightLLM's past-future scheduler, 2025). It is never more than the sum of the
 * maxima, bytes(p(i) + r(i)), and less where sequences end at different times. With slabs,
 * bytes() rounds up: a sequence then counts with at most slab_bytes - 1 more than p + t
 * tokens take, or with its own maximum where that is less at its own end; the answer stays on
 * the safe side of the exact need, and admits no more than fits.
 *
 * n sequences take O(n log n). HBM_INVALID: a sequence whose bytes overflow. -ENOMEM.
 */
HBM_API int hbm_admit(uint64_t free_bytes, const struct hbm_sequence_demand *running,
		      size_t running_count, const struct hbm_sequence_demand *candidates,
		      size_t candidate_count, size_t *admitted);
/* The peak itself. */
HBM_API int hbm_peak_demand(const struct hbm_sequence_demand *sequences, size_t count,
			    uint64_t *bytes);

/* ---- Inspection ---- */

/* Calls `each` for every record of a kind, a struct of wire.h. record_bytes is how
 * many bytes of it the daemon sent. Members beyond that are 0: an older daemon does not
 * know them, and some are for operators only. The record is valid until `each` returns;
 * `each` may use the connection. If `each` returns non-zero, the walk ends and returns
 * that. */
typedef int hbm_record_fn(const void *record, size_t record_bytes, void *arg);
HBM_API int hbm_query(struct hbm *hbm, enum hbm_wire_query_kind kind, hbm_record_fn *each,
		      void *arg);

#ifdef __cplusplus
}
#endif
#endif
