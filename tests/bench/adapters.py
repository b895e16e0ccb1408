# SPDX-License-Identifier: Apache-2.0
"""What goes through each adapter of an engine, and memcpy of as many bytes before and after it.

    PYTHONPATH=$BUILD/python/lib:tests/engines $ENGINES/bin/python tests/bench/adapters.py ROUNDS

Prints "NAME_store value GiB/s" and "NAME_load value GiB/s", medians, each with a line
"NAME_store_ratio value" to memcpy. An adapter whose engine does not import is left out with a
word on stderr. The daemon is the one at $HBM_SOCKET. The bytes are in DDR all the time, and the
engine's memory is as the adapter's tests have it.
"""

from __future__ import annotations

import os
import select
import statistics
import sys
import time
from types import SimpleNamespace
from typing import Any, Iterator, NamedTuple

import numpy as np

import hbm

BYTES = 32 << 20  # of a round
OBJECT = 512 << 10
COUNT = BYTES // OBJECT
WAIT_MS = 60000


class Way(NamedTuple):
    """A way through an adapter: store(i) and load(i) are of round i's names, and end when it is
    done; forget(i): so that the rounds after it find room."""

    store: Any
    load: Any
    forget: Any = lambda i: None


def check(right: bool) -> None:
    if not right:
        sys.exit("bench: an adapter has not done what it was asked")


# ---- The adapters ----


def package(connection: hbm.Connection) -> Iterator[Way]:
    """No adapter: what they all stand on."""
    ns = connection.namespace("bench", block_bytes=OBJECT)
    source, target = np.ones((COUNT, OBJECT), np.uint8), np.zeros((COUNT, OBJECT), np.uint8)

    def keys(i: int) -> list[bytes]:
        return [hbm.key(f"{i} {n}") for n in range(COUNT)]

    yield Way(
        lambda i: check(set(ns.store(keys(i), list(source)).wait()) == {hbm.Status.OK}),
        lambda i: check(set(ns.load(keys(i), list(target)).wait()) == {hbm.Status.OK}),
        lambda i: ns.remove(keys(i)),
    )


def lmcache(connection: hbm.Connection) -> Iterator[Way]:
    from hbm.lmcache import HbmConnector

    connector = HbmConnector()
    source, target = np.ones((COUNT, OBJECT), np.uint8), np.zeros((COUNT, OBJECT), np.uint8)

    def names(i: int) -> list[str]:
        return [f"bench@{i}@{n}" for n in range(COUNT)]

    def ended() -> None:
        poll = select.poll()
        poll.register(connector.event_fd(), select.POLLIN)
        check(bool(poll.poll(WAIT_MS)))
        check(all(completion[1] for completion in connector.drain_completions()))

    def submit(what: Any, *arguments: Any) -> None:
        what(*arguments)
        ended()

    yield Way(
        lambda i: submit(connector.submit_batch_set, names(i), [memoryview(row) for row in source]),
        lambda i: submit(connector.submit_batch_get, names(i), [memoryview(row) for row in target]),
        lambda i: submit(connector.submit_batch_delete, names(i)),
    )
    connector.close()


def sglang(connection: hbm.Connection) -> Iterator[Way]:
    from host_pool import HostPool
    from sglang.srt.mem_cache import hicache_storage
    from sglang.srt.mem_cache.storage import StorageBackendFactory

    config = hicache_storage.HiCacheStorageConfig(
        tp_rank=0, tp_size=1, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1,
        is_mla_model=False, enable_storage_metrics=False, is_page_first_layout=True, model_name="bench",
        extra_config={
            "backend_name": "hbm", "module_path": "hbm.sglang", "class_name": "HbmStorage", "interface_v1": 1,
        },
    )
    pool = HostPool(pages=COUNT, page_size=64, layers=8, heads=4, head_dim=64)  # OBJECT each
    backend = StorageBackendFactory.create_backend("dynamic", config, pool)
    backend.register_mem_pool_host(pool)
    everything = pool.indices(range(COUNT))

    def names(i: int) -> list[str]:
        return [f"{i} {n}" for n in range(COUNT)]

    yield Way(
        lambda i: check(all(backend.batch_set_v1(names(i), everything))),
        lambda i: check(all(backend.batch_get_v1(names(i), everything))),
        lambda i: backend.clear(),
    )
    backend.close()


