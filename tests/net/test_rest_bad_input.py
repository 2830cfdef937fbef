"""Bad input to the API gateway: refused with a status and a sentence that names the field; no service hears of it."""

import json
import pathlib
import shutil
import tempfile

import pytest

import harness
from services import MirrorService
from test_rest import make_descriptors

MESSAGE_BYTES_MAX = 100_000
BODY_BYTES_MAX = 4 << 20

CONFIG = """
descriptor_sets: [api.pb]
upstreams:
  mirror: {{ addresses: ["{mirror}"], deadline: 5s }}
rest:
  base_path: /api
  routes:
    - {{ method: POST, path: /order, rpc: ringway.test.Mirror/Echo, upstream: mirror, body: "*", public: true }}
    - {{ method: GET, path: "/order/{{customer_id}}", rpc: ringway.test.Mirror/Echo, upstream: mirror, public: true }}
    - {{ method: PUT, path: "/order/{{order_id}}/address", rpc: ringway.test.Mirror/Echo, upstream: mirror,
        body: billing_address, public: true }}
    - {{ method: POST, path: /odd, rpc: ringway.test.Mirror/Same, upstream: mirror, body: "*", public: true }}
"""


class Mirror:
    def __init__(self, gateway, service):
        self.gateway, self.service = gateway, service

    def call(self, method, path, body=None):
        """Status, and the JSON of the answer."""
        link = harness.http_connection(self.gateway.public)
        link.request(method, "/api" + path, body.encode() if isinstance(body, str) else body, {"content-type": "application/json"})
        answer = link.getresponse()
        text = answer.read()
        link.close()
        assert answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(text)

    def refused(self, method, path, body=None):
        """The sentence of a 400 that no service has heard of."""
        before = len(self.service.calls)
        status, told = self.call(method, path, body)
        assert status == 400 and list(told) == ["error"] and told["error"]["code"] == 400, (status, told)
        assert len(self.service.calls) == before
        return told["error"]["message"]


@pytest.fixture(scope="module")
def mirror():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    make_descriptors(folder)
    redis, service = harness.Redis(folder), MirrorService()
    with harness.Gateway(folder, redis, config=CONFIG.format(mirror=service.address),
                         env={"GATEWAY_GRPC_MAX_MESSAGE_BYTES": MESSAGE_BYTES_MAX}) as gateway:
        yield Mirror(gateway, service)
    service.stop()
    redis.stop()
    shutil.rmtree(folder)


def nested(depth, inner="{}"):
    return '{"child":' * (depth - 1) + inner + "}" * (depth - 1)


MALFORMED = [
    ("{", "expected"), ("[]", "expected {"), ("null", "expected {"), ("7", "expected {"), ('"text"', "expected {"),
    ("{}}", "more text behind the value"), ("{} {}", "more text behind the value"), ('{"orderId"}', "expected :"),
    ('{"orderId":}', "orderId: "), ('{"orderId":"a",}', "a comma too many"), ('{"orderId":"a" "paid":true}', "expected"),
    ('{"orderId":"a', "orderId: a string without its end"), ("{'orderId':'a'}", "expected a string"),
    ('{"orderId":"\\x"}', "orderId: a malformed escape"), ('{"orderId":"\\u12"}', "orderId: a malformed escape"),
    ('{"orderId":"a\nb"}', "orderId: a control character"), ('{"lines":[{"sku":"a"},]}', "lines"),
    ('{"lines":[{"sku":"a"}', "lines"), ("{\"orderId\":\"a\"}\0", "more text behind the value"),
    ('\ufeff{"orderId":"a"}', "expected {"), ('/* */{}', "expected {"),
]

