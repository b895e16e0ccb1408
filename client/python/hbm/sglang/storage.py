# SPDX-License-Identifier: Apache-2.0
"""storage: what SGLang's HiCache wants of an L3 store, over pages.py.

    v1, v2        pages where they are, in registered host pools
    the others    tensors of the caller, each a page; SGLang's way without interface_v1

Once made, nothing here raises: what cannot be done is False or a miss, with a line in the
log when that begins. Calls wait for the daemon, each step of one at most timeout_ms. SGLang makes
them on threads of its own, several at a time.

Written for SGLang 0.5.23. Names that are newer than the rest are looked for.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import Any, Callable, Sequence

import sglang.srt.mem_cache.hicache_storage as hicache

import hbm
from hbm.identity import digest, weights_version
from hbm.link import Link
from hbm.sglang.fold import KV, Found, Pool, fold, leading
from hbm.sglang.pages import Pages, Share, buffer_of, of_buffers, of_pool

_log = logging.getLogger(__name__)

_SETTINGS = ("socket", "salt", "weights", "memory_only", "timeout_ms")
# States of whole sequences: each rank has a part, also where all have the same keys and values.
_STATES = ("mamba",)
# Of a draft model, which may have another attention: what its pool is decides.
_DRAFTS = ("draft", "draft_swa")
_REPLICATED = ("MLATokenToKVPoolHost", "DeepSeekV4PagedHostPool")
_GB = 1e9


def _or(failed: Callable[..., Any]) -> Callable[[Any], Any]:
    """Makes of an exception of a method what `failed` makes of its arguments."""

    def wrap(method: Any) -> Any:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **named: Any) -> Any:
            connection = self._link.current
            try:
                done = method(self, *args, **named)
            except Exception as error:
                self._failed(method.__name__, error, connection)
                return failed(*args, **named)
            self._failing = False
            return done

        return call

    return wrap


def _no_keys(keys: Sequence[str], *_: Any, **__: Any) -> list[bool]:
    return [False] * len(keys)


def _no_transfers(transfers: Sequence[Any], *_: Any, **__: Any) -> dict[Any, list[bool]]:
    return {transfer.name: [False] * len(transfer.keys or ()) for transfer in transfers}


class HbmStorage(hicache.HiCacheStorage):
    """Pages in hbmd, for SGLang:

        --hicache-storage-backend dynamic --hicache-storage-backend-extra-config
        '{"backend_name": "hbm", "module_path": "hbm.sglang", "class_name": "HbmStorage",
          "interface_v1": 1}'

    Beside these, all optional: socket: of the daemon, else $HBM_SOCKET or
    /run/hbmd/hbmd.sock. salt: clients with another one share nothing with this. weights: a
    number or text, another one after a change of the model's weights; default: found by
    hbm.identity. memory_only: nothing goes to NVMe. timeout_ms: a daemon that does not answer for
    so long is as none. hbm.Error: there is no daemon; later it may come and go.
    """

    def __init__(self, storage_config: Any, kwargs: Any = None) -> None:
        extra = storage_config.extra_config or {}
        self._config = storage_config
        self._v1 = bool(extra.get("interface_v1", 0))
        self._model = storage_config.model_name or ""
        self._pools: dict[str, Pages] = {}
        self._loose: dict[int, Pages] = {}  # of tensors that are no page of a pool, by bytes
        self._lock = threading.Lock()
        self._failing = False
        self._traffic: dict[str, list[tuple[int, float]]] = {"prefetch": [], "backup": []}
        settings = {name: extra[name] for name in _SETTINGS if name in extra}
        served = _served()
        if served is not None:
            settings["weights"] = _weights(settings.get("weights"), served)
        self._link = Link(name="sglang", **settings)
        self._link.connection()

    # ---- Pools ----

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        super().register_mem_pool_host(mem_pool_host)
        if getattr(mem_pool_host, "kv_buffer", mem_pool_host) is not None:
            self._register(KV, mem_pool_host)

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        super().register_mem_host_pool_v2(host_pool, host_pool_name)
        name = _text(host_pool_name)
        if name != KV or KV not in self._pools:
            self._register(name, host_pool)

    def _register(self, name: str, pool: Any) -> None:
        config = self._config
        split = 1
        if config.should_split_heads and getattr(pool, "layout", "") == "page_head":
            split = config.tp_lcm_size // config.tp_size
        flat = name == KV and not self._v1
        share = self._share(name, pool)
        self._pools[name] = of_pool(
            self._link, self._model, name, pool, share, split=split, flat=flat
        )

    def _share(self, name: str, pool: Any = None) -> Share:
        """Which of a pool's heads this rank holds, and where in the model."""
        config = self._config
        more = [
            f"{word}{rank}/{ranks}"
            for word, rank, ranks in (
                ("P", config.pp_rank, config.pp_size),
                ("C", config.attn_cp_rank, config.attn_cp_size),
                ("D", getattr(config, "dcp_rank", 0), getattr(config, "dcp_size", 1)),
            )
            if ranks > 1 and not (word == "P" and hasattr(pool, "start_layer"))
        ]
        replicated = config.is_mla_model and name not in _STATES
        if name in _DRAFTS:
            kinds = [kind.__name__ for kind in type(pool).__mro__]
            replicated = any(kind in _REPLICATED for kind in kinds)
        if replicated:
            return Share(0, 1, " ".join(more))
        return Share(config.tp_rank, config.tp_size, " ".join(more))

    # ---- Pages of pools ----

    @_or(lambda *_, **__: 0)
    def batch_exists(self, keys: Sequence[str], extra_info: Any = None) -> int:
        return leading(self._present(keys))

    @_or(_no_keys)
    def batch_get_v1(
        self, keys: Sequence[str], host_indices: Any, extra_info: Any = None
    ) -> list[bool]:
        return self._get(KV, keys, host_indices)

    @_or(_no_keys)
    def batch_set_v1(
        self, keys: Sequence[str], host_indices: Any, extra_info: Any = None
    ) -> list[bool]:
        return self._set(KV, keys, host_indices, extra_info)

    @_or(lambda *_, **__: hicache.PoolTransferResult.empty())
    def batch_exists_v2(
        self,
        keys: Sequence[str],
        pool_transfers: Sequence[Any] | None = None,
        extra_info: Any = None,
    ) -> Any:
        # A pool of keys and values that is only a sum of others holds nothing up.
        pages = self._pools[KV].leading(keys) if KV in self._pools else len(keys)
        found = fold(pages, [self._pool(transfer, keys) for transfer in pool_transfers or ()])
        return _result(found)

    @_or(_no_transfers)
    def batch_get_v2(
        self, transfers: Sequence[Any], extra_info: Any = None
    ) -> dict[Any, list[bool]]:
        return {
            transfer.name: self._get(_text(transfer.name), transfer.keys, transfer.host_indices)
            for transfer in transfers
        }

    @_or(_no_transfers)
    def batch_set_v2(
        self, transfers: Sequence[Any], extra_info: Any = None
    ) -> dict[Any, list[bool]]:
        return {
            transfer.name: self._set(
                _text(transfer.name), transfer.keys, transfer.host_indices, extra_info
            )
            for transfer in transfers
        }

    def _pool(self, transfer: Any, keys: Sequence[str]) -> Pool:
        name, policy = _text(transfer.name), _text(transfer.hit_policy)
        own = transfer.keys or ()
        if policy == "block_groups":
            present = self._pools[name].present(own)
            return Pool(name, policy, transfer.group_pages, present, transfer.block_pages)
        return Pool(name, policy, max(1, len(own)), self._pools[name].present(keys))

    def _get(self, name: str, keys: Sequence[str], indices: Any) -> list[bool]:
        if not keys:
            return []
        began = time.perf_counter()
        there = self._pools[name].load(keys, indices)
        self._count("prefetch", self._pools[name], sum(there), began)
        return there

    def _set(self, name: str, keys: Sequence[str], indices: Any, extra_info: Any) -> list[bool]:
        if not keys:
            return []
        before = getattr(extra_info, "prefix_keys", None) or ()
        began = time.perf_counter()
        there = self._pools[name].store(keys, indices, before)
        self._count("backup", self._pools[name], sum(there), began)
        return there

    # ---- Tensors of the caller ----

    @_or(lambda *_, **__: None)
    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        return self._get_tensors([key], [target_location])[0]

    @_or(lambda keys, *_, **__: [None] * len(keys))
    def batch_get(
        self, keys: Sequence[str], target_locations: Any = None, target_sizes: Any = None
    ) -> list[Any]:
        return self._get_tensors(keys, target_locations)

    @_or(lambda *_, **__: False)
    def set(
        self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None
    ) -> bool:
        return self._set_tensors([key], [value])

    @_or(lambda *_, **__: False)
    def batch_set(
        self,
        keys: Sequence[str],
        values: Any = None,
        target_locations: Any = None,
        target_sizes: Any = None,
    ) -> bool:
        return self._set_tensors(keys, values)

    @_or(lambda *_, **__: False)
    def exists(self, key: str) -> bool:
        return self._present([key])[0]

    def _present(self, keys: Sequence[str]) -> list[bool]:
        there = [False] * len(keys)
        with self._lock:
            places = [self._pools[KV]] if KV in self._pools else []
            places += self._loose.values()
        for pages in places:
            there = [a or b for a, b in zip(there, pages.present(keys))]
        return there

    def _of(self, tensor: Any) -> Pages:
        """Where tensors as large as this one are: a flat page of the pool is one of it."""
        size = tensor.numel() * tensor.element_size()
        pool = self._pools.get(KV)
        if pool is not None and pool.flat and pool.parts[0].bytes == size:
            return pool
        with self._lock:
            if size not in self._loose:
                self._loose[size] = of_buffers(self._link, self._model, self._share(KV), size)
            return self._loose[size]

    def _get_tensors(self, keys: Sequence[str], targets: Sequence[Any]) -> list[Any]:
        if not keys:
            return []
        there = self._of(targets[0]).load_buffers(keys, [buffer_of(each) for each in targets])
        return [target if ok else None for target, ok in zip(targets, there)]

    def _set_tensors(self, keys: Sequence[str], values: Sequence[Any]) -> bool:
        if not keys:
            return True
        values = [value.contiguous() for value in values]
        return all(self._of(values[0]).store_buffers(keys, [buffer_of(each) for each in values]))

    # ---- The rest ----

    @_or(lambda *_, **__: False)
    def clear(self) -> bool:
        """Drops all that ranks which hold the same have stored."""
        with self._lock:
            every = [*self._pools.values(), *self._loose.values()]
        for pages in every:
            pages.drop()
        return True

    @_or(lambda *_, **__: None)
    def get_stats(self) -> Any:
        """Pages and GB/s of each transfer since the last call; None: SGLang counts none."""
        metrics = _metrics() if self._config.enable_storage_metrics else None
        with self._lock:
            traffic = {kind: list(each) for kind, each in self._traffic.items()}
            for each in self._traffic.values():
                each.clear()
        if metrics is not None:
            for kind, each in traffic.items():
                getattr(metrics, f"{kind}_pgs").extend(pages for pages, _ in each)
                getattr(metrics, f"{kind}_bandwidth").extend(rate for _, rate in each)
        return metrics

    def close(self) -> None:
        """Gives the connection back; may be called again."""
        self._link.close()

    def _count(self, kind: str, pages: Pages, count: int, began: float) -> None:
        if not self._config.enable_storage_metrics or not count:
            return
        size = sum(part.bytes * len(part.pieces) for part in pages.parts)
        rate = count * size / _GB / max(time.perf_counter() - began, 1e-9)
        with self._lock:
            self._traffic[kind].append((count, rate))

    def _failed(self, what: str, error: Exception, connection: Any) -> None:
        """connection: the one when it began; another may have come meanwhile."""
        if isinstance(error, hbm.ConnectionLost):
            self._link.forget(connection)
        if not self._failing:
            _log.warning("hbmd: %s: %s", what, error)
        self._failing = True


