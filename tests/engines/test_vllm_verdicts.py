# SPDX-License-Identifier: Apache-2.0
"""Verdicts, beside a model of it that is too simple to be wrong."""

from __future__ import annotations

import os
import random
import time

from hbm.vllm.verdicts import Verdicts


def test_known_after_the_answer():
    verdicts = Verdicts(60)
    assert verdicts.ask(b"k", "a") is None
    assert verdicts.batch() == [b"k"]
    assert verdicts.batch() == []
    assert verdicts.ask(b"k", "a") is None
    verdicts.answer([b"k"], [True])
    assert verdicts.ask(b"k", "a") is True


def test_no_answer_is_a_miss():
    verdicts = Verdicts(0)
    verdicts.ask(b"k", "a")
    verdicts.batch()
    time.sleep(0.001)
    assert verdicts.ask(b"k", "a") is False
    verdicts.answer([b"k"], [True])
    assert verdicts.ask(b"k", "a") is False  # what a request was told stays


def test_a_miss_is_asked_again_for_another_request():
    verdicts = Verdicts(60)
    verdicts.ask(b"k", "a")
    verdicts.answer(verdicts.batch(), [False])
    assert verdicts.ask(b"k", "a") is False
    assert verdicts.ask(b"k", "b") is None
    assert verdicts.batch() == [b"k"]


def test_corrections():
    verdicts = Verdicts(60)
    verdicts.ask(b"k", "a")
    verdicts.correct(b"k", True)  # nothing is known yet that could be wrong
    assert verdicts.ask(b"k", "a") is None
    verdicts.answer(verdicts.batch(), [True])
    verdicts.correct(b"k", False)
    assert verdicts.ask(b"k", "a") is False
    verdicts.correct(b"unknown", False)


def test_random_requests_leave_nothing():
    """Each key of a batch is answered once, whenever; at the end nothing is kept."""
    seed = int(os.environ.get("HBM_TEST_SEED", random.getrandbits(32)))
    print("HBM_TEST_SEED", seed)
    rng = random.Random(seed)
    verdicts = Verdicts(60)
    keys = [bytes([i]) for i in range(12)]
    live: set[str] = set()
    flying: list[list[bytes]] = []

    for step in range(4000):
        act = rng.randrange(5)
        if act == 0:
            live.add(f"r{step}")
        elif act == 1 and live:
            request = rng.choice(sorted(live))
            live.discard(request)
            verdicts.forget(request)
        elif act == 2 and live:
            verdicts.ask(rng.choice(keys), rng.choice(sorted(live)))
        elif act == 3:
            flying.append(verdicts.batch())
        elif flying:
            batch = flying.pop(rng.randrange(len(flying)))
            verdicts.answer(batch, [rng.random() < 0.5 for _ in batch])
        in_flight = [key for batch in flying for key in batch]
        assert len(in_flight) == len(set(in_flight)), "a key is asked for twice at a time"

    for request in live:
        verdicts.forget(request)
    flying.append(verdicts.batch())
    for batch in flying:
        verdicts.answer(batch, [True for _ in batch])
    assert len(verdicts) == 0
