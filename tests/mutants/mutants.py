# SPDX-License-Identifier: Apache-2.0
"""Mutation testing: seeds one fault at a time into a module and runs the tests that use it.

tests/MUTANTS.md describes the method and tests/mutants/run starts this. A mutant is one line that
universalmutator rewrote. It is compiled with the command that make would use; a mutant whose object
code is that of the original, or of an earlier mutant, is dropped. The programs that use the module
are relinked and run, one after another, until one fails. Workers run in parallel, each in its own
copy of the tree and of the build folder, so that nothing here touches those of the user.
"""
import collections
import concurrent.futures
import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from universalmutator import mutator

BUILD = pathlib.Path(os.environ.get("BUILD", "build"))
HERE = pathlib.Path("tests/mutants")
TIMES = BUILD / "mutants" / "times.json"
snapshot = pathlib.Path(".")  # then the first worker's tree: ours may be edited meanwhile
PRODUCTS = ("hbmd", "hbmctl", "libhbmsoft.so")
MEMORY_LIMIT = 4 << 30  # of one test program and its children

# Lines that no test is expected to notice: what is logged, what only checks our own bugs, and
# memory that is not freed, which is AddressSanitizer's.
BORING = re.compile(r"^\s*(#|free\(|assert\(|static_assert\(|//|\*)|\blog_(error|warning|info|notice|debug)\(")
LONG = re.compile(r"\b(log_(error|warning|info|notice|debug)|assert|static_assert)\([^;]*$")

# A mutant may be worth a warning, but not one of these: such code is not C, or works by chance.
NEVER = "-Werror=return-type -Werror=incompatible-pointer-types -Werror=int-conversion -Werror=format-nonliteral"

# The upper bound of a loop that counts from 0 by one: no other value can be met first.
COUNTS = re.compile(r"^\s*for \([^;]*= 0; (?:[^;|]* && )?(?P<name>\w+) < [^;&|]+; (?P=name)\+\+\)")

Mutant = collections.namedtuple("Mutant", "line before after")
Program = collections.namedtuple("Program", "path rank seconds")


def option(name, default):
    return type(default)(os.environ.get(name) or default)


WORKERS = option("WORKERS", os.cpu_count() or 1)
COUNT = option("COUNT", 100)  # mutants of a module
BUDGET = option("BUDGET", 30.0)  # minutes, for all modules
PER_MUTANT = option("PER_MUTANT", 30.0)  # seconds of test programs, measured without a fault
SEED = option("SEED", random.randrange(1 << 32))


# ---- Mutants ----


def boring_lines(lines):
    """Numbers of the lines of log calls and assertions, over all the lines they take."""
    boring, inside = set(), False
    for number, line in enumerate(lines, 1):
        if inside or BORING.search(line):
            boring.add(number)
        inside = bool(LONG.search(line)) or (inside and ";" not in line)
    return boring


def generate(lines):
    """All mutants of a file, in an order that takes one of each line before a second of any."""
    rules = ["universal.rules", "c_like.rules", "c.rules"]
    with contextlib.redirect_stdout(io.StringIO()):
        found = mutator.mutants_regexp(lines, rules, ignorePatterns=[], ignoreStringOnly=True)
    boring = boring_lines(lines)
    by_line = collections.defaultdict(list)
    for number, text, *_ in found:
        text = text.rstrip("\n").replace("\n", " ") + "\n"  # asserts know their line
        if number not in boring:
            by_line[number].append(Mutant(number, lines[number - 1], text))
    rounds = []
    for mutants in by_line.values():
        random.shuffle(mutants)
        rounds += [(turn, random.random(), mutant) for turn, mutant in enumerate(mutants)]
    return [mutant for _, _, mutant in sorted(rounds, key=lambda entry: entry[:2])]


def squeeze(text):
    return " ".join(text.split())


def table(name):
    """Rows of a tab-separated table, without comments."""
    path = HERE / name
    rows = path.read_text().splitlines() if path.exists() else []
    return [row.split("\t") for row in rows if row and not row.startswith("#")]


def known_equivalent():
    """(module, line, mutated line, following line) of what was looked at and changes nothing that can be observed."""
    return {(row[0], squeeze(row[1]), squeeze(row[2]), squeeze("".join(row[4:]))) for row in table("equivalent.tsv")}


def is_known(equivalent, module, lines, mutant):
    """Whether there is an entry for it; one that names the following line is for that place only."""
    key = (module, squeeze(mutant.before), squeeze(mutant.after))
    following = squeeze(lines[mutant.line]) if mutant.line < len(lines) else ""
    return bool({key + ("",), key + (following,)} & equivalent)


