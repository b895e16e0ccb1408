# SPDX-License-Identifier: Apache-2.0
"""HbmTier behind vLLM's own TieringOffloadingSpec and TieringOffloadingManager, on a live hbmd.

vLLM makes the tier from the configuration that an engine would have, and moves blocks between
its CPU tier and ours. The test plays the GPU: it writes what the CPU tier gets, and compares
what comes back.
"""

from __future__ import annotations

import os
import signal
import time
import uuid

import numpy as np
import pytest

from vllm.v1.kv_offload.base import LookupResult, ReqContext, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.factory import OffloadingSpecFactory

TOKENS = 16  # of a block
ROW = 64 << 10
CHUNKS = 8  # rows of the CPU tier
WAIT_S = 30


class Engine:
    """A scheduler with a CPU tier of CHUNKS rows, and HbmTier behind it."""

    def __init__(
        self,
        daemon,
        *,
        chunks=CHUNKS,
        groups=None,
        model="llama",
        dtype="float16",
        extra=(),
        **tier,
    ):
        options = {
            "spec_name": "TieringOffloadingSpec",
            "cpu_bytes_to_use": chunks * ROW,
            "secondary_tiers": [
                {
                    "type": "HbmTier",
                    "module_path": "hbm.vllm",
                    "socket": daemon.socket,
                    "weights": 7,
                    **tier,
                }
            ],
            **dict(extra),
        }
        config = OffloadingConfig(
            groups=groups or (OffloadingGroupConfig(TOKENS, ("layer.0",), 0),),
            worker_kv_bytes_per_block=ROW,
            enable_kv_cache_events=False,
            extra_config=options,
            engine_id=f"hbm-test-{uuid.uuid4().hex}",
            model=OffloadingModelConfig(name=model, dtype=dtype, max_model_len=4096),
            cache=OffloadingCacheConfig(tokens_per_hash=TOKENS, blocks_per_chunk=1),
            parallel=OffloadingParallelConfig(0, 1, 1, 1, 1, 1, 0, 1, None, False),
        )
        self.spec = OffloadingSpecFactory.create_spec(config)
        self.manager = self.spec.get_manager()
        self.tier = self.manager.secondary_tiers[0]
        self.view = np.frombuffer(self.manager.primary_tier.get_kv_memoryview(), np.uint8)
        self.view = self.view.reshape(chunks, ROW)

    def close(self):
        self.view = None
        self.manager.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def request(self, name=None):
        """name: None for one that no other request has."""
        name = name or uuid.uuid4().hex
        context = ReqContext(req_id=name)
        self.manager.on_new_request(context)
        return context

    def step(self, new=()):
        with self.manager.lock:
            self.manager.on_schedule_end(ScheduleEndContext(new, ()))

    def until(self, condition, why):
        deadline = time.monotonic() + WAIT_S
        while True:
            self.step()
            value = condition()
            if value is not None and value is not False:
                return value
            assert time.monotonic() < deadline, why
            time.sleep(0.002)

    def store(self, context, keys, *, settle=True):
        """As a step of the model that has computed these blocks."""
        with self.manager.lock:
            prepared = self.manager.prepare_store(keys, context)
            assert prepared is not None, "the CPU tier is full"
            for key, row in zip(prepared.keys_to_store, prepared.store_spec.block_ids):
                self.view[row] = content(key)
            self.manager.complete_store(prepared.keys_to_store, context)
        if settle:
            self.settle()

    def settle(self):
        self.until(lambda: not self.manager.has_pending_work(), "jobs do not end")

    def look_up(self, context, keys):
        """What the manager says once it knows; hits are promoted to the CPU tier by then."""

        def known():
            with self.manager.lock:
                said = [self.manager.lookup(key, context) for key in keys]
            pending = LookupResult.RETRY in said or LookupResult.HIT_PENDING in said
            return None if pending else said

        return self.until(known, "look-ups are not answered")

    def load(self, context, keys):
        with self.manager.lock:
            spec = self.manager.prepare_load(keys, context)
            rows = [self.view[row].copy() for row in spec.block_ids]
            self.manager.complete_load(keys, context)
        return rows

    def forget(self):
        """Empty the CPU tier, as another engine's is."""
        with self.manager.lock:
            self.manager.reset_cache()
            self.manager.on_reset_flushed()


def chain(context, count, *, first=0, name=b"prompt", group=0):
    """The keys of a request's blocks, with their positions, as the scheduler says them."""
    keys = []
    for i in range(first, first + count):
        key = make_offload_key(name.ljust(24, b".") + i.to_bytes(8, "big"), group)
        context.set_offload_key_position(key, (i + 1) * TOKENS)
        keys.append(key)
    return keys


def content(key):
    seed = int.from_bytes(key[-16:], "little")
    return np.random.default_rng(seed).integers(0, 256, ROW, np.uint8)


