# SPDX-License-Identifier: Apache-2.0
"""Namespaces: families of blocks of the cache, and what is done with blocks."""

from __future__ import annotations

import array
import enum
import hashlib
import sys
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _native
from .errors import Status, Tier
from .memory import Loan, Region, Spans
from .ticket import Lookup, Ticket, present

__all__ = [
    "Amount", "CacheEvent", "Happened", "Key", "Namespace", "Watched", "chain", "key", "token_keys",
]

#: One buffer of n keys of 16 bytes, or a sequence of buffers of one.
Keys = Union[bytes, bytearray, memoryview, Sequence[bytes]]
#: Where n blocks are: see ``Namespace.store()``.
Where = Union[Spans, Sequence[Any], Sequence[Sequence[Tuple[Region, int, int]]]]
#: (slot, value), and for ``done`` also (slot, value, slot of the number of failures).
Point = Tuple[int, ...]

_OP = _native.OPCODE
_KEEP = _native.LIMITS["KEEP"]


class Key:
    """Keys are ``bytes`` of ``Key.SIZE``."""

    SIZE = _native.LIMITS["KEY_BYTES"]


def key(data: Union[str, bytes, bytearray, memoryview]) -> bytes:
    """A key for any text or bytes: their BLAKE2b hash of 16 bytes."""
    if isinstance(data, str):
        data = data.encode()
    return hashlib.blake2b(data, digest_size=Key.SIZE).digest()


def chain(keys: Keys, parent: Optional[bytes] = None) -> bytes:
    """The parents of blocks of which each continues the one before it, as ``parents`` of a store;
    the first continues ``parent``, or is a root."""
    joined = bytes(keys) if isinstance(keys, (bytes, bytearray, memoryview)) else b"".join(keys)
    return (parent or bytes(Key.SIZE)) + joined[: -Key.SIZE] if joined else b""


def token_keys(tokens: Iterable[int], block_tokens: int) -> bytes:
    """The keys of the whole blocks of ``block_tokens`` tokens of a prompt: each is of all tokens up to
    its end, so that equal keys are of equal prefixes. Tokens are numbers of 32 bits."""
    numbers = array.array("I", tokens)
    if sys.byteorder == "big":
        numbers.byteswap()  # as every other process of the cache has them
    joined, step, found, before = numbers.tobytes(), block_tokens * numbers.itemsize, [], b""
    for end in range(step, len(joined) + 1, step):
        before = key(before + joined[end - step : end])
        found.append(before)
    return b"".join(found)


class Amount(NamedTuple):
    """What was dropped."""

    blocks: int
    bytes: int  #: as stored


Happened = enum.IntEnum("Happened", _native.CACHE_EVENT, module=__name__)
Happened.__doc__ = "enum hbm_cache_event: what has happened to a block."


class CacheEvent(NamedTuple):
    """What has happened to a block of a namespace."""

    key: bytes
    what: Happened
    before: Tier  #: the tier that it was in; NONE: it was not there
    after: Tier  #: the tier that it is in; NONE: it is not there any more


class Watched(NamedTuple):
    """What ``Namespace.watch()`` found."""

    position: int  #: to go on from
    missed: int  #: events before these that the daemon does not have any more
    events: List[CacheEvent]  #: the oldest first


class Namespace(_native.Namespace):
    """A family of interchangeable blocks of ``block_bytes`` each; ``Connection.namespace()`` opens
    one. Blocks are found by keys: 16 bytes each, as one ``bytes`` of n * 16 or a sequence of n."""

    __slots__ = ("__weakref__", "_connection", "_layout")

    def lookup(self, keys: Keys) -> Lookup:
        """Which of the blocks are in the cache."""
        resident, seconds, statuses = self._lookup(keys)
        return Lookup(resident, seconds, present(statuses))

    def submit_lookup(self, keys: Keys) -> Ticket:
        """``lookup()`` that returns at once; then ``Ticket.lookup`` has the answer, ``Ticket.tiers`` where
        each block is."""
        return self._of_keys("LOOKUP", keys)

    def store(
        self,
        keys: Keys,
        where: Where,
        *,
        parents: Union[None, Keys, Sequence[Optional[bytes]]] = None,
        tier: Optional[Tier] = None,
        durable: bool = False,
        pin: bool = False,
        lend: bool = False,
        ready: Optional[Point] = None,
        done: Optional[Point] = None,
    ) -> Ticket:
        """Stores a block for each key, and returns at once.

        ``where``, of n blocks of ``block_bytes`` each, is one of

        * ``Spans(region, offsets)``;
        * a sequence of n lists of segments ``(region, offset, bytes)``, which make up a block;
        * a sequence of n buffers, contiguous and of ``block_bytes``: any memory of this process.

        It is not to be written until the ticket has ended. Of each block the ticket tells OK,
        EXISTS (it is in the cache already, and stays as it is), or why it was not stored.

        ``parents``: the key that each block continues, or ``None`` for a root (``chain()``);
        ``None``: all are roots. ``tier``: where they are to go, instead of where the policy puts
        them. ``durable``, ``pin``, ``lend``: see struct hbm_block of libhbm(3). ``ready``: begin
        when that fence has that value; ``done``: set that fence to that value at the end.
        """
        ticket = self._store(keys, where, ready, done, parents, tier or 0, durable, pin, lend)
        ticket._connection = self._connection
        return ticket

    def load(
        self, keys: Keys, where: Where, *, ready: Optional[Point] = None, done: Optional[Point] = None
    ) -> Ticket:
        """Loads the block of each key, and returns at once.

        Everything is as for ``store()``, and the buffers are writable. Of each block the ticket
        tells OK, or MISS or why else it was not loaded: what is there then is not to be read.
        """
        ticket = self._load(keys, where, ready, done)
        ticket._connection = self._connection
        return ticket

    def prefetch(self, keys: Keys, device: int = 0, *, deadline: float = 0.0) -> Ticket:
        """Moves blocks to the HBM tier of a device, as a use of them; the ticket ends when they
        are there. ``deadline``: seconds from now; 0: none."""
        return self._of_keys("PREFETCH", keys, device, deadline=deadline)

    def move(self, keys: Keys, tier: Tier, device: int = 0, *, deadline: float = 0.0) -> Ticket:
        """Moves blocks to a tier, without a use of them; the ticket ends when it is decided, and the
        bytes follow. ``deadline``: seconds from now until the last of them is to be there; 0:
        none. It orders moves and promises nothing."""
        return self._of_keys("MOVE", keys, device, int(tier), deadline)

    def borrow(self, keys: Keys, device: int = 0, *, piece: int = 0) -> List[Optional[Loan]]:
        """Lends this process blocks in the memory of a device, to be read there without a copy, and
        counts as a use of them: the loan of each, or ``None`` where the daemon has none
        (``submit_borrow()`` says why). Blocks that are not on the device are copied there first.

        ``piece``: 0: a block lies somewhere in a slab, beside others; 2 MiB, or twice as much any
        number of times, and a divisor of ``block_bytes``: each piece of so many bytes is a slab of its
        own, which ``Region.share()`` takes. At most 253 pieces in a call. Raises ``Refused``:
        UNSUPPORTED (``device.lend`` of hbmd.conf(5) is 0), LIMIT, INVALID (``piece``)."""
        ticket = self.submit_borrow(keys, device, piece=piece)
        ticket.wait()
        return ticket.loans

    def submit_borrow(self, keys: Keys, device: int = 0, *, piece: int = 0) -> Ticket:
        """``borrow()`` that returns at once; then ``Ticket.loans`` has them. Of each block the ticket
        tells OK, MISS, NO_SPACE (all that may be lent is on loan) or LIMIT."""
        ticket = self._borrow(keys, device, piece)
        ticket._connection = self._connection
        return ticket

    def touch(self, keys: Keys) -> Ticket:
        """Counts as a use of the blocks."""
        return self._of_keys("TOUCH", keys)

    def pin(self, keys: Keys, *, keep: bool = False) -> Ticket:
        """Keeps blocks from being evicted, until as many ``unpin()`` or the connection's end;
        ``keep``: beyond that, for operators."""
        return self._of_keys("PIN", keys, _KEEP if keep else 0)

    def unpin(self, keys: Keys, *, keep: bool = False) -> Ticket:
        """Takes a pin from each of the blocks; ``keep``: one of those that stay."""
        return self._of_keys("UNPIN", keys, _KEEP if keep else 0)

    def retain(self, keys: Keys, priority: int = 1, *, seconds: float = 0.0) -> Ticket:
        """Has blocks and their ancestors evicted after those of a lower priority, for so long; 0:
        for as long as the daemon allows. Priority 0 releases them."""
        return self._of_keys("RETAIN", keys, priority, int(seconds * 1e6))

    def remove(self, keys: Keys) -> List[bool]:
        """Drops blocks and their descendants; whether each was there."""
        return [status == Status.OK for status in self.submit_remove(keys).wait()]

    def submit_remove(self, keys: Keys) -> Ticket:
        """``remove()`` that returns at once: OK of each block that was there."""
        return self._of_keys("REMOVE", keys)

    def drop(self, *, pinned: bool = False) -> Amount:
        """Drops all blocks of the namespace, as after a change of the weights; it stays open.
        ``pinned``: also those that others have pinned, for operators."""
        ticket = self.submit_drop(pinned=pinned)
        ticket.wait()
        return Amount(*ticket._amount())

    def submit_drop(self, *, pinned: bool = False) -> Ticket:
        """``drop()`` that returns at once."""
        ticket = self._drop(int(pinned))
        ticket._connection = self._connection
        return ticket

    def watch(self, position: int = 0) -> Watched:
        """What has happened to its blocks since ``position``, at most 256 events: ask again from the
        position that it returns while there are some. 0: no events, only where they begin; the
        daemon keeps the last 2,048 from then on. If some were missed, look up what matters. Raises
        ``Refused``: INVALID (there is no such position), LIMIT (``limits.watched``)."""
        position, missed, events = self._watch(position)
        return Watched(position, missed, [
            CacheEvent(key, Happened(what), Tier(before), Tier(after))
            for key, what, before, after in events
        ])

    def _of_keys(
        self, op: str, keys: Keys, device: int = 0, number: int = 0, deadline: float = 0.0
    ) -> Ticket:
        ticket = self._keys(_OP[op], keys, device, number, int(deadline * 1e6))
        ticket._connection = self._connection
        return ticket

    def __enter__(self) -> "Namespace":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<hbm.Namespace {self.number}, blocks of {self.block_bytes} bytes>"
