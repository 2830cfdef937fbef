"""ringway-client as its users meet it: against the real gateway and Redis, and against servers that misbehave."""

import base64
import concurrent.futures
import json
import os
import signal
import socket
import stat
import subprocess
import uuid

import grpc
import pytest

import conftest
import harness
from harness import CLIENT, CLIENT_STREAM, SESSION_STREAM, edge
from test_redis_answers import Meddler

ENV = {"PATH": os.environ["PATH"], **harness.SANITIZERS}


class Done:
    """A command that has ended: exit code and what it said."""

    def __init__(self, process):
        self.code = process.wait()
        process.out.join()
        self.out, self.err = process.out.text(), process.err.text()
        process.stop()

    def __repr__(self):
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"

    @property
    def fields(self):
        """The `name: value` lines."""
        return dict(line.split(": ", 1) for line in self.out.splitlines())

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments):
    return Done(harness.Process([CLIENT, *arguments], env=ENV))


def has_v6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_v6 = pytest.mark.skipif(not has_v6(), reason="no ::1 on this machine")


class User:
    """A key pair and a session, made by the client itself."""

    def __init__(self, gateway, name="device"):
        self.gateway = gateway
        self.session, self.user = f"session-{uuid.uuid4()}", f"user-{uuid.uuid4()}"
        self.key, self.public = gateway.folder / f"{name}.pem", gateway.folder / f"{name}.public.pem"
        assert run("keygen", self.key, self.public).code == 0
        self.gateway_key = gateway.folder / "signer.public.pem"
        subprocess.run(["openssl", "pkey", "-in", gateway.signer, "-pubout", "-out", self.gateway_key], check=True)
        done = run("session", "--redis", gateway.redis.address, *self.names)
        assert done.code == 0, done

    @property
    def names(self):
        return ["--session", self.session, "--user", self.user, "--key", self.key]

    def caller(self, gateway=None, gateway_key=None):
        return ["--gateway", gateway or self.gateway.grpc, "--key", self.key, "--session", self.session,
                "--gateway-key", gateway_key or self.gateway_key]

    def execute(self, *more, type="test.echo", payload="hello", **changes):
        return run("execute", *self.caller(**changes), "--type", type, "--payload", payload, *more)

    def subscribe(self, *more, **changes):
        """Running, with its first event read."""
        process = harness.Process([CLIENT, "subscribe", *self.caller(**changes), *more], env=ENV)
        process.first = process.out.wait(lambda line: "gateway.server_time" in line)
        return process

    def publish(self, *more, user=None, payload="news", event_id="event-1"):
        return run("publish", "--redis", self.gateway.redis.address, "--stream", CLIENT_STREAM, "--user",
                   user or self.user, "--event-type", "test.news", "--event-id", event_id, "--payload", payload, *more)

    def revoke(self, *more):
        return run("revoke", "--redis", self.gateway.redis.address, "--stream", SESSION_STREAM, *self.names, *more)


@pytest.fixture
def user(gateway):
    return User(gateway)


# ---- help and the command line ----

COMMANDS = ("execute", "subscribe", "keygen", "publish", "revoke", "session")


def test_help_lists_every_command_and_each_has_its_own():
    done = run("--help")
    assert done.code == 0 and done.err == ""
    for command in COMMANDS:
        assert f"\n  {command} " in done.out
        own = run(command, "--help")
        assert own.code == 0 and own.out.startswith(f"usage: ringway-client {command} "), own
    assert run("help").out == done.out


def test_version_is_that_of_the_gateway():
    done = run("--version")
    gateway = subprocess.run([harness.RINGWAY, "--version"], capture_output=True, text=True, check=True).stdout
    assert done.code == 0
    assert done.out.split()[0] == "ringway-client"
    assert done.out.split()[1] == gateway.split()[1]


EXECUTE = ("execute", "--gateway", "127.0.0.1:1", "--session", "s", "--type", "t", "--payload", "p")
PUBLISH = ("publish", "--redis", "127.0.0.1:1", "--stream", "k", "--user", "u", "--event-type", "t", "--event-id", "e",
           "--payload", "p")