def assert_loaded(engine, context, keys):
    assert engine.look_up(context, keys) == [LookupResult.HIT] * len(keys)
    for key, row in zip(keys, engine.load(context, keys)):
        np.testing.assert_array_equal(row, content(key))


def test_what_one_engine_stores_another_loads(daemon):
    with Engine(daemon) as first:
        context = first.request("a")
        first.store(context, chain(context, 5))

    with Engine(daemon) as second:
        context = second.request("b")
        assert_loaded(second, context, chain(context, 5))
        assert second.look_up(context, chain(context, 1, first=5)) == [LookupResult.MISS]


def test_blocks_of_host_memory_stay_out_of_devices(daemon):
    with Engine(daemon) as engine:
        context = engine.request("a")
        engine.store(context, chain(context, 5))
        assert daemon.blocks()["hbm"] == 0
        assert daemon.blocks()["ddr"] == 5


def test_more_than_the_cpu_tier_holds(daemon):
    with Engine(daemon) as engine:
        context = engine.request("a")
        for first in range(0, 4 * CHUNKS, 4):
            engine.store(context, chain(context, 4, first=first))
        for first in range(0, 4 * CHUNKS, 4):
            assert_loaded(engine, context, chain(context, 4, first=first))


def test_first_lookup_does_not_wait(daemon):
    """The daemon is stopped: no call returns late, and what it would say is a miss."""
    with Engine(daemon, lookup_timeout_ms=50, timeout_ms=1000) as engine:
        context = engine.request("a")
        keys = chain(context, 2)
        engine.store(context, keys)
        engine.forget()

        daemon.signal(signal.SIGSTOP)
        try:
            assert engine.manager.lookup(keys[0], context) is LookupResult.RETRY
            assert engine.look_up(context, keys) == [LookupResult.MISS] * 2
        finally:
            daemon.signal(signal.SIGCONT)

        engine.until(
            lambda: engine.look_up(engine.request(), keys) == [LookupResult.HIT] * 2,
            "the tier does not come back",
        )
        assert_loaded(engine, engine.request(), keys)


def test_namespaces_keep_models_weights_and_salts_apart(daemon):
    with Engine(daemon) as engine:
        context = engine.request("a")
        engine.store(context, chain(context, 2))

    named = [{"model": "qwen"}, {"dtype": "bfloat16"}, {"salt": "tenant"}]
    for other in (*named, {"weights": None}, {"weights": 8}, {"weights": "v2"}):
        with Engine(daemon, **other) as engine:
            context = engine.request("b")
            assert engine.look_up(context, chain(context, 2)) == [LookupResult.MISS] * 2, other


def test_groups_have_keys_of_their_own(daemon):
    groups = (
        OffloadingGroupConfig(TOKENS, ("full.0",), 0),
        OffloadingGroupConfig(TOKENS, ("window.0",), 1, sliding_window_size_in_chunks=1),
    )
    with Engine(daemon, groups=groups) as engine:
        context = engine.request("a")
        full = chain(context, 3)
        window = chain(context, 1, first=2, group=1)  # the others are out of the window
        engine.store(context, full + window)
        engine.forget()
        assert_loaded(engine, context, full + window)
        assert engine.look_up(context, chain(context, 1, group=1)) == [LookupResult.MISS]


def test_partial_load_keeps_what_came(daemon):
    """Two blocks are dropped between look-up and load: the others are kept, and the two are
    misses from then on, not tried forever."""
    import hbm

    with Engine(daemon) as engine:
        context = engine.request("a")
        keys = chain(context, 4)
        engine.store(context, keys)
        engine.forget()

        asked = engine.request("b")
        engine.until(
            lambda: all(engine.tier.lookup(k, asked) is LookupResult.HIT for k in keys),
            "stored blocks are not found",
        )
        with hbm.Connection(daemon.socket) as other:
            from hbm.vllm.tier import _namespace

            ns = other.namespace(**_namespace(engine.spec, ROW, "", 7))
            ns.remove(hbm.key(bytes(keys[2])))  # and keys[3], which continues it

        said = engine.look_up(asked, keys)
        assert said == [LookupResult.HIT] * 2 + [LookupResult.MISS] * 2
        for key, row in zip(keys[:2], engine.load(asked, keys[:2])):
            np.testing.assert_array_equal(row, content(key))


