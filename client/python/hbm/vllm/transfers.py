# SPDX-License-Identifier: Apache-2.0
"""The worker's side of the connector: copies between this rank's KV cache and the daemon.

Both ways go through staging rows in host memory (hbm.vllm.staging). A store copies its blocks there before the step
is over, so that the engine may use them for anything after it; the rows are sent later. A load
receives into rows, and copies them to its blocks only when they have come: whatever becomes of
the daemon or of a request that was given up, nothing is written to a block late.

Where the KV cache is in regions the daemon reads and writes blocks where they are (hbm.vllm.direct), as
long as the connection lasts that has them. Then the scheduler's side holds the blocks of a store until
all workers have said that it is over, and a load has no result before the daemon has let go of
its blocks (hbm.vllm.bound).

A load is cut into pieces, so that it needs no more staging memory than the courier's window,
however long the prompt is. Its request is reported once, when all pieces have ended.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

import torch

import hbm

from .bound import Bound
from .courier import Courier, Result
from .direct import Direct, direct_of
from .geometry import Geometry
from .orders import Orders, Part, Stored
from .planes import Planes, planes_of
from .pool import KvPool
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
    of it; a store beyond that is left out. pool: the KV cache may be in regions of its
    connection; bind: makes what moves blocks by that."""

    def __init__(
        self,
        geometry: Geometry,
        courier: Courier,
        staging: Staging,
        *,
        window: int,
        store_bytes: int,
        pool: KvPool | None = None,
        bind: Callable[[hbm.Connection], Bound] | None = None,
    ) -> None:
        self._geometry = geometry
        self._courier = courier
        self._staging = staging
        self._piece = window // 4
        self._store_limit = store_bytes
        self._storing = 0
        self._left_out = False
        self._planes: list[Planes] = []
        self._pool, self._bind = pool, bind
        self._direct: list[Direct] = []  # of each group, if all KV is in regions
        self._bound: Bound | None = None
        self._over: Counter[int] = Counter()  # stores whose blocks were held
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
        if self._pool is not None and self._pool.connection is not None:
            self._use_regions(self._pool.connection)

    def _use_regions(self, connection: hbm.Connection) -> None:
        from hbm.torch import region_of

        found = [
            direct_of(planes.planes, lambda plane: region_of(connection, plane))
            for planes in self._planes
        ]
        if None in found:
            log.warning("part of the KV cache is in no region: it is copied by way of host memory")
            return
        self.close()  # what was registered before
        self._direct = [each for each in found if each is not None]
        self._bound = self._bind(connection)

    def _direct_of(self, place: int) -> Direct | None:
        """Of a group, if the daemon has its memory."""
        if self._bound is None or not self._bound.usable:
            return None
        return self._direct[place]

    def close(self) -> None:
        if self._bound is not None:
            self._bound.close()
        self._direct = []  # torch's memory may go

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
        direct = self._direct_of(piece.group)
        rows: list[Rows] = []
        # What the engine has queued for blocks that it has just given to this request, as zeroing
        # them, comes first.
        queued = None
        if self._stream is not None:
            queued = torch.cuda.Event()
            queued.record()

        def where() -> Any:
            if direct is not None:
                if queued is not None:
                    queued.synchronize()
                return direct.where(piece.blocks)
            rows.append(self._staging.take(len(piece.blocks), planes.nbytes))
            return rows[0].where()

        def then(present: Sequence[bool]) -> None:
            came = [i for i, good in enumerate(present) if good]
            self._scatter(planes, rows[0].memory, came, [piece.blocks[i] for i in came], queued)

        courier = self._courier if direct is None else self._bound
        courier.load(
            (load, piece),
            piece.keys,
            where,
            nbytes=len(piece.blocks) * planes.nbytes,
            namespace=piece.group,
            then=then if direct is None else None,
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
        for part in orders.stores:
            if not self._geometry.stores or not self._store(part):
                self._over[part.held] += 1

    def _store(self, part: Part) -> bool:
        """False: its blocks need not be held."""
        planes = self._planes[part.group]
        nbytes = len(part.blocks) * planes.nbytes
        if self._storing and self._storing + nbytes > self._store_limit:
            if not self._left_out:
                log.warning("stores to hbmd are left out: those before them are not over yet")
            self._left_out = True
            return False

        self._left_out = False
        direct = self._direct_of(part.group) if part.held else None
        courier = self._courier if direct is None else self._bound
        if direct is None:
            rows = self._staging.take(len(part.blocks), planes.nbytes)
            planes.gather(part.blocks, rows.memory)
        copied = None  # or written
        if self._stream is not None:
            copied = torch.cuda.Event()
            copied.record()

        def where() -> Any:
            if copied is not None:
                copied.synchronize()
            return rows.where() if direct is None else direct.where(part.blocks)

        self._storing += nbytes
        held = 0 if direct is None else part.held
        courier.store(
            held, part.keys, where, nbytes=nbytes, parents=part.parents, namespace=part.group
        )
        return held != 0

    # ---- Both ----

    def collect(self) -> Outcome:
        """What has ended since the last call."""
        bound = [] if self._bound is None else self._bound.finished()
        for result in [*self._courier.finished(), *bound]:
            if result.kind == "store":
                self._storing -= result.nbytes
                self._over[result.tag] += 1
            else:
                self._loaded(result)
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def stored(self) -> Stored | None:
        """The stores that are over since the last call, of those whose blocks were held."""
        over, self._over = self._over, Counter()
        del over[0]
        return Stored(over) if over else None

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
