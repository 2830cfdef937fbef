"""The API gateway (api.md): REST calls through to gRPC services, by real clients and real services."""

import base64
import json
import socket
import subprocess
import threading

import grpc
import pytest

import harness
from services import AIService, AuthService, Failure, ShopService, auth, shop

CONFIG = """
descriptor_sets: [api.pb]
upstreams:
  auth: {{ addresses: ["{auth}"], deadline: 5s }}
  ai: {{ addresses: ["{ai}"], deadline: 5s }}
  shop: {{ addresses: ["{shop}"], deadline: {stream} }}
rest:
  base_path: /api/v1
  auth: {{ upstream: auth, validate_cache: {cache} }}
  routes:
    - {{ method: GET, path: "/users/{{user_id}}", rpc: auth.v1.AuthService/GetUser, upstream: auth, permission: "user:list" }}
    - {{ method: GET, path: "/users", rpc: auth.v1.AuthService/ListUsers, upstream: auth }}
    - {{ method: POST, path: "/users/invite", rpc: auth.v1.AuthService/InviteUser, upstream: auth, body: "*",
        permission: "user:invite" }}
    - {{ method: PATCH, path: "/users/{{user_id}}", rpc: auth.v1.AuthService/UpdateUser, upstream: auth, body: user }}
    - {{ method: GET, path: "/users/{{user_id}}/permissions", rpc: auth.v1.AuthService/GetEffectivePermissions, upstream: auth,
        response_body: permissions }}
    - {{ method: POST, absolute: /api/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: "*" }}
    - {{ method: POST, absolute: /public/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: "*", public: true }}
    - {{ method: GET, absolute: "/watch/{{name}}", rpc: ringway.test.Shop/Watch, upstream: shop }}
    - {{ method: GET, absolute: "/watch-allowed/{{name}}", rpc: ringway.test.Shop/Watch, upstream: shop, permission: "shop:watch" }}
    - {{ method: GET, absolute: "/watch-all/{{name}}", rpc: ringway.test.Shop/Watch, upstream: shop, public: true }}
  cors: {{ origins: ["https://app.example.com"], credentials: true, max_age: 10m }}
  allowed_origins: ["https://app.example.com"]
"""


def make_descriptors(folder):
    """By protoc, as a user would."""
    subprocess.run(["protoc", f"--proto_path={harness.ROOT / 'proto'}", f"--proto_path={harness.ROOT / 'tests/conformance/proto'}",
                    "--include_imports", f"--descriptor_set_out={folder / 'api.pb'}", "auth/v1/auth_service.proto",
                    "ai_service/ai_service.proto", "ringway/wide.proto"], check=True)


@pytest.fixture
def services():
    started = AuthService(), AIService(), ShopService()
    yield started
    for service in started:
        service.stop()


class Api:
    def __init__(self, gateway, services):
        self.gateway = gateway
        self.auth, self.ai, self.shop = services

    def call(self, method, path, body=None, token=None, **headers):
        """Status, JSON body (None: none) and headers."""
        connection = harness.http_connection(self.gateway.public)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["authorization"] = f"Bearer {token}"
        if isinstance(body, (dict, list)):
            body, headers["content-type"] = json.dumps(body), "application/json"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None, response.headers


    def open(self, path, token=None, **headers):
        """A response whose body is read as it comes."""
        connection = harness.http_connection(self.gateway.public)
        if token:
            headers["authorization"] = f"Bearer {token}"
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.socket = connection.sock
        return response


@pytest.fixture
def api(folder, redis_server, services):
    make_descriptors(folder)
    config = CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address, cache="5s",
                           stream=f"{harness.PATIENCE:.0f}s")
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        yield Api(gateway, services)


def error(status, message):
    return {"error": {"code": status, "message": message}}


