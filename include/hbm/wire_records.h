/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_records: the records of QUERY, each a list of its members in the order of the wire.
 * All that is known of a member is on its line: wire.h makes the struct of it, the daemon
 * what it counts in, hbmctl its tables, --json and metrics, and a test compares the man
 * pages. So a new counter is one line here, at the end of its list, and the place that
 * counts it.
 *
 * X(R, type, member, dimension, form, place, figure, header, metric, help), where R is what
 * was given to the list, and
 *
 *   form       what the bytes are, and with that their unit:
 *              TEXT    char array, possibly full        COUNT   number
 *              DIGEST  bytes, shown as hex digits       BYTES   number of bytes
 *              UUID    of a device                      MS, NS  milli-, nanoseconds
 *              ID      uint32_t                         HASH    shown as 16 hex digits
 *              BOOL    uint32_t, 0 or 1                 MARK    number chosen by a client
 *              TIER    uint32_t, enum hbm_tier          TIERS   uint64_t for each tier
 *              LINK    uint32_t, enum hbm_link          POOL    TIER, with `device` after it
 *              PHASE   uint32_t, hbm_sequence_state     RANK    int32_t
 *              EVENT   uint32_t, hbm_sequence_event
 *              UNIT    uint32_t, enum hbm_wire_unit     TURNS   uint64_t for each enum hbm_turns
 *              STATE   uint32_t, 0 live, 1 dead, 2 away  ZERO    padding
 *   place      members are shown by rising place, and in the order of the wire within one
 *   figure     COUNTER: only grows while the daemon runs; GAUGE: any other number; FACT: no
 *              figure; INFO: a fact that is a label of the metric hbmd_info
 *   header     its column or line in tables; "": only in --json
 *   metric     its name among the metrics; "": it is none
 *   help       one sentence
 */
#ifndef HBM_WIRE_RECORDS_H
#define HBM_WIRE_RECORDS_H

/* clang-format off */

