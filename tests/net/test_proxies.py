"""GATEWAY_TRUSTED_PROXIES (edge.md §1): whose connection it is, said by a PROXY protocol v2 header."""

import ipaddress
import socket
import struct

import pytest

import frames
import harness

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GLITCH = 'gateway_glitches_total{kind="proxy_header"}'
LIMIT = {"GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.0/8,::1",
         "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_MISC_REQUESTS": "1",
         "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_MISC_WINDOW": "1h",
         "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_MISC_BURST": "1"}
MISSING = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"


def header(source, local=False, tlvs=b""):
    address = ipaddress.ip_address(source)
    block = address.packed * 2 + struct.pack(">HH", 40000, 443) + tlvs
    return (SIGNATURE + bytes([0x20 if local else 0x21, 0x11 if address.version == 4 else 0x21])
            + struct.pack(">H", len(block)) + block)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def checked(source, wrong=0):
    blank = header(source, tlvs=b"\x03\0\4\0\0\0\0")
    return blank[:-4] + struct.pack(">I", crc32c(blank) ^ wrong)


def ask(address, *parts):
    """Sends the parts one by one; returns the status line's status, or None if the connection was closed."""
    with harness.connect(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
            text = b""
            while len(text) < 12 and (data := connection.recv(4096)):
                text += data
        except (ConnectionResetError, BrokenPipeError):
            return None
        return int(text.split()[1]) if text else None


@pytest.fixture
def limited(folder, redis_server):
    """One request of each peer: who has asked is who is refused."""
    with harness.Gateway(folder, redis_server, env=LIMIT) as gateway:
        yield gateway


def test_peer_is_the_header_s(limited):
    for source in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"):
        assert ask(limited.public, header(source) + MISSING) == 404, source
    for source in ("192.0.2.1", "::ffff:192.0.2.2", "2001:db8::ffff"):
        assert ask(limited.public, header(source) + MISSING) == 429, source


def test_forwarded_headers_are_never_used(limited):
    request = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n\r\n"
    assert ask(limited.public, header("192.0.2.1") + request) == 404
    assert ask(limited.public, header("192.0.2.1") + request) == 429


def test_local_command_keeps_the_proxy_as_the_peer(limited):
    assert ask(limited.public, header("192.0.2.1", local=True) + MISSING) == 404
    assert ask(limited.public, header("192.0.2.2", local=True) + MISSING) == 429
    assert ask(limited.public, SIGNATURE + b"\x20\0\0\0" + MISSING) == 429


def test_header_may_come_byte_by_byte_with_tlvs_and_checksum(limited):
    whole = checked("192.0.2.7")
    assert ask(limited.public, *[bytes([byte]) for byte in whole], MISSING) == 404
    assert ask(limited.public, header("192.0.2.8", tlvs=b"\x04\0\3abc") + MISSING[:5], MISSING[5:]) == 404
    assert limited.metric(GLITCH) == 0


@pytest.mark.parametrize("begin", [
    MISSING, b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 443\r\n" + MISSING, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    SIGNATURE + b"\x21\x11\0\4abcd" + MISSING, SIGNATURE + b"\x23\x11\0\0" + MISSING,
    checked("192.0.2.1", wrong=1) + MISSING, SIGNATURE + b"\x21\0\xff\xff" + MISSING],
    ids=["missing", "version 1", "http2", "short", "command", "checksum", "too long"])
def test_without_a_right_header_nobody_is_served(limited, begin):
    for address in (limited.public, limited.grpc):
        assert ask(address, begin) is None
    limited.wait_metric(GLITCH, lambda value: value == 2)


def test_late_header_is_closed(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={**LIMIT, "GATEWAY_HTTP_HEADER_TIMEOUT": "200ms"}) as gateway:
        assert ask(gateway.public, header("192.0.2.1")[:-1]) is None
        gateway.wait_metric('gateway_glitches_total{kind="request_timeout"}', lambda value: value == 1)
        gateway.wait_metric('gateway_connections_total{listener="public",outcome="timeout"}', lambda value: value == 1)


def test_admin_and_unix_listeners_expect_no_header(folder, redis_server):
    path = folder / "public.sock"
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_TRUSTED_PROXIES": "0.0.0.0/0,::/0", "GATEWAY_PUBLIC_HTTP_ADDR": f"unix:{path}"}) as gateway:
        assert harness.http(gateway.admin, "GET", "/readyz")[0] == 200
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(harness.PATIENCE)
        peer.connect(str(path))
        peer.sendall(MISSING)
        assert peer.recv(12) == b"HTTP/1.1 404"
        peer.close()


def test_others_need_no_header(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_TRUSTED_PROXIES": "192.0.2.0/24,fd00::/8"}) as gateway:
        assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
        assert ask(gateway.public, header("192.0.2.1") + MISSING) == 400


def test_grpc_budget_is_the_header_s_peer_s(folder, redis_server):
    prefix = "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_IP_"
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_TRUSTED_PROXIES": "127.0.0.1", prefix + "REQUESTS": "1", prefix + "WINDOW": "1h",
            prefix + "BURST": "1"}) as gateway:
        device = harness.Device(gateway)

        def status(source):
            with frames.FrameClient(gateway.grpc, before=header(source)) as client:
                request = device.request(message_type="no.route")
                return client.fields(client.call(harness.EXECUTE, request.SerializeToString()))["grpc-status"]

        assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == ["12", "8", "12"]


@pytest.mark.parametrize("value", ["10.0.0.1/8", "localhost", "10.0.0.0/33", "10.0.0.0/8,", "nonsense,fd00::/200"])
def test_wrong_ranges_are_all_told(folder, redis_server, value):
    gateway = harness.Gateway(folder, redis_server, env={"GATEWAY_TRUSTED_PROXIES": value}, wait=False)
    assert gateway.process.wait() == 2
    wrong = [line for line in gateway.process.err.seen if line.startswith("GATEWAY_TRUSTED_PROXIES: ")]
    assert len(wrong) == (2 if "nonsense" in value else 1)
