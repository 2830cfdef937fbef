"""gRPC-Web on the public listener (api.md §5): services behind the gateway and the edge's own, by a raw client."""

import base64
import gzip
import pathlib
import shutil
import tempfile
import threading

import grpc
import pytest

import grpc_web
import harness
from grpc_web import Client, frame
from harness import check_event, check_response, edge, publish_event
from services import AIService, AuthService, Failure, ShopService, ai, auth, shop
from test_http import Raw, get
from test_rest import make_descriptors

OK, CANCELLED, INVALID, DEADLINE, NOT_FOUND, DENIED, EXHAUSTED, PRECONDITION, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = (
    0, 1, 3, 4, 5, 7, 8, 9, 12, 13, 14, 16)
QUERY, GET_USER, WATCH = "/ai_service.AIService/ProcessQuery", "/auth.v1.AuthService/GetUser", "/ringway.test.Shop/Watch"
APP = "https://app.example.com"

CONFIG = """
descriptor_sets: [api.pb]
upstreams:
  auth: {{ addresses: ["{auth}"], deadline: {patience} }}
  ai: {{ addresses: ["{ai}"], deadline: {patience} }}
  shop: {{ addresses: ["{shop}"], deadline: {patience} }}
  echo: {{ addresses: ["{echo}"], deadline: {patience} }}
commands:
  - {{ message_type: "test.*", upstream: echo }}
rest:
  base_path: /api/v1
  auth: {{ upstream: auth }}
  services:
    - {{ service: ringway.test.Shop, upstream: shop, public: true }}
  routes:
    - {{ method: GET, path: "/users/{{user_id}}", rpc: auth.v1.AuthService/GetUser, upstream: auth, permission: "user:list" }}
    - {{ method: POST, absolute: /api/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: "*" }}
    - {{ method: POST, absolute: /public/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: "*", public: true }}
  grpc_web: [galaxy.gateway.v1.EdgeGateway, ai_service.AIService, auth.v1.AuthService, ringway.test.Shop]
  cors: {{ origins: ["https://app.example.com"], credentials: true, max_age: 10m }}
  allowed_origins: ["https://app.example.com"]
"""


class House:
    """One gateway and its services for all the stories of a process; each story has its own sessions."""

    def __init__(self, folder):
        self.redis = harness.Redis(folder)
        self.auth, self.ai, self.shop = AuthService(), AIService(), ShopService()
        self.echo = harness.Process([harness.ECHO, "--listen", "127.0.0.1:0"])
        address = self.echo.out.wait(lambda text: text.startswith("listening ")).split()[1]
        make_descriptors(folder)
        self.gateway = harness.Gateway(folder, self.redis, config=CONFIG.format(
            auth=self.auth.address, ai=self.ai.address, shop=self.shop.address, echo=address, patience=f"{harness.PATIENCE:.0f}s"))

    def close(self):
        try:
            self.gateway.stop()
        finally:
            for part in (self.auth, self.ai, self.shop, self.echo, self.redis):
                part.stop()


@pytest.fixture(scope="module")
def started():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    house = House(folder)
    yield house
    house.close()
    shutil.rmtree(folder)


@pytest.fixture
def house(started):
    """What a story changes of the services is as before after it."""
    for service in (started.auth, started.ai, started.shop):
        service.calls.clear()
    yield started
    for service, names in ((started.ai, ["ProcessQuery"]), (started.shop, ["Watch", "Get"])):
        for name in names:
            service.__dict__.pop(name, None)
    started.auth.permissions.clear()


@pytest.fixture(params=["http1", "http2"])
def protocol(request):
    return request.param


@pytest.fixture(params=["binary", "text"])
def kind(request):
    return request.param


@pytest.fixture
def web(house, protocol, kind):
    return Client(house.gateway, protocol, kind)


# ---- services behind the gateway ----

