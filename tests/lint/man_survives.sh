#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The table "What survives what" of hbmd(8): each row says an event and a result, and names a test that exists and is run.
set -u
python3 - <<'END2'
import glob, re, sys

failed = False


def fail(message):
    global failed
    failed = True
    print("man/hbmd.8, what survives what: " + message)


with open("man/hbmd.8", encoding="utf-8") as file:
    section = re.search(r"^\.Sh WHAT SURVIVES WHAT\n.*?^\.It Sy content [^\n]*\n(.*?)^\.El", file.read(), re.M | re.S)
if not section:
    sys.exit("man/hbmd.8 has no table of what survives")

events = {"stop", "restart", "crash", "power cut", "other version"}
for row in section.group(1).splitlines():
    cells = row.split(" Ta ")
    match = re.fullmatch(r"Li (test_\w+) (test_\w+)", cells[-1])
    if len(cells) != 4 or not match or cells[1] not in events:
        fail("not a row: " + row)
        continue
    program, name = match.groups()
    files = glob.glob("tests/**/%s.c" % program, recursive=True)
    source = "".join(open(path, encoding="utf-8").read() for path in files)
    if not re.search(r"^static void %s\(" % name, source, re.M) or source.count(name) < 2:
        fail("there is no %s in %s, or it is not run" % (name, program))

if failed:
    sys.exit(1)
print("ok man_survives")
END2
