"""Redis lost, late, wrong; and what clients see meanwhile (edge.md §3)."""


import grpc
import pytest

import harness
from harness import publish_event


def wait_connected(gateway, count=1):
    """Both tails and every worker's client: the gauges are summed over workers."""
    for role, connections in (("session", 3), ("session_events", 1), ("client_events", 1)):
        gateway.wait_metric(f'gateway_redis_connected{{role="{role}"}}', lambda value: value == connections)


@pytest.fixture
def kept_redis(folder):
    """A Redis that keeps its data over a restart."""
    server = harness.Redis(folder, data=True)
    yield server
    server.stop()


def test_nothing_published_after_a_redis_restart_is_lost(folder, kept_redis, echo):
    from conftest import ECHO_CONFIG
    with harness.Gateway(folder, kept_redis, config=ECHO_CONFIG.format(address=echo.address)) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            device = harness.Device(gateway)
            assert channel.outcome(device.request()) == "OK"
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            before = publish_event(gateway, device.user)
            assert stream.next().event_id == before
            for _ in range(2):
                gateway.redis.kill()
                assert channel.outcome(device.request()) == ("UNAVAILABLE", "replay store is unavailable")
                stranger = harness.Device(gateway, publish=False)
                assert channel.outcome(stranger.request()) == ("UNAVAILABLE", "session cache is unavailable")
                gateway.redis.restart()
                published = [publish_event(gateway, device.user) for _ in range(300)]
                assert [stream.next().event_id for _ in published] == published
                harness.wait_until(lambda: channel.outcome(device.request()) == "OK", "commands work again")
            assert gateway.metric('gateway_redis_reconnects_total{role="client_events"}') >= 2


def test_open_streams_survive_a_redis_that_comes_back_empty(gateway, channel, device):
    """Recreated streams are read from their beginning."""
    stream = channel.subscribe(device.subscribe_request())
    stream.bootstrap()
    publish_event(gateway, device.user)
    stream.next()
    for round_number in (1, 2):
        gateway.redis.kill()
        gateway.redis.restart()
        # with no key there, or ids that begin anew: recreated
        gateway.wait_metric('gateway_stream_gap_causes_total{stream="client_events",cause="recreated"}',
                            lambda value: value == round_number)
        published = [publish_event(gateway, device.user) for _ in range(10)]
        assert [stream.next().event_id for _ in published] == published


def test_revocation_that_was_lost_with_the_stream_is_found_by_reading_again(gateway, channel):
    """Session events vanish with Redis's data: the records of open streams are read again."""
    kept, revoked, missing = (harness.Device(gateway) for _ in range(3))
    first = harness.Device(gateway)
    first.publish_session_event()
    gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 1)
    streams = {}
    for device in (kept, revoked, missing):
        streams[device] = channel.subscribe(device.subscribe_request())
        streams[device].bootstrap()
    gateway.redis.kill()
    gateway.redis.restart()
    kept.write_record()
    revoked.write_record("revoked")
    assert streams[revoked].end() == ("FAILED_PRECONDITION", "device session is revoked")
    for device in (kept, missing):
        event_id = publish_event(gateway, device.user)
        assert streams[device].next().event_id == event_id
    gateway.wait_metric('gateway_session_rereads_total{result="unanswered"}', lambda value: value >= 1)
    missing.write_record("revoked")
    assert streams[missing].end() == ("FAILED_PRECONDITION", "device session is revoked")


def lose_session_events(gateway):
    """Redis comes back empty after session events were read; the gateway has noticed when the gap is counted."""
    gateway.redis.kill()
    gateway.redis.restart()


def test_snapshots_are_forgotten_when_session_events_were_lost(gateway, channel, device):
    """Of sessions without a stream too: what happened to them meanwhile is heard from Redis alone."""
    device.publish_session_event()
    gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 1)
    assert channel.outcome(device.request()) == "OK"
    lose_session_events(gateway)
    device.write_record("revoked")
    gateway.wait_metric('gateway_stream_gaps_total{stream="session_events"}', lambda value: value == 1)
    harness.wait_until(lambda: channel.outcome(device.request()) == ("FAILED_PRECONDITION", "device session is revoked"),
                       "the record is read again")


def test_revocation_whose_event_was_lost_is_not_undone_by_the_events_that_are_read_again(gateway, channel, device):
    """A replica takes over that has the record, and of the stream all but its last entry."""
    handled = 'gateway_stream_entries_total{stream="session_events",result="ok"}'
    device.publish_session_event()
    gateway.wait_metric(handled, lambda value: value == 1)
    assert channel.outcome(device.request()) == "OK"
    device.revoke()
    gateway.wait_metric(handled, lambda value: value == 2)
    revoked = ("FAILED_PRECONDITION", "device session is revoked")
    assert channel.outcome(device.request()) == revoked
    redis = gateway.redis.client
    (first, fields), _ = redis.xrange(harness.SESSION_STREAM)
    with redis.pipeline() as pipe:
        pipe.delete(harness.SESSION_STREAM)
        pipe.xadd(harness.SESSION_STREAM, fields, id=first)
        pipe.execute()
    redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    gateway.wait_metric(handled, lambda value: value == 3)
    wait_connected(gateway)
    assert channel.outcome(device.request()) == revoked


def test_session_that_belongs_to_another_user_after_a_loss_ends_its_stream(gateway, channel, device):
    device.publish_session_event()
    gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 1)
    stream = channel.subscribe(device.subscribe_request())
    stream.bootstrap()
    lose_session_events(gateway)
    device.user = "somebody-else"
    device.write_record()
    assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")


