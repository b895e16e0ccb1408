# SPDX-License-Identifier: Apache-2.0
"""The scheduler's side of the connector: what the daemon has of a request, and what to store.

    new --match()--> asked --answers--> matched --allocated()--> loading --finished()--> loaded
                       |                   |                                   |
                       +-- timeout --------+-- 0 tokens: nothing to load       +-- failed: computed

A request is looked up once, all its blocks in all groups and ranks, of stages of a pipeline too; a
block is there if every rank has its part. A load is asked for once: when it has failed the request is computed, and
not matched again before it was preempted.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Iterator, Sequence

import hbm

from .courier import Courier
from .geometry import Geometry
from .holds import Holds
from .orders import Orders, Part

log = logging.getLogger(__name__)

_ROOT = bytes(hbm.Key.SIZE)


@dataclass
class _Request:
    """present: of each group, which of its blocks the daemon has; None: not known yet."""

    request: Any
    asked: float | None = None
    waits: int = 0  # answers that are to come
    present: list[list[bool]] | None = None
    computed: int = 0  # tokens that the engine had when it was matched
    loading: set[int] = field(default_factory=set)  # the engine's blocks that a load writes
    given_up: bool = False  # a load has failed
    blocks: list[list[int]] = field(default_factory=list)  # of each group
    stored: list[int] = field(default_factory=list)  # of each group, how many were looked at


class Matcher:
    """ranks: how many have parts of their own; the courier's namespaces are of rank 0 those of all
    groups, of rank 1 those of all groups, and so on. timeout_s: how long a request waits for the
    answer to its look-up. holds: what holds the blocks of stores; None: they have copies."""

    def __init__(
        self,
        geometry: Geometry,
        courier: Courier,
        *,
        ranks: int,
        timeout_s: float,
        prompt_only: bool,
        holds: Holds | None = None,
    ) -> None:
        self._geometry = geometry
        self._courier = courier
        self._ranks = ranks
        self._timeout = timeout_s
        self._prompt_only = prompt_only
        self._holds = holds
        self._requests: dict[str, _Request] = {}
        self._orders = Orders()

    # ---- Matching ----

    def match(self, request: Any, computed: int) -> int | None:
        """How many tokens beyond `computed` can be loaded; None: ask again later."""
        self._answers()
        state = self._of(request)
        if state.given_up:
            return 0
        if state.asked is None:
            self._ask(state)
        if state.waits:
            if time.monotonic() - state.asked < self._timeout:
                return None
            return 0

        state.computed = computed
        return max(0, self._reach(state, computed) - computed)

    def _of(self, request: Any) -> _Request:
        state = self._requests.get(request.request_id)
        if state is None:
            state = _Request(request)
            state.blocks = [[] for _ in self._geometry.groups]
            state.stored = [0 for _ in self._geometry.groups]
            self._requests[request.request_id] = state
        return state

    def _ask(self, state: _Request) -> None:
        state.asked = time.monotonic()
        state.present = []
        for place in range(len(self._geometry.groups)):
            keys = self._keys(state.request, place)
            state.present.append([True] * len(keys))
            if not keys:
                continue
            for rank in range(self._ranks):
                state.waits += 1
                namespace = rank * len(self._geometry.groups) + place
                self._courier.lookup((state, place), b"".join(keys), namespace)

    def _answers(self) -> None:
        for result in self._courier.finished():
            state, place = result.tag
            state.waits -= 1
            known = state.present[place]
            state.present[place] = [a and b for a, b in zip(known, result.present)]

    def _keys(self, request: Any, place: int) -> list[bytes]:
        """Of the full blocks of a group: of the hash up to the end of each."""
        step = self._geometry.groups[place].tokens // self._geometry.per_hash
        return [hbm.key(bytes(h)) for h in request.block_hashes[step - 1 :: step]]

    def _reach(self, state: _Request, computed: int) -> int:
        """Up to which token all groups can be brought."""
        every = self._geometry.every
        reach = state.request.num_tokens // every * every
        for place, group in enumerate(self._geometry.groups):
            if group.window is None:
                missing = state.present[place]
                run = missing.index(False) if False in missing else len(missing)
                reach = min(reach, run * group.tokens // every * every)
        if self._geometry.draft:
            reach -= every  # a draft model's last block may still change
        while reach > computed and not self._windows(state, reach):
            reach -= every
        return reach

    def _windows(self, state: _Request, reach: int) -> bool:
        """Whether groups with a window have all of it before this token."""
        for place, group in enumerate(self._geometry.groups):
            if group.window is not None:
                end = reach // group.tokens
                if not all(state.present[place][max(0, end - group.window) : end]):
                    return False
                if len(state.present[place]) < end:
                    return False
        return True

    # ---- Loading ----

    def allocated(self, request: Any, blocks: Any, external: int) -> None:
        """The engine has blocks for what match() said, of which it takes `external` tokens."""
        state = self._of(request)
        if external <= 0 or state.present is None:
            return

        parts = []
        for place, group in enumerate(self._geometry.groups):
            part = Part(place)
            keys = self._keys(request, place)
            table = blocks.blocks[group.index]
            first = state.computed // group.tokens
            last = -(-(state.computed + external) // group.tokens)
            for i in range(first, last):
                if not table[i].is_null:  # out of the window
                    part.add(keys[i], table[i].block_id)
                    state.loading.add(table[i].block_id)
            if part.blocks:
                parts.append(part)
        self._orders.loads[request.request_id] = parts

    def ended(self, finished: set[str], failed: set[str], blocks: set[int]) -> None:
        """Loads are over: those of `failed` have failed as a whole. `blocks` have not come; they
        may be told before all ranks have finished."""
        for state in self._requests.values() if blocks else ():
            state.given_up |= not blocks.isdisjoint(state.loading)
        for name in finished:
            state = self._requests.get(name)
            if state is not None:
                state.given_up |= name in failed
                state.loading.clear()

    # ---- Storing ----

    def step(self, scheduler_output: Any) -> Orders:
        """What the workers have to do in this step."""
        self._answers()
        preempted = getattr(scheduler_output, "preempted_req_ids", None) or ()
        for name in preempted:
            self._preempted(name)
        for name, tables, whole, before in _scheduled(scheduler_output):
            state = self._requests.get(name)
            if state is None:
                continue
            self._take_tables(state, tables, whole)
            after = before + scheduler_output.num_scheduled_tokens.get(name, 0)
            self._store(state, after)

        orders, self._orders = self._orders, Orders()
        return orders

    def _take_tables(
        self, state: _Request, tables: Sequence[Sequence[int]] | None, whole: bool
    ) -> None:
        if tables is None:
            return
        for place, group in enumerate(self._geometry.groups):
            if whole:
                state.blocks[place] = list(tables[group.index])
            else:
                state.blocks[place] += tables[group.index]

    def _store(self, state: _Request, after: int) -> None:
        """The blocks that are full with `after` tokens, and were not looked at before."""
        if self._prompt_only:
            after = min(after, state.request.num_prompt_tokens)
        for place, group in enumerate(self._geometry.groups):
            first = state.stored[place]
            last = min(after // group.tokens, len(state.blocks[place]))
            if last <= first:
                continue
            keys = self._keys(state.request, place)
            last = min(last, len(keys))
            part = Part(place)
            for i in range(first, last):
                block = state.blocks[place][i]
                if block != 0 and not self._is_there(state, place, i):
                    parent = _ROOT if i == 0 or group.window is not None else keys[i - 1]
                    part.add(keys[i], block, parent)
            state.stored[place] = max(first, last)
            if part.blocks:
                if self._holds is not None:
                    part.held = self._holds.hold(part.blocks)
                self._orders.stores.append(part)

    @staticmethod
    def _is_there(state: _Request, place: int, i: int) -> bool:
        if state.waits or state.present is None or state.given_up:
            return False
        return i < len(state.present[place]) and state.present[place][i]

    def _preempted(self, name: str) -> None:
        """It begins anew, with other blocks; what it has stored stays so."""
        state = self._requests.get(name)
        if state is not None:
            self._requests[name] = _Request(
                state.request, blocks=[[] for _ in state.blocks], stored=state.stored
            )

    def forget(self, request: Any) -> None:
        self._requests.pop(request.request_id, None)


def _scheduled(output: Any) -> Iterator[tuple[str, Any, bool, int]]:
    """Of each request of the step: its name, new blocks by group, whether these are all that it
    has, and how many of its tokens were computed before."""
    for new in output.scheduled_new_reqs:
        yield new.req_id, new.block_ids, True, new.num_computed_tokens
    cached = output.scheduled_cached_reqs
    resumed = getattr(cached, "resumed_req_ids", ())
    for i, name in enumerate(cached.req_ids):
        yield name, cached.new_block_ids[i], name in resumed, cached.num_computed_tokens[i]
