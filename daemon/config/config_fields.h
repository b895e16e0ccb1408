/* SPDX-License-Identifier: Apache-2.0 */
/* config_fields: the configuration as a struct, one member for each key. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A size as written: bytes, or a share of something only known later. */
struct config_size {
	uint64_t bytes;
	double percent; /* > 0: take this share instead of bytes */
};

enum config_driver { CONFIG_DRIVER_AUTO, CONFIG_DRIVER_CUDA, CONFIG_DRIVER_SOFT };
enum config_numa { CONFIG_NUMA_NODE, CONFIG_NUMA_INTERLEAVE, CONFIG_NUMA_OFF };
enum config_checksum { CONFIG_CHECKSUM_NVME, CONFIG_CHECKSUM_ALWAYS, CONFIG_CHECKSUM_OFF };
enum config_scrub { CONFIG_SCRUB_AUTO, CONFIG_SCRUB_YES, CONFIG_SCRUB_NO };
enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_THREADS };

/* What each means and what it is by default: config_keys.c. */
struct config {
	/* [hbmd] */
	char *socket;
	uint64_t socket_mode;
	char *socket_group; /* empty: leave it */
	char *state_dir;
	uint64_t share_namespaces; /* bool: among users that no tenant has */
	uint64_t driver;           /* enum config_driver */
	uint64_t io;               /* enum config_io */
	uint64_t log_level;        /* a syslog priority */
	uint64_t checksum;         /* enum config_checksum */
	uint64_t checksum_threads; /* 0: by the number of CPUs */
	uint64_t checksum_idle_ms; /* 0: none ahead of need */
	/* [device] */
	struct config_size device_memory;    /* % of the device */
	struct config_size device_cache;     /* % of device.memory: the HBM tier */
	struct config_size device_headroom;  /* % of device.memory: for blocks in transit */
	struct config_size device_lend;      /* % of device.memory; 0: nothing is lent */
	struct config_size device_watermark; /* % of device.memory; 0: none */
	uint64_t device_publish_groups;      /* bool: publications may be for a group */
	uint64_t device_restart;             /* bool: the daemon, for a sticky error */
	uint64_t device_scrub;               /* enum config_scrub */
	uint64_t device_slab;                /* 2MiB << k, k = 0..9 */
	uint64_t device_copy_rows;           /* 0: never */
	uint64_t device_copy_batch;          /* 0: never */
	uint64_t device_copy_in_flight;      /* of each of a copy queue's two streams */
	uint64_t device_copy_direct;         /* 0: none */
	/* [ddr] */
	struct config_size ddr_size;    /* 0: no DDR tier; % of MemTotal */
	struct config_size ddr_regions; /* on top of size; 0: none; % of the same */
	uint64_t ddr_hugepages;         /* bool */
	uint64_t ddr_numa;              /* enum config_numa */
	uint64_t ddr_chunk;             /* bytes of a registration */
	uint64_t ddr_headroom;          /* on top of size */
	uint64_t ddr_staging;           /* on top of size: between NVMe and devices */
	uint64_t ddr_pressure_ms;       /* of stall in two seconds; 0: not watched */
	struct config_size ddr_pressure_least, ddr_pressure_step; /* % of size */
	uint64_t ddr_pressure_quiet_ms;
	char *ddr_pressure_path; /* empty: the kernel's, or the service manager's */
	/* [nvme] */
	char *nvme_path;                /* empty: no NVMe tier */
	uint64_t nvme_size;             /* bytes of the tier; 0: the whole block device */
	struct config_size nvme_copies; /* on top of size; % of the tiers above */
	uint64_t nvme_copies_inside;    /* bool: else out of size, where it has no room for more */
	uint64_t nvme_required;         /* bool: no start without it */
	uint64_t nvme_salted;           /* bool: also blocks of namespaces with a salt */
	uint64_t nvme_catalog;          /* bool: what is in it is found again after a restart */
	uint64_t nvme_catalog_ms;       /* between two transactions of the catalog */
	uint64_t nvme_catalog_flush_ms; /* between two flushes of it and of the data */
	uint64_t nvme_depth;            /* I/Os in flight; 0: found by trying, */
	uint64_t nvme_depth_max;        /* from 1 to this */
	uint64_t nvme_merge;            /* bytes of the largest merged I/O */
	uint64_t nvme_timeout_ms; /* an I/O without an answer for so long: the tier is silent */
	uint64_t nvme_behind_ms;  /* a write is late that takes longer; 0: none is */
	char *nvme_fail; /* "read:N:EIO,write:N+:20ms" : injects faults, for tests; or empty */
	/* [soft] */
	uint64_t soft_devices;
	uint64_t soft_memory;                  /* of each */
	uint64_t soft_card;                    /* no key: driver_soft_options.card */
	double soft_d2h_gib_s, soft_h2d_gib_s; /* 0: as fast as the host can */
	double soft_latency_us;
	char *soft_fail; /* "cuMemCreate:3[:code],..." : injects faults, for tests; or empty */
	/* [limits] */
	uint64_t limit_sessions;
	struct config_size limit_sessions_unprivileged; /* % of sessions */
	struct config_size limit_sessions_per_user;     /* % of sessions_unprivileged */
	uint64_t limit_silent;                          /* connections without HELLO */
	struct config_size limit_silent_per_user;       /* % of silent */
	uint64_t limit_descriptors;                     /* 0: what RLIMIT_NOFILE leaves */
	struct config_size limit_descriptors_per_user;  /* % of descriptors */
	uint64_t limit_requests_in_flight;              /* a session */
	uint64_t limit_request_bytes;                   /* a session */
	uint64_t limit_request_bytes_total;
	uint64_t limit_regions; /* a session */
	uint64_t limit_regions_total;
	struct config_size limit_regions_per_user; /* % of regions_total */
	uint64_t limit_address_space;              /* address space of one session's regions */
	uint64_t limit_address_space_total;
	struct config_size limit_address_space_per_user;      /* % of address_space_total */
	uint64_t limit_commit_slabs;                          /* one commit request */
	uint64_t limit_unread_descriptors;                    /* a session */
	uint64_t limit_unread_descriptors_total;              /* 0: what RLIMIT_NOFILE leaves */
	struct config_size limit_unread_descriptors_per_user; /* % of unread_descriptors_total */
	uint64_t limit_namespaces;
	struct config_size limit_namespaces_per_user; /* % of namespaces */
	uint64_t limit_namespace_opens;               /* a session */
	uint64_t limit_blocks;
	uint64_t limit_block_bytes;
	uint64_t limit_block_segments;
	struct config_size limit_pinned; /* % of each tier */
	uint64_t limit_pins;             /* a session */
	uint64_t limit_pins_total;
	struct config_size limit_pins_per_user; /* % of pins_total */
	struct config_size limit_retained;      /* a user; % of each tier */
	uint64_t limit_retained_total;
	struct config_size limit_retained_per_user; /* % of retained_total */
	uint64_t limit_watched;
	struct config_size limit_watched_per_user; /* % of watched */
	struct config_size limit_held; /* a session; % of the devices' memory for regions */
	uint64_t limit_loans;          /* a session */
	uint64_t limit_loans_total;
	struct config_size limit_loans_per_user; /* % of loans_total */
	uint64_t limit_replicas;
	struct config_size limit_lent_per_user;     /* % of what the devices may lend */
	struct config_size limit_reserved;          /* % of the devices' memory for regions */
	struct config_size limit_reserved_per_user; /* % of reserved */
	uint64_t limit_reserves_waiting;            /* RESERVE requests */
	struct config_size limit_reserves_waiting_per_user; /* % of reserves_waiting */
	uint64_t limit_reserve_ms;                          /* longest wait for a reservation */
	uint64_t limit_retain_ms; /* the longest that a block is retained */
	uint64_t limit_sequences; /* a session */
	uint64_t limit_sequences_total;
	struct config_size limit_sequences_per_user; /* % of sequences_total */
	uint64_t limit_notices;                      /* a session */
	uint64_t limit_publications;
	struct config_size limit_publications_per_user; /* % of publications */
	struct config_size limit_published_per_user;    /* % of the devices' memory for regions */
	uint64_t limit_moves;                           /* moves between tiers in flight */
	uint64_t limit_ready_ms;                        /* longest wait for a client's data */
	uint64_t limit_hello_ms;                        /* longest silence before HELLO */
	/* [tenant NAME], in the order they were read */
	struct config_tenant *tenants; /* config_tenant.h; owned */
	size_t tenant_count;
};
