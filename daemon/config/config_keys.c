/* SPDX-License-Identifier: Apache-2.0 */
/* config_keys: see config_keys.h. */
#include "daemon/config/config_keys.h"

#include <assert.h>
#include <hbm/wire.h>
#include <sys/un.h>
#include <syslog.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

#define DRIVER(name, value, text) {text, CONFIG_DRIVER_##name},
static const struct value_choice drivers[] = {{"auto", CONFIG_DRIVER_AUTO},
					      HBM_DRIVER_LIST(DRIVER){NULL, 0}};
static const struct value_choice engines[] = {{"auto", CONFIG_IO_AUTO},
					      {"io_uring", CONFIG_IO_URING},
					      {"threads", CONFIG_IO_THREADS},
					      {NULL, 0}};
static const struct value_choice numas[] = {{"node", CONFIG_NUMA_NODE},
					    {"interleave", CONFIG_NUMA_INTERLEAVE},
					    {"off", CONFIG_NUMA_OFF},
					    {NULL, 0}};
static const struct value_choice checksums[] = {{"nvme", CONFIG_CHECKSUM_NVME},
						{"always", CONFIG_CHECKSUM_ALWAYS},
						{"off", CONFIG_CHECKSUM_OFF},
						{NULL, 0}};
static const struct value_choice scrubs[] = {
	{"auto", CONFIG_SCRUB_AUTO}, {"yes", CONFIG_SCRUB_YES}, {"no", CONFIG_SCRUB_NO}, {NULL, 0}};
static const struct value_choice depths[] = {{"auto", 0}, {NULL, 0}};
static const struct value_choice levels[] = {{"error", LOG_ERR},     {"warning", LOG_WARNING},
					     {"notice", LOG_NOTICE}, {"info", LOG_INFO},
					     {"debug", LOG_DEBUG},   {NULL, 0}};

#define AT(member) offsetof(struct config, member)
#define TEXT                                                                                       \
	{                                                                                          \
		.type = VALUE_TEXT                                                                 \
	}
#define PATH(least, limit)                                                                         \
	{                                                                                          \
		.type = VALUE_PATH, .min = (least), .max = (limit)                                 \
	}
#define BOOL                                                                                       \
	{                                                                                          \
		.type = VALUE_BOOL                                                                 \
	}
#define COUNT(least, most)                                                                         \
	{                                                                                          \
		.type = VALUE_COUNT, .min = (least), .max = (most)                                 \
	}
#define COUNT_OR(least, most, names)                                                               \
	{                                                                                          \
		.type = VALUE_COUNT, .min = (least), .max = (most), .choices = (names)             \
	}
#define MODE                                                                                       \
	{                                                                                          \
		.type = VALUE_MODE, .max = 0777                                                    \
	}
#define DECIMAL(most)                                                                              \
	{                                                                                          \
		.type = VALUE_DECIMAL, .max = (most)                                               \
	}
#define SIZE(least, most, step)                                                                    \
	{                                                                                          \
		.type = VALUE_SIZE, .min = (least), .max = (most), .unit = (step)                  \
	}
#define SHARE(least, most)                                                                         \
	{                                                                                          \
		.type = VALUE_SHARE, .min = (least), .max = (most)                                 \
	}
#define CHOICE(names)                                                                              \
	{                                                                                          \
		.type = VALUE_CHOICE, .choices = (names)                                           \
	}

