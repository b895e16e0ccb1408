# SPDX-License-Identifier: Apache-2.0
"""link: what an adapter has instead of a connection, because engines outlive daemons.

A link connects when it is first used, keeps one namespace for each description it was
asked for, and forgets all of it when the connection is lost. The next use connects anew,
at most once in RETRY_S: until then it fails at once, so that an engine whose daemon is
away computes what it would have loaded and does not wait for it.

It is not the reconnecting of the library (reconnect_ms), which waits for the next daemon
inside a call. An adapter has nothing in the daemon that is worth that wait.

A daemon that hangs is as one that is away: nothing waits for an answer for longer than
timeout_ms. Then the connection has ended, and with it all that was in flight: what a load
was to write is not written any more, as it is this process that writes it. After each attempt
to connect that has failed the next one is later, up to RETRY_MAX_S, so that a daemon that
does not come back costs little of an engine's time.
"""

from __future__ import annotations

import errno
import hashlib
import threading
import time

import hbm
from hbm.identity import weights_version

RETRY_S = 1.0  # a daemon that restarts takes about as long
RETRY_MAX_S = 60.0
# Longer than any request of a daemon that serves, and short for a user who waits.
TIMEOUT_MS = 5000
# Where an adapter's blocks go: they come from host memory and go back to it.
TIER = hbm.Tier.DDR
NEVER = 0xFFFFFFFF  # HBM_RECONNECT_NEVER
NAME_MAX = 63  # HBM_WIRE_NAME_BYTES - 1
DIGEST = 16  # hex digits: 64 bits, of names that somebody chose for models he serves


def fit(name: str) -> str:
    """The name as a namespace may have it: as it is if it is short and printable, else its
    end and a digest of all of it."""
    if len(name) <= NAME_MAX and name.isascii() and name.isprintable():
        return name
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST]
    return f"{plain[-(NAME_MAX - DIGEST - 1):]}#{digest}"


class Link:
    """A connection to the daemon at `socket` that comes back. Any thread may use it.

    salt, memory_only: of every namespace. weights: a number or text, of all models; None: of
    each as hbm.identity finds it, the first time that it is named. retry_s: seconds between two
    attempts to connect. timeout_ms: how long anything waits for the daemon, at least 1.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        name: str | None = None,
        salt: str = "",
        weights: int | str | None = None,
        memory_only: bool = False,
        timeout_ms: int = TIMEOUT_MS,
        retry_s: float = RETRY_S,
    ) -> None:
        if not isinstance(timeout_ms, int) or not 0 < timeout_ms < NEVER:
            raise ValueError("timeout_ms must be a number of at least 1")
        self._socket, self._name, self._retry_s = socket, name, retry_s
        self._every = {"salt": salt, "memory_only": memory_only}
        self._weights = weights
        self._versions: dict[str, int] = {}
        self.timeout_s = timeout_ms / 1000
        self._pause = retry_s
        self._lock = threading.Lock()
        self._connection: hbm.Connection | None = None
        self._namespaces: dict[tuple[str, str, int], hbm.Namespace] = {}
        self._again = 0.0  # on the monotonic clock: no attempt before that
        self._closed = False

    def connection(self) -> hbm.Connection:
        """The connection. hbm.Error: there is no daemon; ValueError: the link is closed."""
        with self._lock:
            return self._connect()

    def namespace(self, model: str, layout: str, block_bytes: int) -> hbm.Namespace:
        """The namespace of that description, opened when it is first asked for."""
        key = (model, layout, block_bytes)
        with self._lock:
            connection = self._connect()
            found = self._namespaces.get(key)
            if found is None:
                found = connection.namespace(
                    fit(model),
                    layout=fit(layout),
                    weights=self._version(model),
                    block_bytes=block_bytes,
                    **self._every,
                )
                self._namespaces[key] = found
            return found

    def wait(self, ticket: hbm.Ticket) -> list[hbm.Status]:
        """The results of a request of this link. hbm.ConnectionLost: not in time; the
        connection has ended."""
        connection = ticket._connection
        try:
            return ticket.wait(self.timeout_s)
        except TimeoutError:
            self.forget(connection)
            raise self.late() from None

    def late(self) -> hbm.ConnectionLost:
        """What is raised for a daemon that does not answer."""
        return hbm.ConnectionLost(errno.ETIMEDOUT, f"no answer for {self.timeout_s:g} s")

    def forget(self, connection: hbm.Connection | None) -> None:
        """Closes a connection that has ended, if it is still this one."""
        with self._lock:
            if connection is None or connection is not self._connection:
                return
            self._connection = None
            self._namespaces.clear()
            self._again = time.monotonic() + self._retry_s
        connection.close()

    @property
    def current(self) -> hbm.Connection | None:
        """The connection, if there is one; it may have ended."""
        return self._connection

    def close(self) -> None:
        """Ends the connection. What is in flight ends first; may be called again."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            self._namespaces.clear()
        if connection is not None:
            connection.close()

    def _connect(self) -> hbm.Connection:
        if self._closed:
            raise ValueError("the link is closed")
        if self._connection is None:
            now = time.monotonic()
            if now < self._again:
                raise hbm.ConnectionLost("no daemon a moment ago; the next attempt is soon")
            self._again = now + self._retry_s
            try:
                self._connection = hbm.Connection(
                    self._socket,
                    name=self._name,
                    answer_ms=round(self.timeout_s * 1000),
                    reconnect_ms=NEVER,
                )
            except hbm.Error:
                self._again = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, RETRY_MAX_S)
                raise
            self._pause = self._retry_s
        return self._connection

    def _version(self, model: str) -> int:
        """Of its weights, as they are when it is first named: what they become later, no engine
        that is running has."""
        if model not in self._versions:
            self._versions[model] = weights_version(self._weights, model)
        return self._versions[model]
