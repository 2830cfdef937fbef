"""Every row of the pipeline table (edge.md §2.2) with its status and text."""

import hashlib
import json
import uuid

import grpc
import pytest

import harness
from harness import check_response, now_ms


def test_command_is_executed_and_the_answer_is_signed(gateway, channel, device):
    request = device.request(payload=b"\x00\xff hello")
    response = channel.execute(request)
    assert response.result_code == "ok"
    assert response.payload_bytes == b"\x00\xff hello"
    assert abs(response.timestamp_ms - now_ms()) < harness.PATIENCE * 1000
    check_response(gateway, request, response)


def test_empty_payload_and_trace_id_are_executed(gateway, channel, device):
    request = device.request(payload=b"", trace_id="")
    check_response(gateway, request, channel.execute(request))


@pytest.mark.parametrize("field, empty", [
    ("protocol_version", ""), ("device_session_id", ""), ("message_type", ""), ("timestamp_ms", 0),
    ("request_id", ""), ("payload_hash", b""), ("signature", b"")])
def test_empty_field_is_named(channel, device, field, empty):
    assert channel.refused(device.request(**{field: empty})) == ("INVALID_ARGUMENT", f"{field} must not be empty")


@pytest.mark.parametrize("field, value", [
    ("device_session_id", "s" * 129), ("device_session_id", "a\tb"), ("device_session_id", "a\u00e9"),
    ("device_session_id", "a\0b"), ("message_type", "m" * 129), ("message_type", "a\nb"), ("request_id", "r" * 129),
    ("request_id", "a\x7f"), ("trace_id", "t" * 129), ("trace_id", "a\0"), ("timestamp_ms", -1),
    ("protocol_version", "v\0001")])
def test_invalid_field_is_named(channel, device, field, value):
    assert channel.refused(device.request(**{field: value})) == ("INVALID_ARGUMENT", f"{field} is invalid")


def test_fields_of_128_bytes_are_valid(gateway, channel):
    device = harness.Device(gateway, session="s" * 128)
    request = device.request(message_type="test." + "m" * 123, request_id="r" * 128, trace_id="t" * 128)
    check_response(gateway, request, channel.execute(request))


@pytest.mark.parametrize("number, field", [(1, "protocol_version"), (2, "device_session_id"), (9, "trace_id")])
def test_invalid_utf8_is_refused_on_the_wire_bytes(gateway, channel, device, number, field):
    """python's protobuf would not send it: the bytes are made by hand."""
    good = device.request(**{field: ""}) if field != "trace_id" else device.request(trace_id="")
    raw = good.SerializeToString() + bytes([number << 3 | 2, 2, 0xC3, 0x28])
    call = channel.channel.unary_unary(harness.EXECUTE, request_serializer=lambda data: data)
    with pytest.raises(grpc.RpcError) as refusal:
        call(raw, timeout=harness.PATIENCE)
    assert (refusal.value.code().name, refusal.value.details()) == ("INVALID_ARGUMENT", f"{field} is invalid")


def test_message_that_is_no_protobuf_is_refused(channel):
    call = channel.channel.unary_unary(harness.EXECUTE, request_serializer=lambda data: data)
    with pytest.raises(grpc.RpcError) as refusal:
        call(b"\xff\xff\xff", timeout=harness.PATIENCE)
    assert refusal.value.code().name == "INVALID_ARGUMENT"


def test_protocol_version_must_be_v1(channel, device):
    assert channel.refused(device.request(protocol_version="v2")) == (
        "FAILED_PRECONDITION", "unsupported protocol_version")


def test_unknown_session_is_refused(gateway, channel):
    device = harness.Device(gateway, publish=False)
    assert channel.refused(device.request()) == ("UNAUTHENTICATED", "unknown device session")


@pytest.mark.parametrize("record", [
    "no json", "[]", "{}", '{"device_session_id":1}', "\xff"])
def test_record_that_cannot_be_decoded_is_unavailable(gateway, channel, record):
    device = harness.Device(gateway, publish=False)
    gateway.redis.client.set("gateway:session:" + device.session, record.encode("latin-1"))
    assert channel.refused(device.request()) == ("UNAVAILABLE", "session cache is unavailable")


@pytest.mark.parametrize("change", [
    {"device_session_id": "another"}, {"status": "unknown"}, {"status": ""}, {"user_id": ""},
    {"client_public_key": "AAAA"}, {"client_public_key": "!" * 44}, {"revoked_at_ms": "soon"}, {"user_id": 7}])