def test_rest_call_is_a_grpc_call_with_permission(api):
    api.auth.users["u1"] = auth.User(user_id="u1", email="u1@example.com", status=auth.ACTIVE)
    token = api.auth.login(user="alice", session="s1")
    refused = api.call("GET", "/api/v1/users/u1", token=token)
    assert refused[:2] == (403, error(403, "you do not have permission to perform this action"))
    assert api.auth.times("GetUser") == 0
    api.auth.permissions.add(("alice", "user:list"))
    status, body, headers = api.call("GET", "/api/v1/users/u1", token=token, user_agent="tester/1", traceparent="00-" + "a" * 32
                                     + "-" + "b" * 16 + "-01", x_user_id="mallory", x_request_id="r-1")
    assert status == 200 and headers["content-type"] == "application/json" and headers["x-request-id"] == "r-1"
    assert body == {"userId": "u1", "email": "u1@example.com", "status": "ACTIVE"}
    request, metadata = api.auth.last("GetUser")
    assert request.user_id == "u1"
    assert metadata["x-user-id"] == "alice" and metadata["x-session-id"] == "s1" and metadata["x-request-id"] == "r-1"
    assert metadata["traceparent"].startswith("00-aaaa")
    assert metadata["user-agent"].startswith("ringway/") and "tester/1" in metadata["user-agent"]


@pytest.mark.parametrize("header, value", [("user-agent", "caf\xe9/1"), ("accept-language", "\xff"), ("tracestate", "a=\x80"),
                                           ("traceparent", "\xe9"), ("accept-language", "d" * 1025)])
def test_header_that_a_service_would_refuse_the_call_for_stays_here(api, header, value):
    """Metadata is printable ASCII, some KiB at most; a client that sends more must not look like a service that fails."""
    for _ in range(10):
        assert api.call("POST", "/public/ai", {}, **{header: value})[0] == 200
    _, metadata = api.ai.last("ProcessQuery")
    assert metadata.get(header, "").startswith("ringway/") or header not in metadata
    assert value not in metadata.values()


def test_body_query_and_path_fill_the_message(api):
    token = api.auth.login()
    api.auth.permissions.add(("alice", "user:invite"))
    status, body, _ = api.call("POST", "/api/v1/users/invite", {"email": "b@c", "displayName": "B"}, token=token)
    assert (status, body) == (200, {"userId": "new", "email": "b@c", "displayName": "B", "status": "INVITED"})
    status, body, _ = api.call("GET", "/api/v1/users?page_size=7&pageToken=a%20b&status=ACTIVE&status=INVITED", token=token)
    assert (status, body) == (200, {"nextPageToken": "a b"})
    request, _ = api.auth.last("ListUsers")
    assert (request.page_size, request.page_token, list(request.status)) == (7, "a b", [auth.ACTIVE, auth.INVITED])


def test_body_and_answer_may_be_one_field(api):
    token = api.auth.login()
    api.auth.users["u1"] = auth.User(user_id="u1", email="u1@example.com", status=auth.ACTIVE)
    status, body, _ = api.call("PATCH", "/api/v1/users/u1", {"displayName": "U", "status": "INACTIVE"}, token=token)
    assert (status, body) == (200, {"userId": "u1", "email": "u1@example.com", "displayName": "U", "status": "INACTIVE"})
    request, _ = api.auth.last("UpdateUser")
    assert request == auth.UpdateUserRequest(user_id="u1", user=auth.User(display_name="U", status=auth.INACTIVE))
    api.auth.permissions |= {("u1", "b"), ("u1", "a"), ("u2", "c")}
    assert api.call("GET", "/api/v1/users/u1/permissions", token=token)[:2] == (200, ["a", "b"])
    assert api.call("GET", "/api/v1/users/u3/permissions", token=token)[:2] == (200, [])


def test_public_route_needs_no_session(api):
    status, body, _ = api.call("POST", "/public/ai", {"query": "abc", "confirmation": {"planId": "p"}})
    assert (status, body) == (200, {"finalAnswer": {"response": "cba"}})
    assert api.auth.calls == []


