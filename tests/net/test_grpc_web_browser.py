"""gRPC-Web from a page in headless Chromium, by npm's grpc-web (text and binary) and @connectrpc/connect-web (api.md §5)."""

import http.server
import json
import pathlib
import subprocess
import tempfile
import threading

import grpc
import pytest

import harness
from browser import open_chromium
from conftest import node_modules
from harness import check_event, check_response, edge, publish_event
from services import AIService, AuthService, Failure, ShopService, ai, auth, shop
from test_grpc_web import CONFIG, DENIED, NOT_FOUND, OK, PRECONDITION, QUERY, GET_USER, UNAUTHENTICATED, UNIMPLEMENTED, WATCH
from test_rest import make_descriptors

PACKAGES = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"]
PROTOS = ["galaxy/gateway/v1/edge_gateway.proto", "ai_service/ai_service.proto", "auth/v1/auth_service.proto", "ringway/wide.proto"]


def import_map(modules):
    """Where a page finds what modules import of each other."""
    imports = {}
    for package in PACKAGES:
        exports = json.loads((modules / package / "package.json").read_text())["exports"]
        for name, places in exports.items():
            imports[package + name[1:]] = f"/node_modules/{package}/{places['import'][2:]}"
    return {"imports": imports}


class Site:
    """The pages' own origin, another than the gateway's."""

    def __init__(self, folder, modules):
        page = (harness.ROOT / "tests" / "net" / "node" / "grpc_web.html").read_text()
        (folder / "index.html").write_text(page.replace("IMPORTS", json.dumps(import_map(modules))))
        subprocess.run(["protoc", f"--proto_path={harness.ROOT / 'proto'}", f"--proto_path={harness.ROOT / 'tests/conformance/proto'}",
                        "--include_imports", f"--descriptor_set_out={folder / 'web.pb'}", *PROTOS], check=True)
        (folder / "node_modules").symlink_to(modules)

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # some 150 modules: not a connection for each
            extensions_map = {".js": "text/javascript", ".html": "text/html", "": "application/octet-stream"}

            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # with five, a browser's connections wait for seconds when this process does not come to accept

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Page:
    def __init__(self, driver, site, gateway):
        self.driver, self.url = driver, site.url
        self.gateway = f"http://localhost:{gateway.public.rpartition(':')[2]}"

    def open(self):
        self.driver.delete_all_cookies()
        self.driver.get(self.url + "/index.html")
        harness.wait_until(lambda: self.driver.title == "ready", "the page")

    def close(self):
        """Its tab, not the browser."""
        old = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        new = self.driver.current_window_handle
        self.driver.switch_to.window(old)
        self.driver.close()
        self.driver.switch_to.window(new)

    def start(self, client, path, message, streams=False, credentials=False, **metadata):
        self.driver.execute_script("window.start(arguments[0], arguments[1])", client, {
            "url": self.gateway, "path": path, "message": message.SerializeToString().hex(), "metadata": metadata,
            "streams": streams, "credentials": credentials})

    def next(self):
        """A message's bytes, or code and text of the end."""
        found = self.driver.execute_async_script("window.next().then(arguments[0])")
        return bytes.fromhex(found) if isinstance(found, str) else (found["code"], found["message"])

    def call(self, client, path, message, **more):
        """Messages, code, text."""
        self.start(client, path, message, **more)
        messages = []
        while isinstance(found := self.next(), bytes):
            messages.append(found)
        return messages, *found


class World:
    def __init__(self, folder):
        (folder / "site").mkdir()
        self.site = Site(folder / "site", node_modules())
        self.redis = harness.Redis(folder)
        self.auth, self.ai, self.shop = AuthService(), AIService(), ShopService()
        self.echo = harness.Process([harness.ECHO, "--listen", "127.0.0.1:0"])
        address = self.echo.out.wait(lambda text: text.startswith("listening ")).split()[1]
        make_descriptors(folder)
        config = CONFIG.format(auth=self.auth.address, ai=self.ai.address, shop=self.shop.address, echo=address,
                               patience=f"{harness.PATIENCE:.0f}s").replace("https://app.example.com", self.site.url)
        self.gateway = harness.Gateway(folder, self.redis, config=config)
        self.driver = open_chromium(folder)
        self.page = Page(self.driver, self.site, self.gateway)

    def close(self):
        self.driver.quit()
        try:
            self.gateway.stop()
        finally:
            for part in (self.auth, self.ai, self.shop, self.echo, self.redis, self.site):
                part.stop()


@pytest.fixture(scope="module")
def started():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    with harness.network():
        world = World(folder)
        yield world
        world.close()
    harness.remove(folder)


