"""What connections are held to (edge.md §2, §6): pings, keepalive, age, idleness, the end of idle ones."""

import contextlib
import struct
import time

import grpc

import frames
import harness
from conftest import ECHO_CONFIG

GLITCH = 'gateway_glitches_total{kind="%s"}'
OUTCOME = 'gateway_connections_total{listener="%s",outcome="%s"}'


@contextlib.contextmanager
def gateway_with(folder, redis_server, config=None, **env):
    with harness.Gateway(folder, redis_server, config=config, env=env) as gateway:
        yield gateway


# ---- the end ----

def end_of(gateway):
    """Seconds from SIGTERM to the end of the process, which is clean."""
    began = time.monotonic()
    gateway.process.process.terminate()
    assert gateway.process.wait() == 0
    return time.monotonic() - began


# Less than any peer that must be waited for would take: notice and linger are a second each. What a sanitized build needs for
# freeing and for looking for leaks is no part of the promise.
QUICK = 0.045 * harness.PATIENCE if harness.MODE in ("release", "debug") else 3.0


def test_idle_channels_do_not_hold_up_the_end(folder, redis_server):
    """grpcio does not look at a channel without calls: it neither answers a PING nor closes."""
    gateway = harness.Gateway(folder, redis_server)
    channels = [harness.Channel(gateway.grpc) for _ in range(100)]
    for channel in channels:
        grpc.channel_ready_future(channel.channel).result(harness.PATIENCE)
    assert gateway.metric('gateway_connections_open{listener="grpc"}') == 100
    assert end_of(gateway) < QUICK
    for channel in channels:
        channel.close()


def test_subscribers_do_not_hold_up_the_end(folder, redis_server):
    gateway = harness.Gateway(folder, redis_server)
    device = harness.Device(gateway)
    channels = [harness.Channel(gateway.grpc) for _ in range(8)]
    streams = [channel.subscribe(device.subscribe_request()) for channel in channels]
    for stream in streams:
        stream.bootstrap()
    assert end_of(gateway) < QUICK
    for stream in streams:
        assert stream.end() == ("UNAVAILABLE", "gateway is shutting down")
    for channel in channels:
        channel.close()


def test_idle_connections_of_every_kind_do_not_hold_up_the_end(folder, redis_server):
    """They never read and never close."""
    gateway = harness.Gateway(folder, redis_server)
    with contextlib.ExitStack() as stack:
        for address in (gateway.grpc, gateway.public):
            two = stack.enter_context(frames.FrameClient(address))
            two.ping()
            two.until(frames.PING)
        one = stack.enter_context(contextlib.closing(harness.connect(gateway.public)))
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(4096).startswith(b"HTTP/1.1 200")
        fresh = stack.enter_context(contextlib.closing(harness.connect(gateway.public)))
        gateway.wait_metric('gateway_connections_open{listener="public"}', lambda value: value == 3)
        assert end_of(gateway) < QUICK
        assert one.recv(1) == fresh.recv(1) == b""


def test_call_in_flight_is_waited_for_and_two_goaways_tell_of_the_end(folder, redis_server, echo):
    with harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address)) as gateway:
        device = harness.Device(gateway)
        with frames.FrameClient(gateway.grpc) as client:
            first = client.call(harness.EXECUTE, device.request().SerializeToString(), end=False)
            client.ping()
            client.until(frames.PING)
            gateway.process.process.terminate()
            assert client.goaway() == (frames.LAST_STREAM_MAX, 0, b"")
            assert client.goaway() == (first, 0, b"")
            client.send(frames.DATA, frames.END_STREAM, first)
            assert client.fields(first)[":status"] == "200"
            assert client.fields(first)["grpc-status"] == "0"
            assert client.ended()
        assert gateway.process.wait() == 0


# ---- pings ----

def test_third_bad_ping_ends_the_connection(gateway):
    with frames.FrameClient(gateway.grpc) as client:
        for _ in range(3):
            client.ping()
            client.until(frames.PING, lambda frame: frame.flags & frames.ACK)
        assert gateway.metric(GLITCH % "too_many_pings") == 0
        client.ping()
        assert client.goaway() == (0, frames.ENHANCE_YOUR_CALM, b"too_many_pings")
        assert client.ended()
    assert gateway.metric(GLITCH % "too_many_pings") == 1
    gateway.wait_metric(OUTCOME % ("grpc", "protocol"), lambda value: value == 1)


def test_bad_ping_ends_the_calls_too(gateway, device):
    with frames.FrameClient(gateway.grpc) as client:
        client.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
        client.until(frames.DATA)
        for _ in range(4):
            client.ping()
        assert client.goaway()[1:] == (frames.ENHANCE_YOUR_CALM, b"too_many_pings")
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)