def test_without_a_session_nothing_is_called(api):
    assert api.call("GET", "/api/v1/users")[:2] == (401, error(401, "a session is needed"))
    assert api.call("GET", "/api/v1/users", token="stranger")[:2] == (401, error(401, "session is not valid"))
    assert api.auth.times("ListUsers") == 0


def test_token_that_no_message_can_hold_is_nobodys(api):
    """A string of a message is UTF-8: the service could not even read the question, which is no fault of its own."""
    for headers in ({"cookie": "session_token=\xff\xfe"}, {"authorization": "Bearer \xc3("}):
        assert api.call("GET", "/api/v1/users", **headers)[:2] == (401, error(401, "session is not valid"))
    assert api.auth.times("ValidateSession") == 0


def test_cookie_is_a_session_and_its_writes_come_from_our_pages(api):
    token = api.auth.login()
    cookie = f"other=1; session_token={token}"
    assert api.call("GET", "/api/v1/users", cookie=cookie)[0] == 200
    foreign = error(403, "requests from this origin are not allowed")
    for headers in ({}, {"origin": "https://evil.example"}, {"origin": "null"}, {"referer": "https://evil.example/"}):
        assert api.call("POST", "/api/ai", {"query": "x"}, cookie=cookie, **headers)[:2] == (403, foreign)
    for headers in ({"origin": "https://app.example.com"}, {"referer": "https://app.example.com/page"}):
        assert api.call("POST", "/api/ai", {"query": "x"}, cookie=cookie, **headers)[0] == 200


def test_validation_is_kept_and_forgotten_with_the_session(api):
    token = api.auth.login(session="s-kept")
    for _ in range(5):
        assert api.call("GET", "/api/v1/users", token=token)[0] == 200
    assert 1 <= api.auth.times("ValidateSession") <= 2, "once for each worker"
    asked = api.auth.times("ValidateSession")
    del api.auth.sessions[token]
    device = harness.Device(api.gateway, session="s-kept")
    device.revoke()
    harness.wait_until(lambda: api.call("GET", "/api/v1/users", token=token)[0] == 401, "the revoked session is refused")
    assert api.auth.times("ValidateSession") > asked


def test_cache_of_nothing_asks_every_time(folder, redis_server, services):
    make_descriptors(folder)
    config = CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address, cache="0s", stream="5s")
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        api = Api(gateway, services)
        token = api.auth.login()
        for count in range(1, 6):
            assert api.call("GET", "/api/v1/users", token=token)[0] == 200
            assert api.auth.times("ValidateSession") == count


def test_auth_service_that_is_down_lets_nobody_through(api):
    token = api.auth.login()
    api.auth.stop()
    harness.wait_until(lambda: api.call("GET", "/api/v1/users", token=token)[:2] == (
        503, error(503, "auth service is unavailable")), "the service is missed")


@pytest.mark.parametrize("code, status", [
    ("CANCELLED", 499), ("UNKNOWN", 500), ("INVALID_ARGUMENT", 400), ("DEADLINE_EXCEEDED", 504), ("NOT_FOUND", 404),
    ("ALREADY_EXISTS", 409), ("PERMISSION_DENIED", 403), ("RESOURCE_EXHAUSTED", 429), ("FAILED_PRECONDITION", 400),
    ("ABORTED", 409), ("OUT_OF_RANGE", 400), ("UNIMPLEMENTED", 501), ("INTERNAL", 500), ("UNAVAILABLE", 503),
    ("DATA_LOSS", 500), ("UNAUTHENTICATED", 401)])
def test_status_of_the_service_is_an_http_status(api, code, status):
    def fail(request, context):
        raise Failure(grpc.StatusCode[code], "told by \"it\"")

    api.ai.ProcessQuery = fail
    assert api.call("POST", "/public/ai", {})[:2] == (status, error(status, "told by \"it\""))


