"""What the soak has found, in Markdown."""

import collections
import dataclasses
import os
import platform
import re
import time

import harness

GROWTH_MAX = 0.02  # of resident memory
OPERATIONS_MAX = 4  # in flight: health checks and reads of Redis come and go; what leaks does so in every cycle
ROWS_MAX = 32
MARKS = "<!-- report -->\n", "<!-- /report -->"


@dataclasses.dataclass
class Sample:
    """At rest, after a cycle: the standing connections and streams are open, nothing is sent."""

    at_s: float
    resident: float
    descriptors: float
    connections: float
    streams: float
    operations: float
    published: int
    delivered: int
    unheard: int
    faults: int

    @classmethod
    def take(cls, at_s, gateway, ledger):
        values = gateway.metrics()
        total = collections.Counter()
        for name, value in values.items():
            total[name.partition("{")[0]] += value
        with ledger.changed:
            return cls(at_s, total["process_resident_memory_bytes"], total["process_open_fds"],
                       values['gateway_connections_open{listener="grpc"}'], total["gateway_push_streams_open"],
                       total["gateway_ring_operations_in_flight"], ledger.published, ledger.delivered,
                       sum(ledger.unheard.values()), len(ledger.faults))


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def mib(size):
    return f"{size / 2**20:.1f}"


def settled(samples):
    """Those of the last two thirds of the time."""
    if not samples:
        return []
    limit = samples[-1].at_s / 3
    return [sample for sample in samples[:-1] if sample.at_s >= limit] + samples[-1:]


class Report:
    def __init__(self, soak, duration):
        self.soak, self.ledger = soak, soak.ledger
        self.checks = self._judge()
        self.good = all(good for _, _, _, good in self.checks)
        self.text = "\n".join([self._head(duration), self._verdict(), self._over_time(), self._faults(), self._outcomes()])

    def _judge(self):
        late = settled(self.soak.samples)
        if not late:
            return [("cycles", 0, "> 0", False)]
        first = late[0]
        growth = max(sample.resident for sample in late) / first.resident - 1
        checks = [("events that were lost, doubled, wrong or late without a status; calls that failed without a fault",
                   len(self.ledger.faults), 0, not self.ledger.faults)]
        if harness.MODE == "release":
            checks.append(("resident memory, growth over the last two thirds", f"{growth:+.2%}", f"≤ {GROWTH_MAX:.0%}",
                           growth <= GROWTH_MAX))
        for name, bound in (("descriptors", 0), ("connections", 0), ("streams", 0), ("operations", OPERATIONS_MAX)):
            most = max(getattr(sample, name) for sample in late) - getattr(first, name)
            checks.append((f"{name} at rest, growth over the last two thirds", f"{most:+g}", f"≤ {bound}", most <= bound))
        return checks

    def _head(self, duration):
        when = time.strftime("%Y-%m-%d", time.gmtime())
        minutes = (time.monotonic() - self.soak.began) / 60
        return (f"{minutes:.1f} minutes (asked for: {duration / 60:g}), {len(self.soak.samples)} cycles, "
                f"{when}, Linux {platform.release()}, {os.cpu_count()} CPUs, {harness.MODE} build: "
                f"**{'everything held' if self.good else 'FAILED'}**\n")

    def _verdict(self):
        rows = [(name, found, bound, "yes" if good else "**no**") for name, found, bound, good in self.checks]
        return table(("what", "found", "bound", "held"), rows) + "".join(
            f"\n- {text}" for text in self.ledger.faults[:20]) + ("\n" if self.ledger.faults else "")

    def _over_time(self):
        samples = self.soak.samples
        if not samples:
            return ""
        step = -(-len(samples) // ROWS_MAX)
        shown = [*samples[:-1:step], samples[-1]]
        return table(("minute", "resident MiB", "descriptors", "connections", "streams", "operations", "events published",
                      "delivered", "not any more: stream ended", "faults"),
                     [(f"{s.at_s / 60:.1f}", mib(s.resident), *(f"{value:g}" for value in (
                         s.descriptors, s.connections, s.streams, s.operations)), s.published, s.delivered, s.unheard, s.faults)
                      for s in shown])

    def _faults(self):
        rows = []
        for name, times in self.soak.faults.recoveries.items():
            times = sorted(times)
            rows.append((name, len(times), f"{times[len(times) // 2]:.2f}", f"{times[-1]:.2f}"))
        return table(("fault", "times", "whole again after, median s", "longest s"), rows)

    def _outcomes(self):
        calls = [(fault, status, message or "–", count)
                 for (fault, status, message), count in sorted(self.soak.callers.outcomes.items())]
        ends = [(status, message or "–", count, self.ledger.unheard[status, message])
                for (status, message), count in sorted(self.ledger.ends.items())]
        return (table(("calls during", "status", "message", "count"), calls) + "\n" +
                table(("streams ended with", "message", "streams", "events they did not get any more"), ends) +
                f"\nEvents whose XADD had no answer, so that they may or may not be there: {self.ledger.unsure}.\n")

    def record(self, readme):
        text = readme.read_text()
        begin, end = MARKS
        readme.write_text(re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{self.text}\n{end}", text, flags=re.DOTALL))
