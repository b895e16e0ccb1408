# SPDX-License-Identifier: Apache-2.0
"""hbm.lmcache behind LMCache: its configuration, its storage manager, its fault injector."""

from __future__ import annotations

import argparse
import json
import os
import select
import time

import pytest

pytest.importorskip("lmcache.v1.distributed.storage_manager")
torch = pytest.importorskip("torch")

import hbm
from hbm.lmcache.adapter import name_of
from lmcache.v1.distributed.api import (
    GroupedObjectKeys,
    MemoryLayoutDesc,
    ObjectKey,
    PrefetchTaskSpec,
)
from lmcache.v1.distributed.config import (
    EvictionConfig,
    L1ManagerConfig,
    L1MemoryManagerConfig,
    StorageManagerConfig,
)
from lmcache.v1.distributed.internal_api import L2AdapterListener
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters import native_connector_l2_adapter as native
from lmcache.v1.distributed.l2_adapters.config import parse_args_to_l2_adapters_config
from lmcache.v1.distributed.storage_manager import StorageManager
from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

FORMS = {
    "native_plugin": {
        "type": "native_plugin",
        "module_path": "hbm.lmcache",
        "class_name": "HbmConnector",
        "max_capacity_gb": 1,
    },
    "plugin": {
        "type": "plugin",
        "module_path": "hbm.lmcache",
        "class_name": "HbmL2Adapter",
        "adapter_params": {"max_capacity_gb": 1},
    },
}
COUNT, FLOATS = 6, 16384
BYTES = 4 * FLOATS
WAIT_S = 30


def spec(form, daemon):
    """What --l2-adapter would be given."""
    wanted = json.loads(json.dumps(FORMS[form]))
    wanted.setdefault("adapter_params", {}).update(socket=daemon.socket, weights=1)
    if form == "native_plugin":
        wanted["adapter_params"]["dtype"] = "float32"
    return wanted


def parsed(*specs):
    texts = [json.dumps(each) for each in specs]
    return parse_args_to_l2_adapters_config(argparse.Namespace(l2_adapter=texts))


@pytest.fixture
def make(daemon):
    made = []

    def make(form, wrap=None, **params):
        wanted = spec(form, daemon)
        wanted["adapter_params"].update(params)
        config = parsed({**wrap, "inner": wanted} if wrap else wanted)
        made.append(create_l2_adapter(config.adapters[0]))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


def keys(count=COUNT, salt=""):
    return [
        ObjectKey(chunk_hash=bytes([i] * 4), model_name="org/model", kv_rank=1, cache_salt=salt)
        for i in range(count)
    ]


def memory(value, floats=FLOATS):
    raw = torch.full((floats,), float(value))
    about = MemoryObjMetadata(
        shape=raw.shape,
        dtype=raw.dtype,
        address=0,
        phy_size=4 * floats,
        fmt=MemoryFormat.KV_2LTD,
        ref_count=1,
    )
    return TensorMemoryObj(raw, about, parent_allocator=None)


