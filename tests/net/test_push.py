"""Events from a Redis Stream to open streams (edge.md §3, §4)."""

import time
import uuid

import pytest

import harness
from harness import check_event, edge, publish_event


def subscribe(channel, device, **changes):
    stream = channel.subscribe(device.subscribe_request(**changes))
    stream.first = stream.bootstrap()
    return stream


def test_first_event_is_the_signed_server_time(gateway, channel, device):
    request = device.subscribe_request(trace_id="trace-7")
    stream = channel.subscribe(request)
    event = stream.next()
    check_event(gateway, event)
    assert (event.event_type, event.event_id, event.request_id, event.trace_id) == (
        "gateway.server_time", request.request_id, request.request_id, "trace-7")
    server_time = edge.ServerTime.FromString(event.payload_bytes).server_time_ms
    assert abs(server_time - harness.now_ms()) < harness.PATIENCE * 1000
    assert server_time == event.timestamp_ms


def test_event_published_right_after_the_bootstrap_arrives(gateway, channel, device):
    """Many times over: the moment between the first event and the registration is where one could be lost."""
    for _ in range(30):
        stream = subscribe(channel, device)
        event_id = publish_event(gateway, device.user)
        assert stream.next().event_id == event_id
        stream.cancel()
        stream.end()


def test_event_keeps_its_fields_and_raw_bytes(gateway, channel, device):
    stream = subscribe(channel, device)
    payload = bytes(range(256)) * 10
    publish_event(gateway, device.user, event_type="fleet.moved", event_id="e-1", payload=payload,
                  request_id="r-9", trace_id="t-9")
    event = stream.next()
    check_event(gateway, event)
    assert (event.event_type, event.event_id, event.request_id, event.trace_id, event.payload_bytes) == (
        "fleet.moved", "e-1", "r-9", "t-9", payload)
    assert abs(event.timestamp_ms - harness.now_ms()) < harness.PATIENCE * 1000


def test_times_are_the_gateway_s_own(gateway, channel, device):
    """Not the request's, not the entry's, whatever they say."""
    stream = channel.subscribe(device.subscribe_request(timestamp_ms=harness.now_ms() - 200_000))
    event = stream.next()
    assert abs(edge.ServerTime.FromString(event.payload_bytes).server_time_ms - harness.now_ms()) < harness.PATIENCE * 1000
    assert abs(event.timestamp_ms - harness.now_ms()) < harness.PATIENCE * 1000
    gateway.redis.client.xadd(harness.CLIENT_STREAM, {
        "user_id": device.user, "event_type": "t", "event_id": "e", "payload_bytes": "", "timestamp_ms": "7"}, id="1-1")
    assert abs(stream.next().timestamp_ms - harness.now_ms()) < harness.PATIENCE * 1000


def test_empty_payload_is_an_event(gateway, channel, device):
    stream = subscribe(channel, device)
    publish_event(gateway, device.user, payload=b"")
    event = stream.next()
    check_event(gateway, event)
    assert event.payload_bytes == b""


def test_two_users_do_not_see_each_others_events(gateway, channel):
    ann, bob = harness.Device(gateway), harness.Device(gateway)
    ann_stream, bob_stream = subscribe(channel, ann), subscribe(channel, bob)
    for_ann, for_bob = publish_event(gateway, ann.user), publish_event(gateway, bob.user)
    assert ann_stream.next().event_id == for_ann
    assert bob_stream.next().event_id == for_bob


def test_all_streams_of_a_user_get_the_event(gateway, channel):
    user = f"user-{uuid.uuid4()}"
    streams = [subscribe(channel, harness.Device(gateway, user=user)) for _ in range(4)]
    event_id = publish_event(gateway, user)
    events = [stream.next() for stream in streams]
    assert {event.event_id for event in events} == {event_id}
    assert len({event.signature for event in events}) == 1  # signed once


