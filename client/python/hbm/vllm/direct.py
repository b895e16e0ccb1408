# SPDX-License-Identifier: Apache-2.0
"""KV cache that is in regions: where the pages of a block are there, so that the daemon reads and writes
them where they are, without a copy in host memory.

The bytes of a block are those that staging rows have (hbm.vllm.planes): its pages in the order of the
planes. So engines with their KV in regions and others have the same blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Sequence

import torch

import hbm


@dataclass
class _Run:
    """Pages that follow each other, of one block: at offset + block * stride of a region."""

    region: hbm.Region
    offset: int
    stride: int
    nbytes: int


class Direct:
    """Of one group."""

    def __init__(self, runs: Sequence[_Run]) -> None:
        self._runs = list(runs)

    def where(self, blocks: Sequence[int]) -> list[Any]:
        """As hbm.Namespace.store() and load() take them."""
        return [
            [(run.region, run.offset + block * run.stride, run.nbytes) for run in self._runs]
            for block in blocks
        ]


def direct_of(
    planes: Sequence[torch.Tensor],
    find: Callable[[torch.Tensor], tuple[hbm.Region, int] | None],
) -> Direct | None:
    """planes: [blocks][page] each, a page contiguous. find: the region of a tensor, and its offset there.
    None: some of it is in no region."""
    runs: list[_Run] = []
    for plane in planes:
        found = find(plane)
        if found is None:
            return None
        region, offset = found
        blocks, page = plane.shape
        stride = plane.stride(0)
        if offset + (blocks - 1) * stride + page > region.bytes:
            return None
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.region.address == region.address
            and last.stride == stride
            and last.offset + last.nbytes == offset
        ):
            last.nbytes += page
        else:
            runs.append(_Run(region, offset, stride, page))
    return Direct(runs)
