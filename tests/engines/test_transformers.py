# SPDX-License-Identifier: Apache-2.0
"""hbm.transformers: a tiny Llama with random weights generates the same tokens, and has the same logits,
with its cache in sequences of hbmd: suspended in the middle, restored after its process was killed,
and with a prefix that another process saved."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import hbm
from hbm.transformers import HbmCache, layout

SPACE = hbm.Space("tiny", weights=1)
NEW = 24


def make(dtype=torch.float32, **options):
    """The same weights in each process."""
    torch.manual_seed(7)
    config = LlamaConfig(**{
        **dict(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4),
        **dict(num_key_value_heads=2, max_position_embeddings=4096, pad_token_id=0, eos_token_id=None),
        **dict(bos_token_id=1), **options,
    })
    return LlamaForCausalLM(config).eval().to(dtype)


def prompt(rows=1, tokens=37):
    torch.manual_seed(11)
    return torch.randint(1, 128, (rows, tokens))


def generate(model, ids, cache, new=NEW, **options):
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=new, do_sample=False, **options
    )


@pytest.fixture
def pool(daemon):
    with hbm.Connection(daemon.socket) as connection, connection.pool(layout(make().config), max_sequences=32) as pool:
        yield pool


@pytest.fixture(scope="module")
def model():
    return make()


def test_layout():
    assert layout(make().config, dtype=torch.bfloat16, max_tokens=512) == "layers=3 heads=2 dim=16 bytes=2 order=layer max=512"
    with pytest.raises(ValueError):
        layout(LlamaConfig(layer_types=["full_attention", "sliding_attention"], num_hidden_layers=2))


@pytest.mark.parametrize("rows", [1, 3])
def test_same_tokens(model, pool, rows):
    ids = prompt(rows)
    cache = HbmCache(pool)
    assert torch.equal(generate(model, ids, cache), generate(model, ids, DynamicCache()))
    assert cache.get_seq_length() == 37 + NEW - 1
    assert [sequence.tokens for sequence in cache.sequences] == [37 + NEW - 1] * rows
    cache.close()
    assert pool.facts.open == 0


def test_same_logits(model, pool):
    ids, cache, plain = prompt(), HbmCache(pool), DynamicCache()
    with torch.no_grad():
        for part in ids.split([20, 1, 16], dim=1):
            ours = model(part, past_key_values=cache, use_cache=True).logits
            assert torch.equal(ours, model(part, past_key_values=plain, use_cache=True).logits)


def test_bfloat16(daemon):
    model = make(torch.bfloat16)
    with hbm.Connection(daemon.socket) as connection:
        with connection.pool(layout(model.config, dtype=torch.bfloat16)) as pool:
            ids, cache = prompt(), HbmCache(pool)
            assert torch.equal(generate(model, ids, cache), generate(model, ids, DynamicCache()))
            cache.close()


@pytest.mark.parametrize("tier", [hbm.Tier.DDR, hbm.Tier.NVME])
def test_suspended_in_the_middle(model, pool, tier):
    ids = prompt(2)
    expected = generate(model, ids, DynamicCache())
    cache = HbmCache(pool, tier=tier)
    half = generate(model, ids, cache, NEW // 2)
    for layer in cache.layers:
        layer.offload()
    assert cache.suspended
    assert {sequence.facts.tier for sequence in cache.sequences} == {tier}
    assert pool.facts.mapped_bytes == 0
    assert torch.equal(generate(model, half, cache, NEW - NEW // 2), expected)
    cache.close()


def test_beams(model, pool):
    ids = prompt(2)
    expected = generate(model, ids, DynamicCache(), num_beams=3)
    cache = HbmCache(pool)
    assert torch.equal(generate(model, ids, cache, num_beams=3), expected)
    cache.close()


def test_crop_and_rows(model, pool):
    ids = prompt()
    cache, plain = HbmCache(pool), DynamicCache()
    with torch.no_grad():
        for each in (cache, plain):
            model(ids, past_key_values=each, use_cache=True)
            each.crop(-5)
            each.batch_repeat_interleave(3)
            each.batch_select_indices(torch.tensor([2, 0]))
        last = ids[:, -5:].repeat(2, 1)
        ours = model(last, past_key_values=cache, use_cache=True).logits
        assert torch.equal(ours, model(last, past_key_values=plain, use_cache=True).logits)
    assert len(cache.sequences) == 2
    cache.reset()
    assert cache.get_seq_length() == 0
    assert torch.equal(generate(model, ids, cache), generate(model, ids, DynamicCache()))
    cache.close()


CHILD = """
import os, signal, sys
sys.path[:0] = [{here!r}]
import test_transformers as t, hbm
from hbm.transformers import HbmCache, layout
model = t.make()
connection = hbm.Connection({socket!r})
cache = HbmCache(connection.pool(layout(model.config)))
ids = t.generate(model, t.prompt(), cache, {new})
print(ids.tolist(), cache.save("session", t.SPACE), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_another_process_goes_on(model, daemon, pool):
    """One that was killed has saved its cache; two go on from there, without computing what it has."""
    from pathlib import Path

    script = CHILD.format(here=str(Path(__file__).parent), socket=daemon.socket, new=NEW // 2)
    child = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.returncode == -signal.SIGKILL
    said, _, saved = child.stdout.strip().rpartition(" ")
    half = torch.tensor(eval(said))
    expected = generate(model, prompt(), DynamicCache())
    assert torch.equal(half, expected[:, : half.shape[1]])

    caches = [HbmCache.restore(pool, "session", SPACE) for _ in range(2)]
    for cache in caches:
        assert cache.get_seq_length() == int(saved) == half.shape[1] - 1
        assert torch.equal(generate(model, half, cache, NEW - NEW // 2), expected)
        cache.close()


# ---- A prefix that processes share ----

WIDE = dict(num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=8, head_dim=128)  # 512 tokens a slab


def wide():
    return make(**WIDE)


def with_prefix(tokens, seed):
    """A prompt of so many tokens, of which all but the last 20 are those of any other."""
    torch.manual_seed(seed)
    return torch.cat([prompt(1, tokens - 20), torch.randint(1, 128, (1, 20))], dim=1)


SHARER = """
import sys
sys.path[:0] = [{here!r}]
import test_transformers as t, hbm
from hbm.transformers import HbmCache, layout
model = t.wide()
with hbm.Connection({socket!r}) as connection:
    with connection.pool(layout(model.config), max_sequences=4) as pool:
        ids = t.with_prefix({tokens}, 2)
        prompts = pool.namespace("wide", weights=1)
        cache = HbmCache.cached(pool, prompts, ids)
        facts = cache.sequences[0].facts
        print(cache.get_seq_length(), facts.lent_bytes, facts.mapped_bytes)
        print(t.generate(model, ids, cache).tolist(), flush=True)
        sys.stdin.readline()
        cache.close()
"""


@pytest.fixture
def sharer(daemon):
    """Starts a process that generates from a prefix that is there, and keeps it until it is told."""
    from pathlib import Path

    script = SHARER.format(here=str(Path(__file__).parent), socket=daemon.socket, tokens=1100)
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started = []

    def start():
        started.append(subprocess.Popen([sys.executable, "-c", script], **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.settings("device.lend=64MiB")
def test_two_processes_share_a_prefix(daemon, sharer):
    """Both go on from one prefix in the same memory: the second has the first one's slabs, reads them
    where they are, and neither changes the other's tokens."""
    model, ids = wide(), with_prefix(1100, 1)
    with hbm.Connection(daemon.socket) as connection:
        with connection.pool(layout(model.config), max_sequences=4) as pool:
            prompts, cache = pool.namespace("wide", weights=1), HbmCache(pool)
            assert pool.block_tokens == 512
            half = generate(model, ids, cache, NEW // 2)
            assert cache.store(prompts, ids) == 1024

            other = sharer()
            tokens, lent, mapped = map(int, other.stdout.readline().split())
            assert (tokens, lent, mapped) == (1024, 1024 * pool.token_bytes, 1024 * pool.token_bytes)
            said = torch.tensor(eval(other.stdout.readline()))
            assert torch.equal(said, generate(model, with_prefix(1100, 2), DynamicCache()))

            # the first goes on beside it, from the same slabs, and so does a third, in this process
            expected = generate(model, ids, DynamicCache())
            assert torch.equal(generate(model, half, cache, NEW - NEW // 2), expected)
            again = HbmCache.cached(pool, prompts, ids)
            assert again.sequences[0].facts.lent_bytes == 1024 * pool.token_bytes
            assert torch.equal(generate(model, ids, again), expected)
            again.close()

            other.communicate("done\n")
            assert other.returncode == 0
            cache.close()
            assert pool.facts.open == 0


def test_prefix_of_blocks_that_are_no_slabs(model, daemon, pool):
    """Without what lends: blocks of 16 tokens are loaded, of a batch as many as all rows have."""
    ids = prompt(2, 70)
    prompts, cache = pool.namespace("tiny", block_tokens=16), HbmCache(pool)
    expected = generate(model, ids, cache)
    assert cache.store(prompts, ids) == 64
    cache.close()

    again = HbmCache.cached(pool, prompts, ids)
    assert again.get_seq_length() == 64
    assert torch.equal(generate(model, ids, again), expected)
    again.close()

    torch.manual_seed(5)
    ids[1, 40:] = torch.randint(1, 128, (30,))
    again = HbmCache.cached(pool, prompts, ids)
    assert again.get_seq_length() == 32
    assert torch.equal(generate(model, ids, again), generate(model, ids, DynamicCache()))
    again.close()
    assert HbmCache.cached(pool, prompts, ids[:, :1]).get_seq_length() == 0
    with pytest.raises(ValueError):
        again.store(prompts, ids[0])


def test_all_of_a_prompt_is_there(model, pool):
    """The last token is computed: of its logits comes the next."""
    ids = prompt(1, 64)
    prompts, cache = pool.namespace("tiny", block_tokens=16), HbmCache(pool)
    expected = generate(model, ids, cache)
    cache.store(prompts, ids)
    again = HbmCache.cached(pool, prompts, ids)
    assert again.get_seq_length() == 48
    assert torch.equal(generate(model, ids, again), expected)