def test_targeted_event_reaches_only_that_session(gateway, channel):
    user = f"user-{uuid.uuid4()}"
    first, second = harness.Device(gateway, user=user), harness.Device(gateway, user=user)
    first_stream, second_stream = subscribe(channel, first), subscribe(channel, second)
    targeted = publish_event(gateway, user, device_session_id=first.session)
    for_all = publish_event(gateway, user)
    assert [first_stream.next().event_id for _ in range(2)] == [targeted, for_all]
    assert second_stream.next().event_id == for_all


def test_session_of_another_user_does_not_get_a_targeted_event(gateway, channel):
    ann, bob = harness.Device(gateway), harness.Device(gateway)
    stream = subscribe(channel, bob)
    publish_event(gateway, ann.user, device_session_id=bob.session)
    own = publish_event(gateway, bob.user)
    assert stream.next().event_id == own
    assert gateway.metric("gateway_push_events_wrong_user_total") == 1


@pytest.mark.parametrize("spoil", [
    {"user_id": ""}, {"event_type": ""}, {"event_id": ""}, {"event_type": b"\xff\xfe"}, {"event_id": b"\xc3\x28"},
    {"request_id": b"\xff"}, {"trace_id": b"\xff"}, {"user_id": None}, {"event_type": None}, {"event_id": None},
    {"payload_bytes": None}, {"payload_bytes": b"x" * (5 << 20)}])
def test_malformed_client_event_is_dropped_counted_and_logged(gateway, channel, device, spoil):
    stream = subscribe(channel, device)
    fields = {"user_id": device.user, "event_type": "t", "event_id": "bad", "payload_bytes": b"{}"}
    fields.update(spoil)
    gateway.redis.client.xadd(harness.CLIENT_STREAM, {name: value for name, value in fields.items()
                                                      if value is not None})
    good = publish_event(gateway, device.user)
    assert stream.next().event_id == good
    assert gateway.metric('gateway_stream_entries_total{stream="client_events",result="malformed"}') == 1
    assert gateway.metric('gateway_stream_entries_total{stream="client_events",result="ok"}') == 1
    gateway.log("client event is malformed")


@pytest.mark.parametrize("spoil", [
    {"status": "gone"}, {"client_public_key": "x"}, {"user_id": ""}, {"revoked_at_ms": "x"}, {"status": None}])
def test_malformed_session_event_lets_redis_decide(gateway, channel, device, spoil):
    """The snapshot it names is dropped: the record, revoked meanwhile, is read again."""
    channel.execute(device.request())
    device.write_record("revoked")
    fields = device.fields()
    fields.update(spoil)
    gateway.redis.client.xadd(harness.SESSION_STREAM, {name: value for name, value in fields.items()
                                                       if value is not None})
    gateway.log("session event is malformed")
    harness.wait_until(lambda: refused_as_revoked(channel, device), "Redis decides")
    assert gateway.metric('gateway_stream_entries_total{stream="session_events",result="malformed"}') == 1


def test_malformed_session_event_lets_redis_decide_about_open_streams(gateway, channel, device):
    other = harness.Device(gateway)
    stream, kept = subscribe(channel, device), subscribe(channel, other)
    device.write_record("revoked")
    for session in (device, other):
        gateway.redis.client.xadd(harness.SESSION_STREAM, {"device_session_id": session.session, "status": "?"})
    assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
    gateway.wait_metric('gateway_session_rereads_total{result="kept"}', lambda value: value == 1)
    event_id = publish_event(gateway, other.user)
    assert kept.next().event_id == event_id


def refused_as_revoked(channel, device):
    import grpc
    try:
        channel.execute(device.request())
    except grpc.RpcError as error:
        assert (error.code().name, error.details()) == ("FAILED_PRECONDITION", "device session is revoked")
        return True
    return False


def test_revoke_ends_open_streams_and_refuses_what_follows(gateway, channel, device):
    other = harness.Device(gateway, user=device.user)
    streams = [subscribe(channel, device) for _ in range(3)]
    survivor = subscribe(channel, other)
    device.revoke()
    for stream in streams:
        assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
    assert channel.refused(device.request()) == ("FAILED_PRECONDITION", "device session is revoked")
    assert channel.subscribe(device.subscribe_request()).end() == (
        "FAILED_PRECONDITION", "device session is revoked")
    event_id = publish_event(gateway, device.user)
    assert survivor.next().event_id == event_id


