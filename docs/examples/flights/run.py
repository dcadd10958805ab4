#!/usr/bin/env python3
"""Flights: 200,000 real records through router, queues, stream and groups, counted.

Starts a broker of its own, publishes every record, lets four workers settle what
arrives while one of them is killed and another gives 5 % back, reads a stream with
two groups, and then does it again while the router is replaced, broken and rolled
back. With `--crashes` the broker itself is killed, and its power is cut. Every count
is compared with one made here, in Python, from the same file.

Python 3 and nothing else; what is needed of Weir it builds with cargo. See README.md.
"""

import argparse
import collections
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from crashes import free_address, make_disk, phase_crashes
from parts import (
    CLASSES, GROUPS, KILLED, PACED_S, ROUTER, SEED, STREAM, TIMES, Broker, Publisher, Report,
    acks_by_row, build, check_duplicates, check_groups, check_published, check_queues, drained,
    expected_queue, fetch, nack_line, start_workers, wait_for)

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
    check_published(report, result, len(records), 2 * len(records))
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
    check_published(report, result, len(records), 2 * len(records))
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


def two_phases(report, tool, broker, folder, lines, records):
    for name in ("phase-1", "phase-2"):
        (folder / name).mkdir()
    phase_one(report, tool, broker, folder / "phase-1", lines, records)
    phase_two(report, tool, broker, folder / "phase-2", lines, records)


def options_given():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--crashes", action="store_true",
                        help="kill the broker three times and cut its power once, instead")
    parser.add_argument("--file", type=pathlib.Path, help="flights-200k.json, if it is here already")
    parser.add_argument("--quick", action="store_true", help="the first 10,000 records only")
    parser.add_argument("--weir", type=pathlib.Path, help="the broker, if it is built already")
    parser.add_argument("--tool", type=pathlib.Path, help="the client's example `flights`, likewise")
    parser.add_argument("--keep", action="store_true", help="keep logs and data, and say where")
    options = parser.parse_args()
    if options.quick and options.crashes:
        parser.error("--crashes needs all records: the first 10,000 are out before it begins")
    return options


def main():
    sys.stdout.reconfigure(line_buffering=True)
    options = options_given()
    start = time.monotonic()
    records = json.loads((options.file or fetch()).read_text())
    if options.quick:
        records = records[:10_000]
    weir, tool = options.weir, options.tool
    if not (weir and tool):
        weir, tool = build()
    weir, tool = weir.resolve(), tool.resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-flights-"))
    report = Report()
    broker = disk = None
    try:
        lines = folder / "records.ndjson"
        lines.write_text("".join(json.dumps(record) + "\n" for record in records))
        if options.crashes:
            disk = make_disk(folder)
            data = (disk.path if disk else folder) / "weir-data"
            broker = Broker(weir, folder, data, free_address())
        else:
            broker = Broker(weir, folder)
        make_places(broker)
        print(f"{len(records):,} records, broker at {broker.address}, seed {SEED}")
        if options.crashes:
            phase_crashes(report, tool, broker, disk, folder, lines, records)
        else:
            two_phases(report, tool, broker, folder, lines, records)
    finally:
        if broker:
            broker.stop()
        if disk:
            if options.keep:
                shutil.copytree(broker.data, folder / "weir-data", ignore_dangling_symlinks=True)
            disk.close()
        if options.keep:
            print(f"\nkept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    verdict = "EVERYTHING HOLDS" if not report.failed else f"{len(report.failed)} FAILED"
    print(f"\n{verdict} ({time.monotonic() - start:.0f} s)")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
