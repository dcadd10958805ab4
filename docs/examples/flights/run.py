#!/usr/bin/env python3
"""Flights: 200,000 real records through router, queues, stream and groups, counted.

Starts a broker of its own, publishes every record, lets four workers settle what
arrives while one of them is killed and another gives 5 % back, reads a stream with
two groups, and then does it again while the router is replaced, broken and rolled
back. Every count is compared with one made here, in Python, from the same file.

Python 3 and nothing else; what is needed of Weir it builds with cargo. See README.md.
"""

import argparse
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
import tempfile
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


class Broker:
    """A broker of its own: free port, data in a temporary folder."""

    def __init__(self, weir, folder):
        self.weir, self.data = weir, folder / "weir-data"
        self.log = folder / "broker.log"
        (self.data / "plugins").mkdir(parents=True)
        (self.data / "bindings").mkdir()
        for name in ["flights-router", "flights-queues", "flights-groups"]:
            self.bind(name, f"{name}.toml")
        out = open(self.log, "w")
        self.process = subprocess.Popen(
            [weir, "serve", "--listen", "127.0.0.1:0", "--data", self.data],
            stdout=out, stderr=out)
        self.address = wait_for("the broker", self._address)

    def _address(self):
        if self.process.poll() is not None:
            sys.exit(f"the broker did not start:\n{self.log.read_text()}")
        for line in self.log.read_text().splitlines():
            if " ready " in line:
                return line.split("address=")[1].split()[0]
        return None

    def bind(self, name, source):
        """Puts a binding in place as an editor would: written aside, then renamed."""
        target = self.data / "bindings" / f"{name}.toml"
        shutil.copy(HERE / "bindings" / source, target.with_suffix(".part"))
        os.replace(target.with_suffix(".part"), target)

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
        for line in self.log.read_bytes().split(b"\n")[:-1]:
            source, row, attempt, verb = line.decode().split()
            yield source, int(row), int(attempt), verb

    def finish(self):
        self.process.stdin.close()
        self.process.wait(30)
        return self.process.returncode


def start_workers(tool, broker, folder, queues):
    named = [word for queue in queues for word in ("--queue", queue)]
    workers = []
    for number in range(1, WORKERS + 1):
        nack = ["--nack-percent", "5", "--seed", str(SEED)] if number == NACKING else []
        # The worker to be killed takes a moment between a delivery's line and its ack.
        slow = ["--ack-after-ms", "20"] if number == KILLED else []
        workers.append(Worker(tool, broker, folder, f"worker-{number}", named + nack + slow))
    members = [
        Worker(tool, broker, folder, f"{group}-{number}", ["--stream", STREAM, "--group", group])
        for group, number in MEMBERS]
    return workers, members


class Publisher:
    """The publishing process; how far it is, and its last line."""

    def __init__(self, tool, broker, records, words=()):
        self.published, self.result = 0, {}
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
    lines = list(worker.lines())
    nacks = sum(verb == "nack" for _, _, _, verb in lines)
    firsts = sum(attempt == 1 for _, _, attempt, _ in lines)
    share = 100 * nacks / max(firsts, 1)
    report.check(3 < share < 7, f"{worker.name} gave {nacks:,} of {firsts:,} back ({share:.1f} %), "
                                "all were settled later")


def published_line(report, result, count, stored):
    seconds = max(result.get("took_ms", 0), 1) / 1000
    report.check(
        result.get("done") == count and result.get("stored") == stored
        and not result.get("refused") and not result.get("unrouted"),
        f"published {result.get('done', 0):,} in {seconds:.1f} s, each confirmed: "
        f"{result.get('stored', 0):,} copies kept, {result.get('refused', 0)} refused, "
        f"{result.get('unrouted', 0)} unrouted")


# ---- Phase 1: one worker dies, one gives back ----