@pytest.mark.parametrize("path, body, message", [
    ("/public/ai", '{"query": 7}', "query"),
    ("/public/ai", '{"query": "a", "query": "b"}', "query"),
    ("/public/ai", '{"nothing": 1}', "nothing"),
    ("/public/ai", '{"confirmation": {"confirmed": "maybe"}}', "confirmation.confirmed"),
    ("/public/ai", '{', ""), ("/public/ai", '[]', ""), ("/public/ai", '{"query": "\\ud800"}', "query"),
    ("/public/ai?x=1", '{}', "unknown parameter x"),
    ("/public/ai?%zz=1", '{}', "%"),
])
def test_bad_input_is_told_with_its_field(api, path, body, message):
    status, told, _ = api.call("POST", path, body)
    assert status == 400 and message in told["error"]["message"]
    assert api.ai.calls == []


def test_unknown_paths_and_methods_are_told(api):
    assert api.call("GET", "/api/v1/nothing")[:2] == (404, error(404, "no such route"))
    status, told, headers = api.call("DELETE", "/api/v1/users/u1")
    assert (status, told) == (405, error(405, "method is not allowed for this route"))
    assert headers["allow"] == "GET, HEAD, PATCH"
    assert api.call("GET", "/elsewhere")[1]["error"]["code"] == "not_found", "the edge gateway's own answer"
    assert api.call("GET", "/healthz")[0] == 200


def test_pages_of_the_list_may_read(api):
    ours, theirs = "https://app.example.com", "https://evil.example"
    status, _, headers = api.call("OPTIONS", "/public/ai", origin=ours, access_control_request_method="POST",
                                  access_control_request_headers="content-type")
    assert status == 204
    assert headers["access-control-allow-origin"] == ours and headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-allow-methods"] == "POST" and headers["access-control-max-age"] == "600"
    assert headers["access-control-allow-headers"] == "content-type"
    status, _, headers = api.call("POST", "/public/ai", {}, origin=ours)
    assert status == 200 and headers["access-control-allow-origin"] == ours and headers["vary"] == "origin"
    for method in ("OPTIONS", "POST"):
        _, _, headers = api.call(method, "/public/ai", {}, origin=theirs, access_control_request_method="POST")
        assert headers["access-control-allow-origin"] is None


def test_http2_clients_get_the_same(api, folder):
    done = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/json", "-d",
                           '{"query":"abc"}', f"http://{api.gateway.public}/public/ai", "-w", " %{http_version} %{http_code}"],
                          capture_output=True, text=True, check=True)
    assert done.stdout == '{"finalAnswer":{"response":"cba"}} 2 200'


# ---- streams ----

def test_streaming_answer_is_a_line_for_each_message(api):
    response = api.open("/watch-all/a")
    assert response.status == 200 and response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in response] == [{"orderId": f"a-{number}"} for number in range(3)]


@pytest.mark.parametrize("accept", ["text/*", "text/event-stream;q=0", "application/x-ndjson, text/event-stream;q=0.5",
                                    "text/event-streams", "application/json;of=\"text/event-stream\""])
def test_streaming_answer_is_lines_for_who_wants_no_events(api, accept):
    assert api.open("/watch-all/a", accept=accept).headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*;q=0.1, Text/Event-Stream ;q=0.5", "application/x-ndjson;q=0.4, "
                                    "text/event-stream;q=0.5"])
def test_streaming_answer_is_events_for_who_asks_for_them(api, accept):
    response = api.open("/watch-all/a", accept=accept)
    assert response.status == 200 and response.headers["content-type"] == "text/event-stream"
    assert response.read().decode() == "".join(f'data: {{"orderId":"a-{number}"}}\n\n' for number in range(3))


def test_http2_clients_get_streams_too(api):
    done = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", f"http://{api.gateway.public}/watch-all/a"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f'{{"orderId":"a-{number}"}}' for number in range(3)]


