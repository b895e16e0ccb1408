# SPDX-License-Identifier: Apache-2.0
"""pages: the pages of one host pool of SGLang's HiCache, as blocks of the daemon.

A page is what the pool says it is, some pieces of host memory: keys and values, for
example. Each piece is a block, stored from where it is and loaded to there. A pool whose
pages cannot be addressed so, or are of more than PIECES_MAX pieces, hands a page out and
takes it back flat; then that is the block.

A namespace is named for what its blocks hold: pool, type, byte order, layers and share of
the heads. It is not named for who wrote them, and neither is a key. So ranks of another
deployment that hold the same layers and heads find the same blocks, and where the pool
splits its heads (page_head, tp_lcm_size) so do deployments of another size.

A page's first piece has the last piece of the page before it as its parent, and each other
piece the one before. The daemon evicts from the end of such a chain, so what is left of a
prompt is its beginning. Pieces of another size, or of other heads, are in a chain of their
own: a page is there when all of its pieces are.

It imports nothing of SGLang, and asks pools only for what their pages are.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple, Sequence

import hbm
from hbm.link import TIER, Link

# Beyond it, pieces are so small that gathering them costs less than a request for each:
# a pool that has each layer by itself has twice as many as layers.
PIECES_MAX = 8


class Part(NamedTuple):
    """Pieces of each page that are in one namespace."""

    layout: str
    bytes: int
    pieces: tuple[int, ...]  # which of a page's


class Share(NamedTuple):
    """What a rank holds of the model, beside what the pool says of itself."""

    rank: int  # of `ranks` that hold the heads; (0, 1): this one holds all
    ranks: int
    more: str  # of stages and context parallelism, or ""


@functools.cache
def _array(size: int) -> Any:
    return ctypes.c_ubyte * size


def buffer_of(tensor: Any) -> Any:
    """The bytes of a contiguous tensor in host memory, writable. It must outlive them.
    ValueError: it is another one."""
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise ValueError("a tensor that is not contiguous, or not in host memory")
    return _array(tensor.numel() * tensor.element_size()).from_address(tensor.data_ptr())


def key_of(page: str, piece: int) -> bytes:
    return hbm.key(f"{page}/{piece}".encode())


def layout_of(name: str, pool: Any, share: Share, rank: int, ranks: int) -> str:
    """What blocks of a pool hold, in words, with share `rank` of `ranks` of the heads."""
    first, last = getattr(pool, "start_layer", None), getattr(pool, "end_layer", None)
    words = [
        name,
        str(getattr(pool, "dtype", "")).removeprefix("torch."),
        str(getattr(pool, "layout", "")),
        f"p{getattr(pool, 'page_size', 1)}",
        f"L{first}-{last}" if isinstance(first, int) and isinstance(last, int) else "",
        f"H{rank}/{ranks}" if ranks > 1 else "",
        str(getattr(pool, "storage_format_tag", None) or ""),
        share.more,
    ]
    return " ".join(word for word in words if word)


class Pages:
    """Pages of a model, in the namespaces of their parts. Any thread may use it.

    pool: where store() and load() find them; None: there are only buffers of the caller.
    flat: the pool hands them out and takes them back.
    """

    def __init__(
        self, link: Link, model: str, parts: list[Part], pool: Any = None, *, split: int = 1,
        flat: bool = True,
    ) -> None:
        self.parts, self.flat = parts, flat
        self._link, self._model, self._pool, self._split = link, model, pool, split
        self._page = _tokens(pool)

    # ---- Presence ----

    def present(self, pages: Sequence[str]) -> list[bool]:
        """Which pages are there, all of each."""
        there = [True] * len(pages)
        for part in self.parts:
            found = self._open(part).lookup(self._keys(part, pages)).present
            width = len(part.pieces)
            for i in range(len(pages)):
                there[i] = there[i] and all(found[i * width : (i + 1) * width])
        return there

    def leading(self, pages: Sequence[str]) -> int:
        """How many pages from the first on are there."""
        there = self.present(pages)
        return there.index(False) if False in there else len(there)

    # ---- Transfers ----

    def store(self, pages: Sequence[str], indices: Any, before: Sequence[str]) -> list[bool]:
        """Stores pages whose tokens are at `indices` of the pool. before: the pages of the
        prompt in front of them. Which are there now."""
        _check(pages, indices, self._page)
        if self.flat:
            held = [self._pool.get_data_page(i).contiguous() for i in self._first(indices)]
            return self.store_buffers(pages, [buffer_of(page) for page in held], before)
        return self._store(pages, self._buffers(indices), before)

    def store_buffers(
        self, pages: Sequence[str], buffers: Sequence[Any], before: Sequence[str] = ()
    ) -> list[bool]:
        """The same with a buffer for each page. The pages are flat."""
        return self._store(pages, buffers, before)

    def load(self, pages: Sequence[str], indices: Any) -> list[bool]:
        """Loads pages to `indices` of the pool. Which have come; the others are undefined."""
        _check(pages, indices, self._page)
        if not self.flat:
            return self._load(pages, self._buffers(indices))

        held = [self._pool.get_dummy_flat_data_page() for _ in pages]
        there = self._load(pages, [buffer_of(page) for page in held])
        for index, page, ok in zip(self._first(indices), held, there):
            if ok:
                self._pool.set_from_flat_data_page(index, page)
        return there

    def load_buffers(self, pages: Sequence[str], buffers: Sequence[Any]) -> list[bool]:
        """The same with a buffer for each page. The pages are flat."""
        return self._load(pages, buffers)

    def drop(self) -> None:
        """Drops all of them, whatever stored them."""
        for part in self.parts:
            self._link.wait(self._open(part).submit_drop())

    def _store(
        self, pages: Sequence[str], buffers: Sequence[Any], before: Sequence[str]
    ) -> list[bool]:
        there = [True] * len(pages)
        for part in self.parts:
            keys = [key_of(page, j) for page in pages for j in range(len(part.pieces))]
            parents: list[bytes | None] = [None, *keys[:-1]]
            if before:
                parents[0] = key_of(before[-1], len(part.pieces) - 1)
            statuses = self._store_part(part, keys, self._of(part, buffers), parents)
            _fold(there, statuses, len(part.pieces))
        return there

    def _store_part(
        self,
        part: Part,
        keys: list[bytes],
        buffers: list[Any],
        parents: list[bytes | None],
    ) -> list[hbm.Status]:
        """Stores a chain. Where it has lost its beginning, the rest begins a new one."""
        namespace = self._open(part)

        def store(first: int, parents: list[bytes | None]) -> list[hbm.Status]:
            joined = b"".join(keys[first:])
            ticket = namespace.store(joined, buffers[first:], parents=parents, tier=TIER)
            return self._link.wait(ticket)

        statuses = store(0, parents)
        if hbm.Status.NO_PARENT not in statuses:
            return statuses

        first = statuses.index(hbm.Status.NO_PARENT)
        return [*statuses[:first], *store(first, [None, *parents[first + 1 :]])]

    def _load(self, pages: Sequence[str], buffers: Sequence[Any]) -> list[bool]:
        there = [True] * len(pages)
        begun: list[tuple[Part, hbm.Ticket]] = []
        try:
            for part in self.parts:
                keys = self._keys(part, pages)
                begun.append((part, self._open(part).load(keys, self._of(part, buffers))))
        finally:  # whatever has failed, nothing is written to the pool after the return
            ended = [_wait(self._link, ticket) for _, ticket in begun]
        for (part, _), statuses in zip(begun, ended):
            if isinstance(statuses, hbm.Error):
                raise statuses
            _fold(there, statuses, len(part.pieces))
        return there

    # ---- Pieces ----

    def _open(self, part: Part) -> hbm.Namespace:
        return self._link.namespace(self._model, part.layout, part.bytes)

    def _keys(self, part: Part, pages: Sequence[str]) -> bytes:
        return b"".join([key_of(page, j) for page in pages for j in range(len(part.pieces))])

    def _first(self, indices: Any) -> list[int]:
        return indices[:: self._page].tolist()

    def _buffers(self, indices: Any) -> list[Any]:
        addresses, sizes = _meta(self._pool, indices, self._split)
        return [_array(int(n)).from_address(int(at)) for at, n in zip(addresses, sizes)]

    def _of(self, part: Part, buffers: Sequence[Any]) -> list[Any]:
        """Those of a part, of the pieces of all pages."""
        width = sum(len(each.pieces) for each in self.parts)
        return [
            buffers[at + piece]
            for at in range(0, len(buffers), width)
            for piece in part.pieces
        ]


def of_pool(
    link: Link, model: str, name: str, pool: Any, share: Share, *, split: int = 1,
    flat: bool = False,
) -> Pages:
    """The pages of a registered pool. split: in how many shares its heads are stored, each
    by itself. flat: they are handed out flat, whatever the pool can."""
    sizes = None if flat else _sizes(pool, split)
    if sizes is None:
        layout = "flat " + layout_of(name, pool, share, share.rank, share.ranks)
        size = _bytes(pool.get_dummy_flat_data_page())
        return Pages(link, model, [Part(layout, size, (0,))], pool)
    parts = _parts(name, pool, share, split, sizes)
    return Pages(link, model, parts, pool, split=split, flat=False)


def of_buffers(link: Link, model: str, share: Share, size: int) -> Pages:
    """Pages of `size` bytes that no pool says anything of."""
    layout = "loose " + layout_of("", None, share, share.rank, share.ranks)
    return Pages(link, model, [Part(layout, size, (0,))])


def _tokens(pool: Any) -> int:
    return getattr(pool, "page_size", 1) or 1


def _meta(pool: Any, indices: Any, split: int) -> tuple[Sequence[int], Sequence[int]]:
    """Addresses and sizes of the pieces of the pages at `indices`."""
    if split > 1:
        return pool.get_split_heads_page_buffer_meta(indices, split)
    return pool.get_page_buffer_meta(indices)


def _sizes(pool: Any, split: int) -> list[int] | None:
    """How large the pieces of a page are; None: the pool hands it out flat."""
    import torch

    try:
        _, sizes = _meta(pool, torch.arange(_tokens(pool), dtype=torch.int64), split)
    except (AssertionError, AttributeError, NotImplementedError, ValueError):
        return None
    return [int(size) for size in sizes] if 0 < len(sizes) <= PIECES_MAX * split else None


def _parts(name: str, pool: Any, share: Share, split: int, sizes: list[int]) -> list[Part]:
    """The pieces of a page by heads and by size. Those of one share of the heads come one
    after the other."""
    parts = []
    width = len(sizes) // split
    for i in range(split):
        layout = layout_of(name, pool, share, share.rank * split + i, share.ranks * split)
        mine = range(i * width, (i + 1) * width)
        for size in sorted({sizes[piece] for piece in mine}):
            parts.append(Part(layout, size, tuple(p for p in mine if sizes[p] == size)))
    return parts


def _wait(link: Link, ticket: hbm.Ticket) -> list[hbm.Status] | hbm.Error:
    """The results of a request, or why it has failed as a whole."""
    try:
        return link.wait(ticket)
    except hbm.Error as error:
        return error


def _fold(there: list[bool], statuses: Sequence[hbm.Status], width: int) -> None:
    for i, status in enumerate(statuses):
        if status not in (hbm.Status.OK, hbm.Status.EXISTS):
            there[i // width] = False


def _check(pages: Sequence[str], indices: Any, tokens: int) -> None:
    if len(indices) != len(pages) * tokens:
        raise ValueError(f"{len(indices)} indices of {len(pages)} pages of {tokens} tokens")


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())