/* The daemon, since its start. */
#define HBM_RECORD_STATUS(X, R)                                                                    \
	X(R, char, version, [32], TEXT, 1, INFO, "version", "", "Version of hbmd.")                \
	X(R, char, driver, [32], TEXT, 3, INFO, "driver",                                          \
	  "", "Driver of the devices: soft or cuda.")                                              \
	X(R, char, io, [32], TEXT, 3, INFO, "NVMe I/O",                                            \
	  "", "Engine of the I/O: io_uring or threads.")                                           \
	X(R, char, state, [32], TEXT, 2, INFO, "state",                                            \
	  "", "State: warming, running, draining or stopping; and the first lost device or tier.")                   \
	X(R, uint8_t, boot_id, [16], DIGEST, 3, FACT, "boot id",                                   \
	  "", "Changes when the daemon restarts.")                                                 \
	X(R, uint64_t, pid, , COUNT, 3, FACT, "pid", "", "Process of the daemon.")                 \
	X(R, uint64_t, uptime_ms, , MS, 3, GAUGE, "up for",                                        \
	  "hbmd_uptime_seconds", "Time since start.")                                              \
	X(R, uint64_t, sessions, , COUNT, 4, GAUGE, "sessions",                                    \
	  "hbmd_sessions", "Connected clients.")                                                   \
	X(R, uint64_t, regions, , COUNT, 5, GAUGE, "regions",                                      \
	  "hbmd_regions", "Regions of all clients.")                                               \
	X(R, uint64_t, namespaces, , COUNT, 5, GAUGE, "namespaces",                                \
	  "hbmd_namespaces", "Namespaces known.")                                                  \
	X(R, uint64_t, blocks, , COUNT, 5, GAUGE, "blocks",                                        \
	  "hbmd_blocks", "Blocks in the cache.")                                                   \
	X(R, uint64_t, blocks_max, , COUNT, 5, GAUGE, "blocks at most",                            \
	  "hbmd_blocks_limit", "Most blocks the index can hold.")                                  \
	X(R, uint64_t, index_bytes, , BYTES, 5, GAUGE, "index",                                    \
	  "hbmd_index_bytes", "Memory of the index.")                                              \
	X(R, uint64_t, requests, , COUNT, 5, COUNTER, "requests",                                  \
	  "hbmd_requests_total", "Requests received.")                                             \
	X(R, uint64_t, refused, , COUNT, 5, COUNTER, "refused",                                    \
	  "hbmd_requests_refused_total", "Requests refused.")                                      \
	X(R, uint64_t, lookups, , COUNT, 5, COUNTER, "lookups",                                    \
	  "hbmd_lookups_total", "LOOKUP requests.")                                                \
	X(R, uint64_t, lookup_keys, , COUNT, 5, COUNTER, "keys looked up",                         \
	  "hbmd_lookup_keys_total", "Keys looked up.")                                             \
	X(R, uint64_t, lookup_hits, , COUNT, 5, COUNTER, "lookup hits",                            \
	  "hbmd_lookup_hits_total", "Keys looked up that were in the cache.")                      \
	X(R, uint64_t, lookup_misses, , COUNT, 5, COUNTER, "lookup misses",                        \
	  "hbmd_lookup_misses_total", "Keys looked up that were not in the cache.")                \
	X(R, uint64_t, hits, [HBM_TIERS], TIERS, 5, COUNTER, "blocks loaded from",                 \
	  "hbmd_hits_total", "Blocks loaded, by the tier they belonged to.")                       \
	X(R, uint64_t, late_misses, , COUNT, 5, COUNTER, "late misses",                            \
	  "hbmd_late_misses_total", "Blocks of LOAD that had left the cache since the lookup.")    \
	X(R, uint64_t, stores, , COUNT, 5, COUNTER, "stores",                                      \
	  "hbmd_stores_total", "STORE requests.")                                                  \
	X(R, uint64_t, stored_blocks, , COUNT, 5, COUNTER, "blocks stored",                        \
	  "hbmd_stored_blocks_total", "Blocks stored.")                                            \
	X(R, uint64_t, stored_bytes, , BYTES, 5, COUNTER, "stored",                                \
	  "hbmd_stored_bytes_total", "Bytes stored.")                                              \
	X(R, uint64_t, loads, , COUNT, 5, COUNTER, "loads", "hbmd_loads_total", "LOAD requests.")  \
	X(R, uint64_t, loaded_blocks, , COUNT, 5, COUNTER, "blocks loaded",                        \
	  "hbmd_loaded_blocks_total", "Blocks loaded.")                                            \
	X(R, uint64_t, loaded_bytes, , BYTES, 5, COUNTER, "loaded",                                \
	  "hbmd_loaded_bytes_total", "Bytes loaded.")                                              \
	X(R, uint64_t, evicted_blocks, , COUNT, 5, COUNTER, "blocks evicted",                      \
	  "hbmd_evicted_blocks_total", "Blocks evicted from the last tier.")                       \
	X(R, uint64_t, removed_blocks, , COUNT, 5, COUNTER, "blocks removed",                      \
	  "hbmd_removed_blocks_total", "Blocks removed by request.")                               \
	X(R, uint64_t, checksum_failures, , COUNT, 5, COUNTER, "checksum failures",                \
	  "hbmd_checksum_failures_total", "Blocks dropped for a checksum mismatch.")               \
	X(R, uint64_t, io_errors, , COUNT, 5, COUNTER, "I/O errors",                               \
	  "hbmd_io_errors_total", "NVMe reads and writes that failed.")                            \
	X(R, uint64_t, device_errors, , COUNT, 5, COUNTER, "device errors",                        \
	  "hbmd_device_errors_total", "Device calls that failed.")                                 \
	X(R, uint64_t, sessions_total, , COUNT, 4, COUNTER, "sessions ever",                       \
	  "hbmd_sessions_accepted_total", "Clients ever accepted.")                                \
	X(R, uint64_t, sessions_dropped, , COUNT, 4, COUNTER, "sessions dropped",                  \
	  "hbmd_sessions_dropped_total", "Clients disconnected for violating the protocol.")        \
	X(R, uint64_t, log_lines_dropped, , COUNT, 5, COUNTER, "log lines dropped",                \
	  "hbmd_log_lines_dropped_total", "Log lines dropped because stderr was not read.")        \
	X(R, uint64_t, turns, [HBM_TURNS], TURNS, 5, COUNTER, "turns of the loop",                 \
	  "hbmd_turns_total", "Turns of the loop, by how long they took at most.")                 \
	X(R, uint64_t, longest_turn_ns, , NS, 5, GAUGE, "longest turn",                            \
	  "hbmd_longest_turn_seconds", "Longest turn of the loop.")                                       \
	X(R, uint64_t, footprint_max, , BYTES, 5, GAUGE, "memory at most",                         \
	  "hbmd_footprint_limit_bytes",                                                            \
	  "Most memory that hbmd may take beside the tiers, by its limits.")           \
	X(R, uint64_t, demotions_dropped, , COUNT, 5, COUNTER, "demotions dropped",                \
	  "hbmd_demotions_dropped_total",                                                          \
	  "Blocks that went away because the tier below did not take them in time.")               \
	X(R, uint64_t, nvme_hangs, , COUNT, 5, COUNTER, "NVMe hangs",                                \
	  "hbmd_nvme_hangs_total", "How often NVMe did not answer for nvme.timeout_ms.")                   \
	X(R, uint64_t, nvme_missing, , COUNT, 5, GAUGE, "NVMe missing",                            \
	  "hbmd_nvme_missing", "1: the NVMe tier could not be opened (nvme.required).")             \
	X(R, uint64_t, nvme_replaced, , COUNT, 5, GAUGE, "NVMe replaced",                          \
	  "hbmd_nvme_replaced", "1: nvme.path no longer names the file that is in use.")            \
	X(R, uint64_t, nvme_depth, , COUNT, 5, GAUGE, "NVMe depth",                                \
	  "hbmd_nvme_depth",                                                                       \
	  "Reads and writes of NVMe that may be in flight at present (nvme.depth).")               \
	X(R, uint64_t, nvme_window, , BYTES, 5, GAUGE, "NVMe window",                              \
	  "hbmd_nvme_window_bytes", "Bytes of them that may be, but for one read or write.")       \
	X(R, uint64_t, notices, , COUNT, 5, COUNTER, "notices",                                    \
	  "hbmd_notices_total", "Messages to sessions that were no replies.")                      \
	X(R, uint64_t, notices_dropped, , COUNT, 5, COUNTER, "notices dropped",                    \
	  "hbmd_notices_dropped_total", "Such messages that a session has no room for.")           \
	X(R, uint64_t, lent_mismatches, , COUNT, 5, COUNTER, "lent mismatches",                    \
	  "hbmd_lent_mismatches_total",                                                            \
	  "Lent copies of blocks dropped for a checksum mismatch.")                                \
	X(R, uint64_t, catalog_records, , COUNT, 5, GAUGE, "catalog records",                      \
	  "hbmd_catalog_records", "Blocks that the catalog has a record of.")                      \
	X(R, uint64_t, catalog_unflushed, , COUNT, 5, GAUGE, "catalog unflushed",                  \
	  "hbmd_catalog_unflushed", "Changes of the catalog that a power cut would take back.")    \
	X(R, uint64_t, catalog_restored, , COUNT, 5, GAUGE, "catalog restored",                    \
	  "hbmd_catalog_restored", "Blocks found again when the daemon started.")                  \
	X(R, uint64_t, catalog_dropped, , COUNT, 5, GAUGE, "catalog dropped",                      \
	  "hbmd_catalog_dropped", "Records dropped when the daemon started.")                      \
	X(R, uint64_t, catalog_failures, , COUNT, 5, COUNTER, "catalog failures",                  \
	  "hbmd_catalog_failures_total", "Transactions and flushes of the catalog that failed.")   \
	X(R, uint64_t, catalog_failing, , COUNT, 5, GAUGE, "catalog failing",                      \
	  "hbmd_catalog_failing",                                                                  \
	  "1: the last transaction failed, or there is no catalog that can be used.")              \
	X(R, uint64_t, durable_blocks, , COUNT, 5, COUNTER, "durable blocks",                      \
	  "hbmd_durable_blocks_total", "Blocks of stores acknowledged as durable.")                 \
	X(R, uint64_t, sessions_resumed, , COUNT, 4, COUNTER, "sessions resumed",                  \
	  "hbmd_sessions_resumed_total", "Clients that went on with a session of an earlier daemon.") \
	X(R, uint64_t, resumes_refused, , COUNT, 4, COUNTER, "resumes refused",                    \
	  "hbmd_resumes_refused_total", "Clients that were refused a session of an earlier daemon.") \
	X(R, uint64_t, ddr_restored, , COUNT, 5, GAUGE, "DDR restored",                            \
	  "hbmd_ddr_restored", "Blocks in DDR found again when the daemon started.")               \
	X(R, uint64_t, ddr_unsummed, , COUNT, 5, GAUGE, "DDR without checksum",                    \
	  "hbmd_ddr_unsummed", "Blocks in DDR let go then, for they had no checksum yet.")         \
	X(R, uint64_t, ddr_dropped, , COUNT, 5, GAUGE, "DDR dropped",                              \
	  "hbmd_ddr_dropped", "Other blocks in DDR let go then.")                                  \
	X(R, uint64_t, evicted_together, , COUNT, 5, COUNTER, "evicted together",                  \
	  "hbmd_evicted_together_total", "Evicted blocks that went with another of their group.")   \
	X(R, uint64_t, hbm_restored, , COUNT, 5, GAUGE, "HBM restored",                            \
	  "hbmd_hbm_restored", "Blocks in HBM found again when the daemon started.")               \
	X(R, uint64_t, hbm_unsummed, , COUNT, 5, GAUGE, "HBM without checksum",                    \
	  "hbmd_hbm_unsummed", "Blocks in HBM let go then, for they had no checksum yet.")         \
	X(R, uint64_t, hbm_dropped, , COUNT, 5, GAUGE, "HBM dropped",                              \
	  "hbmd_hbm_dropped", "Other blocks in HBM let go then.")

