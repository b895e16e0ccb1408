# SPDX-License-Identifier: Apache-2.0
"""HbmConnector in an engine of vLLM's own scheduler and connector machinery (toy_vllm), on a live
hbmd. Each step of the toy model checks all KV that it reads, and tokens depend on the prompt alone:
what is computed again after a fault is what would have been loaded."""

from __future__ import annotations

import os
import signal
import time

import pytest

import hbm
from soft_daemon import SoftDaemon
from toy_vllm import TOKENS, WAIT_S, Engine, model_folder


@pytest.fixture
def model(tmp_path):
    return model_folder(tmp_path / "model")


def prompt(blocks, seed=0, rest=5):
    return [(seed * 131 + i * 7) % 500 + 3 for i in range(blocks * TOKENS + rest)]


def engine(model, daemon, **options):
    return Engine(model, socket=daemon.socket, **options)


def filled(model, daemon, *, blocks=10, **options):
    """An engine has computed and stored the prompt; its tokens."""
    with engine(model, daemon, **options) as first:
        tokens = first.generate("first", prompt(blocks))
        first.settle()
        return tokens


def namespaces(engine):
    """Of all groups of the first rank, of the second, ..., as the scheduler's side has them."""
    return engine.scheduler.connector._courier._namespace_args


def drop(daemon, engine, place, index, rank=0, blocks=10):
    """Drop one rank's part of a block, and of those that continue it."""
    matcher = engine.scheduler.connector._matcher
    request = engine.add("not run", prompt(blocks), 1)
    engine.scheduler.finish_requests("not run", engine_aborted())
    keys = matcher._keys(request, place)
    groups = len(engine.kv.kv_cache_groups)
    with hbm.Connection(daemon.socket) as other:
        ns = other.namespace(**namespaces(engine)[rank * groups + place])
        assert ns.remove(keys[index]) == [True]


def engine_aborted():
    from vllm.v1.request import RequestStatus

    return RequestStatus.FINISHED_ABORTED


@pytest.mark.parametrize("layout", ["layers", "split", "across"])
@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_what_one_engine_stores_another_loads(daemon, model, layout, window):
    tokens = filled(model, daemon, layout=layout, window=window)
    with engine(model, daemon, layout=layout, window=window) as second:
        assert second.generate("b", prompt(10)) == tokens
        assert second.loaded == 10 * TOKENS


@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_steps_that_are_scheduled_ahead(daemon, model, window):
    with engine(model, daemon, window=window, ahead=True) as first:
        tokens = first.generate("a", prompt(4), tokens=3 * TOKENS)
        first.settle()
    with engine(model, daemon, window=window, ahead=True) as second:
        assert second.generate("b", prompt(4), tokens=3 * TOKENS) == tokens
        assert second.loaded == 4 * TOKENS
        second.generate("c", prompt(4) + tokens, tokens=1)
        daemon.kill()
        assert second.generate("d", prompt(5), tokens=3) == tokens_of(model, daemon, prompt(5), 3)


def tokens_of(model, daemon, tokens, count):
    """As an engine without a daemon computes them."""
    with engine(model, daemon) as alone:
        return alone.generate("alone", tokens, count)


def test_a_longer_prompt_loads_what_is_there(daemon, model):
    filled(model, daemon)
    with engine(model, daemon) as second:
        second.generate("longer", prompt(14))
        assert second.loaded == 10 * TOKENS
        second.generate("other", prompt(6, seed=3))
        assert second.loaded == 10 * TOKENS
        second.settle()
        alone = second.generate("again", prompt(14))

    with engine(model, daemon) as third:
        assert third.generate("longer", prompt(14)) == alone
        assert third.loaded == 14 * TOKENS