WRONG_TYPES = [
    ('{"orderId":7}', "orderId: expected a string"), ('{"paid":"true"}', "paid: expected true or false"),
    ('{"paid":1}', "paid: expected true or false"), ('{"customerId":true}', "customerId: expected a number"),
    ('{"customerId":"12a"}', "customerId: expected a number"), ('{"customerId":" 1"}', "customerId: expected a number"),
    ('{"customerId":{}}', "customerId: expected a number"), ('{"weightKg":"heavy"}', "weightKg: expected a number"),
    ('{"lines":{}}', "lines: expected ["), ('{"lines":[7]}', "lines[0]: expected {"),
    ('{"lines":[{},null]}', "lines[1]: null in a list"), ('{"lines":[{},{"price":"x"}]}', "lines[1].price: expected a number"),
    ('{"lines":[{"shipTo":{"latitude":[]}}]}', "lines[0].shipTo.latitude: expected a number"),
    ('{"lines":[{"tags":["a",{}]}]}', "lines[0].tags[1]: expected a string"),
    ('{"labels":[]}', "labels: expected {"), ('{"labels":{"a":1}}', 'labels["a"]: expected a string'),
    ('{"labels":{"a":null}}', 'labels["a"]: null in a map'), ('{"billingAddress":"x"}', "billingAddress: expected {"),
    ('{"status":"LOST"}', "status: no value of this enum has this name"), ('{"status":{}}', "status: expected a name or a number"),
    ('{"status":1.5}', "status: "), ('{"token":7}', "token: expected base64 in a string"),
    ('{"token":"*"}', "token: malformed base64"), ('{"createdAt":7}', "createdAt: expected a string"),
    ('{"createdAt":"yesterday"}', "createdAt: "), ('{"createdAt":"2024-02-30T00:00:00Z"}', "createdAt: "),
    ('{"scores":[1,"two"]}', "scores[1]: expected a number"), ('{"scores":[1.5]}', "scores[0]: "),
    ('{"nothing":1}', "nothing: no such field"), ('{"billingAddress":{"nothing":1}}', "billingAddress.nothing: no such field"),
    ('{"card":"a","iban":"b"}', "iban: another field of its oneof is set"),
]

OUT_OF_RANGE = [
    ('{"scores":[2147483647,2147483648]}', "scores[1]: number out of range"),
    ('{"scores":[-2147483649]}', "scores[0]: number out of range"),
    ('{"customerId":"9223372036854775808"}', "customerId: number out of range"),
    ('{"customerId":-9223372036854775809}', "customerId: number out of range"),
    ('{"lines":[{"quantity":-1}]}', "lines[0].quantity: number out of range"),
    ('{"lines":[{"quantity":4294967296}]}', "lines[0].quantity: number out of range"),
    ('{"voucher":{"cents":18446744073709551616}}', "voucher.cents: number out of range"),
    ('{"voucher":{"cents":-1}}', "voucher.cents: number out of range"),
    ('{"weightKg":3.5e38}', "weightKg: number out of range"), ('{"weightKg":-1e39}', "weightKg: number out of range"),
    ('{"lines":[{"price":1e309}]}', "lines[0].price: number out of range"),
    ('{"createdAt":"10000-01-01T00:00:00Z"}', "createdAt: "), ('{"status":2147483648}', "status: "),
    # huge ones
    ('{"customerId":1e1000000000}', "customerId: "), ('{"customerId":1' + "0" * 500 + "}", "customerId: number out of range"),
    ('{"customerId":1' + "0" * 20_000 + "}", "customerId: "), ('{"lines":[{"price":' + "9" * 500 + "}]}", "lines[0].price: number out of range"),
    ('{"lines":[{"price":' + "9" * 20_000 + "}]}", "lines[0].price: "),
    ('{"scores":[1e99999999999999999999]}', "scores[0]: "),
]