/* A device; cache, headroom and regions add up to memory, leased to uncreated and held to
 * regions. */
#define HBM_RECORD_DEVICE(X, R)                                                                    \
	X(R, uint32_t, index, , DEVICE, 1, FACT, "DEVICE",                                         \
	  "", "Number of the device; HBM_WIRE_DEVICE_HOST: host memory for regions.")              \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")                                         \
	X(R, char, name, [HBM_WIRE_NAME_BYTES], TEXT, 1, FACT, "NAME", "", "Name of the device.")  \
	X(R, uint64_t, total, , BYTES, 1, GAUGE, "TOTAL",                                          \
	  "hbmd_device_memory_bytes", "Memory of the device.")                                     \
	X(R, uint64_t, memory, , BYTES, 1, GAUGE, "OWNED",                                         \
	  "hbmd_device_owned_bytes", "Memory that hbmd owns.")                                     \
	X(R, uint64_t, cache, , BYTES, 1, GAUGE, "CACHE",                                          \
	  "hbmd_device_cache_bytes", "Of it, the HBM tier.")                                       \
	X(R, uint64_t, headroom, , BYTES, 1, GAUGE, "HEADROOM",                                    \
	  "hbmd_device_headroom_bytes", "Of it, headroom of the block cache.")                     \
	X(R, uint64_t, regions, , BYTES, 1, GAUGE, "REGIONS",                                      \
	  "hbmd_device_regions_bytes", "Of it, the pool of clients' regions.")                     \
	X(R, uint64_t, leased, , BYTES, 1, GAUGE, "LEASED",                                        \
	  "hbmd_device_leased_bytes", "Of the pool, in regions of live clients.")                  \
	X(R, uint64_t, quarantined, , BYTES, 1, GAUGE, "QUARANTINED",                              \
	  "hbmd_device_quarantined_bytes",                                                         \
	  "Of the pool, in regions of clients whose process may still run.")                       \
	X(R, uint64_t, retiring, , BYTES, 1, GAUGE, "RETIRING",                                    \
	  "hbmd_device_retiring_bytes", "Of the pool, being released.")                            \
	X(R, uint64_t, ready, , BYTES, 1, GAUGE, "READY",                                          \
	  "hbmd_device_ready_bytes", "Of the pool, created ahead.")                                \
	X(R, uint64_t, uncreated, , BYTES, 1, GAUGE, "UNCREATED",                                  \
	  "hbmd_device_uncreated_bytes", "Of the pool, not created.")                              \
	X(R, uint64_t, slab, , BYTES, 1, FACT, "SLAB", "", "Default size of a slab.")              \
	X(R, uint64_t, granularity, , BYTES, 1, FACT, "", "", "Granularity of allocations.")       \
	X(R, uint64_t, lost, , COUNT, 1, GAUGE, "LOST",                                            \
	  "hbmd_device_lost", "1: lost to a sticky error until hbmd restarts.")                    \
	X(R, uint8_t, uuid, [HBM_WIRE_UUID_BYTES], UUID, 2, FACT, "UUID",                          \
	  "", "From cuDeviceGetUuid().")                                                           \
	X(R, uint64_t, held, , BYTES, 1, GAUGE, "HELD",                                            \
	  "hbmd_device_held_bytes", "Of the pool, given back by clients and not free.")            \
	X(R, uint64_t, free, , BYTES, 1, GAUGE, "FREE",                                            \
	  "hbmd_device_free_bytes", "Free on the device, for anybody, when last looked at.")        \
	X(R, uint64_t, lend, , BYTES, 3, GAUGE, "LEND",                                            \
	  "hbmd_device_lend_bytes", "Of the pool, what may be lent at most.")                      \
	X(R, uint64_t, lent, , BYTES, 3, GAUGE, "LENT",                                            \
	  "hbmd_device_lent_bytes", "Of LEASED, copies of blocks for clients to map.")             \
	X(R, uint64_t, replicas, , COUNT, 3, GAUGE, "REPLICAS",                                    \
	  "hbmd_device_replicas", "Copies of blocks for clients to map.")                          \
	X(R, uint64_t, loans, , COUNT, 3, GAUGE, "LOANS",                                          \
	  "hbmd_device_loans", "Loans of these copies.") \
	X(R, uint64_t, promised, , BYTES, 1, GAUGE, "PROMISED",                                    \
	  "hbmd_device_promised_bytes", "Of the pool, reserved by sessions and not used yet.")     \
	X(R, uint64_t, waiting, , COUNT, 1, GAUGE, "WAITING",                                      \
	  "hbmd_device_reserves_waiting", "Reservations that wait for more of the pool.")

