"""google.api.http from descriptor sets, and what goes along with a call: headers, deadline, details of an error."""

import pathlib
import shutil
import socket
import struct
import tempfile
import threading

import grpc
import pytest
from google.protobuf import any_pb2

import harness
from services import Failure, MirrorService, ShopService, shop
from test_rest import Api, error, make_descriptors

CONFIG = """
descriptor_sets: [api.pb]
upstreams:
  shop: {{ addresses: ["{shop}"], deadline: 5s }}
  mirror: {{ addresses: ["{mirror}"], deadline: 5s }}
rest:
  base_path: /api
  services:
    - {{ service: ringway.test.Shop, upstream: shop, public: true }}
    - {{ service: ringway.test.Mirror, upstream: mirror, public: true }}
  routes:
    - {{ method: PUT, path: "/v1/orders/{{order_id}}", rpc: ringway.test.Mirror/Echo, upstream: mirror, body: "*", public: true }}
  json: {json}
"""


class Shop(ShopService):
    def Get(self, request, context):
        near = request.near if request.HasField("near") else None
        return shop.Order(order_id=request.name, billing_address=near, lines=[shop.Order.Line(sku="a"), shop.Order.Line(sku="b")])

    def Probe(self, request, context):
        return request


class Rules(Api):
    def __init__(self, gateway, shop_service, mirror):
        self.gateway, self.shop, self.mirror = gateway, shop_service, mirror


def start(json):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    make_descriptors(folder)
    redis, shop_service, mirror = harness.Redis(folder), Shop(), MirrorService()
    config = CONFIG.format(shop=shop_service.address, mirror=mirror.address, json=json)
    with harness.Gateway(folder, redis, config=config) as gateway:
        yield Rules(gateway, shop_service, mirror)
    shop_service.stop()
    mirror.stop()
    redis.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def api():
    yield from start("{}")


@pytest.fixture(scope="module")
def lenient():
    yield from start("{ print_defaults: true, ignore_unknown_query: true, ignore_unknown_body: true }")


LINES = [{"sku": "a"}, {"sku": "b"}]


@pytest.mark.parametrize("method, path, body, answer", [
    ("GET", "/v1/orders/17", None, {"orderId": "orders/17", "lines": LINES}),
    ("GET", "/v1/orders/a%20b%2Fc%C3%BC+d", None, {"orderId": "orders/a b%2Fcü+d", "lines": LINES}),
    ("GET", "/v1/orders:find?name=a+b%2Fc&near.city=K%C3%B6ln&near.latitude=1.5", None,
     {"orderId": "a b/c", "billingAddress": {"city": "Köln", "latitude": 1.5}, "lines": LINES}),
    ("GET", "/v1/orders:find?name=&near.countryCode=DE", None, {"billingAddress": {"countryCode": "DE"}, "lines": LINES}),
    ("POST", "/v1/orders:find?name=x", {"city": "C"}, LINES),
    ("POST", "/v1/orders:echo", {"orderId": "x", "paid": True}, {"orderId": "x", "paid": True}),
    ("HEAD", "/v1/orders", None, None)])
def test_annotations_are_routes(api, method, path, body, answer):
    assert api.call(method, "/api" + path, body)[:2] == (200, answer)


def test_body_of_an_annotation_is_its_field(api):
    api.call("POST", "/api/v1/orders:find?name=x", {"city": "C"})
    request, _ = api.shop.last("Get")
    assert (request.name, request.near.city) == ("x", "C")


@pytest.mark.parametrize("method, path, allow", [("PUT", "/v1/orders/1/2", None), ("GET", "/v1/orders", "HEAD"), ("GET", "/v1", None),
                                                 ("DELETE", "/v1/orders:find", "GET, HEAD, POST")])
def test_what_no_template_has_is_no_route(api, method, path, allow):
    status, _, headers = api.call(method, "/api" + path)
    assert (status, headers["allow"]) == (405 if allow else 404, allow)


def test_explicit_row_wins_over_an_annotation(api):
    before = api.shop.times("Put")
    status, answer, _ = api.call("PUT", "/api/v1/orders/17", {"paid": True})
    assert (status, answer) == (200, {"orderId": "17", "paid": True})
    assert api.shop.times("Put") == before


