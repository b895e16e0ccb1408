# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side of the connector tells the workers' in a step, and hears back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1 import base
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata

# What workers tell the scheduler's side after each step; older releases have no such thing.
WORKER_METADATA = getattr(base, "KVConnectorWorkerMetadata", None)


@dataclass
class Part:
    """Blocks of one group: group: its place in Geometry.groups. keys: of the cache, joined.
    parents: of a store, likewise. blocks: their numbers in the engine. held: of a store, the
    number by which its blocks are held for it (hbm.vllm.holds); 0: they are not."""

    group: int
    keys: bytes = b""
    blocks: list[int] = field(default_factory=list)
    parents: bytes = b""
    held: int = 0

    def add(self, key: bytes, block: int, parent: bytes = b"") -> None:
        self.keys += key
        self.blocks.append(block)
        self.parents += parent


@dataclass
class Orders(KVConnectorMetadata):
    """loads: by the request that waits for it. stores: of blocks that are full when this step
    is over."""

    loads: dict[str, list[Part]] = field(default_factory=dict)
    stores: list[Part] = field(default_factory=list)


@dataclass
class Stored(WORKER_METADATA or object):
    """Stores of blocks that were held which are over: of each number, in how many workers."""

    workers: Counter[int] = field(default_factory=Counter)

    def aggregate(self, other: "Stored") -> "Stored":
        return Stored(self.workers + other.workers)
