# SPDX-License-Identifier: Apache-2.0
"""What hbm-engines(7) and the README tell to give vLLM is what vLLM takes."""

from __future__ import annotations

import json
import re

import pytest

from soft_daemon import ROOT
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.v1.kv_offload.factory import OffloadingSpecFactory
from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory

DOCUMENTS = ["man/hbm-engines.7", "README.md"]


def commands(document):
    text = (ROOT / document).read_text()
    return [json.loads(found) for found in re.findall(r"--kv-transfer-config\s+'(.*?)'", text, re.S)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_both_forms_are_told(document):
    names = {command["kv_connector"] for command in commands(document)}
    assert names == {"OffloadingConnector", "HbmConnector"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_vllm_finds_what_they_name(document):
    for command in commands(document):
        config = KVTransferConfig(**command)
        found = KVConnectorFactory.get_connector_class(config)
        assert found.__name__ == command["kv_connector"]
        if command["kv_connector"] == "HbmConnector":
            assert KVConnectorFactory.supports_hma_config(config)
            assert config.kv_load_failure_policy == "recompute"
            continue
        extra = config.kv_connector_extra_config
        assert OffloadingSpecFactory.get_spec_cls(extra).__name__ == "TieringOffloadingSpec"
        (tier,) = extra["secondary_tiers"]
        assert SecondaryTierFactory.get_tier_class(tier).__name__ == "HbmTier"


def test_page_has_every_option():
    from hbm.vllm.connector import _OPTIONS
    from hbm.vllm.tier import HbmTier

    page = (ROOT / "man/hbm-engines.7").read_text()
    tier = set(HbmTier.__init__.__kwdefaults__) - {"locality"}
    for option in tier | set(_OPTIONS):
        assert re.search(rf"^\.(It )?Cm .*\b{option}\b", page, re.M), option
