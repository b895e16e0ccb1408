# SPDX-License-Identifier: Apache-2.0
"""KV that is in regions of the daemon, which stores and loads it where it is: without staging rows, and
without host memory of the daemon. The soft device's regions are what torch has on the CPU; they are made
by the allocator's own functions."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import signal
import subprocess
import time
from collections import Counter

import pytest
import torch

import hbm
import hbm.torch
from hbm.vllm import staging
from hbm.vllm.direct import direct_of
from hbm.vllm.holds import Holds
from soft_daemon import BUILD
from test_vllm_connector import engine, filled, loses_its_daemon, model, prompt  # noqa: F401: a fixture
from test_vllm_staging import FakeCuda
from toy_vllm import TOKENS


class Regions(FakeCuda):
    """torch's memory of use_allocator(), on the soft device."""

    def __init__(self, monkeypatch):
        super().__init__(monkeypatch)
        self.monkeypatch, self.made = monkeypatch, []
        library = ctypes.CDLL(hbm._native.__file__)
        self.allocate, self.release = library.hbm_torch_alloc, library.hbm_torch_free
        self.allocate.restype = ctypes.c_void_p
        self.allocate.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        self.release.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]

    @contextlib.contextmanager
    def _use(self, connection, *, device):
        self.used.append((connection, device))
        if len(self.used) > 1:  # of another rank, which is a process of its own elsewhere
            yield
            return
        hbm.torch.allocator(connection)
        with self.monkeypatch.context() as patch:
            patch.setattr(torch, "zeros", self._zeros)
            yield

    def _zeros(self, shape, *, dtype):
        connection, device = self.used[-1]
        size = math.prod(shape) * dtype.itemsize
        address = self.allocate(size, device, None)
        assert address
        self.made.append((address, size))
        region, offset = hbm.torch.region_of(connection, address)
        return hbm.torch.tensor(region, shape, dtype, offset).zero_()

    def free(self):
        """As torch does when the engine is gone."""
        gc.collect()
        for address, size in self.made:
            self.release(address, size, 0, None)
        self.made.clear()
        for connection, _ in self.used:
            connection.close()
        self.used.clear()


@pytest.fixture
def regions(monkeypatch):
    cuda = Regions(monkeypatch)
    yield cuda
    cuda.free()


@pytest.fixture
def rows(monkeypatch):
    """Bytes of staging rows that were used."""
    taken = []
    plain = staging.Staging.take
    monkeypatch.setattr(staging.Staging, "take", lambda self, n, size: taken.append(n * size) or plain(self, n, size))
    return taken


def host_regions(daemon):
    """How many regions of host memory anybody has: what copies pass through."""
    with hbm.Connection(daemon.socket, inspect_only=True) as look:
        device_host = hbm.connection.DEVICE_HOST
        return sum(region["device"] == device_host for region in look.query(hbm.Query.REGIONS))


@pytest.mark.settings("ddr.regions=64MiB")
@pytest.mark.parametrize("layout, window", [("layers", None), ("split", 3 * TOKENS), ("across", 3 * TOKENS)])
def test_stored_and_loaded_where_it_is(daemon, model, regions, rows, layout, window):  # noqa: F811
    options = dict(layout=layout, window=window, kv_in_regions=True)
    with engine(model, daemon, **options) as first:
        tokens = first.generate("a", prompt(10))
        first.ranks[0].connector._transfers._bound.drain()
        assert daemon.blocks()["ddr"] >= 10
        first.step()
        first.step()
        assert len(first.scheduler.connector._holds) == 0
    del first
    regions.free()
    with engine(model, daemon, **options) as second:
        assert second.generate("b", prompt(10)) == tokens
        assert second.loaded == 10 * TOKENS
        second.ranks[0].connector._transfers._bound.drain()
        assert rows == [] and host_regions(daemon) == 0
    del second
    regions.free()

    # Others have the same blocks, by way of host memory.
    with engine(model, daemon, layout=layout, window=window) as third:
        assert third.generate("c", prompt(10)) == tokens
        assert third.loaded == 10 * TOKENS
    assert rows


def test_what_is_copied_by_others_is_loaded_where_it_is(daemon, model, regions, rows):  # noqa: F811
    tokens = filled(model, daemon, blocks=30)
    rows.clear()
    with engine(model, daemon, kv_in_regions=True, load_bytes=64 * 8192) as second:
        assert second.generate("b", prompt(30)) == tokens
        assert second.loaded == 30 * TOKENS
    assert rows == []
    del second
    regions.free()


def test_blocks_are_held_until_they_are_read(daemon, model, regions):  # noqa: F811
    """The daemon stands still: what it is to read stays as it is, whatever the engine does meanwhile."""
    with engine(model, daemon, kv_in_regions=True, blocks=24) as first:
        assert first.generate("warm", prompt(1, seed=9))
        first.ranks[0].connector._transfers._bound.drain()
        first.step()
        first.step()
        pool = first.scheduler.kv_cache_manager.block_pool
        free = pool.get_num_free_blocks()
        daemon.signal(signal.SIGSTOP)
        try:
            tokens = first.generate("a", prompt(8))
            for seed in range(1, 5):  # more than there are blocks
                first.generate(f"other {seed}", prompt(3, seed=seed))
            assert len(first.scheduler.connector._holds) > 0
            assert pool.get_num_free_blocks() <= free - 8
        finally:
            daemon.signal(signal.SIGCONT)
        first.ranks[0].connector._transfers._bound.drain()
        first.step()
        first.step()
        assert (len(first.scheduler.connector._holds), pool.get_num_free_blocks()) == (0, free)
    del first, pool
    regions.free()
    with engine(model, daemon) as second:
        assert second.generate("b", prompt(8)) == tokens
        assert second.loaded == 8 * TOKENS