@pytest.mark.parametrize("arguments,wrong", [
    ((), "usage: ringway-client COMMAND"),
    (("fly",), "no such command: fly"),
    (("execute",), "needs --gateway"),
    (("keygen",), "needs PRIVATE.pem"),
    (("keygen", "a", "b", "c"), "takes no c"),
    (("keygen", "--force", "a"), "unknown option --force"),
    ((*EXECUTE, "--key", "k", "--fast"), "unknown option --fast"),
    ((*EXECUTE, "--key", "k", "--json=1"), "takes no value: --json"),
    ((*EXECUTE, "--key"), "needs a value: --key"),
    ((*EXECUTE, "--type", "u", "--key", "k"), "given twice: --type"),
    ((*EXECUTE, "--key", "k", "surplus"), "takes no surplus"),
    ((*EXECUTE, "--key", "/nowhere/key.pem"), "--key: /nowhere/key.pem"),
    ((*PUBLISH, "--db", "one"), "--db: 'one' is no number"),
    ((*PUBLISH, "--db", "4294967296"), "--db: '4294967296' is too large"),
    ((*PUBLISH, "--timeout", "5"), "--timeout: '5' is no duration"),
    ((*PUBLISH, "--timeout", "0s"), "--timeout: '0s' is too short"),
    ((*PUBLISH, "--password-file", "/nowhere/word"), "--password-file: /nowhere/word"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_usage_errors_end_with_2_and_say_what_is_wrong(arguments, wrong):
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert wrong in done.err


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:0", "[::1", "unix:", ""])
def test_addresses_that_are_none_end_with_2(folder, address):
    assert run("keygen", folder / "k.pem", folder / "p.pem").code == 0
    done = run("execute", "--gateway", address, "--key", folder / "k.pem", "--session", "s", "--type", "t", "--payload",
               "p")
    assert (done.code, done.out) == (2, "")
    assert f"--gateway: '{address}' is" in done.err


# ---- keygen ----

def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def test_keygen_writes_what_openssl_reads_for_its_owner_alone(folder):
    private, public = folder / "private.pem", folder / "public.pem"
    before = os.umask(0)
    try:
        done = run("keygen", private, public)
    finally:
        os.umask(before)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")  # PKCS#8, not a format of one tool
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "ED25519 Private-Key" in openssl("pkey", "-in", private, "-noout", "-text")
    assert openssl("pkey", "-in", private, "-pubout") == public.read_text()


def test_keygen_without_a_second_name_prints_the_public_key(folder):
    done = run("keygen", folder / "private.pem")
    assert done.code == 0
    assert done.out + "\n" == openssl("pkey", "-in", folder / "private.pem", "-pubout")


def test_two_keys_are_not_alike(folder):
    assert run("keygen", folder / "a.pem").out != run("keygen", folder / "b.pem").out


def test_keygen_never_overwrites(folder):
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_text("mine")
    done = run("keygen", private, public)
    assert done.code == 1 and str(private) in done.err and "File exists" in done.err
    assert private.read_text() == "mine" and not public.exists()
    private.unlink()
    public.write_text("mine too")
    done = run("keygen", private, public)
    assert done.code == 1 and str(public) in done.err and "File exists" in done.err
    assert public.read_text() == "mine too"
    assert not private.exists(), "half a pair is of no use and would be in the way of the next try"


def test_keygen_says_why_it_cannot_write(folder):
    done = run("keygen", folder / "missing" / "private.pem")
    assert done.code == 1 and "No such file or directory" in done.err
    assert os.listdir(folder) == []


# ---- session ----

def record_of(server, session, prefix="gateway:session:"):
    return json.loads(server.client.get(prefix + session))


def raw_key(path):
    return base64.b64encode(bytes(harness.public_key_of(path))).decode()


def test_session_writes_the_record_of_the_contract(folder, redis_server):
    key = folder / "k.pem"
    run("keygen", key)
    done = run("session", "--redis", redis_server.address, "--session", "s-1", "--user", 'u "1" ü', "--key", key)
    assert (done.code, done.out) == (0, 'session s-1 of user u "1" ü is active')
    assert record_of(redis_server, "s-1") == {"device_session_id": "s-1", "user_id": 'u "1" ü',
                                              "client_public_key": raw_key(key), "status": "active"}


def test_session_obeys_prefix_and_database(folder, redis_server):
    run("keygen", folder / "k.pem")
    done = run("session", "--redis", redis_server.address, "--session", "s-1", "--user", "u", "--key", folder / "k.pem",
               "--prefix", "other:", "--db", "3")
    assert done.code == 0
    assert redis_server.client.keys("*") == []
    redis_server.client.select(3)
    assert record_of(redis_server, "s-1", "other:")["status"] == "active"


@pytest.fixture
def guarded(folder):
    """A Redis whose default user may nothing, with one ACL user."""
    server = harness.Redis(folder, "--user", "default", "off", "--user", "writer", "on", ">word of honour", "~*", "+@all")
    yield server
    server.stop()


def test_acl_user_and_password_from_a_file_open_redis(folder, guarded):
    run("keygen", folder / "k.pem")
    (folder / "word").write_text("word of honour\n")
    (folder / "lie").write_text("word of shame\n")
    (folder / "nothing").write_text("")

    def session(*more):
        return run("session", "--redis", guarded.address, "--session", "s", "--user", "u", "--key", folder / "k.pem", *more)
    assert session("--username", "writer", "--password-file", folder / "word").code == 0
    done = session("--username", "writer", "--password-file", folder / "lie")
    assert done.code == 1 and "WRONGPASS" in done.err and "shame" not in repr(done)
    done = session()
    assert done.code == 1 and "NOAUTH" in done.err
    done = session("--password-file", folder / "nothing")
    assert done.code == 2 and "is empty" in done.err


@pytest.mark.parametrize("address,why", [
    ("127.0.0.1:{port}", "Connection refused"),
    ("localhost:{port}", "Connection refused"),
    ("unix:/nowhere/redis.sock", "No such file or directory"),
    ("no-such-host.invalid:{port}", ""),
])
def test_redis_that_is_not_there_is_told_and_ends_with_1(folder, address, why):
    run("keygen", folder / "k.pem")
    done = run("session", "--redis", address.format(port=harness.free_port()), "--session", "s", "--user", "u", "--key",
               folder / "k.pem", "--timeout", "2s")
    assert (done.code, done.out) == (1, "")
    assert "cannot" in done.err and why in done.err


def test_redis_that_never_answers_is_given_up_in_time(folder):
    run("keygen", folder / "k.pem")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent.sock"))
        silent.listen()
        done = run("session", "--redis", f"unix:{folder / 'silent.sock'}", "--session", "s", "--user", "u", "--key",
                   folder / "k.pem", "--timeout", "200ms")
    assert (done.code, done.out) == (1, "")
    assert "in time" in done.err


# ---- execute ----

def test_command_is_executed_and_the_answer_checked(user):
    done = user.execute("--request-id", "request-7", payload="hello from afar")
    assert (done.code, done.err) == (0, "")
    assert abs(int(done.fields["timestamp_ms"]) - harness.now_ms()) < 30_000
    assert {**done.fields, "timestamp_ms": ""} == {
        "result_code": "ok", "payload": "hello from afar", "request_id": "request-7", "timestamp_ms": "",
        "payload_hash": "ok", "signature": "ok"}


def test_request_ids_are_random_if_not_given(user):
    first, second = user.execute(), user.execute()
    assert len(first.fields["request_id"]) == 32
    assert first.fields["request_id"] != second.fields["request_id"]


def test_ids_reach_the_service_behind(user):
    from galaxy.gateway.v1 import command_handler_pb2 as handler
    done = user.execute("--request-id", "request-8", "--trace-id", "trace-8", "--json", type="echo.command")
    command = handler.AuthenticatedCommand.FromString(
        base64.b64decode(done.json["payload_base64"]) if "payload_base64" in done.json else done.json["payload"].encode())
    assert (command.user_id, command.device_session_id, command.message_type, command.request_id, command.trace_id) == (
        user.user, user.session, "echo.command", "request-8", "trace-8")
    assert command.payload_bytes == b"hello"


def test_json_is_one_object_a_line(user):
    done = user.execute("--json", payload='a "quoted" text\n')
    assert done.code == 0
    assert done.out.count("\n") == 0
    assert (done.json["result_code"], done.json["payload"], done.json["signature"]) == ("ok", 'a "quoted" text\n', "ok")
    assert isinstance(done.json["timestamp_ms"], int)


def test_payload_may_be_a_file_of_any_bytes(user, folder):
    path = folder / "payload"
    path.write_bytes(bytes(range(256)) * 5000)
    done = user.execute("--json", payload=f"@{path}")
    assert done.code == 0 and base64.b64decode(done.json["payload_base64"]) == path.read_bytes()
    path.write_bytes(b"\x1b[2J")
    done = user.execute(payload=f"@{path}")
    assert done.fields["payload"] == "base64:" + base64.b64encode(b"\x1b[2J").decode()


def test_empty_payload_is_a_payload(user):
    done = user.execute("--json", payload="")
    assert done.code == 0 and done.json["payload"] == ""


def test_payload_file_that_cannot_be_read_ends_with_2(user, folder):
    done = user.execute(payload=f"@{folder / 'missing'}")
    assert done.code == 2 and "No such file or directory" in done.err
    done = user.execute(payload=f"@{folder}")
    assert done.code == 2 and "--payload" in done.err


def test_wrong_gateway_key_makes_the_signature_bad(user):
    done = user.execute(gateway_key=user.public)
    assert done.code == 1
    assert done.fields["signature"] == "BAD" and done.fields["payload_hash"] == "ok"
    assert "the answer's signature is BAD" in done.err
    done = user.execute("--json", gateway_key=user.public)
    assert done.code == 1 and done.json["signature"] == "BAD"


def test_without_a_gateway_key_the_signature_is_not_checked(user):
    arguments = [word for word in user.caller() if word not in ("--gateway-key", user.gateway_key)]
    done = run("execute", *arguments, "--type", "test.echo", "--payload", "x")
    assert done.code == 0 and done.fields["signature"] == "unchecked"


def test_gateway_key_that_is_none_ends_with_2(user, folder):
    (folder / "junk.pem").write_text("junk")
    for path in (folder / "junk.pem", folder / "missing.pem", user.key):
        done = user.execute(gateway_key=path)
        assert done.code == 2 and "--gateway-key" in done.err


def test_refused_call_prints_code_and_message(user):
    done = user.execute(type="unrouted.type")
    assert (done.code, done.out, done.err) == (1, "", "UNIMPLEMENTED message_type is not routed")
    done = user.execute("--json", type="unrouted.type")
    assert (done.code, done.err) == (1, "")
    assert done.json == {"code": "UNIMPLEMENTED", "message": "message_type is not routed"}


def test_replay_is_refused(user):
    assert user.execute("--request-id", "once").code == 0
    done = user.execute("--request-id", "once")
    assert (done.code, done.err) == (1, "FAILED_PRECONDITION request replay detected")


def test_invalid_ids_are_the_gateways_to_judge(user):
    done = user.execute("--request-id", "x" * 129)
    assert (done.code, done.err) == (1, "INVALID_ARGUMENT request_id is invalid")
    done = user.execute("--request-id", "")
    assert (done.code, done.err) == (1, "INVALID_ARGUMENT request_id must not be empty")


def test_key_of_another_is_refused(user, gateway):
    other = User(gateway, "other")
    other.session = user.session
    assert other.execute().err == "UNAUTHENTICATED invalid request signature"


def test_limited_call_tells_when_to_try_again(folder, redis_server, echo):
    with harness.Gateway(folder, redis_server, config=conftest.ECHO_CONFIG.format(address=echo.address), env={
            "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_SESSION_REQUESTS": 1,
            "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_SESSION_BURST": 1}) as gateway:
        user = User(gateway)
        assert user.execute().code == 0
        done = user.execute()
        lines = done.err.splitlines()
        assert done.code == 1 and lines[0] == "RESOURCE_EXHAUSTED authenticated request rate limit exceeded"
        assert lines[1].startswith("retry after ") and 0 < int(lines[1].split()[2]) <= 60_000
        assert 0 < user.execute("--json").json["retry_after_ms"] <= 60_000


def test_call_that_hangs_is_given_up_in_time(user):
    done = user.execute("--timeout", "300ms", type="echo.hang")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("DEADLINE_EXCEEDED ")


def test_large_answer_comes_whole(user):
    done = user.execute("--json", type="echo.large.3000000")
    assert done.code == 0 and done.json["payload"] == "x" * 3_000_000


# ---- gateways that are not there, or are none ----

def test_gateway_that_is_not_there_is_unavailable(user, folder):
    port = harness.free_port()
    for address, why in ((f"127.0.0.1:{port}", "Connection refused"), (f":{port}", "Connection refused"),
                         (f"localhost:{port}", "Connection refused"),
                         (f"unix:{folder / 'nobody.sock'}", "No such file or directory")):
        done = user.execute(gateway=address)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("UNAVAILABLE cannot connect to ") and done.err.endswith(why), done


def test_gateway_that_accepts_and_is_silent_is_given_up_in_time(user):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = user.execute("--timeout", "300ms", gateway=address)
        assert (done.code, done.err) == (1, "DEADLINE_EXCEEDED no answer in time")
        process = Done(harness.Process([CLIENT, "subscribe", *user.caller(gateway=address), "--timeout", "300ms"], env=ENV))
        assert (process.code, process.out) == (1, "stream ended: DEADLINE_EXCEEDED no answer in time")


def test_what_is_no_grpc_server_is_told(user, gateway):
    done = user.execute(gateway=gateway.admin)  # HTTP/1.1 alone
    assert done.code == 1 and done.err.startswith("UNAVAILABLE ")
    done = user.execute(gateway=gateway.public)  # gRPC is understood there, but not served
    assert (done.code, done.err) == (1, "UNIMPLEMENTED unknown method")


class Pretender:
    """A gateway by grpcio that answers what it is told to."""

    def __init__(self, answers):
        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                return grpc.unary_stream_rpc_method_handler(
                    answers, request_deserializer=edge.ExecuteCommandRequest.FromString)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), handlers=[Handler()])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self):
        return self.address

    def __exit__(self, *_):
        self.server.stop(None).wait(harness.PATIENCE)


def answer(request, **changes):
    import hashlib
    response = edge.ExecuteCommandResponse(protocol_version="v1", request_id=request.request_id, timestamp_ms=1,
                                           result_code="ok", payload_bytes=b"p", payload_hash=hashlib.sha256(b"p").digest(),
                                           signature=b"s" * 64)
    for name, value in changes.items():
        setattr(response, name, value)
    return response.SerializeToString()


@pytest.mark.parametrize("answers,why", [
    (lambda request, context: iter(()), "the call ended without an answer"),
    (lambda request, context: iter([answer(request)] * 2), "there was more than one answer"),
    (lambda request, context: iter([b"\xff\xff"]), "the answer is malformed"),
    (lambda request, context: iter([answer(request, protocol_version="v2")]), "unknown protocol_version"),
    (lambda request, context: iter([answer(request, request_id="another")]), "belongs to another request"),
    (lambda request, context: iter([answer(request, payload_hash=b"h" * 32)]), "does not match its payload"),
    (lambda request, context: iter([answer(request, signature=b"")]), "the answer is not signed"),
    (lambda request, context: iter([answer(request, signature=b"short")]), "the answer's signature is BAD"),
], ids=["none", "two", "malformed", "version", "request", "hash", "unsigned", "short-signature"])
def test_answer_that_is_not_as_it_should_be_is_a_failure(user, answers, why):
    with Pretender(answers) as address:
        done = user.execute(gateway=address)
        assert done.code == 1 and why in done.err, done


def test_words_of_a_server_cannot_write_to_the_terminal(user):
    """Control characters in a message or a result are not passed on raw."""
    def refuse(request, context):
        context.abort(grpc.StatusCode.UNKNOWN, "\x1b[2Jgone")
        yield b""
    with Pretender(refuse) as address:
        done = user.execute(gateway=address)
        assert done.code == 1 and done.err == "UNKNOWN base64:" + base64.b64encode(b"\x1b[2Jgone").decode()
    with Pretender(lambda request, context: iter([answer(request, result_code="\x1b[2J")])) as address:
        done = user.execute(gateway=address)
        assert "\x1b" not in done.out and "result_code: base64:" in done.out


# ---- subscribe ----

def test_events_are_printed_as_they_come_with_their_verdict(user):
    process = user.subscribe()
    words = process.first.split()
    assert words[0] == "gateway.server_time" and process.first.endswith(" signature ok")
    server_time = int(next(word for word in words if word.startswith("server_time_ms=")).split("=")[1])
    assert abs(server_time - harness.now_ms()) < 30_000
    assert user.publish("--request-id", "r-1", "--trace-id", "t-1", payload="first").code == 0
    line = process.out.wait(lambda text: text.startswith("test.news "))
    assert " id=event-1 " in line and " request_id=r-1 trace_id=t-1 payload=first signature ok" in line
    user.publish(payload="second", event_id="event-2")
    process.out.wait(lambda text: " id=event-2 " in text and text.endswith(" payload=second signature ok"))
    process.stop()


def test_event_that_cannot_be_read_is_base64_on_one_line(user, folder):
    process = user.subscribe()
    for payload in (b"two\nlines signature ok", b"\x1b[2J", b"\xff\xfe", "\u009b2J".encode()):
        (folder / "payload").write_bytes(payload)
        user.publish(payload=f"@{folder / 'payload'}")
        wanted = "payload=base64:" + base64.b64encode(payload).decode() + " signature ok"
        process.out.wait(lambda line: line.endswith(wanted))
    assert len(process.out.seen) == 5
    process.stop()


def test_events_as_json_are_one_object_a_line(user, folder):
    (folder / "payload").write_bytes(b"\x00\xff")
    process = user.subscribe("--json", "--count", "3")
    user.publish("--trace-id", "t-2", payload='{"a":\n1}')
    user.publish(payload=f"@{folder / 'payload'}", event_id="event-2")
    done = Done(process)
    first, second, third = map(json.loads, done.out.splitlines())
    assert done.code == 0
    assert first["event_type"] == "gateway.server_time" and first["server_time_ms"] == first["timestamp_ms"]
    assert (second["payload"], second["trace_id"], second["signature"]) == ('{"a":\n1}', "t-2", "ok")
    assert (third["payload_base64"], third["event_id"]) == ("AP8=", "event-2")


def test_count_ends_the_stream_and_the_gateway_hears_it(user, gateway):
    process = user.subscribe("--count", "2")
    user.publish()
    user.publish(event_id="event-2")
    done = Done(process)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)
    assert gateway.metric('gateway_push_streams_ended_total{reason="client"}') == 1


