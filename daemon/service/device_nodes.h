/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_nodes: an open descriptor of each GPU's node, kept while no daemon runs: the driver of a
 * host without a persistence daemon shuts a GPU down, and forgets its settings, when the last one
 * is closed. Soft devices have none. Without a node, or with no one who keeps it, nothing is done.
 */
#pragma once

struct devices;

#define DEVICE_NODES_FACTS "/proc/driver/nvidia/gpus"
#define DEVICE_NODES_FOLDER "/dev"

/* The folder with facts of each GPU by its place on the bus, and the one with the nodes. */
void device_nodes_keep(const struct devices *devices, const char *facts, const char *folder);
