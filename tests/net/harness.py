"""What every black-box story stands on: a private Redis, the real program, and a client that nobody here wrote (grpcio).

Nothing here sleeps: every wait is for an event (a line of the log, a byte on a socket, the end of a process).
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import pathlib
import platform
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from http.client import HTTPConnection

# Processes are started by vfork and exec (no preexec_fn anywhere): grpcio's fork handlers can hang a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import google.protobuf  # noqa: E402
import grpc  # noqa: E402
import nacl.signing
import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODE = os.environ.get("MODE", "release")
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")  # an empty one is none
OUT = (BUILD if BUILD.is_absolute() else ROOT / BUILD) / MODE
RINGWAY = OUT / "ringway"
CLIENT = OUT / "ringway-client"
ECHO = OUT / "echo_handler"
# a sanitized build is several times slower; waits are bounds, never pauses
PATIENCE = float(os.environ.get("TEST_PATIENCE", "20" if MODE in ("release", "debug") else "60"))
KERNEL = tuple(int(number) for number in platform.release().split(".")[:2])
# connections are in the rings' own tables, not among the process's descriptors
DIRECT_FILES = KERNEL >= (6, 13)
# Four times the default, and more where every wait may take longer: a busy machine is no lost Redis.
REDIS_TIMEOUT = f"{PATIENCE * 50:.0f}ms"

# a finding ends the process with a code that is none of its own, so that no test can expect it by accident
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=99", "UBSAN_OPTIONS": "print_stacktrace=1:exitcode=99",
              "TSAN_OPTIONS": "exitcode=99:second_deadlock_stack=1"}
FINDINGS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", ": runtime error: ", "WARNING: ThreadSanitizer",
            "FATAL: ThreadSanitizer")

PROTOS = OUT / "tests" / "python"


def _generate_protos():
    """Once, if several test processes start together: the others wait for the lock and find the files there."""
    PROTOS.mkdir(parents=True, exist_ok=True)
    roots = [ROOT / "proto", ROOT / "tests" / "conformance" / "proto"]
    sources = sorted(path for root in roots for path in root.rglob("*.proto"))
    newest = max(path.stat().st_mtime for path in sources)
    done = PROTOS / "done"
    with open(PROTOS / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = "\n".join(map(str, sources))
        if done.exists() and done.stat().st_mtime > newest and done.read_text() == names:
            return
        subprocess.run(["protoc", *(f"--proto_path={root}" for root in roots), f"--python_out={PROTOS}", *map(str, sources)],
                       check=True)
        done.write_text(names)


_generate_protos()
sys.path.insert(0, str(PROTOS))
grpc.__path__.append(str(PROTOS / "grpc"))  # grpc.health: the package is grpcio's
google.__path__.append(str(PROTOS / "google"))  # google.api: the package is protobuf's

from galaxy.gateway.v1 import edge_gateway_pb2 as edge  # noqa: E402


# Started in the background by a shell we would ignore SIGINT, and so would every program that we start. However we are told to
# end, what was started ends first; a process of measure_attacks.py has started nothing.
if threading.current_thread() is threading.main_thread() and multiprocessing.current_process().name == "MainProcess":
    for _number, _before in ((signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(_number) is _before:
            signal.signal(_number, signal.default_int_handler)


class Failed(AssertionError):
    pass


class Lines:
    """The lines of a stream, as they come; each wait names what it waits for."""

    def __init__(self, stream, name):
        self.name = name
        self.seen = []
        self._condition = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            with self._condition:
                self.seen.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._condition.notify_all()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def wait(self, wanted, after=0, patience=None):
        """The first line from number `after` on for which wanted(line) is true."""
        deadline = time.monotonic() + (patience or PATIENCE)
        at = after
        with self._condition:
            while True:
                while at < len(self.seen):
                    if wanted(self.seen[at]):
                        return self.seen[at]
                    at += 1
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise Failed(f"{self.name}: the line did not come; it said:\n" + "\n".join(self.seen[-40:]))
                self._condition.wait(left)

    def text(self):
        with self._condition:
            return "\n".join(self.seen)

    def join(self):
        self._thread.join(PATIENCE)


class Process:
    """A process that is ended by its id, and whose end is waited for."""

    running = set()

    def __init__(self, arguments, env=None, name=None, stdout=subprocess.PIPE, pass_fds=()):
        self.name = name or pathlib.Path(arguments[0]).name
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments], env=env, stdin=subprocess.DEVNULL, stdout=stdout,
            stderr=subprocess.PIPE, pass_fds=pass_fds)
        self.running.add(self.process)
        self.err = Lines(self.process.stderr, self.name)
        self.out = Lines(self.process.stdout, self.name + " (out)") if stdout == subprocess.PIPE else None

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, patience=None):
        try:
            code = self.process.wait(patience or PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end; it said:\n" + "\n".join(self.err.seen[-40:])) from None
        self.running.discard(self.process)
        self.err.join()
        self._look_for_findings()
        return code

    def _look_for_findings(self):
        """A sanitizer's report fails the test, whatever the exit code was expected to be."""
        text = self.err.text()
        if any(finding in text for finding in FINDINGS):
            raise Failed(f"{self.name}: a sanitizer reported:\n" + "\n".join(self.err.seen[-100:]))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        self.running.discard(self.process)
        for stream, lines in ((self.process.stderr, self.err), (self.process.stdout, self.out)):
            if lines:
                lines.join()  # who reads it still must not find it closed
            if stream:
                stream.close()
        self._look_for_findings()
        return code


