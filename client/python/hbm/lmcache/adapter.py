# SPDX-License-Identifier: Apache-2.0
"""adapter: LMCache's L2 adapter, over objects.py, in its `plugin` form.

What it does that the native_plugin form cannot: LMCache's usage figures follow what the
daemon has dropped, because a lookup or a load that misses takes the key out of them; the
listeners and the three event descriptors are served by one thread instead of two.

LMCache's locks keep nothing in the daemon: between a lookup and its load a block may be
evicted, and the load misses, as LMCache allows. Sizes and salts that it accounts for are
those that this process has stored; the daemon's own limits hold for all processes.

Written for LMCache 0.5.6. Names that were others before are looked for at the import.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Sequence

from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface

from hbm.link import TIMEOUT_MS, Link
from hbm.lmcache.objects import Objects, Outcome

DELETE_S = 30.0  # how long delete() waits: LMCache's own adapters wait as long
_GIB = 1 << 30
_SETTINGS = {
    "socket": None,
    "salt": "",
    "weights": None,
    "dtype": None,
    "memory_only": False,
    "timeout_ms": TIMEOUT_MS,
    "max_capacity_gb": 0,
}


def name_of(key: Any) -> str:
    """The name of an ObjectKey: as LMCache writes it for its native connectors."""
    name = f"{key.model_name}@{key.kv_rank:08x}@{key.object_group_id:x}@{key.chunk_hash.hex()}"
    return f"{name}@{key.cache_salt}" if key.cache_salt else name


class _Event:
    """A descriptor that is readable from signal() until somebody has read it."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def signal(self) -> None:
        os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        os.close(self.fd)


