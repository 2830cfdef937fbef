"""Public sign-in (edge.md §5) through to an auth service that is real HTTP: Python's http.server, kept alive."""

import base64
import concurrent.futures
import http.client
import http.server
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

import harness

SEND = "/api/v1/public/auth/send-email-code"
CONFIRM = "/api/v1/public/auth/confirm-email-code"
KEY = base64.b64encode(bytes(range(32))).decode()
CHALLENGE = "6f1c2a54-0c5b-4f5e-9f0e-3d1a2b3c4d5e"
CONFIRMATION = {"challenge_id": CHALLENGE, "code": "123456", "client_public_key": KEY}
PLANTED = "planted.7f3ac9"  # the local part of every e-mail here: never in a log


class AuthService:
    """What it answers is `answer(handler)`; what it was asked is in `asked`."""

    def __init__(self):
        self.asked = []
        self.port = harness.free_port()
        self.reset()
        self.start()

    def reset(self):
        self.asked.clear()
        self.answer = lambda asked: (200, {}, {"challenge_id": CHALLENGE, "device_session_id": "session-1"})
        self.raw = None  # bytes to write instead; then the connection ends

    def start(self):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()},
                         "body": self.rfile.read(int(self.headers["content-length"])), "peer": self.client_address,
                         "connection": self.connection}
                with service.changed:
                    service.asked.append(asked)
                    service.changed.notify_all()
                if service.raw is not None:
                    self.wfile.write(service.raw)
                    self.close_connection = True
                    return
                status, headers, body = service.answer(asked)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def process_request(self, request, client_address):
                service.open.append(request)
                super().process_request(request, client_address)

            def handle_error(self, *_):
                pass  # connections that the test cuts

        self.changed = threading.Condition()
        self.open = []
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def cut_connections(self):
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()

    def kill(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.cut_connections()

    def wait_asked(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= count, harness.PATIENCE)
            return self.asked[count - 1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/internal"


class Held:
    """An answer that waits until it is let go."""

    def __init__(self, service):
        self.service = service
        self.gate = threading.Event()
        service.answer = self

    def __call__(self, asked):
        self.gate.wait(harness.PATIENCE * 2)
        return 200, {}, {"challenge_id": CHALLENGE, "device_session_id": "session-1"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.service.reset()


def environment(service, **more):
    return {
        "GATEWAY_AUTH_SERVICE_BASE_URL": service.url,
        "GATEWAY_WORKERS": "1",
        "GATEWAY_ACCESS_LOG": "all",
        "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_REQUESTS": "0",
        "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_IDENTITY_REQUESTS": "0",
        **more}


class Folder:
    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


@pytest.fixture(scope="module")
def redis_of_module():
    with Folder() as folder:
        server = harness.Redis(folder)
        yield server
        server.stop()


@pytest.fixture(scope="module")
def service_of_module():
    service = AuthService()
    yield service
    service.kill()


@pytest.fixture
def service(service_of_module):
    service_of_module.reset()
    yield service_of_module
    service_of_module.reset()


@pytest.fixture(scope="module")
def gateway(redis_of_module, service_of_module):
    with Folder() as folder, harness.Gateway(folder, redis_of_module, env=environment(service_of_module)) as gateway:
        yield gateway
        text = gateway.process.err.text()
        assert SEND in text and PLANTED not in text.lower()


@pytest.fixture
def impatient(redis_of_module, service):
    """A gateway of its own that waits a second for the service."""
    with Folder() as folder, harness.Gateway(
            folder, redis_of_module, env=environment(service, GATEWAY_AUTH_SERVICE_TIMEOUT="1s")) as gateway:
        yield gateway


def email(domain="example.org"):
    return f"{PLANTED}@{domain}"


def post(gateway, path, body, **headers):
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    status, fields, text = harness.http(gateway.public, "POST", path, body=body, headers={
        "Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}})
    assert fields["content-type"] == "application/json"
    return status, fields, json.loads(text)


def send(gateway, **headers):
    return post(gateway, SEND, {"email": email()}, **headers)


def error_of(answer):
    assert set(answer[2]) == {"error"} and set(answer[2]["error"]) == {"code", "message"}
    assert answer[2]["error"]["message"]
    return answer[0], answer[2]["error"]["code"]


# ---- through to the service ----

def test_send_is_forwarded_as_checked_json(gateway, service):
    status, fields, body = send(gateway, X_Request_Id="request-7")
    assert (status, body) == (200, {"challenge_id": CHALLENGE})
    assert fields["x-request-id"] == "request-7" and fields["cache-control"] == "no-store"
    asked, = service.asked
    assert asked["path"] == "/internal" + SEND
    assert json.loads(asked["body"]) == {"email": email()}
    assert asked["headers"]["content-type"] == "application/json"
    assert asked["headers"]["x-request-id"] == "request-7"
    assert asked["headers"]["host"] == f"127.0.0.1:{service.port}"


@pytest.mark.parametrize("more", [{}, {"time_zone": "Europe/Berlin"}])
def test_confirm_is_forwarded_with_its_options(gateway, service, more):
    status, _, body = post(gateway, CONFIRM, {**CONFIRMATION, **more})
    assert (status, body) == (200, {"device_session_id": "session-1"})
    asked, = service.asked
    assert asked["path"] == "/internal" + CONFIRM
    assert json.loads(asked["body"]) == {**CONFIRMATION, **more}


def test_members_unknown_here_are_not_forwarded(gateway, service):
    assert post(gateway, SEND, {"email": email(), "is_admin": True, "challenge_id": 1})[0] == 200
    assert post(gateway, CONFIRM, {**CONFIRMATION, "email": email(), "time_zone": ""})[0] == 200
    assert json.loads(service.asked[0]["body"]) == {"email": email()}
    assert json.loads(service.asked[1]["body"]) == CONFIRMATION


def test_client_headers_are_not_forwarded(gateway, service):
    send(gateway, Cookie="a=b", X_Forwarded_For="1.2.3.4", Authorization="Bearer x", Accept_Encoding="gzip")
    assert set(service.asked[0]["headers"]) == {"host", "content-type", "content-length", "accept", "x-request-id"}


@pytest.mark.parametrize("given", [None, "x" * 129, "not visible"])
def test_request_without_a_usable_id_gets_a_new_one(gateway, service, given):
    ids = set()
    for _ in range(2):
        answer = send(gateway, **({"X_Request_Id": given} if given else {}))
        ids.add(answer[1]["x-request-id"])
    assert ids == {asked["headers"]["x-request-id"] for asked in service.asked}
    assert len(ids) == 2 and all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_only_the_id_of_the_answer_reaches_the_client(gateway, service):
    service.answer = lambda asked: (201, {"Set-Cookie": "a=b"}, {"challenge_id": "c-1", "code": "123456", "x": [1]})
    status, fields, body = send(gateway)
    assert (status, body) == (200, {"challenge_id": "c-1"}) and "set-cookie" not in fields


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=utf-8", "application/problem+json"])
def test_content_type_is_not_asked_for(gateway, service, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    assert harness.http(gateway.public, "POST", SEND, body=json.dumps({"email": email()}), headers=headers)[0] == 200


def test_blanks_around_an_email_are_dropped(gateway, service):
    assert post(gateway, SEND, {"email": f" \t{email()}  "})[0] == 200
    assert json.loads(service.asked[0]["body"]) == {"email": email()}


def test_connections_are_kept_and_counted(gateway, service):
    before = gateway.metrics()
    for _ in range(10):
        assert send(gateway)[0] == 200
    assert len({asked["peer"] for asked in service.asked}) == 1
    after = gateway.metrics()
    reuses = 'upstream_http_reuses_total{upstream="sign-in service"}'
    answered = 'upstream_http_requests_total{upstream="sign-in service",outcome="answered",status="2xx"}'
    assert after[reuses] - before[reuses] >= 9
    assert after[answered] - before[answered] == 10
    assert after['upstream_http_in_flight{upstream="sign-in service"}'] == 0


def test_upstream_called_auth_is_counted_apart(redis_of_module, service):
    """AuthService of the API gateway is called so; two breakers under one name could not be told from each other."""
    config = 'upstreams:\n  auth: { addresses: ["127.0.0.1:1"] }\n'
    with Folder() as folder, harness.Gateway(folder, redis_of_module, config=config, env=environment(service)) as gateway:
        for name in ("auth", "sign-in service"):
            states = [gateway.metric(f'upstream_breaker_state{{upstream="{name}",state="{state}"}}')
                      for state in ("closed", "open", "half_open")]
            assert sum(states) == 1, name


def test_connection_that_the_service_closed_is_not_used(gateway, service):
    service.answer = lambda asked: (200, {"Connection": "close"}, {"challenge_id": CHALLENGE})
    for _ in range(5):
        assert send(gateway)[0] == 200
    assert len({asked["peer"] for asked in service.asked}) == 5
    service.reset()
    assert send(gateway)[0] == 200
    service.cut_connections()
    gateway.wait_metric('upstream_http_connections{upstream="sign-in service"}', lambda value: value == 0)
    assert send(gateway)[0] == 200


def test_many_at_once_are_answered_over_few_connections(gateway, service):
    barrier = threading.Barrier(8)

    def answer(asked):
        barrier.wait(harness.PATIENCE)  # only if as many are with the service at once
        return 200, {}, {"challenge_id": CHALLENGE}

    service.answer = answer
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert [answer[0] for answer in pool.map(lambda _: send(gateway), range(64))] == [200] * 64
    assert len({asked["peer"] for asked in service.asked}) <= 32


@pytest.mark.parametrize("raw", [
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n{"cha\r\n14\r\nllenge_id":"chunk"}\n\r\n0\r\nA: b\r\n\r\n',
    b'HTTP/1.1 200 OK\r\n\r\n{"challenge_id":"chunk"}',  # until it closes
    b'HTTP/1.0 200 OK\r\nContent-Length: 24\r\n\r\n{"challenge_id":"chunk"}',
    b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'
    b'HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{"challenge_id":"chunk"}'])
def test_every_framing_is_understood(gateway, service, raw):
    service.raw = raw
    assert send(gateway)[0::2] == (200, {"challenge_id": "chunk"})
    # what meets its end on the wire is 503, as it must be for a POST: the next request is another test's
    gateway.wait_metric('upstream_http_connections{upstream="sign-in service"}', lambda value: value == 0)


# ---- what is refused here ----

BAD_BODIES = [
    (SEND, b""), (SEND, b"{"), (SEND, b"[]"), (SEND, b'"x"'), (SEND, b"null"), (SEND, b"email=a%40example.org"),
    (SEND, b'{"email":"a@example.org"} x'), (SEND, b'{"email":"a@example.org","email":"b@example.org"}'),
    (SEND, b'{"email":"a\\u0000@example.org"}'), (SEND, b'{"email":"\xff@example.org"}'), (SEND, b"[" * 4000),
    (SEND, {}), (SEND, {"Email": "a@example.org"}), (SEND, {"email": None}), (SEND, {"email": 7}),
    (SEND, {"email": ["a@example.org"]}),
    *[(SEND, {"email": text}) for text in (
        "", " ", "a", "@", "a@", "@example.org", "a@b", "a@example.", "a@.org", "a@example..org", "a b@example.org",
        "a@exa mple.org", "a@@example.org", "a@b@example.org", ".a@example.org", "a.@example.org", "a..b@example.org",
        "a@-example.org", "a@example-.org", "a@exam_ple.org", "a@[127.0.0.1]", '"a b"@example.org', "<a@example.org>",
        "a@example.org, b@example.org", "a@example.org\r\nBcc: b@example.org", "\u00e4@example.org", "a@ex\u00e4mple.org",
        "x" * 65 + "@example.org", "a@" + "x" * 64 + ".org", "a@" + "abc." * 63 + "org")],
    (CONFIRM, {}),
    *[(CONFIRM, {name: value for name, value in CONFIRMATION.items() if name != missing}) for missing in CONFIRMATION],
    *[(CONFIRM, {**CONFIRMATION, name: value}) for name, value in (
        ("challenge_id", ""), ("challenge_id", 1), ("challenge_id", "a b"), ("challenge_id", "x" * 129),
        ("challenge_id", "\u00e4"), ("code", ""), ("code", " "), ("code", 123456), ("code", "1" * 65), ("code", "1\n"),
        ("client_public_key", ""), ("client_public_key", KEY[:-1]), ("client_public_key", KEY + "="),
        ("client_public_key", base64.b64encode(bytes(31)).decode()), ("client_public_key", base64.b64encode(bytes(33)).decode()),
        ("client_public_key", " " + KEY), ("client_public_key", base64.urlsafe_b64encode(b"\xff" * 32).decode()),
        ("time_zone", 1), ("time_zone", None), ("time_zone", "x" * 65), ("time_zone", "a\tb"))]]


@pytest.mark.parametrize("path, body", BAD_BODIES)
def test_bad_body_is_refused_here(gateway, service, path, body):
    assert error_of(post(gateway, path, body)) == (400, "invalid_request")
    assert service.asked == []


@pytest.mark.parametrize("text", [
    "a@b.c", "A.B+c@sub.example.org", "!#$%&'*+-/=?^_`{|}~@example.org", "x" * 64 + "@example.org", "a@xn--exmple-cua.org",
    "1@2.3", "a@" + "x" * 63 + ".org", "a@" + "abc." * 62 + "orgs"])
def test_plain_email_is_taken(gateway, service, text):
    assert post(gateway, SEND, {"email": text})[0] == 200
    assert json.loads(service.asked[0]["body"]) == {"email": text}


def test_refusal_names_what_is_wrong_and_not_its_value(gateway, service):
    for name, value in (("code", ""), ("client_public_key", "secret-value"), ("time_zone", 1)):
        message = post(gateway, CONFIRM, {**CONFIRMATION, name: value})[2]["error"]["message"]
        assert message.startswith(name) and "secret-value" not in message


@pytest.mark.parametrize("path", [SEND, CONFIRM])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(gateway, service, path, method):
    status, fields, _ = harness.http(gateway.public, method, path)
    assert (status, fields["allow"]) == (405, "POST") and service.asked == []


@pytest.mark.parametrize("path", [SEND, CONFIRM])
def test_body_over_8_kib_is_refused(gateway, service, path):
    body = json.dumps({**CONFIRMATION, "email": email(), "padding": ""})
    fits = body.replace('"padding": ""', '"padding": "%s"' % ("x" * (8192 - len(body))))
    assert len(fits) == 8192 and post(gateway, path, fits)[0] == 200
    assert error_of(post(gateway, path, fits + " ")) == (413, "request_too_large")
    assert len(service.asked) == 1


# ---- what the service refuses, or cannot ----

def refusal(code="challenge_expired", message="the code has expired"):
    return {"error": {"code": code, "message": message}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 418, 422, 429, 451, 499])
def test_safe_refusal_is_passed_on(gateway, service, status):
    service.answer = lambda asked: (status, {}, refusal())
    answer = send(gateway)
    assert answer[0::2] == (status, refusal())


@pytest.mark.parametrize("body", [
    refusal("a" * 64, "x"), refusal("_", "m" * 512), refusal("a_b", "\u00fcber 5 \u20ac, \U0001f600"),
    {**refusal(), "more": 1}, {"error": {**refusal()["error"], "trace": "stack"}}])
def test_safe_texts_are_passed_on_alone(gateway, service, body):
    service.answer = lambda asked: (409, {}, body)
    answer = send(gateway)
    assert answer[0::2] == (409, refusal(body["error"]["code"], body["error"]["message"]))


@pytest.mark.parametrize("body", [
    refusal("a" * 65), refusal(""), refusal("UPPER"), refusal("a-b"), refusal("a1"), refusal("a b"), refusal("\u00e4"),
    refusal(message=""), refusal(message="m" * 513), refusal(message="\u20ac" * 171), refusal(message="a\nb"),
    refusal(message="a\x7f"), refusal(message="a\u0085b"), refusal(message="\u001b[31m"), refusal(7), refusal(message=None),
    {"error": "text"}, {"error": {}}, {"code": "challenge_expired", "message": "flat"}, [], {}, b"", b"<html>secret</html>",
    b'{"error":{"code":"a","message":"\xff"}}'])
@pytest.mark.parametrize("status, code", [(400, "invalid_request"), (404, "not_found"), (418, "invalid_request")])
def test_unsafe_refusal_keeps_only_its_status(gateway, service, body, status, code):
    service.answer = lambda asked: (status, {}, body)
    answer = send(gateway)
    assert error_of(answer) == (status, code)
    assert answer[2]["error"]["message"] == "request was refused"


@pytest.mark.parametrize("given, passed", [("17", "17"), ("0", "0"), ("Fri, 31 Dec 2027 23:59:59 GMT", None), ("-1", None),
                                           ("99999999", None), ("1, 2", None)])
def test_retry_after_of_the_service_is_passed_on_in_seconds(gateway, service, given, passed):
    service.answer = lambda asked: (429, {"Retry-After": given}, refusal("slow_down", "later"))
    answer = send(gateway)
    assert error_of(answer) == (429, "slow_down") and answer[1].get("retry-after") == passed


@pytest.mark.parametrize("status, code", [(500, "service_unavailable"), (501, "service_unavailable"), (502, "service_unavailable"),
                                          (503, "service_unavailable"), (504, "upstream_timeout"), (599, "service_unavailable")])
def test_fault_of_the_service_keeps_only_its_status(gateway, service, status, code):
    service.answer = lambda asked: (status, {"Retry-After": "9"}, refusal("database_down", "at 10.0.0.7"))
    answer = send(gateway)
    assert error_of(answer) == (status, code)
    assert "10.0.0.7" not in answer[2]["error"]["message"] and "retry-after" not in answer[1]


@pytest.mark.parametrize("status, body", [
    (200, b""), (200, b"{"), (200, []), (200, {}), (200, {"device_session_id": "x"}), (200, {"challenge_id": 1}),
    (200, {"challenge_id": ""}), (200, {"challenge_id": "a b"}), (200, {"challenge_id": "x" * 129}),
    (200, {"challenge_id": "\u00e4"}), (200, b'{"challenge_id":"a","challenge_id":"b"}'), (302, {"challenge_id": "x"}),
    (200, {"challenge_id": "x", "padding": "p" * 65536})])
def test_useless_answer_is_503(gateway, service, status, body):
    service.answer = lambda asked: (status, {"Location": "/elsewhere"}, body)
    assert error_of(send(gateway)) == (503, "service_unavailable")


@pytest.mark.parametrize("raw", [
    b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{\"challenge_id\":", b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"HTTP/2 200\r\n\r\n", b"\x00" * 40,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 20, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n" * 5])
def test_broken_answer_is_503(gateway, service, raw):
    service.raw = raw
    assert error_of(send(gateway)) == (503, "service_unavailable")
    service.reset()
    assert send(gateway)[0] == 200


# ---- down and late ----

def test_service_that_is_down_is_503_until_it_is_back(gateway, service):
    assert send(gateway)[0] == 200
    service.kill()
    for _ in range(3):
        assert error_of(send(gateway)) == (503, "service_unavailable")
    service.start()
    assert send(gateway)[0] == 200


def test_service_that_dies_with_a_request_is_503_and_not_asked_twice(gateway, service):
    with Held(service), concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(send, gateway)
        service.wait_asked(1)
        service.cut_connections()
        assert error_of(waiting.result(harness.PATIENCE)) == (503, "service_unavailable")
        assert len(service.asked) == 1


def test_late_answer_is_504(impatient, service):
    with Held(service):
        assert error_of(send(impatient)) == (504, "upstream_timeout")
    assert send(impatient)[0] == 200
    assert impatient.metric('upstream_http_requests_total{upstream="sign-in service",outcome="timeout",status=""}') == 1


def test_answer_that_stops_in_the_middle_is_504(impatient, service):
    def answer(asked):
        asked["connection"].sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{"challe')
        return held(asked)

    with Held(service) as held:
        service.answer = answer
        assert error_of(send(impatient)) == (504, "upstream_timeout")


def test_service_that_accepts_nothing_is_504(redis_of_module, service):
    """Its queue of connections is full: SYNs are dropped."""
    with socket.socket() as listener, Folder() as folder:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with harness.Gateway(folder, redis_of_module, env=environment(
                service, GATEWAY_AUTH_SERVICE_BASE_URL=url, GATEWAY_AUTH_SERVICE_TIMEOUT="300ms")) as gateway:
            assert error_of(send(gateway)) == (504, "upstream_timeout")
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("host, answer", [("localhost", 200), ("no-such-host.invalid", 503)])
def test_service_may_be_named(redis_of_module, service, host, answer):
    url = f"http://{host}:{service.port}/internal/"
    with Folder() as folder, harness.Gateway(folder, redis_of_module, env=environment(
            service, GATEWAY_AUTH_SERVICE_BASE_URL=url, GATEWAY_AUTH_SERVICE_TIMEOUT="10s")) as gateway:
        assert send(gateway)[0] == answer
    assert [asked["headers"]["host"] for asked in service.asked] == [f"{host}:{service.port}"] * (answer == 200)


def test_client_that_goes_away_takes_its_request_along(gateway, service):
    cancelled = 'upstream_http_requests_total{upstream="sign-in service",outcome="cancelled",status=""}'
    before = gateway.metric(cancelled)
    with Held(service):
        connection = http.client.HTTPConnection(gateway.public, timeout=harness.PATIENCE)
        connection.request("POST", SEND, body=json.dumps({"email": email()}))
        asked = service.wait_asked(1)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
        connection.close()
        asked["connection"].settimeout(harness.PATIENCE)
        assert asked["connection"].recv(1) == b""
    gateway.wait_metric(cancelled, lambda value: value == before + 1)


# ---- budgets ----

@pytest.fixture
def strict(redis_of_module, service):
    """Two sign-in requests an hour for one identity."""
    prefix = "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_IDENTITY_"
    with Folder() as folder, harness.Gateway(folder, redis_of_module, env=environment(service, **{
            prefix + "REQUESTS": "2", prefix + "WINDOW": "1h", prefix + "BURST": "2"})) as gateway:
        yield gateway


def limited(answer):
    assert error_of(answer) == (429, "rate_limited")
    assert 1 <= int(answer[1]["retry-after"]) <= 1800
    return True


def test_spellings_of_one_address_share_a_budget(strict, service):
    assert post(strict, SEND, {"email": email()})[0] == 200
    assert post(strict, SEND, {"email": "  " + email("EXAMPLE.org").upper()})[0] == 200
    for spelling in (email(), email().upper(), email() + "\t", email().title()):
        assert limited(post(strict, SEND, {"email": spelling}))
    escaped = b'{"email":"' + email().replace("p", "\\u0070").encode() + b'"}'
    assert limited(post(strict, SEND, escaped))
    assert len(service.asked) == 2
    for other in ("x" + email(), email("example.com"), email().replace("@", "+tag@")):
        assert post(strict, SEND, {"email": other})[0] == 200


def test_limited_send_does_not_tell_whether_the_address_exists(strict, service):
    answers = []
    for address, status in ((email(), 200), ("unknown." + email(), 404)):
        service.answer = lambda asked: (status, {}, {"challenge_id": "x", **refusal("unknown", "no such address")})
        for _ in range(2):
            assert post(strict, SEND, {"email": address})[0] == status
        status, fields, body = post(strict, SEND, {"email": address})
        answers.append((status, body, sorted(set(fields))))
    assert answers[0] == answers[1] and answers[0][0] == 429


def test_spellings_of_one_challenge_share_a_budget(strict, service):
    def confirm(challenge):
        return post(strict, CONFIRM, {**CONFIRMATION, "challenge_id": challenge})

    assert confirm(CHALLENGE)[0] == 200
    assert confirm(CHALLENGE.upper())[0] == 200
    for spelling in (CHALLENGE, CHALLENGE.replace("-", ""), "{" + CHALLENGE + "}"):
        assert limited(confirm(spelling))
    assert confirm("7" + CHALLENGE)[0] == 200


def test_send_and_confirm_have_budgets_of_their_own(strict, service):
    for _ in range(2):
        assert post(strict, SEND, {"email": "a@b.c"})[0] == 200
        assert post(strict, CONFIRM, {**CONFIRMATION, "challenge_id": "a@b.c"})[0] == 200
    assert limited(post(strict, SEND, {"email": "a@b.c"}))
    assert limited(post(strict, CONFIRM, {**CONFIRMATION, "challenge_id": "a@b.c"}))


def test_refused_bodies_spend_nothing(strict, service):
    for _ in range(5):
        assert post(strict, CONFIRM, {**CONFIRMATION, "code": ""})[0] == 400
    assert post(strict, CONFIRM, CONFIRMATION)[0] == 200


def test_defaults_allow_three_at_once(redis_of_module, service):
    env = environment(service)
    del env["GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_IDENTITY_REQUESTS"]
    with Folder() as folder, harness.Gateway(folder, redis_of_module, env=env) as gateway:
        assert [send(gateway)[0] for _ in range(4)] == [200, 200, 200, 429]


# ---- HTTP/2 ----

def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", str(harness.PATIENCE), "--http2-prior-knowledge",
                           *arguments], capture_output=True, check=True)
    return done.stdout.decode()


def test_http2_clients_are_served_alike(gateway, service):
    url = f"http://{gateway.public}{SEND}"
    shown = curl("-i", "-H", "X-Request-Id: two", "--json", json.dumps({"email": email()}), url)
    assert shown.startswith("HTTP/2 200") and f'{{"challenge_id":"{CHALLENGE}"}}' in shown and "x-request-id: two" in shown
    assert service.asked[0]["headers"]["x-request-id"] == "two"
    assert " 400" in curl("-w", " %{http_code}", "--json", "{}", url)
    assert " 405" in curl("-w", " %{http_code}", url)
    service.answer = lambda asked: (422, {}, refusal())
    assert curl("-w", " %{http_code}", "--json", json.dumps({"email": email()}), url) == \
        json.dumps(refusal(), separators=(",", ":")) + " 422"


def test_http2_client_that_goes_away_takes_its_request_along(gateway, service):
    with Held(service):
        process = subprocess.Popen(["curl", "-s", "--noproxy", "*", "--http2-prior-knowledge", "--json",
                                    json.dumps({"email": email()}), f"http://{gateway.public}{SEND}"], stdout=subprocess.DEVNULL)
        asked = service.wait_asked(1)
        process.kill()
        process.wait()
        asked["connection"].settimeout(harness.PATIENCE)
        assert asked["connection"].recv(1) == b""


# ---- configuration and the end ----

@pytest.mark.parametrize("url, why", [
    ("https://auth.example.org", "https"), ("auth:8080", "http://host"), ("http://", "host"), ("http://:80", "host"),
    ("http://user:hidden@auth", "user information"), ("http://auth/x?y", "query"), ("http://auth/x#y", "query"),
    ("http://auth:0", "port 0"), ("http://auth:99999", "host"), ("http://auth/a b", "path"), ("http://auth/../x", "path"),
    ("unix:/run/auth.sock", "http://host")])
def test_bad_base_url_is_a_mistake(redis_of_module, service, url, why):
    with Folder() as folder:
        gateway = harness.Gateway(folder, redis_of_module, arguments=["--check-config"], wait=False,
                                  env=environment(service, GATEWAY_AUTH_SERVICE_BASE_URL=url))
        assert gateway.process.wait() == 2
        line = gateway.process.err.wait(lambda line: "GATEWAY_AUTH_SERVICE_BASE_URL" in line)
        assert why in line and "hidden" not in line


def test_unset_service_is_503_whatever_the_body(redis_of_module, service):
    with Folder() as folder, harness.Gateway(folder, redis_of_module, env=environment(
            service, GATEWAY_AUTH_SERVICE_BASE_URL="")) as gateway:
        for body in ({"email": email()}, {}, b"nonsense"):
            assert error_of(post(gateway, SEND, body)) == (503, "service_unavailable")


def test_shutdown_waits_for_the_answer(redis_of_module, service):
    with Folder() as folder, concurrent.futures.ThreadPoolExecutor(1) as pool:
        gateway = harness.Gateway(folder, redis_of_module, env=environment(service))
        with Held(service) as held:
            waiting = pool.submit(send, gateway)
            service.wait_asked(1)
            gateway.process.signal(signal.SIGTERM)
            gateway.log("component stopped", stopped="push hub")
            held.gate.set()
            assert waiting.result(harness.PATIENCE)[0] == 200
        assert gateway.process.wait() == 0


def test_shutdown_does_not_wait_for_ever(redis_of_module, service):
    with Folder() as folder, concurrent.futures.ThreadPoolExecutor(1) as pool:
        gateway = harness.Gateway(folder, redis_of_module, env=environment(
            service, GATEWAY_AUTH_SERVICE_TIMEOUT="60s", GATEWAY_SHUTDOWN_TIMEOUT="500ms"))
        with Held(service):
            waiting = pool.submit(send, gateway)
            service.wait_asked(1)
            gateway.process.signal(signal.SIGTERM)
            assert gateway.process.wait() == 1
            with pytest.raises((OSError, http.client.HTTPException)):
                waiting.result(harness.PATIENCE)
        gateway.log("connections cut")
