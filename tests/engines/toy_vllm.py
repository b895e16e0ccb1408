# SPDX-License-Identifier: Apache-2.0
"""An engine of vLLM's own scheduler, KV cache manager and connector machinery, and a toy model.

The model's KV at a position is a function of all tokens up to there, and the token that it
samples is one of all KV that it reads. It checks each step that the KV it reads is right: a
block that was loaded wrongly, late, or into the wrong place is seen at once.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import time
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch

from vllm import SamplingParams
from vllm.config import (
    CacheConfig,
    DeviceConfig,
    KVTransferConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    VllmConfig,
)
from vllm.distributed.kv_transfer import kv_transfer_state
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.worker import kv_connector_model_runner_mixin as mixin

TOKENS = 16  # of a block
HEADS, DIM, LAYERS = 2, 32, 2  # of a group; a block has 8 KiB
WAIT_S = 60

_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 4096, "vocab_size": 512,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float16",
}  # fmt: skip


def model_folder(path, version=b"weights"):
    """What vLLM takes for a model: its configuration, and a file in place of its weights."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(_LLAMA))
    (path / "model.safetensors").write_bytes(version)
    return str(path)


class Engine:
    """layout: "layers", "split" (keys and values apart) or "across" (all layers of a block in one
    piece). window: of a second group of layers, in tokens; None: there is one group. ranks: of a
    tensor-parallel engine. stages: of a pipeline, each of them of so many ranks, with layers of its
    own, one more each. states: it has a group of Mamba's. ahead: a step is scheduled before the one before it is over, as vLLM
    does by itself. options: of the connector."""

    def __init__(
        self,
        model,
        *,
        layout="layers",
        window=None,
        ranks=1,
        stages=1,
        states=False,
        blocks=64,
        ahead=False,
        **options,
    ):
        config = _config(model, ranks, blocks, options, stages)
        config.scheduler_config.async_scheduling = ahead
        kvs = [_kv_config(blocks, window, stage, states) for stage in range(stages)]
        self.kv = kvs[0]
        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(TOKENS, sha256)
        self.scheduler = (AsyncScheduler if ahead else Scheduler)(
            vllm_config=config,
            kv_cache_config=self.kv,
            structured_output_manager=StructuredOutputManager(config),
            block_size=TOKENS,
            hash_block_size=TOKENS,
            log_stats=True,
        )
        every = range(ranks * stages)
        self.ranks = [_Rank(config, kvs[rank // ranks], rank, layout) for rank in every]
        self.aggregator = KVOutputAggregator(len(every))
        # As EngineCore does when the workers have registered their KV caches.
        told = {(r // ranks, r % ranks): self.ranks[r].connector.get_handshake_metadata() for r in every}
        self.scheduler.get_kv_connector().set_xfer_handshake_metadata_pp_aware(
            pickle.loads(pickle.dumps(told))
        )
        self.ahead = ahead
        self.running = []  # steps whose output the scheduler has not seen
        self.outputs: dict[str, list[int]] = {}
        self.loaded = 0  # tokens that the connector was to bring, of all requests so far

    def close(self):
        self.scheduler.shutdown()
        for rank in self.ranks:
            rank.connector.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, name, prompt, tokens):
        """A request for so many tokens."""
        parameters = SamplingParams(max_tokens=tokens, ignore_eos=True)
        request = Request(
            request_id=name,
            prompt_token_ids=list(prompt),
            sampling_params=parameters,
            pooling_params=None,
            block_hasher=self.hasher,
        )
        self.outputs[name] = []
        self.scheduler.add_request(request)
        return request

    def step(self):
        scheduled = self.scheduler.schedule()
        outputs = [rank.run(scheduled) for rank in self.ranks]
        self.running.append((scheduled, self.aggregator.aggregate(outputs)))
        if len(self.running) > self.ahead:
            self._over(*self.running.pop(0))

    def _over(self, scheduled, output):
        made = self.scheduler.update_from_output(scheduled, output)
        for client in made.values():
            self._count(client.scheduler_stats)
            for one in client.outputs:
                self.outputs[one.request_id] += one.new_token_ids

    def generate(self, name, prompt, tokens=4):
        """The tokens, when the request has ended."""
        self.add(name, prompt, tokens)
        self.run()
        assert len(self.outputs[name]) == tokens
        return self.outputs[name]

    def run(self, until=None):
        """Until nothing is left to do, or `until` says so."""
        deadline = time.monotonic() + WAIT_S
        while self.scheduler.has_unfinished_requests() if until is None else not until():
            before = sum(map(len, self.outputs.values()))
            self.step()
            assert time.monotonic() < deadline, "the engine does not come to an end"
            if before == sum(map(len, self.outputs.values())):
                time.sleep(0.001)
        while self.running and until is None:
            self._over(*self.running.pop(0))

    def settle(self):
        """Until what was stored is in the daemon."""
        self.step()
        for rank in self.ranks:
            rank.connector._courier.drain()

    def _count(self, stats):
        if stats is not None and stats.connector_prefix_cache_stats is not None:
            self.loaded += stats.connector_prefix_cache_stats.hits

    def ask(self, name, prompt, tokens=4):
        """A request whose look-up is answered, and whose load begins in the next step."""
        self.add(name, prompt, tokens)
        self.step()
        self.scheduler.connector._courier.drain()


class _Rank:
    """A worker: its part of the KV cache, the connector's side of it, and the model."""

    def __init__(self, config, kv, rank, layout):
        config = copy.copy(config)
        config.parallel_config = copy.copy(config.parallel_config)
        config.parallel_config.rank = rank
        self.rank = rank
        self.kv = kv
        self.layout = layout
        self.connector = KVConnectorFactory.create_connector(config, KVConnectorRole.WORKER, kv)
        with self.connector.get_mem_pool_context() or nullcontext():
            self.caches = _caches(kv, layout)
        self.connector.register_kv_caches(self.caches)
        self.tables = {}  # of each request: its blocks, by group
        self.tokens = {}
        self.known = {}  # what the KV of a request is to be

    def run(self, scheduled):
        self._take(scheduled)
        sampled = {}
        with _connected(self.connector), mixin.KVConnectorModelRunnerMixin.\
                maybe_get_kv_connector_output(scheduled) as said:  # fmt: skip
            for name, count in scheduled.num_scheduled_tokens.items():
                sampled[name] = self._forward(name, self.computed[name], count)
        names = list(sampled)
        if not names:
            output = copy.copy(EMPTY_MODEL_RUNNER_OUTPUT)
            output.kv_connector_output = said
            return output
        return ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: i for i, name in enumerate(names)},
            sampled_token_ids=[sampled[name] for name in names],
            kv_connector_output=said,
        )

    def _take(self, scheduled):
        self.computed = {}
        for new in scheduled.scheduled_new_reqs:
            self.tables[new.req_id] = [list(group) for group in new.block_ids]
            self.tokens[new.req_id] = list(new.prefill_token_ids or new.prompt_token_ids)
            self.computed[new.req_id] = new.num_computed_tokens
        cached = scheduled.scheduled_cached_reqs
        for i, name in enumerate(cached.req_ids):
            if name in cached.resumed_req_ids:
                self.tables[name] = [list(group) for group in cached.new_block_ids[i]]
            elif cached.new_block_ids[i] is not None:
                for table, more in zip(self.tables[name], cached.new_block_ids[i]):
                    table += more
            self.computed[name] = cached.num_computed_tokens[i]

    def _forward(self, name, computed, count):
        tokens = self.tokens[name]
        after = computed + count
        assert after <= len(tokens)
        for group in range(len(self.kv.kv_cache_groups)):
            self._write(name, group, computed, after)
        self._check(name, after)
        if after < len(tokens):
            return []
        token = self.known[name, 0, 0][-1][1][0] % 500 + 3
        tokens.append(token)
        return [token]

    def _write(self, name, group, first, after):
        for layer, cache in self._layers(group):
            expected = self._expected(name, layer, group, after)
            for position in range(first, after):
                block = self.tables[name][group][position // TOKENS]
                assert block != 0
                cache[block, :, position % TOKENS] = expected[position]

    def _check(self, name, after):
        """What attention reads for the last of these positions."""
        for group, spec in enumerate(self.kv.kv_cache_groups):
            window = getattr(spec.kv_cache_spec, "sliding_window", None)
            first = 0 if window is None else max(0, after - window)
            table = self.tables[name][group][first // TOKENS : -(-after // TOKENS)]
            skip = first % TOKENS
            for layer, cache in self._layers(group):
                read = cache[table].transpose(1, 2).flatten(0, 1)[skip : skip + after - first]
                expected = self._expected(name, layer, group, after)[first:after]
                assert torch.equal(read, expected), (name, group, layer)

    def _layers(self, group):
        """Of each: (block, keys or values, slot, ...)."""
        for layer, name in enumerate(self.kv.kv_cache_groups[group].layer_names):
            cache = self.caches[name]
            yield layer, cache.transpose(0, 1) if self.layout == "split" else cache

    def _expected(self, name, layer, group, after):
        """Of positions up to `after`, at least."""
        tokens = self.tokens[name]
        known = self.known.setdefault((name, layer, group), [])
        while len(known) < after:
            before = known[-1][1] if known else b""
            raw = _digest(bytes([layer, group, self.rank]) + before, tokens[len(known)])
            made = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(2, HEADS, DIM).half()
            known.append((made, raw))
        return torch.stack([made for made, _ in known])


def _digest(what, token):
    return hashlib.shake_128(what + b"%d" % token).digest(2 * HEADS * DIM)


def _config(model, ranks, blocks, options, stages=1):
    config = VllmConfig(
        model_config=ModelConfig(
            model=model, dtype="float16", seed=0, skip_tokenizer_init=True, max_model_len=1024
        ),
        scheduler_config=SchedulerConfig(
            max_num_seqs=16, max_num_batched_tokens=256, max_model_len=1024,
            is_encoder_decoder=False,
        ),
        cache_config=CacheConfig(block_size=TOKENS, enable_prefix_caching=True),
        kv_transfer_config=KVTransferConfig(
            kv_connector="HbmConnector", kv_connector_module_path="hbm.vllm", kv_role="kv_both",
            kv_load_failure_policy="recompute", kv_connector_extra_config=options,
        ),
        parallel_config=ParallelConfig(),
        device_config=DeviceConfig("cpu"),
    )  # fmt: skip
    config.parallel_config.tensor_parallel_size = ranks
    config.parallel_config.pipeline_parallel_size = stages
    config.parallel_config.world_size = ranks * stages
    config.cache_config.kv_cache_layout = "LBNHC"
    config.cache_config.num_gpu_blocks = blocks
    return config


def _kv_config(blocks, window, stage=0, states=False):
    """Of a stage of a pipeline."""
    shape = dict(block_size=TOKENS, num_kv_heads=HEADS, head_size=DIM, dtype=torch.float16)
    layers = range(10 * stage, 10 * stage + LAYERS + stage)
    groups = [KVCacheGroupSpec([f"full.{i}" for i in layers], FullAttentionSpec(**shape))]
    if window is not None:
        spec = SlidingWindowSpec(**shape, sliding_window=window)
        groups.append(KVCacheGroupSpec([f"window.{i}" for i in layers], spec))
    if states:
        spec = MambaSpec(block_size=TOKENS, shapes=((64,),), dtypes=(torch.float16,))
        groups.append(KVCacheGroupSpec(["state.0"], spec))
    return KVCacheConfig(
        num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups, hash_block_size=TOKENS
    )


def _caches(kv, layout):
    caches = {}
    for group in kv.kv_cache_groups:
        names = group.layer_names
        block = (2, TOKENS, HEADS, DIM)
        if layout == "across":
            all_layers = torch.zeros((kv.num_blocks, len(names), *block), dtype=torch.float16)
            caches.update({name: all_layers[:, i] for i, name in enumerate(names)})
            continue
        for name in names:
            shape = (2, kv.num_blocks, *block[1:]) if layout == "split" else (kv.num_blocks, *block)
            caches[name] = torch.zeros(shape, dtype=torch.float16)
    return caches


@contextmanager
def _connected(connector):
    """As vLLM's worker has it, in a process of its own."""
    with patch.object(kv_transfer_state, "_KV_CONNECTOR_AGENT", connector), patch.object(
        mixin, "get_forward_context", lambda: None
    ):
        yield