def test_headers_of_the_contract_go_to_the_service_and_no_others(api):
    passed = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "v=1", "accept-language": "de, en;q=0.5",
              "x-request-id": "r-7"}
    api.call("GET", "/api/v1/orders/1", **passed, user_agent="tester/1", x_user_id="mallory", x_session_id="s", x_other="1",
             referer="https://a")
    _, metadata = api.shop.last("Get")
    assert {name: metadata[name] for name in passed} == passed
    agent = metadata["user-agent"]
    assert agent.startswith("ringway/") and agent.split(" ")[1].startswith("tester/1")
    assert not {"x-user-id", "x-session-id", "x-other", "referer", "authorization", "cookie"} & set(metadata)


def test_request_without_an_id_gets_one_and_so_does_its_service(api):
    ids = set()
    for _ in range(100):
        _, _, headers = api.call("GET", "/api/v1/orders/1")
        assert api.shop.last("Get")[1]["x-request-id"] == headers["x-request-id"]
        ids.add(headers["x-request-id"])
    assert len(ids) == 100


@pytest.mark.parametrize("given, least, most", [(None, 3, 5), ("2S", 0, 2), ("1H", 3, 5), ("nonsense", 3, 5)])
def test_deadline_is_the_upstream_s_or_the_client_s_if_that_is_shorter(api, given, least, most):
    left = []

    def get(request, context):
        left.append(context.time_remaining())
        return shop.Order()

    api.shop.Get = get
    try:
        assert api.call("GET", "/api/v1/orders/1", **({"grpc-timeout": given} if given else {}))[0] == 200
    finally:
        del api.shop.Get
    assert least < left[0] <= most + 0.01


def test_service_that_does_not_answer_in_time_is_504_and_its_call_ends(api):
    ended = threading.Event()

    def get(request, context):
        context.add_callback(ended.set)
        ended.wait(harness.PATIENCE)
        return shop.Order()

    api.shop.Get = get
    try:
        assert api.call("GET", "/api/v1/orders/1", **{"grpc-timeout": "1S"})[:2] == (
            504, error(504, "service did not answer in time"))
        assert ended.wait(harness.PATIENCE)
    finally:
        del api.shop.Get


@pytest.mark.parametrize("resets", [True, False])
def test_client_that_breaks_off_cancels_its_call(api, resets):
    asked, ended = threading.Event(), threading.Event()

    def get(request, context):
        context.add_callback(ended.set)
        asked.set()
        ended.wait(harness.PATIENCE)
        return shop.Order()

    api.shop.Get = get
    try:
        with harness.connect(api.gateway.public) as link:
            link.sendall(b"GET /api/v1/orders/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.wait(harness.PATIENCE)
            if resets:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ended.wait(4), "long before the deadline of 5 s"
    finally:
        del api.shop.Get


def test_details_of_a_status_are_in_the_error(api):
    known, unknown = any_pb2.Any(), any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\x01\x02")
    known.Pack(shop.GetRequest(name="n"))
    status = b"".join(b"\x1a" + bytes([len(text)]) + text for text in (known.SerializeToString(), unknown.SerializeToString()))

    def get(request, context):
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "bad ü", (("grpc-status-details-bin", status),))

    api.shop.Get = get
    try:
        status, told, _ = api.call("GET", "/api/v1/orders/1")
    finally:
        del api.shop.Get
    assert status == 400
    assert told == {"error": {"code": 400, "message": "bad ü", "details": [
        {"@type": "type.googleapis.com/ringway.test.GetRequest", "name": "n"},
        {"@type": "type.googleapis.com/no.Such", "value": "AQI="}]}}


def test_json_is_as_its_options_say(lenient):
    status, answer, _ = lenient.call("POST", "/api/v1/orders:echo", {"orderId": "x", "nothing": {"a": [1]}})
    assert status == 200 and answer["orderId"] == "x" and answer["paid"] is False and answer["lines"] == []
    assert lenient.call("GET", "/api/v1/orders:find?name=x&nothing=1")[0] == 200
