#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client of hbmd without libhbm: hbm-protocol(7) in Python's standard library.

It opens a session, gets device memory, fills it, stores it as blocks, wipes it, loads the blocks
again and compares every byte. Its device is a soft one, whose slabs are memory files that can be
mapped; on a GPU the descriptors are for cuMemImportFromShareableHandle() instead.

    examples/wire.py [SOCKET]

What it is not: a library. It has one request in flight at a time.
"""

import mmap
import os
import socket
import struct
import sys

MAGIC = 0x444D4248
VERSION = 2
MESSAGE_MAX = 131072
FDS_MAX = 253
NAME_BYTES = 64
NO_FENCE = 0xFFFFFFFF

HELLO, REGION_CREATE, REGION_DESTROY, COMMIT, DECOMMIT, NAMESPACE_OPEN = 1, 2, 3, 4, 5, 6
LOOKUP, STORE, LOAD, REMOVE = 8, 9, 10, 15
REPLY, MORE = 1, 2
OK, EXISTS = 0, 7
DRIVER_SOFT = 1
TIERS = ("none", "hbm", "ddr", "nvme")

# The structs of <hbm/wire.h>, in the host's byte order and with its alignment, which is what they
# have by themselves: "=" and every padding written out.
HEADER = struct.Struct("=IHHQiI")  # size, opcode, flags, id, status, zero
HELLO_BODY = struct.Struct(f"=IHH{NAME_BYTES}s")
HELLO_REPLY = struct.Struct("=IHHQ16sIIIIQ")
REGION_BODY = struct.Struct("=IIQQ")  # device, zero, address_space, slab; in the reply the region
RANGE = struct.Struct("=IIQQ")  # region, zero, offset, bytes
COUNT = struct.Struct("=II")
NAMESPACE_SPEC = struct.Struct(f"={NAME_BYTES}s{NAME_BYTES}s{NAME_BYTES}sQQ")  # model, layout, salt, weights, block_bytes
NAMESPACE_REPLY = struct.Struct("=IIQ16s")
KEYS_BODY = struct.Struct("=IIIIQ")  # ns, count, device, flags, deadline_us
BLOCKS_BODY = struct.Struct("=IIIIQIIQ")
BLOCK = struct.Struct("=16s16sIHH")  # key, parent, segments, tier, flags
RESULTS_BODY = struct.Struct("=IIQ")  # count, done, load_ns
RESULT = struct.Struct("=BBH")  # status, tier, zero

BLOCK_BYTES = 65536
BLOCKS = 16
SLAB = 2 << 20
NO_KEY = bytes(16)


class Refused(Exception):
    """The daemon refused a request: its status, and the reason that it gives."""


class Session:
    """A connection that has said HELLO."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)
        self.last_id = 0
        body = HELLO_BODY.pack(MAGIC, VERSION, VERSION, b"wire.py")
        reply, fds = self.ask(HELLO, body)
        # the fence page and the doorbell, for which this client has no use
        for fd in fds:
            os.close(fd)
        magic, version, _, self.number, self.boot_id, self.driver, self.devices, *_ = HELLO_REPLY.unpack_from(reply)
        if (magic, version) != (MAGIC, VERSION):
            raise Refused("this is not an hbmd of this version")

    def ask(self, opcode, body):
        """One request: the body and the descriptors of its reply, all its messages together."""
        self.last_id += 1
        self.socket.send(HEADER.pack(HEADER.size + len(body), opcode, 0, self.last_id, 0, 0) + body)
        bodies, fds = [], []
        while True:
            message, more, _, _ = socket.recv_fds(self.socket, MESSAGE_MAX, FDS_MAX, socket.MSG_CMSG_CLOEXEC)
            if not message:
                raise ConnectionError("the daemon has ended the session")
            fds += more
            size, answered, flags, ident, status, _ = HEADER.unpack_from(message)
            if size != len(message) or answered != opcode or ident != self.last_id or not flags & REPLY:
                raise ConnectionError("this is no reply to the request")
            if status != OK:
                reason = message[HEADER.size :].split(b"\0")[0].decode() or "no reason given"
                raise Refused(f"status {status}: {reason}")
            bodies.append(message[HEADER.size :])
            if not flags & MORE:
                return (bodies[0] if len(bodies) == 1 else bodies), fds

    def close(self):
        """Ends the session; everything that it has is freed."""
        self.socket.close()