def test_revocation_reaches_every_worker(gateway):
    """One connection per call, until both workers have the session in their caches."""
    device = harness.Device(gateway)
    channels = []

    def both_have_it():
        channels.append(harness.Channel(gateway.grpc))
        channels[-1].execute(device.request())
        return gateway.metric('gateway_session_cache_lookups_total{result="redis_found"}') == 2
    harness.wait_until(both_have_it, "a connection on each worker")
    device.publish_session_event("revoked")  # the record is left: only who hears the event knows
    gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 1)
    for channel in channels:
        harness.wait_until(lambda channel=channel: refused_as_revoked(channel, device), "its worker knows")
        channel.close()


def test_last_snapshot_wins(gateway, channel, device):
    device.publish_session_event("revoked")
    harness.wait_until(lambda: refused_as_revoked(channel, device), "the revocation is seen")
    device.publish_session_event("active")
    gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 2)

    def executed():
        import grpc
        try:
            return channel.execute(device.request()).result_code == "ok"
        except grpc.RpcError:
            return False
    harness.wait_until(executed, "the active snapshot is taken over")


def test_snapshot_of_another_user_ends_the_streams(gateway, channel, device):
    stream = subscribe(channel, device)
    device.user = "somebody-else"
    device.publish_session_event("active")
    assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")


def test_session_event_for_an_unknown_session_is_a_snapshot(gateway, channel):
    device = harness.Device(gateway, publish=False)
    assert channel.refused(device.request())[0] == "UNAUTHENTICATED"
    device.publish_session_event("active")

    def executed():
        import grpc
        try:
            return channel.execute(device.request()).result_code == "ok"
        except grpc.RpcError as error:
            assert error.code().name == "UNAUTHENTICATED"
            return False
    harness.wait_until(executed, "the snapshot replaces the negative entry")


def test_too_many_streams_of_one_session_are_refused(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUSH_MAX_STREAMS_PER_SESSION": 2}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        first, second = subscribe(channel, device), subscribe(channel, device)
        assert channel.subscribe(device.subscribe_request()).end() == ("RESOURCE_EXHAUSTED", "too many open streams")
        first.cancel()
        first.end()
        gateway.wait_metric("gateway_push_streams_open", lambda value: value == 1)
        third = subscribe(channel, device)
        event_id = publish_event(gateway, device.user)
        assert second.next().event_id == third.next().event_id == event_id
        channel.close()


def test_eight_streams_of_a_session_over_all_workers_by_default(gateway, device):
    channels = [harness.Channel(gateway.grpc) for _ in range(12)]
    streams = [channel.subscribe(device.subscribe_request()) for channel in channels]
    first = [stream.events.get(timeout=harness.PATIENCE) for stream in streams]
    assert first.count(("RESOURCE_EXHAUSTED", "too many open streams")) == 4
    assert gateway.metric("gateway_push_streams_open") == 8
    other = harness.Device(gateway, user=device.user)  # of the same user, but another session
    subscribe(channels[0], other)
    for channel in channels:
        channel.close()


def test_cancelled_stream_leaves_the_hub(gateway, channel, device):
    stream = subscribe(channel, device)
    assert gateway.metric("gateway_push_streams_open") == 1
    stream.cancel()
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)
    assert gateway.metric('gateway_push_streams_ended_total{reason="client"}') == 1


def test_streams_of_a_lost_connection_leave_the_hub(gateway, device):
    channel = harness.Channel(gateway.grpc)
    for _ in range(3):
        subscribe(channel, device)
    channel.close()
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)


def test_streams_on_both_workers_get_events_in_order(gateway):
    """One connection per stream, until both workers have some."""
    user = f"user-{uuid.uuid4()}"
    channels, streams = [], []

    def both_have_some():
        channels.append(harness.Channel(gateway.grpc))
        streams.append(subscribe(channels[-1], harness.Device(gateway, user=user)))
        return all(harness.streams_of_workers(gateway))
    harness.wait_until(both_have_some, "a stream on each worker")
    published = [publish_event(gateway, user, payload=str(number).encode()) for number in range(100)]
    for stream in streams:
        assert [stream.next().event_id for _ in published] == published
    for channel in channels:
        channel.close()


