"""Sockets passed by name and notifications, as systemd does it (edge.md §1, §6), and the units themselves."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess

import pytest

import harness
from test_lifecycle import COMPONENTS

pytestmark = pytest.mark.skipif(not shutil.which("systemd-socket-activate"),
                                reason="systemd-socket-activate is not installed")
NAMES = ["public", "grpc", "admin"]
VARIABLES = {"public": "GATEWAY_PUBLIC_HTTP_ADDR", "grpc": "GATEWAY_AUTHENTICATED_GRPC_ADDR",
             "admin": "GATEWAY_ADMIN_HTTP_ADDR"}


def activate(addresses, names):
    """What stands before the program: the sockets, their names, and the environment to pass on."""
    def prefix(env):
        words = ["systemd-socket-activate", f"--fdname={':'.join(names)}"]
        for address in addresses:
            words += ["-l", address]
        for name, value in env.items():
            words += ["-E", f"{name}={value}"]
        return words
    return prefix


def start(folder, redis_server, names, addresses=None, **options):
    """It starts with the first connection: that one is served as well."""
    addresses = addresses or [f"127.0.0.1:{harness.free_port()}" for _ in names]
    gateway = harness.Gateway(folder, redis_server, wait=False, prefix=activate(addresses, names), **options)
    gateway.process.err.wait(lambda line: line.startswith(f"Listening on {addresses[-1]}"))
    return gateway, dict(zip(names, addresses))


def test_three_sockets_are_served_and_their_variables_ignored(folder, redis_server):
    gateway, addresses = start(folder, redis_server, NAMES,
                               env={variable: "127.0.0.1:1" for variable in VARIABLES.values()})
    with gateway:
        status, _, body = harness.http(addresses["public"], "GET", "/healthz")
        assert (status, body) == (200, b'{"status":"ok"}')
        assert harness.http(addresses["admin"], "GET", "/metrics")[0] == 200
        device = harness.Device(gateway)
        with harness.Channel(addresses["grpc"]) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            event_id = harness.publish_event(gateway, device.user)
            assert stream.next().event_id == event_id
        for name, address in addresses.items():
            gateway.log("listener comes from systemd; its variable is ignored", listener=name,
                        variable=VARIABLES[name])
            assert gateway.log("listening", listener=name)["address"] == address


def test_both_workers_accept_from_one_passed_socket(folder, redis_server):
    gateway, addresses = start(folder, redis_server, ["grpc"])
    with gateway:
        harness.connect(addresses["grpc"]).close()  # the one that starts it
        gateway.wait_listening()
        user, channels, streams = "shared", [], []

        def both_have_some():
            channels.append(harness.Channel(addresses["grpc"]))
            streams.append(channels[-1].subscribe(harness.Device(gateway, user=user).subscribe_request()))
            streams[-1].bootstrap()
            return all(harness.streams_of_workers(gateway))
        harness.wait_until(both_have_some, "a stream on each worker")
        event_id = harness.publish_event(gateway, user)
        assert all(stream.next().event_id == event_id for stream in streams)
        for channel in channels:
            channel.close()


def test_passed_unix_socket_is_served_and_stays(folder, redis_server):
    path = folder / "public.sock"
    gateway, _ = start(folder, redis_server, ["public"], addresses=[str(path)])
    with gateway:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(harness.PATIENCE)
            connection.connect(str(path))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while chunk := connection.recv(4096):
                data += chunk
        assert data.endswith(b'{"status":"ok"}')
        gateway.wait_listening()
    assert stat.S_ISSOCK(os.stat(path).st_mode)  # it is systemd's


def test_socket_of_an_unknown_name_is_closed_and_said(folder, redis_server):
    gateway, addresses = start(folder, redis_server, ["public", "mystery"])
    with gateway:
        assert harness.http(addresses["public"], "GET", "/healthz")[0] == 200
        assert gateway.log("passed socket is not used")["name"] == "mystery"
        with pytest.raises(ConnectionRefusedError):
            harness.connect(addresses["mystery"]).close()
        gateway.wait_listening()


def test_one_name_twice_is_refused(folder, redis_server):
    gateway, addresses = start(folder, redis_server, ["public", "public"])
    harness.connect(addresses["public"]).close()
    assert gateway.process.wait() == 1
    assert "twice" in gateway.log("cannot listen", listener="public")["error"]
    gateway.process.stop()


def test_ready_and_stopping_are_notified(folder, redis_server):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(harness.PATIENCE)
        manager.bind(str(folder / "notify.sock"))
        with harness.Gateway(folder, redis_server, env={"NOTIFY_SOCKET": folder / "notify.sock",
                                                        "GATEWAY_SHUTDOWN_DELAY": "2s"}) as gateway:
            ready = manager.recv(4096).decode().splitlines()
            assert "READY=1" in ready
            assert harness.http(gateway.public, "GET", "/readyz")[0] == 200  # not before it serves
            gateway.process.signal(signal.SIGTERM)
            assert "STOPPING=1" in manager.recv(4096).decode().splitlines()
            assert not any(line["msg"] == "stopped" for line in map(json.loads, gateway.process.err.seen))
            assert gateway.process.wait() == 0


def test_failed_start_is_never_ready(folder, redis_server):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify.sock"))
        gateway = harness.Gateway(folder, redis_server, wait=False, env={
            "NOTIFY_SOCKET": folder / "notify.sock", "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{folder}/nobody"})
        assert gateway.process.wait() == 1
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        gateway.process.stop()


def test_units_are_well_formed_and_tightly_sandboxed():
    done = subprocess.run([str(harness.ROOT / "scripts/check-units")], capture_output=True, text=True)
    if done.stdout.startswith("skip:"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_secret_that_an_operator_is_told_of_is_a_credential_of_the_unit():
    """Its user has no fixed number, so nobody can give it a file of its own."""
    folder = harness.ROOT / "systemd"
    loaded = set(re.findall(r"^LoadCredential=(\S+)$", (folder / "ringway.service").read_text(), re.M))
    shown = r"/run/credentials/ringway\.service/([a-z.-]+[a-z])"
    texts = [(path, path.read_text()) for path in (folder / "ringway.env", folder / "man" / "ringway.8.in", harness.ROOT / "README.md")]
    for path, text in texts:
        assert set(re.findall(shown, text)) <= loaded, path
    kept = r"/etc/credstore/([a-z.-]+[a-z])"
    assert set(re.findall(kept, texts[1][1])) == loaded, "the man page has all of them"


def test_unit_leaves_room_for_every_component_s_time():
    """As configured by default; the unit's comment says what to do with more."""
    env = {name: "x" for name in ("GATEWAY_SESSION_EVENTS_REDIS_STREAM", "GATEWAY_CLIENT_EVENTS_REDIS_STREAM")}
    env.update(GATEWAY_SESSION_CACHE_REDIS_ADDR="127.0.0.1:6379", GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH="/x",
               **harness.SANITIZERS)
    printed = subprocess.run([harness.RINGWAY, "--print-config"], env=env, check=True, capture_output=True, text=True).stdout
    values = dict(line.split("  # ")[0].split("=", 1) for line in printed.splitlines() if not line.startswith("#"))
    timeout, delay = (int(values[f"GATEWAY_SHUTDOWN_{name}"].removesuffix("s")) for name in ("TIMEOUT", "DELAY"))
    unit = (harness.ROOT / "systemd" / "ringway.service").read_text()
    [stop] = [line.removeprefix("TimeoutStopSec=") for line in unit.splitlines() if line.startswith("TimeoutStopSec=")]
    assert int(stop) >= delay + len(COMPONENTS) * timeout
