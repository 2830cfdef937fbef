"""The runbook of the README, rehearsed: each situation is made, and the commands printed there must tell it.

The commands are read from the README's fenced blocks. One that no rehearsal runs fails the last test here, and so does one
that a rehearsal runs and the README does not have.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

import conftest
import harness
from harness import CLIENT_STREAM, SESSION_STREAM, publish_event

README = harness.ROOT / "README.md"
BEGIN = ""  # the block before the first section
START, READY, REVOKE, EVENTS, CLOSED, RESTART = (
    "Start-up fails", "Is it ready?", "A revocation does not take effect", "Events are not delivered",
    "A stream was closed unexpectedly", "A planned restart")


def read_sections():
    """Title -> text, of what stands under `## Runbook`."""
    text = re.search(r"^## Runbook$(.*?)(?=^## |\Z)", README.read_text(), re.M | re.S)
    assert text, "the README has no runbook"
    parts = re.split(r"^### (.+)$", text.group(1), flags=re.M)
    return dict(zip([BEGIN, *parts[1::2]], parts[::2]))


def matching(text, part):
    """The commands that are this, or else those that have this in them."""
    commands = commands_of(text)
    return [command for command in commands if command == part] or [command for command in commands if part in command]


def commands_of(text):
    """The lines of the blocks marked sh, without their comments."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)).splitlines()
    return [re.sub(r"\s+# .*$", "", line) for line in lines if line.strip()]


rehearsed = set()  # (title, part of a command), by the tests of this file


def rehearses(title, *parts):
    """Marks what a test runs; it runs nothing else."""
    rehearsed.update((title, part) for part in parts)

    def mark(test):
        test.title, test.parts = title, set(parts)
        return test
    return mark


class Book:
    """Runs commands of the README as an operator would: with the lines of its first block in front, where the paths of an
    installation are those of the test, and journalctl and systemctl know one process."""

    def __init__(self, folder):
        self.folder = folder
        self.sections = read_sections()
        self.gateway = None
        self.title = None
        self.session = "nobody"
        self.ran = set()
        tools = folder / "tools"
        tools.mkdir()
        (tools / "journalctl").write_text(
            '#!/bin/bash\n[ "$1 $2 $3 $4" = "-u ringway -o cat" ] || exit 1\nshift 4\n'
            f'if [ "$1" = -n ]; then tail -n "$2" {folder}/log; else cat {folder}/log; fi\n')
        (tools / "systemctl").write_text('#!/bin/bash\n[ "$*" = "stop ringway" ] && kill -TERM "$GATEWAY_PID"\n')
        for tool in tools.iterdir():
            tool.chmod(0o755)
        self.path = f"{tools}:{harness.OUT}:{os.environ['PATH']}"

    def follow(self, gateway):
        """Its addresses, as an operator would have chosen them, are in the file of variables."""
        self.gateway = gateway
        self.variables = {name: value for name, value in gateway.env.items() if name.startswith("GATEWAY_")}
        for variable, listener in (("GATEWAY_PUBLIC_HTTP_ADDR", "public"), ("GATEWAY_ADMIN_HTTP_ADDR", "admin"),
                                   ("GATEWAY_AUTHENTICATED_GRPC_ADDR", "grpc")):
            if hasattr(gateway, listener):
                self.variables[variable] = getattr(gateway, listener)
        return gateway

    def prelude(self):
        (self.folder / "ringway.env").write_text("".join(f"{name}={value}\n" for name, value in self.variables.items()))
        (self.folder / "log").write_text(self.gateway.process.err.text() + "\n")
        places = {"/etc/ringway/ringway.env": str(self.folder / "ringway.env"),
                  "/etc/credstore/ringway.signer.pem": str(self.gateway.signer)}
        text = "\n".join(commands_of(self.sections[BEGIN]))
        for place, here in places.items():
            assert text.count(place) == 1
            text = text.replace(place, here)
        return re.sub(r"^session=.*$", f"session={self.session}", text, flags=re.M)

    def find(self, part, title=None):
        title = title or self.title
        found = matching(self.sections[title], part)
        assert len(found) == 1, f"{title}: {len(found)} commands with {part}"
        self.ran.add(part)
        assert (title, part) in rehearsed, f"{part} is not marked as rehearsed"
        return found[0]

    def script(self, part, title=None, prefix=""):
        return ["bash", "-c", f"cd {self.folder}\n{self.prelude()}\n{prefix}{self.find(part, title)}"]

    def env(self):
        return {"PATH": self.path, "GATEWAY_PID": str(self.gateway.process.pid), "HOME": str(self.folder), **harness.SANITIZERS}

    def run(self, part, title=None):
        done = subprocess.run(self.script(part, title), env=self.env(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=harness.PATIENCE)
        self.code, self.err = done.returncode, done.stderr
        return done.stdout

    def wait(self, part, wanted, title=None):
        """Until the command says so. For what the gateway hears of a moment later."""
        return harness.wait_until(lambda: (lambda out: out if wanted in out else None)(self.run(part, title)),
                                  f"{wanted} from {part}")

    def start(self, part, title=None):
        """A command that goes on."""
        return harness.Process(self.script(part, title, "exec "), env=self.env(), name=part)

    def said(self, *words):
        """These words must stand in the section, where the operator reads what an answer means."""
        for word in words:
            assert word in re.sub(r"\s+", " ", self.sections[self.title]), f"{self.title} does not say: {word}"


@pytest.fixture
def book(folder, request):
    book = Book(folder)
    book.title = request.function.title
    yield book
    assert request.function.parts <= book.ran, f"marked, but not run: {request.function.parts - book.ran}"


@pytest.fixture
def tcp_redis(folder):
    server = harness.Redis(folder, port=harness.free_port())
    yield server
    server.stop()


@pytest.fixture
def operated(folder, tcp_redis, echo, book):
    """A gateway as an operator runs it: Redis by TCP, log level info."""
    with harness.Gateway(folder, tcp_redis, config=conftest.ECHO_CONFIG.format(address=echo.address), env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"127.0.0.1:{tcp_redis.port}", "GATEWAY_LOG_LEVEL": "info"}) as gateway:
        yield book.follow(gateway)


