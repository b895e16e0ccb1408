# SPDX-License-Identifier: Apache-2.0
"""Misuse is an exception, and never a crash: one by one, in any order, after fork()."""

import errno
import gc
import os
import random
import unittest

import hbm

from daemon import DaemonTest, keys

BLOCK = 65536
STEPS = 1500


class Misuse(DaemonTest):
    def setUp(self):
        super().setUp()
        self.ns = self.namespace(BLOCK, ephemeral=True)
        self.region = self.connection.region(4 * BLOCK)
        self.spans = hbm.Spans(self.region, [0, BLOCK])

    def expect(self, kind, *calls):
        for i, call in enumerate(calls):
            with self.subTest(i), self.assertRaises(kind):
                call()

    def test_wrong_values(self):
        ns, region = self.ns, self.region
        self.expect(
            ValueError,
            lambda: ns.lookup(b"short"),
            lambda: ns.lookup([b"short"]),
            lambda: ns.load(keys(2), hbm.Spans(region, [0])),
            lambda: ns.load(keys(1), hbm.Spans(region, [4 << 20])),
            lambda: ns.load(keys(1), hbm.Spans(region, [0], BLOCK // 2)),
            lambda: ns.load(keys(1), [bytearray(BLOCK - 1)]),
            lambda: ns.load(keys(1), [[(region, 0, BLOCK - 1)]]),
            lambda: ns.load(keys(1), [[(region, 1 << 63, BLOCK)]]),
            lambda: ns.load(keys(2), [bytearray(BLOCK)]),
            lambda: ns.store(keys(2), self.spans, parents=keys(1)),
            lambda: ns.store(keys(2), self.spans, parents=b"x" * 16),
            lambda: ns.store(keys(1), [bytes(BLOCK)], ready=(1, 1)),
            lambda: ns.store(keys(2), self.spans, tier=9),
            lambda: ns.load(keys(2), self.spans, ready=(1 << 32, 1)),
            lambda: ns.load(keys(2), self.spans, ready=(1, -1)),
            lambda: hbm.Spans(region, [-1]),
            lambda: hbm.Spans(region, [1 << 64]),
            lambda: region.array((1 << 63, 0)),
            lambda: self.connection.attach("x", uid=1 << 32),
            lambda: self.connection.unpublish("x", uid=1 << 32),
            lambda: self.connection.fence(512),
            lambda: self.connection.fence(0).signal(-1),
            lambda: self.connection.dispatch(-1),
            lambda: self.connection.region(-1),
            lambda: self.connection.namespace("m", block_bytes=0),
            lambda: self.connection.namespace("m", block_bytes=-1),
            lambda: ns.load(keys(2), self.spans).wait(-1),
        )

    def test_wrong_types(self):
        ns, region = self.ns, self.region
        self.expect(
            TypeError,
            lambda: ns.lookup(7),
            lambda: ns.lookup(["0123456789abcdef"]),
            lambda: ns.load(keys(1), 7),
            lambda: ns.load(keys(1), [7]),
            lambda: ns.load(keys(1), [[7]]),
            lambda: ns.load(keys(1), [[(region, 0)]]),
            lambda: ns.load(keys(1), [[(7, 0, BLOCK)]]),
            lambda: ns.load(keys(2), [[(region, 0, BLOCK)], bytearray(BLOCK)]),
            lambda: ns.load(keys(2), self.spans, ready=7),
            lambda: ns.load(keys(2), self.spans, ready=(1, 1, 1)),
            lambda: ns.load(keys(2), self.spans, ready=("a", 1)),
            lambda: hbm.Spans(7, [0]),
            lambda: hbm.Spans(region, ["a"]),
            lambda: hbm.Spans(region),
            lambda: self.connection.region("a"),
            lambda: self.connection.namespace(7, block_bytes=BLOCK),
            lambda: self.connection.fence("a"),
            lambda: hbm.Connection(7),
            lambda: hbm.Region(7, 1, 0, 0, True),
            lambda: hbm.Namespace("m"),
            lambda: ns.load(keys(2), self.spans).add_done_callback(7),
            lambda: ns.load(keys(2), self.spans).wait("a"),
            lambda: hbm._native.use(int, int),
        )
        self.expect(BufferError, lambda: ns.load(keys(1), [bytes(BLOCK)]))  # it cannot be written

    def test_tickets_are_made_by_requests(self):
        with self.assertRaises(TypeError):
            hbm.Ticket()

    def test_of_another_connection(self):
        with hbm.Connection(self.daemon.socket) as other:
            ns = other.namespace("m", block_bytes=BLOCK, ephemeral=True)
            self.expect(
                ValueError,
                lambda: ns.load(keys(2), self.spans),
                lambda: ns.load(keys(1), [[(self.region, 0, BLOCK)]]),
            )

    def test_refusals(self):
        for call, status in (
            (lambda: self.connection.region(1 << 40), hbm.Status.LIMIT),
            (lambda: self.connection.region(1 << 20, device=9), hbm.Status.INVALID),
            (lambda: self.connection.region(1 << 20, slab=5), hbm.Status.INVALID),
            (lambda: self.connection.namespace("m" * 64, block_bytes=BLOCK), hbm.Status.INVALID),
            (lambda: self.connection.attach("nothing"), hbm.Status.NOT_FOUND),
            (lambda: self.ns.load(keys(2), self.spans, done=(1 << 20, 1)), hbm.Status.INVALID),
        ):
            with self.assertRaises(hbm.Refused) as refused:
                call()
            self.assertEqual(refused.exception.status, status)
            self.assertIsNone(refused.exception.errno)
        with self.assertRaises(hbm.ConnectionLost) as lost:
            hbm.Connection(os.path.join(self.daemon.folder, "nothing"))
        self.assertIsNotNone(lost.exception.errno)
        self.assertIsNone(lost.exception.status)

    def test_a_file_that_is_missing_is_no_lost_connection(self):
        """As the soft driver's library, which a region's call opens."""
        error = hbm.errors.make_error(-errno.ENOENT, "no libhbmsoft.so")
        self.assertIsInstance(error, hbm.Error)
        self.assertNotIsInstance(error, hbm.ConnectionLost)

    def test_closed(self):
        ticket = self.ns.load(keys(2), self.spans)
        fence = self.connection.fence(1)
        self.region.view(0, 1).release()
        ticket.wait()
        self.region.close()
        self.region.close()
        self.expect(
            RuntimeError,
            lambda: self.region.address,
            lambda: self.region.view(0, 1),
            lambda: memoryview(self.region),
            lambda: self.region.array(1),
            lambda: self.region.commit(0, 1),
            lambda: self.region.publish("a", 0, 1),
            lambda: self.ns.load(keys(2), self.spans),
        )
        self.ns.close()
        self.ns.close()
        self.expect(RuntimeError, lambda: self.ns.lookup(keys(1)), lambda: self.ns.store([], []), self.ns.drop)
        self.connection.close()
        self.connection.close()
        self.expect(
            RuntimeError,
            self.connection.fileno,
            self.connection.dispatch,
            self.connection.ping,
            lambda: self.connection.region(BLOCK),
            lambda: self.connection.namespace("m", block_bytes=BLOCK),
            lambda: self.connection.fence(1),
            lambda: fence.value,
            lambda: fence.signal(1),
        )
        self.assertEqual(ticket.wait(), [hbm.Status.MISS] * 2)

    def test_closed_with_tickets_in_flight(self):
        connection = hbm.Connection(self.daemon.socket)
        ns = connection.namespace("m", block_bytes=BLOCK, ephemeral=True)
        region = connection.region(BLOCK)
        buffers = [bytearray(BLOCK)]
        tickets = [ns.load(keys(1), hbm.Spans(region, [0]), ready=(1, 1)), ns.load(keys(1), buffers, ready=(1, 1))]
        told = []
        for ticket in tickets:
            ticket.add_done_callback(told.append)
        ns.close()
        connection.close()
        self.assertEqual(told, tickets)
        for ticket in tickets:
            self.assertTrue(ticket.done())
            with self.assertRaises(hbm.Refused) as refused:
                ticket.wait()
            self.assertEqual(refused.exception.status, hbm.Status.CANCELLED)
        buffers[0].append(1)

    def test_fences_that_do_not_exist(self):
        for where in (self.spans, [bytearray(BLOCK), bytearray(BLOCK)]):
            for done in ((512, 1), (7, 1, 512), (7, 1, 7)):
                with self.subTest(done=done), self.assertRaises(hbm.Refused) as refused:
                    self.ns.load(keys(2), where, done=done).wait()
                self.assertEqual(refused.exception.status, hbm.Status.INVALID)

    def test_closed_by_a_callback_meanwhile(self):
        calls = (
            lambda connection: connection.region(BLOCK),
            lambda connection: connection.pool("layers=1 heads=1 dim=16 bytes=2 order=layer max=4096"),
            lambda connection: connection.namespace("m", block_bytes=BLOCK, ephemeral=True).lookup(keys(1)),
        )
        for call in calls:
            connection = hbm.Connection(self.daemon.socket)
            ticket = connection.namespace("m", block_bytes=BLOCK, ephemeral=True).touch(keys(1))
            ticket.add_done_callback(lambda _: connection.close())
            with self.assertRaises(RuntimeError):  # it hears the ticket's reply before its own
                call(connection)

    def test_a_namespace_that_is_open_twice(self):
        other = self.namespace(BLOCK, ephemeral=True)
        self.assertEqual(other.number, self.ns.number)
        self.ns.close()
        other.store(keys(1), [b"o" * BLOCK]).wait()
        self.assertEqual(other.lookup(keys(1)).resident, 1)
        other.close()

    def test_a_namespace_is_closed_behind_its_requests(self):
        buffers = [[bytearray(BLOCK)] for _ in range(2)]
        self.connection.fence(1).signal(0)
        ticket = self.ns.load(keys(1), buffers[0], ready=(1, 1))
        self.ns.close()
        other = self.namespace(BLOCK, salt="other", ephemeral=True)
        other.store(keys(1), [b"o" * BLOCK]).wait()
        self.connection.fence(1).signal(1)
        self.assertEqual(ticket.wait(), [hbm.Status.MISS])

    def test_dropped_in_flight(self):
        for _ in range(3):
            connection = hbm.Connection(self.daemon.socket)
            ns = connection.namespace("m", block_bytes=BLOCK, ephemeral=True)
            ns.load(keys(1), hbm.Spans(connection.region(BLOCK), [0]), ready=(1, 1))
            ns.load(keys(1), [bytearray(BLOCK)], ready=(1, 1))
            del connection, ns
        gc.collect()
        self.assertNotIn("not balance", self.daemon.verify())

    def test_a_child(self):
        self.connection.fence(1).signal(0)
        ticket = self.ns.load(keys(2), self.spans, ready=(1, 1))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = self.in_child(ticket)
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.connection.fence(1).signal(1)
        self.assertEqual(ticket.wait(), [hbm.Status.MISS] * 2)

    def in_child(self, ticket):
        for call in (self.connection.ping, lambda: self.ns.lookup(keys(1)), ticket.wait, ticket.cancel,
                     lambda: self.connection.fence(1), self.region.close, self.connection.dispatch,
                     lambda: self.connection.region(BLOCK)):
            try:
                call()
                return 2
            except (hbm.Error, BufferError):
                pass
        self.connection.close()
        with hbm.Connection(self.daemon.socket) as mine:
            mine.ping()
        del self.ns, self.region, self.spans, ticket
        gc.collect()
        return 0

    def test_a_mutation_while_arguments_are_read(self):
        region, lists = self.region, []

        class Evil:
            def __index__(self):
                lists[0].clear()
                region.close()
                return 0

        lists.append([(region, Evil(), BLOCK), (region, 0, 0)])
        self.expect((IndexError, ValueError, RuntimeError), lambda: self.ns.load(keys(1), [lists[0]]))
        self.assertTrue(region.closed)

    def test_any_sequence_of_calls(self):
        seed = int(os.environ.get("HBM_TEST_SEED") or random.SystemRandom().getrandbits(32))
        with self.subTest(seed=seed):
            print(f"seed {seed}", flush=True)
            Play(self.daemon.socket, random.Random(seed)).run(STEPS)


class Play:
    """Calls at random, on objects that are open, closed, dropped, or of another connection."""

    EXPECTED = (hbm.Error, ValueError, TypeError, RuntimeError, BufferError, TimeoutError, MemoryError, IndexError)

    def __init__(self, socket, random_):
        self.socket, self.random = socket, random_
        self.connections, self.regions, self.namespaces, self.tickets, self.views = [], [], [], [], []
        self.pools, self.sequences = [], []
        self.things = [self.connections, self.regions, self.namespaces, self.tickets, self.views, self.pools,
                       self.sequences]

    def run(self, steps):
        self.connect()
        calls = [name for name in dir(self) if name.startswith("do_")]
        for _ in range(steps):
            name = self.random.choice(calls)
            if name.startswith("do_close") and self.random.randrange(6):
                continue
            try:
                getattr(self, name)()
            except self.EXPECTED:
                pass
        for things in self.random.sample(self.things, len(self.things)):
            things.clear()
        gc.collect()

    def connect(self):
        self.connections.append(hbm.Connection(self.socket, name="play"))

    def any(self, things):
        """One of them, most of the time one that is not closed. IndexError: there is none."""
        open_ = [thing for thing in things if not getattr(thing, "closed", False)]
        return self.random.choice(open_ if open_ and self.random.randrange(10) else things)

    def number(self):
        odd = [1, 2, 4096, -1, 1 << 63, 1 << 64, "a", None, 0.5]
        return self.random.choice([0, BLOCK, 2 << 20, 4 << 20] if self.random.randrange(3) else odd)

    def keep(self, things, thing, most=6):
        things.append(thing)
        if len(things) > most:
            del things[self.random.randrange(len(things))]

    def where(self, count):
        kind = self.random.randrange(5)
        if kind == 0:
            return [bytearray(self.random.choice([BLOCK, BLOCK, 5])) for _ in range(count)]
        if kind == 1:
            return [[(self.any(self.regions), self.number(), BLOCK)] for _ in range(count)]
        if kind == 2:
            return self.number()
        if kind == 3:
            return [self.any(self.views) for _ in range(count)]
        return hbm.Spans(self.any(self.regions), [self.random.randrange(32) * BLOCK for _ in range(count)])

    def do_connect(self):
        if len(self.connections) < 3:
            self.connect()

    def do_close_connection(self):
        connection = self.any(self.connections)
        connection.close()
        self.connections.remove(connection)
        self.do_connect()

    def do_dispatch(self):
        self.any(self.connections).dispatch(self.random.choice([0, 0.001, -1, "a"]))

    def do_region(self):
        commit = self.random.randrange(3) > 0
        self.keep(self.regions, self.any(self.connections).region(self.random.choice([2 << 20, self.number()]), commit=commit))

    def do_commit(self):
        self.any(self.regions).commit(self.number(), self.number())

    def do_decommit(self):
        self.any(self.regions).decommit(self.number(), self.number())

    def do_close_region(self):
        self.any(self.regions).close()

    def do_view(self):
        region = self.any(self.regions)
        view = self.random.choice([lambda: memoryview(region), lambda: region.view(self.number(), BLOCK),
                                   lambda: region.array((self.number(), 2), "uint16"), lambda: region.array(4).__dlpack__()])()
        self.keep(self.views, view)

    def do_touch_view(self):
        view = self.any(self.views)
        with memoryview(view) as bytes_:
            if not bytes_.readonly and bytes_.ndim == 1 and len(bytes_):
                bytes_[self.random.randrange(len(bytes_))] = self.random.randrange(256)

    def do_drop_view(self):
        if self.views:
            del self.views[self.random.randrange(len(self.views))]

    def do_namespace(self):
        ns = self.any(self.connections).namespace(
            self.random.choice(["a", "b", "c"]), block_bytes=self.random.choice([BLOCK, BLOCK, BLOCK, self.number()]), ephemeral=True)
        self.keep(self.namespaces, ns, 4)

    def do_close_namespace(self):
        self.any(self.namespaces).close()

    def do_lookup(self):
        self.any(self.namespaces).lookup(keys(self.random.randrange(4)))

    def do_keys(self):
        ns = self.any(self.namespaces)
        call = self.random.choice([ns.touch, ns.pin, ns.unpin, ns.prefetch, ns.remove, lambda _: ns.drop(),
                                   lambda k: ns.move(k, hbm.Tier.DDR), lambda k: ns.retain(k, self.number())])
        made = call(keys(self.random.randrange(4)))
        if isinstance(made, hbm.Ticket):
            self.keep(self.tickets, made, 12)

    def do_store(self):
        count = self.random.randrange(5)
        ready = self.random.choice([None, None, None, (1, 1), 7])
        done = self.random.choice([None, (2, 3), (2, 3, 4), (600, 1)])
        self.keep(self.tickets, self.any(self.namespaces).store(keys(count), self.where(count), ready=ready, done=done), 12)

    def do_load(self):
        count = self.random.randrange(5)
        ready = self.random.choice([None, None, None, (1, 1), 7])
        self.keep(self.tickets, self.any(self.namespaces).load(keys(count), self.where(count), ready=ready), 12)

    def do_wait(self):
        self.any(self.tickets).wait(self.random.choice([0, 0.001, 0.005, -1, "a"]))

    def do_cancel(self):
        self.any(self.tickets).cancel()

    def do_callback(self):
        ticket = self.any(self.tickets)
        ticket.add_done_callback(lambda t: self.keep(self.tickets, t, 12))

    def do_signal(self):
        self.any(self.connections).fence(1).signal(self.random.randrange(2))

    def do_pool(self):
        layout = self.random.choice(["layers=2 heads=2 dim=16 bytes=4 order=layer max=100000"] * 3 + ["a"])
        self.keep(self.pools, self.any(self.connections).pool(layout, max_sequences=self.random.choice([1, 4, 4, 0])), 2)

    def do_close_pool(self):
        self.any(self.pools).close()

    def do_sequence(self):
        self.keep(self.sequences, self.any(self.pools).open(expected=self.random.choice([0, 0, 100, -1])))

    def do_step(self):
        count = self.random.randrange(1, 3)
        sequences = [self.any(self.sequences) for _ in range(count)]
        pool = self.random.choice([sequences[0].pool, self.any(self.pools)])
        pool.step(sequences, [self.random.choice([1, 10, 5000, 90000, 1 << 40]) for _ in range(count)])

    def do_change(self):
        sequence, other = self.any(self.sequences), self.any(self.sequences)
        self.random.choice([
            lambda: sequence.truncate(self.random.randrange(20)), lambda: sequence.slide(self.random.randrange(20)),
            lambda: sequence.suspend(self.random.choice(list(hbm.Tier))), sequence.resume, sequence.close,
            lambda: self.keep(self.sequences, sequence.fork(self.random.randrange(3))[0]),
            lambda: sequence.pool.reorder([sequence, other], [1, 0]),
            lambda: sequence.pool.prefetch([sequence, other], hbm.Tier.DDR),
            lambda: sequence.save("name", hbm.Space("m")),
            lambda: self.keep(self.sequences, sequence.pool.restore("name", hbm.Space("m"))),
            lambda: sequence.pool.drop("name", hbm.Space("m")), lambda: sequence.pool.event(),
        ])()

    def do_see(self):
        sequence = self.any(self.sequences)
        view = self.random.choice([sequence.keys, sequence.values])(
            self.random.randrange(3), self.random.choice(["float32", "int32", "uint8"]), self.random.choice([0, 0, 1, 1 << 50]))
        self.keep(self.views, view)
        with memoryview(view) as numbers:
            if numbers.shape[0]:
                numbers[-1, -1, -1] = 1

    def do_drop(self):
        things = self.any(self.things[1:])
        things.remove(self.any(things))

    def do_collect(self):
        if self.random.randrange(20) == 0:
            gc.collect()


if __name__ == "__main__":
    unittest.main()
