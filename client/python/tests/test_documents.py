# SPDX-License-Identifier: Apache-2.0
"""The examples of the documents, as they stand there, each in a process of its own."""

import os
import re
import subprocess
import sys
import unittest

from daemon import DaemonTest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


class Examples(DaemonTest):
    def test_they_run(self):
        for document in ("README.md", "client/python/README.md"):
            with open(os.path.join(ROOT, document), encoding="utf-8") as file:
                examples = re.findall(r"^```python\n(.*?)^```", file.read(), re.S | re.M)
            self.assertEqual(len(examples), 1, document)
            for example in examples:
                self.run_it(document, example)

    def run_it(self, document, example):
        said = subprocess.run(
            [sys.executable, "-W", "error", "-c", example], env={**os.environ, "HBM_SOCKET": self.daemon.socket},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.assertEqual((said.returncode, said.stdout), (0, ""), document)
        with self.subTest(document):
            status, blocks = self.daemon.ctl("--json", "namespaces")
            self.assertEqual(status, 0)
            self.assertIn("llama" if document == "README.md" else "my-model", blocks)


if __name__ == "__main__":
    unittest.main()
