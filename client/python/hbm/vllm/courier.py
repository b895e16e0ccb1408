# SPDX-License-Identifier: Apache-2.0
"""A thread that owns a connection, so that an engine's thread never waits for the daemon.

vLLM calls its cache from the scheduler and from the loop of a worker: a call there that waits
is a step of the model that is late. A Courier takes jobs (look up, store, load), answers at
once, and hands out results when it is asked for them. It sleeps while there is nothing to do.

                 lookup() store() load()                finished()
    engine  ----------> queued ---> in flight ---> results ---------->
                           |            |             ^
                           +-- no daemon, timeout ----+

Every job that was accepted has exactly one result, whatever becomes of the daemon. A job whose
connection is lost has failed; the Courier connects again by itself, at first after 0.1 s and
then less often, and until then every job fails at once, which is a miss to an engine.

The buffers of a load are written by this thread alone, while the job is in flight. So when its
result is out, no copy into them is left, also after a failure: they may be given to others.

It knows nothing of vLLM: what is a block, a key or a request is its user's affair.
"""

from __future__ import annotations

import collections
import logging
import os
import select
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Sequence

import hbm
from hbm.link import NEVER, TIER

log = logging.getLogger(__name__)

# Between two attempts to connect, in seconds: doubled after each that failed.
_RETRY_FIRST, _RETRY_LAST = 0.1, 5.0

_REFUSALS = 16  # reasons why jobs were refused that are logged, once each


@dataclass(slots=True)
class Job:
    """What the courier has been asked for.

    kind: "lookup", "store" or "load". tag: its user's; the courier does not look at it.
    namespace: an index into the courier's namespaces. keys: 16 bytes each, joined. where: as
    for hbm.Namespace.store(), or a function that returns it when the job begins, so that memory
    for it is only used by what is in flight. nbytes: how much it moves; 0 for a lookup. then:
    called with `present` when a load has ended, before its result is out; for what is done with
    the bytes that came.
    """

    kind: str
    tag: Any
    namespace: int
    keys: bytes
    where: Any = None
    parents: bytes | None = None
    nbytes: int = 0
    then: Callable[[Sequence[bool]], None] | None = None
    submitted: float = field(default_factory=time.monotonic)
    began: float = 0.0  # when it left the queue


@dataclass(slots=True)
class Result:
    """How a job has ended.

    present: of each key, whether its block was found, stored (or there already) or loaded; all
    False if the job failed as a whole, and then `error` says why. seconds: since it was
    submitted.
    """

    kind: str
    tag: Any
    present: Sequence[bool]
    seconds: float
    nbytes: int
    error: str | None = None

    @property
    def success(self) -> bool:
        return all(self.present)