/* clang-format off */
const struct config_key config_keys[] = {
	{"hbmd", "socket", AT(socket), PATH(1, sizeof(((struct sockaddr_un *)0)->sun_path)), "/run/hbmd/hbmd.sock",
	 "path of the socket; unused when systemd passes a socket"},
	{"hbmd", "socket_mode", AT(socket_mode), MODE, "0660", "mode of the socket file"},
	{"hbmd", "socket_group", AT(socket_group), TEXT, "", "group of the socket file; empty: unchanged"},
	{"hbmd", "state_dir", AT(state_dir), PATH(1, 4096), "/var/lib/hbmd", "folder for the files of the daemon"},
	{"hbmd", "share_namespaces", AT(share_namespaces), BOOL, "yes",
	 "users that no [tenant] has share namespaces if they know the whole specification; no: each has its own"},
	{"hbmd", "driver", AT(driver), CHOICE(drivers), "auto", "auto: cuda if a device answers, else soft"},
	{"hbmd", "io", AT(io), CHOICE(engines), "auto", "auto: io_uring if the kernel allows it, else threads"},
	{"hbmd", "log_level", AT(log_level), CHOICE(levels), "info", "least important message that is logged"},
	{"hbmd", "checksum", AT(checksum), CHOICE(checksums), "nvme",
	 "nvme: of blocks on NVMe, compared when they come from there; always: of every block, from when it is stored"},
	{"hbmd", "checksum_threads", AT(checksum_threads), COUNT(0, 256), "0",
	 "threads that compute checksums; 0: one for four CPUs, 1 to 8"},
	{"hbmd", "checksum_idle_ms", AT(checksum_idle_ms), COUNT(0, 86400000), "100",
	 "with nvme: after so long without moves blocks in memory get theirs too; 0: never"},

	{"device", "memory", AT(device_memory), SHARE(0, 16 * TIB), "50%",
	 "memory of each device that the daemon uses; a percentage is of the device's memory"},
	{"device", "cache", AT(device_cache), SHARE(0, 16 * TIB), "0",
	 "the HBM tier of the block cache; a percentage is of device.memory"},
	{"device", "headroom", AT(device_headroom), SHARE(0, 16 * TIB), "64MiB",
	 "device memory for blocks in transit; a percentage is of device.memory"},
	{"device", "lend", AT(device_lend), SHARE(0, 16 * TIB), "0",
	 "of the memory for regions: copies of blocks that clients map instead of loading them; a percentage is of device.memory; 0: nothing is lent"},
	{"device", "watermark", AT(device_watermark), SHARE(0, 16 * TIB), "0",
	 "memory for regions that should stay free: below it, sessions with sequences are told; a percentage is of device.memory; 0: they are not"},
	{"device", "publish_groups", AT(device_publish_groups), BOOL, "no",
	 "let a client publish memory for the members of a group, not for its own user alone"},
	{"device", "restart", AT(device_restart), BOOL, "yes",
	 "end after a sticky error, so that the next daemon uses the device, if what this one has is kept"},
	{"device", "scrub", AT(device_scrub), CHOICE(scrubs), "auto",
	 "overwrite new device memory before clients get it; auto: where the driver does not clear what is given back"},
	{"device", "slab", AT(device_slab), SIZE(2 * MIB, GIB, 2 * MIB), "64MiB",
	 "unit in which regions get memory: 2MiB times a power of two"},
	{"device", "copy_rows", AT(device_copy_rows), COUNT(0, 1 << 20), "2",
	 "rows at a constant stride from which on one call copies them; 0: never"},
	{"device", "copy_batch", AT(device_copy_batch), COUNT(0, 1 << 20), "16",
	 "other pieces from which on one call copies them, where the driver can; 0: never"},
	{"device", "copy_in_flight", AT(device_copy_in_flight), SIZE(MIB, GIB, MIB), "8MiB",
	 "copies begun and not done, on each stream: what a copy may have to wait for"},
	{"device", "copy_direct", AT(device_copy_direct), SIZE(0, MIB, 0), "256KiB",
	 "the loop itself issues a copy of at most so many bytes that a request waits for, while the link is idle; 0: none"},

	{"ddr", "size", AT(ddr_size), SHARE(0, 16 * TIB), "0",
	 "the DDR tier; a percentage is of the host's memory, or its cgroup's; 0: no such tier"},
	{"ddr", "hugepages", AT(ddr_hugepages), BOOL, "no", "allocate from 2 MiB huge pages"},
	{"ddr", "numa", AT(ddr_numa), CHOICE(numas), "node",
	 "node: a part at each NUMA node, blocks go to their device's; interleave: pages of all in turn; off: as it comes"},
	{"ddr", "chunk", AT(ddr_chunk), SIZE(2 * MIB, GIB, 2 * MIB), "256MiB",
	 "host memory that is registered at a time, and given back when the tier shrinks"},
	{"ddr", "headroom", AT(ddr_headroom), SIZE(0, TIB, 0), "64MiB",
	 "host memory for blocks in transit, on top of ddr.size"},
	{"ddr", "staging", AT(ddr_staging), SIZE(MIB, TIB, 0), "512MiB",
	 "staging buffers between NVMe and devices, on top of ddr.size"},
	{"ddr", "regions", AT(ddr_regions), SHARE(0, 16 * TIB), "0",
	 "host memory for regions, on top of ddr.size; a percentage is of the host's memory, or its cgroup's; 0: regions are of device memory only"},
	{"ddr", "pressure_ms", AT(ddr_pressure_ms), COUNT(0, 2000), "0",
	 "the tier shrinks while tasks of the host wait for memory longer, of two seconds; 0: it does not"},
	{"ddr", "pressure_least", AT(ddr_pressure_least), SHARE(4 * KIB, 16 * TIB), "25%",
	 "what it keeps then; a percentage is of ddr.size"},
	{"ddr", "pressure_step", AT(ddr_pressure_step), SHARE(4 * KIB, 16 * TIB), "10%",
	 "by how much it shrinks or grows at a time; a percentage is of ddr.size"},
	{"ddr", "pressure_quiet_ms", AT(ddr_pressure_quiet_ms), COUNT(1, 86400000), "60000",
	 "without pressure for so long, it grows by a step"},
	{"ddr", "pressure_path", AT(ddr_pressure_path), PATH(0, 4096), "",
	 "file or FIFO that tells of it; empty: /proc/pressure/memory, or MEMORY_PRESSURE_WATCH"},

	{"nvme", "path", AT(nvme_path), PATH(0, 4096), "", "file or block device; empty: no NVMe tier"},
	{"nvme", "size", AT(nvme_size), SIZE(0, 16 * TIB - 4 * KIB, 4 * KIB), "0",
	 "bytes of the NVMe tier; 0: the whole block device"},
	{"nvme", "copies", AT(nvme_copies), SHARE(0, 16 * TIB), "100%",
	 "room on top of nvme.size for copies of blocks that moved up, which are not written again when they come down; a percentage is of the tiers above; 0: none"},
	{"nvme", "copies_inside", AT(nvme_copies_inside), BOOL, "no",
	 "yes: where there is no room on top of nvme.size, copies take of it"},
	{"nvme", "required", AT(nvme_required), BOOL, "yes",
	 "no: where the NVMe tier cannot be opened, start without it"},
	{"nvme", "salted", AT(nvme_salted), BOOL, "yes",
	 "no: blocks of namespaces with a salt stay in memory, and so do suspended sequences"},
	{"nvme", "catalog", AT(nvme_catalog), BOOL, "yes",
	 "keep a catalog beside nvme.path, by which what is in the tier is found again after a restart"},
	{"nvme", "catalog_ms", AT(nvme_catalog_ms), COUNT(1, 60000), "50",
	 "what has come to NVMe is in the catalog after so long, in milliseconds, and survives a kill from then on"},
	{"nvme", "catalog_flush_ms", AT(nvme_catalog_flush_ms), COUNT(1, 86400000), "5000",
	 "the same for a power cut: data and catalog are flushed so often, in milliseconds"},
	{"nvme", "depth", AT(nvme_depth), COUNT_OR(1, 4096, depths), "auto",
	 "reads and writes in flight; auto: as few as keep the disk as fast as more would, found by trying"},
	{"nvme", "depth_max", AT(nvme_depth_max), COUNT(1, 4096), "64", "the most that auto takes"},
	{"nvme", "merge", AT(nvme_merge), SIZE(4 * KIB, GIB, 4 * KIB), "2MiB", "size of the largest read or write"},
	{"nvme", "timeout_ms", AT(nvme_timeout_ms), COUNT(1, 86400000), "10000",
	 "a read or write without an answer for so long, in milliseconds: the tier counts as lost until it is answered"},
	{"nvme", "behind_ms", AT(nvme_behind_ms), COUNT(0, 86400000), "50",
	 "blocks that a store waits for are dropped instead of written while writes take longer, in milliseconds; 0: never"},
	{"nvme", "fail", AT(nvme_fail), TEXT, "", "for tests: faults to inject, such as read:3:EIO,write:1+:20ms"},

	{"soft", "devices", AT(soft_devices), COUNT(1, 16), "1", "number of soft devices"},
	{"soft", "memory", AT(soft_memory), SIZE(2 * MIB, 16 * TIB, 2 * MIB), "1GiB", "memory of each soft device"},
	{"soft", "d2h_gib_s", AT(soft_d2h_gib_s), DECIMAL(100000), "0",
	 "bandwidth from device to host in GiB/s; 0: as fast as the host copies"},
	{"soft", "h2d_gib_s", AT(soft_h2d_gib_s), DECIMAL(100000), "0",
	 "bandwidth from host to device in GiB/s; 0: as fast as the host copies"},
	{"soft", "latency_us", AT(soft_latency_us), DECIMAL(1000000), "0", "latency added to each copy, in microseconds"},
	{"soft", "fail", AT(soft_fail), TEXT, "", "for tests: device calls that fail, such as cuMemCreate:3"},

	{"limits", "sessions", AT(limit_sessions), COUNT(1, 1000000), "1024", "connected clients"},
	{"limits", "sessions_unprivileged", AT(limit_sessions_unprivileged), SHARE(1, 1000000), "98%",
	 "of them those of users that are no operators; a percentage is of limits.sessions"},
	{"limits", "sessions_per_user", AT(limit_sessions_per_user), SHARE(1, 1000000), "75%",
	 "sessions of one such user; a percentage is of limits.sessions_unprivileged"},
	{"limits", "silent", AT(limit_silent), COUNT(2, 65536), "64", "connections that have not said HELLO"},
	{"limits", "silent_per_user", AT(limit_silent_per_user), SHARE(1, 65536), "50%",
	 "the same of one user that is no operator; a percentage is of limits.silent"},
	{"limits", "descriptors", AT(limit_descriptors), COUNT(0, 100000000), "0",
	 "descriptors for clients that are no operators; 0: what RLIMIT_NOFILE leaves"},
	{"limits", "descriptors_per_user", AT(limit_descriptors_per_user), SHARE(1, 100000000), "75%",
	 "the same for one user; a percentage is of limits.descriptors"},
	{"limits", "requests_in_flight", AT(limit_requests_in_flight), COUNT(2, 65536), "64",
	 "requests of one session in flight"},
	{"limits", "request_bytes", AT(limit_request_bytes), SIZE(4 * KIB, 64 * GIB, 0), "16MiB",
	 "memory for the requests of one session; above it those that arrive wait"},
	{"limits", "request_bytes_total", AT(limit_request_bytes_total), SIZE(4 * KIB, TIB, 0), "256MiB",
	 "the same for all sessions; above it those wait that have more than an equal share"},
	{"limits", "regions", AT(limit_regions), COUNT(1, 1000000), "256", "regions of one session"},
	{"limits", "regions_total", AT(limit_regions_total), COUNT(1, 100000000), "16384", "regions of all sessions"},
	{"limits", "regions_per_user", AT(limit_regions_per_user), SHARE(1, 100000000), "75%",
	 "regions of one user that is no operator; a percentage is of limits.regions_total"},
	{"limits", "address_space", AT(limit_address_space), SIZE(2 * MIB, 64 * TIB, 0), "1TiB",
	 "address space of one session's regions"},
	{"limits", "address_space_total", AT(limit_address_space_total), SIZE(2 * MIB, 64 * TIB, 0), "32TiB",
	 "address space of all regions"},
	{"limits", "address_space_per_user", AT(limit_address_space_per_user), SHARE(2 * MIB, 64 * TIB), "75%",
	 "address space of one user that is no operator; a percentage is of limits.address_space_total"},
	{"limits", "commit_slabs", AT(limit_commit_slabs), COUNT(1, 1000000), "4096", "slabs of one commit request"},
	{"limits", "unread_descriptors", AT(limit_unread_descriptors), COUNT(HBM_WIRE_FDS_MAX, 1000000), "1024",
	 "descriptors sent to one session before it has read them; above it those that follow wait"},
	{"limits", "unread_descriptors_total", AT(limit_unread_descriptors_total), COUNT(0, 100000000), "0",
	 "the same for clients that are no operators; 0: what RLIMIT_NOFILE leaves"},
	{"limits", "unread_descriptors_per_user", AT(limit_unread_descriptors_per_user), SHARE(HBM_WIRE_FDS_MAX, 100000000), "75%",
	 "the same for one of their users; a percentage is of limits.unread_descriptors_total"},
	{"limits", "namespaces", AT(limit_namespaces), COUNT(1, 65000), "1024", "namespaces with blocks or users"},
	{"limits", "namespaces_per_user", AT(limit_namespaces_per_user), SHARE(1, 65000), "75%",
	 "those that one user has made, if no operator; a percentage is of limits.namespaces"},
	{"limits", "namespace_opens", AT(limit_namespace_opens), COUNT(1, 1000000), "64",
	 "namespaces open in one session"},
	{"limits", "blocks", AT(limit_blocks), COUNT(1, 2000000000), "4194304", "blocks in the cache, over all tiers"},
	{"limits", "block_bytes", AT(limit_block_bytes), SIZE(1, 4 * GIB, 0), "64MiB", "size of the largest block"},
	{"limits", "block_segments", AT(limit_block_segments), COUNT(1, 4096), "1024",
	 "segments of one block in a store or load"},
	{"limits", "pinned", AT(limit_pinned), SHARE(0, 16 * TIB), "50%",
	 "pinned blocks in each tier; a percentage is of the tier"},
	{"limits", "pins", AT(limit_pins), COUNT(0, 1000000000), "65536", "blocks pinned by one session"},
	{"limits", "pins_total", AT(limit_pins_total), COUNT(1, 1000000000), "1048576", "pins of all sessions, and those kept"},
	{"limits", "pins_per_user", AT(limit_pins_per_user), SHARE(1, 1000000000), "75%",
	 "pins of one user that is no operator; a percentage is of limits.pins_total"},
	{"limits", "retained", AT(limit_retained), SHARE(0, 16 * TIB), "25%",
	 "what one user retains in each tier, and goes after what others have there; a percentage is of the tier"},
	{"limits", "retained_total", AT(limit_retained_total), COUNT(0, 100000000), "65536", "blocks that are retained, and their ancestors"},
	{"limits", "retained_per_user", AT(limit_retained_per_user), SHARE(1, 100000000), "75%",
	 "those of one user that is no operator; a percentage is of limits.retained_total"},
	{"limits", "watched", AT(limit_watched), COUNT(1, 65000), "64", "namespaces whose events are kept for clients that ask"},
	{"limits", "watched_per_user", AT(limit_watched_per_user), SHARE(1, 65000), "75%",
	 "those of one user that is no operator; a percentage is of limits.watched"},
	{"limits", "held", AT(limit_held), SHARE(1, 16 * TIB), "25%",
	 "device memory that one session gave back and still holds; a percentage is of all for regions"},
	{"limits", "loans", AT(limit_loans), COUNT(1, 1000000), "4096", "blocks that one session has borrowed"},
	{"limits", "loans_total", AT(limit_loans_total), COUNT(1, 100000000), "65536", "loans of all sessions"},
	{"limits", "loans_per_user", AT(limit_loans_per_user), SHARE(1, 100000000), "75%",
	 "loans of one user that is no operator; a percentage is of limits.loans_total"},
	{"limits", "replicas", AT(limit_replicas), COUNT(1, 100000000), "65536", "copies of blocks for lending"},
	{"limits", "lent_per_user", AT(limit_lent_per_user), SHARE(1, 16 * TIB), "75%",
	 "device memory for what is lent to one user that is no operator; a percentage is of all that may be lent"},
	{"limits", "reserved", AT(limit_reserved), SHARE(1, 16 * TIB), "100%",
	 "device memory reserved by all sessions; a percentage is of all for regions"},
	{"limits", "reserved_per_user", AT(limit_reserved_per_user), SHARE(1, 16 * TIB), "75%",
	 "device memory reserved by one user that is no operator; a percentage is of limits.reserved"},
	{"limits", "reserves_waiting", AT(limit_reserves_waiting), COUNT(1, 65536), "1024",
	 "reservations that wait for memory"},
	{"limits", "reserves_waiting_per_user", AT(limit_reserves_waiting_per_user), SHARE(1, 65536),
	 "25%", "these of one user that is no operator; a percentage is of limits.reserves_waiting"},
	{"limits", "sequences", AT(limit_sequences), COUNT(32, 1000000), "16384",
	 "sequences that one session may show on its boards; a board counts one more, and as a multiple of 32"},
	{"limits", "sequences_total", AT(limit_sequences_total), COUNT(32, 100000000), "131072",
	 "the same of all sessions"},
	{"limits", "sequences_per_user", AT(limit_sequences_per_user), SHARE(32, 100000000), "75%",
	 "the same of one user that is no operator; a percentage is of limits.sequences_total"},
	{"limits", "notices", AT(limit_notices), COUNT(1, 65536), "16",
	 "messages unasked that wait for one session to read; those that follow are dropped"},
	{"limits", "publications", AT(limit_publications), COUNT(1, 1000000), "1024", "published ranges of regions"},
	{"limits", "publications_per_user", AT(limit_publications_per_user), SHARE(1, 1000000), "75%",
	 "those of one user that is no operator; a percentage is of limits.publications"},
	{"limits", "published_per_user", AT(limit_published_per_user), SHARE(1, 16 * TIB), "75%",
	 "their bytes; a percentage is of the devices' memory for regions"},
	{"limits", "moves", AT(limit_moves), COUNT(1, 65536), "1024", "moves between tiers in flight"},
	{"limits", "ready_ms", AT(limit_ready_ms), COUNT(1, 86400000), "10000",
	 "timeout for a ready fence, in milliseconds"},
	{"limits", "reserve_ms", AT(limit_reserve_ms), COUNT(1, 86400000), "60000",
	 "longest wait for a reservation, in milliseconds"},
	{"limits", "retain_ms", AT(limit_retain_ms), COUNT(1, 2592000000), "3600000", "the longest that a block is retained, in milliseconds"},
	{"limits", "hello_ms", AT(limit_hello_ms), COUNT(1, 86400000), "5000",
	 "timeout for a new client's HELLO, in milliseconds"},
};
/* clang-format on */

const size_t config_keys_count = sizeof(config_keys) / sizeof(config_keys[0]);
static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_KEYS_MAX, "room for all keys");