def test_unary_call_reaches_the_service(house, web):
    token = house.auth.login(user="alice", session="s1")
    call = web.open(QUERY, ai.ProcessQueryRequest(session_id="x", query="abc"), token=token, x_user_id="mallory",
                    x_session_id="stolen", x_request_id="r-1", user_agent="tester/1")
    assert call.status == 200 and call.headers["content-type"] == grpc_web.TYPES[web.kind]
    assert call.headers["x-request-id"] == "r-1" and call.headers["cache-control"] == "no-store"
    messages, status, text = call.end()
    assert (status, text) == (OK, "")
    assert [ai.ProcessQueryResponse.FromString(message).final_answer.response for message in messages] == ["cba"]
    request, metadata = house.ai.last("ProcessQuery")
    assert (request.session_id, request.query) == ("x", "abc")
    assert metadata["x-user-id"] == "alice" and metadata["x-session-id"] == "s1" and metadata["x-request-id"] == "r-1"
    assert metadata["user-agent"].startswith("ringway/") and "tester/1" in metadata["user-agent"]


def test_permission_of_the_route_that_names_the_rpc_is_asked_for(house, web):
    house.auth.users["u1"] = auth.User(user_id="u1", email="u1@example.com")
    token = house.auth.login()
    assert web.call(GET_USER, auth.GetUserRequest(user_id="u1"), token=token) == (
        [], DENIED, "you do not have permission to perform this action")
    assert house.auth.times("GetUser") == 0
    house.auth.permissions.add(("alice", "user:list"))
    messages, status, _ = web.call(GET_USER, auth.GetUserRequest(user_id="u1"), token=token)
    assert status == OK and auth.User.FromString(messages[0]).email == "u1@example.com"


def test_without_a_session_nothing_is_called(house, web):
    assert web.call(QUERY, ai.ProcessQueryRequest()) == ([], UNAUTHENTICATED, "a session is needed")
    assert web.call(QUERY, ai.ProcessQueryRequest(), token="stranger") == ([], UNAUTHENTICATED, "session is not valid")
    assert house.ai.times("ProcessQuery") == 0


def test_cookie_is_a_session_for_our_pages_only(house, web):
    cookie = f"session_token={house.auth.login()}"
    foreign = ([], DENIED, "requests from this origin are not allowed")
    for headers in ({}, {"origin": "https://evil.example"}, {"origin": "null"}, {"referer": "https://evil.example/"}):
        assert web.call(QUERY, ai.ProcessQueryRequest(), cookie=cookie, **headers) == foreign
    assert house.ai.times("ProcessQuery") == 0
    for headers in ({"origin": APP}, {"referer": APP + "/page"}):
        assert web.call(QUERY, ai.ProcessQueryRequest(), cookie=cookie, **headers)[1] == OK


def test_status_of_the_service_is_passed_on(house, web):
    details = b"\x08\x05\x12\x03abc"

    def fail(request, context):
        raise Failure(grpc.StatusCode.FAILED_PRECONDITION, "nicht jetzt: 100 % später\n", [("grpc-status-details-bin", details)])

    house.ai.ProcessQuery = fail
    call = web.open(QUERY, ai.ProcessQueryRequest(), token=house.auth.login(), origin=APP)
    assert call.status == 200 and call.headers["access-control-allow-origin"] == APP
    assert call.end() == ([], PRECONDITION, "nicht jetzt: 100 % später\n")
    assert base64.b64decode(call.details + "==") == details


def test_stream_brings_its_messages_and_its_end(house, web):
    messages, status, _ = web.call(WATCH, shop.GetRequest(name="a"))
    assert status == OK
    assert [shop.Order.FromString(message).order_id for message in messages] == ["a-0", "a-1", "a-2"]


def test_messages_arrive_as_they_come(house, web):
    turn = threading.Semaphore(0)

    def watch(request, context):
        for number in range(3):
            assert turn.acquire(timeout=harness.PATIENCE)
            yield shop.Order(order_id=str(number))

    house.shop.Watch = watch
    # the head comes with the first message
    turn.release()
    call = web.open(WATCH, shop.GetRequest())
    for number in range(3):
        assert shop.Order.FromString(call.message()).order_id == str(number)
        turn.release()
    assert call.end() == ([], OK, "")


