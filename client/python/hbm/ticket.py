# SPDX-License-Identifier: Apache-2.0
"""Tickets: requests in flight, and afterwards their results."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Generator, List, NamedTuple, Optional, Sequence

from . import _native
from .errors import Status, Tier
from .memory import Loan

__all__ = ["Lookup", "Ticket"]

_EXISTS = (int(Status.OK), int(Status.EXISTS))
_STATUS = [Status(number) if number in Status._value2member_map_ else number for number in range(256)]


class Lookup(NamedTuple):
    """What is in the cache, of the keys of a lookup."""

    resident: int  #: how many are, without a gap from the first one on
    load_seconds: float  #: estimated time to load these
    present: List[bool]  #: whether each is


def present(statuses: bytes) -> List[bool]:
    """Whether the block of each status is in the cache."""
    return [status in _EXISTS for status in statuses]


class Ticket(_native.Ticket):
    """A request in flight.

    It goes on whether anybody waits for it or not; it keeps the memory that it reads or writes,
    and dropping it changes nothing. ``await ticket`` waits in the running loop without a thread.
    """

    __slots__ = ("__weakref__", "_connection")

    def wait(self, timeout: Optional[float] = None) -> List[Status]:
        """Waits at most ``timeout`` seconds (``None``: no limit) and returns ``results``.

        Raises ``TimeoutError`` when it has not ended by then: it goes on. Raises ``Refused`` or
        ``ConnectionLost`` if the request as a whole has failed.
        """
        if not self._wait(timeout):
            raise TimeoutError("the ticket has not ended")
        return self.results

    @property
    def results(self) -> List[Status]:
        """The status of each block, in the order of the keys.

        Raises ``RuntimeError`` before it has ended, else as ``wait()``.
        """
        return [_STATUS[number] for number in self._statuses()]

    @property
    def tiers(self) -> List[Tier]:
        """The tier that each block belongs to: when it was asked for, or after a store; NONE: it is
        not in the cache. Raises as ``results``."""
        there = present(self._statuses())
        return [Tier(tier) if here else Tier.NONE for tier, here in zip(self._tiers(), there)]

    @property
    def lookup(self) -> Lookup:
        """Of ``Namespace.submit_lookup()``: what it has found. Raises as ``results``."""
        resident, seconds = self._lookup()
        return Lookup(resident, seconds, present(self._statuses()))

    @property
    def loans(self) -> List[Optional[Loan]]:
        """Of ``Namespace.submit_borrow()``: the loan of each key, or ``None`` where its status is not
        OK. The ticket has them, too: they are returned by ``close()``, or when both are gone. Raises
        as ``results``, and ``RuntimeError`` of a ticket of another request."""
        return self._loans(Loan)

    def add_done_callback(self, callback: Callable[["Ticket"], Any]) -> None:
        """Calls ``callback(ticket)`` when it has ended, or now if it has.

        It is called by the thread that finds that out: in ``dispatch()``, in ``wait()``, or in any
        other call on the connection. What it raises goes to ``sys.unraisablehook``.
        """
        self._call_later(callback)

    def __len__(self) -> int:
        return self._count()

    def __await__(self) -> Generator[Any, None, List[Status]]:
        if not self.done():
            loop = asyncio.get_running_loop()
            future = loop.create_future()

            def tell(_: "Ticket") -> None:
                try:
                    loop.call_soon_threadsafe(_set, future)
                except RuntimeError:  # the loop is closed
                    pass

            connection = self._connection
            connection._watch(loop)
            try:
                self.add_done_callback(tell)
                yield from future
            finally:
                connection._unwatch(loop)
        return self.results

    def __repr__(self) -> str:
        return f"<hbm.Ticket of {len(self)}, {'ended' if self._ended() else 'in flight'}>"


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def gather(tickets: Sequence[Ticket]) -> List[List[Status]]:
    """Awaits all of them: the results of each."""
    return [await ticket for ticket in tickets]