def is_same_loop(mutant):
    loop = COUNTS.search(mutant.before)
    return loop and squeeze(mutant.after) == squeeze(
        mutant.before.replace(f"{loop['name']} < ", f"{loop['name']} != ", 1))


LOOP = re.compile(r"\s*(for|while|do|list_for_each\w*)\b.*\{\s*$")
CLOSE = re.compile(r"(\s*)\}\s*$")


def opener(lines, close):
    """The line that opens the block that line `close` ends, if it has its indentation; else ""."""
    indentation = CLOSE.match(lines[close])[1]
    for line in reversed(lines[:close]):
        if line.strip() and not line.startswith(indentation + "\t"):
            return line if line.startswith(indentation) else ""
    return ""


def is_end_of_loop(lines, mutant):
    """Whether a `continue` was put behind the last statement of a loop, in however many blocks that are not loops."""
    if squeeze(mutant.after) != squeeze(mutant.before) + " continue;":
        return False
    for number in range(mutant.line, len(lines)):
        if not CLOSE.match(lines[number]):
            return False
        if LOOP.match(opener(lines, number)):
            return True
    return False


# ---- Which programs use a module ----


@functools.lru_cache(maxsize=None)
def symbols(path, kinds):
    """Names of the functions and objects that a binary defines, main() apart."""
    out = subprocess.run(["nm", "--defined-only", path], capture_output=True, text=True).stdout
    return {name for _, kind, name in (line.split() for line in out.splitlines())
            if kind in kinds and name != "main"}


def provides(module):
    return symbols(snapshot / object_of(module), "TDBR")


def contains(path):
    """What a program was linked from; there, what is hidden from other programs is local."""
    return symbols(snapshot / path, "TDBRtdbr")


def object_of(module):
    return BUILD / "obj" / module.with_suffix(".o")


def all_programs():
    """Built test programs whose sources are there: a build folder may have kept others."""
    found = (path.relative_to(snapshot) for path in (snapshot / BUILD / "tests").rglob("test_*")
             if path.is_file() and not path.suffix)
    return sorted(path for path in found
                  if (snapshot / path.relative_to(BUILD).with_suffix(".c")).exists())


def programs_of(module):
    """(rank, path): by name, then what links the module, then what runs a product that does."""
    own = provides(module)
    named = {BUILD / "tests" / row[1] for row in table("programs.tsv") if row[0] == module.stem}
    in_product = not own or any(own & contains(BUILD / name) for name in PRODUCTS)
    ranked = []
    for path in all_programs():
        spawns = "unit" not in path.parts
        if path == BUILD / "tests" / "unit" / module.parent / ("test_" + module.stem):
            ranked.append((0, path))
        elif path in named:
            ranked.append((1, path))
        elif own & contains(path):
            ranked.append((2, path))
        elif spawns and in_product:
            ranked.append((3, path))
    return sorted(ranked)


# ---- Running ----


def group_memory(group):
    total = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = pathlib.Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group:
                total += int(fields[21]) * resource.getpagesize()
    return total


def limit_child():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def await_end(child, log, seconds):
    """The exit status, or why the program was ended: the first test that fails is enough."""
    end = time.monotonic() + seconds
    pause = 0.01
    while child.poll() is None:
        if time.monotonic() > end:
            return "time"
        if b"[  FAILED  ]" in log.read_bytes():
            return "failure"
        if pause > 0.2 and group_memory(child.pid) > MEMORY_LIMIT:
            return "memory"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    return child.returncode


def is_other_build(path):
    """Whether that folder belongs to another compiler, to sanitizers or to the pack, not to BUILD."""
    named = path.name in ("clang", "gpu-pack") or path.name.startswith("sanitize-")
    return named and path != BUILD and path not in BUILD.parents


