/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/visible.h"

#include <hbm/wire.h>
#include <stddef.h>
#include <string.h>

#include "daemon/serve/serve_namespace.h"

static const uint32_t visible_to_clients[HBM_QUERY_KINDS] = {
	[HBM_QUERY_STATUS] = offsetof(struct hbm_wire_status, sessions),
	[HBM_QUERY_DEVICES] = sizeof(struct hbm_wire_device),
	[HBM_QUERY_TIERS] = offsetof(struct hbm_wire_tier, blocks),
	[HBM_QUERY_SESSIONS] = sizeof(struct hbm_wire_session),
	[HBM_QUERY_REGIONS] = sizeof(struct hbm_wire_region),
	[HBM_QUERY_NAMESPACES] = sizeof(struct hbm_wire_namespace),
	[HBM_QUERY_SEQUENCES] = sizeof(struct hbm_wire_sequence),
	[HBM_QUERY_EVENTS] = sizeof(struct hbm_wire_event),
	[HBM_QUERY_BLOCKS] = sizeof(struct hbm_wire_block_info),
};

void visible_init(struct visible *visible, const struct session *viewer)
{
	visible->viewer = viewer;
	visible->all = session_is_operator(viewer);
	if (visible->all)
		return;

	memset(visible->namespaces, 0, sizeof(visible->namespaces));
	session_mark_namespaces(viewer, visible->namespaces);
}

uint32_t visible_bytes(const struct visible *visible, enum hbm_wire_query_kind kind)
{
	return visible->all ? UINT32_MAX : visible_to_clients[kind];
}

bool visible_session(const struct visible *visible, const struct session *session)
{
	return visible->all || session->user == visible->viewer->user;
}

bool visible_namespace(const struct visible *visible, uint16_t ns)
{
	return visible->all || visible->namespaces[ns];
}
