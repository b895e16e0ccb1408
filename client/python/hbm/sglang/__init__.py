# SPDX-License-Identifier: Apache-2.0
"""hbm.sglang: hbmd as the L3 store of SGLang's HiCache, its `dynamic` backend.

HbmStorage is a subclass of SGLang's, so that it is imported when it is first asked for.
Command lines: hbm-engines(7).
"""

from __future__ import annotations

from typing import Any

__all__ = ["HbmStorage"]


def __getattr__(name: str) -> Any:
    if name == "HbmStorage":
        from hbm.sglang.storage import HbmStorage

        return HbmStorage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
