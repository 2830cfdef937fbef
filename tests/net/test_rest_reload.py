"""SIGHUP and the end of the process, as the API gateway's callers live them (api.md §1): new routes for new calls, old calls by the
old ones, nothing is cut."""

import json
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

import harness
from services import AIService, AuthService, ShopService, ai, auth, shop
from test_rest import Api, error, make_descriptors

UPSTREAMS = {"auth": 0, "ai": 1, "shop": 2}
USERS = '{ method: GET, path: "/users/{user_id}", rpc: auth.v1.AuthService/GetUser, upstream: auth, permission: "user:list" }'
AI = "{ method: POST, absolute: /api/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: '*' }"
OPEN_AI = "{ method: POST, absolute: /open/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: '*', public: true }"
WATCH = '{ method: GET, absolute: "/watch/{name}", rpc: ringway.test.Shop/Watch, upstream: shop }'
ALL = (USERS, AI, OPEN_AI, WATCH)


class Reloadable(Api):
    def __init__(self, folder, redis_server, services, **more):
        self.folder, self.services = folder, services
        make_descriptors(folder)
        super().__init__(harness.Gateway(folder, redis_server, config=self.config(), **more), services)
        self.auth.users["u1"] = auth.User(user_id="u1")
        self.auth.permissions.add(("alice", "user:list"))
        self.token = self.auth.login()

    def config(self, routes=ALL, upstreams=UPSTREAMS, addresses=None, more=""):
        """A file with these routes; an upstream is left out by leaving its name out."""
        addresses = {**{name: self.services[at].address for name, at in UPSTREAMS.items()}, **(addresses or {})}
        lines = [f'  {name}: {{ addresses: ["{addresses[name]}"], deadline: 60s{more} }}' for name in upstreams]
        return "\n".join(["descriptor_sets: [api.pb]", "upstreams:", *lines, "rest:", "  base_path: /api/v1", "  auth: { upstream: auth }",
                          *(["  grpc_web: [ringway.test.Shop]"] if WATCH in routes else []),
                          "  routes:", *(f"  - {route}" for route in routes), ""])

    def reload(self, config, result="success"):
        name = f'gateway_config_reloads_total{{result="{result}"}}'
        before = self.gateway.metric(name)
        (self.folder / "gateway.yaml").write_text(config)
        self.gateway.process.signal(signal.SIGHUP)
        self.gateway.wait_metric(name, lambda value: value > before)

    def later(self, *arguments, **more):
        """A call in a thread; its answer is what result() waits for."""
        return Later(lambda: self.call(*arguments, **more))


class Later:
    def __init__(self, function):
        self.answer = None
        self.thread = threading.Thread(target=lambda: setattr(self, "answer", function()))
        self.thread.start()

    def result(self):
        self.thread.join(harness.PATIENCE)
        assert self.answer is not None, "no answer came"
        return self.answer


@pytest.fixture
def services():
    started = AuthService(), AIService(), ShopService()
    yield started
    for service in started:
        service.stop()


@pytest.fixture
def api(folder, redis_server, services):
    api = Reloadable(folder, redis_server, services)
    with api.gateway:
        yield api


class Gate:
    """Makes a method of a service wait: `reached` when it is called, `open` lets it go on."""

    def __init__(self, service, method):
        self.reached, self.open = threading.Event(), threading.Event()
        original = getattr(service, method)

        def wait(request, context):
            self.reached.set()
            assert self.open.wait(harness.PATIENCE)
            return original(request, context)

        setattr(service, method, wait)


QUERY = {"query": "abc"}
ANSWER = {"finalAnswer": {"response": "cba"}}
NO_ROUTE = (404, "not_found")


def no_route(answer):
    return answer[:1] + (answer[1]["error"]["code"],) in (NO_ROUTE, (404, 404))


# ---- routes ----

def test_new_routes_are_live_and_old_ones_gone(api):
    assert api.call("POST", "/api/ai", QUERY, token=api.token)[:2] == (200, ANSWER)
    assert no_route(api.call("POST", "/v2/ai", QUERY, token=api.token))
    api.reload(api.config([USERS, AI.replace("/api/ai", "/v2/ai")]))
    assert api.call("POST", "/v2/ai", QUERY, token=api.token)[:2] == (200, ANSWER)
    assert no_route(api.call("POST", "/api/ai", QUERY, token=api.token))
    assert no_route(api.call("POST", "/open/ai", QUERY))
    api.gateway.log("configuration file reloaded")


def test_permissions_and_publicity_are_the_new_files(api):
    assert api.call("GET", "/api/v1/users/u1", token=api.token)[0] == 200
    api.reload(api.config([USERS.replace("user:list", "user:other"), OPEN_AI.replace("public: true", "public: false")]))
    assert api.call("GET", "/api/v1/users/u1", token=api.token)[0] == 403
    assert api.call("POST", "/open/ai", QUERY)[0] == 401


