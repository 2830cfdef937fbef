"""Requests that do not come whole (edge.md §5, §7): each state has its timeout, its status and its counter."""


import pytest

import frames
import harness

AUTH = "/api/v1/public/auth/send-email-code"
GLITCH = 'gateway_glitches_total{kind="request_timeout"}'
POST = f"POST {AUTH} HTTP/1.1\r\nHost: x\r\n".encode()


@pytest.fixture
def hasty(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_HTTP_HEADER_TIMEOUT": "500ms", "GATEWAY_HTTP_BODY_TIMEOUT": "500ms"}) as gateway:
        yield gateway


@pytest.mark.parametrize("begun, status", [
    (b"", None), (b"GET /hea", 408), (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", 408),
    (POST + b"Content-Length: 5\r\n\r\n", 408), (POST + b"Content-Length: 5\r\n\r\nhe", 408),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n", 408), (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 408),
    (POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", 408), (b"PRI * HTTP/2.0\r\n", None)])
def test_http1_request_that_stays_away(hasty, begun, status):
    with harness.connect(hasty.public) as connection:
        connection.sendall(begun)
        text = b""
        while data := connection.recv(4096):
            text += data
    if b"Expect" in begun:
        assert text.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        text = text.partition(b"\r\n\r\n")[2]
    assert text == b"" if status is None else text.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert status is None or b'"code":"request_timeout"' in text
    hasty.wait_metric(GLITCH, lambda value: value == 1)
    hasty.wait_metric('gateway_connections_total{listener="public",outcome="timeout"}', lambda value: value == 1)


@pytest.mark.parametrize("begun", [None, b"he"])
def test_http2_body_that_stays_away(hasty, begun):
    with frames.FrameClient(hasty.public) as client:
        stream = client.request([(":method", "POST"), (":scheme", "http"), (":path", AUTH), (":authority", "x")],
                                body=begun or b"", end=False)
        assert client.fields(stream)[":status"] == "408"
        # the connection is of use
        probe = client.request([(":method", "GET"), (":scheme", "http"), (":path", "/healthz"), (":authority", "x")])
        assert client.fields(probe)[":status"] == "200"
    hasty.wait_metric(GLITCH, lambda value: value == 1)


def test_grpc_message_that_stays_away(hasty):
    with frames.FrameClient(hasty.grpc) as client:
        stream = client.call(harness.EXECUTE, b"", end=False)
        assert client.fields(stream)["grpc-status"] == "4"
    hasty.wait_metric(GLITCH, lambda value: value == 1)


def test_http2_expectation_is_answered(gateway):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", AUTH), (":authority", "x"), ("content-length", "2")]
    with frames.FrameClient(gateway.public) as client:
        stream = client.request([*fields, ("expect", "100-continue")], body=b"", end=False)
        assert client.fields(stream) == {":status": "100"}
        client.send(frames.DATA, frames.END_STREAM, stream, b"{}")
        assert client.fields(stream)[":status"] in ("400", "503")
        assert client.fields(client.request([*fields, ("expect", "wonders")], body=b"", end=False))[":status"] == "417"
