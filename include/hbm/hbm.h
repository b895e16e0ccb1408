/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbm.h: the client library of hbmd. A serving process connects, gets regions of GPU
 * memory mapped at addresses that never change, and asks the daemon to store, find and
 * load KV blocks in its shared cache.
 *
 * Every operation that takes time exists as hbm_submit_X(), which returns a ticket, and
 * hbm_X(), which is submit and wait. Tickets end inside hbm_dispatch() or hbm_wait(),
 * also in those of another ticket, and in every other call that waits for the daemon,
 * hbm_close() included; hbm_fd() polls readable when there is something to dispatch. A
 * submit waits while all but one of hbm_info's requests_in_flight are under way, and
 * handles replies meanwhile, so an event loop calls hbm_dispatch(hbm, 0) before it sleeps
 * on hbm_fd(). One connection is for one thread at a time: callers that share one lock
 * around it, and only hbm_fence_signal() needs none; several connections in a process are
 * independent. The library never prints, never exits, never touches signals and starts no
 * thread.
 *
 * Return values: 0 done; positive, an enum hbm_status: refused, and nothing has changed;
 * negative errno: the connection or this process failed. hbm_strerror() names all of
 * them. Outputs are untouched unless a function returns 0 or says otherwise.
 *
 * A connection ends when the daemon goes (-ENOTCONN) or breaks the protocol (-EPROTO).
 * Every ticket then ends with that error, and later calls with -ENOTCONN. Regions stay
 * mapped and fences readable until hbm_close(); fences that the daemon had not set stay
 * as they are.
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
struct hbm_region; /* a range of device addresses, owned by its connection */
typedef uint64_t hbm_ticket;
typedef struct hbm_wire_key hbm_key;
typedef struct hbm_wire_result hbm_result;

/* ---- Connection ---- */

struct hbm_options {
	const char *socket; /* NULL: $HBM_SOCKET, else HBM_DEFAULT_SOCKET */
	const char *name;   /* shown by hbmctl sessions; NULL: the process's name */
	bool inspect_only;  /* do not open a device driver: regions are refused, queries work */
	/* how long a daemon may say nothing while it is asked something; then the
	 * connection ends with -ETIMEDOUT. 0: for ever. What takes a ticket is waited
	 * for with hbm_wait(). */
	uint32_t answer_ms;
};

struct hbm_info {
	uint64_t session;
	uint8_t boot_id[16]; /* changes when the daemon restarts */
	enum hbm_driver driver;
	uint32_t devices;
	uint32_t requests_in_flight, regions; /* limits of this session */
};

/* Connects; options may be NULL. *out is to be closed with hbm_close(). -ECONNREFUSED,
 * -ENOENT: no daemon there; -EMFILE: no descriptors left in this process. */
HBM_API int hbm_connect(struct hbm **out, const struct hbm_options *options);
/* Unmaps and frees all; the caller has synchronised every stream that uses a region or a
 * fence. What has not begun is cancelled, what has begun is waited for; but not for a
 * daemon that says nothing for 10 s: what it leased to us is then given to others when
 * this process has ended. In a child made by fork() it only closes the child's
 * descriptors: the connection goes on in the parent, and any other call on it in the
 * child is refused with -EPERM (hbm_fence(): NULL). Takes NULL, returns NULL. */
HBM_API struct hbm *hbm_close(struct hbm *hbm);
HBM_API const struct hbm_info *hbm_info(const struct hbm *hbm);
/* What this process calls the daemon's device, for cuDeviceGet(): either may see other
 * devices, or in another order (CUDA_VISIBLE_DEVICES). -ENODEV: this process does not see
 * it. */
HBM_API int hbm_device_ordinal(struct hbm *hbm, uint32_t device, int *ordinal);
/* A borrowed fd that polls readable when hbm_dispatch() has something to do. */
HBM_API int hbm_fd(const struct hbm *hbm);
/* Handles replies that have arrived; if no ticket has ended, waits for one at most
 * timeout_ms (-1: for ever). Returns how many have ended since the last call and were not
 * given back; or negative errno: the connection has ended. */
HBM_API int hbm_dispatch(struct hbm *hbm, int timeout_ms);
/* Waits for a ticket and gives it back: its status, -ETIMEDOUT (the ticket lives on),
 * -EINVAL (no such ticket). */
HBM_API int hbm_wait(struct hbm *hbm, hbm_ticket ticket, int timeout_ms);
/* Like hbm_wait(ticket, 0), without reading from the socket: -EAGAIN while the ticket has
 * not ended. */