def test_api_gateway_can_leave_and_come_back(api):
    api.reload("upstreams: {}\n")
    assert api.call("POST", "/open/ai", QUERY)[1]["error"]["code"] == "not_found", "the edge gateway's own answer"
    api.reload(api.config())
    assert api.call("POST", "/open/ai", QUERY)[:2] == (200, ANSWER)


def test_mistakes_keep_the_old_table_and_are_told_with_their_places(api):
    rows = [USERS.replace("{user_id}", "{nobody}"), AI.replace("AIService/", "NoService/"), OPEN_AI, OPEN_AI, WATCH.replace("watch/", "watch//")]
    path = api.folder / "gateway.yaml"
    api.reload(api.config(rows), result="mistakes")
    for told in (
            '10:26: path \\"/api/v1/users/{nobody}\\": nobody is no field of auth.v1.GetUserRequest',
            '11:45: rpc \\"ai_service.NoService/ProcessQuery\\" is in no descriptor set',
            '13:31: POST \\"/open/ai\\" collides with \\"/open/ai\\" of line 12',
            '14:30: path \\"/watch//{name}\\" has an empty segment'):
        api.gateway.process.err.wait(lambda line, told=told: f"{path}:{told}" in line)
    api.gateway.log("configuration file has mistakes; the one before stays in use", level="error")
    assert api.call("GET", "/api/v1/users/u1", token=api.token)[0] == 200
    assert api.call("POST", "/api/ai", QUERY, token=api.token)[:2] == (200, ANSWER)
    api.reload(api.config([OPEN_AI]))
    assert no_route(api.call("GET", "/api/v1/users/u1", token=api.token))