def test_malformed_record_is_unavailable_and_logged_without_its_contents(gateway, channel, change):
    device = harness.Device(gateway)
    record = device.fields()
    record.update(change)
    gateway.redis.client.set("gateway:session:" + device.session, json.dumps(record))
    assert channel.refused(device.request()) == ("UNAVAILABLE", "session cache is unavailable")
    gateway.log("session record is malformed")
    assert record["client_public_key"] not in gateway.process.err.text()


def test_record_with_unknown_members_is_fine(gateway, channel, device):
    device.write_record(extra={"nested": [1]}, revoked_at_ms="17")
    request = device.request()
    check_response(gateway, request, channel.execute(request))


def test_record_of_the_wrong_type_is_unavailable(gateway, channel):
    device = harness.Device(gateway, publish=False)
    gateway.redis.client.rpush("gateway:session:" + device.session, "x")
    assert channel.refused(device.request()) == ("UNAVAILABLE", "session cache is unavailable")


def test_revoked_session_is_refused(gateway, channel, device):
    device.write_record("revoked", revoked_at_ms=now_ms())
    assert channel.refused(device.request()) == ("FAILED_PRECONDITION", "device session is revoked")


@pytest.mark.parametrize("digest", [b"short", b"x" * 31, b"x" * 33])
def test_hash_must_have_32_bytes(channel, device, digest):
    assert channel.refused(device.request(payload_hash=digest)) == (
        "INVALID_ARGUMENT", "payload_hash must be a 32-byte SHA-256 digest")


def test_hash_must_match_the_payload(channel, device):
    request = device.request(payload_hash=hashlib.sha256(b"other").digest())
    assert channel.refused(request) == ("INVALID_ARGUMENT", "payload_hash does not match payload_bytes")


@pytest.mark.parametrize("spoil", [
    lambda signature: signature[:-1],
    lambda signature: signature + b"\0",
    lambda signature: bytes([signature[0] ^ 1]) + signature[1:],
    lambda signature: signature[:32] + (int.from_bytes(signature[32:], "little") + 2**252 +
                                        27742317777372353535851937790883648493).to_bytes(32, "little")])
def test_spoiled_signature_is_refused(channel, device, spoil):
    request = device.request()
    request.signature = spoil(request.signature)
    assert channel.refused(request) == ("UNAUTHENTICATED", "invalid request signature")


@pytest.mark.parametrize("change", [
    {"message_type": "test.other"}, {"request_id": "other"}, {"timestamp_ms": 1}])
def test_every_signed_field_is_under_the_signature(channel, device, change):
    request = device.request()
    for name, value in change.items():
        setattr(request, name, value)
    assert channel.refused(request) == ("UNAUTHENTICATED", "invalid request signature")


def test_trace_id_is_not_signed(gateway, channel, device):
    request = device.request()
    request.trace_id = "changed on the way"
    check_response(gateway, request, channel.execute(request))


@pytest.mark.parametrize("away_ms", [-310_000, 310_000])
def test_stale_or_early_timestamp_is_refused(channel, device, away_ms):
    assert channel.refused(device.request(timestamp_ms=now_ms() + away_ms)) == (
        "FAILED_PRECONDITION", "request timestamp is outside the freshness window")


@pytest.mark.parametrize("away_ms", [-290_000, 290_000])
def test_timestamp_within_the_window_is_fine(gateway, channel, device, away_ms):
    request = device.request(timestamp_ms=now_ms() + away_ms)
    response = channel.execute(request)
    check_response(gateway, request, response)
    assert abs(response.timestamp_ms - now_ms()) < harness.PATIENCE * 1000  # the gateway's time, not the request's


def test_replay_is_refused(gateway, channel, device):
    request = device.request()
    check_response(gateway, request, channel.execute(request))
    assert channel.refused(request) == ("FAILED_PRECONDITION", "request replay detected")


def test_refused_request_has_spent_its_request_id(channel, device):
    request = device.request(message_type="unrouted")
    assert channel.refused(request) == ("UNIMPLEMENTED", "message_type is not routed")
    assert channel.refused(request) == ("FAILED_PRECONDITION", "request replay detected")


def test_same_request_id_in_another_session_is_no_replay(gateway, channel):
    request_id = str(uuid.uuid4())
    for _ in range(2):
        device = harness.Device(gateway)
        request = device.request(request_id=request_id)
        check_response(gateway, request, channel.execute(request))


