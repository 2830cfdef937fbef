"""A gRPC client by python3-h2 on a bare socket: for windows, frames and manners that grpcio does not let one choose."""

import struct

import h2.config
import h2.connection
import h2.events
import h2.settings

import harness


class RawClient:
    def __init__(self, address, initial_window=65535):
        self.socket = harness.connect(address)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        # python3-h2 sends its defaults first, whatever was set before
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: initial_window})
        self.events = []
        self.data = {}
        self.headers = {}
        self.trailers = {}
        self.ended = set()
        self.calls = set()
        self.resets = {}
        self.goaway = None
        self.closed = False
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def call(self, path, message=None, headers=(), end=True, content_type="application/grpc"):
        stream = self.h2.get_next_available_stream_id()
        self.calls.add(stream)
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"),
                  ("te", "trailers"), ("content-type", content_type), *headers]
        self.h2.send_headers(stream, fields, end_stream=end and message is None)
        if message is not None:
            self.h2.send_data(stream, frame(message), end_stream=end)
        self.flush()
        return stream

    def step(self):
        """Reads once; returns the new events."""
        data = self.socket.recv(65536)
        if not data:
            self.closed = True
            return []
        events = self.h2.receive_data(data)
        for event in events:
            self._note(event)
        self.flush()
        self.events += events
        return events

    def _note(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.headers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event

    def open_windows(self, amount=1 << 24):
        self.h2.increment_flow_control_window(amount)
        for stream in self.calls:
            if stream not in self.ended and stream not in self.resets:
                self.h2.increment_flow_control_window(amount, stream)
        self.flush()

    def read_until(self, question):
        while not question():
            self.step()
            if self.closed and not question():
                raise harness.Failed("the connection was closed")

    def read_to_end(self, stream):
        """Messages and trailers (headers, for trailers-only) of a call."""
        self.read_until(lambda: stream in self.ended or stream in self.resets)
        if stream in self.resets:
            raise harness.Failed(f"reset with {self.resets[stream]}")
        return unframe(self.data.get(stream, b"")), self.trailers.get(stream) or self.headers[stream]

    def close(self):
        self.socket.close()


def frame(message, compressed=0):
    return struct.pack(">BI", compressed, len(message)) + message


def unframe(data):
    messages = []
    while data:
        compressed, size = struct.unpack(">BI", data[:5])
        assert compressed == 0 and len(data) >= 5 + size, "a message is cut"
        messages.append(data[5:5 + size])
        data = data[5 + size:]
    return messages
