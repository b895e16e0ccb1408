# SPDX-License-Identifier: Apache-2.0
"""The engine's KV cache as bytes: where the block of a group is, and copies out of and into it.

A plane is what one layer has of all blocks: rows of a page each, a stride apart. It is a view
of the engine's tensor, in whatever order that has its dimensions: a layer may be a tensor of
its own (layer-major), or layers may lie between each other in one allocation (cross-layer,
where the stride is that of all layers), or keys and values apart (two planes).

Copies are torch's, so that the same lines serve a GPU and a CPU. Staging rows, which is what the
daemon reads and writes, have the pages of a block one after the other, in the order of the
group's layers.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch

from vllm.v1.kv_cache_interface import iter_layer_specs, UniformTypeKVCacheSpecs


class Planes:
    """Of one group."""

    def __init__(self, planes: Sequence[torch.Tensor]) -> None:
        self.planes = list(planes)
        self.device = planes[0].device
        self.nbytes = sum(plane.shape[1] for plane in planes)

    def gather(self, blocks: Sequence[int], staging: torch.Tensor) -> None:
        """Copies blocks to the rows of `staging`; on a GPU it is queued on the stream."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        at = 0
        for plane in self.planes:
            page = plane.shape[1]
            staging[:, at : at + page].copy_(plane.index_select(0, index), non_blocking=True)
            at += page

    def scatter(self, staging: torch.Tensor, rows: Sequence[int], blocks: Sequence[int]) -> None:
        """Copies these rows of `staging` to these blocks; on a GPU it is queued on the stream."""
        if not rows:
            return
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        chosen = staging if len(rows) == len(staging) else staging[list(rows)]
        at = 0
        for plane in self.planes:
            page = plane.shape[1]
            part = chosen[:, at : at + page].to(self.device, non_blocking=True)
            plane.index_copy_(0, index, part)
            at += page


def planes_of(
    kv_caches: dict[str, torch.Tensor], kv_cache_config: Any, group_index: int
) -> Planes:
    """Of a group, from the tensors that the engine registers."""
    group = kv_cache_config.kv_cache_groups[group_index]
    spec = group.kv_cache_spec
    per_layer = spec.kv_cache_specs if isinstance(spec, UniformTypeKVCacheSpecs) else {}
    planes: list[torch.Tensor] = []
    for name in group.layer_names:
        layer = per_layer.get(name) or next(iter(iter_layer_specs(spec)))
        planes += _layer(kv_caches[name], kv_cache_config.num_blocks, layer.page_size_bytes)
    return Planes(planes)


def _layer(tensor: torch.Tensor, blocks: int, page: int) -> list[torch.Tensor]:
    """The planes of a layer's tensor: (blocks, ...), with each block in one piece or between
    those of other layers, also cut finer, for kernels; or (2, blocks, ...), keys and values."""
    if tensor.shape[0] % blocks == 0:
        finer = tensor.shape[0] // blocks
        return [_rows(tensor, 0, blocks, tensor.stride(0) * finer, page)]
    if tensor.dim() > 1 and tensor.shape[1] == blocks:
        parts = tensor.shape[0]
        return [
            _rows(tensor, part * tensor.stride(0), blocks, tensor.stride(1), page // parts)
            for part in range(parts)
        ]
    raise ValueError(f"a KV cache of shape {tuple(tensor.shape)} has not {blocks} blocks")


def _rows(
    tensor: torch.Tensor, offset: int, blocks: int, stride: int, page: int
) -> torch.Tensor:
    size = tensor.element_size()
    view = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return view.set_(
        tensor.untyped_storage(),
        (tensor.storage_offset() + offset) * size,
        (blocks, page),
        (stride * size, 1),
    )
