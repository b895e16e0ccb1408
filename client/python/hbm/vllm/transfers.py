# SPDX-License-Identifier: Apache-2.0
"""The worker's side of the connector: copies between this rank's KV cache and the daemon.

Both ways go through staging rows in host memory (hbm.vllm.staging). A store copies its blocks there before the step
is over, so that the engine may use them for anything after it; the rows are sent later. A load
receives into rows, and copies them to its blocks only when they have come: whatever becomes of
the daemon or of a request that was given up, nothing is written to a block late.

A load is cut into pieces, so that it needs no more staging memory than the courier's window,
however long the prompt is. Its request is reported once, when all pieces have ended.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Sequence

import torch

import hbm

from .courier import Courier, Result
from .geometry import Geometry
from .orders import Orders, Part
from .planes import Planes, planes_of
from .staging import Rows, Staging

log = logging.getLogger(__name__)


@dataclass
class _Load:
    request: str
    pieces: int  # that have not ended
    failed: list[int] = field(default_factory=list)  # the engine's blocks


@dataclass
class Outcome:
    """finished: requests whose loads have ended. failed: those of them that lack blocks; blocks:
    which."""

    finished: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)


class Transfers:
    """window: bytes of staging for loads. store_bytes: what stores may have
    of it; a store beyond that is left out."""

    def __init__(
        self,
        geometry: Geometry,
        courier: Courier,
        staging: Staging,
        *,
        window: int,
        store_bytes: int,
    ) -> None:
        self._geometry = geometry
        self._courier = courier
        self._staging = staging
        self._piece = window // 4
        self._store_limit = store_bytes
        self._storing = 0
        self._left_out = False
        self._planes: list[Planes] = []
        self._stream: Any = None
        self._outcome = Outcome()

    def register(self, kv_caches: dict[str, torch.Tensor], kv_cache_config: Any) -> None:
        """Raises ValueError: the tensors are none that the geometry tells of."""
        planes = [planes_of(kv_caches, kv_cache_config, g.index) for g in self._geometry.groups]
        for group, plane in zip(self._geometry.groups, planes):
            if plane.nbytes != group.nbytes:
                raise ValueError(
                    f"a block of group {group.index} has {plane.nbytes} bytes, not {group.nbytes}"
                )
        self._planes = planes
        if planes[0].device.type == "cuda":
            self._stream = torch.cuda.Stream(planes[0].device)

    # ---- Loads ----

    def load(self, orders: Orders) -> None:
        for request, parts in orders.loads.items():
            pieces = [piece for part in parts for piece in self._cut(part)]
            load = _Load(request, len(pieces))
            if not pieces:
                self._outcome.finished.add(request)
            for piece in pieces:
                self._begin(load, piece)

    def _cut(self, part: Part) -> list[Part]:
        size = hbm.Key.SIZE
        step = max(1, self._piece // self._geometry.groups[part.group].nbytes)
        return [
            Part(part.group, part.keys[i * size : (i + step) * size], part.blocks[i : i + step])
            for i in range(0, len(part.blocks), step)
        ]

    def _begin(self, load: _Load, piece: Part) -> None:
        planes = self._planes[piece.group]
        rows: list[Rows] = []
        # What the engine has queued for blocks that it has just given to this request, as zeroing
        # them, comes first.
        queued = None
        if self._stream is not None:
            queued = torch.cuda.Event()
            queued.record()

        def where() -> Any:
            rows.append(self._staging.take(len(piece.blocks), planes.nbytes))
            return rows[0].where()

        def then(present: Sequence[bool]) -> None:
            came = [i for i, good in enumerate(present) if good]
            self._scatter(planes, rows[0].memory, came, [piece.blocks[i] for i in came], queued)

        self._courier.load(
            (load, piece),
            piece.keys,
            where,
            nbytes=len(piece.blocks) * planes.nbytes,
            namespace=piece.group,
            then=then,
        )

    def _scatter(
        self,
        planes: Planes,
        staging: torch.Tensor,
        rows: list[int],
        blocks: list[int],
        queued: Any,
    ) -> None:
        """On the courier's thread, beside what the engine does with its other blocks."""
        if self._stream is None:
            planes.scatter(staging, rows, blocks)
            return
        self._stream.wait_event(queued)
        with torch.cuda.stream(self._stream):
            planes.scatter(staging, rows, blocks)
        self._stream.synchronize()

    # ---- Stores ----

    def store(self, orders: Orders) -> None:
        if not self._geometry.stores:
            return
        for part in orders.stores:
            self._store(part)

    def _store(self, part: Part) -> None:
        planes = self._planes[part.group]
        nbytes = len(part.blocks) * planes.nbytes
        if self._storing and self._storing + nbytes > self._store_limit:
            if not self._left_out:
                log.warning("stores to hbmd are left out: those before them are not over yet")
            self._left_out = True
            return

        self._left_out = False
        rows = self._staging.take(len(part.blocks), planes.nbytes)
        planes.gather(part.blocks, rows.memory)
        copied = None
        if self._stream is not None:
            copied = torch.cuda.Event()
            copied.record()

        def where() -> Any:
            if copied is not None:
                copied.synchronize()
            return rows.where()

        self._storing += nbytes
        self._courier.store(
            None, part.keys, where, nbytes=nbytes, parents=part.parents, namespace=part.group
        )

    # ---- Both ----

    def collect(self) -> Outcome:
        """What has ended since the last call."""
        for result in self._courier.finished():
            if result.kind == "store":
                self._storing -= result.nbytes
            else:
                self._loaded(result)
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def _loaded(self, result: Result) -> None:
        load, piece = result.tag
        load.pieces -= 1
        load.failed += [b for b, good in zip(piece.blocks, result.present) if not good]
        if load.pieces:
            return
        self._outcome.finished.add(load.request)
        if load.failed:
            self._outcome.failed.add(load.request)
            self._outcome.blocks.update(load.failed)
