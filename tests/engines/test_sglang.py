# SPDX-License-Identifier: Apache-2.0
"""hbm.sglang behind SGLang's own factory and fault injector, on a live daemon."""

from __future__ import annotations

import os
import signal
import time
import types

import pytest

hicache = pytest.importorskip("sglang.srt.mem_cache.hicache_storage")
torch = pytest.importorskip("torch")

import hbm
from hbm.sglang.pages import key_of
from hbm.sglang import storage as ours
from host_pool import HostPool
from sglang.srt.mem_cache.storage import StorageBackendFactory

LAYOUTS = ["page_first", "layer_first", "page_head"]
COUNT = 5


@pytest.fixture
def make(daemon):
    """Makes a backend as SGLang does, with a registered pool; keywords are of the config."""
    made = []

    def make(pool=None, *, zero_copy=1, extra={}, **settings):
        config = {
            **dict(tp_rank=0, tp_size=1, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1),
            **dict(is_mla_model=False, enable_storage_metrics=True, is_page_first_layout=True),
            **dict(model_name="org/model"),
            "extra_config": {
                "backend_name": "hbm",
                "module_path": "hbm.sglang",
                "class_name": "HbmStorage",
                "interface_v1": zero_copy,
                "socket": daemon.socket,
                "weights": 1,
                **extra,
            },
            **settings,
        }
        config = hicache.HiCacheStorageConfig(**config)
        backend = StorageBackendFactory.create_backend("dynamic", config, pool)
        made.append(backend)
        if pool is not None:
            backend.register_mem_pool_host(pool)
        return backend

    yield make
    for backend in made:
        backend.close()


def names(count=COUNT, prefix="page"):
    return [f"{prefix} {i}" for i in range(count)]


def filled(layout="page_first", count=COUNT, **options):
    pool = HostPool(layout, **options)
    for page in range(count):
        pool.fill(page, page + 1)
    return pool


def after(*pages):
    return hicache.HiCacheStorageExtraInfo(prefix_keys=list(pages))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_come_back(make, layout):
    keys, source, target = names(), filled(layout), HostPool(layout)
    one, other = make(source), make(target)
    assert other.batch_exists(keys) == 0
    assert one.batch_set_v1(keys[:3], source.indices(range(3))) == [True] * 3
    assert other.batch_exists(keys) == 3
    assert one.batch_set_v1(keys[3:], source.indices([3, 4]), after(*keys[:3])) == [True] * 2
    assert other.batch_exists(keys) == COUNT
    assert other.batch_exists([*keys[:2], "absent", *keys[2:]]) == 2

    places = [9, 7, 8, 11, 10, 12]
    there = other.batch_get_v1([*keys, "absent"], target.indices(places))
    assert there == [*[True] * COUNT, False]
    assert [target.value(place) for place in places] == [1, 2, 3, 4, 5, 0]
    assert target.value(6) == 0 and target.value(13) == 0


def test_a_pool_of_many_pieces_is_flat(make):
    source = filled("layer_first", layers=8)
    target = HostPool("layer_first", layers=8)
    one, other = make(source), make(target)
    assert all(one.batch_set_v1(names(), source.indices(range(COUNT))))
    assert all(other.batch_get_v1(names(), target.indices(range(COUNT))))
    assert [target.value(page) for page in range(COUNT)] == [1, 2, 3, 4, 5]


def test_pages_are_a_chain(make, daemon):
    keys, source = names(), filled()
    backend = make(source)
    backend.batch_set_v1(keys[:3], source.indices(range(3)))
    backend.batch_set_v1(keys[3:], source.indices([3, 4]), after(*keys[:3]))

    with hbm.Connection(daemon.socket) as connection:
        (part,) = backend._pools["kv"].parts
        namespace = connection.namespace(
            "org/model", layout=part.layout, weights=1, block_bytes=part.bytes
        )
        assert namespace.remove(key_of(keys[2], 0)) == [True]
    assert [backend.exists(key) for key in keys] == [True, True, False, False, False]


def test_a_chain_that_lost_its_beginning_begins_anew(make):
    keys, source = names(), filled()
    backend = make(source)
    assert all(backend.batch_set_v1(keys, source.indices(range(COUNT)), after("gone")))
    assert backend.batch_exists(keys) == COUNT


