# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side of the connector tells the workers' in a step, and hears back."""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata


@dataclass
class Part:
    """Blocks of one group: group: its place in Geometry.groups. keys: of the cache, joined.
    parents: of a store, likewise. blocks: their numbers in the engine."""

    group: int
    keys: bytes = b""
    blocks: list[int] = field(default_factory=list)
    parents: bytes = b""

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
