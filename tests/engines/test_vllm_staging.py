# SPDX-License-Identifier: Apache-2.0
"""The connector's host memory, in regions of the daemon and beside them, and the KV cache in regions."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest
import torch

import hbm
import hbm.torch
from hbm.vllm import pool, staging
from hbm.vllm.staging import Staging, _Free
from test_vllm_connector import comes_back, engine, filled, loses_its_daemon, model, prompt  # noqa: F401: a fixture
from toy_vllm import TOKENS, WAIT_S

regions = pytest.mark.settings("ddr.regions=128MiB", "device.slab=2MiB")
ASKED = 16 << 20  # bytes, of that


def settled(engine):
    """The engine, when its workers have memory of the daemon."""
    deadline = time.monotonic() + WAIT_S
    while any(rank.connector._transfers._staging._part is None for rank in engine.ranks):
        assert time.monotonic() < deadline, "there is none"
        time.sleep(0.001)
    return engine


def test_free_ranges():
    """Against a list of which bytes are taken."""
    seed = int(os.environ.get("HBM_TEST_SEED") or random.randrange(1 << 32))
    print("seed", seed)
    chance = random.Random(seed)
    free, taken, owner = _Free(64), [], [None] * 64
    for turn in range(2000):
        if taken and chance.random() < 0.5:
            begin, size = taken.pop(chance.randrange(len(taken)))
            free.give(begin, size)
            owner[begin : begin + size] = [None] * size
            continue
        size = chance.randint(1, 20)
        begin = free.take(size)
        runs = "".join("x" if each is not None else "." for each in owner).split("x")
        assert (begin is None) == (max(map(len, runs)) < size)
        if begin is not None:
            assert owner[begin : begin + size] == [None] * size
            owner[begin : begin + size] = [turn] * size
            taken.append((begin, size))


@pytest.fixture
def wheres(monkeypatch):
    """Of all rows that were stored or loaded: whether they were in a region."""
    seen = []
    plain = staging.Rows.where

    def where(self):
        seen.append(isinstance(found := plain(self), hbm.Spans))
        return found

    monkeypatch.setattr(staging.Rows, "where", where)
    return seen


@regions
@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_rows_in_memory_of_the_daemon(daemon, model, wheres, window):  # noqa: F811
    options = dict(window=window, staging_bytes=ASKED)
    with settled(engine(model, daemon, **options)) as first:
        tokens = first.generate("a", prompt(10))
        first.settle()
    with settled(engine(model, daemon, **options)) as second:
        assert second.generate("b", prompt(10)) == tokens
        assert second.loaded == 10 * TOKENS
    assert wheres and all(wheres)


def test_without_memory_for_regions(daemon, model, wheres):  # noqa: F811
    tokens = filled(model, daemon, staging_bytes=ASKED)
    with engine(model, daemon, staging_bytes=ASKED) as second:
        assert second.generate("b", prompt(10)) == tokens
        assert second.loaded == 10 * TOKENS
    assert wheres and not any(wheres)


@regions
def test_rows_beyond_what_the_daemon_gives(daemon, model, wheres):  # noqa: F811
    """2 MiB, of which all but what a part of a load needs is in use."""
    tokens = filled(model, daemon, blocks=30, staging_bytes=2 << 20)
    with settled(engine(model, daemon, staging_bytes=2 << 20, load_bytes=64 * 8192)) as second:
        own = second.ranks[0].connector._transfers._staging
        kept = own.take(1, (2 << 20) - 14 * 8192)  # of pieces of 16 and of 14 blocks one fits
        wheres.clear()
        assert second.generate("b", prompt(30)) == tokens
        assert second.loaded == 30 * TOKENS
        assert set(wheres) == {True, False}
        del kept


@pytest.mark.settings("ddr.regions=10MiB", "device.slab=2MiB")
def test_less_than_what_is_asked_for(daemon):
    own = Staging(16 << 20)
    with hbm.Connection(daemon.socket) as connection:
        own.begin(connection)
        assert own._part.region.bytes == 8 << 20
        rows = own.take(3, 5000)
        assert rows.memory.shape == (3, 5000)
        assert isinstance(rows.where(), hbm.Spans)
        own.end()
        assert [len(row) for row in rows.where()] == [5000] * 3, "memory like any other"
        del rows
        assert own.take(1, 10)._part is None


@regions
def test_daemon_killed_in_the_middle_of_a_load_to_its_memory(daemon, model):  # noqa: F811
    tokens = filled(model, daemon)
    with settled(engine(model, daemon, staging_bytes=ASKED)) as second:
        loses_its_daemon(second, daemon, tokens)
        daemon.start()
        comes_back(second, daemon, model)
        assert second.ranks[0].connector._courier._used == []


@regions
def test_daemon_that_hangs_writes_to_rows_that_nobody_has(daemon, model):  # noqa: F811
    tokens = filled(model, daemon)
    with settled(engine(model, daemon, timeout_ms=300, staging_bytes=ASKED)) as second:
        own = second.ranks[0].connector._transfers._staging
        second.ask("b", prompt(10))
        before = own._part.region
        daemon.signal(signal.SIGSTOP)
        try:
            second.run()
            assert second.outputs["b"] == tokens
            assert own._part is None
        finally:
            daemon.signal(signal.SIGCONT)
        comes_back(second, daemon, model)
        assert own._part.region is not before and before.closed


# ---- The KV cache in regions: what is seen of it without a GPU ----


class FakeCuda:
    """torch.cuda of a process that has the soft device as its GPU number 0."""

    def __init__(self, monkeypatch, ordinal=0):
        self.used = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: ordinal)
        monkeypatch.setattr(hbm.torch, "use_allocator", self._use)

    @contextlib.contextmanager
    def _use(self, connection, *, device):
        self.used.append((connection, device))
        yield


def test_kv_cache_in_regions(daemon, model, monkeypatch):  # noqa: F811
    cuda = FakeCuda(monkeypatch)
    with engine(model, daemon, kv_in_regions=True) as first:
        ((connection, device),) = cuda.used
        assert (device, connection.closed) == (0, False)
        with first.ranks[0].connector.get_mem_pool_context():
            assert cuda.used[1:] == [(connection, device)], "one connection has all of it"
        assert first.generate("a", prompt(2))
    assert not connection.closed, "torch frees memory whenever it likes"
    with engine(model, daemon) as second:
        assert second.ranks[0].connector.get_mem_pool_context() is None


@pytest.mark.parametrize("why", ["no GPU", "no daemon", "another GPU"])
def test_kv_cache_that_cannot_be_in_regions(daemon, model, monkeypatch, caplog, why):  # noqa: F811
    if why != "no GPU":
        FakeCuda(monkeypatch, ordinal=7 if why == "another GPU" else 0)
    if why == "no daemon":
        daemon.kill()
    assert pool.KvPool(daemon.socket, "test").context() is None
    assert "the KV cache is not in memory of hbmd" in caplog.text


@pytest.mark.parametrize("option", ["enable_sleep_mode", "enable_cumem_allocator"])
def test_kv_cache_of_another_allocator(model, option):  # noqa: F811
    from toy_vllm import _config

    config = _config(model, 1, 16, {})
    pool.check(config)
    setattr(config.model_config, option, True)
    with pytest.raises(ValueError, match=option):
        pool.check(config)