HBM_API int hbm_poll(struct hbm *hbm, hbm_ticket ticket);
/* Takes back a store or load that still waits for its ready fence. 0: its ticket has
 * ended HBM_CANCELLED, to be given back like any other; nothing was stored or loaded, and
 * its other fence is set. HBM_NOT_FOUND: it has begun or ended, or is a request of
 * another kind; its ticket ends by itself. -EINVAL: no such ticket. */
HBM_API int hbm_cancel(struct hbm *hbm, hbm_ticket ticket);
/* A static sentence for a status or a negative errno; never NULL. */
HBM_API const char *hbm_strerror(int status);
/* The constant's name ("HBM_NO_SPACE"), or NULL if there is no such status. */
HBM_API const char *hbm_status_name(int status);
/* What the last call that was refused or failed on this connection found wrong, in one
 * line; "" if there is nothing. hbm_fence_signal(), and hbm_poll() and hbm_dispatch()
 * finding nothing, leave it as it is. */
HBM_API const char *hbm_error(const struct hbm *hbm);

/* ---- Fences: 64-bit timelines shared by client and daemon, HBM_WIRE_FENCES of them. A slot is used by a request in
 * one direction; which slot is for what is the caller's choice. Memory a GPU stream may
 * wait on (hbm_fence_device). */

/* The slot's address in this process; NULL: there is no such slot. */
HBM_API volatile uint64_t *hbm_fence(struct hbm *hbm, uint32_t slot);
/* The slot's address for a stream of `device`, registered on first use, for
 * cuStreamWaitValue64 and WriteValue64. */
HBM_API int hbm_fence_device(struct hbm *hbm, uint32_t device, uint32_t slot, uint64_t *address);
/* Sets a ready fence from the CPU and rings the daemon's doorbell. May be called at any
 * time from any thread and from a host function on a stream. */
HBM_API int hbm_fence_signal(struct hbm *hbm, uint32_t slot, uint64_t value);

/* ---- Regions ---- */

struct hbm_region_options {
	uint32_t device;
	/* bytes of address space, > 0; rounded up to a multiple of the slab */
	uint64_t address_space;
	uint64_t slab; /* bytes per slab, 2 MiB << k; 0: the daemon's default */
};

struct hbm_range {
	struct hbm_region *region;
	uint64_t offset, bytes; /* multiples of the region's slab */
};

/* Reserves address space in this process and the daemon; no memory yet. */
HBM_API int hbm_region_create(struct hbm *hbm, const struct hbm_region_options *options,
			      struct hbm_region **out);
/* Unmaps, gives all memory back, frees the object. Waits, also for commits under way; on
 * return a region of this connection is gone whatever the status. */
HBM_API int hbm_region_destroy(struct hbm *hbm, struct hbm_region *region);
HBM_API uint64_t
hbm_region_address(const struct hbm_region *region); /* CUdeviceptr, stable for the region's life */
HBM_API uint64_t hbm_region_bytes(const struct hbm_region *region);
HBM_API uint64_t hbm_region_slab(const struct hbm_region *region);
HBM_API uint32_t hbm_region_device(const struct hbm_region *region);

/* Backs the ranges with memory, all or none. When the ticket has ended HBM_OK they are
 * mapped read-write here. -EMFILE: this process may not open enough descriptors, one for
 * each slab of up to HBM_WIRE_FDS_MAX at a time; everything was given back, and the
 * connection goes on. */
HBM_API int hbm_submit_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
			      hbm_ticket *ticket);
HBM_API int hbm_commit(struct hbm *hbm, const struct hbm_range *ranges, size_t count);
/* Unmaps the ranges at once and gives their memory back, all or none. The caller has
 * synchronised its streams. Should the device refuse to unmap one (HBM_DEVICE), those
 * before it are given back. */
HBM_API int hbm_submit_decommit(struct hbm *hbm, const struct hbm_range *ranges, size_t count,
				hbm_ticket *ticket);
HBM_API int hbm_decommit(struct hbm *hbm, const struct hbm_range *ranges, size_t count);

/* ---- Cache ---- */

/* Strings of at most HBM_WIRE_NAME_BYTES - 1 bytes; NULL means "". Two namespaces that
 * differ in any field share nothing. */
struct hbm_namespace_options {
	const char *model, *layout, *salt;
	uint64_t weights;
	uint64_t block_bytes; /* a multiple of 4 KiB */
};

HBM_API int hbm_namespace_open(struct hbm *hbm, const struct hbm_namespace_options *options,
			       uint32_t *ns);
HBM_API int hbm_namespace_attach(struct hbm *hbm, uint32_t ns,
				 uint64_t *block_bytes); /* by number: operators */
