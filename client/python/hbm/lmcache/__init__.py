# SPDX-License-Identifier: Apache-2.0
"""hbm.lmcache: hbmd as a store of LMCache.

HbmConnector: for its `native_plugin`; imports nothing of LMCache. Command lines:
hbm-engines(7).
"""

from hbm.lmcache.connector import HbmConnector

__all__ = ["HbmConnector"]