def test_descriptor_sets_are_read_anew_too(api):
    """The YAML file is the same: a field has another name."""
    protos = api.folder / "protos"
    shutil.copytree(harness.ROOT / "proto", protos)
    source = protos / "ai_service" / "ai_service.proto"
    source.write_text(source.read_text().replace("string query = 2;", "string question = 2;"))
    assert api.call("POST", "/open/ai", {"question": "abc"})[0] == 400
    subprocess.run(["protoc", f"--proto_path={protos}", f"--proto_path={harness.ROOT / 'tests/conformance/proto'}", "--include_imports",
                    f"--descriptor_set_out={api.folder / 'api.pb'}", "auth/v1/auth_service.proto", "ai_service/ai_service.proto",
                    "ringway/wide.proto"], check=True)
    assert api.call("POST", "/open/ai", QUERY)[:2] == (200, ANSWER), "not before it is asked to"
    api.reload(api.config())
    assert api.call("POST", "/open/ai", {"question": "abc"})[:2] == (200, ANSWER)
    status, told, _ = api.call("POST", "/open/ai", QUERY)
    assert status == 400 and "query" in told["error"]["message"]

    whole = (api.folder / "api.pb").read_bytes()
    for broken in (whole[:len(whole) // 2], b"", None):
        if broken is None:
            (api.folder / "api.pb").unlink()
        else:
            (api.folder / "api.pb").write_bytes(broken)
        position = api.gateway.log_position()
        api.reload(api.config(), result="mistakes")
        api.gateway.process.err.wait(lambda line: f"{api.folder}/gateway.yaml:" in line, position)
        assert api.call("POST", "/open/ai", {"question": "abc"})[:2] == (200, ANSWER)


# ---- calls under way ----

def test_old_call_finishes_on_the_old_table(api):
    """Route, upstream and descriptors of it are gone by then."""
    gate = Gate(api.ai, "ProcessQuery")
    old = api.later("POST", "/api/ai", QUERY, token=api.token)
    assert gate.reached.wait(harness.PATIENCE)
    api.reload(api.config([USERS], ["auth"]))
    assert no_route(api.call("POST", "/api/ai", QUERY, token=api.token))
    gate.open.set()
    assert old.result()[:2] == (200, ANSWER)
    harness.wait_until(lambda: 'upstream="ai"' not in "".join(name for name in api.gateway.metrics() if name.startswith("upstream_healthy")),
                       "the old service is left with its last call")


@pytest.mark.parametrize("asked", ["ValidateSession", "CheckPermission"])
@pytest.mark.parametrize("kept", [True, False])
def test_old_call_that_has_not_called_yet_still_can(api, asked, kept):
    """It waits for its session or its permission while the file changes; kept: AuthService is in the new one."""
    gate = Gate(api.auth, asked)
    guarded = AI.replace("body", 'permission: "user:list", body')
    api.reload(api.config([guarded]))
    old = api.later("POST", "/api/ai", QUERY, token=api.token)
    assert gate.reached.wait(harness.PATIENCE)
    api.reload(api.config([USERS], ["auth"]) if kept else "upstreams: {}\n")
    gate.open.set()
    assert old.result()[:2] == (200, ANSWER)
    gone = ("upstream=\"ai\"",) if kept else ("upstream=\"ai\"", "upstream=\"auth\"")
    harness.wait_until(lambda: not any(label in name for name in api.gateway.metrics() if name.startswith("upstream_healthy")
                                       for label in gone), "the old services are left")


def test_client_that_leaves_meanwhile_holds_nothing(api):
    gate = Gate(api.auth, "ValidateSession")
    connection = harness.http_connection(api.gateway.public)
    connection.request("POST", "/api/ai", json.dumps(QUERY), {"authorization": f"Bearer {api.token}"})
    assert gate.reached.wait(harness.PATIENCE)
    api.reload(api.config([USERS], ["auth"]))
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset: its end alone is none
    connection.close()
    harness.wait_until(lambda: 'upstream="ai"' not in "".join(name for name in api.gateway.metrics() if name.startswith("upstream_healthy")),
                       "the old service is left with its last caller")
    gate.open.set()


def endless(more, ended):
    def watch(request, context):
        context.add_callback(ended.set)
        number = 0
        while True:
            yield shop.Order(order_id=str(number))
            number += 1
            more.acquire()
            if ended.is_set():
                return

    return watch


def test_streams_and_connections_live_on(api):
    """Over reloads that change everything: a REST stream, a stream of events, and a connection between two calls."""
    more, ended = threading.Semaphore(0), threading.Event()
    api.shop.Watch = endless(more, ended)
    response = api.open("/watch/a", token=api.token)
    assert json.loads(response.readline()) == {"orderId": "0"}
    idle = harness.http_connection(api.gateway.public)
    device = harness.Device(api.gateway)
    with harness.Channel(api.gateway.grpc) as channel:
        events = channel.subscribe(device.subscribe_request())
        events.bootstrap()
        for number, config in enumerate((api.config([USERS, AI, OPEN_AI], ["auth", "ai"]), "upstreams: {}\n", api.config([OPEN_AI])), 1):
            idle.request("GET", "/healthz")
            assert idle.getresponse().read()
            api.reload(config)
            more.release()
            assert json.loads(response.readline()) == {"orderId": str(number)}
            harness.publish_event(api.gateway, device.user)
            events.next()
        assert idle.sock is not None, "the connection is the same"
        idle.request("POST", "/open/ai", json.dumps(QUERY))
        assert json.loads(idle.getresponse().read()) == ANSWER
        idle.close()
        assert api.gateway.metric('gateway_connections_total{listener="public",outcome="cut"}') == 0
    # and its session can still be revoked
    harness.Device(api.gateway, session="session-1").revoke()
    assert json.loads(response.readline()) == error(401, "session is not valid")
    more.release()
    assert response.read() == b"" and ended.wait(harness.PATIENCE)


def many_routes(round):
    return [*ALL, *(OPEN_AI.replace("/open/", f"/open-{round}-{number}/") for number in range(50))]


def test_many_reloads_under_load_fail_no_call(api):
    other = AIService()
    stop, failures, done = threading.Event(), [], []

    def ask():
        while not stop.is_set():
            for answer in (api.call("POST", "/api/ai", QUERY, token=api.token), api.call("GET", "/api/v1/users/u1", token=api.token)):
                (done if answer[0] == 200 else failures).append(answer[:2])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round in range(40):
            before = len(done)
            address = (other if round % 2 == 0 else api.ai).address
            api.reload(api.config(many_routes(round), addresses={"ai": address}, more=f", max_in_flight: {1000 + round}"))
            harness.wait_until(lambda: len(done) > before or failures, "a call after the reload")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        other.stop()
    assert not failures, failures[:3]


@pytest.mark.skipif(harness.MODE not in ("release", "debug"), reason="a sanitizer keeps freed memory on purpose; it looks for leaks itself")
def test_old_tables_give_their_memory_back(api):
    """A table that stayed would be some 300 KB each."""
    def size():
        assert api.call("POST", "/open/ai", QUERY)[0] == 200
        return int(api.gateway.metric("process_resident_memory_bytes"))

    sizes = []
    for round in range(120):
        api.reload(api.config(many_routes(round)))
        sizes.append(size())
    assert sizes[-1] - sizes[39] < 2 << 20, [size >> 10 for size in sizes]


# ---- the end of the process ----

@pytest.fixture
def ending(folder, redis_server, services):
    """Whoever waited for the end of a stream would be cut, and the exit code 1."""
    api = Reloadable(folder, redis_server, services, env={"GATEWAY_SHUTDOWN_TIMEOUT": "30s", "GATEWAY_WORKERS": 1})
    yield api
    try:
        assert api.gateway.process.wait() == 0, "\n".join(api.gateway.process.err.seen[-30:])
    finally:
        api.gateway.process.stop()


def ends(api):
    api.gateway.process.signal(signal.SIGTERM)


@pytest.mark.parametrize("accept, last", [
    ("*/*", b'{"error":{"code":503,"message":"gateway is shutting down"}}\n'),
    ("text/event-stream", b'event: error\ndata: {"error":{"code":503,"message":"gateway is shutting down"}}\n\n')])
def test_stream_ends_with_a_word_and_its_call_is_cancelled(ending, accept, last):
    more, ended = threading.Semaphore(0), threading.Event()
    ending.shop.Watch = endless(more, ended)
    response = ending.open("/watch/a", token=ending.token, accept=accept)
    response.readline()
    ends(ending)
    rest = response.read()
    assert rest.lstrip(b"\n") == last, "whole: its last chunk came"
    assert ended.wait(harness.PATIENCE)
    more.release()
    assert ending.gateway.process.wait() == 0
    stopped = ending.gateway.log("component stopped", stopped="calls")
    assert stopped["cut"] is False and stopped["took_ms"] < 15_000


def test_http2_stream_ends_with_a_word_too(ending):
    more, ended = threading.Semaphore(0), threading.Event()
    ending.shop.Watch = endless(more, ended)
    curl = harness.Process(["curl", "-sSN", "--http2-prior-knowledge", "-H", f"authorization: Bearer {ending.token}",
                            f"http://{ending.gateway.public}/watch/a"])
    curl.out.wait(lambda line: line == '{"orderId":"0"}')
    ends(ending)
    curl.out.wait(lambda line: line == '{"error":{"code":503,"message":"gateway is shutting down"}}')
    assert curl.wait() == 0 and ended.wait(harness.PATIENCE)
    more.release()


def frame_of(response):
    """gRPC-Web: a byte that says whether it is the trailers, and the bytes."""
    kind, size = struct.unpack(">BI", response.read(5))
    return kind, response.read(size)


def test_grpc_web_stream_ends_with_its_trailers(ending):
    more, ended = threading.Semaphore(0), threading.Event()
    ending.shop.Watch = endless(more, ended)
    connection = harness.http_connection(ending.gateway.public)
    message = shop.GetRequest(name="a").SerializeToString()
    connection.request("POST", "/ringway.test.Shop/Watch", struct.pack(">BI", 0, len(message)) + message, {
        "content-type": "application/grpc-web+proto", "authorization": f"Bearer {ending.token}"})
    response = connection.getresponse()
    assert frame_of(response) == (0, shop.Order(order_id="0").SerializeToString())
    ends(ending)
    kind, trailers = frame_of(response)
    fields = dict(line.split(":", 1) for line in trailers.decode().split("\r\n") if line)
    assert kind == 0x80 and fields["grpc-status"].strip() == "14", trailers
    assert "gateway is shutting down" in fields["grpc-message"].replace("%20", " ")
    assert ended.wait(harness.PATIENCE)
    more.release()
    connection.close()


def test_stream_without_a_message_yet_ends_with_a_status(ending):
    gate = threading.Event()
    called = threading.Event()

    def watch(request, context):
        context.add_callback(gate.set)
        called.set()
        assert gate.wait(harness.PATIENCE)
        yield shop.Order()

    ending.shop.Watch = watch
    answer = Later(lambda: ending.open("/watch/a", token=ending.token))
    assert called.wait(harness.PATIENCE)
    ends(ending)
    response = answer.result()
    assert (response.status, json.loads(response.read())) == (503, error(503, "gateway is shutting down"))


def test_stream_that_waits_for_its_session_ends_too(ending):
    gate = Gate(ending.auth, "ValidateSession")
    answer = Later(lambda: ending.open("/watch/a", token=ending.token))
    assert gate.reached.wait(harness.PATIENCE)
    with harness.connect(ending.gateway.public) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        ends(ending)
        # the worker closes what is idle when it ends its calls
        while idle.recv(4096):
            pass
    gate.open.set()
    response = answer.result()
    assert (response.status, json.loads(response.read())) == (503, error(503, "gateway is shutting down"))
    assert ending.shop.times("Watch") == 0


def test_call_with_one_answer_gets_it(ending):
    gate = Gate(ending.ai, "ProcessQuery")
    old = ending.later("POST", "/api/ai", QUERY, token=ending.token)
    assert gate.reached.wait(harness.PATIENCE)
    ends(ending)
    ending.gateway.log("component stopped", stopped="push hub")
    gate.open.set()
    assert old.result()[:2] == (200, ANSWER)
    assert ending.ai.last("ProcessQuery")[0] == ai.ProcessQueryRequest(query="abc")