/* A tier, of HBM one for each device. */
#define HBM_RECORD_TIER(X, R)                                                                      \
	X(R, uint32_t, tier, , POOL, 1, FACT, "TIER", "", "Tier, an enum hbm_tier.")               \
	X(R, uint32_t, device, , ID, 1, FACT, "", "", "Device of an HBM tier, else 0.")            \
	X(R, uint64_t, capacity, , BYTES, 1, GAUGE, "CAPACITY",                                    \
	  "hbmd_tier_capacity_bytes", "Size of the tier, as configured or resized.")               \
	X(R, uint64_t, headroom, , BYTES, 5, GAUGE, "HEADROOM",                                    \
	  "hbmd_tier_headroom_bytes", "Headroom beyond the capacity.")                             \
	X(R, uint64_t, usable, , BYTES, 4, GAUGE, "USABLE",                                        \
	  "hbmd_tier_usable_bytes", "Part of the capacity in service.")                            \
	X(R, uint64_t, blocks, , COUNT, 3, GAUGE, "BLOCKS",                                        \
	  "hbmd_tier_blocks", "Blocks whose target is the tier.")                                  \
	X(R, uint64_t, bytes, , BYTES, 2, GAUGE, "USED",                                           \
	  "hbmd_tier_used_bytes", "Stored bytes of those blocks.")                                 \
	X(R, uint64_t, placed, , BYTES, 3, GAUGE, "PLACED",                                        \
	  "hbmd_tier_placed_bytes", "Bytes that hold a block.")                                    \
	X(R, uint64_t, moving, , BYTES, 3, GAUGE, "MOVING",                                        \
	  "hbmd_tier_moving_bytes", "Bytes that are the source or target of a transfer.")          \
	X(R, uint64_t, free, , BYTES, 3, GAUGE, "FREE",                                            \
	  "hbmd_tier_free_bytes", "Bytes that hold nothing.")                                      \
	X(R, uint64_t, pinned, , BYTES, 3, GAUGE, "PINNED",                                        \
	  "hbmd_tier_pinned_bytes", "Bytes of pinned blocks.")                                     \
	X(R, uint64_t, in_blocks, , COUNT, 6, COUNTER, "",                                         \
	  "hbmd_tier_in_blocks_total", "Blocks moved in.")                                         \
	X(R, uint64_t, in_bytes, , BYTES, 6, COUNTER, "IN",                                        \
	  "hbmd_tier_in_bytes_total", "Bytes moved in.")                                           \
	X(R, uint64_t, out_blocks, , COUNT, 6, COUNTER, "",                                        \
	  "hbmd_tier_out_blocks_total", "Blocks moved out.")                                       \
	X(R, uint64_t, out_bytes, , BYTES, 6, COUNTER, "OUT",                                      \
	  "hbmd_tier_out_bytes_total", "Bytes moved out.")                                         \
	X(R, uint64_t, logical_bytes, , BYTES, 2, GAUGE, "LOGICAL",                                \
	  "hbmd_tier_logical_bytes", "Logical bytes of those blocks.")                             \
	X(R, uint64_t, lost, , COUNT, 7, GAUGE, "",                                                \
	  "hbmd_tier_lost", "1: its I/O is not answered, or too much of it has failed.")           \
	X(R, uint64_t, failed, , BYTES, 7, GAUGE, "",                                              \
	  "hbmd_tier_failed_bytes", "Bytes not used after I/O errors, or while copies may go on.")                      \
	X(R, uint64_t, copies, , BYTES, 8, GAUGE, "COPIES",                                        \
	  "hbmd_tier_copies_bytes", "Bytes that hold a clean copy of a block in a tier above.")    \
	X(R, uint64_t, copies_max, , BYTES, 8, GAUGE, "",                                          \
	  "hbmd_tier_copies_limit_bytes", "Most bytes that may: on top of the capacity.")          \
	X(R, uint64_t, reused_blocks, , COUNT, 8, COUNTER, "",                                     \
	  "hbmd_tier_reused_blocks_total",                                                         \
	  "Of the blocks moved in, those whose copy was still there: nothing was moved.")          \
	X(R, uint64_t, reused_bytes, , BYTES, 8, COUNTER, "REUSED",                                \
	  "hbmd_tier_reused_bytes_total", "Bytes of those blocks.")                                \
	X(R, uint64_t, written_bytes, , BYTES, 8, COUNTER, "WRITTEN",                              \
	  "hbmd_tier_written_bytes_total", "Bytes written to the tier's disk.") \
	X(R, uint64_t, retained, , BYTES, 8, GAUGE, "RETAINED",                                    \
	  "hbmd_tier_retained_bytes", "Bytes of blocks that go after the others, as they are retained.") \
	X(R, uint64_t, resizing, , COUNT, 8, GAUGE, "",                                            \
	  "hbmd_tier_resizing", "1: it is being resized, to the capacity that is shown.")          \
	X(R, uint64_t, leaving, , BYTES, 8, GAUGE, "LEAVING",                                      \
	  "hbmd_tier_leaving_bytes", "Bytes in use in the part of it that is to go.")              \
	X(R, uint64_t, pressed, , COUNT, 8, COUNTER, "",                                           \
	  "hbmd_tier_pressed_total", "Times that the host was short of memory; of DDR.")

