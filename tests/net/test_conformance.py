"""Transcoding by the conformance suite's own protocol, compared with Python's protobuf on messages made up by seed."""

import base64
import math
import os
import random
import struct
import subprocess

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

import harness

TESTEE = harness.OUT / "testee"
DESCRIPTORS = harness.OUT / "gen" / "tests.pb"
ALL = "protobuf_test_messages.proto3.TestAllTypesProto3"
ODD = "ringway.test.Odd"
ORDER = "ringway.test.Order"
PROTOBUF, JSON, JSPB, TEXT = 1, 2, 3, 4
IGNORE_UNKNOWN = 3
SEED = int(os.environ.get("SEED", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "1200"))


class Types:
    """The messages of tests/conformance/proto, from their descriptor set alone."""

    def __init__(self):
        self.pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
            self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def make(self, name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(name))()


class Testee:
    __test__ = False

    def __init__(self, types):
        self.types = types
        env = {"PATH": os.environ["PATH"], **harness.SANITIZERS}
        self.process = subprocess.Popen([TESTEE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def ask(self, name, output, category=0, **payload):
        """The response: the name of its member, and its value."""
        request = self.types.make("conformance.ConformanceRequest")
        request.message_type, request.requested_output_format, request.test_category = name, output, category
        for member, value in payload.items():
            setattr(request, member, value)
        data = request.SerializeToString()
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        (length,) = struct.unpack("<I", self.process.stdout.read(4))
        response = self.types.make("conformance.ConformanceResponse")
        response.ParseFromString(self.process.stdout.read(length))
        member = response.WhichOneof("result")
        return member, getattr(response, member)

    def to_json(self, message):
        member, value = self.ask(message.DESCRIPTOR.full_name, JSON, protobuf_payload=message.SerializeToString())
        assert member == "json_payload", f"{member}: {value}\n{message}"
        return value

    def to_wire(self, name, text):
        member, value = self.ask(name, PROTOBUF, json_payload=text)
        assert member == "protobuf_payload", f"{member}: {value}\n{text}"
        return value

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(harness.PATIENCE) == 0
        self.process.stdout.close()


@pytest.fixture(scope="module")
def types():
    return Types()


@pytest.fixture
def testee(types):
    testee = Testee(types)
    yield testee
    testee.stop()


class Maker:
    """Messages of any type, from a seed."""

    def __init__(self, types, seed, mergeable=False):
        self.types = types
        self.random = random.Random(seed)
        self.mergeable = mergeable

    def message(self, message, depth=0):
        filler = self.SPECIAL.get(message.DESCRIPTOR.full_name)
        if filler:
            filler(self, message, depth)
            return message
        fields = message.DESCRIPTOR.fields
        if not fields or depth > 4:
            return message
        for field in self.random.sample(list(fields), min(len(fields), self.random.randint(0, 12 >> depth))):
            if self.is_map(field):
                self.map(getattr(message, field.name), field, depth)
            elif field.label == field.LABEL_REPEATED:
                self.list(getattr(message, field.name), field, depth)
            elif field.message_type:
                getattr(message, field.name).SetInParent()
                self.message(getattr(message, field.name), depth + 1)
            else:
                setattr(message, field.name, self.scalar(field))
        return message

    @staticmethod
    def is_map(field):
        return field.message_type is not None and field.message_type.GetOptions().map_entry

    def map(self, container, field, depth):
        key, value = field.message_type.fields_by_number[1], field.message_type.fields_by_number[2]
        for _ in range(self.random.choice([1, 2, 3, 25])):
            name = self.scalar(key)
            if value.message_type:
                self.message(container[name], depth + 2)
            else:
                container[name] = self.scalar(value)

    def list(self, container, field, depth):
        if field.enum_type is not None and field.enum_type.full_name == "google.protobuf.NullValue":
            return  # Python refuses null in a list
        for _ in range(self.random.choice([1, 2, 5])):
            if field.message_type:
                self.message(container.add(), depth + 2)
            else:
                container.append(self.scalar(field))

    def scalar(self, field):
        choose, kind = self.random.choice, field.cpp_type
        if kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
            bits = 31 if kind == field.CPPTYPE_INT32 else 63
            return choose([0, 1, -1, 2**bits - 1, -(2**bits), self.random.randint(-(2**bits), 2**bits - 1)])
        if kind in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
            bits = 32 if kind == field.CPPTYPE_UINT32 else 64
            return choose([0, 1, 2**bits - 1, self.random.getrandbits(bits), self.random.getrandbits(bits // 2)])
        if kind == field.CPPTYPE_ENUM:
            return choose([value.number for value in field.enum_type.values])
        if kind == field.CPPTYPE_BOOL:
            return choose([False, True])
        if kind == field.CPPTYPE_FLOAT:
            # not the largest float: Python compares its shortest decimal, which is a little more, as a double
            return struct.unpack("<f", struct.pack("<I", choose([0, 0x80000000, 1, 0x7F7FFFFE, 0x7F800000, 0x3DCCCCCD,
                                                                self.random.getrandbits(30)])))[0]
        if kind == field.CPPTYPE_DOUBLE:
            return choose([0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, self.number()])
        if field.type == field.TYPE_BYTES:
            return self.random.randbytes(choose([0, 1, 2, 3, 200]))
        return self.text()

    def number(self):
        value = struct.unpack("<d", self.random.randbytes(8))[0]
        return value if math.isfinite(value) else 1.5

    def text(self):
        alphabet = "aZ09 \"\\/\b\f\n\r\t\x00\x1f\x7f<&é€😀\u2028"
        return "".join(self.random.choices(alphabet, k=self.random.choice([0, 1, 7, 8, 9, 130, 300])))

    def timestamp(self, message, _depth):
        message.seconds = self.random.choice([0, -62135596800, 253402300799, self.random.randint(-(10**10), 10**10)])
        message.nanos = self.random.choice([0, 1, 1000, 1000000, 999999999])

    def duration(self, message, _depth):
        sign = 1 if self.mergeable else self.random.choice([-1, 1])
        message.seconds = sign * self.random.choice([0, 1, 315576000000, self.random.randint(0, 10**9)])
        message.nanos = sign * self.random.choice([0, 1, 1000, 1000000, 999999999])

    def mask(self, message, _depth):
        message.paths.extend(self.random.sample(["a", "foo_bar", "a.b_c", "x1.y2"], self.random.randint(0, 3)))

    def value(self, message, depth):
        kind = self.random.choice(["null", "number", "string", "bool"] + (["struct", "list"] if depth < 5 else []))
        if kind == "null":
            message.null_value = 0
        elif kind == "number":
            message.number_value = self.random.choice([0.0, 1.0, -2.5, self.number()])
        elif kind == "string":
            message.string_value = self.text()
        elif kind == "bool":
            message.bool_value = self.random.choice([False, True])
        elif kind == "struct":
            message.struct_value.SetInParent()
            self.message(message.struct_value, depth + 1)
        else:
            message.list_value.SetInParent()
            self.message(message.list_value, depth + 1)

    def struct(self, message, depth):
        for _ in range(self.random.randint(0, 3)):
            self.value(message.fields[self.text()], depth + 1)

    def values(self, message, depth):
        for _ in range(self.random.randint(0, 3)):
            self.value(message.values.add(), depth + 1)

    def any(self, message, depth):
        if self.mergeable:
            return
        name = self.random.choice([ODD, ORDER, "google.protobuf.Duration", "google.protobuf.Struct",
                                   "google.protobuf.Int64Value"])
        inner = self.message(self.types.make(name), depth + 2)
        message.type_url, message.value = f"type.googleapis.com/{name}", inner.SerializeToString()

    SPECIAL = {
        "google.protobuf.Timestamp": timestamp, "google.protobuf.Duration": duration, "google.protobuf.FieldMask": mask,
        "google.protobuf.Value": value, "google.protobuf.Struct": struct, "google.protobuf.ListValue": values,
        "google.protobuf.Any": any,
    }


def exact(value):
    """Floats by their bits: 0.0 == -0.0."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def plain(types, message):
    """What a message says, whatever the order of its maps; of an Any, what is in it."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Any" and message.type_url:
        inner = types.make(message.type_url.rpartition("/")[2])
        inner.ParseFromString(message.value)
        return message.type_url, plain(types, inner)
    said = {}
    for field, value in message.ListFields():
        one = (lambda item: plain(types, item)) if field.message_type else exact
        if Maker.is_map(field):
            one = (lambda item: plain(types, item)) if field.message_type.fields_by_number[2].message_type else exact
            said[field.name] = {key: one(value[key]) for key in value}
        elif field.label == field.LABEL_REPEATED:
            said[field.name] = [one(item) for item in value]
        else:
            said[field.name] = one(value)
    return said


def same(types, name, wire, message):
    """The wire is this message."""
    back = types.make(name)
    back.ParseFromString(wire)
    return plain(types, back) == plain(types, message)


@pytest.mark.parametrize("name", [ALL, ODD, ORDER])
def test_random_messages_read_the_same_to_python_both_ways(types, testee, name):
    maker = Maker(types, f"{SEED} {name}")
    for number in range(ROUNDS // 3):
        message = maker.message(types.make(name))
        where = f"SEED={SEED}, message {number} of {name}"
        text = testee.to_json(message)
        back = json_format.Parse(text, types.make(name), descriptor_pool=types.pool, max_recursion_depth=200)
        assert plain(types, back) == plain(types, message), f"{where}\n{text}"
        theirs = json_format.MessageToJson(message, descriptor_pool=types.pool)
        assert same(types, name, testee.to_wire(name, theirs), message), f"{where}\n{theirs}"
        assert same(types, name, testee.to_wire(name, text), message), f"{where}\n{text}"


def test_declared_names_and_defaults_are_read(types, testee):
    message = Maker(types, "defaults").message(types.make(ORDER))
    theirs = json_format.MessageToJson(message, including_default_value_fields=True, preserving_proto_field_name=True,
                                       descriptor_pool=types.pool)
    assert same(types, ORDER, testee.to_wire(ORDER, theirs), message)


def test_fields_in_any_order_and_twice_are_read_as_a_parser_would(types, testee):
    # merged Anys would have one's type and another's value, merged durations one's sign and another's nanos
    maker, shuffle = Maker(types, f"{SEED} order", mergeable=True), random.Random(SEED)
    for _ in range(60):
        parts = [maker.message(types.make(ALL)).SerializeToString() for _ in range(shuffle.randint(2, 4))]
        wire = b"".join(parts)
        message = types.make(ALL)
        message.ParseFromString(wire)
        member, text = testee.ask(ALL, JSON, protobuf_payload=wire)
        assert member == "json_payload", text
        back = json_format.Parse(text, types.make(ALL), descriptor_pool=types.pool, max_recursion_depth=200)
        assert plain(types, back) == plain(types, message), base64.b64encode(wire)


@pytest.mark.parametrize("name, output, payload, member", [
    (ALL, JSON, {"jspb_payload": "[]"}, "skipped"),
    (ALL, JSON, {"text_payload": ""}, "skipped"),
    (ALL, TEXT, {"json_payload": "{}"}, "skipped"),
    (ALL, JSPB, {"json_payload": "{}"}, "skipped"),
    ("protobuf_test_messages.proto2.TestAllTypesProto2", JSON, {"json_payload": "{}"}, "skipped"),
    ("conformance.FailureSet", PROTOBUF, {"protobuf_payload": b""}, "protobuf_payload"),
    (ALL, JSON, {"json_payload": "{"}, "parse_error"),
    (ALL, PROTOBUF, {"json_payload": '{"unknown":1}'}, "parse_error"),
    (ALL, JSON, {"protobuf_payload": b"\x08"}, "parse_error"),
    (ALL, JSON, {"protobuf_payload": b"\x72\x01\xff"}, "parse_error"),
    (ALL, JSON, {"protobuf_payload": bytes.fromhex("f212061080 94ebdc03")}, "serialize_error"),
    (ALL, PROTOBUF, {"protobuf_payload": bytes.fromhex("f212061080 94ebdc03")}, "protobuf_payload"),
    (ALL, JSON, {"json_payload": "{}"}, "json_payload"),
])
def test_each_kind_of_request_has_its_kind_of_response(testee, name, output, payload, member):
    assert testee.ask(name, output, **payload)[0] == member


def test_unknown_members_are_ignored_in_their_category_only(testee):
    text = '{"unknown":{"a":[1]},"optionalInt32":7,"optionalNestedEnum":"NOPE"}'
    assert testee.ask(ALL, JSON, json_payload=text)[0] == "parse_error"
    assert testee.ask(ALL, JSON, IGNORE_UNKNOWN, json_payload=text) == ("json_payload", '{"optionalInt32":7}')


def test_binary_keeps_unknown_fields_and_is_in_its_shortest_form(testee):
    wire = bytes.fromhex("0880808000 983f05 08b9e08000 9b3f08019c3f")
    assert testee.ask(ALL, PROTOBUF, protobuf_payload=wire) == (
        "protobuf_payload", bytes.fromhex("08b960 983f05 9b3f08019c3f"))
