# SPDX-License-Identifier: Apache-2.0
"""An hbmd with a soft device and small tiers, for a test: started, killed, started again.

$BUILD says where the daemon was built (default: build). Its socket, state and NVMe file are in
the folder that the test gives it, so that a daemon that is started again finds its catalog.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
START_S = 30


class SoftDaemon:
    """settings: as for hbmd --set; they come after those below. keeper: under hbmd --keeper, so
    that sessions outlive a daemon that is killed."""

    def __init__(self, folder: Path, *settings: str, keeper: bool = False) -> None:
        self.folder = folder
        self.socket = str(folder / "hbm.sock")
        self.log = folder / "hbmd.log"
        self._settings = settings
        self._keeper = keeper
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None
        settings = (
            "hbmd.driver=soft",
            f"hbmd.socket={self.socket}",
            f"hbmd.state_dir={self.folder / 'state'}",
            "device.memory=900MiB",
            "device.cache=16MiB",
            "ddr.size=64MiB",
            f"nvme.path={self.folder / 'nvme'}",
            "nvme.size=256MiB",
            "nvme.behind_ms=0",
            *self._settings,
        )
        arguments = [str(BUILD / "hbmd")]
        if self._keeper:
            arguments += ["--keeper", "--"]
        arguments += ["--config", "/dev/null"]
        for setting in settings:
            arguments += ["--set", setting]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        """Until somebody listens, and all tiers are there."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"hbmd did not start:\n{self.log.read_text()[-2000:]}")
            if self.listens() and "all tiers are in service" in self._last_run():
                return
            time.sleep(0.02)
        raise TimeoutError(f"hbmd is not in service:\n{self.log.read_text()[-2000:]}")

    def _last_run(self) -> str:
        return self.log.read_text().rpartition("device driver: soft")[2]

    def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            return peer.connect_ex(self.socket) == 0

    def blocks(self) -> dict[str, int]:
        """How many are in each tier."""
        command = [str(BUILD / "hbmctl"), "--socket", self.socket, "--json", "tiers"]
        said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return {tier["tier"]: tier["blocks"] for tier in said["tiers"]}

    def signal(self, number: int) -> None:
        """For SIGSTOP and SIGCONT: a daemon that hangs."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill_daemon(self) -> None:
        """kill -9; a keeper starts the next one, and this returns when that is in service."""
        if not self._keeper:
            self.kill()
            return
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        while set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) & set(children):
            time.sleep(0.01)
        self._wait()

    def kill(self) -> None:
        """kill -9, of the keeper's daemon too."""
        if self._process is not None:
            if self._keeper:
                self._process.terminate()
                self._process.wait(START_S)
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(START_S)
            finally:
                self.kill()
        self.folder.joinpath("nvme").unlink(missing_ok=True)  # pytest keeps folders for a while
