"""gRPC-Web without memory: each allocation of a story is refused in turn, as in test_memory_faults.py."""

import http.client

import h2.exceptions
import pytest

import harness
from conftest import ECHO_CONFIG
from grpc_web import Client
from harness import edge, publish_event
from test_memory_faults import faults, faulty_gateway, sweep  # noqa: F401  (a fixture)

KINDS = pytest.mark.parametrize("protocol, kind", [("http1", "text"), ("http2", "text"), ("http1", "binary"), ("http2", "binary")])


@pytest.fixture
def faulty(folder, redis_server, echo, faults):  # noqa: F811
    config = ECHO_CONFIG.format(address=echo.address) + "rest: { grpc_web: [galaxy.gateway.v1.EdgeGateway] }\n"
    with faulty_gateway(folder, redis_server, faults, config) as process:
        yield process


def told(call):
    """What it ends with; "broken" is an answer without a whole end, which a client sees."""
    try:
        return call()
    except (ConnectionError, http.client.HTTPException, harness.Failed, h2.exceptions.ProtocolError):
        return "broken"


def execute(gateway, protocol, kind, device):
    request = device.request(payload=b"x" * 5000)
    call = Client(gateway, protocol, kind).open(harness.EXECUTE, request)
    if call.status != 200:
        call.close()
        return call.status
    messages, status, _ = call.end()
    assert len(messages) == (status == 0)
    return status


@KINDS
def test_command_ends_with_a_status_or_visibly(faulty, faults, protocol, kind):  # noqa: F811
    device = harness.Device(faulty)
    outcomes = sweep(faults, lambda: told(lambda: execute(faulty, protocol, kind, device)), 0)
    assert set(outcomes) <= {0, 8, 13, 14, 503, "broken"}


def follow(gateway, protocol, kind):
    """Opens a stream, is sent an event, is revoked."""
    device = harness.Device(gateway)
    request = device.subscribe_request()
    try:
        call = Client(gateway, protocol, kind).open(harness.SUBSCRIBE, request)
        if call.status != 200:
            return call.status
        if (message := call.message()) is None:
            return call.end()[1]
        assert edge.GatewayEvent.FromString(message).event_id == request.request_id
        event_id = publish_event(gateway, device.user, payload=b"x" * 5000)
        if (message := call.message()) is None:
            return int(call.trailers["grpc-status"])
        assert edge.GatewayEvent.FromString(message).event_id == event_id
    finally:
        device.revoke()
    return call.end()[1]


@KINDS
def test_stream_has_every_event_or_ends(faulty, faults, protocol, kind):  # noqa: F811
    outcomes = sweep(faults, lambda: told(lambda: follow(faulty, protocol, kind)), 9, most=40)
    assert set(outcomes) <= {9, 8, 13, 14, 503, "broken"}