@pytest.fixture
def client(operated, book):
    """A device with an open stream that works; it is what the operator is asked about."""
    device = harness.Device(operated)
    book.session = device.session
    with harness.Channel(operated.grpc) as channel:
        device.channel = channel
        device.stream = channel.subscribe(device.subscribe_request())
        device.stream.bootstrap()
        yield device


def values(text):
    """Name with labels -> value."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines()}


def entries(text):
    return [json.loads(line) for line in text.splitlines()]


# ---- start-up fails ----

def failed_start(folder, redis_server, book, **env):
    gateway = harness.Gateway(folder, redis_server, wait=False, env={"GATEWAY_LOG_LEVEL": "info", **env})
    gateway.process.wait()
    gateway.code = gateway.process.stop()
    book.follow(gateway)
    return gateway


def last_line(book):
    return json.loads(book.run("log -n 20").splitlines()[-1])


@rehearses(START, "log -n 20", "--check-config")
def test_mistakes_of_the_configuration_are_told(folder, tcp_redis, book):
    gateway = failed_start(folder, tcp_redis, book, GATEWAY_FRESHNESS_WINDOW="soon", GATEWAY_WORKERS="many",
                           GATEWAY_CLIENT_EVENTS_REDIS_STREAM=None)
    assert gateway.code == 2
    *mistakes, last = book.run("log -n 20").strip().splitlines()
    assert "the configuration has mistakes" in last
    wrong = ("GATEWAY_FRESHNESS_WINDOW", "GATEWAY_WORKERS", "GATEWAY_CLIENT_EVENTS_REDIS_STREAM")
    assert all(any(name in line for line in mistakes) for name in wrong)
    book.run("--check-config")
    assert book.code == 2 and all(name in book.err for name in wrong)
    book.said("`the configuration has mistakes`", "Exit code 2: mistakes in the configuration")


@rehearses(START, "log -n 20", "openssl pkey", "--check-config")
def test_signer_that_cannot_be_used_is_told(folder, tcp_redis, book):
    path = folder / "signer.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", path], check=True)
    gateway = failed_start(folder, tcp_redis, book)
    assert gateway.code == 1
    last = book.run("log -n 20").strip().splitlines()[-1]
    assert last.startswith("GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH: ")
    assert book.run("openssl pkey").strip() == "X25519 Private-Key:"
    book.run("--check-config")
    assert book.code == 2 and "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH" in book.err
    path.unlink()
    harness.make_signer(path)
    assert book.run("openssl pkey").strip() == "ED25519 Private-Key:"
    assert "configuration is valid" in book.run("--check-config") and book.code == 0
    book.said("`GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH: …`", "# ED25519 Private-Key:")


@rehearses(START, "log -n 20", "redis PING")
def test_redis_that_does_not_answer_is_told(folder, tcp_redis, book):
    port = harness.free_port()
    gateway = failed_start(folder, tcp_redis, book, GATEWAY_SESSION_CACHE_REDIS_ADDR=f"127.0.0.1:{port}")
    assert gateway.code == 1
    last = last_line(book)
    assert last["msg"] == "start-up check failed" and last["error"].startswith("session cache: ")
    book.run("redis PING")
    assert "Connection refused" in book.err
    book.variables["GATEWAY_SESSION_CACHE_REDIS_ADDR"] = f"127.0.0.1:{tcp_redis.port}"
    assert book.run("redis PING") == "PONG\n"
    book.said("`start-up check failed`", "`session cache`, `replay store`, `session event subscriber` or `client event "
              "subscriber`")


@rehearses(START, "log -n 20", "ss -Hltnp")
@pytest.mark.skipif(not shutil.which("ss"), reason="ss is not installed")
def test_address_in_use_is_told(folder, tcp_redis, book):
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = failed_start(folder, tcp_redis, book, GATEWAY_PUBLIC_HTTP_ADDR=address)
        assert gateway.code == 1
        last = last_line(book)
        assert (last["msg"], last["listener"]) == ("cannot listen", "public") and address in last["error"]
        book.variables["GATEWAY_PUBLIC_HTTP_ADDR"] = address
        assert any(address in line and f"pid={os.getpid()}," in line for line in book.run("ss -Hltnp").splitlines())
    book.said("`cannot listen`")


@rehearses(START, "ringway --print-config", "grep -E '^GATEWAY_(AUTH_SERVICE_BASE_URL|CONFIG_FILE)='")
def test_what_does_not_fail_the_start_is_told(folder, tcp_redis, book):
    with harness.Gateway(folder, tcp_redis) as gateway, harness.Channel(gateway.grpc) as channel:
        book.follow(gateway)
        status, _, body = harness.http(gateway.public, "POST", "/api/v1/public/auth/send-email-code",
                                       body=b'{"email":"a@example.org"}', headers={"Content-Type": "application/json"})
        assert (status, json.loads(body)["error"]["code"]) == (503, "service_unavailable")
        assert channel.refused(harness.Device(gateway).request()) == ("UNIMPLEMENTED", "message_type is not routed")
        lines = book.run("grep -E '^GATEWAY_(AUTH_SERVICE_BASE_URL|CONFIG_FILE)='").splitlines()
        assert [line.split()[0] for line in lines] == ["GATEWAY_AUTH_SERVICE_BASE_URL=", "GATEWAY_CONFIG_FILE="]
        assert all(line.split("# ")[1].startswith("default") for line in lines)
        assert set(lines) < set(book.run("ringway --print-config").splitlines())
        book.said("503 `service_unavailable`", "`UNIMPLEMENTED message_type is not routed`")


# ---- ready ----

@rehearses(READY, "listening", "reading the stream", "/healthz", "/readyz", "gateway_redis_connected", "upstream_healthy",
           "grep REDIS")
def test_readiness_is_told(operated, book):
    listening = entries(book.run("listening"))
    assert {(entry["listener"], entry["address"]) for entry in listening} == {
        ("public", operated.public), ("grpc", operated.grpc), ("admin", operated.admin)}
    assert {entry["stream"] for entry in entries(book.run("reading the stream"))} == {SESSION_STREAM, CLIENT_STREAM}
    assert json.loads(book.run("/healthz")) == {"status": "ok"}
    assert json.loads(book.run("/readyz")) == {"status": "ready"}
    assert values(book.wait("gateway_redis_connected", 'role="session"} 3')) == {
        'gateway_redis_connected{role="session"}': 2 + 1, 'gateway_redis_connected{role="session_events"}': 1,
        'gateway_redis_connected{role="client_events"}': 1}
    [healthy] = values(book.wait("upstream_healthy", "} 2")).items()
    assert healthy[0].startswith('upstream_healthy{upstream="echo",address=') and healthy[1] == 2
    assert f"GATEWAY_SESSION_CACHE_REDIS_ADDR=127.0.0.1:{operated.redis.port}" in book.run("grep REDIS")


@rehearses(READY, "/healthz", "grep REDIS", "ringway-client session", "keygen", "ringway-client execute",
           "--print-public-key")
def test_commands_take_the_forms_that_variables_have(operated, book):
    """`:port`, and nothing at all where that is the default."""
    for listener in ("PUBLIC_HTTP", "ADMIN_HTTP", "AUTHENTICATED_GRPC"):
        name = f"GATEWAY_{listener}_ADDR"
        book.variables[name] = book.variables[name].replace("127.0.0.1:", ":")
    assert json.loads(book.run("/healthz")) == {"status": "ok"}
    assert "REDIS_ADDR" in book.run("grep REDIS")
    for command in ("--print-public-key", "keygen", "ringway-client session"):
        book.run(command)
    assert "signature: ok\n" in book.run("ringway-client execute")
    del book.variables["GATEWAY_PUBLIC_HTTP_ADDR"], book.variables["GATEWAY_AUTHENTICATED_GRPC_ADDR"]
    assert "public=:8080 gateway=:9090" in subprocess.run(
        ["bash", "-c", book.prelude() + '\necho "public=$public gateway=$gateway"'], env=book.env(), capture_output=True,
        text=True, check=True).stdout


@rehearses(READY, "upstream_healthy", "gateway_redis_connected", "/readyz")
def test_what_readyz_does_not_know_is_told_elsewhere(operated, book, echo, tcp_redis):
    book.wait("upstream_healthy", "} 2")
    echo.signal(signal.SIGTERM)
    tcp_redis.kill()
    book.wait("upstream_healthy", "} 0")
    book.wait("gateway_redis_connected", 'gateway_redis_connected{role="client_events"} 0')
    assert json.loads(book.run("/readyz")) == {"status": "ready"}
    book.said("neither of Redis, nor of the services behind, nor of push")
    tcp_redis.restart()
    book.wait("gateway_redis_connected", 'gateway_redis_connected{role="client_events"} 1')


@rehearses(READY, "--print-public-key", "keygen", "ringway-client session", "ringway-client subscribe",
           "ringway-client publish", "ringway-client execute")
def test_session_of_ones_own_proves_the_whole_way(operated, book):
    book.run("--print-public-key")
    book.run("keygen")
    assert book.run("ringway-client session") == "session probe of user probe is active\n"
    stream = book.start("ringway-client subscribe")
    stream.out.wait(lambda line: line.startswith("gateway.server_time ") and line.endswith(" signature ok"))
    assert book.run("ringway-client publish").startswith("published ")
    stream.out.wait(lambda line: line.startswith("probe ") and line.endswith(" payload=hello signature ok"))
    assert "payload: hello\n" in book.run("ringway-client execute")
    assert book.code == 0
    stream.stop()


# ---- a revocation does not take effect ----

def revoked_event(device, **changes):
    fields = {**device.fields("revoked", revoked_at_ms=str(harness.now_ms())), **changes}
    return {name: value for name, value in fields.items() if value is not None}


def still_served(client):
    assert client.channel.execute(client.request()).result_code == "ok"


def is_revoked(client):
    assert client.stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
    assert client.channel.refused(client.request()) == ("FAILED_PRECONDITION", "device session is revoked")


@rehearses(REVOKE, "redis GET")
def test_revocation_that_was_never_written_is_told(client, book):
    still_served(client)
    assert json.loads(book.run("redis GET"))["status"] == "active"
    client.write_record("revoked")
    assert json.loads(book.run("redis GET"))["status"] == "revoked"
    book.said('"status":"revoked"')


@rehearses(REVOKE, "redis XREVRANGE", "reading the stream", "gateway_stream_entries_total")
def test_revocation_published_to_another_stream_is_told(client, operated, book):
    client.write_record("revoked")
    operated.redis.client.xadd("sessions", revoked_event(client))
    still_served(client)
    assert client.session not in book.run("redis XREVRANGE")
    assert SESSION_STREAM in [entry["stream"] for entry in entries(book.run("reading the stream"))]
    assert set(values(book.run("gateway_stream_entries_total")).values()) == {0}
    client.publish_session_event("revoked")
    is_revoked(client)
    assert client.session in book.run("redis XREVRANGE")
    assert values(book.run("gateway_stream_entries_total")) == {
        'gateway_stream_entries_total{stream="session_events",result="ok"}': 1,
        'gateway_stream_entries_total{stream="session_events",result="malformed"}': 0}
    book.said("the event went to another stream, database or Redis", "Neither has grown")


@rehearses(REVOKE, "CLIENT LIST", "INFO keyspace", "redis XREVRANGE")
def test_gateway_in_another_database_is_told(folder, tcp_redis, book):
    """The publisher writes to 0, the gateway reads 5."""
    with harness.Gateway(folder, tcp_redis, env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"127.0.0.1:{tcp_redis.port}", "GATEWAY_SESSION_CACHE_REDIS_DB": 5}) as gateway:
        book.follow(gateway)
        device = harness.Device(gateway)
        book.session = device.session
        device.revoke()
        assert device.session not in book.run("redis XREVRANGE")
        readers = book.run("CLIENT LIST").splitlines()
        assert len(readers) == 2 and all(" db=5 " in line for line in readers)
        keyspace = book.run("INFO keyspace")
        assert "db0:keys=2" in keyspace and "db5:" not in keyspace
        book.variables["GATEWAY_SESSION_CACHE_REDIS_DB"] = "0"  # as the publisher has it
        assert device.session in book.run("redis XREVRANGE")
    book.said("it reads another database")


@rehearses(REVOKE, "CLIENT LIST")
def test_gateway_at_another_redis_is_told(client, operated, book, folder):
    (folder / "other").mkdir()
    other = harness.Redis(folder / "other", port=harness.free_port())
    try:
        other.client.xadd(SESSION_STREAM, revoked_event(client))
        still_served(client)
        assert len(book.run("CLIENT LIST").splitlines()) == 2
        book.variables["GATEWAY_SESSION_CACHE_REDIS_ADDR"] = f"127.0.0.1:{other.port}"
        assert book.run("CLIENT LIST") == ""
        assert f"REDIS_ADDR=127.0.0.1:{operated.redis.port} " in book.run("grep REDIS", READY)
    finally:
        other.stop()
    book.said("No reader here: the gateway is connected to another Redis", "`admin /config | grep REDIS_ADDR`")


@pytest.mark.parametrize("field,value", [("user_id", None), ("client_public_key", "not base64"), ("status", "REVOKED"),
                                         ("revoked_at_ms", "yesterday")])
@rehearses(REVOKE, "gateway_stream_entries_total", "session event is malformed")
def test_malformed_revocation_is_told(client, operated, book, field, value):
    entry = operated.redis.client.xadd(SESSION_STREAM, revoked_event(client, **{field: value})).decode()
    [line] = entries(book.wait("session event is malformed", entry))
    assert (line["entry"], line["field"], line["session"]) == (entry, field, client.session[:8])
    assert values(book.run("gateway_stream_entries_total")) == {
        'gateway_stream_entries_total{stream="session_events",result="ok"}': 0,
        'gateway_stream_entries_total{stream="session_events",result="malformed"}': 1}
    still_served(client)
    assert client.stream.events.empty()
    book.said("`field` is the one that is missing or wrong", "open streams stay open")
    client.publish_session_event("revoked")
    is_revoked(client)


@rehearses(REVOKE, "\"session event\"'")
def test_revocation_that_was_overwritten_is_told(client, operated, book):
    client.revoke()
    is_revoked(client)
    client.publish_session_event("active")
    lines = entries(book.wait("\"session event\"'", '"status":"active"'))
    assert [(line["status"], line["streams_ended"]) for line in lines] == [("revoked", 1), ("active", 0)]
    harness.wait_until(lambda: client_is_served(client), "the active snapshot is taken over")
    book.said('`"status":"active"` in the last line: a later snapshot has overwritten the revoked one')


def client_is_served(client):
    try:
        return client.channel.execute(client.request()).result_code == "ok"
    except harness.grpc.RpcError:
        return False


@rehearses(REVOKE, "gateway_redis_connected")
def test_redis_that_is_away_is_told_and_what_was_missed_is_read_again(client, operated, book, tcp_redis):
    """The stream is made anew meanwhile: the loss is counted and the sessions of open streams are read again."""
    client.publish_session_event("active")
    operated.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 1)
    tcp_redis.kill()
    book.wait("gateway_redis_connected", 'gateway_redis_connected{role="session_events"} 0')
    operated.process.err.wait(lambda line: '"component":"redis"' in line)
    tcp_redis.restart()
    client.write_record("revoked")
    assert client.stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
    operated.wait_metric('gateway_stream_gaps_total{stream="session_events"}', lambda value: value >= 1)
    assert operated.metric('gateway_session_rereads_total{result="ended"}') == 1
    book.said("It is 0: Redis is away", "`gateway_stream_gaps_total`", "`gateway_session_rereads_total`")


@rehearses(REVOKE, "ringway-client revoke")
def test_revocation_by_hand_takes_effect_and_is_counted(client, operated, book):
    assert book.run("ringway-client revoke").startswith(f"session {client.session} is revoked, event ")
    is_revoked(client)
    assert operated.metric('gateway_push_streams_ended_total{reason="revoked"}') == 1
    assert operated.metric('gateway_pipeline_refusals_total{step="session"}') == 1
    book.said('`gateway_push_streams_ended_total{reason="revoked"}`', '`gateway_pipeline_refusals_total{step="session"}`')


# ---- events are not delivered ----

def counted(book, part, name):
    return values(book.run(part))[name]


STREAMS = "gateway_push_(streams_open|registrations_total)"
DELIVERED = "gateway_push_(events|deliveries)"
CLIENT_ENTRIES = 'gateway_stream_entries_total{stream="client_events"'


@rehearses(EVENTS, STREAMS, DELIVERED)
def test_client_without_a_stream_is_told(client, operated, book):
    client.stream.cancel()
    book.wait(STREAMS, "gateway_push_streams_open 0")
    publish_event(operated, client.user)
    book.wait(DELIVERED, "gateway_push_events_without_stream_total 1")
    assert counted(book, STREAMS, 'gateway_push_registrations_total{verdict="admitted"}') == 1
    book.said("`gateway_push_streams_open` is 0: no client has opened `SubscribeEvents`")


@rehearses(EVENTS, STREAMS, "admin /streams")
def test_open_stream_is_told(client, book):
    assert counted(book, STREAMS, "gateway_push_streams_open") == 1
    streams = json.loads(book.run("admin /streams"))
    assert streams["open_streams"] == 1
    assert [(row["session"], row["depth"]) for row in streams["slowest"]] == [(client.session[:8], 0)]


@rehearses(EVENTS, "redis XREVRANGE", CLIENT_ENTRIES)
def test_event_in_another_stream_is_told(client, operated, book):
    operated.redis.client.xadd("events", {"user_id": client.user, "event_type": "t", "event_id": "e", "payload_bytes": ""})
    assert client.user not in book.run("redis XREVRANGE")
    assert set(values(book.run(CLIENT_ENTRIES)).values()) == {0}
    event_id = publish_event(operated, client.user)
    assert client.stream.next().event_id == event_id
    assert client.user in book.run("redis XREVRANGE")
    assert counted(book, CLIENT_ENTRIES, 'gateway_stream_entries_total{stream="client_events",result="ok"}') == 1


@pytest.mark.parametrize("field", ["user_id", "event_type", "event_id", "payload_bytes"])
@rehearses(EVENTS, "client event is malformed", CLIENT_ENTRIES)
def test_malformed_event_is_told(client, operated, book, field):
    fields = {"user_id": client.user, "event_type": "t", "event_id": "e", "payload_bytes": "{}"}
    fields.pop(field)
    entry = operated.redis.client.xadd(CLIENT_STREAM, fields).decode()
    [line] = entries(book.wait("client event is malformed", entry))
    assert (line["entry"], line["field"]) == (entry, field)
    assert counted(book, CLIENT_ENTRIES, 'gateway_stream_entries_total{stream="client_events",result="malformed"}') == 1
    book.said("`field` the one that is missing or wrong")


@rehearses(EVENTS, DELIVERED, "redis XREVRANGE")
def test_event_for_the_wrong_user_is_told(client, operated, book):
    publish_event(operated, "somebody-else")
    book.wait(DELIVERED, "gateway_push_events_without_stream_total 1")
    assert "somebody-else" in book.run("redis XREVRANGE")
    publish_event(operated, "somebody-else", device_session_id=client.session)
    book.wait(DELIVERED, "gateway_push_events_wrong_user_total 1")
    assert client.stream.events.empty()
    book.said("`gateway_push_events_without_stream_total` has grown", "`gateway_push_events_wrong_user_total` has grown")


@rehearses(EVENTS, DELIVERED, "redis XREVRANGE")
def test_event_for_another_session_is_told(client, operated, book):
    other = harness.Device(operated, user=client.user)
    publish_event(operated, client.user, device_session_id=other.session)
    book.wait(DELIVERED, "gateway_push_events_without_stream_total 1")
    assert other.session in book.run("redis XREVRANGE")
    stream = client.channel.subscribe(other.subscribe_request())
    stream.bootstrap()
    before = counted(book, DELIVERED, "gateway_push_deliveries_total")
    event_id = publish_event(operated, client.user, device_session_id=other.session)
    assert stream.next().event_id == event_id
    assert counted(book, DELIVERED, "gateway_push_deliveries_total") == before + 1
    assert client.stream.events.empty()
    book.said("the event was for another session")


@rehearses(EVENTS, "gateway_push_streams_ended_total", "gateway_stream_gaps_total", "may have been lost")
def test_stream_that_ended_before_and_lost_entries_are_told(client, operated, book, tcp_redis):
    client.stream.cancel()
    book.wait("gateway_push_streams_ended_total", 'gateway_push_streams_ended_total{reason="client"} 1')
    publish_event(operated, client.user)
    operated.wait_metric('gateway_stream_entries_total{stream="client_events",result="ok"}', lambda value: value == 1)
    tcp_redis.kill()
    tcp_redis.restart()
    book.wait("gateway_stream_gaps_total", 'gateway_stream_gaps_total{stream="client_events"} 1')
    [line] = entries(book.run("may have been lost"))
    assert (line["msg"], line["cause"]) == ("client events may have been lost", "stream recreated")
    book.said("`stream trimmed`", "`stream recreated`")


@rehearses(EVENTS, "gateway_stream_gaps_total", "may have been lost")
def test_entries_trimmed_while_redis_was_away_are_told(client, operated, book, tcp_redis):
    """Held up between two batches: what is written meanwhile is cut to its last entry."""
    event_id = publish_event(operated, client.user)
    assert client.stream.next().event_id == event_id
    operated.process.signal(signal.SIGSTOP)
    pipe = tcp_redis.client.pipeline(transaction=True)
    pipe.client_kill_filter(_type="normal", skipme=True)
    for number in range(10):
        pipe.xadd(CLIENT_STREAM, {"user_id": client.user, "event_type": "t", "event_id": str(number), "payload_bytes": ""},
                  maxlen=1, approximate=False)
    pipe.execute()
    operated.process.signal(signal.SIGCONT)
    assert client.stream.next().event_id == "9"
    book.wait("gateway_stream_gaps_total", 'gateway_stream_gaps_total{stream="client_events"} 1')
    assert [line["cause"] for line in entries(book.run("may have been lost"))] == ["stream trimmed"]

# ---- a stream was closed unexpectedly ----

ENDED = "gateway_push_streams_ended_total"


def row_of(book, status, message):
    """The label that the table has for this end."""
    rows = re.findall(r"^\| `(\w+) ([^`]+)` \|.*\| `(reason=\"\w+\")` \|$", book.sections[book.title], re.M)
    return next(label for code, text, label in rows if (code, text) == (status, message))


@rehearses(CLOSED, ENDED, "\"session event\"'")
def test_stream_closed_by_a_revocation_is_told(client, book):
    client.revoke()
    label = row_of(book, *client.stream.end())
    assert counted(book, ENDED, f"gateway_push_streams_ended_total{{{label}}}") == 1
    assert [line["streams_ended"] for line in entries(book.run("\"session event\"'"))] == [1]


@rehearses(CLOSED, ENDED, "gateway_push_over_budget_total", "admin /streams", "^GATEWAY_PUSH_")
def test_stream_that_overflowed_is_told(folder, tcp_redis, book):
    from raw_h2 import RawClient
    capacity = 16
    with harness.Gateway(folder, tcp_redis, env={"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY": capacity}) as gateway:
        book.follow(gateway)
        device = harness.Device(gateway)
        slow = RawClient(gateway.grpc, initial_window=0)
        stream = slow.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
        gateway.wait_metric("gateway_push_streams_open", lambda value: value == 1)

        def depth():
            return next(iter(row["depth"] for row in json.loads(book.run("admin /streams"))["slowest"]), 0)
        while depth() < capacity // 2:
            publish_event(gateway, device.user)
        while gateway.metric("gateway_push_streams_open") == 1:
            publish_event(gateway, device.user)
        slow.open_windows()
        _, trailers = slow.read_to_end(stream)
        assert (trailers["grpc-status"], trailers["grpc-message"]) == ("8", "push stream overflowed")
        label = row_of(book, "RESOURCE_EXHAUSTED", "push stream overflowed")
        assert counted(book, ENDED, f"gateway_push_streams_ended_total{{{label}}}") == 1
        assert book.run("gateway_push_over_budget_total") == "gateway_push_over_budget_total 0\n"
        assert f"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY={capacity} " in book.run("^GATEWAY_PUSH_")
        slow.close()


@rehearses(CLOSED, "gateway_push_over_budget_total")
def test_queues_that_are_full_together_are_told(folder, tcp_redis, book):
    from raw_h2 import RawClient
    with harness.Gateway(folder, tcp_redis, env={"GATEWAY_PUSH_MAX_QUEUED_BYTES": "1MiB"}) as gateway:
        book.follow(gateway)
        device = harness.Device(gateway)
        slow = RawClient(gateway.grpc, initial_window=0)
        slow.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
        gateway.wait_metric("gateway_push_streams_open", lambda value: value == 1)
        for _ in range(4):
            publish_event(gateway, device.user, payload=b"x" * 600_000)
        book.wait("gateway_push_over_budget_total", "gateway_push_over_budget_total 1")
        slow.close()
    book.said("`GATEWAY_PUSH_MAX_QUEUED_BYTES`")


@rehearses(CLOSED, ENDED, 'gateway_connections_total{listener="grpc"')
def test_stream_closed_by_the_client_or_the_network_is_told(client, operated, book):
    with socket.create_connection(operated.grpc.split(":")):
        pass
    client.channel.close()
    book.wait(ENDED, 'gateway_push_streams_ended_total{reason="client"} 1')
    harness.wait_until(lambda: counted(
        book, 'gateway_connections_total{listener="grpc"',
        'gateway_connections_total{listener="grpc",outcome="peer"}') == 2, "both connections are counted")
    book.said("the client or the network")


# ---- a planned restart ----

STOPPED, CUT, CLEAN = '"component stopped"', "is cut", '"stopped"\''


@rehearses(RESTART, "systemctl stop", STOPPED, CUT, CLEAN)
def test_planned_restart_is_told(folder, tcp_redis, book):
    gateway = book.follow(harness.Gateway(folder, tcp_redis, env={"GATEWAY_SHUTDOWN_DELAY": "2s"}))
    device = harness.Device(gateway)
    with harness.Channel(gateway.grpc) as channel:
        stream = channel.subscribe(device.subscribe_request())
        stream.bootstrap()
        book.run("systemctl stop")
        harness.wait_until(lambda: (lambda status, _, body: (status, json.loads(body)) == (503, {"status": "draining"}))(
            *harness.http(gateway.public, "GET", "/readyz")), "it is draining")
        end = stream.end()
        assert end == ("UNAVAILABLE", "gateway is shutting down")
    assert gateway.process.wait() == 0
    stopped = [entry["stopped"] for entry in entries(book.run(STOPPED))]
    assert stopped[0] == "listeners" and stopped[-1] == "admin"
    assert book.run(CUT) == ""
    assert entries(book.run(CLEAN))[-1]["clean"] is True
    assert row_of_closed(book, *end) == 'reason="shutdown"'
    gateway.process.stop()


def row_of_closed(book, status, message):
    book.title = CLOSED
    return row_of(book, status, message)


@rehearses(RESTART, CUT, CLEAN)
def test_restart_that_took_too_long_is_told(folder, tcp_redis, echo, book):
    config = conftest.ECHO_CONFIG.format(address=echo.address).replace("deadline: 2s", "deadline: 1h")
    gateway = book.follow(harness.Gateway(folder, tcp_redis, config=config, env={"GATEWAY_SHUTDOWN_TIMEOUT": "1s"}))
    device = harness.Device(gateway)
    with harness.Channel(gateway.grpc) as channel:
        call = channel.execute_future(device.request(message_type="echo.hang"))
        gateway.wait_metric('upstream_grpc_in_flight{upstream="echo"}', lambda value: value == 1)
        gateway.process.signal(signal.SIGTERM)
        assert call.code().name == "UNAVAILABLE"
    assert gateway.process.wait() == 1
    assert [entry["cut"] for entry in entries(book.run(CUT))] [:1] == ["calls"]
    assert entries(book.run(CLEAN))[-1]["clean"] is False
    gateway.process.stop()
    book.said("its line names it, the exit code is 1")


# ---- the README and the program ----

@rehearses(READY)
def test_every_metric_that_the_runbook_names_exists(operated, client, book):
    text = "\n".join(book.sections.values())
    names = set(re.findall(r"\b(?:gateway|upstream|http)_[a-z_]+_(?:total|open|connected|seconds)\b|\bupstream_healthy\b",
                           text))
    families = set(re.findall(r"^# TYPE (\S+) ", harness.http(operated.admin, "GET", "/metrics")[2].decode(), re.M))
    assert names and names <= families, names - families


@rehearses(READY)
def test_every_variable_that_the_runbook_names_exists(operated, book):
    rows = re.findall(r"^ *(GATEWAY_\w+)( \(or \.\.\._FILE\))?", subprocess.run(
        [harness.RINGWAY, "--help"], capture_output=True, text=True, check=True).stdout, re.M)
    known = {name for name, _ in rows} | {f"{name}_FILE" for name, is_secret in rows if is_secret}
    names = set(re.findall(r"\bGATEWAY_[A-Z_]+[A-Z]\b", "\n".join(book.sections.values())))
    assert names - known <= {"GATEWAY_PUSH"}, names - known


def test_every_command_of_the_runbook_is_rehearsed():
    sections = read_sections()
    assert list(sections) == [BEGIN, START, READY, REVOKE, EVENTS, CLOSED, RESTART]
    for title, text in sections.items():
        told = [command for at, part in rehearsed if at == title for command in matching(text, part)]
        assert set(commands_of(text)) <= set(told) or title == BEGIN, f"not rehearsed: {set(commands_of(text)) - set(told)}"
    for title, part in rehearsed:
        assert len(matching(sections[title], part)) == 1, f"{title}: {part}"
