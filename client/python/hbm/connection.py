# SPDX-License-Identifier: Apache-2.0
"""Connections to the daemon, and the fences that they share with it."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import _native
from .errors import ConnectionLost, Driver, Encoding, Error, of_connecting
from .memory import Loan, Region, attach
from .namespace import Namespace
from .query import Query, query
from .sequence import Pool
from .ticket import Ticket

__all__ = ["Connection", "DeviceMemory", "Fence", "Info"]

_OWN_UID = 0xFFFFFFFF
#: In place of a device: host memory.
DEVICE_HOST = _native.LIMITS["DEVICE_HOST"]


class Info(NamedTuple):
    """What the daemon granted a connection."""

    session: int  #: its number, as hbmctl sessions shows it
    boot_id: bytes  #: 16 bytes; changes when the daemon restarts
    driver: Driver
    devices: int  #: how many there are
    requests_in_flight: int  #: one more than may be in flight; a submit waits then
    regions: int  #: how many it may have
    survives: bool  #: it goes on when the daemon is restarted


class DeviceMemory(NamedTuple):
    """A device's memory for regions, in bytes and of one moment."""

    capacity: int
    free: int
    promised: int
    available: int
    largest_slab: int
    returning: int
    waiting: int  #: reservations that wait for more
    default_slab: int
    lost: bool


class Fence:
    """One of the 64-bit values in memory that is shared with the daemon and can be shared with
    the streams of a device.

    ``fence.at(value)`` is what ``ready`` and ``done`` of a store or load take.
    """

    __slots__ = ("connection", "slot")

    def __init__(self, connection: "Connection", slot: int) -> None:
        connection._fence_value(slot)  # or an exception
        self.connection = connection
        self.slot = slot

    @property
    def value(self) -> int:
        """What it is now."""
        return self.connection._fence_value(self.slot)

    def signal(self, value: int) -> None:
        """Sets it from the CPU and wakes the daemon. Any thread may do so at any time."""
        self.connection._fence_signal(self.slot, value)

    def at(self, value: int, failed: Optional[int] = None) -> Tuple[int, ...]:
        """This fence with a value; ``failed``: the slot that is to get the number of blocks that
        failed, of ``done``."""
        return (self.slot, value) if failed is None else (self.slot, value, failed)

    def device_address(self, device: int) -> int:
        """For streams of a device: cuStreamWaitValue64() and cuStreamWriteValue64()."""
        return self.connection._fence_device(device, self.slot)


