# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself: its records, as hbmctl shows them.

Which there are, and what is in each, is taken from wire_records.h: nothing is listed here.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Tuple

from . import _native
from .errors import Tier

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Query"]

Query = enum.IntEnum(
    "Query", {name: number for name, (number, _, _) in _native.RECORDS.items()}, module=__name__
)
Query.__doc__ = "enum hbm_wire_query_kind: kinds of records, of ``Connection.query()``."

_BYTES = {"TEXT": lambda value: value.partition(b"\0")[0].decode(errors="replace"), "DIGEST": bytes, "UUID": bytes}
_NUMBERS = {"BOOL": bool, "TIER": Tier, "POOL": Tier}


def _decoder(form: str) -> Callable[[Any], Any]:
    if form in _native.NAMES:
        names = _native.NAMES[form]
        return lambda number: names.get(number, str(number))  # of a later daemon
    return _BYTES.get(form) or _NUMBERS.get(form) or int


class _Kind:
    """How records of a kind are read."""

    def __init__(self, size: int, members: List[Tuple[str, str, int, int]]) -> None:
        text, at = "=", 0
        self.members: List[Tuple[str, int, Callable[[Any], Any]]] = []
        for name, form, offset, count in sorted(members, key=lambda member: member[2]):
            width = 4 if form in ("ID", "DEVICE", "RANK", "BOOL", "TIER", "POOL", *_native.NAMES) else 8
            number = "i" if form == "RANK" else "I" if width == 4 else "Q"
            text += f"{offset - at}x"
            text += f"{count}s" if form in _BYTES else f"{count // width}{number}"
            self.members.append((name, 1 if form in _BYTES else count // width, _decoder(form)))
            at = offset + count
        self.record = struct.Struct(f"{text}{size - at}x")

    def decode(self, values: Tuple[Any, ...]) -> Dict[str, Any]:
        record, at = {}, 0
        for name, count, decoder in self.members:
            one = count == 1
            record[name] = decoder(values[at]) if one else tuple(map(decoder, values[at : at + count]))
            at += count
        return record


_KINDS = {Query(number): _Kind(size, members) for number, size, members in _native.RECORDS.values()}


def query(connection: "Connection", kind: Query) -> List[Dict[str, Any]]:
    """See ``Connection.query()``."""
    kind = Query(kind)
    how = _KINDS[kind]
    return [how.decode(values) for values in how.record.iter_unpack(_native.query(connection, int(kind)))]
