"""Large sends by zero copy: to a peer behind a virtual cable, which copies, they are switched off; over loopback never begun."""

import os
import shutil
import subprocess

import pytest

import harness

# Of TEST-NET-2 (RFC 5737), nobody's: four addresses for each test process, of which there are eight at most beside each other.
# Two cables with the same addresses lead each other's packets astray.
_place = 4 * ((8 * os.getppid() + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])) % 64)
OURS, ITS = f"198.51.100.{_place + 1}", f"198.51.100.{_place + 2}"
KINDS = ("sent", "copied", "refused")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def cable():
    """The name of a network namespace that a veth pair joins to ours; both go with it."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("a network namespace needs root and ip")
    with harness.network(changes=True):
        yield from lay()


def lay():
    """Makes it, and takes it away."""
    space, near, far = (f"rw{kind}{os.getpid()}" for kind in ("ns", "a", "b"))
    try:
        ip("netns", "add", space)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace here: {error.stderr.strip()}")
    try:
        try:
            ip("-n", space, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be entered here: {error.stderr.strip()}")
        try:
            ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no virtual cable here: {error.stderr.strip()}")
        ip("addr", "add", f"{OURS}/30", "dev", near)
        ip("link", "set", near, "up")
        for words in (("addr", "add", f"{ITS}/30", "dev", far), ("link", "set", far, "up")):
            ip("-n", space, *words)
        yield space
    finally:
        subprocess.run(["ip", "link", "del", near], capture_output=True)
        ip("netns", "del", space)


def sends(metrics):
    return [int(metrics[f'gateway_zerocopy_sends_total{{result="{kind}"}}']) for kind in KINDS]


def enabled(metrics):
    return metrics['gateway_zerocopy_enabled{worker="worker-0"}']


def begins(gateway):
    if not enabled(gateway.metrics()):
        pytest.skip("this kernel does not tell of copies")
    assert sends(gateway.metrics()) == [0, 0, 0]


def push(gateway, stream, device, count, size=100_000):
    for number in range(count):
        payload = bytes([number % 251]) * size
        harness.publish_event(gateway, device.user, payload=payload)
        assert stream.next().payload_bytes == payload


def test_a_cable_that_copies_switches_it_off(cable, folder, redis_server):
    env = {name: f"{ITS}:0" for name in ("GATEWAY_PUBLIC_HTTP_ADDR", "GATEWAY_AUTHENTICATED_GRPC_ADDR", "GATEWAY_ADMIN_HTTP_ADDR")}
    env["GATEWAY_WORKERS"] = 1
    with harness.Gateway(folder, redis_server, env=env, prefix=lambda _: ["ip", "netns", "exec", cable]) as gateway:
        begins(gateway)
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            push(gateway, stream, device, 3, size=200)  # too small for it
            assert sends(gateway.metrics()) == [0, 0, 0]
            push(gateway, stream, device, 30)
            gateway.log("zero copy is switched off", reason="the kernel copies")
            metrics = gateway.metrics()
            assert enabled(metrics) == 0
            sent, copied, refused = sends(metrics)
            # those that were pending when it was switched off are counted after it
            assert (sent, refused) == (0, 0) and 8 <= copied <= 8 + 3
            assert metrics["gateway_push_copied_bytes_total"] == 0
            push(gateway, stream, device, 10)
            assert sends(gateway.metrics()) == [0, copied, 0]
            stream.cancel()
        gateway.wait_metric('gateway_connections_open{listener="grpc"}', lambda value: value == 0)


def test_loopback_is_never_sent_to_by_zero_copy(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_WORKERS": 1}) as gateway:
        begins(gateway)
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            push(gateway, stream, device, 20)
            metrics = gateway.metrics()
        assert sends(metrics) == [0, 0, 0]
        assert enabled(metrics)


def test_own_address_that_is_not_loopback_is_local_too(folder, redis_server, cable):
    """The client and the gateway on one host, by the cable's address: no packet leaves it."""
    env = {"GATEWAY_WORKERS": 1, "GATEWAY_AUTHENTICATED_GRPC_ADDR": f"{OURS}:0"}
    with harness.Gateway(folder, redis_server, env=env) as gateway:
        begins(gateway)
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            push(gateway, stream, device, 20)
            assert sends(gateway.metrics()) == [0, 0, 0]


def test_a_stalled_peer_whose_memory_is_pinned_does_not_hold_the_end(cable, folder, redis_server):
    """The kernel keeps what the peer does not acknowledge, until the connection is reset: the steps behind the cut still run."""
    from raw_h2 import RawClient
    env = {name: f"{ITS}:0" for name in ("GATEWAY_PUBLIC_HTTP_ADDR", "GATEWAY_AUTHENTICATED_GRPC_ADDR", "GATEWAY_ADMIN_HTTP_ADDR")}
    env |= {"GATEWAY_WORKERS": 1, "GATEWAY_SHUTDOWN_TIMEOUT": "2s"}
    gateway = harness.Gateway(folder, redis_server, env=env, prefix=lambda _: ["ip", "netns", "exec", cable])
    try:
        device = harness.Device(gateway)
        client = RawClient(gateway.grpc, initial_window=1 << 24)
        client.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
        client.open_windows()
        gateway.wait_metric("gateway_push_streams_open", lambda value: value == 1)
        for _ in range(40):  # more than both sockets hold; nobody reads
            harness.publish_event(gateway, device.user, payload=b"x" * 250_000)
        gateway.wait_metric("gateway_push_events_total", lambda value: value == 40)
    finally:
        gateway.process.stop()
    assert gateway.log("connections cut")["connections"] == 1
    gateway.log("component stopped", stopped="calls")
    gateway.log("component stopped", stopped="workers", cut=False)
    client.socket.close()