def test_error_behind_messages_is_the_last_frame(house, web):
    def watch(request, context):
        yield shop.Order(order_id="1")
        raise Failure(grpc.StatusCode.NOT_FOUND, "gone: ä")

    house.shop.Watch = watch
    call = web.open(WATCH, shop.GetRequest())
    messages, status, text = call.end()
    assert (len(messages), status, text) == (1, NOT_FOUND, "gone: ä")
    assert call.trailers is not None


def test_stream_without_messages_has_its_status_alone(house, web):
    def watch(request, context):
        return
        yield

    house.shop.Watch = watch
    assert web.call(WATCH, shop.GetRequest()) == ([], OK, "")


PRIVATE = """
descriptor_sets: [api.pb]
upstreams:
  auth: {{ addresses: ["{auth}"], deadline: {patience} }}
  shop: {{ addresses: ["{shop}"], deadline: {patience} }}
rest:
  auth: {{ upstream: auth }}
  services:
    - {{ service: ringway.test.Shop, upstream: shop, public: true }}
  routes:
    - {{ method: GET, path: "/watch/{{name}}", rpc: ringway.test.Shop/Watch, upstream: shop }}
  grpc_web: [ringway.test.Shop]
"""


@pytest.fixture
def private(house, folder, redis_server):
    """A stream that one route has for sessions only, though its service is public."""
    make_descriptors(folder)
    config = PRIVATE.format(auth=house.auth.address, shop=house.shop.address, patience=f"{harness.PATIENCE:.0f}s")
    gateway = harness.Gateway(folder, redis_server, config=config)
    going = threading.Event()

    def watch(request, context):
        context.add_callback(going.set)
        yield shop.Order(order_id="1")
        going.wait(harness.PATIENCE)

    house.shop.Watch = watch
    gateway.cancelled = going
    yield gateway
    going.set()
    gateway.process.stop()


def test_revoked_session_ends_its_stream(house, private, protocol, kind):
    web = Client(private, protocol, kind)
    assert web.call(WATCH, shop.GetRequest()) == ([], UNAUTHENTICATED, "a session is needed")
    call = web.open(WATCH, shop.GetRequest(), token=house.auth.login(token="t-revoked", session="s-revoked"))
    assert call.message() is not None
    harness.Device(private, session="s-revoked").revoke()
    assert call.end() == ([], UNAUTHENTICATED, "session is not valid")
    assert private.cancelled.wait(harness.PATIENCE)


def test_end_of_the_process_ends_streams_of_services(house, private, protocol, kind):
    call = Client(private, protocol, kind).open(WATCH, shop.GetRequest(), token=house.auth.login())
    assert call.message() is not None
    private.process.signal(15)
    assert call.end() == ([], UNAVAILABLE, "gateway is shutting down")
    assert private.process.wait() == 0


def test_deadline_of_the_client_ends_the_call(house, web):
    going = threading.Event()
    house.ai.ProcessQuery = lambda request, context: (going.wait(harness.PATIENCE), ai.ProcessQueryResponse())[1]
    try:
        messages, status, _ = web.call(QUERY, ai.ProcessQueryRequest(), token=house.auth.login(), grpc_timeout="50m")
        assert (messages, status) == ([], DEADLINE)
    finally:
        going.set()
    assert web.call(QUERY, ai.ProcessQueryRequest(), token=house.auth.login(), grpc_timeout="0m")[1] == DEADLINE
    assert web.call(QUERY, ai.ProcessQueryRequest(), token=house.auth.login(), grpc_timeout="soon")[1] == INVALID


def test_deadline_ends_a_stream_under_way(house, web):
    going = threading.Event()

    def watch(request, context):
        context.add_callback(going.set)
        yield shop.Order(order_id="1")
        going.wait(harness.PATIENCE)

    house.shop.Watch = watch
    # longer, if the machine is so busy that the message does not come before
    for timeout_ms in (200, 2000, 10_000):
        going.clear()
        messages, status, _ = web.call(WATCH, shop.GetRequest(), grpc_timeout=f"{timeout_ms}m")
        assert status == DEADLINE
        if messages:
            break
    assert len(messages) == 1
    assert going.wait(harness.PATIENCE), "the service's call is cancelled"


