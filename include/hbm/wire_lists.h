/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_lists: the names and numbers of wire.h as lists without declarations. wire.h makes
 * its enums of them; the daemon, the library and hbmctl make their tables of them: names,
 * sizes of messages and records. A name or a number is written here once. A program may
 * use the lists too: it defines a macro for one entry and hands it to the list.
 */
#ifndef HBM_WIRE_LISTS_H
#define HBM_WIRE_LISTS_H

/* clang-format off */

/* X(name, value, meaning): enum hbm_status, HBM_<name>. The numbers are stable. */
#define HBM_STATUS_LIST(X)                                                                         \
	X(OK, 0, "done")                                                                           \
	X(INVALID, 1, "an argument is malformed, misaligned or out of range")                      \
	X(UNSUPPORTED, 2, "this daemon or connection does not support it")                         \
	X(NO_SPACE, 3, "not enough memory in the pool")                                            \
	X(LIMIT, 4, "a limit would be exceeded")                                                   \
	X(NOT_FOUND, 5,                                                                            \
	  "no such region, namespace, session or pin, or the range is not committed")              \
	X(MISS, 6, "the block is not in the cache")                                                \
	X(EXISTS, 7, "the block or the committed range exists already")                            \
	X(NO_PARENT, 8, "the block's parent is not in the cache")                                  \
	X(DENIED, 9, "permission denied")                                                          \
	X(IO, 10, "the tier's I/O failed")                                                         \
	X(DEVICE, 11, "a device call failed")                                                      \
	X(TIMEOUT, 12, "timeout: what the request waited for did not come")                          \
	X(SHUTDOWN, 13, "the daemon is stopping")                                                  \
	X(CANCELLED, 14, "the request was cancelled before it started")                            \
	X(DRAINING, 15, "the daemon is being drained: it grants nothing new")

/*
 * X(name, value, request, reply): enum hbm_wire_opcode, HBM_WIRE_<name>, and the structs of
 * its messages. HELLO has another form, hbm_wire_hello_resume, and NAMESPACE_OPEN has others,
 * of hbm_wire_namespace_ref to hbm_wire_namespace_open_group: the size of the message tells
 * which.
 */
#define HBM_OPCODE_LIST(X)                                                                         \
	X(HELLO, 1, hbm_wire_hello, hbm_wire_hello_reply)                                          \
	X(REGION_CREATE, 2, hbm_wire_region_create, hbm_wire_region_create_reply)                  \
	X(REGION_DESTROY, 3, hbm_wire_region_destroy, hbm_wire_header)                             \
	X(COMMIT, 4, hbm_wire_ranges, hbm_wire_ranges)                                             \
	X(DECOMMIT, 5, hbm_wire_ranges, hbm_wire_header)                                           \
	X(NAMESPACE_OPEN, 6, hbm_wire_namespace_open, hbm_wire_namespace_reply)                    \
	X(NAMESPACE_CLOSE, 7, hbm_wire_namespace_ref, hbm_wire_header)                             \
	X(LOOKUP, 8, hbm_wire_keys, hbm_wire_results)                                              \
	X(STORE, 9, hbm_wire_blocks, hbm_wire_results)                                             \
	X(LOAD, 10, hbm_wire_blocks, hbm_wire_results)                                             \
	X(PREFETCH, 11, hbm_wire_keys, hbm_wire_results)                                           \
	X(TOUCH, 12, hbm_wire_keys, hbm_wire_results)                                              \
	X(PIN, 13, hbm_wire_keys, hbm_wire_results)                                                \
	X(UNPIN, 14, hbm_wire_keys, hbm_wire_results)                                              \
	X(REMOVE, 15, hbm_wire_keys, hbm_wire_results)                                             \
	X(EVICT, 16, hbm_wire_evict, hbm_wire_amount)                                              \
	X(QUERY, 17, hbm_wire_query, hbm_wire_query_reply)                                         \
	X(PING, 18, hbm_wire_header, hbm_wire_header)                                              \
	X(CANCEL, 19, hbm_wire_cancel, hbm_wire_header)                                            \
	X(NAMESPACE_DROP, 20, hbm_wire_namespace_drop, hbm_wire_amount)                            \
	X(SESSION_END, 21, hbm_wire_session_ref, hbm_wire_header)                                  \
	X(REGION_IMPORT, 22, hbm_wire_region_import, hbm_wire_region_create_reply)                 \
	X(MOVE, 23, hbm_wire_keys, hbm_wire_results)                                               \
	X(BORROW, 24, hbm_wire_borrow, hbm_wire_borrowed)                                          \
	X(RETURN, 25, hbm_wire_return, hbm_wire_header)                                            \
	X(SHARE, 26, hbm_wire_shares, hbm_wire_header)                                             \
	X(RESERVE, 27, hbm_wire_reserve, hbm_wire_header)                                          \
	X(MEMORY, 28, hbm_wire_header, hbm_wire_header)                                            \
	X(BOARD_OPEN, 29, hbm_wire_board_open, hbm_wire_board_reply)                               \
	X(BOARD_CLOSE, 30, hbm_wire_board_ref, hbm_wire_header)                                    \
	X(ASK, 31, hbm_wire_ask, hbm_wire_header)                                                  \
	X(PUBLISH, 32, hbm_wire_publish, hbm_wire_header)                                          \
	X(ATTACH, 33, hbm_wire_attach, hbm_wire_attached)                                          \
	X(UNPUBLISH, 34, hbm_wire_unpublish, hbm_wire_header)                                      \
	X(COUNT, 35, hbm_wire_count, hbm_wire_counted)                                             \
	X(RETAIN, 36, hbm_wire_keys, hbm_wire_results)                                             \
	X(TENANT_SET, 37, hbm_wire_tenant_set, hbm_wire_header)                                    \
	X(WATCH, 38, hbm_wire_watch, hbm_wire_watched)                                             \
	X(RESIZE, 39, hbm_wire_resize, hbm_wire_header)                                            \
	X(RECONCILE, 40, hbm_wire_ranges, hbm_wire_header)                                        \
	X(DRAIN, 41, hbm_wire_drain, hbm_wire_header)

