"""Variables of edge.md §7 whose value no other story would miss: each is set, and what it changes is seen."""

import re
import shutil
import time

import pytest

import frames
import harness
from harness import now_ms
from relay import Relay

LOOKUPS = 'gateway_session_cache_lookups_total{result="%s"}'
NOT_ROUTED = ("UNIMPLEMENTED", "message_type is not routed")  # what a command that passes ends with, without a file
UNKNOWN = ("UNAUTHENTICATED", "unknown device session")
LONG = "60s"  # longer than a test waits


def lookups(gateway, result):
    return gateway.metric(LOOKUPS % result)


# ---- Redis ----

@pytest.fixture
def relay(folder, redis_server):
    relay = Relay(folder / "relay.sock", redis_server.socket)
    yield relay
    relay.close()


@pytest.mark.parametrize("command, timeouts, refusal", [
    (b"GET", ("1s", LONG), "session cache is unavailable"), (b"SET", (LONG, "1s"), "replay store is unavailable")])
def test_each_command_for_redis_has_its_own_timeout(folder, redis_server, relay, command, timeouts, refusal):
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{relay.path}",
            "GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT": timeouts[0],
            "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": timeouts[1]}) as gateway, harness.Channel(gateway.grpc) as channel:
        device = harness.Device(gateway)
        held = relay.hold_answer_to(command)
        assert channel.refused(device.request()) == ("UNAVAILABLE", refusal)
        held.release()


