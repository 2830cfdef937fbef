#!/usr/bin/python3
"""The soak: mixed load with faults for as long as asked, and what must hold meanwhile. Writes a report in Markdown.

usage: soak.py [--duration 30m] [--report FILE] [--record]
--record puts the report into tests/soak/README.md. Exit code 0 if everything held.
"""

import argparse
import pathlib
import re
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "net")]

import harness  # noqa: E402
from faults import DEADLINE_MS, ECHO_CONFIG, Echo, Faults, pause  # noqa: E402
from ledger import Ledger  # noqa: E402
from load import Callers, Publisher, Subscribers, ringbench, ringbench_report  # noqa: E402
from report import Report, Sample  # noqa: E402

REST_S = 3  # a session's memory goes back two seconds after its end
KEPT_EVENTS = 2000  # of the stream, when all were heard: Redis is not to grow
CYCLE_LOAD_S = 8  # of ringbench's commands beside the faults
COMMAND_CONNECTIONS = 8
ENV = {
    "GATEWAY_LOG_LEVEL": "info",
    "GATEWAY_ACCESS_LOG": "off",
    "GATEWAY_PUSH_STREAM_QUEUE_CAPACITY": 64,
    "GATEWAY_SESSION_CACHE_TTL": "20s",  # so that the cache is as large as it will be after a cycle or two
}


def seconds(text):
    match = re.fullmatch(r"(\d+)(s|m|h)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text}: 90s, 30m or 1h is meant")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


class Soak:
    def __init__(self, folder, duration):
        self.duration, self.began = duration, time.monotonic()
        self.redis = harness.Redis(folder, "--appendfsync", "no", data=True)  # killed, it has what it had answered
        self.echo = Echo()
        self.gateway = harness.Gateway(folder, self.redis, env=ENV, config=ECHO_CONFIG.format(address=self.echo.address, deadline=DEADLINE_MS))
        self.ledger = Ledger()
        self.samples = []
        self.warm_up()
        self.subscribers = Subscribers(self.ledger, self.gateway)
        self.publisher = Publisher(self.ledger, self.subscribers)
        self.callers = Callers(self.ledger, self.gateway)
        self.faults = Faults(self.gateway, self.echo, self.subscribers, self.callers)

    def warm_up(self):
        """Receive buffers (12 MiB) are touched by and by: the workers' and the bus's are filled before anything is measured."""
        self._check_commands(self._commands("--payload", 16000, "--envelopes", 10000, "--duration", 1.5))
        report, said = ringbench_report(ringbench(
            self.gateway, "push", "--stream-key", harness.CLIENT_STREAM, "--streams", 2, "--payload", 16000, "--burst", 1500))
        if report.get("lost") != 0:
            self.ledger.fault(f"ringbench push: {report} {said}")

    def _commands(self, *arguments):
        return ringbench(self.gateway, "command", "--connections", COMMAND_CONNECTIONS, "--streams", 8, "--warmup", 0, *arguments)

    def _check_commands(self, process):
        """Faults may fail commands; no answer may be wrong."""
        report, said = ringbench_report(process)
        if report.get("wrong") != 0 or report.get("units", 0) == 0:
            self.ledger.fault(f"ringbench command: {report} {said}")

    def cycle(self):
        self.publisher.resume()
        connections = 'gateway_connections_open{listener="grpc"}'
        before = self.gateway.metric(connections)
        load = self._commands("--rate", 100, "--duration", CYCLE_LOAD_S)
        self.gateway.wait_metric(connections, lambda count: count >= before + COMMAND_CONNECTIONS)  # it needs Redis no more
        self.faults.play()
        self._check_commands(load)
        self.publisher.pause()
        self.ledger.check_delivered()
        self.redis.client.xtrim(harness.CLIENT_STREAM, maxlen=KEPT_EVENTS)
        pause(REST_S)
        self.samples.append(Sample.take(time.monotonic() - self.began, self.gateway, self.ledger))

    def run(self):
        """What breaks the run off is a fault like the others."""
        try:
            self._run()
            self._finish()
        except Exception as error:
            self.ledger.fault(f"the run was broken off: {error!r}"[:2000])

    def _run(self):
        while True:
            began = time.monotonic()
            self.cycle()
            now = time.monotonic()
            if now - self.began + (now - began) / 2 > self.duration and len(self.samples) > 1:
                return

    def _finish(self):
        """The gateway ends with its streams open: each is told why."""
        self.publisher.stop()
        self.callers.stop()
        self.subscribers.expect_shutdown()
        code = self.gateway.process.stop()
        if code != 0:
            self.ledger.fault(f"the gateway's exit code is {code}")
        self.subscribers.await_shutdown()
        self.echo.process.stop()
        self.redis.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=seconds, default="30m")
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    try:
        soak = Soak(folder, options.duration)
        soak.run()
    finally:
        harness.leave_nothing_running()
        shutil.rmtree(folder, ignore_errors=True)
    report = Report(soak, options.duration)
    print(report.text)
    if options.report:
        options.report.write_text(report.text)
    if options.record:
        report.record(HERE / "README.md")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