class Connection(_native.Connection):
    """A session with the daemon.

    Threads may share it: a lock orders their calls, none of which keeps the interpreter's lock
    while it waits. In a child made by ``os.fork()`` every call raises ``Error`` (EPERM).

    ``socket``: its path; ``None``: ``$HBM_SOCKET``, else the system's. ``name``: what hbmctl
    sessions shows; ``None``: the process's. ``answer_ms``, ``poll_us``, ``reconnect_ms``: as in
    struct hbm_options of libhbm(3); 0: its defaults. ``inspect_only``: no device is opened, and
    regions are refused.

    Raises ``ConnectionLost`` when no daemon listens there.
    """

    __slots__ = ("__weakref__", "_loops")
    _loops: Dict[asyncio.AbstractEventLoop, int]

    def __new__(
        cls,
        socket: Union[None, str, "os.PathLike[str]"] = None,
        *,
        name: Optional[str] = None,
        answer_ms: int = 0,
        poll_us: int = 0,
        reconnect_ms: int = 0,
        inspect_only: bool = False,
    ) -> "Connection":
        path = None if socket is None else os.fspath(socket)
        try:
            self = super().__new__(cls, path, name, answer_ms, poll_us, reconnect_ms, inspect_only)
        except Error as error:
            raise of_connecting(error) from None
        self._loops = {}
        return self

    @property
    def info(self) -> Info:
        """What the daemon granted."""
        session, boot_id, driver, *limits, survives = self._info
        return Info(session, boot_id, Driver(driver), *limits, survives)

    # ---- What it has ----

    def region(self, bytes: int, *, device: int = 0, slab: int = 0, commit: bool = True) -> Region:
        """A region of so many bytes of a device, rounded up to whole slabs.

        ``slab``: bytes of a slab, 2 MiB or twice as much any number of times; 0: the daemon's
        default. ``commit``: it is backed by memory; else only address space is reserved, and
        ``Region.commit()`` backs ranges of it. Raises ``Refused``: NO_SPACE, LIMIT.
        """
        return Region(self, bytes, device, slab, commit)

    def host_region(self, bytes: int, *, slab: int = 0, commit: bool = True) -> Region:
        """A region of the host memory that the daemon has pinned: a buffer of this process, which
        stores and loads need not copy. Everything else is as for ``region()``.

        Raises ``Refused`` (UNSUPPORTED) where the daemon has no host memory for regions
        (``ddr.regions`` of hbmd.conf(5)).
        """
        return Region(self, bytes, DEVICE_HOST, slab, commit)

    def attach(self, name: str, *, uid: Optional[int] = None, write: bool = False) -> Region:
        """A region that has what was published by that name, without a copy. ``uid``: of the user
        who did; ``None``: this one's. ``write``: it may be written, and be loaded into."""
        return attach(self, name, _OWN_UID if uid is None else uid, int(write))

    def unpublish(self, name: str, *, uid: Optional[int] = None) -> None:
        """Takes a name away; regions that have the memory keep it."""
        self._unpublish(_OWN_UID if uid is None else uid, name)

    def namespace(
        self,
        model: str,
        *,
        layout: str = "",
        salt: str = "",
        weights: int = 0,
        block_bytes: int,
        encoding: Optional[Encoding] = None,
        element_bytes: int = 0,
        logical_bytes: int = 0,
        ephemeral: bool = False,
        memory_only: bool = False,
        wipe_on_free: bool = False,
        group: Optional[str] = None,
    ) -> Namespace:
        """Opens a namespace. Namespaces that differ in any of these share no block: ``model``,
        ``layout`` and ``salt`` (of at most 63 bytes each), ``weights`` (a version, of 64 bits),
        ``block_bytes``, ``encoding``, ``memory_only``, ``wipe_on_free``, ``group``.

        ``ephemeral``: its blocks are dropped when the last connection that has it open closes it.
        ``group``: of ranks that each have a part of what a key stands for: blocks of a key are used
        and evicted together in all of its namespaces, which their layouts tell apart. See struct
        hbm_namespace_options of libhbm(3) for the rest.
        """
        namespace = Namespace(
            self, model, layout, salt, weights, block_bytes, encoding or 0, element_bytes,
            logical_bytes, ephemeral, memory_only, wipe_on_free, group,
        )
        namespace._connection, namespace._layout = self, layout
        return namespace

    def pool(self, layout: str, **options: Any) -> Pool:
        """A pool of sequences: ``Pool(connection, layout, ...)``."""
        return Pool(self, layout, **options)

    def fence(self, slot: int) -> Fence:
        """The fence of a slot, of which there are 512."""
        return Fence(self, slot)

    def device_memory(self, device: int = 0) -> DeviceMemory:
        """How much memory a device has for regions."""
        return DeviceMemory(*self._device_memory(device))

    def reserve(self, changes: Mapping[int, int], *, timeout: float = 0.0) -> Ticket:
        """Changes how many bytes of devices this connection has reserved: what it commits within
        that never lacks memory, and no one else can have it. ``changes``: of each device how many
        bytes more, or fewer if negative; all or none. ``timeout``: seconds to wait for memory,
        after those that asked before. ``ticket.wait()`` raises ``Refused``: NO_SPACE, TIMEOUT,
        LIMIT, CANCELLED. It ends with the connection."""
        ticket = _native.reserve(self, list(changes.items()), round(timeout * 1000))
        ticket._connection = self
        return ticket

    def return_loans(self, loans: Iterable[Optional[Loan]]) -> None:
        """Returns loans of this connection in one request, all or none; ``None``, and those that were
        returned, are left out. Synchronise the streams that read them first. Raises ``BufferError``
        while there are views of one."""
        _native.return_loans(self, [loan for loan in loans if loan is not None])

    def query(self, kind: Query) -> List[Dict[str, Any]]:
        """The daemon's records of a kind: what it has, and what this user may see of that. A dict for
        each, with the members of wire_records.h by their names; hbmctl(1) shows the same, and
        hbm-protocol(7) says what each is.

        Bytes, counts, milli- and nanoseconds are ints, as the member's name says; keys and UUIDs
        ``bytes``; tiers ``Tier``; links, units and states their names; figures of each tier a tuple.
        BLOCKS has each block's tier (``tier`` where the policy has it, ``place`` where its bytes are):
        for the blocks of a few keys, ``Namespace.submit_lookup()`` asks for less. Calls of other
        threads wait meanwhile. Raises ``Refused``; ``ValueError``: there is no such kind."""
        return query(self, kind)

    def device_ordinal(self, device: int) -> int:
        """This process's number of one of the daemon's devices, for CUDA and torch."""
        return self._ordinal(device)

    # ---- Waiting ----

    def dispatch(self, timeout: Optional[float] = 0.0) -> int:
        """Handles replies that have arrived; if no ticket has ended, waits for one at most so many
        seconds (``None``: no limit). How many have ended. ``fileno()`` polls readable when there
        is something to handle. Raises ``ConnectionLost`` when the connection has ended, and all
        that were in flight were counted."""
        return self._dispatch(timeout)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in self._loops:
            loop.remove_reader(self.fileno())  # of a file that had its number before
            loop.add_reader(self.fileno(), self._readable, loop)
            self._loops[loop] = 0
        self._loops[loop] += 1

    def _unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loops[loop] -= 1
        if self._loops[loop] == 0:
            del self._loops[loop]
            if not self.closed and not loop.is_closed():
                loop.remove_reader(self.fileno())

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.closed:
            return
        try:
            ended = self._dispatch(0.0)
        except ConnectionLost:  # who awaits a ticket is told by that
            loop.remove_reader(self.fileno())
            return
        if ended == 0 and loop in self._loops:
            # it may be another file under the same number: see hbm_fd()
            loop.remove_reader(self.fileno())
            loop.add_reader(self.fileno(), self._readable, loop)

    def close(self) -> None:
        """Cancels what is in flight, or waits for it, and closes all that is of the connection.
        Raises ``BufferError`` while there are views of its regions. May be called again."""
        loop = asyncio._get_running_loop()
        watched = loop is not None and loop in self._loops and not self.closed
        if watched:
            loop.remove_reader(self.fileno())  # another file may have its number soon
        try:
            super().close()
        except BufferError:
            if watched:
                loop.add_reader(self.fileno(), self._readable, loop)
            raise

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<hbm.Connection, closed>" if self.closed else f"<hbm.Connection {self.info.session}>"