/* A connected client, or a dead one whose process still runs. */
#define HBM_RECORD_SESSION(X, R)                                                                   \
	X(R, uint64_t, session, , COUNT, 1, FACT, "SESSION", "", "Number of the session.")         \
	X(R, uint32_t, pid, , ID, 1, FACT, "PID", "", "Process of the client.")                    \
	X(R, uint32_t, uid, , ID, 1, FACT, "UID", "", "User of the client.")                       \
	X(R, uint32_t, gid, , ID, 1, FACT, "GID", "", "Group of the client.")                      \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")                                         \
	X(R, char, name, [HBM_WIRE_NAME_BYTES], TEXT, 1, FACT, "NAME",                             \
	  "", "Name the client gave itself.")                                                      \
	X(R, uint64_t, connected_ms, , MS, 3, GAUGE, "CONNECTED", "", "Time since it connected.")  \
	X(R, uint64_t, regions, , COUNT, 3, GAUGE, "REGIONS", "", "Its regions.")                  \
	X(R, uint64_t, address_space, , BYTES, 3, GAUGE, "ADDRESSES",                              \
	  "", "Address space that they reserve.")                                                  \
	X(R, uint64_t, leased, , BYTES, 3, GAUGE, "LEASED",                                        \
	  "", "Device memory that they have committed.")                                           \
	X(R, uint64_t, requests, , COUNT, 3, COUNTER, "REQUESTS", "", "Requests received.")        \
	X(R, uint64_t, in_flight, , COUNT, 3, GAUGE, "IN FLIGHT", "", "Requests in flight.")       \
	X(R, uint64_t, loaded_bytes, , BYTES, 3, COUNTER, "LOADED", "", "Bytes loaded.")           \
	X(R, uint64_t, stored_bytes, , BYTES, 3, COUNTER, "STORED", "", "Bytes stored.")           \
	X(R, uint32_t, state, , STATE, 2, FACT, "STATE",                            \
	  "", "0: live, 1: dead and quarantined, 2: away, of an earlier daemon.")                  \
	X(R, uint32_t, zero2, , ZERO, 1, FACT, "", "", "0")                                        \
	X(R, uint64_t, held, , BYTES, 3, GAUGE, "HELD",                                            \
	  "", "Device memory that it gave back and that is not free.")                             \
	X(R, uint64_t, loans, , COUNT, 3, GAUGE, "LOANS", "", "Blocks that it has borrowed.")      \
	X(R, uint64_t, borrowed, , BYTES, 3, GAUGE, "BORROWED", "", "Their bytes.") \
	X(R, uint64_t, reserved, , BYTES, 3, GAUGE, "RESERVED",                                    \
	  "", "Device memory that it has reserved.")                                               \
	X(R, uint64_t, promised, , BYTES, 3, GAUGE, "PROMISED",                                    \
	  "", "Of it, what it has not used yet.")                                                  \
	X(R, uint64_t, lent_left, , BYTES, 3, GAUGE, "LENT LEFT",                                  \
	  "", "Slabs that it has lent and given back, and still uses of what is reserved.")

/* A region. */
#define HBM_RECORD_REGION(X, R)                                                                    \
	X(R, uint64_t, session, , COUNT, 1, FACT, "SESSION", "", "Session that it belongs to.")    \
	X(R, uint32_t, region, , ID, 1, FACT, "REGION", "", "Its number in the session.")          \
	X(R, uint32_t, device, , DEVICE, 1, FACT, "DEVICE", "", "Its device, or the host.")        \
	X(R, uint64_t, address_space, , BYTES, 1, GAUGE, "ADDRESSES",                              \
	  "", "Address space that it reserves.")                                                   \
	X(R, uint64_t, slab, , BYTES, 3, FACT, "SLAB", "", "Size of its slabs.")                   \
	X(R, uint64_t, committed, , BYTES, 2, GAUGE, "COMMITTED",                                  \
	  "", "Device memory committed in it.")                                                    \
	X(R, char, guest, [8], TEXT, 1, FACT, "GUEST", "",                                         \
	  "How its client lends its own memory, fd or ipc; empty: the daemon's.")                 \
	X(R, uint64_t, shared, , BYTES, 2, GAUGE, "SHARED",                                        \
	  "", "Of what is committed, slabs that other slots have too.")                            \
	X(R, char, name, [HBM_WIRE_NAME_BYTES], TEXT, 1, FACT, "PUBLICATION",                      \
	  "", "Name of what is published, session 0, or attached; or empty.")                      \
	X(R, uint32_t, attached, , ID, 1, GAUGE, "ATTACHED",                                       \
	  "", "Of what is published: how many regions are attached.")                              \
	X(R, uint32_t, uid, , ID, 1, FACT, "UID", "", "Of what is published: whose it is; else 0.") \
	X(R, uint32_t, withdrawn, , BOOL, 1, FACT, "WITHDRAWN",                                    \
	  "", "1: published no more, and not free yet.")                                           \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")\
	X(R, uint64_t, lent, , BYTES, 2, GAUGE, "LENT",                                            \
	  "", "Of what is committed, slabs that are lent: no memory of its session.")