def leave_nothing_running():
    """Who failed, or was broken off, may not have ended what it had started."""
    for process in Process.running:
        process.kill()
        process.wait()


@contextlib.contextmanager
def network(changes=False):
    """Held by who changes this machine's addresses, and shared by who must not see that: a browser breaks off what it loads."""
    with open(OUT / "network.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if changes else fcntl.LOCK_SH)
        yield


_places = []


def free_port(family=socket.AF_INET):
    """Free, and this process's until its end, on every address: a socket that is bound and never listens keeps it from whoever asks
    for any port. Who is given the number can listen there (SO_REUSEADDR), end, and listen again."""
    place = socket.socket(family)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    place.bind(("", 0))
    _places.append(place)
    return place.getsockname()[1]


def start_echo(listen="127.0.0.1:0", *more):
    """The command handler of bench/; its `address` is where it listens."""
    process = Process([ECHO, "--listen", listen, *more])
    process.address = process.out.wait(lambda text: text.startswith("listening ")).split()[1]
    return process


def wait_until(question, what):
    """Asks until it is so. For states that announce themselves to nobody (another program's counters)."""
    deadline = time.monotonic() + PATIENCE
    turn = threading.Event()
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failed(f"never came: {what}")
        turn.wait(0.01)


def remove(folder):
    """A browser's processes may write to theirs until the last of them has ended."""
    wait_until(lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists(), f"the end of {folder}")


class Redis:
    """A private redis-server on a unix socket (and, if asked, on a free port of loopback)."""

    def __init__(self, folder, *extra, port=0, data=False):
        self.folder = pathlib.Path(folder)
        self.socket = self.folder / "redis.sock"
        self.port = port
        self.extra = list(extra)
        self.persistence = ["--appendonly", "yes", "--appendfsync", "always"] if data else ["--appendonly", "no"]
        self.process = None
        self.start()

    @property
    def address(self):
        return f"unix:{self.socket}"

    def start(self):
        self.process = Process(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket, "--dir", self.folder,
             "--save", "", "--daemonize", "no", *self.persistence, *self.extra])
        self.process.out.wait(lambda line: "eady to accept connections" in line)
        self.client = redis.Redis(unix_socket_path=str(self.socket))

    def kill(self):
        self.client.close()
        self.process.process.kill()
        self.process.wait()

    def restart(self):
        self.start()

    def stop(self):
        self.client.close()
        self.process.stop()


