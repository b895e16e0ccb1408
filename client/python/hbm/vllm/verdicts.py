# SPDX-License-Identifier: Apache-2.0
"""What look-ups have said of keys, as long as a request asks for them.

    unasked --ask()--> noted --batch()--> asked --answer()--> known
                                            |                   ^
                                            +--- timeout_s ----+  (as a miss)

A scheduler asks for the same key in each step until it is known, and for all keys of a request
one by one. What is known stays so until the last request that asked has ended, but: a miss is
asked again for a request that has not asked yet, for the block may be there by now; a load that
failed makes a hit a miss, or the scheduler would try it forever; a store makes a miss a hit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Iterable


@dataclass(slots=True)
class _Verdict:
    found: bool | None = None
    asked: float | None = None  # since when an answer is awaited
    noted: bool = True
    requests: set[str] = field(default_factory=set)


class Verdicts:
    """timeout_s: a look-up that is not answered for so long is a miss: computing the block is
    faster than waiting for a daemon that hangs."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = timeout_s
        self._of: dict[bytes, _Verdict] = {}
        self._noted: list[bytes] = []
        self._keys: dict[str, set[bytes]] = {}  # of each request

    def __len__(self) -> int:
        return len(self._of)

    def ask(self, key: bytes, request: str) -> bool | None:
        """Whether it is there; None: not known yet."""
        verdict = self._of.get(key)
        if verdict is None:
            verdict = self._of[key] = _Verdict()
            self._noted.append(key)
        elif verdict.found is False and request not in verdict.requests:
            self._again(key, verdict)
        verdict.requests.add(request)
        self._keys.setdefault(request, set()).add(key)

        if verdict.found is None and verdict.asked is not None:
            if time.monotonic() - verdict.asked > self._timeout:
                verdict.found = False
        return verdict.found

    def _again(self, key: bytes, verdict: _Verdict) -> None:
        if verdict.asked is None and not verdict.noted:
            verdict.noted, verdict.found = True, None
            self._noted.append(key)

    def batch(self) -> list[bytes]:
        """The keys to look up now; answer() is to come for each of them."""
        noted, self._noted = self._noted, []
        keys = []
        for key in noted:
            verdict = self._of[key]
            verdict.noted = False
            if not verdict.requests:
                del self._of[key]
                continue
            verdict.asked = time.monotonic()
            keys.append(key)
        return keys

    def answer(self, keys: Iterable[bytes], present: Iterable[bool]) -> None:
        for key, found in zip(keys, present, strict=True):
            verdict = self._of[key]
            verdict.asked = None
            if not verdict.requests:
                del self._of[key]
            elif verdict.found is None:
                verdict.found = found

    def correct(self, key: bytes, found: bool) -> None:
        """A store or a load has shown what is true of it now."""
        verdict = self._of.get(key)
        if verdict is not None and verdict.found is not None:
            verdict.found = found

    def forget(self, request: str) -> None:
        """The request has ended. A look-up in flight keeps its place until it is answered."""
        for key in self._keys.pop(request, ()):
            verdict = self._of[key]
            verdict.requests.discard(request)
            if not verdict.requests and verdict.asked is None and not verdict.noted:
                del self._of[key]
