"""HTTP/2 frame by frame on a bare socket: for what python3-h2 would not send, or would not let one see."""

import collections
import struct

import hpack

import harness

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
ENHANCE_YOUR_CALM = 11
LAST_STREAM_MAX = 2**31 - 1

Frame = collections.namedtuple("Frame", "kind flags stream payload")


class FrameClient:
    def __init__(self, address, before=b"", settings=b""):
        self.socket = harness.connect(address)
        self.buffer = b""
        self.seen = []
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.next_stream = 1
        self.socket.sendall(before + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS, payload=settings)

    def send(self, kind, flags=0, stream=0, payload=b""):
        self.socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
                            + payload)

    def ping(self, opaque=b"12345678"):
        self.send(PING, payload=opaque)

    def request(self, fields, body=None, end=True):
        """Opens a stream with these header fields; returns its id."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.send(HEADERS, END_HEADERS | (END_STREAM if end and body is None else 0), stream,
                  self.encoder.encode(fields))
        if body is not None:
            self.send(DATA, END_STREAM if end else 0, stream, body)
        return stream

    def call(self, path, message=b"", end=True, headers=()):
        return self.request([(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"),
                             ("te", "trailers"), ("content-type", "application/grpc"), *headers],
                            struct.pack(">BI", 0, len(message)) + message, end)

    def read(self):
        """The next frame; None at the end. SETTINGS and PING are answered only by those who want to."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            data = self.socket.recv(65536)
            if not data:
                return None
            self.buffer += data
        size = int.from_bytes(self.buffer[:3], "big")
        frame = Frame(self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big"), self.buffer[9:9 + size])
        self.buffer = self.buffer[9 + size:]
        self.seen.append(frame)
        return frame

    def until(self, kind, wanted=lambda frame: True, answer_pings=True):
        """The next frame of this kind for which wanted(frame) is true."""
        while (frame := self.read()) is not None:
            if answer_pings and frame.kind == PING and not frame.flags & ACK:
                self.send(PING, ACK, 0, frame.payload)
            if frame.kind == kind and wanted(frame):
                return frame
        raise harness.Failed(f"the connection ended; seen: {self.seen[-20:]}")

    def goaway(self):
        """Last stream id, code and debug data of the next GOAWAY."""
        payload = self.until(GOAWAY).payload
        last, code = struct.unpack(">II", payload[:8])
        return last & LAST_STREAM_MAX, code, payload[8:]

    def fields(self, stream):
        """The next header block of this stream (each must be decoded, and in order)."""
        while True:
            frame = self.until(HEADERS)
            fields = dict(self.decoder.decode(frame.payload))
            if frame.stream == stream:
                return fields

    def ended(self):
        try:
            while self.read() is not None:
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
