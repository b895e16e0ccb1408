# SPDX-License-Identifier: Apache-2.0
"""torch over memory of hbmd: tensors in regions, weights that outlive their process, an allocator.

    tensor = hbm.torch.tensor(region, (8, 1024), torch.bfloat16)

    hbm.torch.save_model(connection, "llama", model)             # once
    model = make_on_meta(); hbm.torch.load_model(connection, "llama", model)   # in each process after it

    with hbm.torch.use_allocator(connection):                    # CUDA alone
        cache = torch.empty(...)

Tested with torch 2.13.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import torch

from . import _native
from .connection import Connection
from .memory import Region

__all__ = ["load_model", "load_tensors", "region_of", "save_model", "tensor", "use_allocator"]

_ALIGN = 256  # bytes, as torch aligns what it allocates
_HEAD = 16  # bytes: of the magic number and of the length of the description
_MAGIC = b"hbmtens1"


def tensor(
    region: Region, shape: Union[int, Sequence[int]], dtype: torch.dtype = torch.uint8, offset: int = 0
) -> torch.Tensor:
    """A tensor, contiguous, of a committed range of a region, from byte ``offset`` on. It is on the
    region's device, or in host memory where this process can reach the region; the region cannot be
    closed as long as anything has its memory."""
    array = region.array(shape, dtype, offset)
    if array.read_only:
        raise BufferError("torch has no tensors that cannot be written")
    return torch.from_dlpack(array)


# ---- Weights ----


def _round(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _describe(tensors: Mapping[str, torch.Tensor]) -> Tuple[List[Dict[str, Any]], int]:
    """Where each is to be, counted from the end of the description, and how many bytes they take.
    Those that have the same memory have it once."""
    parts: List[Dict[str, Any]] = []
    places: Dict[Any, int] = {}
    end = 0
    for name, each in tensors.items():
        same = (each.data_ptr(), tuple(each.shape), each.dtype) if each.is_contiguous() and each.numel() else name
        if same not in places:
            places[same] = end
            end = _round(end + each.numel() * each.element_size())
        parts.append({
            "name": name, "shape": list(each.shape), "dtype": str(each.dtype).rpartition(".")[2],
            "offset": places[same],
        })
    return parts, end


def save_model(
    connection: Connection,
    name: str,
    model: Union[torch.nn.Module, Mapping[str, torch.Tensor]],
    *,
    device: int = 0,
    gid: Optional[int] = None,
) -> int:
    """Copies a model's parameters and buffers to a region of ``device``, and publishes that by a name:
    they stay there when this process has ended, until ``connection.unpublish(name)``. How many bytes
    they take. ``gid``: that group may attach them, too. Raises ``Refused``: EXISTS, NO_SPACE, LIMIT.
    """
    tensors = model.state_dict(keep_vars=False) if isinstance(model, torch.nn.Module) else dict(model)
    parts, size = _describe(tensors)
    text = json.dumps(parts).encode()
    begin = _round(_HEAD + len(text))

    with connection.region(begin + size, device=device) as region:
        for part in parts:
            each = tensors[part["name"]]
            if each.numel():
                tensor(region, part["shape"], each.dtype, begin + part["offset"]).copy_(each.detach())
        head = _MAGIC + len(text).to_bytes(8, "little") + text
        tensor(region, len(head)).copy_(torch.frombuffer(bytearray(head), dtype=torch.uint8))
        if not region.is_host:
            torch.cuda.synchronize(connection.device_ordinal(device))
        region.publish(name, gid=gid)
        return region.bytes


def load_tensors(connection: Connection, name: str, *, uid: Optional[int] = None) -> Dict[str, torch.Tensor]:
    """What ``save_model()`` has published by a name, without a copy: all processes have the same
    memory, so write to none of them. ``uid``: of the user who did; ``None``: this one's. Raises
    ``Refused``: NOT_FOUND."""
    region = connection.attach(name, uid=uid, write=True)
    head = bytes(tensor(region, min(_HEAD, region.bytes)).cpu().numpy())
    length = int.from_bytes(head[8:], "little")
    if head[:8] != _MAGIC or length > region.bytes - _HEAD:
        raise ValueError(f"{name} is published, and is no model")
    parts = json.loads(bytes(tensor(region, length, offset=_HEAD).cpu().numpy()))
    begin = _round(_HEAD + length)
    loaded = {}
    for part in parts:
        dtype = getattr(torch, part["dtype"])
        if 0 in part["shape"]:
            device = tensor(region, 1).device
            loaded[part["name"]] = torch.empty(part["shape"], dtype=dtype, device=device)
        else:
            loaded[part["name"]] = tensor(region, part["shape"], dtype, begin + part["offset"])
    return loaded


def load_model(
    connection: Connection, name: str, model: torch.nn.Module, *, uid: Optional[int] = None, strict: bool = True
) -> None:
    """Makes what ``save_model()`` has published the parameters and buffers of a model, without a copy:
    one that was made on the device ``meta`` takes no memory of its own. See ``load_tensors()``;
    parameters need no gradient afterwards."""
    model.requires_grad_(False)
    model.load_state_dict(load_tensors(connection, name, uid=uid), strict=strict, assign=True)


# ---- The allocator ----


def region_of(connection: Connection, address: Union[int, torch.Tensor]) -> Optional[Tuple[Region, int]]:
    """The region that the allocator made for an address, or a tensor, and the offset in it: for
    ``store()`` and ``load()`` of what torch has allocated. On the soft device the host's address
    counts, too. ``None``: it has made none. The memory is
    kept as long as the region is."""
    number = address.data_ptr() if isinstance(address, torch.Tensor) else address
    return _native.allocation(Region, connection, number)


def allocator(connection: Connection) -> "torch.cuda.memory.CUDAPluggableAllocator":
    """What gives torch memory of the connection: each allocation is a region. A process has one; the
    connection cannot be closed as long as torch has memory of it."""
    _native.allocator_use(connection)
    return torch.cuda.memory.CUDAPluggableAllocator(_native.__file__, "hbm_torch_alloc", "hbm_torch_free")


@contextlib.contextmanager
def use_allocator(connection: Connection, *, device: int = 0) -> Iterator["torch.cuda.MemPool"]:
    """Tensors of a CUDA device that are made in it are in regions of the connection: a
    ``torch.cuda.MemPool``. ``device``: the daemon's number."""
    pool = torch.cuda.MemPool(allocator(connection).allocator(), no_split=True)
    with torch.cuda.use_mem_pool(pool, device=connection.device_ordinal(device)):
        yield pool