def until(found):
    """What `found` gives once it is not None."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if (got := found()) is not None:
            return got
        time.sleep(0.002)
    raise TimeoutError


def wait(fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(WAIT_S * 1000)
    os.eventfd_read(fd)


def store(adapter, wanted, objects):
    task = adapter.submit_store_task(wanted, objects)
    wait(adapter.get_store_event_fd())
    return adapter.pop_completed_store_tasks()[task]


def bits(bitmap, count=COUNT):
    return [bitmap.test(i) for i in range(count)]


def lookup(adapter, wanted):
    layout = MemoryLayoutDesc(shapes=[torch.Size([FLOATS])], dtypes=[torch.float32])
    task = adapter.submit_lookup_and_lock_task(wanted, {0: layout})
    wait(adapter.get_lookup_and_lock_event_fd())
    return bits(adapter.query_lookup_and_lock_result(task), len(wanted))


def load(adapter, wanted, objects):
    task = adapter.submit_load_task(wanted, objects)
    wait(adapter.get_load_event_fd())
    return bits(adapter.query_load_result(task), len(wanted))


def test_names_are_those_of_the_native_form():
    for key in (*keys(2), *keys(1, salt="tenant")):
        assert name_of(key) == native._object_key_to_string(key)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_finds_what_the_other_stored(make, form):
    (other,) = set(FORMS) - {form}
    one, two = make(form), make(other)
    stored = store(one, keys(), [memory(i) for i in range(COUNT)])
    assert stored.bytes_transferred() == COUNT * BYTES
    assert lookup(two, keys(COUNT + 1)) == [*[True] * COUNT, False]
    into = [memory(-1) for _ in range(COUNT + 1)]
    assert load(two, keys(COUNT + 1), into) == [*[True] * COUNT, False]
    assert [each.raw_data[0].item() for each in into] == [0, 1, 2, 3, 4, 5, -1]
    assert all(bool((each.raw_data == each.raw_data[0]).all()) for each in into)


@pytest.mark.parametrize("form", FORMS)
def test_types_and_weights_keep_objects_apart(make, form):
    """Objects of one name and size."""

    def there(**params):
        adapter = make(form, **params)
        return any(lookup(adapter, keys())) or any(load(adapter, keys(), [memory(-1)] * COUNT))

    assert store(make(form), keys(), [memory(i) for i in range(COUNT)]).is_successful()
    assert there()
    assert not there(dtype="int32")
    assert not there(weights=2)
    assert not there(weights="v2")
    assert not there(weights=None), "it is not known which they are"


def test_type_is_what_lmcache_says(make):
    """Of the memory of an object, and of a group that is looked up."""
    adapter = make("plugin")
    floats, ints = memory(1), memory(2)
    ints.meta.dtype = torch.int32
    assert store(adapter, keys(1), [floats]).is_successful()
    assert not load(adapter, keys(1), [ints])[0]
    for dtype, found in ((torch.int32, False), (torch.float32, True)):
        layout = MemoryLayoutDesc(shapes=[torch.Size([FLOATS])], dtypes=[dtype])
        number = adapter.submit_lookup_and_lock_task(keys(1), {0: layout})
        wait(adapter.get_lookup_and_lock_event_fd())
        bitmap = until(lambda: adapter.query_lookup_and_lock_result(number))
        assert bitmap.test(0) == found


@pytest.mark.parametrize("form", FORMS)
def test_faults_are_gaps_and_no_more(make, form):
    adapter = make(form, wrap={"type": "fault_inject", "rate": 0.5, "seed": 3, "gap_indices": [1]})
    assert store(adapter, keys(), [memory(i) for i in range(COUNT)]).is_successful()
    assert lookup(adapter, keys()) == [True] * COUNT
    into = [memory(-1) for _ in range(COUNT)]
    there = load(adapter, keys(), into)
    assert not there[1] and any(there)
    for i, (ok, each) in enumerate(zip(there, into)):
        if ok:
            assert bool((each.raw_data == i).all())


@pytest.mark.parametrize("form", FORMS)
def test_a_daemon_that_is_killed_is_a_miss(make, daemon, form):
    adapter = make(form)
    objects = [memory(i) for i in range(COUNT)]
    assert store(adapter, keys(), objects).is_successful()
    daemon.kill()
    for _ in range(2):
        assert not any(lookup(adapter, keys()))
        assert not any(load(adapter, keys(), objects))
        assert not store(adapter, keys(), objects).is_successful()
        adapter.delete(keys())

    daemon.start()
    deadline = time.monotonic() + WAIT_S
    while not store(adapter, keys(), objects).is_successful():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert lookup(adapter, keys()) == [True] * COUNT


class Listener(L2AdapterListener):
    def __init__(self):
        self.events = []

    def on_l2_keys_stored(self, stored, sizes):
        self.events.append(("stored", list(stored), list(sizes)))

    def on_l2_keys_accessed(self, accessed):
        self.events.append(("accessed", list(accessed)))

    def on_l2_keys_deleted(self, deleted):
        self.events.append(("deleted", list(deleted)))


def test_figures_follow_what_the_daemon_dropped(make, daemon):
    adapter, listener = make("plugin"), Listener()
    adapter.register_listener(listener)
    wanted = [*keys(2, salt="a"), *keys(1, salt="b")]
    store(adapter, wanted, [memory(i) for i in range(3)])
    store(adapter, wanted[:1], [memory(0)])
    usage = adapter.get_usage()
    assert dict(usage.bytes_by_cache_salt) == {"a": 2 * BYTES, "b": BYTES}
    assert usage.total_capacity_bytes == 1 << 30
    assert [event[2] for event in listener.events] == [[BYTES] * 3, [0]]

    listener.events.clear()
    with hbm.Connection(daemon.socket) as connection:
        namespace = connection.namespace("org/model", weights=1, layout="lmcache float32", block_bytes=BYTES)
        assert namespace.remove([hbm.key(name_of(wanted[1]))]) == [True]
    assert lookup(adapter, wanted) == [True, False, True]
    assert dict(adapter.get_usage().bytes_by_cache_salt) == {"a": BYTES, "b": BYTES}
    assert listener.events == [("deleted", [wanted[1]])]
    assert adapter.report_status()["stored_object_count"] == 2

    adapter.delete(wanted)
    assert adapter.get_usage().total_bytes_used == 0
    assert listener.events[1:] == [("deleted", [wanted[0], wanted[2]])]


def test_settings_that_do_not_exist_are_said(make, daemon):
    config = parsed({**FORMS["plugin"], "adapter_params": {"sokcet": daemon.socket}})
    with pytest.raises(ValueError, match="sokcet"):
        create_l2_adapter(config.adapters[0])


@pytest.mark.parametrize("form", FORMS)
def test_through_the_storage_manager(daemon, form):
    """Written to L1, stored from there, dropped from L1, and brought back: in one process and
    in the next one."""
    layout = MemoryLayoutDesc(shapes=[torch.Size([FLOATS])], dtypes=[torch.float32])
    memory_config = L1MemoryManagerConfig(
        size_in_bytes=16 << 20, use_lazy=False, init_size_in_bytes=16 << 20, align_bytes=4096
    )
    config = StorageManagerConfig(
        l1_manager_config=L1ManagerConfig(
            memory_config=memory_config, write_ttl_seconds=600, read_ttl_seconds=300
        ),
        eviction_config=EvictionConfig(eviction_policy="LRU"),
        l2_adapter_config=parsed(spec(form, daemon)),
    )
    wanted = keys()

    manager = StorageManager(config)
    for i, each in enumerate(manager.reserve_write(wanted, layout).values()):
        each.raw_data.view(torch.float32).fill_(i)
    manager.finish_write(wanted)
    ((_, adapter),) = manager.l2_adapters()
    until(lambda: adapter.get_usage().total_bytes_used == COUNT * BYTES or None)
    until(lambda: all(manager._l1_manager.is_key_evictable(key) for key in wanted) or None)
    manager.clear()
    brought_back(manager, wanted, layout)
    manager.close()

    manager = StorageManager(config)
    brought_back(manager, wanted, layout)
    manager.close()


def brought_back(manager, wanted, layout):
    groups = [GroupedObjectKeys(keys=wanted, object_group_id=0, layout_desc=layout)]
    handle = manager.submit_prefetch_task(PrefetchTaskSpec(key_groups=groups))
    result = until(lambda: manager.query_prefetch_status(handle))
    assert result.hit_cells[0].count_leading_ones() == COUNT
    with manager.read_prefetched_results(wanted) as objects:
        for i, each in enumerate(objects):
            assert bool((each.raw_data.view(torch.float32) == i).all())
    manager.finish_read_prefetched(wanted)
