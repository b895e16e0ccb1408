# SPDX-License-Identifier: Apache-2.0
"""HbmTier: hbmd behind vLLM's own CPU tier, as a secondary tier of TieringOffloadingSpec.

vLLM copies blocks between the GPU and its CPU tier; this tier copies chunks between that and
the daemon, which keeps them in HBM, DDR and NVMe, for all engines of the host and over their
restarts. All of it runs in the scheduler's process, and a chunk has the blocks of all ranks.

No call waits for the daemon (hbm.vllm.courier). The first look-up of a key is RETRY, and the
answer is there in the next step. Without a daemon every look-up is a miss and every job fails,
which vLLM takes as it is; it goes on when the daemon is back.

The rows of the CPU tier that a job names are touched until its result is out, and never after
it, whatever has become of the job or the daemon.

Stores are refused, as failed jobs, while those that wait would keep more than `store_bytes` of
the CPU tier from being used for anything else. What vLLM's own back-pressure detector needs (how
long stores took, and which failed) is in the results.
"""

from __future__ import annotations

import logging
from typing import Any, Collection, Iterable, Mapping

import hbm
from hbm.identity import digest, weights_version
from hbm.link import fit

from . import compat
from .courier import Courier, Result
from .verdicts import Verdicts

log = logging.getLogger(__name__)


class HbmTier(compat.SecondaryTierManager):
    """A secondary tier; its options are the members of its entry in `secondary_tiers`.

    socket: of the daemon; default: $HBM_SOCKET, else /run/hbmd/hbmd.sock. salt: keeps blocks of
    tenants apart. weights: the version of the weights, a number or a string; default: found by
    hbm.identity. revision: of the model, which vLLM does not tell a tier; default: the only one
    that was downloaded. lookup_timeout_ms: a look-up that takes longer is a miss. timeout_ms: a
    store or load that takes longer has failed, and the connection is made anew. reconnect_ms:
    for how long a job waits for a daemon that is being restarted, where sessions outlive it; 0:
    not at all. store_bytes: how much of the CPU tier stores may hold; default: a quarter.
    """

    medium = compat.MEDIUM

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        *,
        socket: str | None = None,
        salt: str = "",
        weights: int | str | None = None,
        revision: str | None = None,
        lookup_timeout_ms: int = 200,
        timeout_ms: int = 30000,
        reconnect_ms: int = 2000,
        store_bytes: int | None = None,
        locality: str | None = None,
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        del locality  # vLLM passes it on; this tier is always of this host
        self._row = primary_kv_view.strides[0]
        self._bytes = primary_kv_view.cast("B")
        self._store_limit = self._bytes.nbytes // 4 if store_bytes is None else store_bytes
        self._store_limit = max(self._store_limit, self._row)
        self._storing = 0  # bytes
        self._finished: list[Any] = []
        self._verdicts = Verdicts(lookup_timeout_ms / 1000)
        self._chains = _Chains(offloading_spec)
        self._courier = Courier(
            [_namespace(offloading_spec, self._row, salt, weights, revision)],
            socket=socket,
            name=f"vllm-{tier_type}",
            timeout_ms=timeout_ms,
            reconnect_ms=reconnect_ms,
        )

    # ---- Look-ups ----

    def lookup(self, key: bytes, req_context: Any) -> Any:
        self._collect()
        self._chains.note(key, req_context)
        found = self._verdicts.ask(key, req_context.req_id)
        if found is None:
            return compat.RETRY
        return compat.HIT if found else compat.MISS

    def touch(self, keys: Collection[bytes], req_context: Any) -> None:
        for key in keys:
            self._chains.note(key, req_context)

    def on_new_request(self, req_context: Any) -> Any:
        return compat.new_request()

    def on_request_finished(self, req_context: Any) -> None:
        self._verdicts.forget(req_context.req_id)
        self._chains.forget(req_context.req_id)

    def on_schedule_end(self, context: Any = None) -> None:
        keys = self._verdicts.batch()
        if keys:
            self._courier.lookup(keys, _cache_keys(keys))

    # ---- Transfers ----

    def submit_store(self, job_metadata: Any) -> None:
        keys = list(job_metadata.keys)
        nbytes = len(keys) * self._row
        for key in keys:
            self._chains.note(key, job_metadata.req_context)

        if self._storing and self._storing + nbytes > self._store_limit:
            self._finished.append(
                compat.job_result(job_metadata.job_id, False, None, 0.0, nbytes)
            )
            return

        parents = b"".join(
            self._chains.parent(key, job_metadata.req_context) for key in keys
        )
        self._storing += nbytes
        self._courier.store(
            (job_metadata.job_id, keys),
            _cache_keys(keys),
            self._rows(job_metadata),
            nbytes=nbytes,
            parents=parents,
        )

    def submit_load(self, job_metadata: Any) -> None:
        keys = list(job_metadata.keys)
        self._courier.load(
            (job_metadata.job_id, keys),
            _cache_keys(keys),
            self._rows(job_metadata),
            nbytes=len(keys) * self._row,
        )

    def get_finished_jobs(self) -> Iterable[Any]:
        self._collect()
        finished, self._finished = self._finished, []
        return finished

    get_finished = get_finished_jobs  # its name until 0.2x

    def drain_jobs(self) -> None:
        self._courier.drain()

    def shutdown(self) -> None:
        self._courier.close()
        self._courier.finished()
        self._bytes.release()

    # ---- Inside ----

    def _rows(self, job: Any) -> list[memoryview]:
        row = self._row
        return [self._bytes[int(i) * row : (int(i) + 1) * row] for i in compat.chunk_ids(job)]

    def _collect(self) -> None:
        for result in self._courier.finished():
            if result.kind == "lookup":
                self._verdicts.answer(result.tag, result.present)
            else:
                self._transferred(result)

    def _transferred(self, result: Result) -> None:
        job_id, keys = result.tag
        loaded = None
        if result.kind == "store":
            self._storing -= result.nbytes
        else:
            loaded = [key for key, good in zip(keys, result.present) if good]

        for key, good in zip(keys, result.present):
            self._verdicts.correct(key, good)
        if not result.success:
            log.debug("%s of job %s failed: %s", result.kind, job_id, result.error)

        self._finished.append(
            compat.job_result(
                job_id,
                result.success,
                loaded if loaded and not result.success else None,
                result.seconds,
                result.nbytes,
            )
        )