def test_bad_signature_is_told_and_ends_with_1(user):
    process = user.subscribe("--count", "2", gateway_key=user.public)
    user.publish()
    done = Done(process)
    assert done.code == 1
    assert done.out and all(line.endswith(" signature BAD") for line in done.out.splitlines())


def test_heartbeat_is_unsigned_and_no_fault(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUSH_HEARTBEAT_INTERVAL": "100ms"}) as gateway:
        done = Done(User(gateway).subscribe("--count", "3"))
        assert done.code == 0
        assert done.out.splitlines()[1:] == ["gateway.heartbeat unsigned"] * 2


@pytest.mark.parametrize("fields,code", [
    ({"event_type": "gateway.heartbeat"}, 0),
    ({"event_type": "gateway.heartbeat", "payload_bytes": b"p"}, 1),
    ({"event_type": "test.news", "event_id": "e", "payload_bytes": b"p"}, 1),
], ids=["heartbeat", "heartbeat-with-payload", "event"])
def test_event_whose_signature_was_taken_off_ends_with_1(user, fields, code):
    """Only a heartbeat has none, and says nothing besides."""
    event = edge.GatewayEvent(**fields).SerializeToString()
    with Pretender(lambda request, context: iter([event])) as address:
        done = Done(harness.Process([CLIENT, "subscribe", *user.caller(gateway=address), "--count", "1"], env=ENV))
        assert done.code == code and done.out.endswith(" unsigned"), done


def test_revoked_stream_ends_with_its_status(user):
    process, as_json = user.subscribe(), user.subscribe("--json")
    revoked = user.revoke()
    assert revoked.code == 0 and revoked.out.startswith(f"session {user.session} is revoked, event ")
    done = Done(process)
    assert done.code == 1
    assert done.out.splitlines()[-1] == "stream ended: FAILED_PRECONDITION device session is revoked"
    assert json.loads(Done(as_json).out.splitlines()[-1]) == {
        "ended": "FAILED_PRECONDITION", "message": "device session is revoked"}
    assert user.execute().err == "FAILED_PRECONDITION device session is revoked"


def test_revoke_writes_record_and_event_of_the_contract(user, redis_server):
    assert user.revoke().code == 0
    record = record_of(redis_server, user.session)
    assert abs(record.pop("revoked_at_ms") - harness.now_ms()) < 30_000
    assert record == {"device_session_id": user.session, "user_id": user.user, "client_public_key": raw_key(user.key),
                      "status": "revoked"}
    [(_, fields)] = redis_server.client.xrange(SESSION_STREAM)
    fields = {name.decode(): value.decode() for name, value in fields.items()}
    assert abs(int(fields.pop("revoked_at_ms")) - harness.now_ms()) < 30_000
    assert fields == record


def test_revocation_needs_no_more_than_the_session(user, redis_server):
    """User and key are those of the record."""
    process = user.subscribe()
    before = record_of(redis_server, user.session)
    done = run("revoke", "--redis", redis_server.address, "--stream", SESSION_STREAM, "--session", user.session)
    assert done.code == 0, done
    assert Done(process).out.splitlines()[-1] == "stream ended: FAILED_PRECONDITION device session is revoked"
    after = record_of(redis_server, user.session)
    assert after.pop("revoked_at_ms") and after == {**before, "status": "revoked"}


def test_session_without_a_record_cannot_be_completed(redis_server):
    def revoke(*more):
        return run("revoke", "--redis", redis_server.address, "--stream", SESSION_STREAM, "--session", "s", *more)
    done = revoke()
    assert done.code == 1 and "gateway:session:s: no such session record; --user and --key are needed" in done.err
    for record in ("{", "{}", '{"user_id":"u"}', '{"user_id":1,"client_public_key":"k"}'):
        redis_server.client.set("gateway:session:s", record)
        done = revoke()
        assert done.code == 1 and "the session record is malformed" in done.err
        assert redis_server.client.get("gateway:session:s").decode() == record
    assert not redis_server.client.exists(SESSION_STREAM)


def test_public_key_is_enough_for_a_session_record(user, redis_server):
    before = record_of(redis_server, user.session)
    user.key, private = user.public, user.key
    assert run("session", "--redis", redis_server.address, *user.names).code == 0
    assert record_of(redis_server, user.session) == before
    user.key = private
    assert user.execute().code == 0


def test_active_session_after_a_revocation_needs_its_event(user):
    """`session` writes the record alone: a gateway that has the snapshot keeps to it (edge.md §3)."""
    user.revoke()
    assert run("session", "--redis", user.gateway.redis.address, *user.names).code == 0
    assert user.execute().err == "FAILED_PRECONDITION device session is revoked"


def test_unknown_session_cannot_subscribe(user):
    user.session = "nobody"
    done = Done(harness.Process([CLIENT, "subscribe", *user.caller()], env=ENV))
    assert (done.code, done.out) == (1, "stream ended: UNAUTHENTICATED unknown device session")


def test_shutdown_of_the_gateway_is_told(folder, redis_server):
    with harness.Gateway(folder, redis_server) as gateway:
        process = User(gateway).subscribe()
    done = Done(process)
    assert done.code == 1
    assert done.out.splitlines()[-1] == "stream ended: UNAVAILABLE gateway is shutting down"


def test_gateway_that_dies_is_told(folder, redis_server):
    gateway = harness.Gateway(folder, redis_server)
    process = User(gateway).subscribe()
    gateway.process.process.kill()
    gateway.process.wait()
    done = Done(process)
    assert done.code == 1
    assert done.out.splitlines()[-1].startswith("stream ended: UNAVAILABLE ")
    gateway.process.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_stream_ends_at_once(user, gateway, number):
    process = user.subscribe()
    process.signal(number)
    assert process.wait() == -number  # by the signal, as a shell wants it
    process.stop()
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)