/* X(name, value, text): enum hbm_tier, HBM_TIER_<name>, from the top down; NONE is no tier. */
#define HBM_TIER_LIST(X)                                                                           \
	X(NONE, 0, "none")                                                                         \
	X(HBM, 1, "hbm")                                                                           \
	X(DDR, 2, "ddr")                                                                           \
	X(NVME, 3, "nvme")

/* X(name, value, text): enum hbm_turns, HBM_TURNS_<name>: turns of the daemon's loop that took
 * no longer than the text says, in seconds. */
#define HBM_TURNS_LIST(X)                                                                          \
	X(100US, 0, "0.0001")                                                                      \
	X(1MS, 1, "0.001")                                                                         \
	X(10MS, 2, "0.01")                                                                         \
	X(100MS, 3, "0.1")                                                                         \
	X(ALL, 4, "+Inf")

/* X(name, value, text): enum hbm_driver, HBM_DRIVER_<name>. */
#define HBM_DRIVER_LIST(X)                                                                         \
	X(CUDA, 2, "cuda")                                                                         \
	X(SOFT, 1, "soft")

/*
 * X(name, value, text): enum hbm_link, HBM_LINK_<name>: region <-> HBM tier, device to host
 * memory, host memory to device, host memory to NVMe, NVMe to host memory. HASH to DECODE move
 * nothing: checksums of host memory; blocks that are encoded for NVMe, and decoded, in bytes
 * before they are encoded. HOST: host regions <-> other host memory.
 */
#define HBM_LINK_LIST(X)                                                                           \
	X(D2D, 0, "d2d")                                                                           \
	X(D2H, 1, "d2h")                                                                           \
	X(H2D, 2, "h2d")                                                                           \
	X(NVME_WRITE, 3, "nvme_write")                                                             \
	X(NVME_READ, 4, "nvme_read")                                                               \
	X(HASH, 5, "hash")                                                                         \
	X(ENCODE, 6, "encode")                                                                     \
	X(DECODE, 7, "decode")                                                                     \
	X(HOST, 8, "host")

/*
 * X(name, value, text): enum hbm_encoding, HBM_ENCODING_<name>: what blocks of a namespace are
 * encoded as. LOSSLESS: by the daemon, on the way to NVMe. The last three: by the client,
 * before it stores them.
 */
#define HBM_ENCODING_LIST(X)                                                                       \
	X(RAW, 0, "raw")                                                                           \
	X(LOSSLESS, 1, "lossless")                                                                 \
	X(FP8, 2, "fp8")                                                                           \
	X(INT8, 3, "int8")                                                                         \
	X(INT4, 4, "int4")

/* X(name, value, text): enum hbm_sequence_state, HBM_SEQUENCE_<name>: of a sequence, as its
 * client says. SUSPENDING, RESUMING: it is on its way. */
