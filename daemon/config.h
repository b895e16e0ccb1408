/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: what the operator asked for. One table in config.c gives every key its section, type, default, bounds and a
 * line of help; the reader, --check-config, --help-config and hbmd.conf(5)'s test all walk that table.
 *
 * Precedence: defaults, then the file, then FILE.d/(star).conf in name order, then each --set section.key=value. An
 * unknown section or key, a bad or repeated value: one line naming file, line, key and what was expected.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A size as written: bytes, or a share of something only known later. */
struct config_size {
	uint64_t bytes;
	double percent; /* > 0: take this share instead of bytes */
};

enum config_driver { CONFIG_DRIVER_AUTO, CONFIG_DRIVER_CUDA, CONFIG_DRIVER_SOFT };
enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_THREADS };

struct config {
	/* [hbmd] */
	char *socket;         /* /run/hbmd/hbmd.sock */
	uint64_t socket_mode; /* octal, 0660 */
	char *socket_group;   /* empty: leave it */
	char *state_dir;      /* /var/lib/hbmd */
	uint64_t driver;      /* enum config_driver: auto */
	uint64_t io;          /* enum config_io: auto */
	uint64_t log_level;   /* a syslog priority: LOG_INFO */
	/* [device] */
	struct config_size device_memory;  /* 90% of the device */
	struct config_size device_cache;   /* 50% of device.memory: the HBM tier */
	struct config_size device_reserve; /* 64MiB, of device.memory: for blocks passing through */
	uint64_t device_slab;              /* 64MiB: 2MiB << k, k = 0..9 */
	/* [ddr] */
	struct config_size ddr_size; /* 0: no DDR tier; % of MemTotal */
	uint64_t ddr_hugepages;      /* bool: false */
	uint64_t ddr_reserve;        /* 64MiB on top of size */
	uint64_t ddr_staging;        /* 64MiB on top of size: between NVMe and devices */
	/* [nvme] */
	char *nvme_path;     /* empty: no NVMe tier */
	uint64_t nvme_size;  /* bytes of the tier; 0: the whole block device */
	uint64_t nvme_depth; /* I/Os under way: 32 */
	uint64_t nvme_merge; /* largest merged I/O: 2MiB */
	char *nvme_fail;     /* "read:N:EIO|short,write:N:..." : injects faults, for tests; empty */
	/* [soft] */
	uint64_t soft_devices;                 /* 1 */
	uint64_t soft_memory;                  /* 1GiB each */
	double soft_d2h_gib_s, soft_h2d_gib_s; /* 0: as fast as the host can */
	double soft_latency_us;                /* 0 */
	char *soft_fail;                       /* "cuMemCreate:3[:code],..." : injects faults, for tests; empty */
	/* [limits] */
	uint64_t limit_sessions;           /* 1024 */
	uint64_t limit_requests_in_flight; /* a session: 64 */
	uint64_t limit_regions;            /* a session: 256 */
	uint64_t limit_reserve;            /* address space of one session's regions: 1TiB */
	uint64_t limit_commit_slabs;       /* one commit request: 4096 */
	uint64_t limit_namespaces;         /* 1024 */
	uint64_t limit_namespace_opens;    /* a session: 64 */
	uint64_t limit_blocks;             /* 4194304 */
	uint64_t limit_block_bytes;        /* 64MiB */
	struct config_size limit_pinned;   /* 50% of each tier */
	uint64_t limit_pins;               /* a session: 65536 */
	uint64_t limit_moves;              /* movements between tiers under way at once: 64 */
	uint64_t limit_ready_ms;           /* longest wait for a client's data: 10000 */
	uint64_t limit_hello_ms;           /* longest silence before HELLO: 5000 */
};

/* All defaults; strings are owned by the config. */
int config_defaults(struct config *config);
void config_clear(struct config *config);
/* Reads a file and its .d folder. On a bad line: -EINVAL and one line in `error` ("FILE:LINE: ..."). A missing file is
 * -ENOENT. */
int config_read(struct config *config, const char *path, char *error, size_t error_size);
/* "section.key=value". */
int config_set(struct config *config, const char *assignment, char *error, size_t error_size);
/* What holds between keys: cache + reserve <= memory where both are bytes, nvme_size without path, and so on. */
int config_check(const struct config *config, char *error, size_t error_size);
/* Every key with its default and a line of help, as a valid config file. */
void config_print_reference(FILE *out);
/* The config as it stands, as a valid file. */
void config_print(const struct config *config, FILE *out);
/* size's bytes, given the whole it may be a share of. */
uint64_t config_size_of(struct config_size size, uint64_t whole);