def test_generated_tokens_are_stored(daemon, model):
    with engine(model, daemon) as first:
        tokens = first.generate("a", prompt(2, rest=0), tokens=3 * TOKENS)
        first.settle()
    with engine(model, daemon) as second:
        second.generate("b", prompt(2, rest=0) + tokens, tokens=1)
        assert second.loaded == 4 * TOKENS  # the last token has no KV yet

    with engine(model, daemon, prompt_only=True, salt="other") as first:
        first.generate("a", prompt(2, rest=0), tokens=3 * TOKENS)
        first.settle()
    with engine(model, daemon, salt="other") as second:
        second.generate("b", prompt(2, rest=0) + tokens, tokens=1)
        assert second.loaded == 2 * TOKENS


def test_prompt_that_is_all_there(daemon, model):
    with engine(model, daemon) as first:
        tokens = first.generate("a", prompt(4, rest=0))
        first.settle()
    with engine(model, daemon) as second:
        assert second.generate("b", prompt(4, rest=0)) == tokens
        assert second.loaded == 4 * TOKENS


def test_pieces_of_a_load(daemon, model):
    """A load that is larger than the staging memory comes in pieces."""
    tokens = filled(model, daemon, blocks=30)
    with engine(model, daemon, load_bytes=16384) as second:
        assert second.generate("b", prompt(30)) == tokens
        assert second.loaded == 30 * TOKENS


def test_weights_keep_blocks_apart(daemon, model, tmp_path):
    filled(model, daemon)
    model_folder(tmp_path / "model", version=b"trained further")
    with engine(model, daemon) as second:
        second.generate("b", prompt(10))
        assert second.loaded == 0


@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_ranks_agree_by_the_least(daemon, model, window):
    tokens = filled(model, daemon, ranks=2, window=window)
    with engine(model, daemon, ranks=2, window=window) as second:
        drop(daemon, second, 0, 7, rank=1)
        assert second.generate("b", prompt(10)) == tokens
        # with a window: only of the end of the prompt its blocks were kept
        assert second.loaded == 7 * TOKENS

    with engine(model, daemon, ranks=1, window=window) as other:
        other.generate("b", prompt(10))
        assert other.loaded == 0, "another number of ranks has other blocks"


def test_ranks_are_evicted_together(tmp_path, model):
    """More than the daemon holds, and the first blocks are used in one rank's namespace only: each
    block is there for both ranks, or for none."""
    daemon = SoftDaemon(tmp_path, "device.cache=0", "ddr.size=4MiB", "nvme.size=4MiB")
    daemon.start()
    try:
        with engine(model, daemon, ranks=2, blocks=200) as first, hbm.Connection(daemon.socket) as c:
            connector = first.scheduler.connector
            opened = [c.namespace(**n) for n in namespaces(first)]
            keys = []
            for seed in range(14):
                request = first.add(f"{seed}", prompt(50, seed=seed), 1)
                first.run()
                first.settle()
                keys += connector._matcher._keys(request, 0)
                opened[0].touch(keys[:50]).wait()
            found = [namespace.lookup(keys).present for namespace in opened]
        assert found[0] == found[1]
        assert all(found[0][:50])
        assert sum(found[0]) < len(keys), "nothing was evicted"
    finally:
        daemon.stop()


@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_blocks_that_go_between_look_up_and_load(daemon, model, window):
    tokens = filled(model, daemon, window=window)
    with engine(model, daemon, window=window) as second:
        second.ask("b", prompt(10))
        drop(daemon, second, 0, 6)
        second.run()
        assert second.outputs["b"] == tokens
        assert second.generate("c", prompt(10)) == tokens


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_daemon_killed_in_the_middle_of_a_load(daemon, model, window, ranks):
    tokens = filled(model, daemon, window=window, ranks=ranks)
    with engine(model, daemon, window=window, ranks=ranks) as second:
        loses_its_daemon(
            second,
            daemon,
            tokens,
            begun=lambda: all(rank.connector._courier.outstanding for rank in second.ranks),
        )
        assert second.loaded == 10 * TOKENS, "the load was not begun"

        assert second.generate("c", prompt(3, seed=1)), "it goes on without a daemon"
        daemon.start()
        comes_back(second, daemon, model, window=window, ranks=ranks)