def phase_one(report, tool, broker, folder, lines, records):
    report.title("1. Every record to its queue; one worker is killed, one nacks 5 %")
    queues = [f"flights-{length}-{late}" for length in CLASSES for late in TIMES]
    workers, members = start_workers(tool, broker, folder, queues)
    start = time.monotonic()
    publisher = Publisher(tool, broker, lines)
    half = len(records) // 2
    wait_for("half of the work", lambda: sum(w.lines_so_far() for w in workers) >= half, 0.01)
    victim = workers[KILLED - 1]
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    result = publisher.finish()
    wait_for("the queues to be empty", lambda: drained(broker, queues), 0.1)
    seconds = time.monotonic() - start
    ended = [worker.finish() for worker in workers + members if worker is not victim]

    wanted = collections.Counter(expected_queue(record, 1) for record in records)
    acked = acks_by_row(workers)
    came_back = check_queues(report, broker, acked, wanted, queues)
    published_line(report, result, len(records), 2 * len(records))
    right = all(queue == expected_queue(records[row], 1) for queue, row in acked)
    report.check(right and len({row for _, row in acked}) == len(records),
                 "every row was settled, in the queue that its fields say")
    report.check(not any(ended), f"{victim.name} was killed with SIGKILL after "
                                 f"{victim.lines_so_far():,} deliveries; {came_back:,} that it had "
                                 "not acked went to the others")
    check_duplicates(report, acked, victim.name)
    nack_line(report, workers)
    check_groups(report, members, len(records))
    deliveries = sum(worker.lines_so_far() for worker in workers + members)
    print(f"  {deliveries:,} deliveries in {seconds:.1f} s, "
          f"{deliveries / seconds:,.0f} a second")


# ---- Phase 2: the router is replaced, broken, rolled back ----

