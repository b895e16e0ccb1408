# SPDX-License-Identifier: Apache-2.0
"""connector: what LMCache's native_plugin wants of a store, over objects.py.

LMCache drives it from any thread: it submits batches, polls the descriptor, and drains
what has ended. It imports nothing of LMCache.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Sequence

from hbm.link import TIMEOUT_MS, Link
from hbm.lmcache.objects import Objects, Outcome

# The batch's number, whether it was done, why not, and for each key: loaded, there, deleted.
Completion = tuple[int, bool, str, "list[bool] | None"]


class HbmConnector:
    """Objects in hbmd, for LMCache:

        {"type": "native_plugin", "module_path": "hbm.lmcache", "class_name": "HbmConnector",
         "adapter_params": {}, "max_capacity_gb": 100}

    adapter_params, all optional: socket: of the daemon, else $HBM_SOCKET or
    /run/hbmd/hbmd.sock. salt: clients with another one share nothing with this. weights: a
    number or text, another one after a change of the model's weights; default: found by
    hbm.identity. dtype: of keys and values ("bfloat16"), which LMCache does not tell a
    native_plugin: clients with another one share nothing with this. memory_only: nothing goes to
    NVMe. timeout_ms: a batch that takes longer has failed, and the connection is made anew.
    hbm.Error: there is no daemon; later it may come and go.
    """

    def __init__(
        self,
        socket: str | None = None,
        salt: str = "",
        weights: int | str | None = None,
        memory_only: bool = False,
        dtype: str = "",
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._completions: list[Completion] = []
        self._closed = False
        # readable while there are completions: written with each, read with all of them
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            link = Link(
                socket,
                name="lmcache",
                salt=salt,
                weights=weights,
                memory_only=memory_only,
                timeout_ms=timeout_ms,
            )
            self._objects = Objects(link, self._ended, dtype)
        except BaseException:
            os.close(self._event)
            raise

    def event_fd(self) -> int:
        """A borrowed descriptor, readable while drain_completions() has something to give."""
        return self._event

    def submit_batch_set(self, keys: Sequence[str], views: Sequence[Any]) -> int:
        """Stores the bytes of views[i] as keys[i]. Views are not to be written before it is
        done. A key that is there already is left as it is, and counts as stored."""
        return self._submit("set", keys, views)

    def submit_batch_get(self, keys: Sequence[str], views: Sequence[Any]) -> int:
        """Loads keys[i] into views[i], which is as long as what was stored. What is in the
        view of a key that could not be loaded is undefined."""
        return self._submit("get", keys, views)

    def submit_batch_exists(self, keys: Sequence[str]) -> int:
        return self._submit("exists", keys)

    def submit_batch_delete(self, keys: Sequence[str]) -> int:
        return self._submit("delete", keys)

    def drain_completions(self) -> list[Completion]:
        """What has ended since the last call, each batch once."""
        with self._lock:
            ended, self._completions = self._completions, []
            if ended and not self._closed:
                os.eventfd_read(self._event)
        return ended

    def close(self) -> None:
        """Ends what is in flight and gives everything back; may be called again."""
        self._objects.close()
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._event)

    def _submit(self, op: str, keys: Sequence[str], views: Sequence[Any] = ()) -> int:
        with self._lock:
            self._next += 1
            number = self._next
        self._objects.submit(op, (number, op), list(keys), list(views))
        return number

    def _ended(self, token: tuple[int, str], outcome: Outcome) -> None:
        number, op = token
        done = not outcome.error and (op in ("exists", "delete") or all(outcome.ok))
        each = None if op == "set" else outcome.ok
        with self._lock:
            self._completions.append((number, done, outcome.error, each))
            os.eventfd_write(self._event, 1)
