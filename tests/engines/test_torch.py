# SPDX-License-Identifier: Apache-2.0
"""hbm.torch: tensors in regions, weights that outlive the process that read them, and the two functions
of the allocator, called as torch calls them."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import pytest
import torch

import hbm
import hbm.torch

SLAB = 2 << 20


@pytest.fixture
def connection(daemon):
    with hbm.Connection(daemon.socket) as connection:
        yield connection
        gc.collect()


def make():
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Embedding(64, 32), torch.nn.Linear(32, 48), torch.nn.BatchNorm1d(48), torch.nn.Linear(48, 64)
    ).eval()
    model[3].bias.data = model[3].bias.data.to(torch.bfloat16)
    model.register_buffer("empty", torch.empty(0, 3))
    model.register_parameter("tied", model[0].weight)
    return model


def test_tensors_of_a_region(connection):
    with connection.region(SLAB) as region:
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool):
            one = hbm.torch.tensor(region, (4, 8), dtype, 1024)
            one.copy_(torch.arange(32).reshape(4, 8))
            assert torch.equal(hbm.torch.tensor(region, 32, dtype, 1024), torch.arange(32).to(dtype))
            assert one.data_ptr() - hbm.torch.tensor(region, 1).data_ptr() == 1024
        with pytest.raises(BufferError):
            region.close()
        part = one[1:]
        del one
        with pytest.raises(BufferError):
            region.close()
        del part


@pytest.mark.settings("device.lend=16MiB")
def test_memory_that_others_have_is_no_tensor(connection):
    ns = connection.namespace("m", block_bytes=SLAB, ephemeral=True)
    assert ns.store([hbm.key("a")], [b"kv" * (SLAB // 2)]).wait() == [hbm.Status.OK]
    (loan,) = ns.borrow([hbm.key("a")], piece=SLAB)
    with connection.region(2 * SLAB, slab=SLAB, commit=False) as region:
        region.share(loan, 0, 0, SLAB)
        region.commit(SLAB, SLAB)
        with pytest.raises(BufferError):
            hbm.torch.tensor(region, 4, offset=SLAB - 2)
        one = hbm.torch.tensor(region, 4, offset=SLAB)
        assert one.fill_(7).sum() == 28
        del one


def test_a_tensor_outlives_the_names_of_all(daemon):
    connection = hbm.Connection(daemon.socket)
    one = hbm.torch.tensor(connection.region(SLAB), 16, torch.float32)
    del connection
    gc.collect()
    assert torch.equal(one.fill_(2.0), torch.full((16,), 2.0))


def test_tensors_are_stored_and_loaded(connection):
    ns = connection.namespace("m", block_bytes=65536)
    keys = [hbm.key("a"), hbm.key("b")]
    blocks = [torch.randn(128, 256).to(torch.bfloat16) for _ in keys]
    assert set(ns.store(keys, blocks).wait()) == {hbm.Status.OK}
    back = [torch.zeros(128, 256, dtype=torch.bfloat16) for _ in keys]
    assert set(ns.load(keys, back).wait()) == {hbm.Status.OK}
    assert all(map(torch.equal, blocks, back))
    with pytest.raises(ValueError):
        ns.store(keys, [block.t() for block in blocks])


CHILD = """
import sys
sys.path[:0] = [{here!r}]
import os, signal, hbm, hbm.torch, test_torch as t
hbm.torch.save_model(hbm.Connection({socket!r}), "model", t.make())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_weights_outlive_their_process(daemon, connection):
    from pathlib import Path

    script = CHILD.format(here=str(Path(__file__).parent), socket=daemon.socket)
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    expected, ids = make(), torch.arange(8)
    with torch.device("meta"):
        model = make()
    hbm.torch.load_model(connection, "model", model)
    with torch.no_grad():
        hidden = expected[2](expected[1](expected[0](ids)))
        assert torch.equal(model[2](model[1](model[0](ids))), hidden)
    for name, each in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], each), name
        assert model.state_dict()[name].dtype == each.dtype
    assert model.tied.data_ptr() == model[0].weight.data_ptr()

    # no copy: both have the same memory
    again = hbm.torch.load_tensors(connection, "model")
    again["1.bias"][0] = 42.0
    assert model[1].bias[0] == 42.0

    with pytest.raises(hbm.Refused):
        hbm.torch.save_model(connection, "model", expected)
    connection.unpublish("model")
    with pytest.raises(hbm.Refused):
        hbm.torch.load_model(connection, "model", model)
    assert model[1].bias[0] == 42.0  # what has the memory keeps it
    del model, again


def test_what_is_no_model(connection):
    with connection.region(SLAB) as region:
        region.publish("other")
    with pytest.raises(ValueError):
        hbm.torch.load_tensors(connection, "other")


def test_the_allocator(daemon):
    """As torch.cuda.CUDAPluggableAllocator calls it, which needs a GPU."""
    library = ctypes.CDLL(hbm._native.__file__)
    library.hbm_torch_alloc.restype = ctypes.c_void_p
    library.hbm_torch_alloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    library.hbm_torch_free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    allocate = lambda size, device=0: library.hbm_torch_alloc(size, device, None)  # noqa: E731
    free = lambda address, size: library.hbm_torch_free(address, size, 0, None)  # noqa: E731

    assert allocate(SLAB) is None  # of no connection
    connection = hbm.Connection(daemon.socket)
    hbm.torch.allocator(connection)
    with hbm.Connection(daemon.socket) as other:
        with pytest.raises(RuntimeError):
            hbm.torch.allocator(other)
    for size, device in ((0, 0), (-1, 0), (1 << 50, 0), (SLAB, 7)):
        assert allocate(size, device) is None

    one, two = allocate(20 << 20), allocate(100)
    assert one and two and one != two
    assert hbm.torch.region_of(connection, one - 1) is None
    assert hbm.torch.region_of(connection, two + SLAB) is None
    region, offset = hbm.torch.region_of(connection, one + 4096)
    assert (region.address, region.bytes, offset) == (one, 20 << 20, 4096)
    with pytest.raises(ValueError):
        region.decommit()
    with pytest.raises(BufferError):
        connection.close()

    ns = connection.namespace("m", block_bytes=65536)
    key = [hbm.key("a")]
    region.view(4096, 65536)[:] = b"kv" * 32768
    assert ns.store(key, hbm.Spans(region, [offset])).wait() == [hbm.Status.OK]

    # freed by torch while the region is in use: it goes with that
    free(one, 20 << 20)
    assert hbm.torch.region_of(connection, one) is None
    region.view(4096, 65536)[:] = bytes(65536)
    assert ns.load(key, hbm.Spans(region, [offset])).wait() == [hbm.Status.OK]
    assert region.view(4096, 65536) == b"kv" * 32768
    free(one, 20 << 20)  # twice: nothing
    del region
    free(two, 100)
    three = allocate(SLAB)
    again, _ = hbm.torch.region_of(connection, three)
    again.close()
    free(three, SLAB)
    connection.close()
    assert allocate(SLAB) is None
