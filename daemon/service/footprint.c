/* SPDX-License-Identifier: Apache-2.0 */
/* footprint: see footprint.h. The limits are read as payers have them. */
#include "daemon/service/footprint.h"

#include <stdio.h>

#include "daemon/cache/copies.h"
#include "daemon/cache/event_ring.h"
#include "daemon/cache/index.h"
#include "daemon/cache/marks.h"
#include "daemon/cache/namespace.h"
#include "daemon/cache/retention.h"
#include "daemon/catalog/catalog.h"
#include "daemon/config/config.h"
#include "daemon/device/device.h"
#include "daemon/ledger/ledger.h"
#include "daemon/move/move.h"
#include "daemon/move/restoration.h"
#include "daemon/region/commit.h"
#include "daemon/region/decommit.h"
#include "daemon/region/lend.h"
#include "daemon/region/loan.h"
#include "daemon/region/promise.h"
#include "daemon/region/publication.h"
#include "daemon/region/slab.h"
#include "daemon/region/slot.h"
#include "daemon/serve/batch.h"
#include "daemon/serve/borrow.h"
#include "daemon/serve/keys.h"
#include "daemon/serve/pins.h"
#include "daemon/serve/retain.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/service/restoration_setup.h"
#include "daemon/service/state_setup.h"
#include "daemon/session/session.h"
#include "daemon/tier/ddr_size.h"
#include "daemon/tier/extent.h"
#include "daemon/tier/hash_pool.h"

#define MIB (1ull << 20)
#define PAGE 4096u
#define SLAB_LEAST (2 * MIB)
#define WATCHES 4u       /* of a session: socket, process, doorbell, and one that closes */
#define WATCH_BYTES 256u /* in the loop, with a timer's place */
#define PROGRAM (96 * MIB)

/* So many pieces of the heap. */
static uint64_t footprint_pieces(uint64_t count, uint64_t bytes)
{
	return count * ((bytes + 16 + 15) / 16 * 16);
}

static uint64_t footprint_larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* ---- Requests ---- */

/* The most that a COMMIT takes, with the messages of its reply. */
static uint64_t footprint_commit(const struct ledger *ledger)
{
	uint64_t slabs = ledger_limit(&ledger->host, LEDGER_COMMIT_SLABS),
		 ranges = HBM_WIRE_MESSAGE_MAX / sizeof(struct hbm_wire_range);

	return commit_bytes_for(slabs, ranges) +
	       slabs * (sizeof(struct hbm_wire_range) + sizeof(int)) +
	       (slabs / HBM_WIRE_FDS_MAX + 1) * 256;
}

/* The most that one request takes which is let in whatever the others take. PREFETCH is
 * not: it is refused instead. */
static uint64_t footprint_request(const struct ledger *ledger)
{
	/* Each block has a segment at least, and takes more than others in its place would. */
	uint64_t blocks = HBM_WIRE_MESSAGE_MAX /
			  (sizeof(struct hbm_wire_block) + sizeof(struct hbm_wire_range)),
		 most = batch_bytes(blocks, blocks);

	most = footprint_larger(most,
				keys_bytes(HBM_WIRE_MESSAGE_MAX / sizeof(struct hbm_wire_key)));
	most = footprint_larger(most,
				retain_bytes(HBM_WIRE_MESSAGE_MAX / sizeof(struct hbm_wire_key)));
	most = footprint_larger(
		most, decommit_bytes(HBM_WIRE_MESSAGE_MAX / sizeof(struct hbm_wire_range)));
	most = footprint_larger(most, footprint_commit(ledger));
	most = footprint_larger(most, borrow_bytes());

	/* The message, and a reply that does not fit its room. */
	return most + 2ull * HBM_WIRE_MESSAGE_MAX + sizeof(struct request);
}

/* ---- The parts ---- */

static uint64_t footprint_index(const struct ledger *ledger, const struct config *config,
				const struct devices *devices)
{
	uint64_t blocks = ledger_limit(&ledger->host, LEDGER_BLOCKS),
		 bytes = index_bytes_for(blocks) + usage_bytes_for(blocks) +
			 restoration_bytes_for(restoration_setup_blocks(ledger, config));
	uint64_t tiers = devices->count + 2u + (config->nvme_path[0] != '\0');

	if (config->nvme_path[0] != '\0')
		bytes += copies_bytes_for(blocks);
	if (config->nvme_path[0] != '\0' && config->nvme_catalog)
		bytes += catalog_bytes_for(blocks);

	bytes += marks_bytes_for(ledger_limit(&ledger->host, LEDGER_PINS) +
				 ledger_limit(&ledger->host, LEDGER_RETAINED_BLOCKS));

	return bytes + tiers * extent_table_bytes(blocks) +
	       retention_bytes_for(ledger_limit(&ledger->host, LEDGER_RETAINED_BLOCKS),
				   ledger_limit(&ledger->host, LEDGER_SESSIONS), tiers);
}

static uint64_t footprint_sessions(uint64_t sessions, const struct payer *session,
				   const struct devices *devices)
{
	uint64_t opens = ledger_limit(session, LEDGER_NAMESPACE_OPENS);
	uint64_t one = footprint_pieces(1, sizeof(struct session)) +
		       footprint_pieces(1, sizeof(struct user)) + PAGE +
		       (uint64_t)WATCHES * WATCH_BYTES + 4ull * HBM_WIRE_MESSAGE_MAX +
		       footprint_pieces(opens, serve_namespace_open_bytes()) +
		       footprint_pieces(devices->count, sizeof(struct promise));

	one += footprint_pieces(ledger_limit(session, LEDGER_NOTICES), notices_footprint());

	return sessions * one;
}

