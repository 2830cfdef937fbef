"""The standing load: subscribers, a publisher, callers. Each keeps its promises while the faults go on."""

import collections
import itertools
import json
import random
import subprocess
import threading
import time

import grpc
import redis

import harness
from ledger import Subscriber

DEVICES = 24
STREAMS_OF_A_DEVICE = 2
CHANNELS = 8
EVENTS_PER_S = 120
CALLERS = 2
CALLS_PER_S = 25  # of each

REVOKED = ("FAILED_PRECONDITION", "device session is revoked")
SHUTDOWN = ("UNAVAILABLE", "gateway is shutting down")


class Subscribers:
    """Devices with their streams, spread over channels; revoked ones are replaced."""

    def __init__(self, ledger, gateway):
        self.ledger, self.gateway = ledger, gateway
        self.channels = [harness.Channel(gateway.grpc) for _ in range(CHANNELS)]
        self.devices = [harness.Device(gateway) for _ in range(DEVICES)]
        self.streams, self.turn = [], itertools.count()
        self.open(self.devices)

    def open(self, devices):
        fresh = []
        for device in devices:
            for _ in range(STREAMS_OF_A_DEVICE):
                stream = self.channels[next(self.turn) % CHANNELS].subscribe(
                    device.subscribe_request(),
                    reader=lambda call, device=device: Subscriber(self.ledger, self.gateway, device, call))
                fresh.append(stream)
        for stream in fresh:
            stream.wait(stream.is_open, "open")
        self.streams += fresh

    def _await_ends(self, streams):
        for stream in streams:
            stream.wait(stream.has_ended, "end")
            self.streams.remove(stream)

    def revoke(self, count):
        """Their streams end with the status for it; others take their places."""
        gone = random.sample(self.devices, count)
        streams = [stream for stream in self.streams if stream.device in gone]
        for stream in streams:
            stream.may_end = {REVOKED}
        for device in gone:
            device.revoke()
        self._await_ends(streams)
        self.devices = [device for device in self.devices if device not in gone]
        fresh = [harness.Device(self.gateway) for _ in gone]
        self.devices += fresh
        self.open(fresh)

    def reconnect(self):
        """All leave at once and all come back at once, on new connections."""
        streams = list(self.streams)
        for stream in streams:
            stream.may_end = {"CANCELLED"}
        for channel in self.channels:
            channel.close()
        self._await_ends(streams)
        self.channels = [harness.Channel(self.gateway.grpc) for _ in range(CHANNELS)]
        self.open(self.devices)

    def expect_shutdown(self):
        for stream in self.streams:
            stream.may_end = {SHUTDOWN}

    def await_shutdown(self):
        self._await_ends(list(self.streams))
        for channel in self.channels:
            channel.close()


class Publisher:
    """Writes numbered events to users in turn, at a steady rate; waits while Redis does."""

    def __init__(self, ledger, subscribers):
        self.ledger, self.subscribers = ledger, subscribers
        self.going, self.idle, self.stopping = threading.Event(), threading.Event(), False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        socket = str(self.subscribers.gateway.redis.socket)
        client = redis.Redis(unix_socket_path=socket)
        while not self.stopping:
            if not self.going.is_set():
                self.idle.set()
                self.going.wait()
                due = time.monotonic()
                continue
            user = random.choice(self.subscribers.devices).user
            number = self.ledger.begin(user)
            try:
                client.xadd(harness.CLIENT_STREAM, {
                    "user_id": user, "event_type": "soak", "event_id": f"{user}/{number}",
                    "payload_bytes": b"x" * random.choice((20, 200, 200, 2000))})
                self.ledger.written(user, number, True)
            except (redis.RedisError, AttributeError):  # as in _is_answered
                self.ledger.written(user, number, False)
                harness.wait_until(lambda: self._is_answered(client), "Redis is back")
            due = max(due + 1 / EVENTS_PER_S, time.monotonic() - 1)
            threading.Event().wait(max(0, due - time.monotonic()))
        client.close()

    def _is_answered(self, client):
        try:
            return client.ping()
        except (redis.RedisError, AttributeError):  # redis-py 4.3 tells a lost unix socket by its host, which it has not
            return False

    def resume(self):
        self.idle.clear()
        self.going.set()

    def pause(self):
        self.going.clear()
        assert self.idle.wait(2 * harness.PATIENCE), "the publisher hangs"

    def stop(self):
        self.stopping = True
        self.going.set()
        self.thread.join()


class Callers:
    """Commands by grpcio, one after another on each channel, each answer checked. Outside a fault every one succeeds."""

    def __init__(self, ledger, gateway):
        self.ledger, self.gateway = ledger, gateway
        self.outcomes = collections.Counter()  # (fault, status, message): calls
        self.allowed = {}  # what the fault that is on may cause: name and statuses
        self.last_good = [0.0] * CALLERS  # when the last call that succeeded began
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(index,), daemon=True) for index in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def _run(self, index):
        device = harness.Device(self.gateway)
        with harness.Channel(self.gateway.grpc) as channel:
            while not self.stopping.wait(1 / CALLS_PER_S):
                before, began = self.allowed, time.monotonic()
                try:
                    request = device.request()
                    harness.check_response(self.gateway, request, channel.execute(request))
                    end = ("OK", "")
                    self.last_good[index] = began
                except grpc.RpcError as error:
                    end = (error.code().name, error.details())
                except Exception as error:
                    end = ("wrong answer", repr(error))
                self._note(end, {**self.allowed, **before})

    def _note(self, end, allowed):
        """`allowed`: by the fault that was on when the call began, and by that when it ended; the next may have come between."""
        faults = [fault for fault, statuses in allowed.items() if end in statuses] or list(allowed) or ["none"]
        with self.ledger.changed:
            self.outcomes[faults[-1], *end] += 1
            if end != ("OK", "") and not any(end in statuses for statuses in allowed.values()):
                self.ledger.faults.append(f"a call ended {end}; faults: {', '.join(faults)}")

    def await_good(self):
        """Each caller has had a good answer to a call that began after now."""
        now = time.monotonic()
        harness.wait_until(lambda: min(self.last_good) > now, "good answers again")

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def ringbench(gateway, work, *arguments):
    return subprocess.Popen([str(word) for word in (
        harness.OUT / "ringbench", work, "--target", gateway.grpc, "--redis", gateway.redis.address, *arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ringbench_report(process):
    """Its report, and what it said."""
    try:
        out, err = process.communicate(timeout=3 * harness.PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {}, f"{process.args[1]} did not end"
    return json.loads(out.splitlines()[-1]) if out else {}, err.decode().strip()