def test_nothing_is_copied_on_the_way(gateway, channel, device):
    stream = subscribe(channel, device)
    for size in (1, 100, 10_000, 1_000_000):
        publish_event(gateway, device.user, payload=b"x" * size)
        assert len(stream.next().payload_bytes) == size
    metrics = gateway.metrics()
    assert metrics["gateway_push_copied_bytes_total"] == 0
    assert metrics["gateway_push_deliveries_total"] == 5
    assert metrics["gateway_push_delivered_bytes_total"] > 1_010_101


def test_slow_subscriber_overflows_alone(folder, redis_server):
    """A raw client that never opens its window; beside it a reader that must get everything."""
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY": 64}) as gateway:
        from raw_h2 import RawClient
        user = f"user-{uuid.uuid4()}"
        slow_device, quick_device = harness.Device(gateway, user=user), harness.Device(gateway, user=user)
        quick_channel = harness.Channel(gateway.grpc)
        slow = RawClient(gateway.grpc, initial_window=2048)
        slow_stream = slow.call(harness.SUBSCRIBE, slow_device.subscribe_request().SerializeToString())
        quick = subscribe(quick_channel, quick_device)
        gateway.wait_metric("gateway_push_streams_open", lambda value: value == 2)
        published = []
        for _ in range(400):
            published.append(publish_event(gateway, user, payload=b"x" * 500))
        assert [quick.next().event_id for _ in published] == published
        gateway.wait_metric("gateway_push_streams_open", lambda value: value == 1)
        assert gateway.metric('gateway_push_streams_ended_total{reason="overflowed"}') == 1
        slow.open_windows()
        messages, trailers = slow.read_to_end(slow_stream)
        assert trailers["grpc-status"] == "8"
        assert trailers["grpc-message"] == "push stream overflowed"
        # what was begun is whole, and in order from the first on
        events = [edge.GatewayEvent.FromString(message) for message in messages]
        assert events[0].event_type == "gateway.server_time"
        got = [event.event_id for event in events[1:]]
        assert got == published[:len(got)] and len(got) < len(published)
        slow.close()
        quick_channel.close()


def test_burst_larger_than_the_queue_does_not_overflow_a_reading_stream(folder, redis_server):
    """Capacity 8, 1,000 events at once: fences keep a busy worker from looking like a slow stream."""
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY": 8}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        stream = subscribe(channel, device)
        pipe = gateway.redis.client.pipeline(transaction=False)
        for number in range(1000):
            pipe.xadd(harness.CLIENT_STREAM, {"user_id": device.user, "event_type": "burst", "event_id": str(number),
                                              "payload_bytes": b"y" * 20})
        pipe.execute()
        assert [stream.next().event_id for _ in range(1000)] == [str(number) for number in range(1000)]
        channel.close()


def test_heartbeat_breaks_the_silence(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUSH_HEARTBEAT_INTERVAL": "100ms"}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        stream = subscribe(channel, device)
        for _ in range(3):
            event = stream.next()
            assert event == edge.GatewayEvent(event_type="gateway.heartbeat")
        channel.close()


def test_no_heartbeat_among_events(folder, redis_server):
    """It is for silence: a second with an event every few milliseconds has none."""
    interval = 0.3
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUSH_HEARTBEAT_INTERVAL": f"{interval * 1000:.0f}ms"}) as gateway:
        device, channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        stream = subscribe(channel, device)
        began = before = time.monotonic()
        longest, kinds = 0.0, []
        while before < began + 4 * interval:
            publish_event(gateway, device.user)
            kinds.append(stream.next().event_type)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        channel.close()
        if longest >= interval / 2:
            pytest.skip("this machine is so busy that it made the silence itself")
        assert set(kinds) == {"test.event"}