HBM_API int hbm_namespace_close(struct hbm *hbm, uint32_t ns);
/* Drops every block of the namespace, as after a change of the weights; it stays open. To
 * other sessions that have it open they are misses from the request on. What is stored
 * before the ticket ends is refused with HBM_NOT_FOUND. flags: 0, refused with HBM_DENIED
 * while others pin blocks of it; or HBM_WIRE_PINNED, for operators, which drops those
 * too. */
HBM_API int hbm_submit_namespace_drop(struct hbm *hbm, uint32_t ns, uint32_t flags,
				      hbm_ticket *ticket);
HBM_API int hbm_namespace_drop(struct hbm *hbm, uint32_t ns, uint32_t flags);

struct hbm_segment {
	struct hbm_region *region;
	uint64_t offset, bytes;
};

struct hbm_block {
	hbm_key key;
	hbm_key parent;                     /* store: all zero for a root; load: ignored */
	const struct hbm_segment *segments; /* their bytes add up to the namespace's block_bytes */
	size_t segment_count;
};

/* Both halves optional: slot HBM_WIRE_NO_FENCE. HBM_NO_FENCES is neither. */
struct hbm_sync {
	uint32_t ready_slot; /* the daemon starts when this fence has reached ready_value */
	/* the daemon sets this fence to fence_value when the request is over, however
	 * it ended */
	uint32_t fence_slot;
	uint64_t ready_value, fence_value;
};
#ifdef __cplusplus
#define HBM_NO_FENCES ((const struct hbm_sync *)0)
#else
#define HBM_NO_FENCES (&(const struct hbm_sync){HBM_WIRE_NO_FENCE, HBM_WIRE_NO_FENCE, 0, 0})
#endif

struct hbm_lookup {
	uint32_t resident; /* length of the leading run of resident blocks */
	uint64_t load_ns;  /* estimated time to load that run */
};

/*
 * Array calls. `results` has room for `count` and, when the ticket ends HBM_OK, says for
 * each block how it ended; it must stay valid until then. It may be NULL. A ticket that
 * ends HBM_OK may have results that are not: a block that is gone is HBM_MISS, one that
 * is there already is HBM_EXISTS. A request of more than HBM_WIRE_MESSAGE_MAX bytes is
 * HBM_LIMIT.
 *
 * A call that is refused before anything is sent (hbm_submit_X() does not return 0)
 * signals no fence.
 *
 * sync may be NULL: start at once, signal nothing. The memory of the segments must not be
 * written (store) or read (load) between submit and the end of the ticket or its fence.
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
/* Brings blocks to `device`'s HBM tier as if they had been used; the ticket ends when
 * they have arrived. */
HBM_API int hbm_submit_prefetch(struct hbm *hbm, uint32_t ns, uint32_t device, const hbm_key *keys,
				size_t count, uint64_t deadline_us, hbm_result *results,
				hbm_ticket *ticket);
HBM_API int hbm_prefetch(struct hbm *hbm, uint32_t ns, uint32_t device, const hbm_key *keys,
			 size_t count, uint64_t deadline_us, hbm_result *results);

/* op: HBM_WIRE_TOUCH (as if used), HBM_WIRE_PIN (never evicted, until as many UNPINs or
 * the session ends), HBM_WIRE_UNPIN (a key named twice takes two pins back; HBM_NOT_FOUND
 * where none is left), HBM_WIRE_REMOVE (with everything that descends from it). flags: 0,
 * or HBM_WIRE_KEEP. */
HBM_API int hbm_submit_keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint32_t flags,
			    const hbm_key *keys, size_t count, hbm_result *results,
			    hbm_ticket *ticket);
HBM_API int hbm_keys(struct hbm *hbm, enum hbm_wire_opcode op, uint32_t ns, uint32_t flags,
		     const hbm_key *keys, size_t count, hbm_result *results);

/* Operators (uid 0 or the daemon's): pushes least recently used blocks out of a tier. */
HBM_API int hbm_evict(struct hbm *hbm, enum hbm_tier tier, uint32_t device, uint64_t bytes);
HBM_API int hbm_ping(struct hbm *hbm);

/* ---- Inspection: calls `each` for every record of that kind (a struct of wire.h; record_bytes is the daemon's size of
 * it, never less than ours). The record lives until `each` returns, which may use the
 * connection. A non-zero return of `each` ends the walk and is returned. ---- */
typedef int hbm_record_fn(const void *record, size_t record_bytes, void *arg);
HBM_API int hbm_query(struct hbm *hbm, enum hbm_wire_query_kind kind, hbm_record_fn *each,
		      void *arg);

#ifdef __cplusplus
}
#endif
#endif