class Worker:
    """A copy of the tree with its build folder, in which mutants are built and run."""

    def __init__(self, root):
        self.root = root
        self.temporary = root / "t"
        others = [path for path in pathlib.Path("build").glob("*") if is_other_build(path)]
        skipped = {BUILD / "mutants", pathlib.Path(".git"), *others}

        def ignore(folder, names):
            here = pathlib.Path(folder)
            return [name for name in names if here / name in skipped]

        shutil.copytree(".", root, symlinks=True, ignore=ignore)
        self.temporary.mkdir()
        build = (root / BUILD).resolve()
        self.environment = dict(
            os.environ, BUILD=str(build), HBM_BUILD=str(build), TMPDIR=str(self.temporary),
            HBM_SOFT_DRIVER=str(build / "libhbmsoft.so"), CCACHE_DISABLE="1")
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            self.environment.pop(name, None)

    def commands(self, module, target):
        """What make would do to bring a target up to date after a change of the module."""
        os.utime(self.root / module)
        environment = {k: v for k, v in self.environment.items() if k != "BUILD"}
        make = subprocess.run(["make", "-n", "V=1", f"CC={os.environ.get('CC', 'gcc')}", str(target)],
                              cwd=self.root, env=environment, capture_output=True, text=True, check=True)
        lines = make.stdout.replace("\\\n", " ").splitlines()
        # No debug information, so that equal code is equal bytes.
        return [line + " -g0 " + NEVER if " -c " in line else line for line in lines
                if line.strip() and not line.startswith("make: ")]

    def shell(self, command):
        return subprocess.run(["bash", "-c", command], cwd=self.root, env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True).returncode == 0

    def run(self, program, seconds):
        log = self.root / "log"
        with open(log, "wb") as output:
            child = subprocess.Popen([program], cwd=self.root, env=self.environment,
                                     stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     start_new_session=True, preexec_fn=limit_child)
        try:
            return await_end(child, log, seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for left in self.temporary.iterdir():
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


class Workshop:
    """The workers, and how long each program takes when nothing is wrong."""

    def __init__(self, folder):
        self.idle = queue.SimpleQueue()
        times = json.loads(TIMES.read_text()) if TIMES.exists() else {}
        self.measured = {pathlib.Path(path): tuple(entry) for path, entry in times.items()}
        for number in range(WORKERS):
            self.idle.put(Worker(pathlib.Path(folder) / str(number)))
        global snapshot
        snapshot = pathlib.Path(folder) / "0"

    @contextlib.contextmanager
    def worker(self):
        worker = self.idle.get()
        try:
            yield worker
        finally:
            self.idle.put(worker)

    def seconds(self, path):
        """How long a program takes, measured once for each build of it; None if it fails as it is."""
        built = (snapshot / path).stat().st_mtime
        if self.measured.get(path, (0, 0))[0] != built:
            with self.worker() as worker:
                start = time.monotonic()
                status = worker.run(worker.root / path, 600)
                taken = time.monotonic() - start
            self.measured[path] = (built, taken if status == 0 else None)
            if status != 0:
                print(f"mutants: {path} fails without a fault and is left out", flush=True)
        return self.measured[path][1]

    def keep_times(self):
        """Keeps the times for the next run."""
        passed = {str(path): entry for path, entry in self.measured.items() if entry[1] is not None}
        TIMES.write_text(json.dumps(passed))


# ---- One module ----


class DoesNotLink(Exception):
    """Of a mutant that calls what there is not."""


class Trial:
    """The mutants of one module, and what became of each."""

    def __init__(self, workshop, module, equivalent):
        self.workshop = workshop
        self.module = module
        self.source = (snapshot / module).read_text().splitlines(keepends=True)
        self.mutants = generate(self.source)
        self.equivalent = equivalent
        self.lock = threading.Lock()
        self.seen = set()
        self.kills = collections.Counter()
        self.count = collections.Counter()
        self.survivors = []
        self.rest = []  # programs that only survivors of the others are tried with
        self.programs = self.choose()
        self.scripts = {}
        self.plan()
        self.kills.clear()

    def choose(self):
        """The programs to run, cheap and near ones first, as many as the time for one mutant allows."""
        found = []
        for rank, path in programs_of(self.module):
            if rank == 3 and sum(program.seconds for program in found) > 4 * PER_MUTANT:
                break
            seconds = self.workshop.seconds(path)
            if seconds is not None:
                found.append(Program(path, rank, seconds))
        found.sort(key=lambda program: (program.rank, program.seconds))
        chosen, total = [], 0.0
        for program in found:
            if program.rank <= 1 or total + program.seconds <= PER_MUTANT:
                chosen.append(program)
                total += program.seconds
        self.choose_rest([program for program in found if program not in chosen])
        return chosen

    def choose_rest(self, others):
        """Quick ones first, so that a slow test of something else does not take all the time."""
        total = 0.0
        for program in sorted(others, key=lambda program: program.seconds):
            total += program.seconds
            if total <= 8 * PER_MUTANT:
                self.rest.append(program)

    def plan(self):
        """For the module's object and for each program: the commands that bring it up to date."""
        targets = [object_of(self.module)] + [BUILD / name for name in PRODUCTS]
        targets += [program.path for program in self.programs + self.rest]
        with self.workshop.worker() as worker:
            self.scripts = {target: worker.commands(self.module, target) for target in targets}
            for script in self.scripts.values():
                for command in script:
                    if not worker.shell(command):
                        sys.exit(f"mutants: without a fault this fails: {command}")
            self.seen.add(self.digest(worker))
            while self.is_noticed(worker, set(), self.programs):
                failing = self.kills.popitem()[0]
                print(f"mutants: {failing} fails without a fault and is left out", flush=True)
                self.programs = [program for program in self.programs if program.path != failing]

    def digest(self, worker):
        return hashlib.sha256((worker.root / object_of(self.module)).read_bytes()).digest()

    def build(self, worker, target, done):
        """Runs the commands of a target that this mutant has not seen yet."""
        for command in self.scripts[target]:
            if command not in done:
                done.add(command)
                if not worker.shell(command):
                    return False
        return True

    def is_noticed(self, worker, done, programs):
        order = sorted(programs, key=lambda program: -self.kills[program.path] / (1 + program.seconds))
        for program in order:
            targets = [program.path]
            if "unit" not in program.path.parts:
                targets = [BUILD / name for name in PRODUCTS] + targets
            if not all([self.build(worker, target, done) for target in targets]):
                raise DoesNotLink
            if worker.run(worker.root / program.path, 10 + 3 * program.seconds) != 0:
                with self.lock:
                    self.kills[program.path] += 1
                return True
        return False

    def fate(self, worker, mutant):
        if (is_known(self.equivalent, self.module.stem, self.source, mutant)
                or is_same_loop(mutant) or is_end_of_loop(self.source, mutant)):
            return "equivalent"
        done = set()
        if not self.build(worker, object_of(self.module), done):
            return "invalid"
        with self.lock:
            digest = self.digest(worker)
            if digest in self.seen:
                return "same"
            self.seen.add(digest)
        try:
            noticed = (self.is_noticed(worker, done, self.programs) or
                       self.is_noticed(worker, done, self.rest))
        except DoesNotLink:
            return "invalid"
        return "killed" if noticed else "survived"

    def try_one(self, mutant, end):
        with self.lock:
            if self.count["killed"] + self.count["survived"] >= COUNT or time.monotonic() > end:
                return
            self.count["tried"] += 1
        with self.workshop.worker() as worker:
            source = list(self.source)
            source[mutant.line - 1] = mutant.after
            (worker.root / self.module).write_text("".join(source))
            fate = self.fate(worker, mutant)
        with self.lock:
            self.count[fate] += 1
            if fate == "survived":
                self.survivors.append(mutant)

    def restore(self):
        """Puts the original back into every worker, built."""
        workers = [self.workshop.idle.get() for _ in range(WORKERS)]
        for worker in workers:
            (worker.root / self.module).write_text("".join(self.source))
            done = set()
            for target in self.scripts:
                self.build(worker, target, done)
            self.workshop.idle.put(worker)

    def run(self, end):
        if not self.programs:
            print(f"mutants: {self.module}: no test program uses it", flush=True)
            return
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda mutant: self.try_one(mutant, end), self.mutants))
        self.restore()

    def score(self):
        tested = self.count["killed"] + self.count["survived"]
        return 100.0 * self.count["killed"] / tested if tested else 0.0

    def row(self):
        count = self.count
        return (f"| {self.module} | {len(self.mutants)} | {count['tried']} | {count['invalid']} | {count['same']} "
                f"| {count['equivalent']} | {count['killed']} | {count['survived']} | {self.score():.0f} % |")