/* A namespace. */
#define HBM_RECORD_NAMESPACE(X, R)                                                                 \
	X(R, uint32_t, ns, , ID, 1, FACT, "NAMESPACE", "", "Number of the namespace.")             \
	X(R, uint32_t, opens, , ID, 4, GAUGE, "OPENS", "", "How often it is open.")                \
	X(R, char, model, [HBM_WIRE_NAME_BYTES], TEXT, 1, FACT, "MODEL",                           \
	  "", "Model, from its spec.")                                                             \
	X(R, char, layout, [HBM_WIRE_NAME_BYTES], TEXT, 1, FACT, "LAYOUT",                         \
	  "", "Layout, from its spec.")                                                            \
	X(R, uint8_t, fingerprint, [16], DIGEST, 6, FACT, "",                                      \
	  "", "Digest of its spec without the salt.")                                              \
	X(R, uint64_t, weights, , MARK, 2, FACT, "WEIGHTS",                                        \
	  "", "Version of the weights, from its spec.")                                            \
	X(R, uint64_t, block_bytes, , BYTES, 5, FACT, "BLOCK", "", "Size of every block.")         \
	X(R, uint64_t, blocks, , COUNT, 5, GAUGE, "BLOCKS", "", "Its blocks in the cache.")        \
	X(R, uint64_t, blocks_in, [HBM_TIERS], TIERS, 5, GAUGE, "IN",                              \
	  "", "These by their target tier; [0]: those being stored.")                              \
	X(R, uint32_t, salted, , BOOL, 3, FACT, "SALTED", "", "1: its spec has a salt.")           \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")                                         \
	X(R, char, encoding, [16], TEXT, 3, FACT, "ENCODING",                                      \
	  "", "How its blocks are encoded: raw, lossless, fp8, int8 or int4.")                     \
	X(R, uint64_t, logical_bytes, , BYTES, 5, FACT, "LOGICAL",                                 \
	  "", "Size of every block before it is encoded.")                                         \
	X(R, uint64_t, element_bytes, , COUNT, 6, FACT, "",                                        \
	  "", "Bytes of a number, for the encoding lossless.")                                     \
	X(R, uint32_t, memory_only, , BOOL, 3, FACT, "MEMORY-ONLY",                                \
	  "", "1: its blocks are never written to NVMe.")                                          \
	X(R, uint32_t, wipe_on_free, , BOOL, 3, FACT, "WIPED",                                     \
	  "", "1: what held its blocks is overwritten before it is used again.")                   \
	X(R, char, group, [HBM_WIRE_NAME_BYTES], TEXT, 3, FACT, "GROUP",                           \
	  "", "The group whose blocks of one key are evicted together; empty: none.")

/* A block. */
#define HBM_RECORD_BLOCK_INFO(X, R)                                                                \
	X(R, uint32_t, ns, , ID, 1, FACT, "NAMESPACE", "", "Number of its namespace.")             \
	X(R, uint32_t, device, , ID, 2, FACT, "DEVICE",                                            \
	  "", "Device of the tier its bytes are in.")                                              \
	X(R, struct hbm_wire_key, key, , DIGEST, 1, FACT, "KEY", "", "Its key.")                   \
	X(R, struct hbm_wire_key, parent, , DIGEST, 1, FACT, "PARENT",                             \
	  "", "Key of its parent; all zero: a root.")                                              \
	X(R, uint32_t, tier, , TIER, 1, FACT, "TIER", "", "Target tier.")                          \
	X(R, uint32_t, place, , TIER, 1, FACT, "PLACE", "", "Actual tier.")                        \
	X(R, uint64_t, offset, , COUNT, 2, FACT, "OFFSET", "", "Where in the actual tier.")        \
	X(R, uint64_t, bytes, , BYTES, 2, FACT, "SIZE", "", "Its size.")                           \
	X(R, uint64_t, checksum, , HASH, 3, FACT, "", "", "Checksum of its bytes.")                \
	X(R, uint32_t, children, , ID, 2, GAUGE, "CHILDREN",                                       \
	  "", "Children, counted up to 1,024.")                                                    \
	X(R, uint32_t, pins, , ID, 2, GAUGE, "PINS",                                               \
	  "", "Pins of the block itself; they keep its ancestors too.")                            \
	X(R, uint32_t, readers, , ID, 2, GAUGE, "READERS",                                         \
	  "", "Transfers and requests that use it.")                                               \
	X(R, uint32_t, checksummed, , BOOL, 2, FACT, "", "", "1: it has a checksum.") \
	X(R, uint32_t, priority, , ID, 2, FACT, "PRIORITY",                                        \
	  "", "With which it is retained; 0: it is not.")                                          \
	X(R, uint32_t, durable, , BOOL, 3, FACT, "DURABLE", "",                                    \
	  "1: it was stored as durable, and stays in NVMe.")

/* The account of a pool: capacity = free + placed + moving + quarantined + held. */
#define HBM_RECORD_ACCOUNT(X, R)                                                                   \
	X(R, char, pool, [32], TEXT, 1, FACT, "POOL",                                              \
	  "", "Pool: hbm 0 cache, hbm 0 regions, ddr, nvme or staging.")                           \
	X(R, uint64_t, capacity, , BYTES, 1, GAUGE, "CAPACITY", "", "Size of the pool.")           \
	X(R, uint64_t, free, , BYTES, 1, GAUGE, "FREE", "", "Bytes that hold nothing.")            \
	X(R, uint64_t, placed, , BYTES, 1, GAUGE, "PLACED", "", "Bytes in use.")                   \
	X(R, uint64_t, moving, , BYTES, 1, GAUGE, "MOVING",                                        \
	  "", "Bytes that are the source or target of a transfer.")                                \
	X(R, uint64_t, quarantined, , BYTES, 1, GAUGE, "QUARANTINED",                              \
	  "", "Bytes whose client process may still write to them.")                               \
	X(R, uint32_t, balanced, , BOOL, 2, FACT, "BALANCED",                                      \
	  "", "1: they add up, and every other check of the pool passed.")                         \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")                                         \
	X(R, char, problem, [128], TEXT, 2, FACT, "PROBLEM",                                       \
	  "", "The first problem found, or empty.")                                                \
	X(R, uint64_t, held, , BYTES, 1, GAUGE, "HELD",                                            \
	  "", "Bytes that clients gave back and that are not free.")                                            \
	X(R, uint64_t, failed, , BYTES, 2, GAUGE, "", "", "Bytes not used after I/O errors, or while copies may go on.")        \
	X(R, uint64_t, copies, , BYTES, 1, GAUGE, "COPIES",                                        \
	  "", "Bytes that hold a clean copy of a block in a tier above, or a replica to be lent.")