def test_stream_ends_when_nobody_reads_its_output(user, gateway):
    """`subscribe | head -1` must not go on for ever."""
    process = harness.Process([CLIENT, "subscribe", *user.caller()], env=ENV, stdout=open("/dev/full", "w"))
    assert process.wait() == 1
    process.stop()
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)


# ---- publish ----

def test_publish_writes_the_entry_of_the_contract(user, redis_server, folder):
    (folder / "payload").write_bytes(b"\x00\x01\xff")
    done = user.publish("--session", user.session, "--request-id", "r", "--trace-id", "t", payload=f"@{folder / 'payload'}")
    [(entry, fields)] = redis_server.client.xrange(CLIENT_STREAM)
    assert (done.code, done.out) == (0, f"published {entry.decode()}")
    assert {name.decode(): value for name, value in fields.items()} == {
        "user_id": user.user.encode(), "event_type": b"test.news", "event_id": b"event-1",
        "device_session_id": user.session.encode(), "request_id": b"r", "trace_id": b"t", "payload_bytes": b"\x00\x01\xff"}


def test_publish_leaves_out_what_is_not_given(user, redis_server):
    assert user.publish(payload="").code == 0
    [(_, fields)] = redis_server.client.xrange(CLIENT_STREAM)
    assert set(fields) == {b"user_id", b"event_type", b"event_id", b"payload_bytes"} and fields[b"payload_bytes"] == b""