TWICE = [
    ('{"orderId":"a","orderId":"b"}', "orderId: is there twice"), ('{"orderId":"a","order_id":"b"}', "orderId: is there twice"),
    ('{"lines":[{"sku":"a","sku":"a"}]}', "lines[0].sku: is there twice"),
    ('{"labels":{"a":"1","a":"2"}}', "labels: a key is there twice"),
    ('{"labels":{"a":"1","\\u0061":"2"}}', "labels: a key is there twice"),
    ('{"lines":[],"lines":[]}', "lines: is there twice"), ('{"orderId":null,"orderId":"b"}', "orderId: is there twice"),
]

NOT_UTF8 = [
    (b'{"orderId":"\xff"}', "orderId: invalid UTF-8"), (b'{"orderId":"\xc3"}', "orderId: invalid UTF-8"),
    (b'{"orderId":"\xed\xa0\x80"}', "orderId: invalid UTF-8"), (b'{"orderId":"\xc0\xaf"}', "orderId: invalid UTF-8"),
    (b'{"orderId":"\xf4\x90\x80\x80"}', "orderId: invalid UTF-8"), (b'{"labels":{"\xff":"a"}}', "labels: invalid UTF-8"),
    (b'{"labels":{"a":"\xff"}}', 'labels["a"]: invalid UTF-8'), (b'{"\xff":1}', "invalid UTF-8"),
    (b'{"orderId":"\\ud800"}', "orderId: a lone surrogate"), (b'{"orderId":"\\udc00\\ud800"}', "orderId: a lone surrogate"),
    ('{"orderId":"ü"}'.encode("latin-1"), "orderId: invalid UTF-8"), ('{"orderId":"a"}'.encode("utf-16"), "expected {"),
]


@pytest.mark.parametrize("body, message", [*MALFORMED, *WRONG_TYPES, *OUT_OF_RANGE, *TWICE, *NOT_UTF8],
                         ids=lambda value: str(value[:40]))
def test_body_is_refused_with_its_field(mirror, body, message):
    told = mirror.refused("POST", "/order", body)
    assert told.startswith(message) if ": " in message else message in told, told


@pytest.mark.parametrize("body, message", [
    ('{"other-name":1}', "other-name: expected a string"), ('{"byNumber":{"x":{}}}', "byNumber"),
    ('{"byNumber":{"1":{"a":"x"}}}', 'byNumber["1"].a: expected a number'),
    ('{"byNumber":{"1":{},"01":{}}}', 'byNumber["01"]: expected a number'), ('{"byNumber":{"1":{},"1":{}}}', "byNumber: a key"), ('{"flags":{"maybe":1}}', "flags"),
    ('{"flags":{"true":1,"true":2}}', "flags: a key is there twice"), ('{"big":{"-1":"a"}}', "big"),
    ('{"any":{"@type":"type.googleapis.com/no.Such"}}', "any"), ('{"any":{"value":1}}', "any"),
    ('{"any":{"@type":"type.googleapis.com/ringway.test.Odd","a":"x"}}', "any.a: expected a number"),
    ('{"list":{}}', "list: "), ('{"values":{"v":[1,]}}', "values"), ('{"empty":{"x":1}}', "empty.x: no such field"),
    ('{"children":[{},{"children":[{"a":[]}]}]}', "children[1].children[0].a: expected a number")], ids=lambda value: value[:40])
def test_field_is_named_wherever_it_is(mirror, body, message):
    told = mirror.refused("POST", "/odd", body)
    assert told.startswith(message), told


def test_depth_is_bounded(mirror):
    assert mirror.call("POST", "/odd", nested(64))[0] == 200
    for inner in ("{}", '{"a":1}'):
        told = mirror.refused("POST", "/odd", nested(65, inner))
        assert told.startswith("child.child.") and told.endswith(": values nest too deep")
    for depth in (65, 100_000):
        told = mirror.refused("POST", "/odd", '{"value":' + "[" * depth + "]" * depth + "}")
        assert told.startswith("value") and told.endswith(": values nest too deep")


