#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small Llama with random weights generates tokens, with its keys and values in torch's own memory
and in memory of hbmd, in turns: are the tokens the same, and how many are there a second?

    examples/generate.py [--prompt TOKENS] [--new TOKENS] [--rounds N] [--soft]

It needs torch with CUDA, transformers, and an hbmd that serves that device at $HBM_SOCKET. Without
a GPU it says so and exits with 77. --soft: on the CPU, with an hbmd on the soft device, which tells
whether the tokens are the same, and nothing about speed. The exit status is 1 if they differ.

    plain          a DynamicCache in torch's memory
    sequences      an HbmCache: each row of the batch is a sequence of hbmd
    suspended      the same, sent to host memory and back after half of the tokens
    allocator      a StaticCache that torch allocates from regions of hbmd; needs a GPU
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any, Callable, Dict, List

SKIPPED = 77
ROWS = 1  # of a batch: the attention then reads a sequence where it is
LIMIT = 8192  # tokens of a prompt and what is new


def skip(why: str) -> None:
    print(f"generate: skipped: {why}")
    sys.exit(SKIPPED)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="generate", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--prompt", type=int, default=512, metavar="TOKENS", help="default 512")
    parser.add_argument("--new", type=int, default=128, metavar="TOKENS", help="default 128")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--soft", action="store_true", help="on the CPU, with hbmd on the soft device")
    arguments = parser.parse_args()
    if arguments.prompt < 1 or arguments.new < 2 or arguments.rounds < 1:
        parser.error("at least a token of a prompt, two that are new, and a round")
    if arguments.prompt + arguments.new > LIMIT:
        parser.error(f"at most {LIMIT} tokens in all")
    return arguments


# Before what takes seconds to import.
ARGUMENTS = read_arguments()

try:
    import torch

    if not ARGUMENTS.soft and not torch.cuda.is_available():
        skip("no GPU (--soft: without one)")
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache
except ImportError as error:
    skip(str(error))

import hbm
import hbm.torch
from hbm.transformers import HbmCache, layout


class Run:
    """A model, a prompt, and the ways in which tokens are generated."""

    def __init__(self, connection: hbm.Connection, arguments: argparse.Namespace) -> None:
        self.connection, self.new = connection, arguments.new
        self.device = torch.device("cpu" if arguments.soft else f"cuda:{connection.device_ordinal(0)}")
        torch.manual_seed(7)
        width = 64 if arguments.soft else 1024
        # float32: kernels differ with the strides of what they read, and so do their last bits
        config = LlamaConfig(
            vocab_size=1024, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=8, num_attention_heads=8,
            num_key_value_heads=4, max_position_embeddings=LIMIT, pad_token_id=0, eos_token_id=None, bos_token_id=1,
        )
        self.model = LlamaForCausalLM(config).eval().to(self.device)
        self.ids = torch.randint(1, config.vocab_size, (ROWS, arguments.prompt)).to(self.device)
        self.pool = connection.pool(layout(config, dtype=torch.float32), max_sequences=ROWS)
        self.ways: Dict[str, Callable[[], torch.Tensor]] = {
            "plain": lambda: self.generate(self.ids, DynamicCache(), self.new),
            "sequences": self.sequences,
            "suspended": self.suspended,
        }
        if not arguments.soft:
            self.ways["allocator"] = self.allocator

    def generate(self, ids: torch.Tensor, cache: Any, new: int) -> torch.Tensor:
        return self.model.generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=new, do_sample=False
        )

    def sequences(self) -> torch.Tensor:
        cache = HbmCache(self.pool)
        tokens = self.generate(self.ids, cache, self.new)
        cache.close()
        return tokens

    def suspended(self) -> torch.Tensor:
        cache = HbmCache(self.pool)
        half = self.generate(self.ids, cache, self.new // 2)
        self.finish()
        cache.suspend()
        tokens = self.generate(half, cache, self.new - self.new // 2)
        cache.close()
        return tokens

    def allocator(self) -> torch.Tensor:
        config = self.model.config
        with hbm.torch.use_allocator(self.connection):
            cache = StaticCache(config, max_cache_len=self.ids.shape[1] + self.new)
            cache.early_initialization(
                ROWS, config.num_key_value_heads, config.head_dim, torch.float32, self.device
            )
        found = hbm.torch.region_of(self.connection, cache.layers[0].keys)
        if found is None:
            raise RuntimeError("the cache is in no region of hbmd")
        return self.generate(self.ids, cache, self.new)

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, way: str) -> tuple[float, torch.Tensor]:
        self.finish()
        start = time.perf_counter()
        tokens = self.ways[way]()
        self.finish()
        return time.perf_counter() - start, tokens.cpu()


def main(arguments: argparse.Namespace) -> int:
    with hbm.Connection(name="generate") as connection:
        driver = "soft" if arguments.soft else "cuda"
        if connection.info.driver.name.lower() != driver:
            print(f"generate: hbmd has another driver than {driver}", file=sys.stderr)
            return 1
        run = Run(connection, arguments)
        _, expected = run.seconds("plain")
        seconds: Dict[str, List[float]] = {way: [] for way in run.ways}
        equal = dict.fromkeys(run.ways, True)
        for _ in range(arguments.rounds):
            for way in run.ways:
                took, tokens = run.seconds(way)
                seconds[way].append(took)
                equal[way] &= torch.equal(tokens, expected)

        for way, took in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds["plain"], took))
            print(
                f"{way:10} {arguments.new / statistics.median(took):9.1f} tokens/s, {ratio:.2f} of plain; "
                f"tokens {'equal' if equal[way] else 'DIFFER'}"
            )
        run.pool.close()

    return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(main(ARGUMENTS))
