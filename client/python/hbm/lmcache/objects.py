# SPDX-License-Identifier: Apache-2.0
"""objects: named objects of any size, as blocks of the daemon, in batches, asynchronously.

A name is a string. What is in front of its first "@" is the model, as LMCache writes its
keys. An object is a block: its key is a hash of the name, its namespace is that of the
model and of the object's size (sizes.py says how those are found again). Blocks are
immutable, and names are names of contents: to store one again changes nothing.

    submit()                      any thread: appends a batch to `waiting`, writes `wake`
       |
       v
    the thread of this module     begins batches, sleeps on `wake` and on the connection,
       |                          and learns which requests have ended
       v
    ended(token, outcome)         on that thread, once for each batch

So no call of the caller waits, whatever the daemon does. When the connection is lost, all
batches end with that as their error; later ones fail at once until there is a daemon
again (link.py). A daemon that hangs is as one that is lost, when a batch has waited for it for
the link's timeout. Buffers are not touched after their batch has ended.

What an object's numbers are is a part of its namespace where it is known: as `kind`, a text,
of a batch that says so, else of all.
"""

from __future__ import annotations

import collections
import logging
import os
import select
import threading
import time
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import hbm
from hbm.link import TIER, Link
from hbm.lmcache.sizes import SLOT_BYTES, Sizes

_log = logging.getLogger(__name__)

LAYOUT = "lmcache"
SIZES_LAYOUT = "lmcache sizes"


class Outcome(NamedTuple):
    """What became of a batch."""

    ok: list[bool]  # of each object: it was stored or loaded, is there, was deleted
    error: str  # a line, if anything else than misses kept it from being done; "": nothing


class _Batch:
    """A batch. `open` of its parts are not over; what begins it is one."""

    def __init__(
        self, op: str, token: Any, names: Sequence[str], buffers: Sequence[Any], kinds: Sequence[str]
    ) -> None:
        self.op, self.token, self.names, self.buffers = op, token, names, buffers
        self.kinds = kinds  # of each name
        self.ok = [False] * len(names)
        self.error = ""
        self.open = 1
        self.until = float("inf")  # on the monotonic clock: of what is in flight

    def fail(self, error: BaseException) -> None:
        self.error = self.error or str(error) or type(error).__name__


