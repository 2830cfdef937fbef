"""How others read the bytes that a client sends: a real nginx, and Python's standard library.

A reading is what became of each request in turn: the name of what was answered, or `refused` with nothing behind it.
"""

import http.client
import http.server
import io
import pathlib
import shutil
import socket
import urllib.parse

import harness

POST = "/api/v1/public/auth/send-email-code"
NAMES = {"/healthz": "healthz", "/readyz": "readyz", POST: "post"}

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
	access_log off;
	keepalive_timeout 60s;
	client_body_temp_path {folder}/nginx-body;
	proxy_temp_path {folder}/nginx-proxy;
	fastcgi_temp_path {folder}/nginx-fastcgi;
	uwsgi_temp_path {folder}/nginx-uwsgi;
	scgi_temp_path {folder}/nginx-scgi;
	server {{
		listen unix:{folder}/nginx.sock;
		location = /healthz {{ return 200 healthz; }}
		location = /readyz {{ return 200 readyz; }}
		# a body is only read for somebody: another server of the same nginx
		location = {post} {{ proxy_pass http://unix:{folder}/nginx-behind.sock:; proxy_ignore_client_abort on; }}
		location / {{ return 404 unknown; }}
	}}
	server {{
		listen unix:{folder}/nginx-behind.sock;
		location / {{ return 200 post; }}
	}}
}}
"""


class Nginx:
    """A real nginx with the distribution's defaults, on unix sockets: no port can be somebody else's."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        path = self.folder / "nginx.conf"
        path.write_text(NGINX.format(folder=folder, post=POST))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = harness.Process([program, "-p", folder, "-e", "stderr", "-c", path])
        harness.wait_until(self._answers, "nginx")

    def _answers(self):
        try:
            return self.read(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n") == ("healthz",)
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def read(self, request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(harness.PATIENCE)
            connection.connect(str(self.folder / "nginx.sock"))
            return tuple("refused" if status not in (200, 404) else body.decode()
                         for status, _, body in exchange(connection, request))

    def stop(self):
        self.process.stop()
        for name in ("nginx.sock", "nginx-behind.sock"):
            (self.folder / name).unlink(missing_ok=True)


def exchange(connection, request):
    """Sends all of it and no more; every answer until the other side ends: status, headers, body."""
    try:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError, OSError):
        pass  # it has refused before it had all; its answer is there
    answers = []
    stream = connection.makefile("rb")
    while True:
        try:
            line = stream.readline()
            while line.startswith(b"HTTP/1.1 100 "):
                stream.readline()
                line = stream.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            return answers
        if not line.startswith(b"HTTP/1."):  # HTTP/0.9: the body alone
            answers.append((200, {}, line))
            return answers
        headers = {}
        while (field := stream.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode().partition(":")
            headers[name.lower()] = value.strip()
        answers.append((int(line.split()[1]), headers, stream.read(int(headers.get("content-length", "0")))))


class _Lines:
    """A response's head of our making, then the bytes that follow the request's head."""

    def __init__(self, head, rest):
        self.head, self.rest = io.BytesIO(head), rest

    def makefile(self, *_):
        return self

    def readline(self, *limit):
        return self.head.readline(*limit) or self.rest.readline(*limit)

    def read(self, *size):
        return self.rest.read(*size)

    def readinto(self, into):
        return self.rest.readinto(into)

    def flush(self):
        pass

    def close(self):
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    """http.server's own parser; a body is read as its handlers do, by int(Content-Length), and a chunked one by http.client."""

    protocol_version = "HTTP/1.1"

    def __init__(self, request):
        self.rfile, self.wfile = io.BytesIO(request), io.BytesIO()
        self.client_address, self.seen = ("client", 0), []
        try:
            self.handle()
        except (ValueError, OverflowError, http.client.HTTPException):
            self.seen.append("refused")

    def __getattr__(self, name):
        if name in ("do_GET", "do_POST", "do_OPTIONS", "do_CONNECT"):
            return self.take
        raise AttributeError(name)

    def take(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":  # as http.client judges it
            response = http.client.HTTPResponse(_Lines(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", self.rfile))
            response.begin()
            response.read()
        elif "Content-Length" in self.headers:
            self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(NAMES.get(urllib.parse.urlsplit(self.path).path, "unknown"))

    def send_error(self, code, message=None, explain=None):
        self.seen.append("refused")
        self.close_connection = True

    def send_response_only(self, code, message=None):
        pass

    def end_headers(self):
        pass

    def log_message(self, *_):
        pass


def python(request):
    return tuple(_Handler(request).seen)
