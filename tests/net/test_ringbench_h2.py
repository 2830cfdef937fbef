"""ringbench reads HTTP/2 by hand: every form that an answer may have, and every form that it must not have."""

import socket
import struct
import threading

import hpack
import pytest

from frames import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS
from test_ringbench import SHORT, Run

PADDED, PRIORITY = 8, 0x20
PUSH_PROMISE = 5
SERVING = b"\0\0\0\0\x02\x08\x01"
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Peer:
    """One connection of the scripted server; `answer(peer, stream, count)` gives the bytes for a request."""

    def __init__(self, sock, server):
        self.sock, self.server = sock, server
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        if server.table == 0:
            self.decoder.max_allowed_table_size = 0
            self.decoder.header_table_size = 0
        self.buffer, self.count, self.acks = b"", 0, 0

    def serve(self):
        try:
            self._fill(24)
            assert self._take(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            self.sock.sendall(frame(SETTINGS, 0, 0, struct.pack(">HI", 1, self.server.table)))
            while True:
                self._fill(9)
                head = self._take(9)
                size, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
                self._fill(size)
                self._frame(kind, flags, stream, self._take(size))
        except OSError:
            pass
        finally:
            self.sock.close()

    def _frame(self, kind, flags, stream, payload):
        if kind == HEADERS:
            self.server.requests.append(self.decoder.decode(payload))
        if kind == PING and flags & ACK:
            self.acks += 1
            self.server.acks += 1
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.sock.sendall(self.server.answer(self, stream, self.count))
            self.count += 1

    def _fill(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise OSError("closed")
            self.buffer += data

    def _take(self, size):
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def block(self, fields):
        return self.encoder.encode(fields)


class Server:
    def __init__(self, answer, table=4096):
        self.answer, self.table = answer, table
        self.requests, self.acks = [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=Peer(sock, self).serve, daemon=True).start()

    def run(self, *more):
        return Run("h2", "--target", self.address, "--connections", "2", "--streams", "3", *SHORT, *more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


# ---- answers that are right ----

def plain(peer, stream, count, head=(), message=SERVING):
    return (frame(HEADERS, END_HEADERS, stream, peer.block([*HEAD, *head])) + frame(DATA, 0, stream, message)
            + frame(HEADERS, END_HEADERS | END_STREAM, stream, peer.block(TRAILERS)))


def changing(peer, stream, count):
    """A field that enters the table each time, so that all indices move."""
    return plain(peer, stream, count, [("x-count", str(count)), ("x-same", "same")])


def resized(peer, stream, count):
    peer.encoder.header_table_size = 4096 if count % 2 else 64
    return plain(peer, stream, count, [("x-same", "same")])


def never_indexed(peer, stream, count):
    return plain(peer, stream, count, [hpack.NeverIndexedHeaderTuple("x-secret", "a" * (count % 300))])


def continued(peer, stream, count):
    block = peer.block([*HEAD, ("x-count", str(count))])
    pieces = [block[i:i + 1] for i in range(len(block))]
    out = frame(HEADERS, 0, stream, pieces[0])
    for piece in pieces[1:]:
        out += frame(CONTINUATION, 0, stream, piece)
    trailers = peer.block(TRAILERS)
    return (out + frame(CONTINUATION, END_HEADERS, stream) + frame(DATA, 0, stream, SERVING)
            + frame(HEADERS, END_STREAM, stream) + frame(CONTINUATION, END_HEADERS, stream, trailers))


def padded(peer, stream, count):
    head = b"\x05" + b"\0\0\0\0\x10" + peer.block(HEAD) + bytes(5)
    return (frame(HEADERS, END_HEADERS | PADDED | PRIORITY, stream, head) + frame(DATA, PADDED, stream, b"\xff" + SERVING + bytes(255))
            + frame(DATA, PADDED, stream, b"\0") + frame(HEADERS, END_HEADERS | END_STREAM, stream, peer.block(TRAILERS)))


def in_pieces(peer, stream, count):
    out = frame(HEADERS, END_HEADERS, stream, peer.block(HEAD)) + frame(DATA, 0, stream)
    for byte in SERVING:
        out += frame(DATA, 0, stream, bytes([byte]))
    return out + frame(HEADERS, END_HEADERS | END_STREAM, stream, peer.block(TRAILERS))


def among_others(peer, stream, count):
    """PING, SETTINGS, an early hint, a frame of no known kind, RST_STREAM(NO_ERROR) behind the end."""
    hint = frame(HEADERS, END_HEADERS, stream, peer.block([(":status", "103")]))
    return (frame(PING, 0, 0, b"12345678") + frame(SETTINGS, 0, 0) + hint + plain(peer, stream, count)
            + frame(0x77, 0xff, stream, b"?") + frame(RST_STREAM, 0, stream, bytes(4)))


@pytest.mark.parametrize("answer", [plain, changing, resized, never_indexed, continued, padded, in_pieces, among_others],
                         ids=lambda answer: answer.__name__)
def test_every_form_of_a_right_answer_is_right(answer):
    with Server(answer) as server:
        server.run().check_clean()


def test_bytes_may_come_one_by_one():
    def dripping(peer, stream, count):
        answer = changing(peer, stream, count)
        for byte in answer[:-1]:
            peer.sock.sendall(bytes([byte]))
        return answer[-1:]

    with Server(dripping) as server:
        server.run().check_clean()


@pytest.mark.parametrize("table", [4096, 0, 100, 65536])
def test_requests_are_whole_whatever_table_the_server_keeps(table):
    with Server(plain, table) as server:
        server.run().check_clean()
        assert len(server.requests) >= 6
        for request in server.requests:
            assert request == [
                (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"),
                (":authority", server.address), ("content-type", "application/grpc"), ("te", "trailers")]


def test_pings_are_answered():
    with Server(among_others) as server:
        server.run().check_clean()
        assert server.acks > 0


# ---- answers that are not ----

def other_message(peer, stream, count):
    return plain(peer, stream, count, message=b"\0\0\0\0\x02\x08\x02")


def too_long(peer, stream, count):
    return plain(peer, stream, count, message=SERVING + b"x")


def status_500(peer, stream, count):
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, peer.block([(":status", "500")]))


def no_trailers(peer, stream, count):
    return frame(HEADERS, END_HEADERS, stream, peer.block(HEAD)) + frame(DATA, END_STREAM, stream, SERVING)


def internal(peer, stream, count):
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, peer.block([*HEAD, ("grpc-status", "13")]))


def not_grpc(peer, stream, count):
    return (frame(HEADERS, END_HEADERS, stream, peer.block([(":status", "200"), ("content-type", "text/html")]))
            + frame(DATA, 0, stream, SERVING) + frame(HEADERS, END_HEADERS | END_STREAM, stream, peer.block(TRAILERS)))


def reset(peer, stream, count):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", 7))


def going_away(peer, stream, count):
    return frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0)) if count == 2 else plain(peer, stream, count)


