"""Descriptors, memory, locked memory and disks that run out: a clean error or less service, a counter, and all as before
when it passes. The README's table "When a resource runs out" is this file's."""

import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess

import pytest

import harness
from cable import Cable
from conftest import ECHO_CONFIG
from harness import publish_event

release_only = pytest.mark.skipif(harness.MODE != "release", reason="sanitizers need address space without a bound")
needs_direct_files = pytest.mark.skipif(not harness.DIRECT_FILES, reason="connections are descriptors before Linux 6.13")
DROPPED = "gateway_log_lines_dropped_total"


@contextlib.contextmanager
def limited(gateway, kind, soft):
    """The running process may use so much and no more."""
    before = resource.prlimit(gateway.process.pid, kind)
    resource.prlimit(gateway.process.pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(gateway.process.pid, kind, before)


def start_refused(folder, redis_server, *prefix):
    """Starts it with so little that it cannot. Returns the error of the line that says why."""
    gateway = harness.Gateway(folder, redis_server, wait=False, prefix=lambda env: prefix)
    code = gateway.process.wait()
    errors = [json.loads(line) for line in gateway.process.err.seen if '"level":"error"' in line]
    gateway.process.stop()
    assert code == 1 and len(errors) == 1, gateway.process.err.seen
    return errors[0]["error"]


# ---- descriptors ----

@pytest.mark.parametrize("descriptors", [5, 9, 11])
def test_start_with_too_few_descriptors_says_so(folder, redis_server, descriptors):
    said = start_refused(folder, redis_server, "prlimit", f"--nofile={descriptors}:{descriptors}")
    assert "Too many open files" in said or "raise RLIMIT_NOFILE" in said


@needs_direct_files
def test_no_descriptor_is_left_to_connect_with(gateway, channel, device, echo):
    """Connections already there serve on, new clients too (theirs are direct descriptors); what is lost comes back when
    descriptors do."""
    stream = channel.subscribe(device.subscribe_request())
    stream.bootstrap()
    assert channel.outcome(device.request()) == "OK"
    gateway.metrics()
    with limited(gateway, resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{gateway.process.pid}/fd"))):
        with harness.Channel(gateway.grpc) as other:  # a client that comes now
            assert other.outcome(device.request()) == "OK"
        before = gateway.metrics()
        gateway.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        role = 'gateway_redis_reconnects_total{role="session"}'
        gateway.wait_metric(role, lambda value: value >= before[role] + 2)
        assert channel.outcome(device.request()) == ("UNAVAILABLE", "replay store is unavailable")
        assert harness.http(gateway.public, "GET", "/readyz")[0] == 200
        gateway.process.signal(signal.SIGHUP)  # the file cannot be opened: the one before stays
        gateway.wait_metric('gateway_config_reloads_total{result="mistakes"}', lambda value: value == 1)
        assert gateway.metrics()["process_open_fds"] == gateway.metrics()["process_max_fds"]
    gateway.log("cannot connect to Redis", reason="cannot reach Redis: Too many open files")
    published = publish_event(gateway, device.user)
    assert stream.next().event_id == published
    harness.wait_until(lambda: channel.outcome(device.request()) == "OK", "Redis is found again")


def test_no_descriptor_is_left_to_reach_a_service_with(folder, redis_server, echo):
    reconnects = 'upstream_grpc_reconnects_total{upstream="echo"}'
    with Cable(echo.address) as cable, harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(
            address=cable.address).replace("deadline: 2s", "deadline: 2s\n    connections: 1")) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            # no worker dials any more: what is open stays so
            gateway.wait_metric(f'upstream_healthy{{upstream="echo",address="{cable.address}"}}', lambda value: value == 2)
            gateway.wait_metric('gateway_redis_connected{role="session"}', lambda value: value == 3)
            assert channel.outcome(device.request()) == "OK"
            before = gateway.metrics()
            with limited(gateway, resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{gateway.process.pid}/fd"))):
                cable.pull()
                gateway.wait_metric(reconnects, lambda value: value >= before[reconnects] + 2)
                assert channel.outcome(device.request()) == ("UNAVAILABLE", "downstream service is unavailable")
                assert gateway.metrics()["process_open_fds"] == gateway.metrics()["process_max_fds"]
            gateway.log("cannot connect", reason="Too many open files")
            harness.wait_until(lambda: channel.outcome(device.request()) == "OK", "the service is found again")


@needs_direct_files
def test_full_table_of_direct_descriptors_refuses_and_takes_up_again(folder, redis_server, echo):
    """Its bound is RLIMIT_NOFILE for each worker; GATEWAY_MAX_CONNECTIONS by itself stays below it."""
    env = {"GATEWAY_WORKERS": 1, "GATEWAY_MAX_CONNECTIONS": 1000}
    failures, opened = ('gateway_accept_failures_total{listener="public"}', 'gateway_connections_open{listener="public"}')
    with harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address), env=env,
                         prefix=lambda env: ["prlimit", "--nofile=40:40"]) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            crowd = [harness.connect(gateway.public) for _ in range(60)]
            gateway.wait_metric(failures, lambda value: value >= 1)
            gateway.log("accepting pauses", listener="public", error="Too many open files in system")
            assert 20 <= gateway.metric(opened) < 40
            assert channel.outcome(device.request()) == "OK"
            published = publish_event(gateway, device.user)
            assert stream.next().event_id == published
            for connection in crowd:
                connection.close()
            assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
            gateway.wait_metric(opened, lambda value: value == 0)


