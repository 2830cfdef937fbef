"""HTTP/1.1 clients that mean harm (edge.md §5, §7): slow ones, greedy ones, many ones. Each has its end and its counter,
what it held is given back, and a client beside it is served."""

import json
import selectors
import socket
import time

import pytest

import harness
from readings import POST
from test_proxies import header

ATTACKERS = 100
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
BUFFERS = 8 << 20  # of a worker's receives: what one turn can bring in
GLITCH = 'gateway_glitches_total{kind="%s"}'
OUTCOME = 'gateway_connections_total{listener="public",outcome="%s"}'
RECEIVED = 'gateway_connection_received_bytes_total{listener="public"}'
OPEN = 'gateway_connections_open{listener="public"}'


def operations(gateway):
    """A worker tells its number in its next turn; with two workers, one request after the other reaches both."""
    harness.http(gateway.public, "GET", "/healthz")
    return sum(value for name, value in gateway.metrics().items() if name.startswith("gateway_ring_operations_in_flight"))


def settled(gateway, before, attackers):
    """All connections are gone, and what they had armed in the rings with them: it was one operation each at least."""
    gateway.wait_metric(OPEN, lambda value: value == 0)
    harness.wait_until(lambda: operations(gateway) < before + attackers, "less than an operation for each")


# ---- slow ones ----