@pytest.fixture
def world(started):
    started.page.open()
    yield started
    started.auth.permissions.clear()


@pytest.fixture
def page(world):
    return world.page


CLIENTS = pytest.mark.parametrize("client", ["text", "binary", "connect"])
# npm's grpc-web streams in text only
STREAMING = pytest.mark.parametrize("client", ["text", "connect"])


@CLIENTS
def test_page_calls_a_service_with_its_session(world, page, client):
    token = world.auth.login(user="alice")
    bearer = {"authorization": f"Bearer {token}"}
    query = ai.ProcessQueryRequest(query="abcä")
    messages, code, _ = page.call(client, QUERY, query, **bearer)
    assert code == OK and ai.ProcessQueryResponse.FromString(messages[0]).final_answer.response == "äcba"
    assert page.call(client, QUERY, query) == ([], UNAUTHENTICATED, "a session is needed")
    user = auth.GetUserRequest(user_id="u1")
    assert page.call(client, GET_USER, user, **bearer) == ([], DENIED, "you do not have permission to perform this action")
    world.auth.permissions.add(("alice", "user:list"))
    assert page.call(client, GET_USER, user, **bearer) == ([], NOT_FOUND, "no user u1")
    world.auth.users["u1"] = auth.User(user_id="u1", display_name="Ä")
    messages, code, _ = page.call(client, GET_USER, user, **bearer)
    assert code == OK and auth.User.FromString(messages[0]).display_name == "Ä"
    del world.auth.users["u1"]


@CLIENTS
def test_cookie_of_the_page_is_its_session(world, page, client):
    page.driver.add_cookie({"name": "session_token", "value": world.auth.login()})
    messages, code, _ = page.call(client, QUERY, ai.ProcessQueryRequest(query="abc"), credentials=True)
    assert code == OK and ai.ProcessQueryResponse.FromString(messages[0]).final_answer.response == "cba"


@STREAMING
def test_stream_of_a_service_and_its_error_reach_the_page(world, page, client):
    messages, code, _ = page.call(client, WATCH, shop.GetRequest(name="a"), streams=True)
    assert code == OK and [shop.Order.FromString(message).order_id for message in messages] == ["a-0", "a-1", "a-2"]

    def watch(request, context):
        yield shop.Order(order_id="1")
        raise Failure(grpc.StatusCode.NOT_FOUND, "weg: ä")

    world.shop.Watch = watch
    try:
        messages, code, text = page.call(client, WATCH, shop.GetRequest(name="a"), streams=True)
    finally:
        del world.shop.Watch
    assert (len(messages), code, text) == (1, NOT_FOUND, "weg: ä")


@CLIENTS
def test_signed_command_of_a_page_is_executed(world, page, client):
    device = harness.Device(world.gateway)
    request = device.request(payload=bytes(range(256)) * 40)
    messages, code, _ = page.call(client, harness.EXECUTE, request)
    assert code == OK
    check_response(world.gateway, request, edge.ExecuteCommandResponse.FromString(messages[0]))
    assert page.call(client, harness.EXECUTE, request) == ([], PRECONDITION, "request replay detected")
    assert page.call(client, harness.EXECUTE, device.request(message_type="nobody")) == (
        [], UNIMPLEMENTED, "message_type is not routed")


@STREAMING
def test_page_hears_events_until_its_session_is_revoked(world, page, client):
    device = harness.Device(world.gateway)
    request = device.subscribe_request()
    page.start(client, harness.SUBSCRIBE, request, streams=True)
    first = edge.GatewayEvent.FromString(page.next())
    assert (first.event_type, first.event_id) == ("gateway.server_time", request.request_id)
    check_event(world.gateway, first)
    for size in (0, 1, 10_000):
        event_id = publish_event(world.gateway, device.user, payload=b"x" * size)
        event = edge.GatewayEvent.FromString(page.next())
        check_event(world.gateway, event)
        assert (event.event_id, event.payload_bytes) == (event_id, b"x" * size)
    device.revoke()
    assert page.next() == (PRECONDITION, "device session is revoked")


@STREAMING
def test_page_that_cancels_or_is_closed_ends_its_stream(world, page, client):
    ended = 'gateway_push_streams_ended_total{reason="client"}'
    for leave in (lambda: page.driver.execute_script("window.cancel()"), page.close):
        before = world.gateway.metric(ended)
        page.start(client, harness.SUBSCRIBE, harness.Device(world.gateway).subscribe_request(), streams=True)
        assert page.next()
        leave()
        world.gateway.wait_metric(ended, lambda now: now == before + 1)
