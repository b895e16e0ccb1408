# SPDX-License-Identifier: Apache-2.0
"""hbmd for vLLM, in two forms; hbm-engines(7) has the command line of each.

HbmTier: a secondary tier behind vLLM's CPU tier (TieringOffloadingSpec). HbmConnector: a KV
connector of its own. Each is imported when it is first named, as vLLM does by module path, and
brings only what it needs of vLLM with it.
"""

from __future__ import annotations

from typing import Any

_FORMS = {"HbmTier": ".tier", "HbmConnector": ".connector"}

__all__ = list(_FORMS)


def __getattr__(name: str) -> Any:
    if name not in _FORMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_FORMS[name], __name__), name)