def loses_its_daemon(second, daemon, tokens, begun=lambda: True):
    """The daemon is killed in the middle of a load, and the tokens are the same."""
    second.ask("b", prompt(10))
    daemon.signal(signal.SIGSTOP)
    second.step()
    assert begun()
    daemon.kill()
    second.run()
    assert second.outputs["b"] == tokens


def comes_back(second, daemon, model, **options):
    """The engine stores again, and what it stores is found."""
    deadline = time.monotonic() + WAIT_S
    seed = 100
    while True:
        seed += 1
        tokens = second.generate(f"s{seed}", prompt(2, seed=seed))
        second.settle()
        with engine(model, daemon, **options) as third:
            assert third.generate("t", prompt(2, seed=seed)) == tokens
            if third.loaded == 2 * TOKENS:
                return
        assert time.monotonic() < deadline, "it does not come back"


def test_daemon_restarted_by_its_keeper(tmp_path, model):
    daemon = SoftDaemon(tmp_path, keeper=True)
    daemon.start()
    try:
        tokens = filled(model, daemon)
        with engine(model, daemon) as second:
            second.ask("b", prompt(10))
            daemon.kill_daemon()
            second.run()
            assert second.outputs["b"] == tokens
            comes_back(second, daemon, model)
    finally:
        daemon.stop()


def test_daemon_that_hangs(daemon, model):
    """It is stopped: look-ups are misses, and no step waits."""
    tokens = filled(model, daemon)
    with engine(model, daemon, lookup_timeout_ms=50, timeout_ms=1000) as second:
        daemon.signal(signal.SIGSTOP)
        try:
            assert second.generate("b", prompt(10)) == tokens
            assert second.loaded == 0
        finally:
            daemon.signal(signal.SIGCONT)


def test_load_that_takes_too_long(daemon, model):
    tokens = filled(model, daemon)
    with engine(model, daemon, timeout_ms=300) as second:
        second.ask("b", prompt(10))
        daemon.signal(signal.SIGSTOP)
        try:
            second.run()
            assert second.outputs["b"] == tokens
        finally:
            daemon.signal(signal.SIGCONT)


def test_engine_without_a_daemon(daemon, model):
    daemon.kill()
    with engine(model, daemon) as first:
        assert first.generate("a", prompt(10))
        daemon.start()
        comes_back(first, daemon, model)


def test_request_aborted_while_it_loads(daemon, model):
    """Its blocks are the engine's again when the load has ended, and not before."""
    filled(model, daemon)
    with engine(model, daemon, timeout_ms=500) as second:
        pool = second.scheduler.kv_cache_manager.block_pool
        free = pool.get_num_free_blocks()
        second.ask("b", prompt(10))
        daemon.signal(signal.SIGSTOP)
        try:
            second.step()
            second.scheduler.finish_requests("b", engine_aborted())
            second.step()
            assert pool.get_num_free_blocks() < free
            second.run(until=lambda: pool.get_num_free_blocks() == free)
        finally:
            daemon.signal(signal.SIGCONT)
        assert second.generate("c", prompt(10))


def test_preempted_requests(daemon, model):
    """Fewer blocks than the requests need: they are preempted, and what they stored is loaded."""
    with engine(model, daemon, blocks=400) as roomy:
        expected = {i: roomy.generate(f"{i}", prompt(6, seed=i), tokens=40) for i in range(4)}
    with engine(model, daemon, blocks=30, salt="tight") as tight:
        requests = [tight.add(f"{i}", prompt(6, seed=i), 40) for i in range(4)]
        tight.run()
        assert any(request.num_preemptions for request in requests)
        assert {i: tight.outputs[f"{i}"] for i in range(4)} == expected


