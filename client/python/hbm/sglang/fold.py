# SPDX-License-Identifier: Apache-2.0
"""fold: how much of a prompt can be restored, from which pages each pool has.

A hybrid model has pools beside that of its keys and values, with policies of their own.
Its prompt can be restored up to a page if every pool can serve it up to there:

    all_pages         every page up to there
    trailing_pages    the last few pages up to there, as of a state or a sliding window;
                      so it may be possible at 5 pages and not at 4
    block_groups      another form of the pages, in whole groups; its pool says how many
                      pages its leading groups cover, and holds nothing up
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

KV = "kv"


class Pool(NamedTuple):
    """A pool beside that of keys and values."""

    name: str
    policy: str
    window: int  # trailing_pages: how many; block_groups: the pages of a group
    present: Sequence[bool]  # of each page; block_groups: of each key of its own
    block: int = 0  # block_groups: how many pages of the prompt a group covers


class Found(NamedTuple):
    pages: int  # of the prompt, that can be restored
    hits: dict[str, int]  # of each pool that has any: up to which page it can serve
    restorable: list[int]  # every length that can


def leading(present: Sequence[bool]) -> int:
    return list(present).index(False) if False in present else len(present)


def fold(pages: int, pools: Iterable[Pool]) -> Found:
    """pages: how many leading pages of the prompt the pool of keys and values has."""
    hits = {KV: pages} if pages else {}
    restorable = list(range(1, pages + 1))

    for pool in pools:
        if pool.policy == "block_groups":
            covered = leading(pool.present) // max(1, pool.window) * pool.block
        else:
            possible = _possible(pool, pages)
            restorable = [length for length in restorable if length in possible]
            covered = max(possible, default=0)
        if covered:
            hits[pool.name] = covered

    return Found(restorable[-1] if restorable else 0, hits, restorable)


def _possible(pool: Pool, pages: int) -> set[int]:
    present = list(pool.present[:pages])
    if pool.policy == "all_pages":
        return set(range(1, leading(present) + 1))
    if pool.policy == "trailing_pages":
        return {
            length
            for length in range(1, len(present) + 1)
            if all(present[max(0, length - pool.window) : length])
        }
    raise ValueError(f"a pool's policy is {pool.policy!r}")
