/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: what the operator asked for. One table in config_keys.c gives every key its
 * section, type, default, bounds and a line of help; the reader, --check-config,
 * --help-config and hbmd.conf(5)'s test all walk that table.
 *
 * Precedence: defaults, then the file, then FILE.d/(star).conf in name order, then each
 * --set section.key=value. An unknown section or key, a bad or repeated value: one line
 * naming file, line, key and what was expected.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A size as written: bytes, or a percentage of an amount known later. */
struct config_size {
	uint64_t bytes;
	double percent; /* > 0: take this share instead of bytes */
};

enum config_driver { CONFIG_DRIVER_AUTO, CONFIG_DRIVER_CUDA, CONFIG_DRIVER_SOFT };
enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_THREADS };

/* Meanings and defaults: config_keys.c. */
struct config {
	/* [hbmd] */
	char *socket;
	uint64_t socket_mode;
	char *socket_group; /* empty: unchanged */
	char *state_dir;
	uint64_t driver;    /* enum config_driver */
	uint64_t io;        /* enum config_io */
	uint64_t log_level; /* a syslog priority */
	/* [device] */
	struct config_size device_memory;   /* % of the device */
	struct config_size device_cache;    /* % of device.memory: the HBM tier */
	struct config_size device_headroom; /* % of device.memory: for blocks in transit */
	uint64_t device_slab;               /* 2MiB << k, k = 0..9 */
	/* [ddr] */
	struct config_size ddr_size; /* 0: no DDR tier; % of MemTotal */
	uint64_t ddr_hugepages;      /* bool */
	uint64_t ddr_headroom;       /* on top of size */
	uint64_t ddr_staging;        /* on top of size: between NVMe and devices */
	/* [nvme] */
	char *nvme_path;     /* empty: no NVMe tier */
	uint64_t nvme_size;  /* bytes of the tier; 0: the whole block device */
	uint64_t nvme_depth; /* I/Os in flight */
	uint64_t nvme_merge; /* bytes of the largest merged I/O */
	char *nvme_fail; /* "read:N:EIO|short,write:N:..." : injects faults, for tests; or empty */
	/* [soft] */
	uint64_t soft_devices;
	uint64_t soft_memory;                  /* of each */
	double soft_d2h_gib_s, soft_h2d_gib_s; /* 0: as fast as the host can */
	double soft_latency_us;
	char *soft_fail; /* "cuMemCreate:3[:code],..." : injects faults, for tests; or empty */
	/* [limits] */
	uint64_t limit_sessions;
	uint64_t limit_requests_in_flight; /* a session */
	uint64_t limit_regions;            /* a session */
	uint64_t limit_address_space;      /* address space of one session's regions */
	uint64_t limit_commit_slabs;       /* one commit request */
	uint64_t limit_namespaces;
	uint64_t limit_namespace_opens; /* a session */
	uint64_t limit_blocks;
	uint64_t limit_block_bytes;
	struct config_size limit_pinned; /* % of each tier */
	uint64_t limit_pins;             /* a session */
	uint64_t limit_moves;            /* moves between tiers in flight */
	uint64_t limit_ready_ms;         /* longest wait for a client's data */
	uint64_t limit_hello_ms;         /* longest silence before HELLO */
};

/* All defaults; strings are owned by the config. */
int config_defaults(struct config *config);
void config_clear(struct config *config);
/* Reads a file and its .d folder. On a bad line: -EINVAL and one line in `error`
 * ("FILE:LINE: ..."). A missing file is -ENOENT. */
int config_read(struct config *config, const char *path, char *error, size_t error_size);
/* "section.key=value". */
int config_set(struct config *config, const char *assignment, char *error, size_t error_size);
/* Checks constraints between keys: cache + headroom <= memory where both are bytes,
 * nvme_size without path, and so on. */
int config_check(const struct config *config, char *error, size_t error_size);
/* Every key with its default and a line of help, as a valid config file. */
void config_print_reference(FILE *out);
/* Prints the current config as a valid file. */
void config_print(const struct config *config, FILE *out);
/* The bytes of a size, given the whole that a percentage refers to. */
uint64_t config_size_of(struct config_size size, uint64_t whole);