def test_sentence_has_whole_letters_wherever_it_is_cut(mirror):
    """The name comes from the client: it is bounded, and the answer stays JSON."""
    for name in ("ü" * 1000, "a" + "ü" * 1000, "€" * 1000, '"' * 1000, "\\" * 1000, "\u0001" * 100):
        told = mirror.refused("POST", "/order", json.dumps({name: 1}, ensure_ascii=False))
        assert told.endswith("no such field") and len(told.encode()) < 1000
    assert mirror.refused("POST", "/order?%ff=1").startswith("unknown parameter")
    assert mirror.refused("POST", "/order?" + "%c3%bc" * 500 + "=1").startswith("unknown parameter")


@pytest.mark.parametrize("method, path, body, message", [
    ("GET", "/order/x", None, "customerId: expected a number"), ("GET", "/order/9223372036854775808", None, "customerId: "),
    ("GET", "/order/1?order_id=%zz", None, "a % without two hexadecimal digits"),
    ("GET", "/order/1?nothing=1", None, "unknown parameter nothing"), ("GET", "/order/1?scores=1&scores=x", None, "scores"),
    ("GET", "/order/1?billing_address.latitude=north", None, "billingAddress.latitude: expected a number"),
    ("GET", "/order/1?billing_address=x", None, "billingAddress: a message is no single value"),
    ("GET", "/order/1?billing_address.nothing=x", None, "unknown parameter billing_address.nothing"),
    ("GET", "/order/1?lines.sku=x", None, "unknown parameter lines.sku"), ("GET", "/order/1?labels=x", None, "labels: "),
    ("GET", "/order/1?paid=yes", None, "paid: expected true or false"), ("GET", "/order/1?status=LOST", None, "status: "),
    ("GET", "/order/1?order_id=%ff", None, "orderId: invalid UTF-8"), ("GET", "/order/1?token=*", None, "token: malformed base64"),
    ("GET", "/order/1?created_at=now", None, "createdAt: "), ("GET", "/order/1?customer_id=2", None, "customerId: is set by the path"),
    ("GET", "/order/1?order_id=a&orderId=a", None, "orderId: is there twice"),
    ("GET", "/order/1?billing_address.city=a&billing_address.city=b", None, "billingAddress.city: is there twice"),
    ("GET", "/order/1?card=a&iban=b", None, "iban: another field of its oneof is set"),
    ("GET", "/order/1?card=a&voucher.code=b", None, "voucher.code: another field of its oneof is set"),
    ("GET", "/order/1", "{}", "this method takes no body"),
    ("PUT", "/order/a/address", '{"latitude":"x"}', "billingAddress.latitude: expected a number"),
    ("PUT", "/order/a/address", '{"latitude":1,"latitude":1}', "billingAddress.latitude: is there twice"),
    ("PUT", "/order/a/address", "[]", "billingAddress: expected {"),
    ("PUT", "/order/%ff/address", "{}", "orderId: invalid UTF-8"),
    ("PUT", "/order/a/address?billing_address.city=x", "{}", "billingAddress.city: is set by the path or the body"),
    ("POST", "/order?order_id=x", "{}", "unknown parameter order_id")])
def test_path_and_query_are_refused_with_their_field(mirror, method, path, body, message):
    assert message in mirror.refused(method, path, body)


@pytest.mark.parametrize("size, status", [(MESSAGE_BYTES_MAX // 2, 200), (MESSAGE_BYTES_MAX + 1, 413), (BODY_BYTES_MAX - 100, 413),
                                          (BODY_BYTES_MAX + 1, 413)])
def test_body_is_bounded(mirror, size, status):
    before = len(mirror.service.calls)
    found, told = mirror.call("POST", "/order", '{"orderId":"%s"}' % ("x" * size))
    assert found == status and len(mirror.service.calls) == before + (status == 200)
    if status != 200:
        assert told == {"error": {"code": 413, "message": told["error"]["message"]}} and "too large" in told["error"]["message"]