def test_pings_among_answers_are_forgiven(gateway, device):
    """As clients ping that measure the bandwidth of a stream: nine times in three seconds."""
    with frames.FrameClient(gateway.grpc) as client:
        client.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
        client.until(frames.DATA)
        for _ in range(9):
            for _ in range(3):
                client.ping()
                client.until(frames.PING, lambda frame: frame.flags & frames.ACK)
            harness.publish_event(gateway, device.user)
            client.until(frames.DATA)
    assert gateway.metric(GLITCH % "too_many_pings") == 0


def test_ping_interval_is_what_was_configured(folder, redis_server):
    with gateway_with(folder, redis_server, GATEWAY_GRPC_MIN_PING_INTERVAL="1ms") as gateway:
        with frames.FrameClient(gateway.grpc) as client:
            for _ in range(8):
                client.ping()
                client.until(frames.PING, lambda frame: frame.flags & frames.ACK)
                answered = time.monotonic()
                harness.wait_until(lambda: time.monotonic() > answered + 0.002, "two milliseconds")
    with gateway_with(folder, redis_server, GATEWAY_GRPC_MIN_PING_INTERVAL="0") as gateway:
        with frames.FrameClient(gateway.grpc) as client:
            for _ in range(50):
                client.ping()
                client.until(frames.PING, lambda frame: frame.flags & frames.ACK)


def test_public_port_does_not_police_pings(gateway):
    with frames.FrameClient(gateway.public) as client:
        for _ in range(50):
            client.ping()
            client.until(frames.PING, lambda frame: frame.flags & frames.ACK)


# ---- keepalive ----

def test_silent_client_is_asked_and_given_up(folder, redis_server):
    with gateway_with(folder, redis_server, GATEWAY_GRPC_KEEPALIVE_INTERVAL="200ms",
                      GATEWAY_GRPC_KEEPALIVE_TIMEOUT=f"{round(50 * harness.PATIENCE)}ms") as gateway:
        with frames.FrameClient(gateway.grpc) as client:
            for _ in range(4):
                client.until(frames.PING, lambda frame: not frame.flags & frames.ACK)
            assert gateway.metric(GLITCH % "keepalive_timeout") == 0
            client.until(frames.PING, answer_pings=False)
            assert client.ended()
        assert gateway.metric(GLITCH % "keepalive_timeout") == 1
        gateway.wait_metric(OUTCOME % ("grpc", "timeout"), lambda value: value == 1)


# ---- age and idleness ----

def test_old_connection_takes_no_more_calls_and_keeps_its_stream(folder, redis_server):
    with gateway_with(folder, redis_server, GATEWAY_GRPC_MAX_CONNECTION_AGE="500ms") as gateway:
        device = harness.Device(gateway)
        began = time.monotonic()  # before it is accepted: its age is no more than what has passed since
        with frames.FrameClient(gateway.grpc) as client:
            stream = client.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
            assert client.goaway() == (frames.LAST_STREAM_MAX, 0, b"")
            assert 0.4 < time.monotonic() - began < harness.PATIENCE
            assert client.goaway() == (stream, 0, b"")
            harness.publish_event(gateway, device.user)
            assert client.until(frames.DATA).stream == stream
            client.send(frames.RST_STREAM, 0, stream, struct.pack(">I", 8))
            assert client.ended()


def test_channel_outlives_the_age_of_its_connections(folder, redis_server, echo):
    """grpcio changes connections without a failed call."""
    with gateway_with(folder, redis_server, ECHO_CONFIG.format(address=echo.address),
                      GATEWAY_GRPC_MAX_CONNECTION_AGE="100ms") as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            while gateway.metric(OUTCOME % ("grpc", "closed")) + gateway.metric(OUTCOME % ("grpc", "peer")) < 3:
                assert channel.execute(device.request()).result_code


def test_idle_connection_is_ended(folder, redis_server, echo):
    with gateway_with(folder, redis_server, ECHO_CONFIG.format(address=echo.address),
                      GATEWAY_GRPC_MAX_CONNECTION_IDLE="1s") as gateway:
        device = harness.Device(gateway)
        with frames.FrameClient(gateway.grpc) as client:
            call = client.call(harness.EXECUTE, device.request().SerializeToString())
            assert client.fields(call)[":status"] == "200"
            assert client.goaway() == (frames.LAST_STREAM_MAX, 0, b"")
            assert client.goaway() == (call, 0, b"")
            assert client.ended()
        gateway.wait_metric(OUTCOME % ("grpc", "closed"), lambda value: value == 1)
