"""Contestants of one piece of work, run in alternating order, round after round."""

import sys
import time

from . import verdict
from .processes import Wrong


class Contest:
    def __init__(self, name, title, unit="µs CPU"):
        self.name, self.title, self.unit = name, title, unit
        self.runs = {}  # contestant -> how it runs once
        self.samples = {}
        self.wrong = {}
        self.absent = {}
        self.goals, self.notes = [], []
        self.took = 0.0

    def add(self, contestant, run, is_here=True):
        """`run` gives one sample: {"figure": …, and what else it measured}. Not here: reported as absent."""
        if is_here:
            self.runs[contestant] = run
        else:
            self.absent[contestant] = "absent: not installed here"

    def play(self, rounds):
        began = time.monotonic()
        order = list(self.runs)
        for number in range(rounds):
            for contestant in order if number % 2 == 0 else reversed(order):
                self._run(contestant)
        self.took += time.monotonic() - began
        return self

    def _run(self, contestant):
        try:
            sample = self.runs[contestant]()
            self.samples.setdefault(contestant, []).append(sample)
            say(f"  {self.name} {contestant}: {sample['figure']:.3f} {self.unit}"
                + (f", p99 {sample['p99']:.0f} µs" if sample.get("p99") else ""))
        except Wrong as error:
            self.wrong.setdefault(contestant, []).append(str(error))
            say(f"  {self.name} {contestant}: no figure: {error}")

    def median(self, contestant, field="figure"):
        found = verdict.summary([sample.get(field) for sample in self.samples.get(contestant, [])])
        return found and found["median"]

    def is_right(self, contestant="ringway"):
        """Every run of it had a figure."""
        return bool(self.samples.get(contestant)) and not self.wrong.get(contestant)

    def result(self):
        contestants = {}
        for name in [*self.runs, *self.absent]:
            samples = self.samples.get(name, [])
            fields = {field for sample in samples for field in sample}
            contestants[name] = {
                **{field: verdict.summary([sample.get(field) for sample in samples]) for field in sorted(fields)},
                "samples": samples, "wrong": self.wrong.get(name, []),
                "absent": self.absent.get(name)}
        wrong = sum(len(self.wrong[name]) for name in self.wrong if name.startswith("ringway"))
        if wrong:
            self.goals.append(verdict.told(f"right answers in every run ({wrong} without)", False))
        return {"title": self.title, "unit": self.unit, "contestants": contestants, "goals": self.goals,
                "notes": self.notes, "took_s": round(self.took, 1)}


def say(text):
    print(text, file=sys.stderr, flush=True)


def sample_of(report, **allowed):
    """A ringbench report as a sample; raises Wrong if it has no figure."""
    why = verdict.complaint(report, **allowed)
    if why:
        raise Wrong(f"{why}: {report.get('why', '')}")
    latency = report.get("latency_us", {})
    return {"figure": report["server_cpu_us_per_unit"], "rate": report["rate_per_s"], "units": report["units"],
            "p50": latency.get("p50"), "p99": latency.get("p99"), "p99_9": latency.get("p99_9"),
            "generator_us": report.get("generator_cpu_us_per_unit")}
