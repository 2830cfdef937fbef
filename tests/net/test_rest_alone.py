"""The API gateway without the edge gateway (edge.md §7): no Redis, no signer, no bus, no gRPC listener; all else is there."""

import http.client
import json
import shutil
import signal
import socket
import threading
from types import SimpleNamespace

import pytest

import grpc_web
import harness
import test_sso
from harness import edge
from services import AuthService, auth, shop
from test_lifecycle import REQUIRED, can_connect, components_stopped, ended
from test_proxies import ask, header
from test_rest import CONFIG, Api, error, make_descriptors, services  # noqa: F401  (a fixture)
from test_systemd import activate

NO_EFFECT = "has no effect, because the edge gateway is not configured"
GRPC_WEB = "  grpc_web: [galaxy.gateway.v1.EdgeGateway, ringway.test.Shop]\n"  # of which one is nobody's
COMMANDS = 'commands: [{ message_type: "test.*", upstream: auth }]\n'


def configuration(services, more=""):  # noqa: F811
    return CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address, cache="1m",
                         stream=f"{harness.PATIENCE:.0f}s") + more


@pytest.fixture
def alone(folder, services):  # noqa: F811
    """Starts one, with variables and more of its file."""
    make_descriptors(folder)

    def start(env=None, more="", **options):
        return harness.Gateway(folder, None, config=configuration(services, more), env=env, **options)

    return start


@pytest.fixture
def api(alone, services):  # noqa: F811
    with alone() as gateway:
        yield Api(gateway, services)


# ---- what there is ----

def test_rest_call_needs_no_redis(api):
    api.auth.users["u1"] = auth.User(user_id="u1", email="u1@example.com", status=auth.ACTIVE)
    assert api.call("GET", "/api/v1/users/u1")[0] == 401
    token = api.auth.login()
    refused = api.call("GET", "/api/v1/users/u1", token=token)
    assert refused[:2] == (403, error(403, "you do not have permission to perform this action"))
    api.auth.permissions.add(("alice", "user:list"))
    status, body, _ = api.call("GET", "/api/v1/users/u1", token=token)
    assert (status, body) == (200, {"userId": "u1", "email": "u1@example.com", "status": "ACTIVE"})
    if harness.MODE in ("release", "debug"):
        api.gateway.log("sandbox closed")


def test_stream_needs_no_redis(api):
    response = api.open("/watch-all/x")
    assert response.status == 200 and response.read().count(b"\n") == 3


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_grpc_web_reaches_services_and_no_edge(alone, services, protocol):  # noqa: F811
    with alone(more=GRPC_WEB) as gateway:
        services[0].permissions.add(("alice", "shop:watch"))
        web = grpc_web.Client(gateway, protocol, "binary")
        messages, status, _ = web.call("/ringway.test.Shop/Watch", shop.GetRequest(name="x"), token=services[0].login())
        assert [shop.Order.FromString(message).order_id for message in messages] == ["x-0", "x-1", "x-2"] and status == 0
        for path, request in ((harness.EXECUTE, edge.ExecuteCommandRequest()), (harness.SUBSCRIBE, edge.SubscribeEventsRequest())):
            assert web.call(path, request)[:2] == ([], 12), "UNIMPLEMENTED"


def test_public_auth_routes_are_the_edge_gateway_s(api):
    """Below base_path they are paths of this one like any, and of its class."""
    for path in ("send-email-code", "confirm-email-code"):
        answer = api.call("POST", f"/api/v1/public/auth/{path}", {"email": "a" * 9000})
        assert answer[:2] == (404, error(404, "no such route"))