def test_ranks_hold_shares_of_their_own(make):
    keys = names()
    pools = [filled() for _ in range(2)]
    ranks = [make(pool, tp_rank=rank, tp_size=2) for rank, pool in enumerate(pools)]
    assert all(ranks[0].batch_set_v1(keys, pools[0].indices(range(COUNT))))
    assert [rank.batch_exists(keys) for rank in ranks] == [COUNT, 0]


def test_ranks_that_hold_the_same_share_it(make):
    keys = names()
    pools = [filled(), HostPool()]
    ranks = [
        make(pool, tp_rank=rank, tp_size=2, is_mla_model=True) for rank, pool in enumerate(pools)
    ]
    assert all(ranks[0].batch_set_v1(keys, pools[0].indices(range(COUNT))))
    assert all(ranks[1].batch_get_v1(keys, pools[1].indices(range(COUNT))))
    assert pools[1].value(2) == 3


def test_stages_are_known_by_their_layers(make):
    keys = names()
    stages = [filled(start_layer=layer) for layer in (0, 3)]
    one = make(stages[0], pp_rank=0, pp_size=2)
    assert all(one.batch_set_v1(keys, stages[0].indices(range(COUNT))))
    assert make(stages[1], pp_rank=1, pp_size=2).batch_exists(keys) == 0
    alone = make(stages[0])  # a deployment whose one stage has these layers
    assert alone.batch_exists(keys) == COUNT


def test_another_number_of_ranks_finds_its_heads(make):
    keys = names(2)
    whole = HostPool("page_head", heads=4)
    for group in range(2):  # what a rank of two would hold
        whole.kv_buffer[:, :, 2 * group : 2 * group + 2] = group + 1
    one = make(whole, tp_lcm_size=2, should_split_heads=True)
    assert all(one.batch_set_v1(keys, whole.indices(range(2))))
    assert one.batch_exists(keys) == 2
    one.close()

    for rank in range(2):
        half = HostPool("page_head", heads=2)
        backend = make(half, tp_rank=rank, tp_size=2, tp_lcm_size=2)
        assert backend.batch_get_v1(keys, half.indices(range(2))) == [True] * 2
        assert [half.value(page) for page in range(2)] == [rank + 1] * 2


def transfers(pools, keys, pages):
    policies = {"mamba": "trailing_pages", "indexer": "all_pages"}
    return [
        hicache.PoolTransfer(
            name=hicache.PoolName(name),
            keys=list(keys),
            host_indices=pool.indices(pages),
            hit_policy=hicache.PoolHitPolicy(policies[name]),
        )
        for name, pool in pools.items()
    ]


def test_pools_beside_the_keys_and_values(make):
    keys, kv = names(), filled()
    beside = {"mamba": filled(layers=1), "indexer": filled(layers=2)}
    one = make(kv)
    for name, pool in beside.items():
        one.register_mem_host_pool_v2(pool, hicache.PoolName(name))
    assert all(one.batch_set_v1(keys, kv.indices(range(COUNT))))
    assert one.batch_exists_v2(keys, []).kv_hit_pages == COUNT

    state, pages = transfers(beside, [], [0])
    state.keys, state.host_indices = [keys[1]], beside["mamba"].indices([1])
    pages.keys, pages.host_indices = keys[:4], beside["indexer"].indices(range(4))
    assert one.batch_set_v2([state, pages]) == {"mamba": [True], "indexer": [True] * 4}

    found = one.batch_exists_v2(keys, [state, pages])
    assert (found.kv_hit_pages, found.restorable_prefix_pages) == (2, [2])
    assert found.extra_pool_hit_pages == {"kv": 5, "mamba": 2, "indexer": 4}

    targets = {"mamba": HostPool(layers=1), "indexer": HostPool(layers=2)}
    other = make(HostPool())
    for name, pool in targets.items():
        other.register_mem_host_pool_v2(pool, hicache.PoolName(name))
    got = other.batch_get_v2(transfers(targets, keys[1:3], [3, 4]))
    assert got == {"mamba": [True, False], "indexer": [True, True]}
    assert targets["mamba"].value(3) == 2
    assert [targets["indexer"].value(page) for page in (3, 4)] == [2, 3]