/* A sequence, as its client says on a board of its session. */
#define HBM_RECORD_SEQUENCE(X, R)                                                                  \
	X(R, uint64_t, session, , COUNT, 1, FACT, "SESSION", "", "Session that it belongs to.")    \
	X(R, uint64_t, sequence, , COUNT, 1, FACT, "SEQUENCE", "", "Its number in the session.")   \
	X(R, char, name, [HBM_WIRE_SEQUENCE_NAME_BYTES], TEXT, 1, FACT, "NAME",                    \
	  "", "Name that its client gave it, or empty.")                                           \
	X(R, uint32_t, state, , PHASE, 1, FACT, "STATE",                                           \
	  "", "State: open, suspending, suspended or resuming.")                                   \
	X(R, uint32_t, device, , ID, 1, FACT, "DEVICE", "", "Its device.")                         \
	X(R, uint64_t, tokens, , COUNT, 2, GAUGE, "TOKENS", "", "Tokens that it has.")             \
	X(R, uint64_t, expected, , COUNT, 2, GAUGE, "EXPECTED", "", "Tokens that were expected.")  \
	X(R, uint64_t, max, , COUNT, 2, FACT, "MAX", "", "Tokens that it may have.")               \
	X(R, uint64_t, own, , BYTES, 3, GAUGE, "OWN", "", "Device memory that it has alone.")      \
	X(R, uint64_t, shared, , BYTES, 3, GAUGE, "SHARED",                                        \
	  "", "Device memory that it shares with others.")                                         \
	X(R, uint64_t, suspended, , BYTES, 3, GAUGE, "SUSPENDED",                                  \
	  "", "Bytes that it has in other tiers while it is suspended.")                           \
	X(R, uint64_t, next_use, , MARK, 4, FACT, "NEXT USE",                                      \
	  "", "When it is used next, in the client's own unit.")                                   \
	X(R, int32_t, priority, , RANK, 4, FACT, "PRIORITY", "", "Its priority.")                  \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")

/* What has happened to a sequence, as its client says. */
#define HBM_RECORD_EVENT(X, R)                                                                     \
	X(R, uint64_t, session, , COUNT, 1, FACT, "SESSION", "", "Session of the sequence.")       \
	X(R, uint64_t, sequence, , COUNT, 1, FACT, "SEQUENCE", "", "Its number in the session.")   \
	X(R, uint64_t, time_ns, , NS, 1, FACT, "TIME", "", "When, on the clock of the timeline.")  \
	X(R, uint64_t, tokens, , COUNT, 2, FACT, "TOKENS", "", "Tokens that it had.")              \
	X(R, uint64_t, bytes, , BYTES, 3, FACT, "SUSPENDED",                                       \
	  "", "Bytes that it had in other tiers.")                                                 \
	X(R, uint32_t, event, , EVENT, 1, FACT, "EVENT",                                           \
	  "", "What: opened, overrun, suspending, suspended, resuming, resumed, closed, not suspended or not resumed.")        \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")

/* The daemon's host memory at a NUMA node; none where it is not divided (ddr.numa). */
#define HBM_RECORD_NODE(X, R)                                                                      \
	X(R, uint32_t, node, , ID, 1, FACT, "NODE", "", "Number of the node.")                     \
	X(R, uint32_t, devices, , ID, 1, FACT, "DEVICES", "", "How many devices are near it.")     \
	X(R, uint64_t, ddr, , BYTES, 1, GAUGE, "DDR",                                              \
	  "hbmd_node_ddr_bytes", "Part of the DDR tier with its headroom.")                        \
	X(R, uint64_t, ddr_used, , BYTES, 1, GAUGE, "USED",                                        \
	  "hbmd_node_ddr_used_bytes", "Bytes of it that hold a block or are about to.")            \
	X(R, uint64_t, staging, , BYTES, 1, GAUGE, "STAGING",                                      \
	  "hbmd_node_staging_bytes", "Part of the staging buffers.")                               \
	X(R, uint64_t, staging_used, , BYTES, 1, GAUGE, "IN USE",                                  \
	  "hbmd_node_staging_used_bytes", "Bytes of them in use.")                                 \
	X(R, uint64_t, hashed, , BYTES, 1, COUNTER, "HASHED",                                      \
	  "hbmd_node_hashed_bytes_total",                                                          \
	  "Bytes that its threads have hashed, encoded or decoded.")

