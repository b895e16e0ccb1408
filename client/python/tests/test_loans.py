# SPDX-License-Identifier: Apache-2.0
"""Loans: blocks that are read where they are, views that keep them, what is refused, who returns them."""

import asyncio
import ctypes
import gc
import os
import threading
import unittest

import hbm

from daemon import Daemon, DaemonTest, keys, pattern
from test_memory import Tensor, Versioned, api

BLOCK = 65536
SLAB = 2 << 20


class Loans(DaemonTest):
    SETTINGS = {"device.lend": "16MiB"}

    def stored(self, count, block_bytes=BLOCK):
        """A namespace with blocks of patterns, and their keys."""
        ns = self.namespace(block_bytes, ephemeral=True)
        self.assertEqual(
            ns.store(keys(count), [pattern(i, block_bytes) for i in range(count)]).wait(), [hbm.Status.OK] * count
        )
        return ns, keys(count)

    def on_loan(self):
        device, = self.connection.query(hbm.Query.DEVICES)
        return device["loans"]

    def test_they_are_read_where_they_are(self):
        ns, names = self.stored(4)
        loans = ns.borrow(names)
        self.assertEqual(self.on_loan(), 4)
        for i, loan in enumerate(loans):
            self.assertEqual((len(loan), loan.bytes, loan.device, loan.pieces, loan.closed), (BLOCK, BLOCK, 0, 1, False))
            self.assertTrue(loan.is_host)
            self.assertGreater(loan.address, 0)
            self.assertEqual(bytes(loan), pattern(i, BLOCK))
            with loan.view(8, 4) as view:
                self.assertTrue(view.readonly)
                self.assertEqual(view, pattern(i, BLOCK)[8:12])
            with memoryview(loan.array((2, 2), "int32", 4)) as numbers:
                self.assertTrue(numbers.readonly)
                self.assertEqual(numbers.tolist(), [[int.from_bytes(pattern(i, 4), "little", signed=True)] * 2] * 2)
            with self.assertRaises(TypeError):
                memoryview(loan)[0] = 1
        with hbm.Connection(self.daemon.socket) as other:  # has the same memory
            with other.namespace(self.id()[-60:], block_bytes=BLOCK, ephemeral=True) as same:
                theirs, = same.borrow(names[:1])
                self.assertEqual(bytes(theirs), pattern(0, BLOCK))
                self.assertEqual(self.on_loan(), 5)
        self.assertEqual(self.on_loan(), 4)
        ns.drop()
        self.assertEqual(bytes(loans[3]), pattern(3, BLOCK))  # whatever becomes of the block
        loans[0].close()
        loans[0].close()
        self.assertTrue(loans[0].closed)
        self.assertEqual(repr(loans[0]), "<hbm.Loan, returned>")
        self.assertEqual(self.on_loan(), 3)
        self.connection.return_loans([None, *loans, loans[1]])
        self.assertEqual((self.on_loan(), [loan.closed for loan in loans]), (0, [True] * 4))
        self.connection.return_loans([])

    def test_a_view_keeps_it(self):
        ns, names = self.stored(2)
        loan, other = ns.borrow(names)
        for see in (lambda: memoryview(loan), lambda: loan.view(0, 10), lambda: loan.array(4),
                    lambda: memoryview(loan.array((2, 2), "float32")),
                    lambda: loan.array(4).__dlpack__(max_version=(1, 0))):
            seen = see()
            for close in (loan.close, self.connection.close, lambda: self.connection.return_loans([other, loan])):
                with self.assertRaises(BufferError):
                    close()
            self.assertFalse(loan.closed or other.closed or self.connection.closed)
            del seen
        loan.close()
        view = other.view()
        del other, ns
        gc.collect()
        self.assertEqual((bytes(view), self.on_loan()), (pattern(1, BLOCK), 1))
        view.release()
        del view
        gc.collect()
        self.assertEqual(self.on_loan(), 0)

    def test_what_is_collected_is_returned(self):
        ns, names = self.stored(2)
        ticket = ns.submit_borrow(names)
        self.assertEqual(ticket.wait(), [hbm.Status.OK] * 2)
        loans = ticket.loans
        self.assertEqual([bytes(loan) for loan in ticket.loans], [bytes(loan) for loan in loans])
        del loans
        gc.collect()
        self.assertEqual(self.on_loan(), 2)  # the ticket has them
        del ticket
        gc.collect()
        self.assertEqual(self.on_loan(), 0)
        ns.submit_borrow(names)  # and is not waited for
        while self.connection.dispatch(None) == 0:
            pass
        self.assertEqual(self.on_loan(), 0)
        with hbm.Connection(self.daemon.socket) as other:
            left = other.namespace("left", block_bytes=BLOCK, ephemeral=True)
            left.store(names[:1], [pattern(0, BLOCK)]).wait()
            loan, = left.borrow(names[:1])
        self.assertEqual((loan.closed, self.on_loan()), (True, 0))
        for use in (lambda: memoryview(loan), lambda: loan.array(1), lambda: loan.address, lambda: loan.is_host):
            with self.assertRaises(RuntimeError):
                use()

    def test_awaited(self):
        ns, names = self.stored(3)

        async def borrow():
            ticket = ns.submit_borrow([*names, hbm.key("none")])
            return await ticket, ticket.loans

        statuses, loans = asyncio.run(borrow())
        self.assertEqual(statuses, [hbm.Status.OK] * 3 + [hbm.Status.MISS])
        self.assertIsNone(loans[3])
        self.assertEqual(bytes(loans[2]), pattern(2, BLOCK))
        self.assertEqual(ns.borrow([]), [])
        with self.assertRaises(RuntimeError):
            ns.touch(names).loans  # it has not ended, or is another request
        ended = ns.touch(names)
        ended.wait()
        with self.assertRaisesRegex(RuntimeError, "borrows"):
            ended.loans

    def test_as_a_tensor(self):
        ns, names = self.stored(1)
        loan, = ns.borrow(names)
        array = loan.array((4, 8), "bfloat16", 64)
        self.assertTrue(array.read_only)
        self.assertEqual(array.address, loan.address + 64)
        with self.assertRaises(BufferError):
            array.__dlpack__()  # which cannot say that it is read-only
        capsule = array.__dlpack__(max_version=(1, 0))
        at = api.PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        self.assertEqual(Versioned.from_address(at).flags & 1, 1)
        tensor = Tensor.from_address(at + ctypes.sizeof(Versioned))
        self.assertEqual((tensor.device_type, tensor.code, tensor.bits, tensor.ndim), (1, 4, 16, 2))
        self.assertEqual(ctypes.string_at(tensor.data, 4), pattern(0, 4))
        self.assertEqual(loan.__dlpack_device__(), (1, 0))

    def test_pieces_in_a_region(self):
        ns, names = self.stored(2, 2 * SLAB)
        with self.assertRaises(hbm.Refused) as refused:
            ns.borrow(names, piece=3)
        self.assertEqual(refused.exception.status, hbm.Status.INVALID)
        first, second = ns.borrow(names, piece=SLAB)
        self.assertEqual(first.pieces, 2)
        self.assertEqual(bytes(first), pattern(0, 2 * SLAB))
        with self.connection.region(4 * SLAB, commit=False) as region:
            region.share(second, SLAB, 0, SLAB)
            region.share(first, 0, SLAB)
            region.commit(3 * SLAB, SLAB)
            self.connection.return_loans([first, second])
            with memoryview(region) as view:  # a part of it is others' memory
                self.assertTrue(view.readonly)
                self.assertEqual(view[: 3 * SLAB], pattern(1, SLAB) + pattern(0, 2 * SLAB))
            self.assertTrue(region.array(4, offset=3 * SLAB - 4).read_only)
            self.assertTrue(region.view(3 * SLAB - 1, 2).readonly)
            self.assertFalse(region.view(3 * SLAB, SLAB).readonly)
            with self.assertRaises(hbm.Refused) as refused:
                ns.load(names[:1], hbm.Spans(region, [SLAB])).wait()
            self.assertEqual(refused.exception.status, hbm.Status.DENIED)
            with self.connection.region(SLAB, commit=False) as further:  # is read-only, too
                further.share(region, 0, 0, SLAB)
                self.assertTrue(further.view().readonly)
            region.decommit(SLAB, 2 * SLAB)
            region.commit(SLAB, 2 * SLAB)
            self.assertFalse(region.view(SLAB, 2 * SLAB).readonly)
            with self.assertRaises(RuntimeError):
                region.share(first)
        self.assertEqual(self.on_loan(), 0)

    def test_misuse(self):
        ns, names = self.stored(1)
        loan, = ns.borrow(names)
        ended = ns.submit_borrow(names)
        ended.wait()
        with hbm.Connection(self.daemon.socket) as other, other.region(SLAB, commit=False) as region:
            for kind, call in (
                (TypeError, lambda: hbm.Loan()),
                (TypeError, lambda: self.connection.return_loans([7])),
                (TypeError, lambda: self.connection.return_loans(7)),
                (TypeError, lambda: ended._loans(int)),
                (TypeError, lambda: ns.borrow(7)),
                (TypeError, lambda: ns.borrow(names, "0")),
                (ValueError, lambda: ns.borrow(names, -1)),
                (ValueError, lambda: ns.borrow(names, 1 << 32)),
                (ValueError, lambda: ns.borrow(names, piece=-1)),
                (ValueError, lambda: ns.borrow(b"short")),
                (ValueError, lambda: other.return_loans([loan])),
                (ValueError, lambda: region.share(loan)),
                (ValueError, lambda: loan.array(BLOCK + 1)),
                (ValueError, lambda: loan.array(1, offset=BLOCK)),
                (ValueError, lambda: loan.array(1, "float64", 4)),
                (ValueError, lambda: loan.view(0, BLOCK + 1)),
                (TypeError, lambda: loan.array("a")),
                (TypeError, lambda: self.connection.region(SLAB, commit=False).share(7, 0, 0, SLAB)),
            ):
                with self.assertRaises(kind):
                    call()
        for call, status in (
            (lambda: ns.borrow(names, 9), hbm.Status.INVALID),
            (lambda: ns.borrow(keys(254)), hbm.Status.LIMIT),
            (lambda: self.connection.region(SLAB, commit=False).share(loan, 0, 0, SLAB), hbm.Status.INVALID),
        ):
            with self.assertRaises(hbm.Refused) as refused:
                call()
            self.assertEqual(refused.exception.status, status)
        ns.close()
        with self.assertRaises(RuntimeError):
            ns.borrow(names)
        self.assertEqual(bytes(loan), pattern(0, BLOCK))

    def test_by_threads(self):
        ns, names = self.stored(8)
        wrong = []

        def work(seed):
            for round_ in range(20):
                i = (seed + round_) % 8
                loan, = ns.borrow(names[i : i + 1])
                if bytes(loan) != pattern(i, BLOCK):
                    wrong.append(i)
                if round_ % 2:
                    loan.close()

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        self.assertEqual((wrong, self.on_loan()), ([], 0))

    def test_in_a_child(self):
        ns, names = self.stored(1)
        loan, = ns.borrow(names)
        child = os.fork()
        if child == 0:
            try:
                loan.array(1)
            except hbm.Error:
                os._exit(0)
            finally:
                os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(bytes(loan), pattern(0, BLOCK))


