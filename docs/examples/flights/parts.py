"""The pieces of the flights example: the expected answer, the records, the programs
it starts, and counting what they wrote.
"""

import collections
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGE, MEMBER = "vega-datasets@3.2.1", "package/data/flights-200k.json"
SHA256 = "82c60682ccdec1a9cf1102b2a011bef789243053f1ac01a531580c72be3d8bc0"
SEED = 20260801
WORKERS, NACKING, KILLED = 4, 3, 2
CLASSES = ["short", "medium", "long"]
TIMES = ["on-time", "late"]
STREAM, GROUPS = "flights-history", ["audit", "billing"]
ROUTER = "flights-router"
DEADLINE_S = 120
# Phase 2 spreads the records over this time, so that there is traffic to change under.
PACED_S = 8
# Groups read the stream with two members each.
MEMBERS = [(group, number) for group in GROUPS for number in (1, 2)]


# ---- The expected answer: a few lines, independent of the broker. ----

def destination(record, late_over):
    miles = record["distance"]
    length = "short" if miles < 500 else "medium" if miles < 1500 else "long"
    return f"{length}-{'late' if record['delay'] > late_over else 'on-time'}"


def expected_queue(record, version):
    if version == 1:
        return f"flights-{destination(record, 15)}"
    return f"flights-v2-{destination(record, 30)}"


# ---- Input, programs, broker ----