def change_router(report, broker, publisher, count):
    """What happens to the router while records flow. The publisher waits at every
    quarter until the step of that quarter is done, so that each has its records."""
    def step(what, change, condition):
        row, start = publisher.published, time.monotonic()
        change()
        status = wait_for(what, lambda: condition(broker.router()) and broker.router(), 0.02)
        took_ms = int(1000 * (time.monotonic() - start))
        print(f"  after row {row:,}: {what}; generation {status['generation']} "
              f"{status['state']} within {took_ms} ms")
        if status.get("error"):
            print(f"    weir policy status: {status['error']}")
        return status

    first = broker.router()["generation"]
    publisher.reached(count // 8)
    status = step("another rule in flights-router.toml",
                  lambda: broker.bind(ROUTER, "flights-router-v2.toml"),
                  lambda status: status["generation"] > first)
    second = status["generation"]
    publisher.go_on()

    publisher.reached(3 * count // 8)
    broken = broker.data / "plugins" / "json-router.wasm"
    status = step("garbage as plugins/json-router.wasm",
                  lambda: broken.write_bytes(b"this is not WebAssembly\n"),
                  lambda status: status["state"] != "active")
    report.check("json-router.wasm" in (status.get("error") or "")
                 and status["generation"] == second,
                 "the broken file is named with its reason, and changes nothing")
    publisher.go_on()

    publisher.reached(5 * count // 8)
    status = step("weir policy rollback",
                  lambda: broker.ask("policy", "rollback", ROUTER),
                  lambda status: status["generation"] > second)
    publisher.go_on()
    return first, second, status["generation"]


def check_generations(report, judged, generations, acked, records):
    """Rows go out in order, so each generation has one stretch of them. Where a row
    was found says which rule judged it."""
    versions = {}
    wrong = 0
    for queue, row in acked:
        version = 2 if queue.startswith("flights-v2-") else 1
        wrong += queue != expected_queue(records[row], version) or row in versions
        versions[row] = version
    stretches = []
    for row in range(len(records)):
        version = versions.get(row)
        if not stretches or stretches[-1][0] != version:
            stretches.append([version, row, row])
        stretches[-1][2] = row
    rows = []
    for place, generation in enumerate(generations):
        version, low, high = stretches[place] if place < len(stretches) else ("-", 0, -1)
        rows.append([f"generation {generation}", f"rule {version}", judged.get(generation, 0),
                     high - low + 1, low, high])
    rows.append(["sum", "", sum(judged.get(g, 0) for g in generations),
                 sum(row[3] for row in rows), "", ""])
    report.table(["router", "by", "judged (policy status)", "rows found", "from", "to"], rows)
    report.check(rows[-1][2] == len(records),
                 f"the generations judged {rows[-1][2]:,} rows together: each row once")
    report.check([stretch[0] for stretch in stretches] == [1, 2, 1],
                 "three stretches of rows, each by one rule: no batch was judged by a mix")
    report.check(all(row[2] == row[3] > 0 for row in rows),
                 "each generation judged exactly the rows found where its rule sends them")
    report.check(not wrong and len(versions) == len(records),
                 "every row is in one queue, the one its rule says; none lost")


def phase_two(report, tool, broker, folder, lines, records):
    report.title("2. Again, while the router is replaced, broken, and rolled back")
    queues = [f"flights-{version}{length}-{late}"
              for version in ("", "v2-") for length in CLASSES for late in TIMES]
    workers, members = start_workers(tool, broker, folder, queues)
    before = broker.rows_by_generation()
    publisher = Publisher(tool, broker, lines, ["--seconds", str(PACED_S), "--parts", "4"])
    generations = change_router(report, broker, publisher, len(records))
    result = publisher.finish()
    wait_for("the queues to be empty", lambda: drained(broker, queues), 0.1)
    ended = [worker.finish() for worker in workers + members]
    after = broker.rows_by_generation()
    judged = {number: rows - before.get(number, 0) for number, rows in after.items()}

    acked = acks_by_row(workers)
    check_generations(report, judged, generations, acked, records)
    published_line(report, result, len(records), 2 * len(records))
    report.check(not any(ended), "all workers ended in good order")
    check_duplicates(report, acked, "nobody")
    nack_line(report, workers)
    check_groups(report, members, len(records))


def make_places(broker):
    """Queues for both rules, the stream and its groups."""
    for version in ("", "v2"):
        for length in CLASSES:
            for late in TIMES:
                words = [word for word in ("flights", version, length, late) if word]
                broker.ask("queue", "create", "-".join(words), "--subject", ".".join(words))
    broker.ask("stream", "create", STREAM, "--partitions", "4", "--subject", "flights.>")
    for group in GROUPS:
        broker.ask("group", "create", STREAM, group)


def main():
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", type=pathlib.Path, help="flights-200k.json, if it is here already")
    parser.add_argument("--quick", action="store_true", help="the first 10,000 records only")
    parser.add_argument("--weir", type=pathlib.Path, help="the broker, if it is built already")
    parser.add_argument("--tool", type=pathlib.Path, help="the client's example `flights`, likewise")
    parser.add_argument("--keep", action="store_true", help="keep logs and data, and say where")
    options = parser.parse_args()

    start = time.monotonic()
    records = json.loads((options.file or fetch()).read_text())
    if options.quick:
        records = records[:10_000]
    weir, tool = options.weir, options.tool
    if not (weir and tool):
        weir, tool = build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-flights-"))
    report = Report()
    broker = None
    try:
        lines = folder / "records.ndjson"
        lines.write_text("".join(json.dumps(record) + "\n" for record in records))
        broker = Broker(weir.resolve(), folder)
        make_places(broker)
        print(f"{len(records):,} records, broker at {broker.address}, seed {SEED}")
        for name in ("phase-1", "phase-2"):
            (folder / name).mkdir()
        phase_one(report, tool.resolve(), broker, folder / "phase-1", lines, records)
        phase_two(report, tool.resolve(), broker, folder / "phase-2", lines, records)
    finally:
        if broker:
            broker.stop()
        if options.keep:
            print(f"\nkept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    verdict = "EVERYTHING HOLDS" if not report.failed else f"{len(report.failed)} FAILED"
    print(f"\n{verdict} ({time.monotonic() - start:.0f} s)")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