def test_streams_are_read_in_batches_of_128_with_their_block_times(folder, redis_server):
    with redis_server.client.monitor() as monitor:
        with harness.Gateway(folder, redis_server, env={
                "GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "1230ms",
                "GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "2340ms"}):
            seen = set()
            while len(seen) < 2:
                line = monitor.next_command()["command"]
                if match := re.fullmatch(r"XREAD BLOCK (\d+) COUNT (\d+) STREAMS (\S+) \S+", line):
                    seen.add(match.groups())
    assert seen == {("1230", "128", harness.SESSION_STREAM), ("2340", "128", harness.CLIENT_STREAM)}


# ---- the session cache ----

def one_worker(**env):
    return {"GATEWAY_WORKERS": "1", **env}


def test_snapshot_lives_as_long_as_configured(folder, redis_server):
    with harness.Gateway(folder, redis_server, env=one_worker(GATEWAY_SESSION_CACHE_TTL="1ms")) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            def asked_again():
                assert channel.refused(device.request()) == NOT_ROUTED
                return lookups(gateway, "redis_found") >= 2
            harness.wait_until(asked_again, "a second look-up in Redis")


@pytest.mark.parametrize("life, heard", [("1h", False), ("0", True)])
def test_unknown_session_stays_unknown_as_long_as_configured(folder, redis_server, life, heard):
    with harness.Gateway(folder, redis_server, env=one_worker(GATEWAY_SESSION_CACHE_NEGATIVE_TTL=life)) as gateway:
        device = harness.Device(gateway, publish=False)
        with harness.Channel(gateway.grpc) as channel:
            assert channel.refused(device.request()) == UNKNOWN
            device.write_record()
            assert channel.refused(device.request()) == (NOT_ROUTED if heard else UNKNOWN)


def test_cache_keeps_as_many_snapshots_as_configured(folder, redis_server):
    with harness.Gateway(folder, redis_server, env=one_worker(GATEWAY_SESSION_CACHE_MAX_ENTRIES="2")) as gateway:
        devices = [harness.Device(gateway) for _ in range(3)]
        with harness.Channel(gateway.grpc) as channel:
            for device in (*devices, devices[0]):
                assert channel.refused(device.request()) == NOT_ROUTED
        assert gateway.metric("gateway_session_cache_entries") == 2
        assert lookups(gateway, "redis_found") == 4 and lookups(gateway, "hit") == 0


# ---- calls ----

@pytest.mark.parametrize("window, away_ms, refused", [
    ("1h", -3_500_000, False), ("1h", 3_500_000, False), ("1h", -3_700_000, True), ("1m", -61_000, True), ("1m", 90_000, True)])
def test_freshness_window_is_what_was_configured(folder, redis_server, window, away_ms, refused):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_FRESHNESS_WINDOW": window}) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            request = device.request(timestamp_ms=now_ms() + away_ms)
            assert channel.refused(request) == (
                ("FAILED_PRECONDITION", "request timestamp is outside the freshness window") if refused else NOT_ROUTED)
        if not refused:  # the reservation lasts until the timestamp leaves the window, and a second more
            [key] = redis_server.client.keys("gateway:replay:*")
            left = 3_600_000 + away_ms + 1000
            assert left - 30_000 < redis_server.client.pttl(key) <= left


def test_message_limit_is_what_was_configured(folder, redis_server):
    """Of requests and of events alike."""
    with harness.Gateway(folder, redis_server, env={"GATEWAY_GRPC_MAX_MESSAGE_BYTES": "2KiB"}) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            request = device.request(payload=b"x" * 1700)
            assert request.ByteSize() <= 2048 and channel.refused(request) == NOT_ROUTED
            assert channel.refused(device.request(payload=b"x" * 2048)) == (
                "RESOURCE_EXHAUSTED", "message is larger than the limit")
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            harness.publish_event(gateway, device.user, payload=b"x" * 2048)
            fits = harness.publish_event(gateway, device.user, payload=b"x" * 1500)
            assert stream.next().event_id == fits
        assert gateway.metric('gateway_stream_entries_total{stream="client_events",result="malformed"}') == 1


# ---- connections and workers ----

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("stage, sent, told", [
    ("HEADER", HEALTHZ[:-2], [b"408"]), ("HEADER", HEALTHZ + HEALTHZ[:-2], [b"200", b"408"]),
    ("BODY", b"POST /api/v1/public/auth/send-email-code HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", [b"408"]),
    ("IDLE", HEALTHZ, [b"200"])])
def test_each_stage_of_a_request_has_its_own_timeout(folder, redis_server, stage, sent, told):
    """The others last for an hour."""
    env = {f"GATEWAY_HTTP_{name}_TIMEOUT": "500ms" if name == stage else "1h" for name in ("HEADER", "BODY", "IDLE")}
    with harness.Gateway(folder, redis_server, env=env) as gateway, harness.connect(gateway.public) as connection:
        connection.sendall(sent)
        text = b""
        while chunk := connection.recv(4096):
            text += chunk
        assert re.findall(rb"HTTP/1\.1 (\d+)", text) == told


def open_connections(gateway):
    values = gateway.metrics()
    return sum(values[f'gateway_connections_open{{listener="{name}"}}'] for name in ("public", "grpc"))


@pytest.mark.parametrize("env, prefix, allowed", [
    ({"GATEWAY_MAX_CONNECTIONS": "5"}, [], 5),
    # the default: 2 workers x (540 descriptors - 512)
    ({}, ["prlimit", "--nofile=540:540"], 56 if harness.DIRECT_FILES else 28)], ids=["configured", "by the limit of descriptors"])
def test_connections_in_all_are_bounded(folder, redis_server, env, prefix, allowed):
    if prefix and not shutil.which(prefix[0]):
        pytest.skip(f"{prefix[0]} is not installed")
    with harness.Gateway(folder, redis_server, env=env, prefix=lambda _: prefix) as gateway:
        kept = [harness.connect(address) for address in (gateway.public, gateway.grpc) for _ in range(allowed // 2)]
        kept += [harness.connect(gateway.public) for _ in range(allowed - len(kept))]
        harness.wait_until(lambda: open_connections(gateway) == allowed, "all are open")
        kept[0].sendall(HEALTHZ)
        assert kept[0].recv(4096).startswith(b"HTTP/1.1 200 ")  # who is in is served
        for address, listener in ((gateway.public, "public"), (gateway.grpc, "grpc")):
            with harness.connect(address) as late:
                assert harness.is_ended(late)
            gateway.wait_metric(f'gateway_connections_total{{listener="{listener}",outcome="refused"}}',
                                lambda value: value == 1)
        kept.pop().close()
        harness.wait_until(lambda: open_connections(gateway) == allowed - 1, "one is gone")
        assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
        for connection in kept:
            connection.close()


@pytest.mark.skipif(not shutil.which("taskset"), reason="taskset is not installed")
def test_one_worker_for_each_cpu_that_may_be_used(folder, redis_server):
    import os
    cpus = sorted(os.sched_getaffinity(0))[:2]
    for count in range(1, len(cpus) + 1):
        allowed = ",".join(map(str, cpus[:count]))
        with harness.Gateway(folder, redis_server, env={"GATEWAY_WORKERS": None},
                             prefix=lambda _, allowed=allowed: ["taskset", "-c", allowed]) as gateway:
            _, _, body = harness.http(gateway.admin, "GET", "/streams")
            assert len(harness.json.loads(body)["workers"]) == count


# ---- defaults that are felt ----

def test_calls_of_one_session_are_bounded_by_default(folder, redis_server):
    """120 at once, and 20 more each second; the peer's 600 and the user's 240 are not met."""
    unset = {f"GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_{name}_REQUESTS": None for name in ("IP", "SESSION", "USER")}
    with harness.Gateway(folder, redis_server, env=unset) as gateway:
        device = harness.Device(gateway)
        with frames.FrameClient(gateway.grpc) as client:
            began = time.monotonic()
            requests = [device.request("no.route").SerializeToString() for _ in range(90)]
            statuses = []
            for _ in range(4):
                calls = [client.call(harness.EXECUTE, request) for request in requests]
                statuses += statuses_of(client, calls)
                requests = [device.request("no.route").SerializeToString() for _ in requests]
            seconds = time.monotonic() - began
        assert set(statuses) <= {"12", "8"} and 120 <= statuses.count("12") <= 120 + 20 * (seconds + 1)
        if seconds < 10:
            assert statuses.count("8") > 0


def statuses_of(client, calls):
    found = {}
    while set(found) != set(calls):
        frame = client.until(frames.HEADERS)
        found[frame.stream] = dict(client.decoder.decode(frame.payload)).get("grpc-status")
    return list(found.values())
