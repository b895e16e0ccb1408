# SPDX-License-Identifier: Apache-2.0
"""sizes: which sizes the objects of a model have, kept in the daemon beside them.

A namespace has blocks of one size, so objects of another size are in another namespace.
Whoever stores or loads an object knows its size. Whoever asks whether one exists does
not: a process that has just started has stored nothing yet. So the sizes are blocks, too,
of a namespace of their own: slot i says what the i-th size is.

Who meets a new size puts it into the first slot that is empty. Two that do so at once
want the same slot: the second is told that it is taken, reads it, and goes on to the next.
A slot that was evicted is filled again by who still uses its size. If another size has
come there first, those who knew the old one go on with it and do not learn of the new one:
they miss what they could have had.
"""

from __future__ import annotations

import hbm
from hbm.link import TIER, Link

# Sizes of one model: layers that differ, times ranks that differ. More are refused, as each
# costs a lookup of every name that is not found in the ones before.
SIZES_MAX = 32
SLOT_BYTES = 4096

_SLOTS = [hbm.key(b"size %d" % i) for i in range(SIZES_MAX)]


class Sizes:
    """The sizes of one model, as far as this process knows them. Only one thread uses it."""

    def __init__(self, link: Link, namespace: hbm.Namespace) -> None:
        self._link, self._namespace = link, namespace
        self._slots = [0] * SIZES_MAX  # 0: empty, or not read yet

    def known(self) -> list[int]:
        return [size for size in self._slots if size]

    def read(self) -> list[int]:
        """Reads what others have added: the sizes that are new."""
        before = set(self.known())
        present = self._namespace.lookup(b"".join(_SLOTS)).present

        for i in range(SIZES_MAX):
            if present[i] and not self._slots[i]:
                self._slots[i] = self._load(i)
            elif self._slots[i] and not present[i]:
                self._store(i, self._slots[i])

        return [size for size in self.known() if size not in before]

    def add(self, size: int) -> None:
        """Adds a size. ValueError: there are SIZES_MAX others; hbm.Error."""
        if size in self._slots:
            return

        self.read()
        for i in range(SIZES_MAX):
            if size in self._slots:
                return
            if not self._slots[i]:
                taken = self._store(i, size) is hbm.Status.EXISTS
                self._slots[i] = self._load(i) if taken else size

        if size not in self._slots:
            raise ValueError(f"objects of more than {SIZES_MAX} sizes")

    def _store(self, i: int, size: int) -> hbm.Status:
        slot = size.to_bytes(8, "little").ljust(SLOT_BYTES, b"\0")
        return self._link.wait(self._namespace.store(_SLOTS[i], [slot], tier=TIER))[0]

    def _load(self, i: int) -> int:
        slot = bytearray(SLOT_BYTES)
        status = self._link.wait(self._namespace.load(_SLOTS[i], [slot]))[0]
        return int.from_bytes(slot[:8], "little") if status is hbm.Status.OK else 0
