# SPDX-License-Identifier: Apache-2.0
"""The examples of the documents, as they stand there, each in a process of its own; and that hbm-python(7) has
what the package has."""

import enum
import inspect
import os
import re
import subprocess
import sys
import unittest

import hbm

from daemon import DaemonTest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def read(document):
    with open(os.path.join(ROOT, document), encoding="utf-8") as file:
        return file.read()


def plain(roff):
    """What a reader sees of a line."""
    return roff.replace("\\(dq", '"').replace("\\e", "\\").replace("\\&", "")


class Examples(DaemonTest):
    SETTINGS = {"device.lend": "16MiB"}

    def test_they_run(self):
        for document in ("README.md", "client/python/README.md"):
            examples = re.findall(r"^```python\n(.*?)^```", read(document), re.S | re.M)
            self.assertEqual(len(examples), 1, document)
            self.run_it(document, examples[0], "llama" if document == "README.md" else "my-model")

    def test_the_page_s_runs(self):
        marked = re.search(r'^\.\\" example-begin$(.*?)^\.\\" example-end$', read("man/hbm-python.7"), re.S | re.M)
        lines = [plain(line) for line in marked.group(1).splitlines() if not line.startswith(".")]
        self.run_it("man/hbm-python.7", "\n".join(lines), "my-model")

    def run_it(self, document, example, namespace):
        said = subprocess.run(
            [sys.executable, "-W", "error", "-c", example], env={**os.environ, "HBM_SOCKET": self.daemon.socket},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.assertEqual((said.returncode, said.stdout), (0, ""), document)
        with self.subTest(document):
            status, namespaces = self.daemon.ctl("--json", "namespaces")
            self.assertEqual(status, 0)
            self.assertIn(namespace, namespaces)


def default(value):
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr(value)


def signature(call):
    """What stands between the parentheses."""
    parts, keywords = [], False
    for each in inspect.signature(call).parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind == each.KEYWORD_ONLY and not keywords:
            keywords = True
            parts.append("*")
        name = f"**{each.name}" if each.kind == each.VAR_KEYWORD else each.name
        parts.append(name if each.default is each.empty else f"{name}={default(each.default)}")
    return ", ".join(parts)


def entries(text):
    """Of lists: {name: what stands in its parentheses, or None}."""
    found = {}
    for line in re.findall(r"^\.It Li (.*)$", text, re.M):
        call = re.fullmatch(r"(\w+)\((.*)\)", plain(line))
        if call:
            found[call.group(1)] = call.group(2)
        else:
            found.update({name.strip(): None for name in line.split(" , ")})
    return found


def own(kind):
    """The public members of a class, but those of the class of Python that it is a kind of."""
    base = next((base for base in (OSError, tuple, int) if issubclass(kind, base)), object)
    return {name for name in dir(kind) if not name.startswith("_") and not hasattr(base, name)}


class Page(unittest.TestCase):
    """hbm-python(7) and the package, in both directions."""

    @classmethod
    def setUpClass(cls):
        page = read("man/hbm-python.7")
        cls.text = page
        cls.parts = {}
        for heading, text in re.findall(r"^\.S[hs] ([^\n]*)\n(.*?)(?=^\.S[hs] |\Z)", page, re.S | re.M):
            cls.parts[heading] = text
        cls.values = entries(cls.parts["VALUES"])

    def test_every_class(self):
        for name in hbm.__all__:
            with self.subTest(name):
                kind = getattr(hbm, name)
                if not inspect.isclass(kind):
                    self.assertEqual(entries(self.parts["Functions"])[name], signature(kind))
                elif issubclass(kind, enum.Enum):
                    self.assertEqual(self.values[name], ", ".join(member.name for member in kind))
                elif issubclass(kind, tuple):
                    self.assertEqual(self.values[name], ", ".join(kind._fields))
                elif issubclass(kind, Exception):
                    self.assertIn(f".It Li hbm.{name}\n", self.parts["Errors"])
                elif name == "Key":
                    self.assertIn(".Li hbm.Key.SIZE\nis 16.", self.parts["VALUES"])
                    self.assertEqual((own(kind), kind.SIZE), ({"SIZE"}, 16))
                else:
                    self.check_members(kind, entries(self.parts[name]))

    def check_members(self, kind, said):
        self.assertEqual(set(said), own(kind))
        for name, arguments in said.items():
            member = inspect.getattr_static(kind, name)
            if inspect.isfunction(member):
                self.assertEqual(arguments, signature(member), name)
            else:
                self.assertEqual(arguments, "" if callable(member) else None, name)
        made = re.search(rf'^\.Li "?hbm\.{kind.__name__}\((.*)\)"? :$', self.parts[kind.__name__], re.M)
        if made:
            self.assertEqual(plain(made.group(1)), signature(kind.__new__))

    def test_nothing_else(self):
        public = set(hbm.__all__)
        self.assertLessEqual(set(self.values), public)
        self.assertLessEqual(set(entries(self.parts["Functions"])), public)
        for module, name in re.findall(r"(?<![/\w])hbm\.([a-z]\w*)?\.?([A-Z]\w+|\w+\(\))?", self.text):
            found = __import__("hbm")
            for part in filter(None, (module, name.rstrip("()"))):
                if part in ("vllm", "lmcache", "sglang", "transformers", "torch"):
                    break  # they import engines
                self.assertTrue(hasattr(found, part), (module, name))
                found = getattr(found, part)

    def test_the_page_knows_every_public_class(self):
        classes = {heading for heading in self.parts if hasattr(hbm, heading)}
        self.assertEqual(classes | set(self.values) | {"Key", "Error", "Refused", "ConnectionLost"},
                         {name for name in hbm.__all__ if inspect.isclass(getattr(hbm, name))})


if __name__ == "__main__":
    unittest.main()