def test_client_that_goes_away_cancels_its_call(house, web):
    cancelled = threading.Event()

    def watch(request, context):
        context.add_callback(cancelled.set)
        yield shop.Order(order_id="1")
        cancelled.wait(harness.PATIENCE)

    house.shop.Watch = watch
    call = web.open(WATCH, shop.GetRequest())
    assert call.message() is not None
    call.close()
    assert cancelled.wait(harness.PATIENCE)


def test_client_that_leaves_before_the_answer_cancels_its_call(house):
    asked, ended = threading.Event(), threading.Event()

    def get(request, context):
        context.add_callback(ended.set)
        asked.set()
        ended.wait(harness.PATIENCE)
        return shop.Order()

    house.shop.Get = get
    body = frame(shop.GetRequest().SerializeToString())
    with harness.connect(house.gateway.public) as link:
        link.sendall(b"POST /ringway.test.Shop/Get HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc-web\r\n"
                     b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert asked.wait(harness.PATIENCE)
    assert ended.wait(harness.PATIENCE / 2), "long before the call's deadline"


def test_client_that_does_not_read_holds_its_service_back(house, web):
    """Bounded: windows and socket buffers, no more."""
    sent, size, count = [0], 100_000, 600

    def watch(request, context):
        for number in range(count):
            yield shop.Order(order_id=str(number), token=b"x" * size)
            sent[0] = number + 1

    house.shop.Watch = watch
    call = web.open(WATCH, shop.GetRequest())
    other, token, before = Client(house.gateway, web.protocol, "binary"), house.auth.login(), -1
    while before != sent[0]:
        before = sent[0]
        for _ in range(3):
            assert other.call(QUERY, ai.ProcessQueryRequest(), token=token)[1] == OK, "others are served meanwhile"
    assert before < count / 2
    messages, status, _ = call.end()
    assert status == OK and sent[0] == count
    assert [shop.Order.FromString(message).order_id for message in messages] == [str(number) for number in range(count)]


def test_calls_are_counted_by_their_status_and_route(house, web):
    codes = ["OK", "UNAUTHENTICATED", "UNIMPLEMENTED", "CANCELLED"]
    names = [f'gateway_grpc_web_calls_total{{code="{code}"}}' for code in codes]
    path = f'http_requests_total{{path="{QUERY}",method="POST",status="200"}}'
    before = house.gateway.metrics()
    token = house.auth.login()
    assert web.call(QUERY, ai.ProcessQueryRequest(), token=token)[1] == OK
    assert web.call(QUERY, ai.ProcessQueryRequest())[1] == UNAUTHENTICATED
    assert web.raw(QUERY, b"", token=token).end()[1] == UNIMPLEMENTED
    call = web.open(harness.SUBSCRIBE, harness.Device(house.gateway).subscribe_request())
    assert call.message()
    call.close()
    house.gateway.wait_metric(names[3], lambda now: now == before[names[3]] + 1)
    after = house.gateway.metrics()
    assert [after[name] - before[name] for name in names] == [1, 1, 1, 1]
    assert after[path] - before.get(path, 0) == 3


# ---- bad input ----

def test_bodies_that_are_not_one_message_are_refused(house, web):
    encode = base64.b64encode if web.kind == "text" else bytes
    good = frame(ai.ProcessQueryRequest(query="abc").SerializeToString())
    token = house.auth.login()
    rows = [(b"", UNIMPLEMENTED), (encode(good + good), UNIMPLEMENTED), (encode(good[:-1]), INTERNAL), (encode(good[:4]), INTERNAL),
            (encode(frame(b"", 1)), INTERNAL), (encode(frame(b"x", 2)), INTERNAL), (encode(frame(b"grpc-status: 0\r\n", 0x80)), INTERNAL),
            (encode(b"\0\xff\xff\xff\xff"), EXHAUSTED)]
    if web.kind == "text":
        rows += [(base64.b64encode(good)[:-1], INTERNAL), (b"!" + base64.b64encode(good)[1:], INTERNAL), (b"=AAA", INTERNAL),
                 (b"A===", INTERNAL), (base64.b64encode(good) + b"\n", INTERNAL)]
    for body, status in rows:
        call = web.raw(QUERY, body, token=token)
        assert call.status == 200 and call.end()[1] == status, body
    assert house.ai.calls == []


def test_body_over_the_bound_is_refused_before_it_is_read(house, web):
    call = web.raw(QUERY, None, origin=APP, content_length=str(1 << 30))
    assert call.status == 200 and call.headers["access-control-allow-origin"] == APP
    assert call.end() == ([], EXHAUSTED, "request body is too large")


def test_text_may_be_padded_anywhere_between_groups(house, protocol):
    web = Client(house.gateway, protocol, "text")
    body = frame(ai.ProcessQueryRequest(query="abcdefgh").SerializeToString())
    for piece in (1, 2, 4, 5, 7):
        text = b"".join(base64.b64encode(body[at:at + piece]) for at in range(0, len(body), piece))
        messages, status, _ = web.raw(QUERY, text, token=house.auth.login()).end()
        assert status == OK and ai.ProcessQueryResponse.FromString(messages[0]).final_answer.response == "hgfedcba"


def test_gzip_messages_are_taken_and_unknown_encodings_are_not(house, web):
    encode = base64.b64encode if web.kind == "text" else bytes
    body = encode(frame(gzip.compress(ai.ProcessQueryRequest(query="abc" * 100).SerializeToString()), 1))
    token = house.auth.login()
    messages, status, _ = web.raw(QUERY, body, token=token, grpc_encoding="gzip").end()
    assert status == OK and ai.ProcessQueryResponse.FromString(messages[0]).final_answer.response == "cba" * 100
    assert web.raw(QUERY, body, token=token, grpc_encoding="br").end()[1] == UNIMPLEMENTED


def test_unknown_methods_and_streaming_clients_are_unimplemented(house, web):
    for path in ("/ai_service.AIService/Nothing", "/ai_service.AIService/", "/ai_service.AIService/ProcessQuery/x",
                 "/ringway.test.Shop/Talk", "/galaxy.gateway.v1.EdgeGateway/Nothing"):
        messages, status, text = web.call(path, shop.GetRequest(), token=house.auth.login())
        assert (messages, status) == ([], UNIMPLEMENTED) and text
    for path in ("/auth.v1.Other/GetUser", "/grpc.health.v1.Health/Check", "/ai_service.AIService"):
        assert web.raw(path, b"").status == 404


def test_other_methods_and_media_types_are_told(house, protocol):
    address, open_body = house.gateway.public, grpc_web.PROTOCOLS[protocol]
    answer = open_body(address, "GET", QUERY, None, {})
    assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
    answer.close()
    for media in ("application/json", "application/grpc", "application/grpc-web+json", "application/grpc-webx", "text/plain"):
        answer = open_body(address, "POST", QUERY, b"", {"content-type": media})
        assert answer.status == 415
        answer.close()


def test_media_type_in_pieces_that_leaves_no_memory_ends_no_more_than_its_request(folder, redis_server):
    """Each look at it joins its pieces, and what a request keeps has a bound."""
    config = "rest: { grpc_web: [galaxy.gateway.v1.EdgeGateway] }\n"
    with harness.Gateway(folder, redis_server, config=config, env={"GATEWAY_HTTP_MAX_HEADER_BYTES": "1MiB"}) as gateway:
        with Raw(gateway.public) as raw:
            piece = "Content-Type: application/grpc-web;" + "x" * 250000
            raw.send(get(harness.EXECUTE, piece, piece, "Content-Length: 0", method="POST"))
            assert raw.response()[0] == 503
            raw.send(get("/healthz"))
            assert raw.response()[0] == 200


def test_accept_chooses_the_kind_of_answer(house, protocol):
    token, message = house.auth.login(), ai.ProcessQueryRequest(query="abc")
    for kind, accept, answered in (("binary", "application/grpc-web-text", "text"), ("text", "application/grpc-web", "binary"),
                                   ("text", "*/*", "text"), ("binary", "text/html, application/grpc-web-text+proto;q=1", "text")):
        call = Client(house.gateway, protocol, kind).open(QUERY, message, token=token, accept=accept)
        assert call.headers["content-type"] == grpc_web.TYPES[answered]
        assert call.end()[1] == OK


# ---- pages of other origins ----

def test_preflight_allows_what_a_page_of_ours_asks_for(house, protocol):
    open_body = grpc_web.PROTOCOLS[protocol]
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-grpc-web,x-user-agent"}
    for path in (QUERY, harness.SUBSCRIBE):
        answer = open_body(house.gateway.public, "OPTIONS", path, None, {"origin": APP, **asked})
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
        assert answer.headers["access-control-allow-headers"] == "content-type,x-grpc-web,x-user-agent"
        assert answer.headers["access-control-allow-credentials"] == "true" and answer.headers["access-control-max-age"] == "600"
        answer.close()
        answer = open_body(house.gateway.public, "OPTIONS", path, None, {"origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in answer.headers
        answer.close()


def test_answers_show_their_status_to_pages_of_ours(house, web):
    for path, message in ((QUERY, ai.ProcessQueryRequest()), (WATCH, shop.GetRequest()), (harness.EXECUTE, edge.ExecuteCommandRequest())):
        call = web.open(path, message, origin=APP)
        assert call.headers["access-control-allow-origin"] == APP and "origin" in call.headers["vary"]
        exposed = call.headers["access-control-expose-headers"].split(", ")
        assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} <= set(exposed)
        call.end()
        call = web.open(path, message, origin="https://evil.example")
        assert "access-control-allow-origin" not in call.headers
        call.end()


# ---- the edge's own service ----

@pytest.fixture
def device(house):
    return harness.Device(house.gateway)


def test_signed_command_is_executed(house, web, device):
    request = device.request(payload=b"p" * 100_000)  # over the bound of other public requests
    messages, status, _ = web.call(harness.EXECUTE, request, cookie="session_token=stranger")
    assert status == OK and len(messages) == 1
    answer = edge.ExecuteCommandResponse.FromString(messages[0])
    check_response(house.gateway, request, answer)
    assert answer.payload_bytes == request.payload_bytes


def test_refusals_are_the_pipeline_s(house, web, device):
    good = device.request()
    assert web.call(harness.EXECUTE, good)[1] == OK
    assert web.call(harness.EXECUTE, good) == ([], PRECONDITION, "request replay detected")
    assert web.call(harness.EXECUTE, device.request(signature=bytes(64))) == ([], UNAUTHENTICATED, "invalid request signature")
    assert web.call(harness.EXECUTE, edge.ExecuteCommandRequest()) == ([], INVALID, "protocol_version must not be empty")
    assert web.call(harness.EXECUTE, device.request(message_type="nobody")) == ([], UNIMPLEMENTED, "message_type is not routed")


def subscribe(web, device, **changes):
    request = device.subscribe_request(**changes)
    call = web.open(harness.SUBSCRIBE, request)
    first = edge.GatewayEvent.FromString(call.message())
    assert (first.event_type, first.event_id) == ("gateway.server_time", request.request_id)
    check_event(web.gateway, first)
    return call


def test_events_arrive(house, web, device):
    call = subscribe(web, device)
    for size in (0, 1, 2, 3, 1000, 100_000):
        event_id = publish_event(house.gateway, device.user, payload=b"x" * size)
        event = edge.GatewayEvent.FromString(call.message())
        check_event(house.gateway, event)
        assert (event.event_id, event.payload_bytes) == (event_id, b"x" * size)
    device.revoke()
    assert call.end() == ([], PRECONDITION, "device session is revoked")


def test_stream_that_goes_away_is_forgotten(house, web, device):
    call = subscribe(web, device)
    before = house.gateway.metric('gateway_push_streams_ended_total{reason="client"}')
    call.close()
    house.gateway.wait_metric('gateway_push_streams_ended_total{reason="client"}', lambda ended: ended == before + 1)


def test_only_text_is_copied(house, web, device):
    copied = house.gateway.metric("gateway_push_copied_bytes_total")
    call = subscribe(web, device)
    publish_event(house.gateway, device.user, payload=b"x" * 50_000)
    event = call.message()
    call.close()
    if web.kind == "text":
        house.gateway.wait_metric("gateway_push_copied_bytes_total", lambda now: now - copied >= len(event))
    else:
        assert house.gateway.metric("gateway_push_copied_bytes_total") == copied


def test_stream_that_does_not_read_overflows_alone(house, web, device):
    slow, other = subscribe(web, device), subscribe(Client(house.gateway, "http1", "binary"), device)
    sent = 0
    overflowed = 'gateway_push_streams_ended_total{reason="overflowed"}'
    before = house.gateway.metric(overflowed)
    while house.gateway.metric(overflowed) == before:
        for _ in range(50):
            publish_event(house.gateway, device.user, payload=b"x" * 100_000)
        for _ in range(50):
            assert other.message() is not None
        sent += 50
        assert sent < 2000
    messages, status, text = slow.end()
    assert (status, text) == (EXHAUSTED, "push stream overflowed") and len(messages) < sent
    other.close()


def test_shutdown_ends_streams_with_their_status(folder, redis_server, protocol, kind):
    config = "rest: { grpc_web: [galaxy.gateway.v1.EdgeGateway] }\n"
    gateway = harness.Gateway(folder, redis_server, config=config)
    call = subscribe(Client(gateway, protocol, kind), harness.Device(gateway))
    gateway.process.signal(15)
    assert call.end() == ([], UNAVAILABLE, "gateway is shutting down")
    assert gateway.process.wait() == 0


# ---- configuration ----

def test_services_that_nobody_has_are_told_with_their_places(folder, redis_server):
    make_descriptors(folder)
    config = """descriptor_sets: [api.pb]
upstreams: { ai: { addresses: ["127.0.0.1:1"] } }
rest:
  routes:
    - { method: GET, path: "/a", rpc: ai_service.AIService/ProcessQuery, upstream: ai, permission: "a" }
    - { method: GET, path: "/b", rpc: ai_service.AIService/ProcessQuery, upstream: ai, permission: "b" }
  services:
    - { service: ringway.test.Shop, upstream: ai, public: true }
  auth: { upstream: ai }
  grpc_web:
    - no.Service
    - auth.v1.AuthService
    - ai_service.AIService
    - ringway.test.Shop
    - galaxy.gateway.v1.EdgeGateway
"""
    gateway = harness.Gateway(folder, redis_server, config=config, wait=False)
    assert gateway.process.wait() == 2
    gateway.process.err.join()
    path = folder / "gateway.yaml"
    told = [line.removeprefix(f"{path}:") for line in gateway.process.err.text().splitlines() if line.startswith(f"{path}:")]
    assert told == [
        '11:7: service "no.Service" is in no descriptor set',
        '12:7: service "auth.v1.AuthService" has no upstream: name it among the services or in a route',
        '6:100: /ai_service.AIService/ProcessQuery has two permissions, and gRPC-Web does not tell which route is meant',
    ]


def test_reload_takes_a_service_in_and_out(folder, redis_server, protocol):
    gateway = harness.Gateway(folder, redis_server, config="rest: { base_path: /api }\n")
    device, client = harness.Device(gateway), Client(gateway, protocol, "binary")

    def reload(config):
        position = gateway.log_position()
        (folder / "gateway.yaml").write_text(config)
        gateway.process.signal(1)
        gateway.log("configuration file reloaded", after=position)

    assert client.raw(harness.EXECUTE, b"").status == 404
    reload("rest: { base_path: /api, grpc_web: [galaxy.gateway.v1.EdgeGateway] }\n")
    call = subscribe(client, device)
    reload("rest: { base_path: /api }\n")
    event_id = publish_event(gateway, device.user)
    assert edge.GatewayEvent.FromString(call.message()).event_id == event_id, "a stream that is open stays"
    assert client.raw(harness.EXECUTE, b"").status == 404
    call.close()
    gateway.stop()