def make_signer(path):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)], check=True, capture_output=True)


def public_key_of(path):
    der = subprocess.run(["openssl", "pkey", "-in", str(path), "-pubout", "-outform", "DER"], check=True,
                         capture_output=True).stdout
    return nacl.signing.VerifyKey(der[-32:])


SESSION_STREAM = "test:session_events"
CLIENT_STREAM = "test:client_events"


class Gateway:
    """The real program. Ports are chosen by the kernel and read from its log. Without a Redis its edge gateway is not configured."""

    def __init__(self, folder, redis_server, env=None, config=None, wait=True, arguments=(), pass_fds=(),
                 prefix=lambda env: [], program=RINGWAY):
        """`prefix` gives the words before the program's name, from the environment that it is to have."""
        self.folder = pathlib.Path(folder)
        self.redis = redis_server
        self.env = {
            "PATH": os.environ["PATH"],
            "GATEWAY_PUBLIC_HTTP_ADDR": "127.0.0.1:0",
            "GATEWAY_ADMIN_HTTP_ADDR": "127.0.0.1:0",
            "GATEWAY_WORKERS": "2",
            "GATEWAY_LOG_LEVEL": "debug",
            # stories that are not about budgets ask as often as they like
            "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_REQUESTS": "0",
            "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_MISC_REQUESTS": "0",
            **SANITIZERS,
        }
        if redis_server:
            self.env.update(self._edge())
        if config is not None:
            path = self.folder / "gateway.yaml"
            path.write_text(config)
            self.env["GATEWAY_CONFIG_FILE"] = str(path)
        self.env.update({name: str(value) for name, value in (env or {}).items() if value is not None})
        for name in [name for name, value in (env or {}).items() if value is None]:
            self.env.pop(name, None)
        self.process = Process([*prefix(self.env), program, *arguments], env=self.env, pass_fds=pass_fds,
                               name="ringway")
        if redis_server:
            self.response_key = public_key_of(self.signer)
        if wait:
            self.wait_listening()

    def _edge(self):
        """What the edge gateway needs, and of its own what stories have otherwise."""
        self.signer = self.folder / "signer.pem"
        if not self.signer.exists():
            make_signer(self.signer)
        return {
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": self.redis.address,
            "GATEWAY_SESSION_EVENTS_REDIS_STREAM": SESSION_STREAM,
            "GATEWAY_CLIENT_EVENTS_REDIS_STREAM": CLIENT_STREAM,
            "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH": str(self.signer),
            "GATEWAY_AUTHENTICATED_GRPC_ADDR": "127.0.0.1:0",
            "GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT": REDIS_TIMEOUT,
            "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": REDIS_TIMEOUT,
            "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_IP_REQUESTS": "0",
            "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_SESSION_REQUESTS": "0",
            "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_USER_REQUESTS": "0",
        }

    def log(self, message, after=0, **fields):
        """The first log line with this message and these fields."""
        def wanted(line):
            try:
                entry = json.loads(line)
            except ValueError:
                return False
            return entry.get("msg") == message and all(entry.get(name) == value for name, value in fields.items())
        return json.loads(self.process.err.wait(wanted, after))

    def log_position(self):
        return len(self.process.err.seen)

    def wait_listening(self):
        self.grpc = self.log("listening", listener="grpc")["address"] if self.redis else None
        self.public = self.log("listening", listener="public")["address"]
        self.admin = self.log("listening", listener="admin")["address"] if self.env.get("GATEWAY_ADMIN_HTTP_ADDR") else None

    def metrics(self):
        """Name with labels -> value."""
        status, _, body = http(self.admin, "GET", "/metrics")
        assert status == 200
        values = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def metric(self, name):
        return self.metrics().get(name, 0.0)

    def wait_metric(self, name, wanted):
        return wait_until(lambda: wanted(self.metric(name)), f"{name} as wanted")

    def stop(self):
        """SIGTERM; the end must be clean."""
        code = self.process.stop()
        assert code == 0, f"exit code {code}:\n" + "\n".join(self.process.err.seen[-60:])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            self.process.stop()  # the test's own failure is the one to be read
        else:
            self.stop()


