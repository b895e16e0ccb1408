# SPDX-License-Identifier: Apache-2.0
"""A courier of one connection, which is not its own: for memory of regions that are that connection's.

What it moves the daemon itself reads and writes, in the engine's KV cache. So a job has no result
before the daemon has let go of that memory: no timeout ends it, and when the connection has ended,
it is over once the daemon has no request of that session any more, or has ended. There is no other
connection after it: regions end with theirs.
"""

from __future__ import annotations

import errno
import logging
import math
from typing import Any, Mapping, Sequence

import hbm
from hbm.link import NEVER

from .courier import Courier, Job

log = logging.getLogger(__name__)

_LOOK_S = 0.1  # between two looks at whether the daemon has let go
_NOT_THERE = (errno.ECONNREFUSED, errno.ENOENT)


class Bound(Courier):
    """connection: stays open when this is closed. Everything else is as for Courier; timeout_ms: how
    long close() waits for what is in flight."""

    def __init__(
        self, namespaces: Sequence[Mapping[str, Any]], connection: hbm.Connection, **options: Any
    ) -> None:
        self._given = connection
        self._lost: list[tuple[Job, str]] = []  # jobs that have failed, and may be at work yet
        self.usable = True
        super().__init__(namespaces, **options)

    def _open(self) -> hbm.Connection:
        if not self.usable:
            raise hbm.ConnectionLost(errno.ENOTCONN, "the connection of these regions has ended")
        return self._given

    def _end(self, connection: Any) -> None:
        self.usable = False

    def _turn(self) -> bool:
        if self._lost and (self._closing or self._let_go()):
            lost, self._lost = self._lost, []
            for job, why in lost:
                super()._fail(job, why)
        return super()._turn() or bool(self._lost)

    def _longest_sleep(self) -> float | None:
        if self._connection is None:
            return _LOOK_S if self._lost else None
        return super()._longest_sleep() if self._closing else None

    def _expire(self) -> None:
        if self._closing:
            super()._expire()

    def _fail(self, job: Job, why: str) -> None:
        if self._ended_with is None and self._connection is not None:
            super()._fail(job, why)  # it was refused, or has ended
        else:
            self._lost.append((job, why))

    def _lose(self, why: str) -> None:
        super()._lose(why)
        self._next_attempt = math.inf

    def _say(self, what: str) -> None:
        if what != self._said:
            log.warning("KV in regions is copied by way of host memory from now on: %s", what)
        self._said = what

    def _let_go(self) -> bool:
        """Whether no daemon has a request of that session."""
        session = self._given.info.session
        try:
            with hbm.Connection(**{**self._connect_args, "reconnect_ms": NEVER}, inspect_only=True) as other:
                sessions = other.query(hbm.Query.SESSIONS)
        except hbm.Error as error:
            return error.errno in _NOT_THERE
        return not any(each["session"] == session and each["in_flight"] for each in sessions)