HEAD = ("| module | mutants | tried | invalid | same code | equivalent | killed | survived | score |\n"
        "|---|---|---|---|---|---|---|---|---|")


def report(trial, file):
    print(f"\n{trial.module}: run by", ", ".join(str(p.path.name) for p in trial.programs), file=file)
    for mutant in sorted(trial.survivors):
        print(f"{trial.module}:{mutant.line}:\n-\t{squeeze(mutant.before)}\n+\t{squeeze(mutant.after)}", file=file)


def main(names):
    random.seed(SEED)
    print(f"mutants: SEED={SEED} COUNT={COUNT} BUDGET={BUDGET:g} minutes, {WORKERS} workers", flush=True)
    end = time.monotonic() + BUDGET * 60
    trials, equivalent = [], known_equivalent()
    with tempfile.TemporaryDirectory(prefix="hbm-mutants.", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # tests become other users
        workshop = Workshop(folder)
        for left, name in zip(range(len(names), 0, -1), names):
            share = (end - time.monotonic()) / left
            trial = Trial(workshop, pathlib.Path(os.path.normpath(name)), equivalent)
            workshop.keep_times()
            trial.run(time.monotonic() + share)
            trials.append(trial)
            report(trial, sys.stdout)
            print(trial.row())
            sys.stdout.flush()
    rows = "\n".join([HEAD] + [trial.row() for trial in trials])
    print(f"\n{rows}")
    with open(BUILD / "mutants" / "results.md", "w") as file:
        print(f"SEED={SEED}\n\n{rows}", file=file)
        for trial in trials:
            report(trial, file)


if __name__ == "__main__":
    main(sys.argv[1:])