#define HBM_SEQUENCE_STATE_LIST(X)                                                                 \
	X(OPEN, 0, "open")                                                                         \
	X(SUSPENDING, 1, "suspending")                                                             \
	X(SUSPENDED, 2, "suspended")                                                               \
	X(RESUMING, 3, "resuming")

/* X(name, value, text): enum hbm_sequence_event, HBM_SEQUENCE_<name>: what has happened to a
 * sequence, as its client says. NOW_OVERRUN: it has more tokens than were expected.
 * NOT_SUSPENDED, NOT_RESUMED: that was begun, and failed or was cancelled. */
#define HBM_SEQUENCE_EVENT_LIST(X)                                                                 \
	X(NOW_OPEN, 1, "opened")                                                                   \
	X(NOW_OVERRUN, 2, "overrun")                                                               \
	X(NOW_SUSPENDING, 3, "suspending")                                                         \
	X(NOW_SUSPENDED, 4, "suspended")                                                           \
	X(NOW_RESUMING, 5, "resuming")                                                             \
	X(NOW_RESUMED, 6, "resumed")                                                               \
	X(NOW_CLOSED, 7, "closed")                                                                 \
	X(NOT_SUSPENDED, 8, "not suspended")                                                       \
	X(NOT_RESUMED, 9, "not resumed")

/* X(name, value, text): enum hbm_cache_event, HBM_CACHE_<name>: what has happened to a block. */
#define HBM_CACHE_EVENT_LIST(X)                                                                    \
	X(STORED, 1, "stored")                                                                     \
	X(MOVED, 2, "moved")                                                                       \
	X(DROPPED, 3, "dropped")

/* X(name, value, text): enum hbm_ask, HBM_ASK_<name>: what a session is asked to do. PRESSURE:
 * by the daemon alone. */
#define HBM_ASK_LIST(X)                                                                            \
	X(SUSPEND, 1, "suspend")                                                                   \
	X(RESUME, 2, "resume")                                                                     \
	X(PRESSURE, 3, "pressure")

/* X(name, value, text): enum hbm_wire_unit, HBM_UNIT_<name>: of a limit. */
#define HBM_UNIT_LIST(X)                                                                           \
	X(COUNT, 0, "count")                                                                       \
	X(BYTES, 1, "bytes")                                                                       \
	X(MS, 2, "ms")

/*
 * X(name, value, record, text, members): enum hbm_wire_query_kind, HBM_QUERY_<name>, the struct
 * of its records, and the list of their members in wire_records.h. There is one STATUS, one
 * account of VERIFY for each pool, one LENT for each device, one link for each kind of link, one
 * interval for each of the last few thousand movements, one event for each of the last of
 * each board, and one of TENANTS for each limit of each tenant.
 */
#define HBM_QUERY_LIST(X)                                                                          \
	X(STATUS, 1, hbm_wire_status, "status", HBM_RECORD_STATUS)                                 \
	X(DEVICES, 2, hbm_wire_device, "devices", HBM_RECORD_DEVICE)                               \
	X(TIERS, 3, hbm_wire_tier, "tiers", HBM_RECORD_TIER)                                       \
	X(SESSIONS, 4, hbm_wire_session, "sessions", HBM_RECORD_SESSION)                           \
	X(REGIONS, 5, hbm_wire_region, "regions", HBM_RECORD_REGION)                               \
	X(NAMESPACES, 6, hbm_wire_namespace, "namespaces", HBM_RECORD_NAMESPACE)                   \
	X(BLOCKS, 7, hbm_wire_block_info, "blocks", HBM_RECORD_BLOCK_INFO)                         \
	X(VERIFY, 8, hbm_wire_account, "accounts", HBM_RECORD_ACCOUNT)                             \
	X(LINKS, 9, hbm_wire_link, "links", HBM_RECORD_LINK)                                       \
	X(TIMELINE, 10, hbm_wire_interval, "intervals", HBM_RECORD_INTERVAL)\
	X(LIMITS, 11, hbm_wire_limit, "limits", HBM_RECORD_LIMIT)                                  \
	X(NODES, 12, hbm_wire_node, "nodes", HBM_RECORD_NODE)                                      \
	X(SEQUENCES, 13, hbm_wire_sequence, "sequences", HBM_RECORD_SEQUENCE)                      \
	X(EVENTS, 14, hbm_wire_event, "events", HBM_RECORD_EVENT)                                  \
	X(LENT, 15, hbm_wire_lent, "lent", HBM_RECORD_LENT)                                        \
	X(TENANTS, 16, hbm_wire_tenant, "tenants", HBM_RECORD_TENANT)

/* clang-format on */

#endif
