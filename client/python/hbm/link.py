# SPDX-License-Identifier: Apache-2.0
"""link: what an adapter has instead of a connection, because engines outlive daemons.

A link connects when it is first used, keeps one namespace for each description it was
asked for, and forgets all of it when the connection is lost. The next use connects anew,
at most once in RETRY_S: until then it fails at once, so that an engine whose daemon is
away computes what it would have loaded and does not wait for it.

It is not the reconnecting of the library (reconnect_ms), which waits for the next daemon
inside a call. An adapter has nothing in the daemon that is worth that wait.
"""

from __future__ import annotations

import hashlib
import threading
import time

import hbm

RETRY_S = 1.0  # a daemon that restarts takes about as long
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

    salt, weights, memory_only: of every namespace. retry_s: seconds between two attempts
    to connect.
    """

    def __init__(
        self,
        socket: str | None = None,
        *,
        name: str | None = None,
        salt: str = "",
        weights: int = 0,
        memory_only: bool = False,
        retry_s: float = RETRY_S,
    ) -> None:
        self._socket, self._name, self._retry_s = socket, name, retry_s
        self._every = {"salt": salt, "weights": weights, "memory_only": memory_only}
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
                    fit(model), layout=fit(layout), block_bytes=block_bytes, **self._every
                )
                self._namespaces[key] = found
            return found

    def namespaces(self) -> list[hbm.Namespace]:
        """Those that are open."""
        with self._lock:
            return list(self._namespaces.values())

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
            self._connection = hbm.Connection(
                self._socket, name=self._name, reconnect_ms=NEVER
            )
        return self._connection
