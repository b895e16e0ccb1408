# SPDX-License-Identifier: Apache-2.0
"""Client of hbmd, the owner of a host's KV-cache memory.

    import hbm

    with hbm.Connection() as connection:
        cache = connection.namespace("my-model", block_bytes=65536)
        keys = [hbm.key(f"block {i}") for i in range(64)]
        cache.store(keys, blocks, parents=hbm.chain(keys)).wait()
        found = cache.lookup(keys)
        statuses = cache.load(keys[:found.resident], buffers).wait()

It is a thin layer over libhbm: what its functions promise is in libhbm(3) and <hbm/hbm.h>. Sizes
and offsets are in bytes, times in seconds, unless a name says otherwise.
"""

from . import _native
from .admission import Demand, admit, peak_demand
from .connection import Connection, DeviceMemory, Fence, Info
from .errors import ConnectionLost, Driver, Encoding, Error, Refused, Status, Tier, make_error
from .memory import Array, Loan, Region, Spans
from .namespace import Amount, CacheEvent, Happened, Key, Namespace, Watched, chain, key, token_keys
from .query import Query
from .sequence import Event, Pool, Saved, Sequence, Space
from .ticket import Lookup, Ticket

_native.use(Ticket, make_error)

__version__ = _native.VERSION

__all__ = [
    "Amount", "Array", "CacheEvent", "Connection", "ConnectionLost", "Demand", "DeviceMemory", "Driver",
    "Encoding", "Error", "Event", "Fence", "Happened", "Info", "Key", "Loan", "Lookup", "Namespace",
    "Pool", "Query", "Refused", "Region", "Saved", "Sequence", "Space", "Spans", "Status", "Ticket",
    "Tier", "Watched", "admit", "chain", "key", "peak_demand", "token_keys",
]