class NoLoans(unittest.TestCase):
    def test_the_daemon_may_lend_nothing(self):
        daemon = Daemon()
        self.addCleanup(daemon.free)
        with hbm.Connection(daemon.start().socket) as connection:
            ns = connection.namespace("m", block_bytes=BLOCK)
            with self.assertRaises(hbm.Refused) as refused:
                ns.borrow(keys(1))
            self.assertEqual(refused.exception.status, hbm.Status.UNSUPPORTED)

    def test_the_daemon_is_killed(self):
        daemon = Daemon(**{"device.lend": "8MiB"})
        self.addCleanup(daemon.free)
        with hbm.Connection(daemon.start().socket, reconnect_ms=0xFFFFFFFF) as connection:
            ns = connection.namespace("m", block_bytes=BLOCK)
            ns.store(keys(1), [pattern(1, BLOCK)]).wait()
            loan, kept = ns.borrow(keys(1) * 2)
            view = memoryview(kept)
            daemon.kill()
            self.assertEqual(bytes(loan), pattern(1, BLOCK))  # it is mapped here
            with self.assertRaises(hbm.ConnectionLost):
                ns.borrow(keys(1))
            with self.assertRaises(hbm.ConnectionLost):
                loan.close()
            self.assertTrue(loan.closed)
            loan.close()
            self.assertEqual(bytes(view), pattern(1, BLOCK))
            view.release()


if __name__ == "__main__":
    unittest.main()
