# SPDX-License-Identifier: Apache-2.0
"""What calls raise, and the numbers of the protocol by their names.

``Error`` and its subclasses tell of the daemon and the connection: ``Refused`` that a request was
refused and has changed nothing, ``ConnectionLost`` that there is no daemon (any more). Misuse is
Python's own: ``ValueError`` and ``TypeError`` for arguments, ``RuntimeError`` for what is closed,
``BufferError`` for a region that has live views or is in use, ``TimeoutError`` for a wait.
"""

from __future__ import annotations

import enum
import errno as _errno
import os
from typing import Optional

from . import _native

__all__ = ["ConnectionLost", "Driver", "Encoding", "Error", "Refused", "Status", "Tier"]

Status = enum.IntEnum("Status", _native.STATUS, module=__name__)
Status.__doc__ = "enum hbm_status: of a request, or of each of its blocks."

Tier = enum.IntEnum("Tier", _native.TIER, module=__name__)
Tier.__doc__ = "enum hbm_tier, from the top down; NONE is no tier."

Driver = enum.IntEnum("Driver", _native.DRIVER, module=__name__)
Driver.__doc__ = "enum hbm_driver: what the daemon's devices are."

Encoding = enum.IntEnum("Encoding", _native.ENCODING, module=__name__)
Encoding.__doc__ = "enum hbm_encoding: what blocks of a namespace are encoded as."


class Error(OSError):
    """A call has failed.

    ``status`` is a ``Status`` if the daemon refused it, else ``None``; ``errno`` is the errno of
    the connection or this process, else ``None``.
    """

    status: Optional[Status] = None


class Refused(Error):
    """A request was refused, with ``status``; nothing has changed."""


class ConnectionLost(Error, ConnectionError):
    """No daemon listens there, or the connection has ended. Close it, and connect again."""


_LOST = {_errno.ENOTCONN, _errno.EPROTO, _errno.ETIMEDOUT, _errno.ECONNRESET, _errno.EPIPE}
_NOT_THERE = {_errno.ECONNREFUSED, _errno.ENOENT}


def of_connecting(error: Error) -> Error:
    """The same, of a call that connects: where no socket listens there is no daemon."""
    if error.errno in _NOT_THERE:
        return ConnectionLost(*error.args)
    return error


def make_error(status: int, line: str) -> Exception:
    """The exception for what a function of libhbm returned, and its line about that ("": none)."""
    text = _native.strerror(status)
    if line:
        text = f"{text}: {line}"
    if status > 0:
        refused = Refused(text)
        try:
            refused.status = Status(status)
        except ValueError:  # of a later daemon
            pass
        return refused
    if -status == _errno.ENOMEM:
        return MemoryError(text)
    kind = ConnectionLost if -status in _LOST else Error
    return kind(-status, f"{os.strerror(-status)}: {line}" if line else os.strerror(-status))
