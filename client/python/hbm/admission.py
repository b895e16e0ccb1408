# SPDX-License-Identifier: Apache-2.0
"""How many sequences can run side by side: arithmetic, which needs no daemon."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from . import _native

__all__ = ["Demand", "admit", "peak_demand"]


class Demand(NamedTuple):
    """A sequence: it has ``present`` tokens and gets ``to_come`` more, one in each step of the batch;
    then it ends, and frees all."""

    present: int
    to_come: int
    token_bytes: int  #: of a token
    slab_bytes: int = 0  #: memory is taken in slabs of so many; 0: by the byte


def admit(free_bytes: int, running: Iterable[Demand], candidates: Iterable[Demand]) -> int:
    """How many of the candidates, in their order, can run beside what runs so that at no future step
    all together need more than ``free_bytes``, those that the running ones have now included. See
    hbm_admit() in <hbm/hbm.h>. Raises ``Refused`` (INVALID): their bytes overflow."""
    return _native.admit(free_bytes, running, candidates)


def peak_demand(sequences: Iterable[Demand]) -> int:
    """The most bytes that they need together at any step."""
    return _native.peak_demand(sequences)