class Objects:
    """The objects behind a link, which is closed with this. hbm.Error: there is no daemon.
    What `ended` raises is logged, and nothing else comes of it."""

    def __init__(
        self, link: Link, ended: Callable[[Any, Outcome], None], kind: str = ""
    ) -> None:
        self._kind = kind
        link.connection()  # who has no daemon is told now, and not with every batch
        self._link, self._ended = link, ended
        self._sizes: dict[tuple[str, str], Sizes] = {}
        self._begun: set[_Batch] = set()
        self._waiting: collections.deque[_Batch] = collections.deque()
        self._lock = threading.Lock()  # of what submit() and close() change
        self._closing = False
        self._lost: hbm.Error | None = None  # what says that the connection has ended
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="hbm-lmcache", daemon=True)
        self._thread.start()

    def submit(
        self,
        op: str,
        token: Any,
        names: Sequence[str],
        buffers: Sequence[Any] = (),
        kinds: Sequence[str] | None = None,
    ) -> None:
        """Appends a batch. op: "set", "get", "exists" or "delete"; the first two have a
        buffer for each name, which stays as it is until the batch has ended. kinds: of each name,
        what its numbers are; None: of all what is the same for all."""
        batch = _Batch(op, token, names, buffers, kinds or [self._kind] * len(names))
        with self._lock:
            if self._closing:
                raise ValueError("closed")
            self._waiting.append(batch)
            os.eventfd_write(self._wake, 1)

    @property
    def connected(self) -> bool:
        """Whether there was a daemon when one was last needed."""
        return self._link.current is not None

    def close(self) -> None:
        """Ends all batches, those that have not begun with an error. Any may call it again."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    # ---- The thread ----

    def _run(self) -> None:
        while not self._closing:
            self._sleep()
            while self._waiting and not self._closing:
                self._begin(self._waiting.popleft())
            self._forget()

        self._link.close()
        self._fail_all(ValueError("closed"))

    def _sleep(self) -> None:
        """Until there is a batch to begin, or a request may have ended."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        connection = self._link.current
        if connection is not None:
            poll.register(connection.fileno(), select.POLLIN)

        until = min((batch.until for batch in self._begun), default=float("inf"))
        wait = None if until == float("inf") else max(0.0, until - time.monotonic()) * 1000
        for fd, events in poll.poll(wait):
            if fd == self._wake:
                os.eventfd_read(self._wake)
                continue
            try:
                connection.dispatch()
            except hbm.ConnectionLost as error:
                self._lost = self._lost or error
            if events & (select.POLLHUP | select.POLLERR):
                self._lost = self._lost or hbm.ConnectionLost("the daemon has gone")
        if any(batch.until <= time.monotonic() for batch in self._begun):
            self._lost = self._lost or self._link.late()

    def _begin(self, batch: _Batch) -> None:
        self._forget()
        self._begun.add(batch)
        try:
            getattr(self, f"_{batch.op}")(batch)
        except hbm.ConnectionLost as error:
            batch.fail(error)
            self._lost = error
        except Exception as error:  # this thread serves all others: it does not end
            batch.fail(error)
        self._end_part(batch)

    def _end_part(self, batch: _Batch) -> None:
        batch.open -= 1
        if batch.open == 0 and batch in self._begun:
            self._begun.remove(batch)
            self._tell(batch, Outcome(batch.ok, batch.error))

    def _tell(self, batch: _Batch, outcome: Outcome) -> None:
        try:
            self._ended(batch.token, outcome)
        except Exception:
            _log.exception("what was told of the end of a batch has failed")

    def _forget(self) -> None:
        """If the connection has ended: nothing is in flight any more, the next is another."""
        error, self._lost = self._lost, None
        if error is None:
            return
        self._link.forget(self._link.current)
        self._sizes.clear()
        for batch in list(self._begun):
            self._fail(batch, error)

    def _fail(self, batch: _Batch, error: BaseException) -> None:
        """Ends a batch now; parts of it that end later are not looked at."""
        if batch in self._begun:
            self._begun.remove(batch)
            batch.fail(error)
            self._tell(batch, Outcome([False] * len(batch.names), batch.error))

    def _fail_all(self, error: BaseException) -> None:
        self._begun.update(self._waiting)
        self._waiting.clear()
        for batch in list(self._begun):
            self._fail(batch, error)

    # ---- Batches ----

    def _set(self, batch: _Batch) -> None:
        for model, kind, size, where in _by_size(batch):
            self._of(model, kind).add(size)
            namespace = self._namespace(model, kind, size)
            buffers = [batch.buffers[i] for i in where]
            ticket = namespace.store(_keys(batch, where), buffers, tier=TIER)
            self._follow(batch, where, ticket)

    def _get(self, batch: _Batch) -> None:
        for model, kind, size, where in _by_size(batch):
            namespace = self._namespace(model, kind, size)
            buffers = [batch.buffers[i] for i in where]
            ticket = namespace.load(_keys(batch, where), buffers)
            self._follow(batch, where, ticket)

    def _exists(self, batch: _Batch) -> None:
        for model, kind, where in _by_model(batch):
            sizes = self._of(model, kind)
            for find in (sizes.known, sizes.read):
                missing = [i for i in where if not batch.ok[i]]
                for size in find() if missing else ():
                    self._look(batch, missing, self._namespace(model, kind, size))

    def _look(self, batch: _Batch, where: list[int], namespace: hbm.Namespace) -> None:
        present = namespace.lookup(_keys(batch, where)).present
        for i, there in zip(where, present):
            batch.ok[i] = batch.ok[i] or bool(there)

    def _delete(self, batch: _Batch) -> None:
        for model, kind, where in _by_model(batch):
            sizes = self._of(model, kind)
            sizes.read()
            for size in sizes.known():
                namespace = self._namespace(model, kind, size)
                removed = self._link.wait(namespace.submit_remove(_keys(batch, where)))
                for i, status in zip(where, removed):
                    batch.ok[i] = batch.ok[i] or status == hbm.Status.OK

    def _namespace(self, model: str, kind: str, size: int) -> hbm.Namespace:
        return self._link.namespace(model, f"{LAYOUT} {kind}".rstrip(), size)

    def _of(self, model: str, kind: str) -> Sizes:
        sizes = self._sizes.get((model, kind))
        if sizes is None:
            layout = f"{SIZES_LAYOUT} {kind}".rstrip()
            sizes = Sizes(self._link, self._link.namespace(model, layout, SLOT_BYTES))
            self._sizes[model, kind] = sizes
        return sizes

    def _follow(self, batch: _Batch, where: list[int], ticket: hbm.Ticket) -> None:
        batch.open += 1
        batch.until = time.monotonic() + self._link.timeout_s
        ticket.add_done_callback(lambda ended: self._done(batch, where, ended))

    def _done(self, batch: _Batch, where: list[int], ticket: hbm.Ticket) -> None:
        try:
            for i, status in zip(where, ticket.wait()):
                batch.ok[i] = status in (hbm.Status.OK, hbm.Status.EXISTS)
                if not batch.ok[i] and status != hbm.Status.MISS:
                    batch.error = batch.error or getattr(status, "name", str(status))
        except (hbm.Error, RuntimeError) as error:
            batch.fail(error)
        self._end_part(batch)


def _keys(batch: _Batch, where: list[int]) -> bytes:
    return b"".join([hbm.key(batch.names[i].encode()) for i in where])


def _by_model(batch: _Batch) -> Iterator[tuple[str, str, list[int]]]:
    """The model and the kind of some objects, and which these are."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, name in enumerate(batch.names):
        found.setdefault((name.partition("@")[0], batch.kinds[i]), []).append(i)
    for (model, kind), where in found.items():
        yield model, kind, where


def _by_size(batch: _Batch) -> Iterator[tuple[str, str, int, list[int]]]:
    """The model, the kind and the size of some objects, and which these are. ValueError: a buffer
    is empty, or there are more or fewer of them than names."""
    if len(batch.buffers) != len(batch.names):
        raise ValueError(f"{len(batch.names)} names and {len(batch.buffers)} buffers")

    found: dict[tuple[str, str, int], list[int]] = {}
    for i, (name, buffer) in enumerate(zip(batch.names, batch.buffers)):
        size = memoryview(buffer).nbytes
        if size == 0:
            raise ValueError(f"an object of no bytes: {name}")
        found.setdefault((name.partition("@")[0], batch.kinds[i], size), []).append(i)
    for (model, kind, size), where in found.items():
        yield model, kind, size, where
