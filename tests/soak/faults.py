"""The faults, one at a time, and how long the gateway takes to be whole again."""

import collections
import signal
import threading
import time

import harness
from load import ringbench, ringbench_report

DOWN_S = 1.0
# Where every wait may take longer (TEST_PATIENCE), so may a call.
DEADLINE_MS = round(harness.PATIENCE * 100)  # of the service; Redis has half of it
FROZEN_S = DEADLINE_MS / 1000 * 1.1  # longer than both
STORM = 200  # connections, twice

NO_REDIS = {("UNAVAILABLE", "session cache is unavailable"), ("UNAVAILABLE", "replay store is unavailable")}
NO_SERVICE = {("UNAVAILABLE", "downstream service is unavailable")}
LATE_SERVICE = NO_SERVICE | {("DEADLINE_EXCEEDED", "downstream service timed out")}

ECHO_CONFIG = """
upstreams:
  echo: {{ addresses: ["{address}"], deadline: {deadline}ms, health: true, health_interval: 5s }}
commands:
  - {{ message_type: "test.*", upstream: echo }}
  - {{ message_type: "echo.*", upstream: echo }}
"""


def pause(seconds):
    """How long a fault lasts: the schedule of the run, not a wait for anything."""
    threading.Event().wait(seconds)


class Echo:
    """The command handler of bench/, on one address over its restarts."""

    def __init__(self):
        self.address = f"127.0.0.1:{harness.free_port()}"
        self.start()

    def start(self):
        self.process = harness.start_echo(self.address)

    def kill(self):
        self.process.process.kill()
        self.process.stop()


class Faults:
    def __init__(self, gateway, echo, subscribers, callers):
        self.gateway, self.echo, self.subscribers, self.callers = gateway, echo, subscribers, callers
        self.ledger = subscribers.ledger
        self.recoveries = collections.defaultdict(list)  # name: seconds

    def play(self):
        for name, statuses, act in (
                ("sessions revoked", (), lambda: self.subscribers.revoke(3)),
                ("Redis killed and restarted", NO_REDIS, self._redis_killed),
                ("Redis frozen", NO_REDIS, self._redis_frozen),
                ("service killed and restarted", NO_SERVICE, self._service_killed),
                ("service frozen", LATE_SERVICE, self._service_frozen),
                ("configuration read again", (), self._reload),
                ("all clients reconnect", (), self.subscribers.reconnect),
                ("reconnect storm", (), self._storm),
                ("streams that do not read", (), self._stall)):
            self.callers.allowed = {name: statuses}
            act()
            lifted = time.monotonic()
            self._await_whole()
            self.recoveries[name].append(time.monotonic() - lifted)
            self.callers.allowed = {}

    def _await_whole(self):
        workers = int(self.gateway.env["GATEWAY_WORKERS"])
        wanted = {'gateway_redis_connected{role="session"}': workers + 1,
                  'gateway_redis_connected{role="session_events"}': 1,
                  'gateway_redis_connected{role="client_events"}': 1,
                  f'upstream_healthy{{upstream="echo",address="{self.echo.address}"}}': workers}
        harness.wait_until(lambda: wanted.items() <= self.gateway.metrics().items(), f"{wanted}")
        self.callers.await_good()

    def _redis_killed(self):
        self.gateway.redis.kill()
        pause(DOWN_S)
        self.gateway.redis.restart()

    def _frozen(self, process):
        process.signal(signal.SIGSTOP)
        pause(FROZEN_S)
        process.signal(signal.SIGCONT)

    def _redis_frozen(self):
        self._frozen(self.gateway.redis.process)

    def _service_killed(self):
        self.echo.kill()
        pause(DOWN_S)
        self.echo.start()

    def _service_frozen(self):
        self._frozen(self.echo.process)

    def _reload(self):
        name = 'gateway_config_reloads_total{result="success"}'
        before = self.gateway.metric(name)
        self.gateway.process.signal(signal.SIGHUP)
        self.gateway.wait_metric(name, lambda value: value == before + 1)

    def _storm(self):
        self._check_ringbench(ringbench(self.gateway, "storm", "--connections", STORM, "--rounds", 2))

    def _stall(self):
        """On a busy machine ringbench itself may be slow, and more streams than those that stall overflow."""
        report = self._check_ringbench(ringbench(
            self.gateway, "push", "--stream-key", harness.CLIENT_STREAM, "--streams", 20, "--stall", 0.1, "--payload",
            16000, "--rate", 100, "--warmup", 0.1, "--duration", 2.4), "ended")
        ends = report.get("ended_by", {})
        if set(ends) != {"RESOURCE_EXHAUSTED"} or ends["RESOURCE_EXHAUSTED"] < 2:
            self.ledger.fault(f"streams that do not read: {report}")

    def _check_ringbench(self, process, *may_be):
        report, said = ringbench_report(process)
        bad = {name: report.get(name) for name in ("failed", "wrong", "lost", "duplicates", "ended")
               if report.get(name) != 0 and name not in may_be}
        if bad:
            self.ledger.fault(f"ringbench: {bad} {said}")
        return report