def test_states_are_each_ranks_own(make):
    keys = names(1)
    for rank in range(2):
        backend = make(HostPool(), tp_rank=rank, tp_size=2, is_mla_model=True)
        state = filled(layers=1)
        backend.register_mem_host_pool_v2(state, hicache.PoolName.MAMBA)
        (transfer,) = transfers({"mamba": state}, keys, [rank])
        assert backend.batch_get_v2([transfer]) == {"mamba": [False]}
        assert backend.batch_set_v2([transfer]) == {"mamba": [True]}


def test_a_sum_of_pools_has_no_pages_of_its_own(make):
    keys, pages = names(3), filled(layers=2)
    backend = make()
    backend.register_mem_pool_host(types.SimpleNamespace(kv_buffer=None, page_size=16))
    backend.register_mem_host_pool_v2(pages, hicache.PoolName.INDEXER)
    (transfer,) = transfers({"indexer": pages}, keys[:2], [0, 1])
    backend.batch_set_v2([transfer])
    assert backend.batch_exists_v2(keys, [transfer]).kv_hit_pages == 2


def test_without_interface_v1(make):
    keys, source, target = names(), filled(), HostPool()
    one, other = make(source, zero_copy=0), make(target, zero_copy=0)
    assert one.batch_set(keys, [source.get_data_page(16 * page) for page in range(COUNT)])
    assert other.batch_exists([*keys, "absent"]) == COUNT
    assert other.exists(keys[4]) and not other.exists("absent")
    got = other.batch_get([*keys, "absent"], [target.get_dummy_flat_data_page() for _ in range(6)])
    assert [None if page is None else page[0].item() for page in got] == [1, 2, 3, 4, 5, None]


def test_tensors_of_no_pool(make):
    backend, size = make(), 4096
    assert backend.set("a", torch.full((size,), 7, dtype=torch.uint8))
    assert backend.exists("a") and not backend.exists("b")
    into = torch.zeros(size, dtype=torch.uint8)
    assert backend.get("a", into) is into and into.tolist() == [7] * size
    assert backend.get("b", into) is None
    assert backend.get("a") is None


def test_clear_and_figures(make, monkeypatch):
    lists = ("prefetch_pgs", "backup_pgs", "prefetch_bandwidth", "backup_bandwidth")
    monkeypatch.setattr(
        ours, "_metrics", lambda: types.SimpleNamespace(**{name: [] for name in lists})
    )
    keys, pool = names(), filled()
    backend = make(pool)
    backend.batch_set_v1(keys, pool.indices(range(COUNT)))
    backend.batch_get_v1(keys[:2], pool.indices([7, 8]))
    stats = backend.get_stats()
    assert (stats.backup_pgs, stats.prefetch_pgs) == ([COUNT], [2])
    assert stats.backup_bandwidth[0] > 0 and stats.prefetch_bandwidth[0] > 0
    assert backend.get_stats().backup_pgs == []

    assert backend.clear() is True
    assert backend.batch_exists(keys) == 0


def test_bad_calls_are_false(make):
    keys, pool = names(), filled()
    backend = make(pool)
    assert backend.batch_set_v1(keys, pool.indices(range(2))) == [False] * COUNT
    assert backend.batch_get_v1(keys, pool.indices(range(2))) == [False] * COUNT
    (transfer,) = transfers({"mamba": pool}, keys, range(COUNT))
    assert backend.batch_get_v2([transfer]) == {"mamba": [False] * COUNT}
    assert backend.batch_exists_v2(keys, [transfer]).kv_hit_pages == 0
    assert backend.set("a", None) is False
    assert backend.batch_exists([]) == 0 and backend.batch_get_v1([], pool.indices([0])[:0]) == []


def every_call(backend, pool):
    keys = names()
    indices = pool.indices(range(COUNT))
    page = pool.get_data_page(0)
    return {
        "exists": backend.batch_exists(keys),
        "v2": backend.batch_exists_v2(keys, []).kv_hit_pages,
        "get": sum(backend.batch_get_v1(keys, indices)),
        "set": sum(backend.batch_set_v1(keys, indices)),
        "tensor": backend.set("a", page),
        "tensors": sum(got is not None for got in backend.batch_get(["a"], [page.clone()])),
        "one": backend.exists(keys[0]),
    }


