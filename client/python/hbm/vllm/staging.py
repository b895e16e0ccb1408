# SPDX-License-Identifier: Apache-2.0
"""Staging: the host memory that blocks of the connector pass through, row by row.

Rows are in a host region of the daemon as long as there is room in it: the daemon reads and writes
them where they are. Other rows are the process's own memory, which libhbm copies once more, to
and from a region of its own. So they are where the daemon has no memory for regions
(ddr.regions), or is away.

    begin(connection) --> take() --> Rows.where() --> the last use of Rows gives them back

A region is of one connection. When that has ended its rows are memory of the process like any
other, as long as somebody has them, and are not given out again: what the daemon writes there
late, no one reads. begin(), end() and where() are called by the courier's thread, the rest by any.
"""

from __future__ import annotations

import collections
import logging
import threading
from typing import Any

import torch

import hbm

log = logging.getLogger(__name__)

_ALIGN = 4096  # bytes: of the first row of several
_SLAB = 2 << 20
_HALVES = 3  # where there is not room for all, half of it is asked for, and so on


class _Free:
    """Ranges of a region that nothing is in, in the order of their offsets."""

    def __init__(self, nbytes: int) -> None:
        self._ranges = [(0, nbytes)]

    def take(self, nbytes: int) -> int | None:
        """An offset, or None: there is no such range."""
        for i, (begin, end) in enumerate(self._ranges):
            if end - begin >= nbytes:
                self._ranges[i : i + 1] = [(begin + nbytes, end)] if end - begin > nbytes else []
                return begin
        return None

    def give(self, begin: int, nbytes: int) -> None:
        ranges = sorted([*self._ranges, (begin, begin + nbytes)])
        self._ranges = ranges[:1]
        for begin, end in ranges[1:]:
            if begin == self._ranges[-1][1]:
                self._ranges[-1] = (self._ranges[-1][0], end)
            else:
                self._ranges.append((begin, end))


class _Part:
    """A region in use: the region, and what is free of it."""

    def __init__(self, region: hbm.Region) -> None:
        self.region, self.free = region, _Free(region.bytes)


class Rows:
    """memory: [blocks][nbytes], uint8. Collected, they are free for others."""

    def __init__(self, staging: "Staging", memory: torch.Tensor, part: _Part | None, offset: int) -> None:
        self.memory = memory
        self._staging, self._part, self._offset = staging, part, offset

    def where(self) -> Any:
        """As hbm.Namespace.store() and load() take them."""
        blocks, nbytes = self.memory.shape
        if self._part is not None and self._part is self._staging._part:
            offsets = range(self._offset, self._offset + blocks * nbytes, nbytes)
            return hbm.Spans(self._part.region, offsets, nbytes)
        flat = memoryview(self.memory.numpy()).cast("B")
        return [flat[i * nbytes : (i + 1) * nbytes] for i in range(blocks)]

    def __del__(self) -> None:
        if self._part is not None:
            blocks, nbytes = self.memory.shape
            del self.memory  # a view of the region
            self._staging._given.append((self._part, self._offset, _whole(blocks * nbytes)))


class Staging:
    """limit: bytes that it asks the daemon for; 0: none. pinned: a GPU copies to and from it."""

    def __init__(self, limit: int, *, pinned: bool = False) -> None:
        self._limit, self.pinned = limit, pinned
        self._lock = threading.Lock()
        self._part: _Part | None = None
        # Rows are collected anywhere, also by who has the lock: they are taken back by take().
        self._given: collections.deque[tuple[_Part, int, int]] = collections.deque()
        self._said = False

    def begin(self, connection: hbm.Connection) -> None:
        """From now on rows are in memory of this daemon, if it has some."""
        for halved in range(_HALVES):
            nbytes = (self._limit >> halved) // _SLAB * _SLAB
            if nbytes == 0:
                return
            try:
                region = connection.host_region(nbytes)
                if self.pinned:
                    region.register()
            except hbm.Refused as refused:
                if refused.status not in (hbm.Status.NO_SPACE, hbm.Status.LIMIT):
                    self._say(refused)
                    return
                continue
            with self._lock:
                self._part = _Part(region)
            return

    def end(self) -> None:
        """The connection ends, or has ended."""
        with self._lock:
            self._part = None
            self._given.clear()

    def take(self, blocks: int, nbytes: int) -> Rows:
        size = _whole(blocks * nbytes)
        with self._lock:
            while self._given:
                of, begin, given = self._given.popleft()
                of.free.give(begin, given)
            part = self._part
            offset = None if part is None else part.free.take(size)
            if part is not None and offset is not None:
                memory = torch.from_dlpack(part.region.array((blocks, nbytes), "uint8", offset))
                return Rows(self, memory, part, offset)
        memory = torch.empty((blocks, nbytes), dtype=torch.uint8, pin_memory=self.pinned)
        return Rows(self, memory, None, 0)

    def _say(self, refused: hbm.Refused) -> None:
        if not self._said:
            log.info("blocks are copied once more on their way to hbmd: %s", refused)
        self._said = True


def _whole(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN
