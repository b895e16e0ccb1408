# SPDX-License-Identifier: Apache-2.0
"""Sequences: the KV cache of a request as one address range, whose memory is mapped as it grows.

What the calls promise is in hbm-sequences(3); here are those that move and keep sequences, and the
arrays that show their keys and values.
"""

from __future__ import annotations

import enum
import weakref
from typing import Any, Iterable, List, NamedTuple, Optional, Tuple, TypedDict, Unpack

from . import _native
from .errors import Refused, Status, Tier
from .memory import Array, number_name
from .namespace import Keys, Namespace

__all__ = ["Event", "Options", "Pool", "PoolFacts", "Saved", "Sequence", "SequenceFacts", "Space"]


class Happening(enum.IntEnum):
    """enum hbm_event_kind."""

    OVERRUN = 1
    SUSPEND = 2
    RESUME = 3
    PRESSURE = 4


class Event(NamedTuple):
    """What has happened to a sequence of a pool, or what an operator asks for."""

    kind: Happening
    sequence: Optional["Sequence"]  #: None: of the pool, or it is closed
    tokens: int
    expected: int
    tier: Tier  #: of SUSPEND: where it is to go
    bytes: int  #: of PRESSURE: that should be free and are not


class PoolFacts(NamedTuple):
    open: int  #: sequences
    mapped_bytes: int
    warm_bytes: int
    free_slabs: int
    free_tokens: int
    promised_bytes: int


class SequenceFacts(NamedTuple):
    number: int  #: as hbmctl sequences shows it
    slot: int
    address: int  #: of its slot, on the device
    tokens: int
    first: int  #: tokens in front of it were given up
    ready: int  #: tokens for which memory is mapped
    mapped_bytes: int
    shared_bytes: int  #: of them: that others have, too
    lent_bytes: int  #: of these: blocks of the cache, which are not charged for
    suspended_bytes: int
    suspended: bool  #: or on its way
    tier: Tier  #: that it is suspended to


class Space(NamedTuple):
    """Whose names they are: spaces that differ share none."""

    model: str
    salt: str = ""
    weights: int = 0
    memory_only: bool = False


class Saved(NamedTuple):
    """What a name stands for."""

    first: int
    tokens: int  #: of the sequence, as it was saved
    present: int  #: up to here its pieces are in the cache
    committed: int  #: the saver's own number for it


class Options(TypedDict, total=False):
    """What a sequence is opened with."""

    expected: int  #: tokens for which memory is promised; 0, the default: not known
    max: int  #: tokens; 0, the default: what the layout has
    priority: int  #: the lower, the earlier the library may suspend it; 0 by default
    name: Optional[str]  #: for hbmctl sequences


def _options(expected: int = 0, max: int = 0, priority: int = 0, name: Optional[str] = None) -> Tuple[Any, ...]:
    return expected, max, priority, name


class Pool(_native.Pool):
    """Sequences of one layout on one device.

    ``layout``: its text form, as of hbm_layout_parse() in hbm-sequences(3):
    ``"layers=32 heads=8 dim=128 bytes=2 order=layer max=131072"``. ``max_sequences``: that are
    open at a time. ``ahead_tokens``: how many more than it has a sequence is to have mapped; 0: the
    library's. ``thread``: the library maps ahead in a thread of its own, on a connection of its
    own. ``warm_bytes``: at most so much of closed sequences stays mapped. ``memory_only``: what is
    suspended never goes to NVMe.
    """

    __slots__ = ("__weakref__", "layout", "fingerprint", "layers", "token_bytes", "block_tokens", "_connection", "_sequences")

    def __new__(
        cls,
        connection: Any,
        layout: str,
        *,
        device: int = 0,
        max_sequences: int = 64,
        ahead_tokens: int = 0,
        thread: bool = False,
        warm_bytes: int = 0,
        memory_only: bool = False,
    ) -> "Pool":
        self = super().__new__(
            cls, connection, layout, device, max_sequences, ahead_tokens, thread, warm_bytes, memory_only
        )
        #: The layout's canonical text, its fingerprint, how many layers it has, bytes of a token in
        #: all of them, and tokens that are whole slabs.
        self.layout, self.fingerprint, self.layers, self.token_bytes, _, self.block_tokens = self._layout()
        self._connection = connection
        self._sequences = weakref.WeakSet()
        return self

    def open(self, **options: Unpack[Options]) -> "Sequence":
        """A sequence without tokens. ``options``: see ``hbm.sequence.Options``."""
        return self._keep(Sequence(self, *_options(**options)))

    def step(self, sequences: Iterable["Sequence"], lengths: Iterable[int]) -> None:
        """Sets the lengths of a batch, in tokens, all or none: every slab for them is mapped when
        it returns. Raises ``Refused``: NO_SPACE, LIMIT, INVALID."""
        Sequence._step(self, sequences, lengths)

    def reorder(self, sequences: Iterable["Sequence"], origins: Iterable[int]) -> None:
        """Lets sequence i take over the tokens of sequence ``origins[i]`` of these, as they are
        before the call, all or none: beam search. Raises ``BufferError`` while there are views."""
        Sequence._reorder(self, sequences, origins)

    def suspend(self, sequences: Iterable["Sequence"], tier: Tier = Tier.DDR) -> None:
        """Stores sequences in a tier, DDR or NVME, and gives their device memory back, as one group.
        Raises ``BufferError`` while there are views of one."""
        Sequence._move(self, sequences, 0, int(tier), 0)

    def resume(self, sequences: Iterable["Sequence"]) -> None:
        """Brings suspended sequences back to their addresses, all or none."""
        Sequence._move(self, sequences, 1, 0, 0)

    def prefetch(
        self, sequences: Iterable["Sequence"], tier: Tier = Tier.DDR, *, deadline: float = 0.0
    ) -> None:
        """Moves what suspended sequences have stored to another tier; ``deadline``: seconds from
        now; 0: none."""
        Sequence._move(self, sequences, 2, int(tier), int(deadline * 1e6))

    def restore(self, saved: str, space: Space, **options: Unpack[Options]) -> "Sequence":
        """Opens a sequence with the tokens that were saved by that name, or with as many of them
        as are still there: ``tokens``. ``options``: as of ``open()``. Raises ``Refused``: NOT_FOUND."""
        return self._keep(self._by_name(0, saved, space, **options))

    def find(self, name: str, space: Space) -> Optional[Saved]:
        """What a name stands for; ``None``: nothing."""
        try:
            return Saved(*self._by_name(1, name, space))
        except Refused as refused:
            if refused.status != Status.NOT_FOUND:
                raise
            return None

    def drop(self, name: str, space: Space) -> None:
        """Drops what a name stands for. Raises ``Refused``: NOT_FOUND, DENIED."""
        self._by_name(2, name, space)

    def _by_name(self, what: int, saved: str, space: Space, **options: Unpack[Options]) -> Any:
        return Sequence._saved(self, what, saved, tuple(space), _options(**options))

    def namespace(self, model: str, *, block_tokens: int = 0, **options: Any) -> Namespace:
        """A namespace for the tokens of sequences of this layout, as ``Connection.namespace()`` opens
        it, but for ``layout`` and ``block_bytes``. ``block_tokens``: of a block; 0: as many as are
        whole slabs (``Pool.block_tokens``), which processes of a user share without a copy."""
        count = block_tokens or self.block_tokens
        if count <= 0:
            raise ValueError(f"blocks of {count} tokens")
        return self._connection.namespace(
            model, layout=self.fingerprint, block_bytes=self.token_bytes * count, **options
        )

    def open_cached(
        self, namespace: Namespace, keys: Keys, *, tokens: int = 0, **options: Unpack[Options]
    ) -> "Sequence":
        """Opens a sequence that begins with the blocks of these keys that are in the cache, without
        a gap from the first one on: its ``tokens`` say how far. ``namespace``: of
        ``Pool.namespace()``. ``tokens``: of all blocks, where the last has fewer; 0: it has not.
        ``options``: as of ``open()``.

        Blocks of whole slabs that a process of this user has stored are the same memory: nothing
        is copied, nothing charged, and it is not to be written. Others are loaded. Raises
        ``Refused``: INVALID (more tokens than it may have), LIMIT, NO_SPACE, DEVICE."""
        sequence, _ = Sequence._open_cached(
            self, namespace, self._tokens_of(namespace), tokens, keys, _options(**options)
        )
        return self._keep(sequence)

    def _tokens_of(self, namespace: Namespace) -> int:
        """Of a block of it. Another layout's blocks might have as many bytes."""
        if getattr(namespace, "_layout", None) != self.fingerprint:
            raise ValueError("a namespace that is not of Pool.namespace() of this layout")
        return namespace.block_bytes // self.token_bytes

    def event(self) -> Optional[Event]:
        """The oldest event; ``None``: there is none."""
        event = self._event()
        if event is None:
            return None
        kind, handle, tokens, expected, tier, lacking = event
        mine = next((one for one in self._sequences if handle and one._handle == handle), None)
        return Event(Happening(kind), mine, tokens, expected, Tier(tier), lacking)

    @property
    def facts(self) -> PoolFacts:
        return PoolFacts(*self._facts())

    def _keep(self, sequence: "Sequence") -> "Sequence":
        self._sequences.add(sequence)
        sequence.pool = self
        return sequence

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Sequence(_native.Sequence):
    """A sequence of a pool: ``Pool.open()``, ``Pool.restore()``, ``fork()``. One that is collected is
    closed."""

    __slots__ = ("__weakref__", "pool")

    @property
    def facts(self) -> SequenceFacts:
        *numbers, state, tier = self._facts()
        return SequenceFacts(*numbers, state != 0, Tier(tier))

    @property
    def tokens(self) -> int:
        """How many it has."""
        return self.facts.tokens

    def step(self, tokens: int) -> None:
        """Makes it so many tokens long: ``Pool.step()`` of one."""
        Sequence._step(self.pool, (self,), (tokens,))

    def keys(self, layer: int, dtype: Any, first: int = 0, tokens: Optional[int] = None) -> Array:
        """The keys of a layer, [tokens][heads][head_dim], from token ``first`` on; ``None``: all
        others. An array on the device, or in host memory where that is the device's: see
        ``Region.array()``. The sequence can grow while it is alive, and not be closed, suspended
        or truncated. Layouts of order=block have none."""
        return self._view(layer, False, dtype, first, tokens)

    def values(self, layer: int, dtype: Any, first: int = 0, tokens: Optional[int] = None) -> Array:
        """The values of a layer: as ``keys()``."""
        return self._view(layer, True, dtype, first, tokens)

    def _view(self, layer: int, values: bool, dtype: Any, first: int, tokens: Optional[int]) -> Array:
        count = self.tokens - first if tokens is None else tokens
        return self._array(layer, values, first, count, number_name(dtype))

    def fork(self, count: int = 1) -> List["Sequence"]:
        """Sequences that begin with its tokens; their full slabs are shared."""
        return [self.pool._keep(fork) for fork in self._fork(count)]

    def truncate(self, tokens: int) -> None:
        """Drops all but the first tokens. Raises ``BufferError`` while there are views of it."""
        self._truncate(tokens)

    def slide(self, first: int) -> None:
        """Gives up the tokens in front of ``first``. ``BufferError`` as above."""
        self._slide(first)

    def suspend(self, tier: Tier = Tier.DDR) -> None:
        """``Pool.suspend()`` of one."""
        self.pool.suspend((self,), tier)

    def resume(self) -> None:
        """``Pool.resume()`` of one."""
        self.pool.resume((self,))

    def save(
        self,
        name: str,
        space: Space,
        *,
        committed: int = 0,
        tier: Optional[Tier] = None,
        pin: bool = False,
        durable: bool = False,
    ) -> int:
        """Saves it by a name, so that it outlives this process: how many tokens were. See
        hbm_sequences_save() in hbm-sequences(3)."""
        return self._save(name, committed, tuple(space), int(tier or 0), pin, durable)

    def store(
        self, namespace: Namespace, keys: Keys, *, first: int = 0, tokens: int = 0
    ) -> List[Status]:
        """Stores its tokens as blocks for ``Pool.open_cached()``: block i has the key i, and
        continues block i - 1. ``first``: those before it are left out. ``tokens``: as there.

        Its tokens are to be written before. What is whole slabs is lent to the other processes of
        its user and not to be written any more; what a sequence grows into after ``truncate()`` is
        a copy. The status of each block: OK, EXISTS, or why it was not stored. Raises ``Refused``:
        INVALID (it has fewer tokens, or has given some up), UNSUPPORTED."""
        statuses = self._store(namespace, self.pool._tokens_of(namespace), tokens, keys, first)
        return [Status(status) for status in statuses]

    def __len__(self) -> int:
        return self.tokens

    def __enter__(self) -> "Sequence":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