class _Chains:
    """Which block of a request comes before which, for the parents of stores.

    Only of groups whose layers attend to all tokens: of others blocks are left out, and a
    block without a parent is its own root. The same where vLLM does not say positions.
    """

    def __init__(self, spec: Any) -> None:
        config = spec.config
        per_chunk = config.cache.blocks_per_chunk
        self._step = {
            group.group_id: group.tokens_per_block * per_chunk
            for group in config.groups
            if group.sliding_window_size_in_chunks is None
        }
        self._at: dict[str, dict[tuple[int, int], bytes]] = {}

    def note(self, key: bytes, context: Any) -> None:
        position = compat.position(context, key)
        if position is not None:
            at = self._at.setdefault(context.req_id, {})
            at[compat.group_of(key), position] = key

    def parent(self, key: bytes, context: Any) -> bytes:
        """Its parent's key in the cache; zeros: it is a root."""
        group, position = compat.group_of(key), compat.position(context, key)
        step = self._step.get(group)
        if position is None or step is None:
            return bytes(hbm.Key.SIZE)
        before = self._at[context.req_id].get((group, position - step))
        return bytes(hbm.Key.SIZE) if before is None else hbm.key(before)

    def forget(self, request: str) -> None:
        self._at.pop(request, None)


def _cache_keys(keys: Iterable[bytes]) -> bytes:
    return b"".join(hbm.key(bytes(key)) for key in keys)


def _namespace(
    spec: Any, row: int, salt: str, weights: Any, revision: str | None = None
) -> Mapping[str, Any]:
    """A row has the blocks of all ranks, in the layout that the engine has given it."""
    config = spec.config
    parallel = config.parallel
    layout = digest(
        {
            "of": "vllm tier",
            "row": row,
            "dtype": config.model.dtype,
            "groups": [[g.tokens_per_block, list(g.layer_names)] for g in config.groups],
            "tokens_per_hash": config.cache.tokens_per_hash,
            "blocks_per_chunk": config.cache.blocks_per_chunk,
            "parallel": [parallel.tp_size, parallel.pp_size, parallel.pcp_size, parallel.dcp_size],
            "replicated": config.replicated_layout,
            "canonical": config.canonical_layout,
            "kv_cache_layout": config.kv_cache_layout,
        }
    )
    return dict(
        model=fit(config.model.name),
        layout=layout,
        salt=fit(salt),
        weights=weights_version(weights, config.model.name, revision, engine=config.engine_id),
        block_bytes=row,
    )