# ---- locked memory ----

def without_lock_right(limit):
    """Ring memory counts against RLIMIT_MEMLOCK where CAP_IPC_LOCK is missing."""
    drop = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"] if os.geteuid() == 0 else []
    return [*drop, "prlimit", f"--memlock={limit}:{limit}"]


# io_uring's regions, rings among them, count since then
COUNTS_RINGS = harness.KERNEL >= (6, 14)


@pytest.mark.skipif(not COUNTS_RINGS, reason="this kernel does not count rings as locked memory (before 6.14)")
@pytest.mark.parametrize("limit", [0, 65536, 1 << 20])
def test_start_that_may_not_lock_memory_says_so(folder, redis_server, limit):
    said = start_refused(folder, redis_server, *without_lock_right(limit))
    assert said.startswith("not enough memory for the ring") and "raise RLIMIT_MEMLOCK" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="other processes of this user count against the same limit")
def test_8_mib_of_locked_memory_are_enough(folder, redis_server):
    with harness.Gateway(folder, redis_server, prefix=lambda env: without_lock_right(8 << 20)) as gateway:
        assert harness.http(gateway.public, "GET", "/healthz")[0] == 200


# ---- memory ----

@release_only
@pytest.mark.parametrize("mib", [24, 32, 44, 60])
def test_start_with_too_little_memory_says_so(folder, redis_server, mib):
    """Rings, buffer rings and stacks are all asked for at the start."""
    said = start_refused(folder, redis_server, "prlimit", f"--as={mib << 20}:{mib << 20}")
    assert "memory" in said or "Resource temporarily unavailable" in said


def is_served(connection):
    """Whether an HTTP/2 server answers here; else it has closed."""
    try:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        return connection.recv(9) != b""
    except ConnectionError:
        return False


@release_only
@pytest.mark.parametrize("more_kib", [0, 256, 1024])
def test_memory_that_runs_out_costs_connections_and_is_not_the_end(gateway, channel, device, more_kib):
    stream = channel.subscribe(device.subscribe_request())
    stream.bootstrap()
    assert channel.outcome(device.request()) == "OK"
    gateway.metrics()
    pages = int(pathlib.Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[0])
    crowd = []
    with limited(gateway, resource.RLIMIT_AS, pages * os.sysconf("SC_PAGESIZE") + more_kib * 1024):
        def is_short():
            crowd.append(harness.connect(gateway.grpc))
            return not is_served(crowd[-1])
        harness.wait_until(is_short, "a connection that is refused")
        said = channel.outcome(device.request())
        assert said == "OK" or said[0] in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"), said
    # counted when it is closed: its client has some time to end its side
    gateway.wait_metric('gateway_connections_total{listener="grpc",outcome="resource"}', lambda value: value >= 1)
    assert channel.outcome(device.request()) == "OK"
    with harness.Channel(gateway.grpc) as other:
        fresh = other.subscribe(device.subscribe_request())
        fresh.bootstrap()
        published = publish_event(gateway, device.user)
        assert stream.next().event_id == fresh.next().event_id == published
    for connection in crowd:
        connection.close()