def test_what_redis_refuses_is_told(user, redis_server):
    redis_server.client.set("a string", "x")
    done = run("publish", "--redis", redis_server.address, "--stream", "a string", "--user", "u", "--event-type", "t",
               "--event-id", "e", "--payload", "p")
    assert (done.code, done.out) == (1, "")
    assert "Redis refused: WRONGTYPE" in done.err


@pytest.mark.parametrize("reply,code", [(b"-ERR \x1b[2Jgone\r\n", 1), (b"$7\r\n1\x1b[2J-1\r\n", 0)],
                         ids=["refusal", "entry"])
def test_words_of_redis_cannot_write_to_the_terminal(user, folder, redis_server, reply, code):
    relay = Meddler(folder / "relay.sock", redis_server.socket)
    for command in (["publish", "--stream", CLIENT_STREAM, "--user", "u", "--event-type", "t", "--event-id", "e",
                     "--payload", "p"], ["revoke", "--stream", SESSION_STREAM, *user.names]):
        relay.change_answer_to(b"XADD", lambda data: reply)
        done = run(*command, "--redis", f"unix:{relay.path}")
        assert done.code == code and "\x1b" not in done.out + done.err and " base64:" in done.out + done.err, done
    relay.close()


def test_event_for_one_session_is_for_no_other(user):
    other = User(user.gateway, "other")
    process = user.subscribe("--count", "2")
    user.publish("--session", other.session, event_id="not-mine")
    user.publish("--session", user.session, event_id="mine")
    assert " id=mine " in Done(process).out.splitlines()[1]