def test_records_are_read_again_no_faster_than_a_thousand_a_second(gateway):
    """By Redis's own clock, from when the loss can be known to the last of these GETs."""
    first = harness.Device(gateway)
    first.publish_session_event()
    gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}', lambda value: value == 1)
    devices = [harness.Device(gateway) for _ in range(300)]
    channels = [harness.Channel(gateway.grpc) for _ in range(4)]
    streams = [channels[number % 4].subscribe(device.subscribe_request()) for number, device in enumerate(devices)]
    for stream in streams:
        stream.bootstrap()
    with gateway.redis.client.monitor() as monitor:
        gateway.redis.client.delete(harness.SESSION_STREAM)  # no stream by that name is a loss, noticed on a new connection
        for entry in gateway.redis.client.client_list():
            if entry["cmd"] == "xread":
                gateway.redis.client.client_kill_filter(_id=entry["id"])
        # not from the first of them: a Redis that stands still a moment takes some together that were sent one by one
        times, asked = {}, None
        wanted = {f"GET gateway:session:{device.session}" for device in devices}
        while len(times) < len(wanted):
            told = monitor.next_command()
            if told["command"] in wanted:
                times.setdefault(told["command"], told["time"])
            elif not times and harness.SESSION_STREAM in told["command"]:
                asked = told["time"]
    assert max(times.values()) - asked >= (len(devices) - 10) / 1000 * 0.9
    gateway.wait_metric('gateway_session_rereads_total{result="kept"}', lambda value: value == len(devices))
    for channel in channels:
        channel.close()


def test_trimmed_session_events_are_a_gap(folder, kept_redis):
    """Entries that were trimmed while the gateway could not read them are noticed and counted."""
    with harness.Gateway(folder, kept_redis) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            device = harness.Device(gateway)
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            device.publish_session_event()
            gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}',
                                lambda value: value == 1)
            gateway.redis.client.config_set("maxclients", 1)  # ours; the gateway is kept out
            gateway.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            device.write_record("revoked")
            device.publish_session_event("revoked")
            for _ in range(5):
                gateway.redis.client.xadd(harness.SESSION_STREAM, harness.Device(gateway, publish=False).fields(),
                                          maxlen=2, approximate=False)
            gateway.redis.client.config_set("maxclients", 1000)
            assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
            assert gateway.metric('gateway_stream_gap_causes_total{stream="session_events",cause="trimmed"}') == 1


def test_stale_get_cannot_undo_a_revocation(folder, redis_server, echo):
    """A GET that was asked before the session event and answered after it is asked again.

    A relay between the gateway and Redis holds the answer back until the revocation has been read."""
    from conftest import ECHO_CONFIG
    from relay import Relay
    relay = Relay(folder / "relay.sock", redis_server.socket)
    try:
        with harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address), env={
                "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{relay.path}",
                "GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT": "20s"}) as gateway:
            with harness.Channel(gateway.grpc) as channel:
                device = harness.Device(gateway)
                held = relay.hold_answer_to(b"GET")
                call = channel.execute_future(device.request())
                held.wait()  # Redis has answered "active"; the gateway has not heard it
                device.revoke()
                gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}',
                                    lambda value: value == 1)
                held.release()
                with pytest.raises(grpc.RpcError) as refusal:
                    call.result(timeout=harness.PATIENCE)
                assert (refusal.value.code().name, refusal.value.details()) == (
                    "FAILED_PRECONDITION", "device session is revoked")
                assert gateway.metric('gateway_session_cache_lookups_total{result="asked_again"}') == 1
    finally:
        relay.close()


def test_stream_that_registers_while_its_session_is_revoked_is_refused(folder, redis_server):
    """The session check is done, the replay reservation is held back, the revocation is read: then it registers."""
    from relay import Relay
    relay = Relay(folder / "relay.sock", redis_server.socket)
    try:
        with harness.Gateway(folder, redis_server, env={
                "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{relay.path}",
                "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": "20s"}) as gateway:
            with harness.Channel(gateway.grpc) as channel:
                device = harness.Device(gateway)
                held = relay.hold_answer_to(b"SET")
                stream = channel.subscribe(device.subscribe_request())
                held.wait()
                device.revoke()
                gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}',
                                    lambda value: value == 1)
                held.release()
                assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
                assert gateway.metric('gateway_push_registrations_total{verdict="revoked"}') == 1
    finally:
        relay.close()


def test_stream_whose_check_was_overtaken_by_an_active_event_is_checked_again(folder, redis_server):
    from relay import Relay
    relay = Relay(folder / "relay.sock", redis_server.socket)
    try:
        with harness.Gateway(folder, redis_server, env={
                "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{relay.path}",
                "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": "20s"}) as gateway:
            with harness.Channel(gateway.grpc) as channel:
                device = harness.Device(gateway)
                held = relay.hold_answer_to(b"SET")
                stream = channel.subscribe(device.subscribe_request())
                held.wait()
                device.publish_session_event("active")
                gateway.wait_metric('gateway_stream_entries_total{stream="session_events",result="ok"}',
                                    lambda value: value == 1)
                held.release()
                stream.bootstrap()
                assert gateway.metric("gateway_push_rechecks_total") >= 1
                event_id = publish_event(gateway, device.user)
                assert stream.next().event_id == event_id
    finally:
        relay.close()