def test_replay_key_is_unambiguous_and_expires(gateway, channel):
    first, second = harness.Device(gateway, session="a:b"), harness.Device(gateway, session="a")
    channel.execute(first.request(request_id="c"))
    channel.execute(second.request(request_id="b:c"))
    keys = sorted(gateway.redis.client.keys("gateway:replay:*"))
    assert keys == [b"gateway:replay:1:a:b:c", b"gateway:replay:3:a:b:c"]
    ttl = gateway.redis.client.pttl(keys[0])
    assert 295_000 < ttl <= 301_000


def test_unrouted_message_type_is_unimplemented(channel, device):
    assert channel.refused(device.request(message_type="nobody.home")) == (
        "UNIMPLEMENTED", "message_type is not routed")


def test_subscribe_passes_the_same_pipeline(gateway, channel, device):
    rows = [
        (device.subscribe_request(request_id=""), ("INVALID_ARGUMENT", "request_id must not be empty")),
        (device.subscribe_request(protocol_version="v9"), ("FAILED_PRECONDITION", "unsupported protocol_version")),
        (device.subscribe_request(payload_hash=b"x"),
         ("INVALID_ARGUMENT", "payload_hash must be a 32-byte SHA-256 digest")),
        (device.subscribe_request(signature=b"x" * 64), ("UNAUTHENTICATED", "invalid request signature")),
        (device.subscribe_request(timestamp_ms=now_ms() - 400_000),
         ("FAILED_PRECONDITION", "request timestamp is outside the freshness window")),
        (harness.Device(gateway, publish=False).subscribe_request(), ("UNAUTHENTICATED", "unknown device session")),
    ]
    for request, wanted in rows:
        assert channel.subscribe(request).end() == wanted
    request = device.subscribe_request()
    channel.subscribe(request).bootstrap()
    assert channel.subscribe(request).end() == ("FAILED_PRECONDITION", "request replay detected")


BUDGETS = "GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_"


def test_first_fault_in_the_order_of_the_table_is_told(folder, redis_server):
    """A request with every fault at once; one after the other is mended."""
    with harness.Gateway(folder, redis_server, env={
            f"{BUDGETS}SESSION_REQUESTS": 1, f"{BUDGETS}SESSION_WINDOW": "1h", f"{BUDGETS}SESSION_BURST": 1}) as gateway:
        channel = harness.Channel(gateway.grpc)
        unknown, revoked = harness.Device(gateway, publish=False), harness.Device(gateway)
        revoked.write_record("revoked")
        device, other = harness.Device(gateway), harness.Device(gateway)
        spent = device.request("no.route")
        assert channel.refused(spent) == ("UNIMPLEMENTED", "message_type is not routed")
        faults = {"message_type": "no.route", "request_id": "", "protocol_version": "v2", "payload_hash": b"short",
                  "signature": b"x" * 64, "timestamp_ms": 1}

        def told(device, **mended):
            faults.update(mended)
            fields = {name: value for name, value in faults.items() if value is not None}
            return channel.refused(device.request(**fields))

        assert told(unknown) == ("INVALID_ARGUMENT", "request_id must not be empty")
        assert told(unknown, request_id=spent.request_id) == ("FAILED_PRECONDITION", "unsupported protocol_version")
        assert told(unknown, protocol_version="v1") == ("UNAUTHENTICATED", "unknown device session")
        assert told(revoked) == ("FAILED_PRECONDITION", "device session is revoked")
        assert told(device) == ("INVALID_ARGUMENT", "payload_hash must be a 32-byte SHA-256 digest")
        assert told(device, payload_hash=b"x" * 32) == ("INVALID_ARGUMENT", "payload_hash does not match payload_bytes")
        assert told(device, payload_hash=None) == ("UNAUTHENTICATED", "invalid request signature")
        assert told(device, signature=None) == (
            "FAILED_PRECONDITION", "request timestamp is outside the freshness window")
        assert told(device, timestamp_ms=None) == ("FAILED_PRECONDITION", "request replay detected")
        fresh = device.request("no.route")
        limited = ("RESOURCE_EXHAUSTED", "authenticated request rate limit exceeded")
        assert channel.refused(fresh) == limited
        # what was refused for its budget has spent its id
        assert channel.refused(fresh) == ("FAILED_PRECONDITION", "request replay detected")
        assert told(other, request_id=None) == ("UNIMPLEMENTED", "message_type is not routed")
        channel.close()