def test_messages_leave_as_they_come(api):
    """The second message is made only when the client has seen the first."""
    seen = threading.Event()

    def watch(request, context):
        yield shop.Order(order_id="first")
        assert seen.wait(harness.PATIENCE)
        yield shop.Order(order_id="second")

    api.shop.Watch = watch
    response = api.open("/watch-all/a")
    assert json.loads(response.readline()) == {"orderId": "first"}
    seen.set()
    assert json.loads(response.readline()) == {"orderId": "second"}
    assert response.read() == b""


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
def test_large_messages_leave_whole(api, version):
    token = b"x" * 2_000_000

    def watch(request, context):
        for number in range(3):
            yield shop.Order(order_id=str(number), token=token)

    api.shop.Watch = watch
    text = subprocess.run(["curl", "-sS", version, f"http://{api.gateway.public}/watch-all/a"], capture_output=True, check=True).stdout
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["orderId"] for line in lines] == ["0", "1", "2"]
    assert all(base64.b64decode(line["token"]) == token for line in lines)


@pytest.mark.parametrize("accept, last", [
    ("*/*", '{"error":{"code":500,"message":"broken"}}\n'),
    ("text/event-stream", 'event: error\ndata: {"error":{"code":500,"message":"broken"}}\n\n')])
def test_error_after_the_first_message_is_the_last_line(api, accept, last):
    def watch(request, context):
        yield shop.Order(order_id="first")
        raise Failure(grpc.StatusCode.DATA_LOSS, "broken")

    api.shop.Watch = watch
    response = api.open("/watch-all/a", accept=accept)
    assert response.status == 200
    assert response.read().decode().endswith(last)


def test_error_before_the_first_message_is_a_status(api):
    def watch(request, context):
        raise Failure(grpc.StatusCode.NOT_FOUND, "no such thing")
        yield

    api.shop.Watch = watch
    response = api.open("/watch-all/a")
    assert (response.status, json.loads(response.read())) == (404, error(404, "no such thing"))


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_head_of_a_stream_ends_with_its_head(api, version):
    """And the call behind it is cancelled, though it would go on."""
    ended = threading.Event()
    api.shop.Watch = watch_for_ever(ended)
    done = subprocess.run(["curl", "-sS", version, "--head", f"http://{api.gateway.public}/watch-all/a", "-w", "%{http_code}"],
                          capture_output=True, text=True, check=True, timeout=harness.PATIENCE)
    assert done.stdout.endswith("200") and "application/x-ndjson" in done.stdout
    assert ended.wait(harness.PATIENCE)


def test_empty_stream_is_an_empty_answer(api):
    def watch(request, context):
        yield from ()

    api.shop.Watch = watch
    response = api.open("/watch-all/a")
    assert (response.status, response.read()) == (200, b"")


def watch_for_ever(ended):
    def watch(request, context):
        context.add_callback(ended.set)
        yield shop.Order(order_id="first")
        assert ended.wait(harness.PATIENCE)

    return watch


def test_client_that_goes_away_cancels_the_call(api):
    ended = threading.Event()
    api.shop.Watch = watch_for_ever(ended)
    response = api.open("/watch-all/a")
    response.readline()
    response.socket.shutdown(socket.SHUT_RDWR)
    response.close()
    assert ended.wait(harness.PATIENCE)


def test_stream_ends_with_its_session(api):
    ended = threading.Event()
    api.shop.Watch = watch_for_ever(ended)
    token = api.auth.login(session="s-stream")
    response = api.open("/watch/a", token=token)
    response.readline()
    harness.Device(api.gateway, session="s-stream").revoke()
    assert json.loads(response.readline()) == error(401, "session is not valid")
    assert response.read() == b"" and ended.wait(harness.PATIENCE)