def test_a_load_is_over_when_the_daemon_has_let_go(daemon, model, regions):  # noqa: F811
    """However long that takes: timeout_ms does not end it."""
    tokens = filled(model, daemon)
    with engine(model, daemon, kv_in_regions=True, timeout_ms=100) as second:
        second.ask("b", prompt(10))
        daemon.signal(signal.SIGSTOP)
        try:
            second.step()
            bound = second.ranks[0].connector._transfers._bound
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                second.step()
                assert bound.outstanding == 1 and not second.outputs["b"]
        finally:
            daemon.signal(signal.SIGCONT)
        second.run()
        assert second.outputs["b"] == tokens and bound.usable
    del second, bound
    regions.free()


def test_the_session_is_ended_by_an_operator(daemon, model, regions, rows):  # noqa: F811
    """Then the daemon lives, and may be at work: a load is over once it has no request of it."""
    tokens = filled(model, daemon)
    rows.clear()
    with engine(model, daemon, kv_in_regions=True) as second:
        connection, _ = regions.used[-1]
        second.ask("b", prompt(10))
        bound = second.ranks[0].connector._transfers._bound
        looks, plain = [], bound._let_go
        bound._let_go = lambda: looks.append(plain()) or looks[-1]  # what it saw last is that it has
        command = [str(BUILD / "hbmctl"), "--socket", daemon.socket, "sessions", "end", str(connection.info.session)]
        subprocess.run(command, check=True, capture_output=True)
        second.run()
        assert second.outputs["b"] == tokens
        assert not bound.usable and looks[-1:] in ([], [True])
        second.generate("c", prompt(10, seed=4))
        second.settle()
    assert rows, "by way of host memory from then on"
    del second, bound, plain, connection


def test_daemon_killed_in_the_middle_of_a_load(daemon, model, regions, rows):  # noqa: F811
    tokens = filled(model, daemon)
    rows.clear()
    with engine(model, daemon, kv_in_regions=True) as second:
        loses_its_daemon(second, daemon, tokens)
        daemon.start()
        assert second.generate("c", prompt(4, seed=2))
    assert rows, "the regions went with that daemon"
    del second


def test_ranks_tell_together(daemon, model, regions, rows):  # noqa: F811
    """Of a rank whose KV is in regions and one whose KV is not; both have read before blocks are free."""
    with engine(model, daemon, kv_in_regions=True, ranks=2) as first:
        tokens = first.generate("a", prompt(5))
        for rank in first.ranks:
            rank.connector._transfers._courier.drain()
            if rank.connector._transfers._bound is not None:
                rank.connector._transfers._bound.drain()
        first.step()
        first.step()
        assert len(first.scheduler.connector._holds) == 0
    del first, rank
    regions.free()
    with engine(model, daemon, ranks=2) as second:
        assert second.generate("b", prompt(5)) == tokens
        assert second.loaded == 5 * TOKENS


def test_holds():
    class Pool:
        blocks = [f"block {i}" for i in range(9)]
        used = Counter()

        def touch(self, blocks):
            self.used.update(blocks)

        def free_blocks(self, blocks):
            self.used.subtract(blocks)

    pool = Pool()
    holds = Holds(pool, 2)
    first, second = holds.hold([1, 2]), holds.hold([2, 3])
    holds.over(Counter({first: 1, second: 1}))
    assert (len(holds), pool.used["block 2"]) == (2, 2)
    holds.over(Counter({first: 1}))
    assert (len(holds), +pool.used) == (1, Counter({"block 2": 1, "block 3": 1}))
    holds.over(Counter({second: 1}))
    assert (len(holds), +pool.used) == (0, Counter())


def test_planes_in_regions():
    class Region:
        def __init__(self, address):
            self.address, self.bytes = address, 4096

    base = torch.zeros(4096, dtype=torch.uint8)
    one, other = Region(1), Region(2)

    def plane(offset, blocks, stride, page):
        return base.as_strided((blocks, page), (stride, 1), offset)

    def find(tensor):
        offset = tensor.data_ptr() - base.data_ptr()
        return (other if offset >= 2048 else one, offset)

    across = [plane(0, 4, 300, 100), plane(100, 4, 300, 100), plane(200, 4, 300, 100)]
    assert direct_of(across, find).where([2]) == [[(one, 600, 300)]]  # one segment
    apart = [plane(0, 4, 100, 100), plane(2048, 4, 100, 100)]
    assert direct_of(apart, find).where([1, 3]) == [
        [(one, 100, 100), (other, 2148, 100)], [(one, 300, 100), (other, 2348, 100)]]  # fmt: skip
    gap = [plane(0, 4, 300, 100), plane(200, 4, 300, 100)]
    assert direct_of(gap, find).where([0]) == [[(one, 0, 100), (one, 200, 100)]]
    assert direct_of([*gap, plane(0, 1, 1, 1)], lambda tensor: None) is None
    assert direct_of([plane(0, 4, 1100, 100)], lambda tensor: (one, 1000)) is None  # beyond its end
