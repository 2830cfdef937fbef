"""Each allocation of a story is refused in turn, the libraries' included: what is asked ends with a clean error or as it
should, and what comes after is well. The program is ringway-faults (tests/faults/allocator.c)."""

import contextlib
import http.client
import mmap
import struct
import subprocess
import uuid

import grpc
import pytest

import harness
from conftest import ECHO_CONFIG

FAULTY = harness.OUT / "ringway-faults"


class Faults:
    """The program's allocator, by the memory shared with it: at, run, count, refused."""

    def __init__(self, folder):
        self.path = folder / "faults"
        self.path.write_bytes(bytes(32))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 32)

    def _write(self, index, value):
        struct.pack_into("=Q", self.map, index * 8, value)

    def _read(self, index):
        return struct.unpack_from("=Q", self.map, index * 8)[0]

    def arm(self, at, run=1):
        self.disarm()
        self._write(1, run)
        self._write(2, 0)
        self._write(0, at)

    def disarm(self):
        self._write(0, 0)

    @property
    def attempts(self):
        return self._read(2)

    @property
    def refused(self):
        return self._read(3)


@pytest.fixture
def faults(folder):
    return Faults(folder)


@pytest.fixture
def faulty(folder, redis_server, echo, faults):
    """One worker, and readers of streams that are silent while nothing is published: what is counted is the story's."""
    process = harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address), program=FAULTY, env={
        "RINGWAY_FAULT_FILE": faults.path, "GATEWAY_WORKERS": 1, "GATEWAY_LOG_LEVEL": "info",
        "GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "1m", "GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "1m"})
    yield process
    faults.disarm()
    process.stop()


ATTEMPTS_MAX = 3000


def sweep(faults, story, well):
    """Refuses the first attempt, then the second, … until the story passes without a refusal. Returns its outcomes."""
    outcomes = {}
    for number in range(1, ATTEMPTS_MAX):
        before = faults.refused
        faults.arm(number)
        outcome = story()
        faults.disarm()
        outcomes.setdefault(outcome, []).append(number)
        if faults.refused == before:
            assert outcome == well, outcome
            return outcomes
        # what was lost with it (a connection to Redis, to a service) is made anew
        harness.wait_until(lambda: story() == well, f"well again after refusal {number}, which gave {outcome}")
    raise harness.Failed("never without a refusal")


def channel_to(gateway):
    """One that tries nothing twice by itself."""
    return harness.Channel(gateway.grpc, **{"grpc.enable_retries": 0})


def status_of(error):
    return error.code().name, error.details()


# ---- HTTP/1.1 ----

def get(address, path):
    """The status, or "closed" if the connection ended without one."""
    try:
        return harness.http(address, "GET", path)[0]
    except (ConnectionError, http.client.HTTPException):
        return "closed"


@pytest.mark.parametrize("listener", ["public", "admin"])
def test_http1_request_is_answered_or_its_connection_closed(faulty, faults, listener):
    address = faulty.public if listener == "public" else faulty.admin
    outcomes = sweep(faults, lambda: get(address, "/healthz"), 200)
    print(outcomes)
    assert set(outcomes) <= {200, 503, "closed"} and "closed" in outcomes


# ---- commands ----

def execute(gateway, device):
    with channel_to(gateway) as channel:
        try:
            channel.execute(device.request())
            return "OK"
        except grpc.RpcError as error:
            return status_of(error)


def test_command_through_to_its_service_ends_with_a_status(faulty, faults):
    """A new session each time: its record is read from Redis too."""
    outcomes = sweep(faults, lambda: execute(faulty, harness.Device(faulty)), "OK")
    print(outcomes)
    assert {outcome[0] for outcome in outcomes if outcome != "OK"} <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"}


# ---- streams ----

def heard(stream):
    """What comes next on it: an event's id, or its end."""
    item = stream.events.get(timeout=harness.PATIENCE)
    return item if isinstance(item, tuple) else item.event_id


REVOKED = ("FAILED_PRECONDITION", "device session is revoked")


def follow(gateway):
    """Opens a stream, is sent an event, is revoked. Whatever is refused meanwhile: the event comes or the stream has
    ended, and a revoked session has no stream and no command."""
    device = harness.Device(gateway)
    with channel_to(gateway) as channel:
        request = device.subscribe_request()
        stream = channel.subscribe(request)
        last = heard(stream)
        if last == request.request_id:
            event_id = harness.publish_event(gateway, device.user)
            last = heard(stream)
            assert isinstance(last, tuple) or last == event_id
        device.revoke()
        if not isinstance(last, tuple):
            last = heard(stream)
        assert isinstance(last, tuple), f"an event after the revocation: {last}"
    harness.wait_until(lambda: execute(gateway, device) != "OK", "the revocation is known")
    return last


def test_stream_has_every_event_or_ends_and_no_revocation_is_lost(faulty, faults):
    outcomes = sweep(faults, lambda: follow(faulty), REVOKED)
    print(outcomes)
    assert {outcome[0] for outcome in outcomes} <= {"FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"}