def twice(peer, stream, count):
    return plain(peer, stream, count) + plain(peer, stream, count)


def pushed(peer, stream, count):
    return frame(PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", 2) + peer.block(HEAD))


def no_block(peer, stream, count):
    return frame(HEADERS, END_HEADERS, stream, b"\xff\xff\xff\xff\xff\xff")


def too_large(peer, stream, count):
    return frame(DATA, 0, stream, bytes(20000))


@pytest.mark.parametrize("answer,counter,words", [
    (other_message, "wrong", "a wrong answer"), (too_long, "wrong", "a wrong answer"),
    (status_500, "failed", "status 500"), (no_trailers, "failed", "grpc-status missing"),
    (internal, "failed", "INTERNAL"), (not_grpc, "failed", "grpc-status"), (reset, "failed", "reset"),
    (going_away, "lost", "GOAWAY"), (twice, None, "no open stream"), (pushed, "lost", "PUSH_PROMISE"),
    (no_block, "lost", "cannot be decoded"), (too_large, None, "larger than allowed"),
], ids=lambda value: getattr(value, "__name__", str(value)))
def test_no_form_of_a_wrong_answer_is_a_clean_run(answer, counter, words):
    with Server(answer) as server:
        run = server.run()
    assert run.code == 1 and words in run.said, run
    assert counter is None or run.report[counter] > 0, run


def test_answer_that_changes_is_a_wrong_get():
    def body(peer, stream, count):
        return (frame(HEADERS, END_HEADERS, stream, peer.block([(":status", "200")]))
                + frame(DATA, END_STREAM, stream, b"other" if count == 2 else b"same"))

    with Server(body) as server:
        run = server.run("--method", "get", "--path", "/x")
    assert run.code == 1 and run.report["wrong"] > 0, run
    assert dict(server.requests[0])[":path"] == "/x" and dict(server.requests[0])[":method"] == "GET"
