# SPDX-License-Identifier: Apache-2.0
"""A daemon of one's own for a test: hbmd on a soft device, in a folder that goes with it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import hbm

BUILD = os.path.abspath(os.environ.get("HBM_BUILD", "build"))
os.environ.setdefault("HBM_SOFT_DRIVER", os.path.join(BUILD, "libhbmsoft.so"))

SETTINGS = {
    "hbmd.driver": "soft", "soft.memory": "256MiB", "device.memory": "192MiB", "device.cache": "16MiB",
    "device.headroom": "8MiB", "device.slab": "2MiB", "ddr.size": "32MiB", "ddr.headroom": "8MiB",
    "ddr.staging": "8MiB", "nvme.size": "64MiB", "nvme.behind_ms": "0", "hbmd.checksum": "always",
}
WAIT_S = 30


class Daemon:
    """It runs from start() to stop() or kill(); the folder is removed by free()."""

    def __init__(self, **settings):
        self.folder = tempfile.mkdtemp(prefix="hbmd-test.", dir="/tmp")  # a socket's path is short
        self.socket = os.path.join(self.folder, "sock")
        self.settings = {
            **SETTINGS, "hbmd.socket": self.socket, "hbmd.state_dir": os.path.join(self.folder, "state"),
            "nvme.path": os.path.join(self.folder, "nvme"),
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        self.process = None

    def start(self):
        command = [os.path.join(BUILD, "hbmd"), "--config", "/dev/null"]
        for name, value in self.settings.items():
            command += ["--set", f"{name}={value}"]
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + WAIT_S
        while True:
            status, said = self.ctl("--json", "status")
            if status == 0 and '"running"' in said:  # all tiers are in service
                return self
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError("hbmd does not start:\n" + self.log()) from None
            time.sleep(0.005)

    def log(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            return log.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def kill(self):
        self.process.kill()
        self.process.wait(WAIT_S)

    def free(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def ctl(self, *arguments):
        """hbmctl: its exit status, and what it says."""
        done = subprocess.run(
            [os.path.join(BUILD, "hbmctl"), "--socket", self.socket, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        return done.returncode, done.stdout

    def verify(self):
        """What hbmctl verify says does not balance; "" if all does."""
        status, said = self.ctl("verify")
        return "" if status == 0 else said


class DaemonTest(unittest.TestCase):
    """One daemon for all tests of a class, and a connection for each; at the end its books balance."""

    SETTINGS = {}

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(**cls.SETTINGS)
        cls.addClassCleanup(cls.daemon.free)
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls):
        if cls.daemon.process.poll() is None:
            problems = cls.daemon.verify()
            status = cls.daemon.stop()
            assert not problems, problems
            assert status == 0, f"hbmd ended with {status}:\n" + cls.daemon.log()[-4000:]

    def setUp(self):
        self.connection = hbm.Connection(self.daemon.socket, name="test")
        self.addCleanup(self.connection.close)

    def namespace(self, block_bytes=65536, **options):
        return self.connection.namespace(self.id()[-60:], block_bytes=block_bytes, **options)


def keys(count, name="block"):
    return [hbm.key(f"{name} {i}") for i in range(count)]


def pattern(number, count):
    """Bytes that no other number has."""
    return (number * 2654435761 % 2**32).to_bytes(4, "little") * (count // 4)
