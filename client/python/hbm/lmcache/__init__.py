# SPDX-License-Identifier: Apache-2.0
"""hbm.lmcache: hbmd as a store of LMCache, in one of two forms.

HbmConnector: for its `native_plugin`; imports nothing of LMCache. HbmL2Adapter: for its
`plugin`; a subclass of LMCache's, so that it is imported when it is first asked for.
Both keep the same objects under the same names. Command lines: hbm-engines(7).
"""

from __future__ import annotations

from typing import Any

from hbm.lmcache.connector import HbmConnector

__all__ = ["HbmConnector", "HbmL2Adapter"]


def __getattr__(name: str) -> Any:
    if name == "HbmL2Adapter":
        from hbm.lmcache.adapter import HbmL2Adapter

        return HbmL2Adapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
