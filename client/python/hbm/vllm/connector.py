# SPDX-License-Identifier: Apache-2.0
"""HbmConnector: hbmd as a KV connector of vLLM, without a CPU tier of vLLM's between them.

The scheduler's side looks requests up and says which blocks to load and to store
(hbm.vllm.matcher); each worker's side copies its rank's part (hbm.vllm.transfers), and tells the
scheduler's when the engine starts where it keeps that. Loads are
asynchronous: a request waits for its own, and others run. A load that fails in part or as a
whole is reported, and vLLM computes what is missing (kv_load_failure_policy: recompute).
Nothing here raises for what a daemon does, and nothing waits for it.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any, Mapping, Sequence

from vllm.distributed.kv_transfer.kv_connector.v1 import base
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorRole,
    SupportsHMA,
)

import hbm

from .bound import Bound
from .courier import Courier
from .geometry import Told, gathered, geometry
from .holds import Holds
from .matcher import Matcher
from .orders import WORKER_METADATA, Orders, Stored
from .pool import KvPool, check
from .staging import Staging
from .transfers import Outcome, Transfers

try:
    from vllm.v1.metrics.cache_hit_source import CacheHitSource
except ImportError:
    CacheHitSource = None

log = logging.getLogger(__name__)

# Which requests failed can be said since 0.32; before, only which blocks.
_Results = getattr(base, "KVConnectorTransferResults", None)

_OPTIONS = dict(
    socket=None,
    salt="",
    weights=None,
    lookup_timeout_ms=200,
    timeout_ms=30000,
    reconnect_ms=2000,
    load_bytes=256 << 20,
    store_bytes=256 << 20,
    staging_bytes=0,
    prompt_only=False,
    kv_in_regions=False,
)


_BYTES = ("load_bytes", "store_bytes", "staging_bytes")


class HbmConnector(KVConnectorBase_V1, SupportsHMA):
    """Its options are members of kv_connector_extra_config.

    socket, salt, weights, lookup_timeout_ms, timeout_ms, reconnect_ms: as of HbmTier.
    load_bytes: host memory of each worker that loads in flight may have. store_bytes: that
    stores may have which are not over; what is beyond that is not stored. staging_bytes: of these,
    in memory of the daemon, where it is copied once less; each worker needs so much more of it.
    prompt_only: blocks of generated tokens
    are not stored. kv_in_regions: on a GPU, the KV cache is allocated in regions of the daemon, which
    reads and writes blocks there, without host memory in between.
    """

    if CacheHitSource is not None:
        _cache_hit_source = CacheHitSource.HOST

    def __init__(
        self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any = None
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        options = _options(self._kv_transfer_config.kv_connector_extra_config or {})
        self._options = options
        self._geometry = geometry(
            vllm_config, kv_cache_config, options["salt"], options["weights"]
        )
        self._matcher: Matcher | None = None
        self._transfers: Transfers | None = None
        self._courier: Courier | None = None
        self._load_errors: set[int] = set()
        self._pool: KvPool | None = None
        self._block_pool: Any = None
        self._holds: Holds | None = None
        if options["kv_in_regions"]:
            check(vllm_config)
            if role == KVConnectorRole.WORKER:
                rank = vllm_config.parallel_config.rank
                self._pool = KvPool(options["socket"], f"vllm-rank-{rank}-kv")
        if self._geometry.why_not is not None:
            log.warning("hbmd is not used for this engine: %s", self._geometry.why_not)
            return

        if role == KVConnectorRole.SCHEDULER:
            return  # it begins when the workers have told it where blocks are
        rank = vllm_config.parallel_config.rank
        staging = Staging(options["staging_bytes"], pinned=vllm_config.device_config.device_type == "cuda")
        self._courier = self._connect(self._geometry.namespaces, f"vllm-rank-{rank}", staging)
        self._transfers = Transfers(
            self._geometry,
            self._courier,
            staging,
            window=options["load_bytes"],
            store_bytes=options["store_bytes"],
            pool=self._pool,
            bind=self._bind,
        )

    def _bind(self, connection: hbm.Connection) -> Bound:
        rank = self._vllm_config.parallel_config.rank
        return Bound(
            self._geometry.namespaces,
            connection,
            socket=self._options["socket"],
            name=f"vllm-rank-{rank}-look",
            timeout_ms=self._options["timeout_ms"],
            window=self._options["load_bytes"],
        )

    def _connect(
        self, namespaces: Sequence[Mapping[str, Any]], name: str, beside: Staging | None = None
    ) -> Courier:
        return Courier(
            namespaces,
            socket=self._options["socket"],
            name=name,
            timeout_ms=self._options["timeout_ms"],
            reconnect_ms=self._options["reconnect_ms"],
            window=self._options["load_bytes"],
            beside=beside,
        )

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # what was not stored is a miss later

    # ---- The scheduler's side ----

    def bind_gpu_block_pool(self, gpu_block_pool: Any) -> None:
        self._block_pool = gpu_block_pool

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[tuple[int, int], Told]) -> None:
        """Of all ranks, by stage of the pipeline and rank in it. Again when the engine has woken."""
        if self._geometry.why_not is not None or self._matcher is not None:
            return
        ranks, why_not = gathered(metadata[place] for place in sorted(metadata))
        if why_not is not None:
            log.warning("hbmd is not used for this engine: %s", why_not)
            return
        if self._options["kv_in_regions"] and self._block_pool is not None and WORKER_METADATA:
            self._holds = Holds(self._block_pool, len(metadata))
        self._courier = self._connect([n for rank in ranks for n in rank], "vllm-scheduler")
        self._matcher = Matcher(
            self._geometry,
            self._courier,
            ranks=len(ranks),
            timeout_s=self._options["lookup_timeout_ms"] / 1000,
            prompt_only=self._options["prompt_only"],
            holds=self._holds,
        )

    def set_xfer_handshake_metadata(self, metadata: dict[int, Told]) -> None:
        """The same, of releases that tell of one stage alone."""
        self.set_xfer_handshake_metadata_pp_aware({(0, r): told for r, told in metadata.items()})

    def get_num_new_matched_tokens(
        self, request: Any, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        if self._matcher is None:
            return 0, False
        tokens = self._matcher.match(request, num_computed_tokens)
        return tokens, bool(tokens)

    def update_state_after_alloc(
        self, request: Any, blocks: Any, num_external_tokens: int
    ) -> None:
        if self._matcher is not None:
            self._matcher.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> Orders:
        if self._matcher is None:
            return Orders()
        return self._matcher.step(scheduler_output)

    def update_connector_output(self, connector_output: Any) -> None:
        told = getattr(connector_output, "kv_connector_worker_meta", None)
        if self._holds is not None and isinstance(told, Stored):
            self._holds.over(told.workers)
        if self._matcher is not None:
            failed = set(getattr(connector_output, "failed_recving", None) or ())
            self._matcher.ended(
                set(connector_output.finished_recving or ()),
                failed,
                set(connector_output.invalid_block_ids or ()),
            )

    def request_finished(
        self, request: Any, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished_all_groups(request, (block_ids,))

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Its blocks are free at once: a store has a copy of its own, or holds them."""
        if self._matcher is not None:
            self._matcher.forget(request)
        return False, None

    # ---- A worker's side ----

    def get_handshake_metadata(self) -> Told:
        return Told(self._geometry.namespaces, self._geometry.why_not)

    def get_mem_pool_context(self) -> AbstractContextManager[Any] | None:
        return None if self._pool is None else self._pool.context()

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        if self._transfers is not None:
            self._transfers.register(kv_caches, self._kv_cache_config)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        if self._transfers is not None:
            self._transfers.load(self._get_connector_metadata())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """No step has blocks whose load is not over."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any
    ) -> None:
        """Blocks are stored with all their layers, when the step is over."""

    def wait_for_save(self) -> None:
        if self._transfers is not None and self.has_connector_metadata():
            self._transfers.store(self._get_connector_metadata())

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        outcome = self._collect()
        return _Results(
            finished_recving=outcome.finished,
            failed_recving=outcome.failed if self._whole() else set(),
        )

    def get_finished(
        self, finished_req_ids: set[str]
    ) -> tuple[set[str] | None, set[str] | None]:
        return None, self._collect().finished or None

    def _collect(self) -> Outcome:
        outcome = Outcome() if self._transfers is None else self._transfers.collect()
        if not self._whole():
            self._load_errors |= outcome.blocks
        return outcome

    def _whole(self) -> bool:
        """Whether a load that lacks blocks has failed as a whole: where the engine has several
        groups, numbers of blocks do not say whose they are."""
        return _Results is not None and len(self._kv_cache_config.kv_cache_groups) > 1

    def build_connector_worker_meta(self) -> Stored | None:
        return None if self._transfers is None else self._transfers.stored()

    def get_block_ids_with_load_errors(self) -> set[int]:
        errors, self._load_errors = self._load_errors, set()
        return errors

    def shutdown(self) -> None:
        if self._transfers is not None:
            self._transfers.close()
        if self._courier is not None:
            self._courier.close()


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Members that other parts of vLLM read stand beside ours; they are not looked at."""
    options = {name: given.get(name, value) for name, value in _OPTIONS.items()}
    for name in ("lookup_timeout_ms", "timeout_ms", "reconnect_ms", *_BYTES):
        if not isinstance(options[name], int) or options[name] < 0:
            raise ValueError(f"HbmConnector: {name} must be a number of at least 0")
    return options