/* The most that there may be. */
static uint64_t footprint_count_slabs(const struct config *config, const struct devices *devices)
{
	struct memory_limit limit;
	memory_limit_read(&limit, "");
	uint64_t slabs = ddr_size_regions(config, &limit) / SLAB_LEAST;

	for (uint32_t i = 0; i < devices->count; i++)
		slabs += devices->list[i].total / SLAB_LEAST;

	return slabs;
}

static uint64_t footprint_regions(const struct ledger *ledger, const struct config *config,
				  const struct devices *devices)
{
	uint64_t slots = ledger_limit(&ledger->host, LEDGER_ADDRESS_SPACE) / SLAB_LEAST,
		 publications = ledger_limit(&ledger->host, LEDGER_PUBLICATIONS);

	/* What is published are slabs that there are. */
	slots += footprint_count_slabs(config, devices);

	return footprint_pieces(ledger_limit(&ledger->host, LEDGER_REGIONS) + publications,
				sizeof(struct region)) +
	       footprint_pieces(publications, sizeof(struct publication)) +
	       slots * sizeof(struct slot) + slots / 8;
}

static uint64_t footprint_slabs(const struct config *config, const struct devices *devices)
{
	return footprint_pieces(footprint_count_slabs(config, devices), sizeof(struct slab));
}

/* What the threads that encode take: there are some at each node that has a part of DDR. */
static uint64_t footprint_encoding(const struct config *config, const struct devices *devices)
{
	uint32_t nodes = config->ddr_numa == CONFIG_NUMA_NODE ? devices->numa.count : 1;
	return hash_pool_bytes(config->checksum_threads, nodes);
}

/* Of what may be lent; a block takes at least an extent unit. */
static uint64_t footprint_lent(const struct ledger *ledger, const struct config *config,
			       const struct devices *devices)
{
	uint64_t lend = 0, bytes = devices->count * sizeof(struct lend);

	for (uint32_t i = 0; i < devices->count; i++)
		lend += config_size_of(config->device_lend, config_size_of(config->device_memory,
									   devices->list[i].total));
	if (lend == 0)
		return bytes;

	return bytes +
	       footprint_pieces(lend / SLAB_LEAST, lent_footprint(1, SLAB_LEAST / EXTENT_UNIT)) +
	       footprint_pieces(lend / SLAB_LEAST, sizeof(struct lend_user)) +
	       footprint_pieces(ledger_limit(&ledger->host, LEDGER_REPLICAS),
				sizeof(struct replica)) +
	       footprint_pieces(ledger_limit(&ledger->host, LEDGER_LOANS),
				sizeof(struct loan) + sizeof(struct export));
}

struct footprint footprint_of(const struct config *config, const struct devices *devices)
{
	struct ledger ledger;
	struct payer session, mover;
	const struct payer *host = &ledger.host;

	ledger_open(&ledger, config);
	payer_open_below(&session, &ledger.unprivileged, PAYER_SESSION);
	payer_open(&mover, &ledger, PAYER_MOVER);

	uint64_t sessions = ledger_limit(host, LEDGER_SESSIONS) + ledger_limit(host, LEDGER_SILENT);
	struct footprint footprint = {
		.index = footprint_index(&ledger, config, devices),
		.requests = 2 * ledger_limit(host, LEDGER_REQUEST_BYTES) +
			    (sessions + 1) * footprint_request(&ledger),
		.sessions = boards_footprint(ledger_limit(host, LEDGER_SEQUENCES)) +
			    footprint_sessions(sessions, &session, devices),
		.pins = footprint_pieces(ledger_limit(host, LEDGER_PINS), sizeof(struct pin)),
		.regions = footprint_regions(&ledger, config, devices),
		.slabs = footprint_slabs(config, devices),
		.lent = footprint_lent(&ledger, config, devices),
		.namespaces = (ledger_limit(host, LEDGER_NAMESPACES) + 1) *
				      (sizeof(struct namespace) + HBM_WIRE_NAME_BYTES) +
			      footprint_pieces(ledger_limit(host, LEDGER_WATCHED),
					       sizeof(struct event_ring)),
		.moves = footprint_pieces(2 * ledger_limit(&mover, LEDGER_MOVES),
					  sizeof(struct move) + 64),
		.state = state_setup_bytes(&ledger, config),
		.daemon = PROGRAM + footprint_encoding(config, devices),
	};
	payer_close(&mover);
	payer_close(&session);

	return footprint;
}

uint64_t footprint_total(const struct footprint *footprint)
{
	return footprint->index + footprint->requests + footprint->sessions + footprint->pins +
	       footprint->regions + footprint->slabs + footprint->lent + footprint->namespaces +
	       footprint->moves + footprint->state + footprint->daemon;
}

static unsigned long long footprint_mib(uint64_t bytes)
{
	return (bytes + MIB - 1) / MIB;
}

const char *footprint_text(const struct footprint *footprint, char *text, size_t size)
{
	snprintf(text, size,
		 "at most %llu MiB beside the tiers: index %llu, requests %llu, sessions %llu, "
		 "pins %llu, regions %llu, slabs %llu, lent %llu, namespaces %llu, moves %llu, "
		 "state %llu, the daemon itself %llu",
		 footprint_mib(footprint_total(footprint)), footprint_mib(footprint->index),
		 footprint_mib(footprint->requests), footprint_mib(footprint->sessions),
		 footprint_mib(footprint->pins), footprint_mib(footprint->regions),
		 footprint_mib(footprint->slabs), footprint_mib(footprint->lent),
		 footprint_mib(footprint->namespaces), footprint_mib(footprint->moves),
		 footprint_mib(footprint->state), footprint_mib(footprint->daemon));
	return text;
}