def place_of(address):
    """Host and port of "host:port", as sockets take them."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def connect(address, receive_bytes=None):
    """A bare connection. With few `receive_bytes`, what it does not read is the other side's to hold."""
    if receive_bytes is None:
        return socket.create_connection(place_of(address), timeout=PATIENCE)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE)
    connection.connect(place_of(address))
    return connection


def is_ended(connection):
    """Waits for what comes next on it: nothing more."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def http_connection(address):
    return HTTPConnection(*place_of(address), timeout=PATIENCE)


def http(address, method, path, body=None, headers=None):
    """One HTTP/1.1 exchange by http.client; returns status, headers, body."""
    connection = http_connection(address)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


# ---- what clients and publishers do ----

def uvarint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def signing_input(*fields):
    """edge.md §2.1: strings and bytes with their length, times as 8 bytes."""
    out = b""
    for field in fields:
        if isinstance(field, int):
            out += field.to_bytes(8, "big", signed=True)
        else:
            data = field.encode() if isinstance(field, str) else field
            out += uvarint(len(data)) + data
    return out


def now_ms():
    return int(time.time() * 1000)


class Device:
    """A client device: a key, a session record in Redis, signed requests."""

    def __init__(self, gateway, session=None, user=None, publish=True, prefix="gateway:session:"):
        self.gateway = gateway
        self.session = session or f"session-{uuid.uuid4()}"
        self.user = user or f"user-{uuid.uuid4()}"
        self.prefix = prefix
        self.key = nacl.signing.SigningKey.generate()
        if publish:
            self.write_record()

    def fields(self, status="active", **more):
        record = {
            "device_session_id": self.session,
            "user_id": self.user,
            "client_public_key": base64.b64encode(bytes(self.key.verify_key)).decode(),
            "status": status,
        }
        record.update(more)
        return record

    def write_record(self, status="active", **more):
        self.gateway.redis.client.set(self.prefix + self.session, json.dumps(self.fields(status, **more)))

    def publish_session_event(self, status="active", **more):
        self.gateway.redis.client.xadd(SESSION_STREAM, self.fields(status, **more))

    def revoke(self):
        self.write_record("revoked", revoked_at_ms=now_ms())
        self.publish_session_event("revoked", revoked_at_ms=str(now_ms()))

    def request(self, message_type="test.echo", payload=b"payload", request_class=None, sign=True, **changes):
        request = (request_class or edge.ExecuteCommandRequest)(
            protocol_version="v1", device_session_id=self.session, message_type=message_type,
            timestamp_ms=now_ms(), request_id=str(uuid.uuid4()), payload_bytes=payload,
            payload_hash=hashlib.sha256(payload).digest(), trace_id="trace-1")
        for name, value in changes.items():
            setattr(request, name, value)
        if sign and "signature" not in changes:
            request.signature = self.sign(request)
        return request

    def sign(self, request):
        return self.key.sign(signing_input(
            "galaxy-request-v1", request.protocol_version, request.device_session_id, request.message_type,
            request.timestamp_ms, request.request_id, request.payload_hash)).signature

    def subscribe_request(self, **changes):
        changes.setdefault("message_type", "gateway.subscribe")
        return self.request(payload=changes.pop("payload", b""), request_class=edge.SubscribeEventsRequest, **changes)


def streams_of_workers(gateway):
    """How many each has open."""
    status, _, body = http(gateway.admin, "GET", "/streams")
    assert status == 200
    return [worker["open_streams"] for worker in json.loads(body)["workers"]]


def publish_event(gateway, user, event_type="test.event", event_id=None, payload=b"{}", **more):
    event_id = event_id or str(uuid.uuid4())
    fields = {"user_id": user, "event_type": event_type, "event_id": event_id, "payload_bytes": payload, **more}
    gateway.redis.client.xadd(CLIENT_STREAM, fields)
    return event_id


EXECUTE = "/galaxy.gateway.v1.EdgeGateway/ExecuteCommand"
SUBSCRIBE = "/galaxy.gateway.v1.EdgeGateway/SubscribeEvents"


class Channel:
    """A grpcio channel of its own: no connection is shared between tests."""

    def __init__(self, address, **options):
        settings = {"grpc.use_local_subchannel_pool": 1, "grpc.max_receive_message_length": 64 << 20,
                    "grpc.max_send_message_length": 64 << 20, "grpc.enable_http_proxy": 0}
        settings.update(options)
        self.channel = grpc.insecure_channel(address, options=list(settings.items()))

    def execute(self, request, timeout=None, **kwargs):
        call = self.channel.unary_unary(EXECUTE, request_serializer=lambda message: message.SerializeToString(),
                                        response_deserializer=edge.ExecuteCommandResponse.FromString)
        return call(request, timeout=timeout or PATIENCE, **kwargs)

    def execute_future(self, request, timeout=None, **kwargs):
        call = self.channel.unary_unary(EXECUTE, request_serializer=lambda message: message.SerializeToString(),
                                        response_deserializer=edge.ExecuteCommandResponse.FromString)
        return call.future(request, timeout=timeout or PATIENCE, **kwargs)

    def outcome(self, request):
        """"OK", or the status name and message that an execute ends with."""
        try:
            self.execute(request)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def refused(self, request, **kwargs):
        """The status name and message that an execute ends with."""
        try:
            answer = self.execute(request, **kwargs)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        raise Failed(f"was not refused: {answer}")

    def subscribe(self, request, timeout=None, reader=None):
        """`reader` makes what reads the call; a Stream if there is none."""
        call = self.channel.unary_stream(SUBSCRIBE, request_serializer=lambda message: message.SerializeToString(),
                                         response_deserializer=edge.GatewayEvent.FromString)
        return (reader or Stream)(call(request, timeout=timeout))

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Stream:
    """An open SubscribeEvents stream, read by a thread into a queue."""

    def __init__(self, call):
        self.call = call
        self.events = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for event in self.call:
                self.events.put(event)
        except grpc.RpcError as error:
            self.events.put((error.code().name, error.details()))
            return
        self.events.put(("OK", ""))

    def next(self, patience=None):
        """The next event; an end instead is a failure."""
        try:
            item = self.events.get(timeout=patience or PATIENCE)
        except queue.Empty:
            raise Failed("no event came") from None
        if isinstance(item, tuple):
            raise Failed(f"the stream ended: {item}")
        return item

    def end(self, patience=None):
        """The status that the stream ends with; events before it are dropped."""
        while True:
            try:
                item = self.events.get(timeout=patience or PATIENCE)
            except queue.Empty:
                raise Failed("the stream did not end") from None
            if isinstance(item, tuple):
                return item

    def bootstrap(self):
        event = self.next()
        assert event.event_type == "gateway.server_time", event
        return event

    def cancel(self):
        self.call.cancel()


def check_response(gateway, request, response):
    assert response.protocol_version == "v1"
    assert response.request_id == request.request_id
    assert response.payload_hash == hashlib.sha256(response.payload_bytes).digest()
    gateway.response_key.verify(
        signing_input("galaxy-response-v1", "v1", response.request_id, response.timestamp_ms, response.result_code,
                      response.payload_hash), response.signature)


def check_event(gateway, event):
    assert event.payload_hash == hashlib.sha256(event.payload_bytes).digest()
    gateway.response_key.verify(
        signing_input("galaxy-event-v1", event.event_type, event.event_id, event.timestamp_ms, event.request_id,
                      event.trace_id, event.payload_hash), event.signature)
