# SPDX-License-Identifier: Apache-2.0
"""Blocks of the engine that are held while the daemon reads them where they are.

A store of KV that is in regions (hbm.vllm.direct) has no copy of its own: until it is over in all
workers the engine must not use its blocks for anything else, whatever becomes of their request. So
the scheduler's side has a use of each, as a request has.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Sequence


class Holds:
    """pool: vLLM's BlockPool. workers: how many tell that a store is over."""

    def __init__(self, pool: Any, workers: int) -> None:
        self._pool, self._workers = pool, workers
        self._held: dict[int, list[Any]] = {}
        self._over: Counter[int] = Counter()
        self._last = 0

    def hold(self, blocks: Sequence[int]) -> int:
        """The number of the store that they are held for."""
        self._last += 1
        held = [self._pool.blocks[block] for block in blocks]
        self._pool.touch(held)
        self._held[self._last] = held
        return self._last

    def over(self, workers: Counter[int]) -> None:
        """So many workers more have ended each store."""
        self._over += workers
        for number in list(workers):
            if self._over[number] >= self._workers:
                del self._over[number]
                self._pool.free_blocks(self._held.pop(number))

    def __len__(self) -> int:
        """How many stores blocks are held for."""
        return len(self._held)