def vllm(connection: hbm.Connection) -> Iterator[Way]:
    from test_vllm_tier import ROW, Engine
    from vllm.v1.kv_offload.base import make_offload_key
    from vllm.v1.kv_offload.tiering.base import TransferJob

    count = BYTES // ROW
    rows = np.arange(count)
    with Engine(SimpleNamespace(socket=os.environ["HBM_SOCKET"]), chunks=count) as engine:
        engine.view[:] = 1

        def move(submit: Any, i: int, promotion: bool) -> None:
            keys = [make_offload_key(f"{i} {n}".encode().ljust(32), 0) for n in range(count)]
            submit(TransferJob(i, keys, rows, promotion, engine.request()))
            jobs: list[Any] = []
            while not jobs:
                time.sleep(0.0001)
                jobs = list(engine.tier.get_finished_jobs())
            check(jobs[0].success)

        yield Way(
            lambda i: move(engine.tier.submit_store, i, False),
            lambda i: move(engine.tier.submit_load, i, True),
        )


def transformers(connection: hbm.Connection) -> Iterator[Way]:
    """Suspended to DDR, and back."""
    import torch
    from hbm.transformers import HbmCache

    layers, heads, dim = 8, 8, 128
    tokens = BYTES // (layers * heads * dim * 2 * 2)
    layout = f"layers={layers} heads={heads} dim={dim} bytes=2 order=layer max={tokens}"
    with connection.pool(layout, max_sequences=1) as pool:
        cache = HbmCache(pool)
        states = torch.ones((1, heads, tokens, dim), dtype=torch.bfloat16)
        for layer in cache.layers:
            layer.update(states, states)
        yield Way(lambda i: cache.suspend(), lambda i: cache.resume())
        cache.close()


def torch_model(connection: hbm.Connection) -> Iterator[Way]:
    """save_model() and load_model(), which copies nothing."""
    import torch
    import hbm.torch

    def layer() -> Any:
        return torch.nn.Linear(BYTES // 4096, 1024, bias=False)

    model = layer()
    with torch.device("meta"):
        empty = layer()
    yield Way(
        lambda i: hbm.torch.save_model(connection, f"bench-{i}", model),
        lambda i: hbm.torch.load_model(connection, f"bench-{i}", empty),
        lambda i: connection.unpublish(f"bench-{i}"),
    )


ADAPTERS = {
    "package": package,
    "lmcache": lmcache,
    "sglang": sglang,
    "vllm": vllm,
    "transformers": transformers,
    "torch": torch_model,
}

# ---- The rounds ----


def seconds(what: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    what(*arguments)
    return time.perf_counter() - start


def measure(way: Way, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each store and load, and of memcpy beside it; the first round does not count."""
    source, target = np.ones(BYTES, np.uint8), np.zeros(BYTES, np.uint8)
    figures: dict[str, list[tuple[float, float]]] = {"store": [], "load": []}
    for i in range(rounds + 1):
        before = seconds(np.copyto, target, source)
        for name, what in (("store", way.store), ("load", way.load)):
            own = seconds(what, i)
            after = seconds(np.copyto, target, source)
            if i > 0:
                figures[name].append((own, (before + after) / 2))
            before = after
        way.forget(i)
    return figures


def main() -> None:
    connection = hbm.Connection()  # never closed: a model may still have memory of it
    for name, adapter in ADAPTERS.items():
        ways = adapter(connection)
        try:
            way = next(ways)
        except ImportError as error:
            print(f"{name}: {error}: its rows are left out", file=sys.stderr)
            continue
        for operation, pairs in measure(way, int(sys.argv[1])).items():
            rate = BYTES / 2**30 / statistics.median(own for own, _ in pairs)
            ratio = statistics.median(other / own for own, other in pairs)
            print(f"{name}_{operation} {rate:.3f} GiB/s\n{name}_{operation}_ratio {ratio:.2f}", flush=True)
        next(ways, None)


main()