def fetch():
    """The file of records, downloaded once into data/ beside this program."""
    path = HERE / "data" / "flights-200k.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        print(f"fetching {PACKAGE} ...")
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=path.parent, check=True, text=True,
            stdout=subprocess.PIPE)
        archive = path.parent / packed.stdout.split()[-1]
        with tarfile.open(archive) as tar, open(path.with_suffix(".part"), "wb") as out:
            shutil.copyfileobj(tar.extractfile(MEMBER), out)
        archive.unlink()
        path.with_suffix(".part").rename(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{path} is not the file of {PACKAGE}; delete it and start again")
    return path


def build():
    """`weir` and the worker program, by cargo; quick when they are up to date."""
    command = ["cargo", "build", "--release", "--quiet", "-p"]
    subprocess.run(command + ["weir-server", "--bin", "weir"], cwd=ROOT, check=True)
    subprocess.run(command + ["weir-client", "--example", "flights"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    return target / "weir", target / "examples" / "flights"


def wait_for(what, condition, pause_s=0.05):
    """Asks until the answer is true or the time is over; returns the answer."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(pause_s)
    raise SystemExit(f"FAILED: waited {DEADLINE_S} s for {what}")


def sync(path):
    """Makes a file, or the entries of a folder, outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Broker:
    """A broker of its own: a free port, its data in a folder that nobody else uses."""

    def __init__(self, weir, folder, data=None, listen="127.0.0.1:0"):
        self.weir, self.folder = weir, folder
        self.data = data or folder / "weir-data"
        self.life = 0
        (self.data / "plugins").mkdir(parents=True)
        (self.data / "bindings").mkdir()
        for name in ["flights-router", "flights-queues", "flights-groups"]:
            self.bind(name, f"{name}.toml")
        sync(self.data)
        sync(self.data.parent)
        self.start(listen)

    def start(self, listen):
        """Starts it, for the first time or again; its log is a new file each time."""
        self.life += 1
        self.log = self.folder / f"broker-{self.life}.log"
        with open(self.log, "w") as out:
            self.process = subprocess.Popen(
                [self.weir, "serve", "--listen", listen, "--data", self.data],
                stdout=out, stderr=out)
        self.address = wait_for("the broker", self._address)

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _address(self):
        if self.process.poll() is not None:
            raise SystemExit(f"FAILED: the broker did not start:\n{self.log.read_text()}")
        line = self.logged(" ready ")
        return line and line.split("address=")[1].split()[0]

    def logged(self, words):
        """The first line of this life's log with these words in it."""
        lines = self.log.read_text().splitlines()
        return next((line for line in lines if words in line), None)

    def bind(self, name, source):
        """Puts a binding in place as an editor would: written aside, then renamed; and
        synced, for the disk may lose its power."""
        target = self.data / "bindings" / f"{name}.toml"
        shutil.copy(HERE / "bindings" / source, target.with_suffix(".part"))
        sync(target.with_suffix(".part"))
        os.replace(target.with_suffix(".part"), target)
        sync(target.parent)

    def ask(self, *words):
        """Runs `weir ... --json` and returns what it printed, a list of objects."""
        done = subprocess.run(
            [self.weir, *words, "--json", "--server", self.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"FAILED: weir {' '.join(words)}: {done.stdout}{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def router(self):
        return self.ask("policy", "status", ROUTER)[0]

    def rows_by_generation(self):
        """Messages that each generation of the router judged, by its number."""
        status = self.router()
        rows = {status["generation"]: status["rows"]}
        for before in status["previous"]:
            rows[before["generation"]] = before["rows"]
        return rows

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


# ---- Worker processes ----

class Worker:
    """A process that settles, and the file it writes a line to per delivery."""

    def __init__(self, program, broker, folder, name, words):
        self.name, self.log = name, folder / f"{name}.log"
        self.process = subprocess.Popen(
            [program, "work", "--server", broker.address, "--name", name,
             "--log", self.log, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"FAILED: {name} did not start")

    def lines_so_far(self):
        return self.log.read_bytes().count(b"\n")

    def lines(self):
        """(source, row, attempt, verb) per delivery. A last line without an end was
        torn by the kill; its delivery was not acked, for the ack comes after."""
        for source, row, attempt, verb, *_ in self.whole_lines():
            yield source, int(row), int(attempt), verb

    def whole_lines(self):
        """All fields as text: also partition, offset, batch, time in ms. With
        `--confirm yes` the verb may be `confirmed`: the broker has answered that the
        batch is settled."""
        for line in self.log.read_bytes().split(b"\n")[:-1]:
            yield line.decode().split()

    def finish(self):
        self.process.stdin.close()
        self.process.wait(30)
        return self.process.returncode


def start_workers(tool, broker, folder, queues, words=()):
    named = [word for queue in queues for word in ("--queue", queue)]
    workers = []
    for number in range(1, WORKERS + 1):
        nack = ["--nack-percent", "5", "--seed", str(SEED)] if number == NACKING else []
        # The worker to be killed takes a moment between a delivery's line and its ack.
        slow = ["--ack-after-ms", "20"] if number == KILLED else []
        its = named + nack + slow + list(words)
        workers.append(Worker(tool, broker, folder, f"worker-{number}", its))
    members = [
        Worker(tool, broker, folder, f"{group}-{number}",
               ["--stream", STREAM, "--group", group, *words])
        for group, number in MEMBERS]
    return workers, members


class Publisher:
    """The publishing process; how far it is, and its last line."""

    def __init__(self, tool, broker, records, words=()):
        self.published, self.confirmed, self.result = 0, 0, {}
        # First row and count of each batch that was published another time.
        self.again = []
        self.process = subprocess.Popen(
            [tool, "publish", "--server", broker.address, "--subject", "flights.raw",
             "--file", records, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "published":
                self.published = int(words[1])
            elif words[0] == "confirmed":
                self.confirmed = int(words[1])
            elif words[0] == "again":
                self.again.append((int(words[1]), int(words[2])))
            else:
                self.result = {name: int(value) for name, value in zip(words[::2], words[1::2])}

    def reached(self, row):
        wait_for(f"row {row} to be published", lambda: self.published >= row, 0.01)

    def go_on(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def finish(self):
        self.process.wait(DEADLINE_S)
        self.reader.join()
        return self.result


def drained(broker, queues):
    """Whether nothing is left, in queues and groups."""
    return (all(broker.ask("queue", "info", queue)[0]["messages"] == 0 for queue in queues)
            and all(broker.ask("group", "info", STREAM, group)[0]["delivery"]["lag"] == 0
                    for group in GROUPS))


# ---- Counting ----

class Report:
    """Prints as it goes and remembers whether everything held."""

    def __init__(self):
        self.failed = []

    def title(self, text):
        print(f"\n{text}\n{'-' * len(text)}")

    def check(self, holds, text):
        print(f"  {'ok  ' if holds else 'FAIL'}  {text}")
        if not holds:
            self.failed.append(text)

    def table(self, head, rows):
        cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row]
                 for row in [head, *rows]]
        widths = [max(map(len, column)) for column in zip(*cells)]
        for row in cells:
            print("  " + "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths))))


def acks_by_row(workers):
    """(source, row) -> names of the workers that acked it."""
    acked = collections.defaultdict(list)
    for worker in workers:
        for source, row, _, verb in worker.lines():
            if verb == "ack":
                acked[source, row].append(worker.name)
    return acked


def check_duplicates(report, acked, killed):
    """A message may be acked twice only if one of the two was by the killed worker:
    it had written its line, and died before the broker had its ack."""
    twice = [names for names in acked.values() if len(names) > 1]
    broken = [names for names in twice if len([n for n in names if n != killed]) > 1]
    extra = sum(len(names) - 1 for names in twice)
    why = (f"{extra:,} duplicates: {killed} had done the work, and was killed before "
           "its ack was out" if extra else "0 duplicates")
    report.check(not broken, f"{why}; {len(broken):,} that at-least-once does not explain")


def check_groups(report, members, count):
    for group in GROUPS:
        its = [member for member in members if member.name.startswith(group)]
        acked = acks_by_row(its)
        deliveries = sum(map(len, acked.values()))
        shares = " + ".join(f"{member.lines_so_far():,}" for member in its)
        report.check(len(acked) == count and deliveries == count,
                     f"group {group}: {len(acked):,} of {count:,} rows, "
                     f"{deliveries - len(acked):,} duplicates; its members took {shares}")


def check_queues(report, broker, acked, wanted, queues):
    rows = []
    found = collections.Counter(queue for queue, _ in acked)
    for queue in queues:
        info = broker.ask("queue", "info", queue)[0]
        figures = info["delivery"]
        rows.append([queue, wanted[queue], found[queue], info["published"], figures["acked"],
                     figures["redelivered"], figures["nacked"], figures["dead_lettered"],
                     info["messages"]])
    report.table(["queue", "computed", "rows found", "published", "acked", "redelivered",
                  "nacked", "dead", "left"], rows)
    report.check(all(len(set(row[1:5])) == 1 for row in rows),
                 "for every queue: rows computed from the file = found with workers = "
                 "published = acked, by the broker's count")
    report.check(all(row[7] == 0 and row[8] == 0 for row in rows), "nothing left, nothing given up")
    return sum(row[5] - row[6] for row in rows)


def nack_line(report, workers):
    worker = workers[NACKING - 1]
    # Rows, not deliveries: behind a crash a row may be seen for the first time again.
    firsts = {(source, row): False for source, row, attempt, _ in worker.lines() if attempt == 1}
    firsts.update({(source, row): True for source, row, _, verb in worker.lines()
                   if verb == "nack"})
    nacks = sum(firsts.values())
    share = 100 * nacks / max(len(firsts), 1)
    report.check(3 < share < 7, f"{worker.name} gave {nacks:,} of {len(firsts):,} back "
                                f"({share:.1f} %), all were settled later")


def check_published(report, result, count, stored):
    seconds = max(result.get("took_ms", 0), 1) / 1000
    report.check(
        result.get("done") == count and result.get("stored") == stored
        and not result.get("refused") and not result.get("unrouted"),
        f"published {result.get('done', 0):,} in {seconds:.1f} s, each confirmed: "
        f"{result.get('stored', 0):,} copies kept, {result.get('refused', 0)} refused, "
        f"{result.get('unrouted', 0)} unrouted")