def _served() -> Any:
    """What SGLang's server was started with; None: this process is none."""
    try:
        from sglang.srt.runtime_context import get_server_args

        served = get_server_args()
        return served if getattr(served, "model_path", None) else None
    except Exception as error:  # of another release, or it was not started
        _log.debug("what is served is not known: %s", error)
        return None


def _weights(option: Any, served: Any) -> int:
    """Of the model that is served: the name in the configuration is what clients call it. How it
    was quantized when it was loaded is a part of it; the type of keys and values is the pools'."""
    path = served.model_path
    found = weights_version(option, path, getattr(served, "revision", None), told=True)
    if option is not None:
        return found
    loaded = {
        name: str(getattr(served, name, None))
        for name in ("dtype", "quantization", "json_model_override_args")
    }
    return weights_version(digest({"weights": found, **loaded}), path)


def _text(name: Any) -> str:
    return str(getattr(name, "value", name))


def _result(found: Found) -> Any:
    try:
        return hicache.PoolTransferResult(found.pages, found.hits, found.restorable)
    except TypeError:  # before it had lengths in between
        return hicache.PoolTransferResult(found.pages, found.hits)


def _metrics() -> Any:
    try:
        from sglang.srt.observability.metrics_collector import StorageMetrics
    except ImportError:
        return None
    return StorageMetrics()