def test_stores_beyond_the_bound_are_left_out(daemon, model):
    with engine(model, daemon, store_bytes=16384, timeout_ms=500) as first:
        daemon.signal(signal.SIGSTOP)
        try:
            assert first.generate("a", prompt(10), tokens=2 * TOKENS)
            transfers = first.ranks[0].connector._transfers
            assert transfers._storing <= 10 * 8192
        finally:
            daemon.signal(signal.SIGCONT)
        first.settle()
        first.step()
        assert transfers._storing == 0


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("window", [None, 3 * TOKENS])
def test_stages_of_a_pipeline(daemon, model, window, ranks):
    """Each has layers of its own, and blocks of its own size; a block is there if all have it."""
    tokens = filled(model, daemon, stages=2, ranks=ranks, window=window)
    with engine(model, daemon, stages=2, ranks=ranks, window=window) as second:
        groups = len(second.kv.kv_cache_groups)
        assert len({n["layout"] for n in namespaces(second)}) == 2 * ranks * groups
        assert len({n["block_bytes"] for n in namespaces(second)}) == 2
        assert second.generate("b", prompt(10)) == tokens
        assert second.loaded == 10 * TOKENS
        drop(daemon, second, 0, 7, rank=2 * ranks - 1)

    with engine(model, daemon, stages=2, ranks=ranks, window=window) as third:
        assert third.generate("c", prompt(10)) == tokens
        assert third.loaded == 7 * TOKENS
    with engine(model, daemon, stages=1, ranks=2 * ranks, window=window) as other:
        other.generate("d", prompt(10))
        assert other.loaded == 0, "another division has other blocks"


def test_stage_of_a_pipeline_that_loses_a_block(daemon, model):
    """Between the look-up and the load, in the last stage: what is missing is computed in all."""
    tokens = filled(model, daemon, stages=2)
    with engine(model, daemon, stages=2) as second:
        second.ask("b", prompt(10))
        drop(daemon, second, 0, 6, rank=1)
        second.run()
        assert second.outputs["b"] == tokens


def test_states_are_refused_in_one_line(daemon, model, caplog):
    """Of Mamba's: the connector stays out of the way, on both sides, and says so."""
    from toy_vllm import _config, _kv_config
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

    config = _config(model, 1, 16, {"socket": daemon.socket})
    kv = _kv_config(16, None, states=True)
    for role in (KVConnectorRole.WORKER, KVConnectorRole.SCHEDULER):
        caplog.clear()
        connector = KVConnectorFactory.create_connector(config, role, kv)
        (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("hbm.")]
        assert line.startswith("hbmd is not used for this engine: it has layers of MambaSpec")
        assert connector._courier is None
        if role == KVConnectorRole.WORKER:
            told = connector.get_handshake_metadata()
    connector.set_xfer_handshake_metadata_pp_aware({(0, 0): told})
    assert connector.get_num_new_matched_tokens(None, 0) == (0, False)
    assert connector._courier is None


@pytest.mark.parametrize("what", ["dtype", "quantization", "hf_overrides", "engine"])
def test_what_an_engine_computes_with_keeps_blocks_apart(model, what):
    from hbm.vllm.geometry import geometry
    from toy_vllm import _config, _kv_config

    config = _config(model, 1, 16, {})
    first = geometry(config, _kv_config(16, None), "", None)
    if what == "engine":  # of weights that are known it does not matter which one it is
        config.kv_transfer_config.engine_id = "another"
        assert geometry(config, _kv_config(16, None), "", None) == first
        config.model_config.model = "of no folder"
        second = geometry(config, _kv_config(16, None), "", None)
        config.kv_transfer_config.engine_id = "a third"
        first = geometry(config, _kv_config(16, None), "", None)
    else:
        value = {"dtype": "bfloat16", "quantization": "fp8", "hf_overrides": {"rope_theta": 1}}
        setattr(config.model_config, what, value[what])
        second = geometry(config, _kv_config(16, None), "", None)
    assert first.namespaces != second.namespaces


def test_bad_option_is_refused(daemon, model):
    with pytest.raises(ValueError, match="store_bytes"):
        engine(model, daemon, store_bytes="much")


def test_nothing_is_left_open(daemon, model):
    def count():
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    filled(model, daemon)
    before = count()
    for _ in range(2):
        filled(model, daemon)
    deadline = time.monotonic() + WAIT_S
    while any(now > then for now, then in zip(count(), before)):
        assert time.monotonic() < deadline, (count(), before)
        time.sleep(0.01)