def test_unknown_sessions_cannot_be_used_to_load_redis(folder, redis_server):
    """The peer's budget is charged once, before the look-up."""
    with harness.Gateway(folder, redis_server, env={
            f"{BUDGETS}IP_REQUESTS": 1, f"{BUDGETS}IP_WINDOW": "1h", f"{BUDGETS}IP_BURST": 3}) as gateway:
        channel = harness.Channel(gateway.grpc)
        told = [channel.refused(harness.Device(gateway, publish=False).request()) for _ in range(8)]
        assert told == [("UNAUTHENTICATED", "unknown device session")] * 3 + [
            ("RESOURCE_EXHAUSTED", "authenticated request rate limit exceeded")] * 5
        assert redis_server.client.info("commandstats")["cmdstat_get"]["calls"] == 3
        channel.close()


def test_unix_peers_have_no_peer_budget(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_AUTHENTICATED_GRPC_ADDR": f"unix:{folder}/grpc.sock",
            f"{BUDGETS}IP_REQUESTS": 1, f"{BUDGETS}IP_WINDOW": "1h", f"{BUDGETS}IP_BURST": 1}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(f"unix:{folder}/grpc.sock")
        for _ in range(5):
            assert channel.refused(device.request()) == ("UNIMPLEMENTED", "message_type is not routed")
        channel.close()


def test_subscribe_takes_any_message_type_and_ignores_its_payload(gateway, channel, device):
    stream = channel.subscribe(device.subscribe_request(message_type="any.valid-one", payload=b"looked at, and dropped"))
    assert stream.next().event_type == "gateway.server_time"
    spoiled = device.subscribe_request(message_type="any.valid-one", payload=b"x", payload_hash=b"h" * 32)
    assert channel.subscribe(spoiled).end() == ("INVALID_ARGUMENT", "payload_hash does not match payload_bytes")


