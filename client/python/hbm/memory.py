# SPDX-License-Identifier: Apache-2.0
"""Memory that the daemon owns and this process has mapped: regions, spans of them, and loans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional, Sequence, Tuple, Union

from . import _native

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Array", "Loan", "Region", "Spans"]

Array = _native.Array


def number_name(dtype: Any) -> str:
    """The name of a type of numbers: itself, or of a type of torch or numpy."""
    if not getattr(dtype, "isnative", True):
        raise ValueError(f"{dtype} is not in the byte order of this machine")
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    return name.rpartition(".")[2]


class Memory:
    """What regions and loans have alike: their bytes, as they are or as numbers, without a copy."""

    __slots__ = ()
    bytes: int
    _array: Any  # of the extension

    def view(self, offset: int = 0, bytes: Optional[int] = None) -> memoryview:
        """The bytes of a range, ``bytes`` from ``offset`` on; all that follow by default. They are
        writable where the memory is: not that of a loan, nor of a range that has another's memory
        read-only. Raises ``BufferError`` where they are device memory, or not committed throughout.
        """
        count = self.bytes - offset if bytes is None else bytes
        return memoryview(self._array(offset, (count,), "uint8"))

    def array(
        self, shape: Union[int, Sequence[int]], dtype: Any = "uint8", offset: int = 0
    ) -> _native.Array:
        """A range, of a region a committed one, as numbers: contiguous and in C order, in a shape.

        It is a tensor of DLPack, in device memory or in the host's: ``torch.from_dlpack()``,
        ``numpy.from_dlpack()``; a buffer where this process can reach the bytes:
        ``numpy.asarray()``; and has ``__cuda_array_interface__`` where they are a GPU's. It counts
        as a live view, as does what was made of it. A consumer of DLPack before its version 1 cannot
        be told that memory is read-only: it gets none that is (``BufferError``).

        ``dtype``: bool, uint8 to uint64, int8 to int64, float16, bfloat16, float32, float64,
        float8_e4m3fn, float8_e5m2: a name, or a type of torch or numpy, in the byte order of this
        machine. ``offset``: in bytes, a
        multiple of a number's.
        """
        lengths = (shape,) if isinstance(shape, int) else tuple(shape)
        return self._array(offset, lengths, number_name(dtype))

    def __dlpack__(self, **options: Any) -> Any:
        """All of it, as uint8."""
        return self.array(self.bytes).__dlpack__(**options)

    def __dlpack_device__(self) -> Tuple[int, int]:
        return self.array(self.bytes).__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        return self.array(self.bytes).__cuda_array_interface__

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __len__(self) -> int:
        return self.bytes


class Region(_native.Region, Memory):
    """A contiguous range of device addresses, backed by memory where it is committed.

    ``Connection.region()`` makes one. ``address`` is its device address and never changes,
    ``bytes`` how many it has (whole slabs of ``slab`` bytes), ``device`` the daemon's number of the
    device.

    Where this process can reach the bytes (``is_host``: a host region, or a region of the soft
    device) it is a buffer: ``memoryview(region)``, ``numpy.frombuffer(region, ...)``. While a view
    is alive the region can be neither closed nor decommitted, nor its connection closed:
    ``BufferError``. A region that is collected is closed.
    """

    __slots__ = ("__weakref__",)

    def commit(self, offset: int = 0, bytes: Optional[int] = None) -> None:
        """Backs a range, in bytes and of whole slabs, with memory; the rest from ``offset`` on by
        default. Raises ``Refused``: NO_SPACE, LIMIT, EXISTS."""
        self._commit(offset, self.bytes - offset if bytes is None else bytes)

    def decommit(self, offset: int = 0, bytes: Optional[int] = None) -> None:
        """Unmaps a range of whole slabs and gives its memory back. Synchronise your streams
        first. Raises ``BufferError`` while there are views of the region, or requests that use it
        are in flight."""
        self._decommit(offset, self.bytes - offset if bytes is None else bytes)

    def share(
        self,
        source: Union["Region", "Loan"],
        source_offset: int = 0,
        offset: int = 0,
        bytes: Optional[int] = None,
        *,
        read_only: bool = False,
    ) -> None:
        """Backs the range from ``offset`` on, of whole slabs and not committed, with the memory of
        ``source`` from ``source_offset`` on: both have it, and it is charged once. ``bytes``: all of
        the source from there on by default. ``read_only``: the range can be neither written nor
        loaded into; always so of a loan, which has pieces as large as the slabs of the region, and
        may be returned afterwards. Raises ``Refused``: EXISTS (the range is committed), NOT_FOUND
        (that of the source is not), INVALID."""
        count = source.bytes - source_offset if bytes is None else bytes
        self._share(source, source_offset, offset, count, read_only)

    def register(self, device: int = 0) -> None:
        """Of a host region: makes it known to the driver of this process, so that copies of GPUs to
        and from it go by themselves. ``device``: in whose context. Raises ``Refused``: UNSUPPORTED
        (it is no host region), EXISTS, DEVICE."""
        self._register(device)

    def publish(
        self, name: str, offset: int = 0, bytes: Optional[int] = None, *, gid: Optional[int] = None
    ) -> None:
        """Gives a committed range a name, so that its memory outlives this process, until
        ``Connection.unpublish()``. ``gid``: that group may attach it, too."""
        self._publish(name, offset, self.bytes - offset if bytes is None else bytes, gid)

    def __repr__(self) -> str:
        if self.closed:
            return "<hbm.Region, closed>"
        return f"<hbm.Region of {self.bytes} bytes at {self.address:#x}, device {self.device}>"


class Loan(_native.Loan, Memory):
    """A block of the cache that is read where it is, in device memory, without a copy:
    ``Namespace.borrow()`` makes one. Another process of the same user that borrows the block has
    the same memory.

    It has ``bytes`` bytes, those of its block, on the daemon's ``device``, read-only, in ``pieces``
    slabs of its own, or as a part of one. ``address``, on the device, stays until it is returned;
    asking for it, for ``is_host`` or for a view maps the loan. Where this process can reach the bytes
    (``is_host``: those of the soft device) it is a buffer; anywhere, ``array()`` is a tensor.

    The bytes stay as they are until it is returned, by ``close()``, by
    ``Connection.return_loans()``, or when it is collected, whatever becomes of the block.
    Synchronise the streams that read it first. With live views it cannot be returned, nor its
    connection closed: ``BufferError``.
    """

    __slots__ = ("__weakref__",)

    def __repr__(self) -> str:
        if self.closed:
            return "<hbm.Loan, returned>"
        return f"<hbm.Loan of {self.bytes} bytes, device {self.device}>"


class Spans(_native.Spans):
    """Ranges of one region, of equal size: where the blocks of a store or load are.

    ``offsets``: of each, in bytes from the begin of the region: any sequence of ints, or a buffer
    of 64-bit integers (numpy's int64, ``array.array("q")``). ``bytes``: of each; 0 or left out:
    ``block_bytes`` of the namespace.
    """

    __slots__ = ()

    def __new__(cls, region: Region, offsets: Iterable[int], bytes: Optional[int] = None) -> "Spans":
        return super().__new__(cls, region, offsets, bytes)


def attach(connection: "Connection", name: str, uid: int, flags: int) -> Region:
    """See ``Connection.attach()``."""
    return Region._attach(connection, uid, name, flags)