@pytest.mark.parametrize("keeper", [False, True])
def test_daemon_killed_in_the_middle(tmp_path, keeper):
    """Jobs end as failures or as right bytes, nothing raises, and the tier comes back."""
    from soft_daemon import SoftDaemon

    daemon = SoftDaemon(tmp_path, "nvme.fail=read:1:hang", keeper=keeper)
    daemon.start()
    try:
        with Engine(daemon, timeout_ms=2000) as engine:
            context = engine.request("a")
            keys = chain(context, 6)
            engine.store(context, keys)
            engine.forget()

            asked = engine.request("b")
            with engine.manager.lock:
                for key in keys:
                    engine.manager.lookup(key, asked)
            engine.step()
            daemon.kill_daemon()
            said = engine.look_up(asked, keys)
            for key, verdict in zip(keys, said):
                if verdict is LookupResult.HIT:
                    (row,) = engine.load(asked, [key])
                    np.testing.assert_array_equal(row, content(key))

            if not keeper:
                daemon.start()
            engine.forget()
            last = engine.request("c")
            more = chain(last, 2, name=b"another")
            engine.until(
                lambda: _stored_again(engine, more), "the tier does not come back"
            )
    finally:
        daemon.stop()


def _stored_again(engine, keys):
    context = engine.request()
    for i, key in enumerate(keys):
        context.set_offload_key_position(key, (i + 1) * TOKENS)
    engine.store(context, keys)
    engine.forget()
    return engine.look_up(context, keys) == [LookupResult.HIT] * len(keys)


def test_engine_without_a_daemon(daemon):
    """It starts, and everything is a miss; when the daemon is there it is used."""
    daemon.kill()
    with Engine(daemon) as engine:
        context = engine.request("a")
        keys = chain(context, 3)
        assert engine.look_up(context, keys) == [LookupResult.MISS] * 3
        engine.store(context, keys)  # fails, and nothing says so
        engine.forget()
        daemon.start()
        engine.until(lambda: _stored_again(engine, keys), "the tier is not used")


def test_drain_leaves_nothing_behind(daemon):
    """After drain_jobs() every job has its result, and no row is touched."""
    with Engine(daemon) as engine:
        context = engine.request("a")
        keys = chain(context, 6)
        engine.store(context, keys, settle=False)
        engine.tier.drain_jobs()
        jobs = list(engine.manager._jobs)
        results = list(engine.tier.get_finished_jobs())
        assert sorted(r.job_id for r in results) == sorted(jobs)
        assert all(r.success for r in results)
        assert [r.transfer_bytes for r in results] == [6 * ROW]
        for result in results:  # what the manager would have done with it
            job = engine.manager._pop_job(result.job_id).transfer_job
            engine.manager.primary_tier.complete_read(job.keys, job.req_context)
        engine.view[:] = 0

        with Engine(daemon) as second:
            other = second.request("b")
            assert_loaded(second, other, chain(other, 6))


def test_reset_waits_for_stores(daemon):
    """vLLM resets its CPU tier with stores in flight: what was stored is whole."""
    with Engine(daemon) as engine:
        context = engine.request("a")
        keys = chain(context, 6)
        engine.store(context, keys, settle=False)
        engine.forget()
        engine.view[:] = 0
        assert_loaded(engine, context, keys)


def test_stores_that_wait_are_bounded(daemon):
    """A daemon that hangs does not keep the CPU tier: stores beyond store_bytes fail at once."""
    with Engine(daemon, store_bytes=2 * ROW, timeout_ms=1000) as engine:
        context = engine.request("a")
        engine.store(context, chain(context, 1))
        daemon.signal(signal.SIGSTOP)
        try:
            for first in (1, 3, 5):
                engine.store(context, chain(context, 2, first=first), settle=False)
            engine.step()  # prepare_store() has collected what had ended before
            engine.step()
            assert len(engine.manager._jobs) == 1
        finally:
            daemon.signal(signal.SIGCONT)
        engine.settle()


def test_back_pressure_detector_sees_failures(daemon):
    """vLLM's own detector stops stores to a tier that fails them, and our results feed it."""
    detector = {
        "backpressure_cls": "EMABackpressureDetector",
        "policy_cls": "DropStorePolicy",
        "failure_threshold": 2,
        "high_water_s": 10.0,
        "low_water_s": 5.0,
    }
    with Engine(daemon, backpressure=detector) as engine:
        context = engine.request("a")
        engine.store(context, chain(context, 1))
        assert engine.tier.bp_detector.stats["consecutive_store_failures"] == 0
        daemon.kill()
        for i in range(2):
            engine.store(context, chain(context, 1, first=i + 1))
        assert engine.tier.bp_detector.is_under_pressure()


def test_unknown_option_is_refused(daemon):
    with pytest.raises(TypeError, match="sokcet"):
        Engine(daemon, sokcet="/nowhere")


def test_nothing_is_left_open(daemon):
    def count():
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with Engine(daemon) as engine:  # what is opened once for a process
        context = engine.request("a")
        engine.store(context, chain(context, 1))
    before = count()
    for _ in range(3):
        with Engine(daemon) as engine:
            context = engine.request("a")
            engine.store(context, chain(context, 2))
    deadline = time.monotonic() + WAIT_S
    while any(now > then for now, then in zip(count(), before)):
        # a thread that was joined is gone a little later
        assert time.monotonic() < deadline, (count(), before)
        time.sleep(0.01)