@pytest.mark.parametrize("begun, drop, timeout_ms", [
    (b"GET /healthz HTTP/1.1\r\nX: ", b"x", 600), (b"GET /healthz HTTP/1.1\r\n", b"X: y\r\n", 600),
    (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\n" % POST.encode(), b" ", 900),
    (b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % POST.encode(), b"1\r\n \r\n", 900)],
    ids=["bytes of a field", "fields", "bytes of a body", "chunks"])
def test_trickle_does_not_prolong_a_request(folder, redis_server, begun, drop, timeout_ms):
    """Slowloris: each attacker always has something more to send, and never finishes."""
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_HTTP_HEADER_TIMEOUT": "600ms", "GATEWAY_HTTP_BODY_TIMEOUT": "900ms"}) as gateway:
        texts, selector, before = {}, selectors.DefaultSelector(), operations(gateway)
        began = time.monotonic()
        for _ in range(ATTACKERS):
            attacker = harness.connect(gateway.public)
            attacker.sendall(begun)
            selector.register(attacker, selectors.EVENT_READ)
            texts[attacker] = b""
        left = set(texts)
        while left:
            assert time.monotonic() < began + harness.PATIENCE, "they are still there"
            for key, _ in selector.select(0.02):  # the pace of the trickle
                attacker = key.fileobj
                try:
                    data = attacker.recv(4096)
                except ConnectionResetError:
                    data = b""
                texts[attacker] += data
                if not data:
                    selector.unregister(attacker)
                    left.discard(attacker)
            for attacker in left:
                try:
                    attacker.send(drop)
                except OSError:
                    pass  # its end is being read
            assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
        assert time.monotonic() - began >= timeout_ms / 1000
        for attacker, text in texts.items():
            assert text.startswith(b"HTTP/1.1 408 Request Timeout\r\n") and b"connection: close\r\n" in text
            attacker.close()
        gateway.wait_metric(OUTCOME % "timeout", lambda value: value == ATTACKERS)
        assert gateway.metric(GLITCH % "request_timeout") == ATTACKERS
        settled(gateway, before, ATTACKERS)


# ---- greedy ones ----

def flood(gateway, attacker):
    """Requests until nobody takes more of them, for reading has paused: bytes sent."""
    attacker.setblocking(False)
    requests, sent, received = GET * 2000, 0, -1
    while True:
        try:
            sent += attacker.send(requests[sent % len(requests):])
            continue
        except BlockingIOError:
            pass
        values = gateway.metrics()
        before, received = received, values[RECEIVED]
        if values[GLITCH % "pipeline_paused"] > 0 and received == before:
            return sent


def resident(gateway):
    return gateway.metric("process_resident_memory_bytes")


def test_flood_waits_in_the_kernel_until_its_answers_are_read(gateway):
    harness.http(gateway.public, "GET", "/healthz")
    before = resident(gateway)
    with harness.connect(gateway.public, receive_bytes=65536) as attacker:
        sent = flood(gateway, attacker)
        assert gateway.metric(RECEIVED) < min(sent, 1 << 20)
        assert resident(gateway) - before < 2 * BUFFERS
        for _ in range(20):
            assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
        # it reads after all, and finishes its last request: each has its answer
        attacker.settimeout(harness.PATIENCE)
        text, answers = b"", 0
        wanted = sent // len(GET)
        while answers < wanted:
            text += attacker.recv(1 << 20)
            answers += text.count(b'{"status":"ok"}')
            text = text[-14:] if not text.endswith(b"}") else b""
        attacker.sendall(GET[sent % len(GET):])
        while b'{"status":"ok"}' not in text:
            text += attacker.recv(1 << 16)
        attacker.shutdown(socket.SHUT_WR)
        assert attacker.recv(1) == b""
    values = gateway.metrics()
    assert values[GLITCH % "pipeline_overrun"] == values[GLITCH % "stream_stalled"] == 0


def test_flood_that_never_reads_is_ended(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_HTTP_IDLE_TIMEOUT": "1s"}) as gateway:
        before = operations(gateway)
        attackers = [harness.connect(gateway.public, receive_bytes=65536) for _ in range(10)]
        for attacker in attackers:
            attacker.setblocking(False)
        requests = GET * 2000
        while gateway.metric(OUTCOME % "timeout") < len(attackers):
            for attacker in attackers:
                try:
                    attacker.send(requests)
                except (BlockingIOError, ConnectionError):
                    pass
        # one that we came to last may have been idle before it was full
        assert gateway.metric(GLITCH % "stream_stalled") > 0
        settled(gateway, before, len(attackers))
        for attacker in attackers:
            attacker.close()


def test_refusals_are_counted_and_not_logged(folder, redis_server):
    """Whatever the status, a client cannot fill the log with what it sends."""
    wrong = {b"GET /healthz HTTP/1.1\r\n\r\n": "host", b"GET /healthz HTTP/3.7\r\nHost: x\r\n\r\n": "version",
             b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n": "transfer_coding",
             b"\x16\x03\x01\x02\x00": "not_http", b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n": "expect"}
    with harness.Gateway(folder, redis_server, env={"GATEWAY_ACCESS_LOG": None, "GATEWAY_LOG_LEVEL": None}) as gateway:
        position = gateway.log_position()
        for request in wrong:
            for _ in range(40):
                with harness.connect(gateway.public) as attacker:
                    attacker.sendall(request)
                    while attacker.recv(4096):
                        pass
        values = gateway.metrics()
        for reason in wrong.values():
            assert values[f'gateway_http1_refusals_total{{reason="{reason}"}}'] == 40
        assert values[GLITCH % "http1_malformed"] == 40 * len(wrong)
        gateway.wait_metric(OUTCOME % "protocol", lambda value: value == 40 * len(wrong))
    assert [line for line in gateway.process.err.seen[position:] if json.loads(line)["component"] == "access"] == []
    assert len(gateway.process.err.seen) - position < 20  # those of the end


# ---- many ones ----

def test_connections_are_bounded_by_address_and_64(folder, redis_server):
    """An IPv6 peer is its /64: whoever has one address has 2^64 of them."""
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_MAX_CONNECTIONS_PER_IP": "2", "GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}) as gateway:
        held, limits = [], 0
        for source, admitted in (("2001:db8::1", True), ("2001:db8::2:ffff", True), ("2001:db8::1", False),
                                 ("2001:db8:0:0:ffff::1", False), ("2001:db8:0:1::1", True), ("192.0.2.1", True),
                                 ("::ffff:192.0.2.1", True), ("192.0.2.1", False), ("192.0.2.2", True)):
            connection = harness.connect(gateway.public)
            connection.sendall(header(source) + GET)
            if admitted:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 "), source
                held.append(connection)
                continue
            limits += 1
            assert harness.is_ended(connection), source
            connection.close()
            gateway.wait_metric(OUTCOME % "peer_limit", lambda value, limits=limits: value == limits)
        held[0].close()
        gateway.wait_metric(OPEN, lambda value: value == len(held) - 1)
        with harness.connect(gateway.public) as again:
            again.sendall(header("2001:db8::3") + GET)
            assert again.recv(4096).startswith(b"HTTP/1.1 200 ")
        for connection in held:
            connection.close()