class HbmL2Adapter(L2AdapterInterface):
    """Objects in hbmd, for LMCache:

        {"type": "plugin", "module_path": "hbm.lmcache", "class_name": "HbmL2Adapter",
         "adapter_params": {"max_capacity_gb": 100}}

    adapter_params: those of HbmConnector, dtype being what LMCache says of each object by
    default, and max_capacity_gb, as which LMCache's eviction counts; 0: the daemon alone evicts.
    """

    def __init__(self, config: dict[str, Any] | None = None, l1_memory_desc: Any = None) -> None:
        settings = dict(_SETTINGS)
        for name, value in (config or {}).items():
            if name not in settings:
                raise ValueError(f"adapter_params has no {name!r}: {', '.join(settings)}")
            settings[name] = value

        super().__init__(max_capacity_bytes=int(settings.pop("max_capacity_gb") * _GIB))
        self._dtype: str | None = settings.pop("dtype")
        self._kinds: dict[tuple[str, int], str] = {}  # of a model's groups, as LMCache last said
        self._lock = threading.Lock()
        self._next = 0
        self._sizes: dict[Any, int] = {}  # bytes of each key that is accounted for
        self._stores: dict[int, L2StoreResult] = {}
        self._lookups: dict[int, Any] = {}
        self._loads: dict[int, Any] = {}
        self._deletes: dict[int, threading.Event] = {}
        self._events = {"set": _Event(), "exists": _Event(), "get": _Event()}
        self._closed = False
        try:
            self._objects = Objects(Link(name="lmcache", **settings), self._ended)
        except BaseException:
            self._close_events()
            raise

    # ---- Descriptors ----

    def get_store_event_fd(self) -> int:
        return self._events["set"].fd

    def get_lookup_and_lock_event_fd(self) -> int:
        return self._events["exists"].fd

    def get_load_event_fd(self) -> int:
        return self._events["get"].fd

    # ---- Tasks ----

    def submit_store_task(self, keys: Sequence[Any], objects: Sequence[Any]) -> int:
        self._learn(keys, [_dtypes(memory) for memory in objects])
        return self._submit("set", keys, [memory.byte_array for memory in objects])

    def pop_completed_store_tasks(self) -> dict[int, L2StoreResult]:
        with self._lock:
            stores, self._stores = self._stores, {}
        return stores

    def submit_lookup_and_lock_task(
        self, keys: Sequence[Any], group_layout_descs: Any = None
    ) -> int:
        descs = group_layout_descs or {}
        known = [descs.get(key.object_group_id) for key in keys]
        self._learn(keys, [desc.dtypes if desc else [] for desc in known])
        return self._submit("exists", keys)

    def query_lookup_and_lock_result(self, task_id: int) -> Any:
        with self._lock:
            return self._lookups.pop(task_id, None)

    def submit_unlock(self, keys: Sequence[Any]) -> None:
        """Nothing: a lock keeps nothing in the daemon."""

    def submit_load_task(self, keys: Sequence[Any], objects: Sequence[Any]) -> int:
        self._learn(keys, [_dtypes(memory) for memory in objects])
        return self._submit("get", keys, [memory.byte_array for memory in objects])

    def query_load_result(self, task_id: int) -> Any:
        with self._lock:
            return self._loads.pop(task_id, None)

    def delete(self, keys: Sequence[Any]) -> None:
        """Deletes keys, and waits for that at most DELETE_S."""
        if not keys:
            return

        event = threading.Event()
        with self._lock:
            number = self._number()
            self._deletes[number] = event
        token = ("delete", number, list(keys), [])
        self._objects.submit("delete", token, _names(keys), (), self._kinds_of(keys))
        event.wait(DELETE_S)

    # ---- The rest ----

    def report_status(self) -> dict[str, Any]:
        with self._lock:
            accounted = len(self._sizes)
        return {
            "is_healthy": self._objects.connected and not self._closed,
            "type": type(self).__name__,
            "stored_object_count": accounted,
        }

    def close(self) -> None:
        """Ends what is in flight; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._objects.close()
        self._close_events()

    def _close_events(self) -> None:
        for event in self._events.values():
            event.close()

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _submit(self, op: str, keys: Sequence[Any], buffers: Sequence[Any] = ()) -> int:
        sizes = [memoryview(buffer).nbytes for buffer in buffers]
        with self._lock:
            number = self._number()
        token = (op, number, list(keys), sizes)
        self._objects.submit(op, token, _names(keys), buffers, self._kinds_of(keys))
        return number

    def _learn(self, keys: Sequence[Any], dtypes: Sequence[Any]) -> None:
        """Which types the numbers of these objects have; an empty list: it is not said."""
        for key, each in zip(keys, dtypes):
            words = [str(dtype).removeprefix("torch.") for dtype in each if dtype is not None]
            if words:
                kind = " ".join(dict.fromkeys(words))
                self._kinds[key.model_name, key.object_group_id] = kind

    def _kinds_of(self, keys: Sequence[Any]) -> list[str]:
        if self._dtype is not None:
            return [self._dtype] * len(keys)
        return [self._kinds.get((key.model_name, key.object_group_id), "") for key in keys]

    # ---- On the thread of the objects ----

    def _ended(self, token: tuple[str, int, list[Any], list[int]], outcome: Outcome) -> None:
        op, number, keys, sizes = token
        there = [key for key, ok in zip(keys, outcome.ok) if ok]
        absent = [key for key, ok in zip(keys, outcome.ok) if not ok]
        try:  # listeners are the engine's: they may raise
            if op == "set":
                self._stored(number, keys, sizes, outcome.ok)
            elif op == "delete":
                self._forget(there)
            elif not outcome.error:
                self._forget(absent)
            if op == "get" and there:
                self._notify_keys_accessed(there)
        finally:
            self._finish(op, number, outcome)

    def _finish(self, op: str, number: int, outcome: Outcome) -> None:
        with self._lock:
            if op == "exists":
                self._lookups[number] = _bitmap(outcome.ok)
            elif op == "get":
                self._loads[number] = _bitmap(outcome.ok)
            elif op == "delete":
                self._deletes.pop(number).set()
        if op in self._events:
            self._events[op].signal()

    def _stored(self, number: int, keys: list[Any], sizes: list[int], oks: list[bool]) -> None:
        there, added = [], []
        with self._lock:
            for key, size, ok in zip(keys, sizes, oks):
                if ok:
                    there.append(key)
                    added.append(0 if key in self._sizes else size)
                    self._sizes.setdefault(key, size)
            self._stores[number] = L2StoreResult(all(oks), sum(added))
        if there:
            self._notify_keys_stored(there, added)

    def _forget(self, keys: list[Any]) -> None:
        """Takes keys that are not in the daemon out of the account."""
        gone, sizes = [], []
        with self._lock:
            for key in keys:
                if key in self._sizes:
                    gone.append(key)
                    sizes.append(self._sizes.pop(key))
        if gone:
            self._notify_keys_deleted(gone, sizes)


def _dtypes(memory: Any) -> list[Any]:
    """Of an object's numbers; []: LMCache does not say."""
    try:
        return list(memory.get_dtypes())
    except (AssertionError, AttributeError, NotImplementedError, TypeError, ValueError):
        one = getattr(getattr(memory, "metadata", None), "dtype", None)
        return [] if one is None else [one]


def _names(keys: Sequence[Any]) -> list[str]:
    return [name_of(key) for key in keys]


def _bitmap(ok: list[bool]) -> Any:
    bitmap = Bitmap(len(ok))
    for i, there in enumerate(ok):
        if there:
            bitmap.set(i)
    return bitmap