# ---- addresses ----

def check_address(user, gateway_address):
    done = user.execute(gateway=gateway_address)
    assert (done.code, done.fields["signature"]) == (0, "ok"), done
    process = user.subscribe("--count", "1", gateway=gateway_address)
    assert Done(process).code == 0


def test_gateway_by_name_and_by_port_alone(user, gateway):
    port = gateway.grpc.rpartition(":")[2]
    check_address(user, f"localhost:{port}")
    check_address(user, f":{port}")


def test_gateway_on_a_unix_socket(folder, redis_server, echo):
    path = folder / "grpc.sock"
    with harness.Gateway(folder, redis_server, config=conftest.ECHO_CONFIG.format(address=echo.address),
                         env={"GATEWAY_AUTHENTICATED_GRPC_ADDR": f"unix:{path}"}) as gateway:
        check_address(User(gateway), f"unix:{path}")


@needs_v6
def test_gateway_on_v6(folder, redis_server, echo):
    with harness.Gateway(folder, redis_server, config=conftest.ECHO_CONFIG.format(address=echo.address),
                         env={"GATEWAY_AUTHENTICATED_GRPC_ADDR": "[::1]:0"}) as gateway:
        assert gateway.grpc.startswith("[::1]:")
        check_address(User(gateway), gateway.grpc)


def redis_addresses():
    yield "127.0.0.1", "127.0.0.1:{port}"
    yield "127.0.0.1", "localhost:{port}"
    yield "127.0.0.1", ":{port}"
    if has_v6():
        yield "::1", "[::1]:{port}"


@pytest.mark.parametrize("host,address", redis_addresses())
def test_redis_by_number_and_name(folder, host, address):
    run("keygen", folder / "k.pem")
    server = harness.Redis(folder, "--bind", host, port=harness.free_port(socket.AF_INET6 if ":" in host else socket.AF_INET))
    try:
        done = run("session", "--redis", address.format(port=server.port), "--session", "s", "--user", "u", "--key",
                   folder / "k.pem")
        assert done.code == 0, done
        assert record_of(server, "s")["user_id"] == "u"
    finally:
        server.stop()