/* A link. */
#define HBM_RECORD_LINK(X, R)                                                                      \
	X(R, uint32_t, link, , LINK, 1, FACT, "", "", "Link, an enum hbm_link.")                   \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")                                         \
	X(R, uint64_t, count, , COUNT, 1, COUNTER, "",                                             \
	  "hbmd_link_movements_total", "Movements over the link.")                                 \
	X(R, uint64_t, bytes, , BYTES, 1, COUNTER, "",                                             \
	  "hbmd_link_bytes_total", "Bytes moved over the link.")                                   \
	X(R, uint64_t, busy_ns, , NS, 1, COUNTER, "",                                              \
	  "hbmd_link_busy_seconds_total", "Time with at least one transfer in flight.")            \
	X(R, uint64_t, overlapped_ns, , NS, 1, COUNTER, "",                                        \
	  "hbmd_link_overlapped_seconds_total",                                                    \
	  "Part of the busy time in which the other kind of link (device copies or NVMe) was "     \
	  "busy too.")                                                                             \
	X(R, uint64_t, errors, , COUNT, 1, COUNTER, "",                                            \
	  "hbmd_link_errors_total", "Movements that failed.")                                      \
	X(R, uint64_t, single_pieces, , COUNT, 1, COUNTER, "",                                     \
	  "hbmd_link_single_pieces_total",                                                         \
	  "Contiguous pieces of device copies that had a call of their own.")                      \
	X(R, uint64_t, single_bytes, , BYTES, 1, COUNTER, "",                                      \
	  "hbmd_link_single_bytes_total", "Their bytes.")                                          \
	X(R, uint64_t, row_pieces, , COUNT, 1, COUNTER, "",                                        \
	  "hbmd_link_row_pieces_total",                                                            \
	  "Contiguous pieces at a constant stride that were copied with one call.")                \
	X(R, uint64_t, row_bytes, , BYTES, 1, COUNTER, "",                                         \
	  "hbmd_link_row_bytes_total", "Their bytes.")                                             \
	X(R, uint64_t, batch_pieces, , COUNT, 1, COUNTER, "",                                      \
	  "hbmd_link_batch_pieces_total",                                                          \
	  "Other contiguous pieces that were copied in batches with one call.")                    \
	X(R, uint64_t, batch_bytes, , BYTES, 1, COUNTER, "",                                       \
	  "hbmd_link_batch_bytes_total", "Their bytes.")                                           \
	X(R, uint64_t, direct_copies, , COUNT, 1, COUNTER, "",                                     \
	  "hbmd_link_direct_copies_total",                                                         \
	  "Device copies that the daemon's loop issued itself: device.copy_direct.")

/* What a check of the copies that a device lends has found. */
#define HBM_RECORD_LENT(X, R)                                                                      \
	X(R, uint32_t, device, , ID, 1, FACT, "DEVICE", "", "Number of the device.")               \
	X(R, uint32_t, zero, , ZERO, 1, FACT, "", "", "0")                                         \
	X(R, uint64_t, checked, , COUNT, 1, FACT, "CHECKED",                                       \
	  "", "Lent copies of blocks that were read and compared.")                                \
	X(R, uint64_t, bytes, , BYTES, 1, FACT, "BYTES", "", "Their bytes.")                       \
	X(R, uint64_t, mismatches, , COUNT, 1, FACT, "MISMATCHES",                                 \
	  "", "Those with a checksum mismatch, which were dropped.")                                      \
	X(R, uint64_t, unchecked, , COUNT, 1, FACT, "UNCHECKED",                                   \
	  "", "Those that could not be compared.")

/* A movement over a link, or several that were one operation. */
#define HBM_RECORD_INTERVAL(X, R)                                                                  \
	X(R, uint64_t, start_ns, , NS, 2, FACT, "", "", "When it started, by CLOCK_MONOTONIC.")    \
	X(R, uint64_t, end_ns, , NS, 2, FACT, "", "", "When it ended.")                            \
	X(R, uint64_t, bytes, , BYTES, 2, FACT, "", "", "Bytes moved.")                            \
	X(R, uint32_t, link, , LINK, 1, FACT, "", "", "Link, an enum hbm_link.")                   \
	X(R, uint32_t, device, , DEVICE, 1, FACT, "", "", "Device of a device copy.")                  \
	X(R, uint32_t, count, , ID, 2, FACT, "", "", "Movements that it stands for.")              \
	X(R, uint32_t, errors, , ID, 2, FACT, "", "", "Those of them that failed.")

/* A key of [limits], and what is charged against it: nothing if it bounds one request, one
 * block or one wait. */
#define HBM_RECORD_LIMIT(X, R)                                                                     \
	X(R, char, name, [40], TEXT, 1, FACT, "NAME", "", "The key: limits.regions and so on.")    \
	X(R, uint64_t, limit, , COUNT, 1, FACT, "LIMIT",                                           \
	  "", "Of each session, tier and so on, or of all; UINT64_MAX: none.")                     \
	X(R, uint64_t, used, , COUNT, 2, GAUGE, "USED", "", "Charged by all together.")            \
	X(R, uint64_t, highest, , COUNT, 2, GAUGE, "BY ONE",                                       \
	  "", "Charged by the one that uses most.")                                                \
	X(R, uint64_t, refused, , COUNT, 2, COUNTER, "REFUSED", "", "Requests that it refused.")   \
	X(R, uint32_t, unit, , UNIT, 1, FACT, "UNIT",                                              \
	  "", "Unit of the limit, an enum hbm_wire_unit.")                                         \
	X(R, uint32_t, balanced, , BOOL, 2, FACT, "BALANCED",                                      \
	  "", "1: what is charged is what is there.")                                              \
	X(R, char, problem, [96], TEXT, 2, FACT, "PROBLEM",                                        \
	  "", "The first difference found, or empty.")

/* What a tenant may have of one thing: a section [tenant NAME] of the configuration, or the clients
 * of one uid that none matches. */
#define HBM_RECORD_TENANT(X, R)                                                                    \
	X(R, char, tenant, [32], TEXT, 1, FACT, "TENANT",                       \
	  "", "Its name; of a uid without a section \"uid:\" and the number.")                     \
	X(R, char, key, [32], TEXT, 1, FACT, "KEY",                             \
	  "", "The key of the configuration.")                                                     \
	X(R, uint64_t, limit, , COUNT, 1, FACT, "LIMIT", "", "UINT64_MAX: none.")                  \
	X(R, uint64_t, used, , COUNT, 1, GAUGE, "USED", "", "What its clients have together.")     \
	X(R, uint64_t, refused, , COUNT, 1, COUNTER, "REFUSED",                                    \
	  "", "Requests that the limit refused; 0 without a section.")                             \
	X(R, uint32_t, unit, , UNIT, 1, FACT, "UNIT",                                              \
	  "", "Unit of the limit, an enum hbm_wire_unit.")                                         \
	X(R, uint32_t, configured, , BOOL, 1, FACT, "CONFIGURED",                                  \
	  "", "1: the configuration has a section for it.")

/* clang-format on */

#endif
