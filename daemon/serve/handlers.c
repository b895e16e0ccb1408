/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/handlers.h"

#include "daemon/serve/drain.h"
#include "daemon/serve/inspect.h"
#include "daemon/serve/resize.h"
#include "daemon/serve/serve_blocks.h"
#include "daemon/serve/serve_drop.h"
#include "daemon/serve/serve_guest.h"
#include "daemon/serve/serve_hello.h"
#include "daemon/serve/serve_keys.h"
#include "daemon/serve/serve_lend.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/serve/serve_publish.h"
#include "daemon/serve/serve_region.h"
#include "daemon/serve/serve_reserve.h"
#include "daemon/serve/serve_sequences.h"
#include "daemon/serve/serve_share.h"
#include "daemon/serve/serve_tenant.h"
#include "daemon/serve/serve_wiped.h"

static void handlers_cancelled(struct request *request)
{
	if (request->message->opcode == HBM_WIRE_RESERVE)
		request_refuse(request, HBM_CANCELLED, "cancelled before it began");
	else
		serve_blocks_cancelled(request);
}

const struct server_handlers handlers = {
	.refuses = drain_refuses,
	.requests =
		{
			[HBM_WIRE_HELLO] = serve_hello,
			[HBM_WIRE_REGION_CREATE] = serve_region_create,
			[HBM_WIRE_REGION_DESTROY] = serve_region_destroy,
			[HBM_WIRE_COMMIT] = serve_commit,
			[HBM_WIRE_DECOMMIT] = serve_decommit,
			[HBM_WIRE_NAMESPACE_OPEN] = serve_wiped_open,
			[HBM_WIRE_NAMESPACE_CLOSE] = serve_namespace_close,
			[HBM_WIRE_LOOKUP] = serve_keys,
			[HBM_WIRE_STORE] = serve_store,
			[HBM_WIRE_LOAD] = serve_load,
			[HBM_WIRE_PREFETCH] = serve_prefetch,
			[HBM_WIRE_TOUCH] = serve_keys,
			[HBM_WIRE_PIN] = serve_keys,
			[HBM_WIRE_UNPIN] = serve_keys,
			[HBM_WIRE_REMOVE] = serve_keys,
			[HBM_WIRE_EVICT] = serve_evict,
			[HBM_WIRE_QUERY] = serve_query,
			[HBM_WIRE_PING] = serve_ping,
			[HBM_WIRE_CANCEL] = serve_cancel,
			[HBM_WIRE_NAMESPACE_DROP] = serve_namespace_drop,
			[HBM_WIRE_SESSION_END] = serve_session_end,
			[HBM_WIRE_REGION_IMPORT] = serve_region_import,
			[HBM_WIRE_MOVE] = serve_keys,
			[HBM_WIRE_RETAIN] = serve_keys,
			[HBM_WIRE_BORROW] = serve_borrow,
			[HBM_WIRE_RETURN] = serve_return,
			[HBM_WIRE_SHARE] = serve_share,
			[HBM_WIRE_RESERVE] = serve_reserve,
			[HBM_WIRE_MEMORY] = serve_memory,
			[HBM_WIRE_BOARD_OPEN] = serve_board_open,
			[HBM_WIRE_BOARD_CLOSE] = serve_board_close,
			[HBM_WIRE_ASK] = serve_ask,
			[HBM_WIRE_PUBLISH] = serve_publish,
			[HBM_WIRE_ATTACH] = serve_attach,
			[HBM_WIRE_UNPUBLISH] = serve_unpublish,
			[HBM_WIRE_COUNT] = serve_count,
			[HBM_WIRE_TENANT_SET] = serve_tenant_set,
			[HBM_WIRE_WATCH] = serve_watch,
			[HBM_WIRE_RECONCILE] = serve_reconcile,
			[HBM_WIRE_RESIZE] = serve_resize,
			[HBM_WIRE_DRAIN] = serve_drain,
		},
	.cancelled = handlers_cancelled,
	.session_gone = serve_session_gone,
};