@pytest.mark.parametrize("budget", ["IP", "SESSION", "USER", "MESSAGE_TYPE"])
def test_streams_draw_on_the_same_budgets(folder, redis_server, budget):
    with harness.Gateway(folder, redis_server, env={
            f"{BUDGETS}{budget}_REQUESTS": 1, f"{BUDGETS}{budget}_WINDOW": "1h", f"{BUDGETS}{budget}_BURST": 2}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        assert channel.refused(device.request("gateway.subscribe")) == ("UNIMPLEMENTED", "message_type is not routed")
        channel.subscribe(device.subscribe_request()).bootstrap()
        assert channel.subscribe(device.subscribe_request()).end() == (
            "RESOURCE_EXHAUSTED", "authenticated request rate limit exceeded")
        channel.close()


@pytest.mark.parametrize("budget", ["IP", "SESSION", "USER", "MESSAGE_TYPE"])
def test_exhausted_budget_is_refused_with_the_time_to_wait(folder, redis_server, budget):
    with harness.Gateway(folder, redis_server, env={
        f"{BUDGETS}{budget}_REQUESTS": 1, f"{BUDGETS}{budget}_WINDOW": "1h", f"{BUDGETS}{budget}_BURST": 3}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        for _ in range(3):
            assert channel.refused(device.request()) == ("UNIMPLEMENTED", "message_type is not routed")
        with pytest.raises(grpc.RpcError) as refusal:
            channel.execute(device.request())
        assert refusal.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.value.details() == "authenticated request rate limit exceeded"
        trailers = dict(refusal.value.trailing_metadata())
        assert 3_500_000 < int(trailers["retry-after-ms"]) <= 3_600_000
        assert gateway.metric('gateway_pipeline_refusals_total{step="budget"}') == 1
        channel.close()


# what has spent the budget is ("a", "one", "x.1"): who shares it, and who does not
SHARERS = {
    "IP": ([("b", "two", "x.2")], []),
    "SESSION": ([("a", "one", "x.2")], [("a2", "one", "x.1")]),
    "USER": ([("a", "one", "x.2"), ("a2", "one", "x.1")], [("b", "two", "x.1")]),
    "MESSAGE_TYPE": ([("a", "one", "x.1"), ("b", "two", "x.1")], [("a", "one", "x.2"), ("a", "one", "x.10")]),
}


@pytest.mark.parametrize("budget", SHARERS)
def test_each_budget_is_of_its_own_kind(folder, redis_server, budget):
    """By session, by user whatever the session, by message type whoever asks; over both workers."""
    with harness.Gateway(folder, redis_server, env={
            f"{BUDGETS}{budget}_REQUESTS": 1, f"{BUDGETS}{budget}_WINDOW": "1h", f"{BUDGETS}{budget}_BURST": 1}) as gateway:
        devices = {}

        def told(session, user, message_type):
            if session not in devices:
                devices[session] = harness.Device(gateway, session=session, user=user)
            with harness.Channel(gateway.grpc) as channel:
                return channel.refused(devices[session].request(message_type))[0]

        assert told("a", "one", "x.1") == "UNIMPLEMENTED"
        sharing, others = SHARERS[budget]
        for who in sharing * 4:
            assert told(*who) == "RESOURCE_EXHAUSTED", who
        for who in others:
            assert told(*who) == "UNIMPLEMENTED", who


def test_replays_do_not_spend_the_session_budget(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={
        f"{BUDGETS}SESSION_REQUESTS": 1, f"{BUDGETS}SESSION_WINDOW": "1h", f"{BUDGETS}SESSION_BURST": 2}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        request = device.request()
        assert channel.refused(request)[0] == "UNIMPLEMENTED"
        for _ in range(5):
            assert channel.refused(request) == ("FAILED_PRECONDITION", "request replay detected")
        assert channel.refused(device.request())[0] == "UNIMPLEMENTED"
        assert channel.refused(device.request())[0] == "RESOURCE_EXHAUSTED"
        channel.close()


def test_session_cache_answers_the_second_time(gateway, channel, device):
    for _ in range(3):
        channel.execute(device.request())
    metrics = gateway.metrics()
    assert metrics['gateway_session_cache_lookups_total{result="redis_found"}'] == 1
    assert metrics['gateway_session_cache_lookups_total{result="hit"}'] == 2


def test_refusals_are_counted_by_step(gateway, channel, device):
    channel.refused(device.request(signature=b"x"))
    channel.refused(device.request(protocol_version="v0"))
    metrics = gateway.metrics()
    assert metrics['gateway_pipeline_refusals_total{step="signature"}'] == 1
    assert metrics['gateway_pipeline_refusals_total{step="protocol_version"}'] == 1
    assert metrics['gateway_grpc_calls_total{method="/galaxy.gateway.v1.EdgeGateway/ExecuteCommand",code="UNAUTHENTICATED"}'] == 1


# ---- downstream ----

@pytest.mark.parametrize("status, name, message", [
    (3, "INVALID_ARGUMENT", None), (5, "NOT_FOUND", None), (6, "ALREADY_EXISTS", None),
    (7, "PERMISSION_DENIED", None), (9, "FAILED_PRECONDITION", None), (11, "OUT_OF_RANGE", None),
    (8, "RESOURCE_EXHAUSTED", None), (1, "CANCELLED", "downstream service failed"),
    (2, "UNKNOWN", "downstream service failed"), (10, "ABORTED", "downstream service failed"),
    (12, "UNIMPLEMENTED", "downstream service failed"), (13, "INTERNAL", "downstream service failed"),
    (15, "DATA_LOSS", "downstream service failed"), (16, "UNAUTHENTICATED", "downstream service failed"),
    (4, "DEADLINE_EXCEEDED", "downstream service failed"), (14, "UNAVAILABLE", "downstream service failed")])
def test_downstream_status_is_passed_on(channel, device, status, name, message):
    """The message too for client-safe codes; the handler's is "chosen by the caller"."""
    assert channel.refused(device.request(message_type=f"echo.status.{status}")) == (
        name, message or "chosen by the caller")


def test_downstream_that_does_not_answer_times_out(folder, redis_server, echo):
    config = f"""
upstreams:
  slow: {{ addresses: ["{echo.address}"], deadline: 300ms }}
commands:
  - {{ message_type: "echo.*", upstream: slow }}
"""
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        assert channel.refused(device.request(message_type="echo.hang")) == (
            "DEADLINE_EXCEEDED", "downstream service timed out")
        channel.close()


def test_downstream_that_is_not_there_is_unavailable(folder, redis_server):
    config = f"""
upstreams:
  gone: {{ addresses: ["unix:{folder}/nobody.sock"], deadline: 1s }}
commands:
  - {{ message_type: "*", upstream: gone }}
"""
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        assert channel.refused(device.request()) == ("UNAVAILABLE", "downstream service is unavailable")
        channel.close()


def test_many_commands_at_once_are_all_answered(gateway, channel):
    devices = [harness.Device(gateway) for _ in range(8)]
    requests = [device.request(payload=bytes([number % 256]) * (number * 37 % 5000))
                for device in devices for number in range(100)]
    calls = [(request, channel.execute_future(request)) for request in requests]
    for request, call in calls:
        response = call.result(timeout=harness.PATIENCE)
        assert response.payload_bytes == request.payload_bytes
        check_response(gateway, request, response)


def test_large_payload_passes_whole(gateway, channel, device):
    payload = bytes(range(256)) * 8192  # 2 MiB
    request = device.request(payload=payload)
    response = channel.execute(request)
    assert response.payload_bytes == payload
    check_response(gateway, request, response)