class Region:
    """Device memory of a soft device, all of it committed and mapped."""

    def __init__(self, session, slabs):
        self.session = session
        body = REGION_BODY.pack(0, 0, slabs * SLAB, SLAB)
        reply, _ = session.ask(REGION_CREATE, body)
        self.number, _, address_space, slab = REGION_BODY.unpack_from(reply)
        everything = COUNT.pack(1, 0) + RANGE.pack(self.number, 0, 0, address_space)
        replies, fds = session.ask(COMMIT, everything)
        self.slabs = [None] * (address_space // slab)
        for reply in replies if isinstance(replies, list) else [replies]:
            count, _ = COUNT.unpack_from(reply)
            for i in range(count):
                _, _, offset, length = RANGE.unpack_from(reply, COUNT.size + i * RANGE.size)
                fd = fds.pop(0)
                self.slabs[offset // slab] = mmap.mmap(fd, length)
                os.close(fd)

    def write(self, offset, data):
        """Puts bytes that are within one slab."""
        self.slabs[offset // SLAB][offset % SLAB : offset % SLAB + len(data)] = data

    def read(self, offset, length):
        """Gets bytes that are within one slab."""
        return self.slabs[offset // SLAB][offset % SLAB : offset % SLAB + length]

    def destroy(self):
        """Unmaps it first, as the protocol asks."""
        for slab in self.slabs:
            slab.close()
        self.session.ask(REGION_DESTROY, struct.pack("=II", self.number, 0))


def open_namespace(session):
    """The number of a namespace of blocks of BLOCK_BYTES."""
    reply, _ = session.ask(NAMESPACE_OPEN, NAMESPACE_SPEC.pack(b"wire.py", b"bytes", b"", 0, BLOCK_BYTES))
    ns, *_ = NAMESPACE_REPLY.unpack_from(reply)
    return ns


def results_of(reply):
    """done, and a (status, tier) for each key or block."""
    count, done, _ = RESULTS_BODY.unpack_from(reply)
    results = [RESULT.unpack_from(reply, RESULTS_BODY.size + i * RESULT.size)[:2] for i in range(count)]
    return done, results


def name_keys(session, opcode, ns, keys):
    """LOOKUP, REMOVE and the like."""
    reply, _ = session.ask(opcode, KEYS_BODY.pack(ns, len(keys), 0, 0, 0) + b"".join(keys))
    return results_of(reply)


def move_blocks(session, opcode, ns, region, keys):
    """STORE or LOAD of blocks that lie one after the other in a region; those of a STORE are a chain."""
    blocks = b"".join(
        BLOCK.pack(key, keys[i - 1] if opcode == STORE and i > 0 else NO_KEY, 1, 0, 0) for i, key in enumerate(keys)
    )
    segments = b"".join(RANGE.pack(region.number, 0, i * BLOCK_BYTES, BLOCK_BYTES) for i in range(len(keys)))
    head = BLOCKS_BODY.pack(ns, len(keys), len(keys), NO_FENCE, 0, NO_FENCE, 0, 0)
    reply, _ = session.ask(opcode, head + blocks + segments)
    return results_of(reply)


def main():
    """Exits with 1 if a byte is wrong, or anything is refused."""
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HBM_SOCKET", "/run/hbmd/hbmd.sock")
    session = Session(path)
    if session.driver != DRIVER_SOFT:
        sys.exit("wire.py: this daemon has a GPU, whose memory only a driver can map")

    region = Region(session, BLOCKS * BLOCK_BYTES // SLAB + 1)
    ns = open_namespace(session)
    keys = [struct.pack("=QQ", 0x77697265, 1 + i) for i in range(BLOCKS)]
    contents = [bytes([1 + i]) * BLOCK_BYTES for i in range(BLOCKS)]

    for i, data in enumerate(contents):
        region.write(i * BLOCK_BYTES, data)
    _, stored = move_blocks(session, STORE, ns, region, keys)
    found, places = name_keys(session, LOOKUP, ns, keys)
    print(f"stored {sum(status in (OK, EXISTS) for status, _ in stored)} blocks, found {found} in a row,", end=" ")
    print(f"the first in {TIERS[places[0][1]]}")

    for i in range(BLOCKS):
        region.write(i * BLOCK_BYTES, bytes(BLOCK_BYTES))
    _, loaded = move_blocks(session, LOAD, ns, region, keys)
    wrong = sum(
        status != OK or region.read(i * BLOCK_BYTES, BLOCK_BYTES) != contents[i] for i, (status, _) in enumerate(loaded)
    )
    print(f"loaded {BLOCKS} blocks, {wrong} of them wrong")

    name_keys(session, REMOVE, ns, keys)
    region.destroy()
    session.close()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"wire.py: {error}")