def test_session_that_ends_while_its_permission_is_asked_gets_no_stream(folder, redis_server, services):
    make_descriptors(folder)
    config = CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address, cache="5s",
                           stream=f"{harness.PATIENCE:.0f}s")
    with harness.Gateway(folder, redis_server, config=config, env={"GATEWAY_WORKERS": "1"}) as gateway:
        api = Api(gateway, services)
        ended, asked, answered, late = threading.Event(), threading.Event(), threading.Event(), []

        def check(request, context):
            asked.set()
            assert answered.wait(harness.PATIENCE)
            return auth.CheckPermissionResponse(allowed=True)

        api.auth.CheckPermission, api.shop.Watch = check, watch_for_ever(ended)
        token = api.auth.login(session="s-stream")
        earlier = api.open("/watch/a", token=token)
        earlier.readline()
        caller = threading.Thread(target=lambda: late.append(api.open("/watch-allowed/a", token=token)))
        caller.start()
        assert asked.wait(harness.PATIENCE)
        harness.Device(gateway, session="s-stream").revoke()
        # the one worker has heard of it now
        assert json.loads(earlier.readline()) == error(401, "session is not valid")
        answered.set()
        caller.join(harness.PATIENCE)
        assert (late[0].status, json.loads(late[0].readline())) == (401, error(401, "session is not valid"))
        assert api.shop.times("Watch") == 1


def test_client_that_does_not_read_holds_its_service_back(api):
    """Bounded: what the service may send before the client reads is windows and socket buffers, no more."""
    sent, size, count = [0], 100_000, 1000

    def watch(request, context):
        for number in range(count):
            yield shop.Order(order_id=str(number), token=b"x" * size)
            sent[0] = number + 1

    api.shop.Watch = watch
    response = api.open("/watch-all/a")
    before = -1
    while before != sent[0]:
        before = sent[0]
        assert api.call("POST", "/public/ai", {"query": "abc"})[0] == 200, "others are served meanwhile"
    assert before < count / 2
    assert [json.loads(line)["orderId"] for line in response.read().splitlines()] == [str(number) for number in range(count)]
    assert sent[0] == count


# ---- configuration ----

def test_mistakes_are_told_together_with_their_places(folder, redis_server):
    make_descriptors(folder)
    config = """descriptor_sets: [api.pb]
upstreams: { auth: { addresses: ["127.0.0.1:1"] } }
rest:
  auth: { upstream: auth }
  base_path: bad
  routes:
    - { method: GET, path: "/a/{nothing}", rpc: auth.v1.AuthService/GetUser, upstream: auth }
    - { method: GET, path: "/b/{user_id}", rpc: auth.v1.AuthService/GetUser, upstream: auth }
    - { method: GET, path: "/b/{x=*}", rpc: auth.v1.AuthService/NoSuch, upstream: auth }
    - { method: GET, path: "/b/*", rpc: auth.v1.AuthService/GetUser, upstream: auth }
    - { method: POST, path: "/c", rpc: auth.v1.AuthService/GetUser, upstream: auth, body: nobody }
  sso: { provider: google, client_id: c, cookie_key_file: none.key, redirect_url: "https://a/b" }
  grpc_web: [no.Service]
"""
    gateway = harness.Gateway(folder, redis_server, config=config, wait=False)
    assert gateway.process.wait() == 2
    gateway.process.err.join()
    path = folder / "gateway.yaml"
    told = [line.removeprefix(f"{path}:") for line in gateway.process.err.text().splitlines() if line.startswith(f"{path}:")]
    assert told == [
        "5:14: base_path must begin with / and end without, and have none of {}*:?#",
        f"12:59: cookie_key_file \"{folder}/none.key\" cannot be read: No such file or directory",
        "7:28: path \"/a/{nothing}\": nothing is no field of auth.v1.GetUserRequest",
        "9:45: rpc \"auth.v1.AuthService/NoSuch\" is in no descriptor set",
        "10:28: GET \"/b/*\" collides with \"/b/{user_id}\" of line 8",
        "11:91: body \"nobody\" is no field of auth.v1.GetUserRequest",
        "13:14: service \"no.Service\" is in no descriptor set",
    ]
