#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The table of serving systems in hbm(7): a row names a test that exists, is run, and makes the calls of the row; a system
# without a test says what is not built yet; no system and no test is there twice, and no test of a system is left out.
set -u
python3 - <<'END'
import glob, re, sys

failed = False


def fail(message):
    global failed
    failed = True
    print(message)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


# ---- The page: ".It System Ta Li test Ta", then ".Fn call ," lines and what is not built yet ----

page = read("man/hbm.7")
table = re.search(r"^\.Sh SERVING SYSTEMS\n.*?^\.It Sy System [^\n]*\n(.*?)^\.El", page, re.M | re.S)
if not table:
    sys.exit("man/hbm.7 has no table of serving systems")

rows = []
for row in re.split(r"^\.It ", table.group(1), flags=re.M)[1:]:
    head, _, body = row.partition("\n")
    cells = re.fullmatch(r"(.+) Ta (?:Li (test_system_\w+)|none) Ta", head)
    if not cells:
        sys.exit("man/hbm.7: not a row: " + head)
    rows.append((cells.group(1), cells.group(2), re.findall(r"^\.Fn (\w+)", body, re.M), body))

# ---- The tests: where each is defined, and its text; what they share counts as theirs ----

shared = "".join(read(path) for path in ("tests/support/system_stage.c", "tests/support/pool_rig.c", "tests/support/kv.c"))
files = {path: read(path) for path in sorted(glob.glob("tests/*/test_*.c"))}
tests = {}
for path, text in files.items():
    for name in re.findall(r"^static void (test_system_\w+)\(void \*\*", text, re.M):
        if name in tests:
            fail("%s is in %s and in %s" % (name, tests[name], path))
        tests[name] = path
        if not re.search(r"\bTEST\(%s\)" % name, text):
            fail("%s: %s is not run" % (path, name))

headers = "".join(read(path) for path in glob.glob("include/hbm/*.h"))
for system, test, calls, body in rows:
    if test and test not in tests:
        fail("man/hbm.7: %s: there is no %s" % (system, test))
    if not test and "not built yet: " not in body:
        fail("man/hbm.7: %s has no test, and does not say what is not built yet" % system)
    if test and not calls and ".Ql hbmctl " not in body:
        fail("man/hbm.7: %s names no calls" % system)
    for call in calls:
        if not re.search(r"HBM_API [^;]*\b%s\(" % call, headers):
            fail("man/hbm.7: %s: there is no %s()" % (system, call))
        if test in tests and not re.search(r"\b%s\(" % call, files[tests[test]] + shared):
            fail("%s: %s() is not called for %s" % (tests[test], call, system))

for what, names in (("system", [row[0] for row in rows]), ("test", [row[1] for row in rows if row[1]])):
    for name in sorted({name for name in names if names.count(name) > 1}):
        fail("man/hbm.7: the %s %s has %d rows" % (what, name, names.count(name)))
for name in sorted(set(tests) - {row[1] for row in rows}):
    fail("man/hbm.7: %s of %s has no row" % (name, tests[name]))

if not rows or not tests:
    fail("no rows, or no tests")
if failed:
    sys.exit(1)
print("ok man_systems")
END
