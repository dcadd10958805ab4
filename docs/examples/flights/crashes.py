"""Flights with crashes: the broker is killed three times and loses its power once
while records are published and settled. What was delivered is then compared with the
file, record by record, and everything that came twice is counted by its cause.
"""

import collections
import datetime
import os
import signal
import socket
import subprocess
import time

from disk import Disk, NoDisk
from parts import (
    CLASSES, GROUPS, KILLED, STREAM, TIMES, Publisher, check_published, drained, expected_queue,
    nack_line, start_workers, wait_for)

# What happens when this share of the records, in hundredths, is confirmed.
MOMENTS = [(10, "worker"), (20, "kill"), (40, "kill"), (60, "power"), (75, "kill")]
# A broker whose disk fails ends itself with this code, and within this time.
DISK_FAILED, ENDS_WITHIN_S = 74, 10

Delivery = collections.namedtuple("Delivery", "time_ms worker verb confirmed")
# What swallows acks: of one worker, or of all (None), if their line is older than the
# end of it.
Event = collections.namedtuple("Event", "name worker began_ms over_ms")


def now_ms():
    return time.time() * 1000


def free_address():
    """A port that stays free while the broker is away: below those that the system
    gives to outgoing connections."""
    first = 20_000 + os.getpid() % 10_000
    for port in range(first, first + 2000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return f"127.0.0.1:{port}"
            except OSError:
                pass
    raise SystemExit("FAILED: no free port")


def make_disk(folder):
    """The disk; None, and a line that says why, where there can be none."""
    try:
        return Disk(folder)
    except NoDisk as why:
        print(f"no power cut: {why}")
        return None


# ---- What happens to the broker ----

class Story:
    """Lets things happen, and remembers when."""

    def __init__(self, report, broker, disk, publisher, workers, count):
        self.report, self.broker, self.disk = report, broker, disk
        self.publisher, self.workers = publisher, workers
        self.victim = workers[KILLED - 1]
        self.events = []
        # Crashes that met unconfirmed records.
        self.count, self.publishing = count, 0

    def so_far(self):
        deliveries = sum(worker.lines_so_far() for worker in self.workers)
        return (f"{self.publisher.confirmed:,} records confirmed, "
                f"{self.publisher.published:,} sent, {deliveries:,} deliveries")

    def happen(self, what):
        began_ms = now_ms()
        if what == "worker":
            name = self.victim.name
            self.victim.process.send_signal(signal.SIGKILL)
            self.victim.process.wait()
            self.events.append(Event(f"kill of {name}", name, began_ms, now_ms()))
            print(f"  {self.so_far()}: kill -9 of {name}")
            return
        name = f"crash {1 + len(self.crashes())}"
        if what == "power":
            code = self._cut_power()
            print(f"  {self.so_far()}: the power is cut; the broker "
                  f"{f'ends itself with {code}' if code is not None else 'is killed'}")
            self.report.check(
                code == DISK_FAILED, f"it ends with {DISK_FAILED} when its disk fails")
            self.disk.mount_again()
        else:
            self.broker.kill()
            print(f"  {self.so_far()}: kill -9 of the broker")
        self.publishing += self.publisher.confirmed < self.count
        again = time.monotonic()
        self.broker.start(self.broker.address)
        ready_ms = int(1000 * (time.monotonic() - again))
        # From then on deliveries are those of the new life.
        ready = self.broker.logged(" ready ").split()[0]
        over = datetime.datetime.strptime(ready, "%Y-%m-%dT%H:%M:%S.%fZ")
        over_ms = over.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000
        self.events.append(Event(name, None, began_ms, over_ms))
        opened = self.broker.logged("the store is open")
        print(f"    {name}: ready again in {ready_ms} ms: {opened.split('open ')[1]}")
        self.report.check("clean=false" in opened, "the broker found that it had not been stopped")

    def crashes(self):
        return [event.name for event in self.events if event.worker is None]

    def _cut_power(self):
        """The exit code of a broker that ended by itself, else None."""
        self.disk.cut()
        try:
            code = self.broker.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            code = None
            self.broker.kill()
        return code


# ---- Counting ----

def deliveries_by_place(workers):
    """What was delivered, by (queue or group, partition, offset), in order of time;
    the row at each place; and the places that two rows claim."""
    places, rows, torn = collections.defaultdict(list), {}, set()
    for worker in workers:
        lines = list(worker.whole_lines())
        confirmed = {(line[0], line[6]) for line in lines if line[3] == "confirmed"}
        for source, row, _, verb, partition, offset, batch, time_ms in lines:
            if verb == "confirmed":
                continue
            place, row = (source, int(partition), int(offset)), int(row)
            if rows.setdefault(place, row) != row:
                torn.add(place)
            places[place].append(
                Delivery(int(time_ms), worker.name, verb, (source, batch) in confirmed))
    for deliveries in places.values():
        deliveries.sort()
    return places, rows, torn


def cause(story, first, then):
    """Why `then` came behind `first`, which was acked: the first thing that happened
    between the two and can have swallowed the ack."""
    if first.confirmed:
        return "confirmed"
    for event in story.events:
        if event.worker in (None, first.worker) and (
                first.time_ms <= event.over_ms and event.began_ms <= then.time_ms + 1):
            return event.name
    return "unexplained"


def again_by_cause(story, places):
    """Source -> how often a delivery that was acked came again, by cause; and the
    number of places that nobody settled in the end."""
    again, open_places = collections.defaultdict(collections.Counter), 0
    for place, deliveries in places.items():
        open_places += deliveries[-1].verb != "ack"
        for first, then in zip(deliveries, deliveries[1:]):
            if first.verb == "ack":
                again[place[0]][cause(story, first, then)] += 1
    return again, open_places


class Again:
    """How often each row was published."""

    def __init__(self, publisher, count):
        self.tries = [1] * count
        for first, size in publisher.again:
            for row in range(first, first + size):
                self.tries[row] += 1
        self.rows = sum(tries > 1 for tries in self.tries)


def check_rows(report, story, records, places, rows, again, counts):
    """Every row in its queue, and no more copies than it was published."""
    wanted, found = collections.Counter(), collections.defaultdict(collections.Counter)
    for record in records:
        wanted[expected_queue(record, 1)] += 1
    for (source, _, _), row in rows.items():
        found[source][row] += 1
    queues = [f"flights-{length}-{late}" for length in CLASSES for late in TIMES]
    victim = story.victim.name
    table = []
    for source in [*queues, *GROUPS]:
        count = len(records) if source in GROUPS else wanted[source]
        kept, causes = found[source], counts[source]
        by_crash = sum(causes[name] for name in story.crashes())
        table.append([source, count, len(kept), sum(kept.values()) - len(kept), by_crash,
                      causes[f"kill of {victim}"], causes["confirmed"] + causes["unexplained"]])
    report.table(["queue or group", "computed", "rows found", "copies more", "again: crash",
                  f"again: {victim}", "unexplained"], table)
    report.check(all(row[1] == row[2] for row in table),
                 "every row was delivered and settled: in its queue, and in both groups; none lost")
    wrong = sum(source != expected_queue(records[row], 1)
                for source in queues for row in found[source])
    report.check(wrong == 0, f"{wrong} rows in a queue that is not theirs")
    over = sum(kept > again.tries[row]
               for source in found.values() for row, kept in source.items())
    extra = sum(row[3] for row in table[:len(queues)])
    once = [row for row, tries in enumerate(again.tries) if tries == 1]
    lost = sum(found[source][row] != 1 for row in once
               for source in [expected_queue(records[row], 1), *GROUPS])
    report.check(lost == 0, f"{len(once):,} rows were published once and confirmed: each is there "
                            "once, in its queue and in the stream")
    report.check(over == 0, f"{again.rows:,} rows were published again because nobody had "
                            f"confirmed them, which left {extra:,} copies more in the queues; "
                            f"{over} rows have more copies than were published")


def check_again(report, story, counts, open_places, torn):
    total = sum(counts.values(), collections.Counter())
    text = ", ".join(f"{event.name} {total[event.name]:,}" for event in story.events)
    report.check(total["unexplained"] == 0,
                 f"came again, because the ack was not confirmed: {text}; "
                 f"{total['unexplained']} that at-least-once does not explain")
    report.check(total["confirmed"] == 0, f"{total['confirmed']} came again behind a confirmed ack")
    report.check(open_places == 0, f"{open_places} deliveries were given back and never came again")
    report.check(not torn, f"{len(torn)} offsets held two records in turn")


def check_stream(report, broker, rows):
    """Both groups see what the stream holds, offset by offset."""
    info = broker.ask("stream", "info", STREAM)[0]
    held = {(partition, offset)
            for partition, (start, end) in enumerate(zip(info["starts"], info["ends"]))
            for offset in range(start, end)}
    for group in GROUPS:
        seen = {place[1:] for place in rows if place[0] == group}
        report.check(seen == held, f"group {group} saw {len(seen & held):,} of the {len(held):,} "
                                   f"offsets of the stream, {len(seen - held)} others")


def check_folder(report, broker):
    broker.stop()
    done = subprocess.run([broker.weir, "store", "check", broker.data],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = (done.stdout.strip().splitlines() or [""])[-1]
    report.check(done.returncode == 0, f"weir store check: {said}")


def phase_crashes(report, tool, broker, disk, folder, lines, records):
    report.title("Every record to its queue, while the broker crashes")
    queues = [f"flights-{length}-{late}" for length in CLASSES for late in TIMES]
    workers, members = start_workers(tool, broker, folder, queues, ["--confirm", "yes"])
    publisher = Publisher(tool, broker, lines)
    story = Story(report, broker, disk, publisher, workers, len(records))
    for share, what in MOMENTS:
        if what == "power" and not disk:
            continue
        row = len(records) * share // 100
        wait_for(f"row {row} to be confirmed",
                 lambda: publisher.confirmed >= row or publisher.process.poll() is not None, 0.002)
        story.happen(what)
    result = publisher.finish()
    wait_for("the queues to be empty", lambda: drained(broker, queues), 0.1)
    ended = [worker.finish() for worker in workers + members
             if worker is not story.victim]

    places, rows, torn = deliveries_by_place(workers + members)
    counts, open_places = again_by_cause(story, places)
    check_published(report, result, len(records), 2 * len(records))
    report.check(story.publishing == len(story.crashes()),
                 f"{story.publishing} of {len(story.crashes())} crashes were in the middle of "
                 "publishing")
    check_rows(report, story, records, places, rows, Again(publisher, len(records)), counts)
    check_again(report, story, counts, open_places, torn)
    check_stream(report, broker, rows)
    nack_line(report, workers)
    report.check(not any(ended), "the publisher and all workers came back by themselves, and "
                                 "ended in good order")
    check_folder(report, broker)
