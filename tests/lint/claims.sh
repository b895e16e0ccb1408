#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# CLAIMS.md has a row for every claim of README.md and no other; each part of the README says by an anchor which claims it
# makes, or that it makes none; the numbers of a part and of its rows are the same; what would show a claim wrong is there:
# tests by file and function wherever they lie, targets, commands, options, files. Paths that the documents name exist.
set -u
BUILD=${BUILD:-build} python3 - <<'END'
import os, re, shutil, subprocess, sys

DOCUMENTS = ["README.md", "CLAIMS.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"]
ANCHOR = re.compile(r"<!-- claim: ([a-z0-9 -]+) -->")
build = os.environ["BUILD"]
failed = False


def fail(message):
    global failed
    failed = True
    print(message)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


# ---- The README's parts: paragraphs, list items, tables and fenced blocks, each with the anchors that end it ----


def parts_of(text):
    part, fenced = [], False
    for line in text.split("\n"):
        begins = line.startswith(("- ", "* ", "```")) and not fenced
        if part and not fenced and (not line.strip() or begins):
            yield "\n".join(part)
            part = []
        if line.startswith("```"):
            fenced = not fenced
        if fenced or line.strip():
            part.append(line)
    if part:
        yield "\n".join(part)


def numbers_of(text):
    """Numbers that stand alone: no part of a name, a version, a path or a page such as hbmd(8)."""
    text = re.sub(r"\]\([^)]*\)|<!--.*?-->|[a-z.-]+\(\d\)", " ", text)
    return {n.rstrip(".,") for n in re.findall(r"(?<![\w./-])\d[\d,.]*(?![\w/-])", text)}


# ---- What a row names as showing it wrong ----

targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
sources = [os.path.join(folder, name) for folder, _, names in os.walk("tests") for name in names if name.endswith(".c")]
helps = {}


def help_of(*command):
    if command not in helps:
        program = os.path.join(build, command[0])
        helps[command] = subprocess.run([program, *command[1:]], capture_output=True, text=True).stdout
    return helps[command]


def is_test(name, function):
    files = [path for path in sources if path.endswith("/" + name + ".c")]
    if len(files) != 1:
        return "names %d files" % len(files)
    if function and not re.search(r"^static void %s\(" % re.escape(function), read(files[0]), re.M):
        return "%s has no such test" % files[0]
    return None


def is_command(words):
    if words[0] == "hbmctl":
        known, line = help_of("hbmctl", "--help"), r"^  %s\s" % re.escape(words[1])
        if not re.search(line, known, re.M):
            return "is no command"
        known += help_of("hbmctl", "help", words[1])
    else:
        known = help_of("hbmd", "--help")
    missing = [word for word in words if word.startswith("--") and word not in known]
    return "has no option %s" % missing[0] if missing else None


def why_not(named):
    """What is wrong with one thing in code marks, or None."""
    words = named.split()
    test = re.fullmatch(r"((?:[\w-]+/)*(?:test|gpu|bench)_\w+)(?:: (\w+))?", named)
    if test:
        return is_test(*test.groups())
    if words[0] == "make":
        return None if words[1] in targets else "is no target"
    if words[0] in ("hbmctl", "hbmd") and len(words) > 1:
        return is_command(words)
    if named.startswith("lint/"):
        return None if os.access("tests/" + named, os.X_OK) else "is no script"
    if os.path.exists(named):
        return None
    if shutil.which(words[0]):
        missing = [word for word in words[1:] if re.fullmatch(r"[a-z]+(/[\w.]+)*/?", word) and "/" in word
                   and not word.startswith("build/") and not os.path.exists(word)]
        return "there is no %s" % missing[0] if missing else None
    return "is nothing that is known"


# ---- Rows ----

rows = {}
for line in read("CLAIMS.md").split("\n"):
    cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("| `") else None
    if not cells:
        continue
    name = cells[0].strip("`")
    if len(cells) != 4 or not all(cells):
        fail("CLAIMS.md: %s: a row has four cells, none of them empty" % name)
        continue
    if name in rows:
        fail("CLAIMS.md: %s: two rows" % name)
    rows[name] = cells[1]
    falsifiers = re.findall(r"`([^`]+)`", cells[2])
    if not falsifiers:
        fail("CLAIMS.md: %s: nothing would show it wrong" % name)
    for named in falsifiers:
        why = why_not(named)
        if why:
            fail("CLAIMS.md: %s: `%s` %s" % (name, named, why))

# ---- Both ways ----

anchored = []
for part in parts_of(read("README.md")):
    if part.startswith("#"):
        continue
    names = [name for anchor in ANCHOR.findall(part) for name in anchor.split()]
    first = part.strip().split("\n")[0]
    if not names and "<!-- no claim -->" not in part:
        fail("README.md: no anchor: %s" % first)
    anchored += names
    said = numbers_of(part)
    claimed = {n for name in names for n in numbers_of(rows.get(name, ""))}
    fenced = part.startswith("```")
    for number in claimed - (set(re.findall(r"\d[\d,.]*\d|\d", part)) if fenced else said):
        fail("README.md: %s: CLAIMS.md says %s (%s)" % (" ".join(names), number, first))
    for number in set() if fenced else said - claimed:
        fail("README.md: %s: CLAIMS.md does not say %s (%s)" % (" ".join(names) or "no claim", number, first))

for name in sorted(set(anchored)):
    if anchored.count(name) > 1:
        fail("README.md: %s: two anchors" % name)
    if name not in rows:
        fail("README.md: %s: CLAIMS.md has no such row" % name)
for name in rows:
    if name not in anchored:
        fail("CLAIMS.md: %s: the README has no such anchor" % name)
if not rows:
    fail("CLAIMS.md: no rows")

# ---- Paths ----

folders = {name for name in os.listdir(".") if os.path.isdir(name) and not name.startswith((".", "build"))}
for document in DOCUMENTS:
    text = re.sub(r"^```.*?^```", "", read(document), flags=re.M | re.S)
    named = [path.split("#")[0] for path in re.findall(r"\]\(([^)]+)\)", text) if "://" not in path]
    named += [path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if path.split("/")[0] in folders]
    for path in named:
        if path and "noun" not in path and not os.path.exists(path):
            fail("%s: there is no %s" % (document, path))

if not failed:
    print("ok claims")
sys.exit(failed)
END
