# SPDX-License-Identifier: Apache-2.0
"""Tickets: waiting, callbacks, cancelling; in threads and in the loop of asyncio."""

import asyncio
import ctypes
import select
import signal
import threading
import unittest
import unittest.mock

import hbm
from hbm import Status

from daemon import Daemon, DaemonTest, keys, pattern
from test_memory import Tensor

BLOCK = 65536
READY, DONE, FAILED = 7, 8, 9


class Tickets(DaemonTest):
    def setUp(self):
        super().setUp()
        self.ns = self.namespace(BLOCK, ephemeral=True)
        self.keys = keys(4)
        self.region = self.connection.region(8 * BLOCK)
        self.spans = hbm.Spans(self.region, range(0, 4 * BLOCK, BLOCK))
        self.ready = self.connection.fence(READY)
        self.ready.signal(0)
        self.ns.store(self.keys, self.spans).wait()

    def held(self, value=1):
        """A load that waits for the fence."""
        return self.ns.load(self.keys, self.spans, ready=self.ready.at(value))

    def test_it_waits_for_its_fence(self):
        done = self.connection.fence(DONE)
        ticket = self.ns.load(self.keys, self.spans, ready=self.ready.at(1), done=done.at(9))
        self.assertFalse(ticket.done())
        with self.assertRaises(RuntimeError):
            ticket.results
        with self.assertRaises(TimeoutError):
            ticket.wait(0.01)
        self.assertNotEqual(done.value, 9)
        self.ready.signal(1)
        self.assertEqual(ticket.wait(), [Status.OK] * 4)
        self.assertEqual(done.value, 9)
        self.assertTrue(ticket.done())
        self.assertEqual(ticket.results, ticket.wait(0))
        self.assertEqual(len(ticket), 4)

    def test_cancel(self):
        ticket = self.held()
        self.assertTrue(ticket.cancel())
        with self.assertRaises(hbm.Refused) as refused:
            ticket.wait()
        self.assertEqual(refused.exception.status, Status.CANCELLED)
        self.assertTrue(ticket.cancel())  # it was
        over = self.ns.load(self.keys, self.spans)
        over.wait()
        self.assertFalse(over.cancel())

    def test_memory_in_no_region_may_wait_and_be_cancelled(self):
        buffers = [bytearray(BLOCK) for _ in self.keys]
        ticket = self.ns.load(self.keys, buffers, ready=self.ready.at(1))
        with self.assertRaises(TimeoutError):
            ticket.wait(0.01)
        with self.assertRaises(BufferError):
            buffers[0].append(1)  # it is in use
        self.assertTrue(ticket.cancel())
        with self.assertRaises(hbm.Refused):
            ticket.wait()
        buffers[0].append(1)

    def test_callbacks(self):
        told = []
        ticket = self.held()
        ticket.add_done_callback(lambda t: told.append((t is ticket, t.results)))
        self.connection.ping()
        self.assertEqual(told, [])
        self.ready.signal(1)
        while not told:
            self.assertGreaterEqual(self.connection.dispatch(5), 0)
        self.assertEqual(told, [(True, [Status.OK] * 4)])
        ticket.add_done_callback(lambda t: told.append("now"))
        self.assertEqual(told[1:], ["now"])

    def test_a_callback_outlives_its_ticket(self):
        told = []
        self.held().add_done_callback(told.append)
        self.ready.signal(1)
        while not told:
            self.connection.dispatch(5)
        self.assertEqual(told[0].results, [Status.OK] * 4)

    def test_what_a_callback_raises_is_not_lost(self):
        caught = []
        with unittest.mock.patch("sys.unraisablehook", caught.append):
            ticket = self.held()
            ticket.add_done_callback(lambda t: 1 // 0)
            self.ready.signal(1)
            ticket.wait()
            ticket.add_done_callback(lambda t: 1 // 0)  # it is called now
        self.assertEqual([each.exc_type for each in caught], [ZeroDivisionError] * 2)

    def test_a_callback_that_comes_while_it_ends(self):
        told = []
        memory = (ctypes.c_ubyte * BLOCK)()
        end = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(lambda _: ticket.add_done_callback(told.append))
        lengths = (ctypes.c_int64 * 1)(BLOCK)
        tensor = Tensor(ctypes.addressof(memory), 1, 0, 1, 1, 8, 1, lengths)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

        class Memory:
            def __dlpack__(self):
                return new(ctypes.addressof(tensor), b"dltensor", ctypes.cast(end, ctypes.c_void_p))

        ticket = self.ns.load(self.keys[:1], [Memory()])
        ticket.wait()  # gives the memory back, and then calls who wants to know
        self.assertEqual(told, [ticket])

    def test_fences_of_memory_that_is_in_no_region(self):
        done, failed = self.connection.fence(DONE), self.connection.fence(FAILED)
        names = self.keys + keys(2, "none")
        for which, count in ((names, 2), (self.keys, 0)):
            failed.signal(77)
            buffers = [bytearray(BLOCK) for _ in which]
            self.ns.load(which, buffers, done=done.at(done.value + 1, failed=FAILED)).wait()
            self.assertEqual(failed.value, count)

    def test_the_descriptor_says_when(self):
        ticket = self.held()
        ticket.done()
        self.assertEqual(select.select([self.connection], [], [], 0)[0], [])
        self.ready.signal(1)
        self.assertEqual(select.select([self.connection], [], [], 30)[0], [self.connection])
        self.assertEqual(ticket.wait(), [Status.OK] * 4)

    def test_threads_wait_for_different_tickets(self):
        fences = [self.connection.fence(20 + i) for i in range(4)]
        results = {}

        def wait(i):
            ticket = self.ns.load(self.keys, self.spans, ready=fences[i].at(1))
            results[i] = ticket.wait()

        threads = [threading.Thread(target=wait, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        # others go on meanwhile, and each is woken by its own
        for i in reversed(range(4)):
            self.assertEqual(self.ns.lookup(self.keys).resident, 4)
            fences[i].signal(1)
            threads[i].join(30)
            self.assertEqual(results[i], [Status.OK] * 4)

    def test_a_thread_is_woken_by_the_one_that_reads_its_reply(self):
        ticket = self.held()
        thread = threading.Thread(target=lambda: ticket.wait())
        thread.start()
        self.ready.signal(1)
        while not ticket.done():  # any thread may hear it
            pass
        thread.join(30)
        self.assertFalse(thread.is_alive())

    def test_closing_wakes_who_waits(self):
        connection = hbm.Connection(self.daemon.socket)
        ns = connection.namespace("m", block_bytes=BLOCK, ephemeral=True)
        ticket = ns.load(self.keys, [bytearray(BLOCK) for _ in self.keys], ready=(READY, 1))
        raised = []

        def run(call):
            try:
                call()
            except Exception as error:
                raised.append(type(error))

        threads = [threading.Thread(target=run, args=(call,)) for call in (ticket.wait, lambda: connection.dispatch(None))]
        for thread in threads:
            thread.start()
        connection.close()
        for thread in threads:
            thread.join(30)
            self.assertFalse(thread.is_alive())
        self.assertIn(hbm.Refused, raised)

    def test_many_threads_use_one_connection(self):
        failed = []

        def work(number):
            try:
                mine = keys(4, f"thread {number}")
                data = [pattern(number * 10 + i, BLOCK) for i in range(4)]
                for _ in range(10):
                    buffers = [bytearray(BLOCK) for _ in mine]
                    self.ns.store(mine, data).wait()
                    if set(self.ns.load(mine, buffers).wait()) == {Status.OK} and buffers != data:
                        failed.append(number)
            except Exception as error:  # of a thread: shown by the test
                failed.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(failed, [])

    def test_a_signal_interrupts_a_wait(self):
        def interrupt(*_):
            raise InterruptedError

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        ticket = self.held()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with self.assertRaises(InterruptedError):
            ticket.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with self.assertRaises(InterruptedError):
            self.connection.dispatch(None)
        self.ready.signal(1)
        self.assertEqual(ticket.wait(), [Status.OK] * 4)

    def test_more_than_may_be_in_flight(self):
        limit = self.connection.info.requests_in_flight
        tickets = [self.ns.load(self.keys, self.spans) for _ in range(3 * limit)]
        for ticket in tickets:
            self.assertEqual(ticket.wait(), [Status.OK] * 4)


class Loops(DaemonTest):
    def setUp(self):
        super().setUp()
        self.ns = self.namespace(BLOCK, ephemeral=True)
        self.keys = keys(4)
        self.data = [pattern(i, BLOCK) for i in range(4)]
        self.ns.store(self.keys, self.data).wait()

    def load(self, value=0):
        buffers = [bytearray(BLOCK) for _ in self.keys]
        ready = (READY, value) if value else None
        return self.ns.load(self.keys, buffers, ready=ready), buffers

    def test_await(self):
        async def run():
            ticket, buffers = self.load()
            self.assertEqual(await ticket, [Status.OK] * 4)
            self.assertEqual(await ticket, [Status.OK] * 4)  # once more
            self.assertEqual(buffers, self.data)
            with self.assertRaises(hbm.Refused):
                held, _ = self.load(1)
                held.cancel()
                await held

        asyncio.run(run())
        asyncio.run(run())  # another loop

    def test_many_at_once(self):
        async def one():
            ticket, buffers = self.load()
            await ticket
            return buffers

        async def run():
            for buffers in await asyncio.gather(*(one() for _ in range(50))):
                self.assertEqual(buffers, self.data)

        asyncio.run(run())

    def test_the_loop_goes_on_meanwhile(self):
        fence = self.connection.fence(READY)
        fence.signal(0)

        async def run():
            ticket, _ = self.load(1)
            asyncio.get_running_loop().call_later(0.01, fence.signal, 1)
            return await asyncio.wait_for(self.wrap(ticket), 30)

        self.assertEqual(asyncio.run(run()), [Status.OK] * 4)

    async def wrap(self, ticket):
        return await ticket

    def test_giving_up(self):
        fence = self.connection.fence(READY)
        fence.signal(0)

        async def run():
            ticket, _ = self.load(1)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(self.wrap(ticket), 0.01)
            self.assertFalse(ticket.done())
            fence.signal(1)
            return await ticket

        self.assertEqual(asyncio.run(run()), [Status.OK] * 4)

    def test_a_reply_that_another_call_reads(self):
        fence = self.connection.fence(READY)
        fence.signal(0)

        async def run():
            ticket, _ = self.load(1)
            task = asyncio.ensure_future(self.wrap(ticket))
            await asyncio.sleep(0)
            fence.signal(1)
            while not ticket.done():  # not by way of the loop
                pass
            return await asyncio.wait_for(task, 30)

        self.assertEqual(asyncio.run(run()), [Status.OK] * 4)

    def test_another_connection_whose_descriptor_has_the_same_number(self):
        async def run():
            connection = hbm.Connection(self.daemon.socket)
            fence = connection.fence(READY)
            fence.signal(0)
            space = connection.namespace("m", block_bytes=BLOCK, ephemeral=True)
            buffers = [bytearray(BLOCK) for _ in self.keys]
            task = asyncio.ensure_future(self.wrap(space.load(self.keys, buffers, ready=fence.at(1))))
            await asyncio.sleep(0)
            number = connection.fileno()
            connection.close()
            self.assertIsInstance((await asyncio.gather(task, return_exceptions=True))[0], hbm.Error)

            with hbm.Connection(self.daemon.socket) as other:
                self.assertEqual(other.fileno(), number)
                fence = other.fence(READY)
                fence.signal(0)
                space = other.namespace("m", block_bytes=BLOCK, ephemeral=True)
                ticket = space.load(self.keys, buffers, ready=fence.at(1))
                asyncio.get_running_loop().call_later(0.01, fence.signal, 1)
                self.assertEqual(await asyncio.wait_for(self.wrap(ticket), 30), [Status.MISS] * 4)

        asyncio.run(run())

    def test_a_close_that_is_refused(self):
        fence = self.connection.fence(READY)
        fence.signal(0)
        region = self.connection.region(BLOCK)

        async def run():
            ticket, _ = self.load(1)
            task = asyncio.ensure_future(self.wrap(ticket))
            await asyncio.sleep(0)
            with region.view(), self.assertRaises(BufferError):
                self.connection.close()
            asyncio.get_running_loop().call_later(0.01, fence.signal, 1)
            return await asyncio.wait_for(task, 30)

        self.assertEqual(asyncio.run(run()), [Status.OK] * 4)


class Losses(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.free)
        self.daemon.start()

    def test_the_daemon_is_killed(self):
        with hbm.Connection(self.daemon.socket) as connection:
            ns = connection.namespace("m", block_bytes=BLOCK)
            region = connection.region(4 * BLOCK)
            spans = hbm.Spans(region, [0])
            tickets = [ns.load(keys(1), spans, ready=(READY, 1)), ns.load(keys(1), [bytearray(BLOCK)], ready=(READY, 1))]
            told = []
            tickets[0].add_done_callback(told.append)
            threads = [threading.Thread(target=self.wait, args=(ticket,)) for ticket in tickets]
            for thread in threads:
                thread.start()
            self.daemon.kill()
            for thread in threads:
                thread.join(30)
                self.assertFalse(thread.is_alive())
            self.assertEqual(told, tickets[:1])
            for call in (connection.dispatch, lambda: connection.dispatch(None), lambda: ns.lookup(keys(1)), lambda: ns.load(keys(1), spans), lambda: connection.region(BLOCK),
                         connection.ping, ns.drop):
                with self.assertRaises(hbm.ConnectionLost):
                    call()
            with region.view() as bytes_:  # it stays mapped until the connection is closed
                bytes_[0] = 1
            with self.assertRaises(hbm.ConnectionLost):
                asyncio.run(self.wrap(tickets[0]))
        with self.assertRaises(hbm.ConnectionLost):
            hbm.Connection(self.daemon.socket)

    def wait(self, ticket):
        try:
            ticket.wait()
        except hbm.ConnectionLost:
            pass

    async def wrap(self, ticket):
        return await ticket


if __name__ == "__main__":
    unittest.main()