def test_a_daemon_that_is_killed(make, daemon):
    pool = filled()
    backend = make(pool)
    every_call(backend, pool)
    daemon.kill()
    for _ in range(2):
        assert not any(every_call(backend, pool).values())
        assert backend.clear() is False

    daemon.start()
    backend._link._again = 0  # as if the time between two attempts were over
    assert backend.batch_exists(names()) == 0
    again = every_call(backend, pool)
    assert (again["set"], again["tensor"]) == (COUNT, True)


def test_no_daemon_is_said_at_once(make, daemon):
    daemon.stop()
    with pytest.raises(hbm.ConnectionLost):
        make()


def test_behind_the_fault_injector(make, monkeypatch):
    monkeypatch.setenv("SGLANG_TEST_HICACHE_BACKEND_RANDOM_FAILURE", "0.3")
    monkeypatch.setenv("SGLANG_TEST_HICACHE_BACKEND_RANDOM_DELAY", "0.001")
    source, target = filled(), HostPool()
    one, other = make(source), make(target)
    assert type(one).__name__ == "HiCacheStorageFailureInjector"

    outcomes = set()
    for turn in range(40):
        keys = names(prefix=f"turn {turn}")
        stored = one.batch_set_v1(keys, source.indices(range(COUNT)))
        target.kv_buffer.zero_()
        loaded = other.batch_get_v1(keys, target.indices(range(COUNT)))
        values = [target.value(page) for page in range(COUNT)]
        assert values == [page + 1 if ok else 0 for page, ok in enumerate(loaded)]
        assert not any(loaded) or all(stored)
        outcomes.add((all(stored), all(loaded)))
    assert outcomes == {(True, True), (True, False), (False, False)}


def test_weights_keep_pages_apart(make, monkeypatch, tmp_path):
    """Those that the option says; else those of the model that is served, as it was loaded; else they
    are nobody else's."""
    source, served = filled(), None

    def there(**extra):
        """Whether pages are there before they are stored."""
        monkeypatch.setattr(ours, "_served", lambda: served)
        backend = make(source, extra=extra)
        found = backend.batch_exists(names())
        assert found or all(backend.batch_set_v1(names(), source.indices(range(COUNT))))
        return found == COUNT

    assert not there() and there()
    assert not there(weights="v2") and there(weights="v2")

    model = tmp_path / "model"
    model.mkdir()
    weights = model / "model.safetensors"
    weights.write_bytes(b"weights")
    loaded = dict(revision=None, dtype="auto", quantization=None, json_model_override_args="{}")
    served = types.SimpleNamespace(model_path=str(model), **loaded)
    assert not there(weights=None) and there(weights=None)
    assert there(), "what the option says is all that there is to say"
    served.quantization = "fp8"
    assert not there(weights=None) and there(weights=None)
    weights.write_bytes(b"trained")
    assert not there(weights=None)


def test_a_daemon_that_hangs_is_a_miss(make, daemon):
    """Calls end in time, and nothing comes to the pool late."""
    source, target = filled(), HostPool("page_first")
    assert all(make(source).batch_set_v1(names(), source.indices(range(COUNT))))
    other = make(target, extra={"timeout_ms": 1000})
    daemon.signal(signal.SIGSTOP)
    try:
        assert not any(other.batch_get_v1(names(), target.indices(range(COUNT))))
        assert other.batch_exists(names()) == 0
        assert not any(other.batch_set_v1(names(), target.indices(range(COUNT))))
        assert not other.clear()
    finally:
        daemon.signal(signal.SIGCONT)

    def until(done):
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    until(lambda: other.batch_exists(names()) == COUNT)
    assert [target.value(page) for page in range(COUNT)] == [0] * COUNT
    until(lambda: all(other.batch_get_v1(names(), target.indices(range(COUNT)))))
    assert [target.value(page) for page in range(COUNT)] == [1, 2, 3, 4, 5]
