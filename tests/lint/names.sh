#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prose and code call things by the names they have. Each source file that a comment, a man page or a document names
# exists, in the same part of the tree or below include/. Names that were given up for the field's own (CONTRIBUTING.md,
# Glossary) do not come back, whole or as a part of an identifier, and neither do phrases that stood for standard terms.
set -u
python3 - <<'END'
import os, re, sys

# ---- What is looked for ----

# Given up: what to say instead.
NAMES = {
    "door": "validate", "lane": "copy queue", "hop": "link", "parcel": "message", "carrier": "transfer context",
    "lease": "region", "activity": "link stats", "patience": "timeout",
}
# Given up as the name of a module; as a plain word it is what everybody says.
PARTS = {"disk": "nvme_io", "hierarchy": "memory setup"}
PHRASES = {
    r"(could|can|cannot) (not )?be had": "cannot allocate", r"in vain": "say what happens",
    r"for good": "permanently", r"for ever": "forever", r"who(so)?ever": "any client", r"nobody": "no client, no thread",
    r"\w*under_way": "in_flight", r"come to rest": "finish", r"not what was stored": "checksum mismatch",
}

# In tests these are plain words: how long one waits for a state; what the counter `leased` of wire.h counts.
TESTS_MAY = {"patience", "lease"}
# (file, name): why it may stand there. An entry that is not needed is a failure.
ALLOWED = {
    ("CONTRIBUTING.md", "patience"): "the glossary says what it was given up for",
    ("kernels/soft/backing.h", "lease"): "the kernel's word: fcntl(F_SETLEASE)",
    ("kernels/soft/share.c", "lease"): "the kernel's word: fcntl(F_SETLEASE)",
}
FILES_ALLOWED = {
    "sysexits.h": "of the C library",
    "noun.c": "a pattern", "noun.h": "a pattern", "noun.cu": "a pattern", "NAME.c": "a pattern", "NAME.cu": "a pattern",
    "a.cu": "in a text that a test parses",
}
# History, results of runs, and this list.
SKIPPED = {"CHANGELOG.md", "LICENSE", "tests/lint/names.sh"}
SKIPPED_ENDS = ("RESULTS.md", "MUTANTS.md", ".tsv", ".csv", ".jsonl", ".json", ".svg")

# ---- What is looked at ----

failed = False
used = set()


def fail(path, line, message):
    global failed
    failed = True
    print("%s:%d: %s" % (path, line, message))


def is_allowed(path, name):
    used.add((path, name))
    return (path, name) in ALLOWED


def prose_of(path, text):
    """Where files are named: (line, text) of each comment; of a page or a document, all of it."""
    if not path.endswith((".c", ".h", ".cu")):
        return [(1, text)]
    return [(text.count("\n", 0, m.start()) + 1, m.group()) for m in re.finditer(r"/\*.*?\*/", text, re.S)]


ROOMS = ["client", "daemon", "examples", "include", "kernels", "man", "systemd", "tests"]
tree = [name for name in os.listdir(".") if os.path.isfile(name) and (name.endswith(".md") or name == "Makefile")]
tree += [os.path.join(folder, name) for room in ROOMS for folder, _, names in os.walk(room) for name in names]
tree.sort()
sources = [path for path in tree if path.endswith((".c", ".h", ".cu"))]


def rooms_of(path):
    """The parts of the tree whose files are meant by a bare name."""
    top = path.split("/")[0]
    return (top, "include") if top in ("client", "daemon") else ROOMS


def exists(path, named):
    rooms = rooms_of(path)
    for source in sources:
        if source == named or source.endswith("/" + named):
            if "/" in named or source.split("/")[0] in rooms:
                return True
    return False


FILE = re.compile(r"(?<![\w./*<-])([\w./-]*\w\.(?:c|h|cu))\b(?![\w(.])")
WORD = re.compile(r"[A-Za-z]+")
PHRASE = re.compile(r"\b(?:%s)\b" % "|".join(PHRASES))


def check_files(path, text):
    for start, prose in prose_of(path, text):
        for match in FILE.finditer(prose):
            named = match.group(1)
            if named.split("/")[-1] in FILES_ALLOWED:
                used.add(named.split("/")[-1])
            elif not exists(path, named):
                fail(path, start + prose.count("\n", 0, match.start()), "there is no %s" % named)


def check_line(path, number, line):
    for match in WORD.finditer(line):
        word = match.group().lower()
        name = word if word in NAMES else word[:-1] if word.endswith("s") else word
        beside = line[max(match.start() - 1, 0):match.start()] + line[match.end():match.end() + 1]
        part = name in PARTS and "_" in beside and path.startswith(("daemon/", "client/", "include/"))
        if path.startswith("tests/") and name in TESTS_MAY:
            continue
        if (name in NAMES or part) and not is_allowed(path, name):
            fail(path, number, '"%s" was given up: %s' % (name, NAMES.get(name) or PARTS[name]))


def check_phrases(path, text):
    flat = re.sub(r"[\s*]+", " ", text)
    for match in PHRASE.finditer(flat):
        if not is_allowed(path, match.group()):
            instead = next(value for key, value in PHRASES.items() if re.fullmatch(key, match.group()))
            first = match.group().split()[0]
            line = next((n for n, l in enumerate(text.split("\n"), 1) if re.search(r"\b%s\b" % first, l)), 1)
            fail(path, line, '"%s": %s' % (match.group(), instead))


for path in tree:
    if path in SKIPPED or path.endswith(SKIPPED_ENDS):
        continue
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if path.endswith((".c", ".h", ".cu", ".md")) or path.startswith("man/"):
        check_files(path, text)
    for number, line in enumerate(text.split("\n"), 1):
        check_line(path, number, line)
    if not path.startswith("tests/") and not path.endswith(".md"):
        check_phrases(path, text)

for path, name in set(ALLOWED) - used:
    fail("tests/lint/names.sh", 1, "%s is allowed in %s, and is not there" % (name, path))
for name in set(FILES_ALLOWED) - used:
    fail("tests/lint/names.sh", 1, "%s is allowed, and no comment names it" % name)

if not failed:
    print("ok names")
sys.exit(failed)
END
