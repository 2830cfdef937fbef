"""A gRPC-Web client on bare HTTP, so that tests may say anything: over HTTP/1.1 and HTTP/2, binary and text."""

import base64
import re
import socket
import urllib.parse

from hyperframe.frame import GoAwayFrame

import harness
from raw_h2 import RawClient

TYPES = {"binary": "application/grpc-web+proto", "text": "application/grpc-web-text+proto"}
RUNS = re.compile(rb"[^=]+=*")  # padding may stand anywhere


def frame(message, flag=0):
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


class Http1Body:
    def __init__(self, address, method, path, body, headers):
        self.connection = harness.http_connection(address)
        self.connection.request(method, path, body, headers)
        self.response = self.connection.getresponse()
        # the response closes the connection's socket when it has ended
        self.status, self.headers = self.response.status, {name.lower(): value for name, value in self.response.getheaders()}

    def read(self):
        return self.response.read1(65536)

    def close(self):
        """As a browser's tab goes: at once."""
        if self.connection.sock:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.response.close()
        self.connection.close()


class Http2Body:
    def __init__(self, address, method, path, body, headers):
        self.client = RawClient(address)
        # python3-h2 takes nothing more after a GOAWAY, where calls go on to their end
        self.client.h2._frame_dispatch_table[GoAwayFrame] = lambda frame: ([], [])
        # the RawClient's own call is a gRPC one
        self.stream = self.client.h2.get_next_available_stream_id()
        self.client.calls.add(self.stream)
        self.client.h2.send_headers(self.stream, [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test"),
                                                  *headers.items()], end_stream=not body and "content-length" not in headers)
        self.client.flush()
        left = body or b""
        while left and self.stream not in self.client.headers and self.stream not in self.client.resets:
            room = min(self.client.h2.local_flow_control_window(self.stream), self.client.h2.max_outbound_frame_size)
            if room:
                self.client.h2.send_data(self.stream, left[:room], end_stream=len(left) <= room)
                left = left[room:]
                self.client.flush()
            else:
                self.client.step()
        self.client.read_until(lambda: self.stream in self.client.headers or self.stream in self.client.resets)
        if self.stream not in self.client.headers:
            raise harness.Failed("broken off")
        fields = dict(self.client.headers[self.stream])
        self.status, self.headers = int(fields.pop(":status")), fields

    def read(self):
        """Grants as much window as it reads."""
        while not self.client.data.get(self.stream) and self.stream not in self.client.ended:
            if self.stream in self.client.resets or self.client.closed:
                raise harness.Failed("broken off")
            self.client.step()
        part = self.client.data.pop(self.stream, b"")
        if part and self.stream not in self.client.ended:
            self.client.h2.acknowledge_received_data(len(part), self.stream)
            self.client.flush()
        return part

    def close(self):
        self.client.close()


PROTOCOLS = {"http1": Http1Body, "http2": Http2Body}


class Call:
    """One call whose answer is read as it comes."""

    def __init__(self, address, protocol, kind, path, body, headers):
        self.body = PROTOCOLS[protocol](address, "POST", path, body, headers)
        self.status, self.headers = self.body.status, self.body.headers
        self.is_text = self.headers.get("content-type", "").startswith("application/grpc-web-text")
        self.text, self.bytes, self.has_ended = b"", b"", False
        self.trailers = None

    def fill(self):
        part = self.body.read()
        if not part:
            self.has_ended = True
        elif self.is_text:
            self.text += part
            whole = len(self.text) // 4 * 4
            self.bytes += b"".join(base64.b64decode(run, validate=True) for run in RUNS.findall(self.text[:whole]))
            self.text = self.text[whole:]
        else:
            self.bytes += part

    def frame(self):
        """Flag and content; None at the body's end."""
        while len(self.bytes) < 5 or len(self.bytes) < 5 + int.from_bytes(self.bytes[1:5], "big"):
            if self.has_ended:
                if self.bytes or self.text:
                    raise harness.Failed("half a frame")
                return None
            self.fill()
        flag, end = self.bytes[0], 5 + int.from_bytes(self.bytes[1:5], "big")
        content, self.bytes = self.bytes[5:end], self.bytes[end:]
        return flag, content

    def message(self):
        """None: the call has ended, see `end`."""
        found = self.frame()
        if found is None:
            return None
        flag, content = found
        if flag == 0:
            return content
        assert flag == 0x80
        self.trailers = dict(line.split(": ", 1) for line in content.decode("ascii").split("\r\n")[:-1])
        assert content.endswith(b"\r\n") and self.frame() is None, "trailers are the last frame"
        return None

    def end(self):
        """Messages up to the end, status and message, wherever they stand."""
        messages = []
        while (message := self.message()) is not None:
            messages.append(message)
        told = self.trailers or self.headers
        if "grpc-status" not in told:
            raise harness.Failed("no status")
        assert (self.trailers is not None) != ("grpc-status" in self.headers), "the status stands in one place"
        self.details = told.get("grpc-status-details-bin")
        self.retry_after_ms = told.get("retry-after-ms")
        self.close()
        return messages, int(told["grpc-status"]), urllib.parse.unquote(told.get("grpc-message", ""))

    def close(self):
        self.body.close()


class Client:
    def __init__(self, gateway, protocol, kind):
        self.gateway, self.protocol, self.kind = gateway, protocol, kind

    def headers(self, headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        token = headers.pop("token", None)
        if token:
            headers["authorization"] = f"Bearer {token}"
        return {"content-type": TYPES[self.kind], "x-grpc-web": "1", **headers}

    def raw(self, path, body, **headers):
        """`body` as it is."""
        return Call(self.gateway.public, self.protocol, self.kind, path, body, self.headers(headers))

    def open(self, path, message, **headers):
        body = frame(message.SerializeToString())
        return self.raw(path, base64.b64encode(body) if self.kind == "text" else body, **headers)

    def call(self, path, message, **headers):
        """Messages, status, message."""
        return self.open(path, message, **headers).end()