class Courier:
    """Jobs for the daemon, from any thread; see above.

    namespaces: the arguments of hbm.Connection.namespace() for each that jobs name; opened
    again after each reconnect. socket: of the daemon, None as hbm.Connection has it. name: shown
    by hbmctl sessions. reconnect_ms: how long calls wait for the next daemon where sessions
    outlive it; timeout_ms: a job that takes longer, or a call that is not answered for so long,
    ends the connection and all its jobs. window: bytes that are in flight at a time; a job
    that is larger goes alone. beside: what has memory of the connection: its begin(connection)
    and end() are called, by this thread, when that has begun and before it is closed.
    """

    def __init__(
        self,
        namespaces: Sequence[Mapping[str, Any]],
        *,
        socket: str | None = None,
        name: str = "vllm",
        reconnect_ms: int = 2000,
        timeout_ms: int = 30000,
        window: int = 256 << 20,
        beside: Any = None,
    ) -> None:
        self._namespace_args = [dict(n) for n in namespaces]
        self._connect_args = dict(
            socket=socket,
            name=name,
            answer_ms=timeout_ms,
            reconnect_ms=reconnect_ms or NEVER,
        )
        self._timeout = timeout_ms / 1000
        self._window = window
        self._beside = beside

        # Of the courier's thread alone.
        self._connection: Any = None
        self._used: list[Any] = []  # connections that have ended, and whose memory is in use
        self._namespaces: list[Any] = []
        self._ended_with: str | None = None  # a job has told that the connection has ended
        self._flight: dict[Any, Job] = {}
        self._flight_bytes = 0
        self._next_attempt = 0.0
        self._retry = _RETRY_FIRST
        self._refusals: set[str] = set()
        self._said: str | None = None  # the failure that was logged last

        # Shared, under the lock.
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queues: dict[str, collections.deque[Job]] = {
            kind: collections.deque() for kind in ("lookup", "load", "store")
        }
        self._outstanding = 0
        self._results: list[Result] = []
        self._closing = False

        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="hbm-courier", daemon=True)
        self._thread.start()

    # ---- What the engine's thread calls ----

    def lookup(self, tag: Any, keys: bytes, namespace: int = 0) -> None:
        self._submit(Job("lookup", tag, namespace, keys))

    def store(
        self,
        tag: Any,
        keys: bytes,
        where: Any,
        *,
        nbytes: int,
        parents: bytes | None = None,
        namespace: int = 0,
    ) -> None:
        """`where` is read until the result is out."""
        self._submit(Job("store", tag, namespace, keys, where, parents, nbytes))

    def load(
        self,
        tag: Any,
        keys: bytes,
        where: Any,
        *,
        nbytes: int,
        namespace: int = 0,
        then: Callable[[Sequence[bool]], None] | None = None,
    ) -> None:
        """`where` is written until the result is out, also if it is a failure."""
        self._submit(Job("load", tag, namespace, keys, where, None, nbytes, then))

    def finished(self) -> list[Result]:
        """The results since the last call, in the order in which the jobs ended."""
        with self._lock:
            results, self._results = self._results, []
        return results

    @property
    def outstanding(self) -> int:
        """How many jobs have no result yet."""
        return self._outstanding

    def drain(self) -> None:
        """Wait until every job has its result. A job takes at most `timeout_ms`, and what
        closing a connection takes."""
        with self._idle:
            self._idle.wait_for(lambda: self._outstanding == 0)

    def close(self) -> None:
        """Fail what is queued, wait for what is in flight, and close the connection."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._ring()
        self._thread.join()
        os.close(self._wake)

    def _submit(self, job: Job) -> None:
        with self._lock:
            if self._closing:
                raise RuntimeError("the courier is closed")
            self._outstanding += 1
            self._queues[job.kind].append(job)
            self._ring()

    def _ring(self) -> None:
        """Under the lock: ``close()`` closes the descriptor."""
        os.eventfd_write(self._wake, 1)

    # ---- The thread ----

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    break
            except Exception as error:  # a fault of ours: not to end the engine by it
                log.exception("a fault in hbm.vllm")
                self._lose(f"a fault: {error}")

        self._fail_queued("the engine has closed its connection")
        self._disconnect()

    def _turn(self) -> bool:
        """Between two sleeps. False: nothing is in flight, and it is closed."""
        if self._used:
            self._close_used()
        if self._connection is None:
            self._connect()
        self._begin()

        if self._closing and not self._flight:
            return False
        if self._ended_with is None:
            self._sleep()
        self._dispatch()
        self._expire()
        return True

    def _sleep(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._connection is not None:
            poller.register(self._connection.fileno(), select.POLLIN)
        timeout = self._longest_sleep()
        poller.poll(None if timeout is None else timeout * 1000)
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    def _longest_sleep(self) -> float | None:
        """How long it sleeps at most, in seconds; None: until something happens."""
        if self._connection is None:
            return max(0.0, self._next_attempt - time.monotonic())
        return min(1.0, self._timeout) if self._flight else None

    def _open(self) -> Any:
        return hbm.Connection(**self._connect_args)

    def _connect(self) -> None:
        if self._closing or time.monotonic() < self._next_attempt:
            self._fail_queued(self._said or "no connection to hbmd")
            return

        connection = None
        try:
            connection = self._open()
            self._namespaces = [connection.namespace(**n) for n in self._namespace_args]
            if self._beside is not None:
                self._beside.begin(connection)
        except (OSError, hbm.Error) as error:
            if connection is not None:
                self._end(connection)
            self._say(f"hbmd cannot be used, everything is a miss until it can: {error}")
            self._next_attempt = time.monotonic() + self._retry
            self._retry = min(self._retry * 2, _RETRY_LAST)
            self._fail_queued(str(error))
            return

        if self._said is not None:
            log.warning("connected to hbmd")
        self._said = None
        self._retry = _RETRY_FIRST
        self._connection = connection

    def _begin(self) -> None:
        """Begin queued jobs, look-ups first and stores last, as far as the window allows."""
        while self._connection is not None and self._ended_with is None:
            with self._lock:
                job = self._next()
            if job is None:
                return
            self._begin_job(job)

    def _next(self) -> Job | None:
        for queue in self._queues.values():
            if not queue:
                continue
            if self._flight and self._flight_bytes + queue[0].nbytes > self._window:
                return None
            return queue.popleft()
        return None

    def _begin_job(self, job: Job) -> None:
        namespace = self._namespaces[job.namespace]
        job.began = time.monotonic()
        try:
            if job.kind == "lookup":
                self._result(job, list(namespace.lookup(job.keys).present))
                return
            where = job.where() if callable(job.where) else job.where
            if job.kind == "store":
                ticket = namespace.store(job.keys, where, parents=job.parents, tier=TIER)
            else:
                ticket = namespace.load(job.keys, where)
        except Exception as error:  # of the engine's device, too, which has no memory for `where`
            self._refused(job, error)
            return

        self._flight[ticket] = job
        self._flight_bytes += job.nbytes
        if ticket.done():
            self._ended(ticket)
        else:
            ticket.add_done_callback(self._ended)

    def _dispatch(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.dispatch(0.0)
        except (hbm.Error, OSError) as error:
            self._ended_with = str(error)
        if self._ended_with is not None:
            self._lose(self._ended_with)

    def _ended(self, ticket: Any) -> None:
        job = self._flight.pop(ticket, None)
        if job is None:
            return

        self._flight_bytes -= job.nbytes
        try:
            statuses = ticket.wait(0)
        except (hbm.Error, MemoryError) as error:
            self._refused(job, error)
            return
        present = [_good(job.kind, status) for status in statuses]
        if job.then is not None:
            try:
                job.then(present)
            except Exception as error:  # of the engine's device: the blocks are not there
                self._refused(job, error)
                return
        self._result(job, present)

    def _refused(self, job: Job, error: Exception) -> None:
        """The job as a whole. Each reason is logged once, or that the connection has ended."""
        if isinstance(error, hbm.ConnectionLost):
            self._ended_with = str(error)
            self._fail(job, str(error))
            return
        self._fail(job, str(error))
        why = f"hbmd refuses to {job.kind}: {error}"
        if why not in self._refusals and len(self._refusals) < _REFUSALS:
            self._refusals.add(why)
            log.warning("%s", why)

    def _expire(self) -> None:
        """A daemon that does not answer is as good as none: what it writes goes to its own
        memory, and comes to the engine's only by this thread."""
        now = time.monotonic()
        if any(now - job.began > self._timeout for job in self._flight.values()):
            self._lose(f"no answer for {self._timeout:g} s")

    def _lose(self, why: str) -> None:
        self._say(f"the connection to hbmd is lost, everything is a miss until it is back: {why}")
        self._disconnect()
        jobs, self._flight, self._flight_bytes = list(self._flight.values()), {}, 0
        for job in jobs:
            self._fail(job, why)
        self._next_attempt = time.monotonic() + self._retry

    def _fail(self, job: Job, why: str) -> None:
        """It began, and has failed as a whole."""
        self._result(job, None, why)

    def _disconnect(self) -> None:
        connection, self._connection, self._namespaces = self._connection, None, []
        if connection is not None:
            self._end(connection)
        self._ended_with = None

    def _end(self, connection: Any) -> None:
        if self._beside is not None:
            self._beside.end()
        self._used.append(connection)
        self._close_used()

    def _close_used(self) -> None:
        """Closes those that nothing has memory of any more."""
        used, self._used = self._used, []
        for connection in used:
            try:
                connection.close()
            except BufferError:
                self._used.append(connection)
            except (hbm.Error, OSError) as error:
                log.debug("closing the connection: %s", error)

    def _fail_queued(self, why: str) -> None:
        with self._lock:
            jobs = [job for queue in self._queues.values() for job in queue]
            for queue in self._queues.values():
                queue.clear()
        for job in jobs:
            self._result(job, None, why)

    def _result(self, job: Job, present: Sequence[bool] | None, error: str | None = None) -> None:
        if present is None:
            present = [False] * (len(job.keys) // hbm.Key.SIZE)
        seconds = time.monotonic() - job.submitted
        with self._idle:
            self._results.append(
                Result(job.kind, job.tag, present, seconds, job.nbytes, error)
            )
            self._outstanding -= 1
            if self._outstanding == 0:
                self._idle.notify_all()

    def _say(self, what: str) -> None:
        if what != self._said:
            log.warning("%s", what)
        self._said = what


def _good(kind: str, status: Any) -> bool:
    if kind == "store":
        # A block whose parent was evicted meanwhile cannot be found by its prefix any more:
        # it is not worth its place, and no failure of the tier.
        return status in (hbm.Status.OK, hbm.Status.EXISTS, hbm.Status.NO_PARENT)
    return status == hbm.Status.OK