# ---- logs ----

class Logging:
    """A gateway whose standard error the shell has opened as `redirection` says, and which therefore tells us nothing."""

    def __init__(self, folder, redis_server, redirection, disk=(), **env):
        self.admin, self.grpc = folder / "admin.sock", f"unix:{folder}/grpc.sock"
        env = {"GATEWAY_ADMIN_HTTP_ADDR": f"unix:{self.admin}", "GATEWAY_AUTHENTICATED_GRPC_ADDR": self.grpc, **env}
        self.gateway = harness.Gateway(folder, redis_server, wait=False, env=env,
                                       prefix=lambda env: [*disk, "sh", "-c", f'exec "$@" {redirection}', "sh"])
        self.gateway.grpc = self.grpc

    def _get(self, path):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(harness.PATIENCE)
            try:
                connection.connect(str(self.admin))
            except OSError:
                return None
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def metric(self, name):
        lines = (self._get("/metrics") or "").splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), None)

    def __enter__(self):
        harness.wait_until(lambda: (self._get("/readyz") or "").startswith("HTTP/1.1 200"), "it is ready")
        return self

    def __exit__(self, kind, value, trace):
        assert self.gateway.process.stop() == 0 or kind


@pytest.mark.parametrize("redirection, is_counted", [
    ("2>/dev/full", True), ("2</dev/null", True), ("2>&-", False)], ids=["disk full", "not writable", "closed"])
def test_log_that_takes_nothing_does_not_keep_it_from_serving(folder, redis_server, redirection, is_counted):
    """A closed one is /dev/null: no socket gets its number, and log lines with it."""
    with Logging(folder, redis_server, redirection) as logging:
        device = harness.Device(logging.gateway)
        with harness.Channel(logging.grpc) as channel:
            assert channel.outcome(device.request()) == ("UNIMPLEMENTED", "message_type is not routed")
        assert (logging.metric(DROPPED) > 0) == is_counted
        if not is_counted:
            assert os.readlink(f"/proc/{logging.gateway.process.pid}/fd/2") == "/dev/null"


def small_disk(path):
    """Words that run a program with a disk of 256 KiB on `path`, in a mount namespace of its own."""
    words = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    return [*words, "sh", "-c", f'mount -t tmpfs -o size=256k tmpfs {path} && exec "$@"', "sh"]


def disk_reason():
    tried = subprocess.run([*small_disk("/mnt"), "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else None


@pytest.mark.skipif(disk_reason() is not None, reason=f"no file system can be mounted: {disk_reason()}")
def test_log_goes_on_when_its_full_disk_has_room_again(folder, redis_server):
    disk = folder / "disk"
    disk.mkdir()
    with Logging(folder, redis_server, f"2>>{disk}/log", disk=small_disk(disk), GATEWAY_ACCESS_LOG="all") as logging:
        seen = pathlib.Path(f"/proc/{logging.gateway.process.pid}/root{disk}")  # as the gateway sees it
        device = harness.Device(logging.gateway)
        with harness.Channel(logging.grpc) as channel:
            def calls_until(question):
                """Each writes a line, and is served whatever becomes of it."""
                while not question():
                    assert channel.outcome(device.request()) == ("UNIMPLEMENTED", "message_type is not routed")

            with open(seen / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
                while True:
                    filler.write(bytes(4096))
            calls_until(lambda: logging.metric(DROPPED) >= 3)
            full = (seen / "log").read_text()
            assert not full.endswith("\n"), "the disk was full in the middle of a line"
            (seen / "filler").unlink()
            calls_until(lambda: (seen / "log").read_text().count("\n") > full.count("\n") + 3)
        lines = (seen / "log").read_text().splitlines()
    torn = full.rpartition("\n")[2]
    lines.remove(torn)
    assert all(json.loads(line)["msg"] for line in lines)