def test_admin_pages_tell_of_what_there_is(api):
    admin = api.gateway.admin
    assert api.call("POST", "/public/ai", {"query": "abc"})[0] == 200
    assert [harness.http(admin, "GET", path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert [harness.http(api.gateway.public, "GET", path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    streams = json.loads(harness.http(admin, "GET", "/streams")[2])
    assert streams["open_streams"] == 0 and streams["slowest"] == [] and len(streams["workers"]) == 2
    shown = harness.http(admin, "GET", "/config")[2].decode()
    assert "GATEWAY_SESSION_CACHE_REDIS_ADDR=  # default\n" in shown and "# rest route POST /public/ai" in shown
    metrics = api.gateway.metrics()
    assert metrics['http_requests_total{path="/public/ai",method="POST",status="200"}'] == 1
    assert any(name.startswith("upstream_healthy{") for name in metrics)
    for prefix in ("gateway_redis_", "gateway_stream_", "gateway_push_streams", "gateway_pipeline_", "gateway_session_"):
        assert not [name for name in metrics if name.startswith(prefix)], prefix
    assert not [name for name in metrics if 'listener="grpc"' in name or 'worker="bus"' in name or "EdgeGateway" in name]


def test_clients_come_through_a_proxy_and_are_limited(alone):
    with alone({"GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8", "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_REST_API_REQUESTS": 1,
                "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_REST_API_BURST": 1}) as gateway:
        request = b"GET /api/v1/users HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        for source in ("192.0.2.1", "192.0.2.2"):
            assert [ask(gateway.public, header(source), request) for _ in range(2)] == [401, 429]


# ---- what there is not ----

def test_nothing_listens_for_grpc(alone):
    address = f"127.0.0.1:{harness.free_port()}"
    with alone({"GATEWAY_AUTHENTICATED_GRPC_ADDR": address}, more=GRPC_WEB + COMMANDS) as gateway:
        assert not can_connect(address) and can_connect(gateway.public)
        lines = gateway.process.err.seen
        assert [json.loads(line)["listener"] for line in lines if '"listening"' in line] == ["public", "admin"]
        warnings = [line for line in lines if line.startswith("warning: ")]
        place = str(gateway.folder / "gateway.yaml")
        assert len(warnings) == 3 and warnings[2] == f"warning: GATEWAY_AUTHENTICATED_GRPC_ADDR: {NO_EFFECT}"
        assert warnings[0].startswith(f"warning: {place}:") and warnings[0].endswith(f": commands {NO_EFFECT}")
        assert warnings[1].startswith(f"warning: {place}:")
        assert warnings[1].endswith(f": grpc_web: galaxy.gateway.v1.EdgeGateway {NO_EFFECT}")


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
def test_socket_of_systemd_for_grpc_is_closed_and_said(alone):
    addresses = [f"127.0.0.1:{harness.free_port()}" for _ in range(2)]
    gateway = alone(wait=False, prefix=activate(addresses, ["public", "grpc"]))
    with gateway:
        gateway.process.err.wait(lambda line: line.startswith(f"Listening on {addresses[1]}"))
        assert harness.http(addresses[0], "GET", "/healthz")[0] == 200
        assert gateway.log("passed socket is not used")["name"] == "grpc"
        assert not can_connect(addresses[1])
        gateway.wait_listening()


def test_nothing_configured_lists_what_each_gateway_needs(folder):
    for config in (None, "upstreams: {}\n"):
        code, _, err = ended(harness.Gateway(folder, None, config=config, wait=False))
        mistakes = [line for line in err.splitlines() if line.startswith("configuration: ")]
        assert code == 2 and len(mistakes) == 1
        assert all(name in mistakes[0] for name in REQUIRED)
        assert mistakes[0].endswith("; the API gateway needs a section rest in GATEWAY_CONFIG_FILE")


def test_command_line_knows_which_gateway_is_on(alone):
    code, out, err = ended(alone(wait=False, arguments=["--check-config"]))
    assert (code, out, err) == (0, "configuration is valid", "")
    code, out, err = ended(alone(wait=False, arguments=["--print-config"]))
    assert code == 0 and "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH=  # default" in out and err == ""
    code, out, err = ended(alone(wait=False, arguments=["--print-public-key"]))
    assert (code, out, err) == (1, "", "ringway: there is no response key: the edge gateway is not configured")


# ---- sign-on ----

class Connection(test_sso.Browser):
    """A browser on one connection, and so on one worker."""

    def __init__(self, gateway):
        super().__init__(gateway)
        host, _, port = gateway.public.rpartition(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=harness.PATIENCE)

    def ask(self, method, path, keep=True, **headers):
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        self.connection.request(method, path, headers=headers)
        answer = test_sso.Answer(self.connection.getresponse())
        self.cookies.update(answer.cookies if keep else {})
        return answer


@pytest.fixture
def signing(folder):
    """An AuthService that takes any code, and the file of a gateway in front."""
    service = AuthService()
    service.HandleGoogleAuthCallback = lambda request, context: auth.HandleGoogleAuthCallbackResponse(session_token=service.login())
    service.Logout = lambda request, context: service.sessions.pop(request.session_token) and auth.LogoutResponse()
    service.provider = SimpleNamespace(metadata={"authorization_endpoint": "https://provider.example/authorize"})
    make_descriptors(folder)
    service.config = test_sso.configuration(folder, service)
    yield service
    service.stop()


def on_both_workers(gateway, service):
    """Each has a cache of sessions, so AuthService hears of one twice."""
    token = service.login("probe")

    def knows(connection):
        before = service.times("ValidateSession")
        assert connection.ask("GET", "/api/v1/users", authorization=f"Bearer {token}").status == 200
        return service.times("ValidateSession") == before

    first, tried = Connection(gateway), []
    assert not knows(first)

    def other():
        tried.append(Connection(gateway))
        return not knows(tried[-1])

    harness.wait_until(other, "a connection on the other worker")
    return first, tried[-1]


def test_state_is_good_once_on_whatever_worker(folder, signing):
    with harness.Gateway(folder, None, config=signing.config) as gateway:
        for at in (0, 1):  # each worker is the one that spends it
            workers = on_both_workers(gateway, signing) if at == 0 else workers[::-1]
            browser = workers[0]
            browser.cookies.clear()
            begun = browser.ask("GET", test_sso.LOGIN)
            cookie = begun.cookies["ringway_login"]
            callback = f"{test_sso.CALLBACK}?code=c&state={test_sso.parameters(begun.location)['state']}"
            signed_in = browser.ask("GET", callback, keep=False)
            assert signed_in.status == 302 and signed_in.cookies["session_token"].value == "token-1"
            for worker in workers * 2:
                worker.cookies = {"ringway_login": cookie}
                again = worker.ask("GET", callback)
                assert again.error == (400, error(400, "this sign-in was used already")) and not again.cookies
        assert signing.times("HandleGoogleAuthCallback") == 2
        count = 'gateway_sign_on_total{{result="{}"}}'.format
        assert [gateway.metric(count(result)) for result in ("begun", "signed_in", "used")] == [2, 2, 8]


def test_sign_out_is_heard_by_every_worker(folder, signing):
    with harness.Gateway(folder, None, config=signing.config) as gateway:
        workers = on_both_workers(gateway, signing)
        left = workers[0].ask("POST", test_sso.LOGOUT, authorization="Bearer probe", origin=test_sso.OURS)
        assert left.status == 204
        for worker in workers:
            worker.cookies.clear()
            assert worker.ask("GET", "/api/v1/users", authorization="Bearer probe").status == 401


# ---- reload ----

def without_rest(config):
    return config[config.index("upstreams:"):config.index("rest:")]


def reload(gateway, config, result):
    name = f'gateway_config_reloads_total{{result="{result}"}}'
    before = gateway.metric(name)
    (gateway.folder / "gateway.yaml").write_text(config)
    gateway.process.signal(signal.SIGHUP)
    gateway.wait_metric(name, lambda value: value > before)


def test_reload_brings_routes_and_warnings_and_may_not_take_all_away(api, services):  # noqa: F811
    config = configuration(services, "")
    reload(api.gateway, config.replace("/public/ai", "/open/ai") + COMMANDS, "success")
    assert api.call("POST", "/open/ai", {"query": "abc"})[:2] == (200, {"finalAnswer": {"response": "cba"}})
    assert api.call("POST", "/public/ai", {})[0] == 404
    warning = api.gateway.log("configuration file", level="warn")["warning"]
    assert warning.startswith(f"{api.gateway.folder}/gateway.yaml:") and warning.endswith(f": commands {NO_EFFECT}")
    reload(api.gateway, without_rest(config), "mistakes")
    mistake = api.gateway.log("configuration file", level="error")["mistake"]
    assert "nothing to do" in mistake and "a section rest" in mistake
    api.gateway.log("configuration file has mistakes; the one before stays in use")
    assert api.call("POST", "/open/ai", {"query": "abc"})[0] == 200
    reload(api.gateway, config, "success")
    assert api.call("POST", "/public/ai", {"query": "abc"})[0] == 200 and api.call("POST", "/open/ai", {})[0] == 404


def test_edge_gateway_may_lose_its_guest(folder, redis_server, services):  # noqa: F811
    make_descriptors(folder)
    config = configuration(services)
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        reload(gateway, without_rest(config), "success")
        assert harness.http(gateway.public, "POST", "/public/ai", b"{}")[0] == 404


# ---- the end ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_names_what_there_was(api, number):
    response = api.open("/watch-all/x")
    api.gateway.process.signal(number)
    assert api.gateway.process.wait() == 0
    assert response.read()
    assert components_stopped(api.gateway) == ["listeners", "calls", "workers", "admin"]
    assert json.loads(api.gateway.process.err.seen[-1])["clean"] is True


def test_calls_end_before_the_process_and_readiness_first(alone, services):  # noqa: F811
    with alone({"GATEWAY_SHUTDOWN_DELAY": "500ms"}) as gateway:
        api = Api(gateway, services)
        original, reached, go_on = api.ai.ProcessQuery, threading.Event(), threading.Event()

        def wait(request, context):
            reached.set()
            assert go_on.wait(harness.PATIENCE)
            return original(request, context)

        api.ai.ProcessQuery = wait
        answers = []
        caller = threading.Thread(target=lambda: answers.append(api.call("POST", "/public/ai", {"query": "abc"})[:2]))
        caller.start()
        assert reached.wait(harness.PATIENCE)
        gateway.process.signal(signal.SIGTERM)
        harness.wait_until(lambda: harness.http(gateway.admin, "GET", "/readyz")[0] == 503, "it says that it ends")
        status, _, body = harness.http(gateway.public, "GET", "/readyz")
        assert (status, json.loads(body)) == (503, {"status": "draining"})
        gateway.log("component stopped", stopped="listeners")
        go_on.set()
        caller.join(harness.PATIENCE)
        assert answers == [(200, {"finalAnswer": {"response": "cba"}})]
        assert gateway.process.wait() == 0


def test_systemd_is_told(folder, alone):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(harness.PATIENCE)
        manager.bind(str(folder / "notify.sock"))
        with alone({"NOTIFY_SOCKET": folder / "notify.sock"}) as gateway:
            assert "READY=1" in manager.recv(4096).decode().splitlines()
            gateway.process.signal(signal.SIGHUP)
            assert "RELOADING=1" in manager.recv(4096).decode().splitlines()
            assert "READY=1" in manager.recv(4096).decode().splitlines()
            gateway.process.signal(signal.SIGTERM)
            assert "STOPPING=1" in manager.recv(4096).decode().splitlines()
            assert gateway.process.wait() == 0
