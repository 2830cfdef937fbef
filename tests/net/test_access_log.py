"""The access log (edge.md §8): one line per call, streams too, and no flood when many end at once."""

import json
import struct

import pytest

import frames
import harness

WATCH = "/grpc.health.v1.Health/Watch"
CANCEL = struct.pack(">I", 8)


def lines_of(gateway):
    return [entry for entry in map(json.loads, list(gateway.process.err.seen)) if entry["component"] == "access"]


def gateway_with(folder, redis_server, access_log, **env):
    return harness.Gateway(folder, redis_server, env={"GATEWAY_ACCESS_LOG": access_log, **env})


def watch(client, count):
    """Opens health Watch streams and waits for their first messages."""
    streams = {client.call(WATCH) for _ in range(count)}
    waiting = set(streams)
    while waiting:
        waiting.discard(client.until(frames.DATA).stream)
    return streams


def test_stream_has_its_line_when_it_ends(folder, redis_server):
    with gateway_with(folder, redis_server, "all") as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            request = device.subscribe_request()
            stream = channel.subscribe(request)
            bytes_seen = stream.bootstrap().ByteSize()
            assert lines_of(gateway) == []
            stream.cancel()
            line = gateway.log("call", component="access")
            assert {name: line[name] for name in ("listener", "method", "path", "code", "request_id", "trace_id")} == {
                "listener": "grpc", "method": "POST", "path": harness.SUBSCRIBE, "code": "CANCELLED",
                "request_id": request.request_id, "trace_id": "trace-1"}
            assert line["latency_ms"] > 0 and line["bytes"] == bytes_seen + 5
    assert len(lines_of(gateway)) == 1


def test_revoked_stream_is_an_error(folder, redis_server):
    with gateway_with(folder, redis_server, "errors") as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            device.revoke()
            assert stream.end()[0] == "FAILED_PRECONDITION"
            assert gateway.log("call", component="access")["code"] == "FAILED_PRECONDITION"


@pytest.mark.parametrize("access_log, subscribed, watched", [("errors", 0, 0), ("all", 2, 3)])
def test_streams_ended_by_the_end_are_no_errors(folder, redis_server, access_log, subscribed, watched):
    with gateway_with(folder, redis_server, access_log) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel, frames.FrameClient(gateway.grpc) as client:
            streams = [channel.subscribe(device.subscribe_request()) for _ in range(2)]
            for stream in streams:
                stream.bootstrap()
            watch(client, 3)
            gateway.process.process.terminate()
            for stream in streams:
                assert stream.end() == ("UNAVAILABLE", "gateway is shutting down")
            assert gateway.process.wait() == 0
    codes = {path: [line["code"] for line in lines_of(gateway) if line["path"] == path] for path in (harness.SUBSCRIBE, WATCH)}
    assert codes[harness.SUBSCRIBE] == ["UNAVAILABLE"] * subscribed
    assert len(codes[WATCH]) == watched and set(codes[WATCH]) <= {"UNAVAILABLE", "OK"}


def test_refused_subscribe_is_an_error(folder, redis_server):
    with gateway_with(folder, redis_server, "errors") as gateway:
        device = harness.Device(gateway, publish=False)
        with harness.Channel(gateway.grpc) as channel:
            assert channel.subscribe(device.subscribe_request()).end()[0] == "UNAUTHENTICATED"
        assert gateway.log("call", component="access")["code"] == "UNAUTHENTICATED"


def test_thousand_streams_that_end_at_once_do_not_flood(folder, redis_server):
    """Every one is accounted for: by a line, or by number."""
    with gateway_with(folder, redis_server, "all", GATEWAY_WORKERS="1") as gateway:
        with frames.FrameClient(gateway.grpc) as client:
            client.send(frames.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20))
            watch(client, 900)
        gateway.wait_metric('gateway_connections_open{listener="grpc"}', lambda value: value == 0)
        cancelled = f'gateway_grpc_calls_total{{method="{WATCH}",code="CANCELLED"}}'
        gateway.wait_metric(cancelled, lambda value: value == 900)
    lines = [line for line in lines_of(gateway) if line["listener"] == "grpc"]
    calls = [line for line in lines if line["msg"] == "call"]
    assert 200 <= len(calls) < 900
    assert len(calls) + sum(line.get("held_back", 0) for line in lines) == 900
