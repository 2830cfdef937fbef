"""Everything that the gateway leans on, broken in every way: what clients see, what counts it, and that it recovers alone.

`make dependencies` runs this file and prints the README's table with the times measured here: until the first client heard of
the fault, and from the fault's end to the first command that was executed."""

import http.server
import json
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import grpc
import pytest

import harness
from cable import Cable, End
from harness import publish_event

SESSION_DOWN = ("UNAVAILABLE", "session cache is unavailable")
REPLAY_DOWN = ("UNAVAILABLE", "replay store is unavailable")
SERVICE_DOWN = ("UNAVAILABLE", "downstream service is unavailable")
SERVICE_LATE = ("DEADLINE_EXCEEDED", "downstream service timed out")
UNKNOWN = ("UNAUTHENTICATED", "unknown device session")
REPLAYED = ("FAILED_PRECONDITION", "request replay detected")

CONFIG = """
upstreams:
  echo: {{ addresses: [{addresses}], deadline: {deadline}, connections: 1, health_interval: {health}, {more} }}
commands:
  - {{ message_type: "*", upstream: echo }}
"""


def start_gateway(folder, redis_server, *addresses, deadline="500ms", health="2s",
                  more="breaker: { failures: 5, open: 300ms }", env=None, **kwargs):
    config = CONFIG.format(addresses=", ".join(f'"{address}"' for address in addresses), deadline=deadline, health=health, more=more)
    return harness.Gateway(folder, redis_server, config=config, env={
        "GATEWAY_WORKERS": "1",
        "GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "200ms",
        "GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "200ms",
        **(env or {})}, **kwargs)


# where Redis is to be silent: the program's own defaults, a quarter of what other tests have
IMPATIENT = {"GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT": "250ms", "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": "250ms"}


def outcome(channel, request):
    try:
        return channel.execute(request).result_code
    except grpc.RpcError as error:
        return error.code().name, error.details()


# what a machine that stands still for a while makes of half a second, or of 300 ms, whatever the fault
BUSY = [SERVICE_LATE, (504, "upstream_timeout")]


class Story:
    """One fault: the clock runs from when it is made to who hears of it, and from when it ends to the first "ok"."""

    def __init__(self, gateway, channel, device, record):
        self.gateway, self.channel, self.device = gateway, channel, device
        self._record = record
        self._began = self._ended = None
        self.heard = self.recovered = None

    def works(self):
        """Before the fault; on a busy machine Redis or the service may have been late."""
        harness.wait_until(lambda: self.outcome() == "ok", "a command is executed")

    def outcome(self, message_type="test.echo", device=None):
        return outcome(self.channel, (device or self.device).request(message_type))

    def begins(self):
        self._began = time.monotonic()

    def is_heard_as(self, *wanted, **kwargs):
        """From now on every command ends like this; the first that does stops the clock."""
        def hears():
            seen = self.outcome(**kwargs)
            assert seen in ("ok", *wanted, *BUSY), seen
            return seen in wanted
        harness.wait_until(hears, f"clients see {wanted}")
        self.heard = self.heard or time.monotonic() - self._began

    def ends(self):
        self._ended = time.monotonic()

    def recovers(self, *meanwhile):
        def is_executed():
            seen = self.outcome()
            assert seen in ("ok", *meanwhile, *BUSY), seen
            return seen == "ok"
        harness.wait_until(is_executed, "commands are executed again")
        self.recovered = time.monotonic() - self._ended

    def counts(self, name, least=1):
        return self.gateway.wait_metric(name, lambda value: value >= least)

    def never_executed_more_than(self, count):
        assert self.gateway.metric('upstream_grpc_calls_total{upstream="echo",code="OK"}') == count

    def executed(self):
        return self.gateway.metric('upstream_grpc_calls_total{upstream="echo",code="OK"}')

    def stream(self):
        stream = self.channel.subscribe(self.device.subscribe_request())
        stream.bootstrap()
        return stream

    def event_arrives(self, stream):
        """The stream was open all the time, and what comes next on it is what is published now."""
        event = publish_event(self.gateway, self.device.user)
        assert stream.next().event_id == event

    def is_told(self, fault):
        assert fault in FAULTS, fault
        assert self.recovered is None or self.recovered < ALONE_AGAIN_S + BUSY_S, self.recovered
        self._record("dependency", [fault, self.heard, self.recovered])


ALONE_AGAIN_S = 2  # and a dial: between two of them no part waits longer, no health_interval or breaker here is longer
BUSY_S = harness.PATIENCE / 4  # of a machine with other work

# as in the README's table
FAULTS = [
    "Redis is killed, and started again",
    "Redis is frozen",
    "Redis answers after 10 s",
    "Redis answers garbage",
    "the way to Redis is half-open",
    "Redis comes back empty",
    "Redis fails over: the master dies, its replica takes over",
    "Redis fails over: the master is demoted",
    "Redis fails over: the replica lacks the last entries",
    "Redis's name leads to a replica first",
    "a service is killed, and started again",
    "one of two addresses goes away (GOAWAY)",
    "a service is frozen",
    "the way to a service is half-open",
    "a service refuses connections",
    "a service answers UNAVAILABLE",
    "a service never answers",
    "the sign-in service is killed, and started again",
    "the sign-in service never answers",
    "no name server",
    "a name server that is silent",
]


@pytest.fixture
def tell(folder, record_property):
    """Makes a story of its own gateway."""
    open_ones = []

    def make(redis_server, *addresses, **kwargs):
        gateway = start_gateway(folder, redis_server, *addresses, **kwargs)
        open_ones.append(gateway)
        channel = harness.Channel(gateway.grpc)
        open_ones.append(channel)
        return Story(gateway, channel, harness.Device(gateway), record_property)
    yield make
    for item in reversed(open_ones):
        item.stop() if isinstance(item, harness.Gateway) else item.close()


@pytest.fixture
def kept_redis(folder):
    server = harness.Redis(folder, data=True)
    yield server
    server.stop()


@pytest.fixture
def cable(folder, redis_server):
    """To Redis."""
    with Cable(redis_server.socket, folder / "cable.sock") as made:
        yield made


def over(cable):
    return {"GATEWAY_SESSION_CACHE_REDIS_ADDR": cable.address}


# ---- Redis ----

def expect_fail_closed(story):
    """Neither a known session nor an unknown one gets through, and nothing reaches the service."""
    before = story.executed()
    story.is_heard_as(REPLAY_DOWN)
    stranger = harness.Device(story.gateway, publish=False)
    assert story.outcome(device=stranger) == SESSION_DOWN
    story.never_executed_more_than(before)


def test_redis_killed_and_started_again(tell, kept_redis, echo):
    story = tell(kept_redis, echo.address)
    story.works()
    stream = story.stream()
    story.begins()
    kept_redis.kill()
    expect_fail_closed(story)
    connected = 'gateway_redis_connected{role="session"}'
    story.gateway.wait_metric(connected, lambda value: value == 0)
    kept_redis.restart()
    story.ends()
    story.recovers(REPLAY_DOWN)
    story.event_arrives(stream)
    story.counts('gateway_redis_reconnects_total{role="session"}')
    story.gateway.wait_metric(connected, lambda value: value == 2)  # the worker's, and one more
    assert story.gateway.metric('gateway_stream_gaps_total{stream="client_events"}') == 0
    story.is_told("Redis is killed, and started again")


def redis_fails_for_a_while(story, fault, fail, mend, *signs, meanwhile=(REPLAY_DOWN, SESSION_DOWN)):
    """Commands are refused until it is over; the stream that was open stays."""
    story.works()
    stream = story.stream()
    fail()
    try:
        story.begins()
        expect_fail_closed(story)
        for sign in signs:
            story.counts(sign)
    finally:
        mend()
    story.ends()
    story.recovers(*meanwhile)
    story.event_arrives(stream)
    story.is_told(fault)


LATE_REDIS, SILENT_REDIS = 'gateway_redis_commands_total{role="replay",outcome="timeout"}', 'gateway_glitches_total{kind="redis_silent"}'


def test_redis_frozen(tell, redis_server, echo):
    story = tell(redis_server, echo.address, env=IMPATIENT)

    def freeze():
        redis_server.process.signal(signal.SIGSTOP)

    def thaw():
        redis_server.process.signal(signal.SIGCONT)

    redis_fails_for_a_while(story, "Redis is frozen", freeze, thaw, LATE_REDIS, meanwhile=[REPLAY_DOWN])
    # and for so long that the connection is given up
    freeze()
    try:
        expect_fail_closed(story)
        harness.wait_until(lambda: story.outcome() == REPLAY_DOWN and story.gateway.metric(SILENT_REDIS) > 0, "silence is counted")
    finally:
        thaw()
    story.works()


def test_redis_that_answers_after_ten_seconds(tell, redis_server, echo, cable):
    redis_fails_for_a_while(  # given up, and dialled anew, over and over
        tell(redis_server, echo.address, env={**IMPATIENT, **over(cable)}), "Redis answers after 10 s",
        cable.hold_answers, cable.let_answers_go, LATE_REDIS, SILENT_REDIS)


def test_redis_that_answers_garbage(tell, redis_server, echo, cable):
    def twist(by):
        cable.twist = by

    redis_fails_for_a_while(
        tell(redis_server, echo.address, env=over(cable)), "Redis answers garbage",
        lambda: twist(lambda data: b"HTTP/1.1 200 OK\r\n\r\n"), lambda: twist(None),
        'gateway_glitches_total{kind="redis_protocol"}', meanwhile=[REPLAY_DOWN])


def test_half_open_way_to_redis(tell, redis_server, echo, cable):
    """The old connections stay dead: it has found that out."""
    story = tell(redis_server, echo.address, env={**IMPATIENT, **over(cable)})
    redis_fails_for_a_while(story, "the way to Redis is half-open", cable.cut, cable.mend)
    story.counts(SILENT_REDIS)


def test_redis_that_comes_back_empty(tell, redis_server, echo):
    """Sessions are unknown until their records are written again; open streams stay, and what is published next arrives."""
    story = tell(redis_server, echo.address)
    story.device.publish_session_event()
    story.counts('gateway_stream_entries_total{stream="session_events",result="ok"}')
    story.works()
    stream = story.stream()
    before = publish_event(story.gateway, story.device.user)
    assert stream.next().event_id == before
    story.begins()
    redis_server.kill()
    redis_server.restart()
    story.is_heard_as(REPLAY_DOWN, SESSION_DOWN, UNKNOWN)
    # the positions of both streams lie beyond their ends now
    for name in ("client_events", "session_events"):
        story.counts(f'gateway_stream_gap_causes_total{{stream="{name}",cause="recreated"}}')
    harness.wait_until(lambda: story.outcome() == UNKNOWN, "the session is unknown")
    story.device.write_record()
    story.ends()
    story.recovers(UNKNOWN)
    after = [publish_event(story.gateway, story.device.user) for _ in range(3)]
    assert [stream.next().event_id for _ in after] == after
    story.is_told("Redis comes back empty")


class Pair:
    """A master and its replica, and a name (a cable) that leads to the master."""

    def __init__(self, folder):
        self.servers = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            self.servers.append(harness.Redis(folder / name, "--repl-diskless-sync-delay", "0", port=harness.free_port()))
        self.master, self.replica = self.servers
        self.replica.client.execute_command("REPLICAOF", "127.0.0.1", self.master.port)
        harness.wait_until(lambda: self.replica.client.info("replication")["master_link_status"] == "up", "the replica has all")
        self.name = Cable(self.master.socket, folder / "name.sock")

    def replicate(self):
        assert self.master.client.execute_command("WAIT", 1, int(harness.PATIENCE * 1000)) == 1

    def close(self):
        self.name.close()
        for server in self.servers:
            server.stop()


@pytest.fixture
def pair(folder):
    made = Pair(folder)
    yield made
    made.close()


def expect_nothing_was_forgotten(story, stream, used):
    """A reservation from before holds, the stream goes on without a gap, a revocation ends it."""
    assert outcome(story.channel, used) == REPLAYED
    published = [publish_event(story.gateway, story.device.user) for _ in range(5)]
    assert [stream.next().event_id for _ in published] == published
    assert story.gateway.metric('gateway_stream_gaps_total{stream="client_events"}') == 0
    story.device.revoke()
    assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")


def test_master_dies_and_its_replica_takes_over(tell, pair, echo):
    story = tell(pair.master, echo.address, env=over(pair.name))
    used = story.device.request()
    assert outcome(story.channel, used) == "ok"
    stream = story.stream()
    story.event_arrives(stream)
    pair.replicate()
    story.begins()
    pair.master.kill()
    expect_fail_closed(story)
    pair.replica.client.execute_command("REPLICAOF", "NO", "ONE")
    pair.name.target = pair.replica.socket
    story.gateway.redis = pair.replica
    story.ends()
    story.recovers(REPLAY_DOWN)
    story.counts('gateway_redis_reconnects_total{role="session"}')
    expect_nothing_was_forgotten(story, stream, used)
    story.is_told("Redis fails over: the master dies, its replica takes over")


def test_master_is_demoted(tell, pair, echo):
    """It lives on and answers READONLY: no reservation, no command, until the name leads to the new master."""
    story = tell(pair.master, echo.address, env=over(pair.name))
    used = story.device.request()
    assert outcome(story.channel, used) == "ok"
    stream = story.stream()
    pair.replicate()
    story.begins()
    pair.replica.client.execute_command("REPLICAOF", "NO", "ONE")
    pair.master.client.execute_command("REPLICAOF", "127.0.0.1", pair.replica.port)
    story.gateway.redis = pair.replica
    before = story.executed()
    story.is_heard_as(REPLAY_DOWN)
    story.counts('gateway_redis_commands_total{role="replay",outcome="error"}')
    for _ in range(5):
        assert story.outcome() == REPLAY_DOWN
    story.never_executed_more_than(before)
    pair.name.target = pair.replica.socket
    story.ends()
    story.recovers(REPLAY_DOWN)
    expect_nothing_was_forgotten(story, stream, used)
    story.is_told("Redis fails over: the master is demoted")


def test_replica_that_takes_over_lacks_the_last_entries(tell, pair, echo):
    """Positions lie beyond the ends of both streams: counted, read from the beginning, sessions of open streams asked for."""
    story = tell(pair.master, echo.address, env=over(pair.name))
    stream, other = story.stream(), harness.Device(story.gateway)
    kept = publish_event(story.gateway, story.device.user)
    assert stream.next().event_id == kept
    other.publish_session_event()
    story.counts('gateway_stream_entries_total{stream="session_events",result="ok"}')
    pair.replicate()
    pair.replica.client.execute_command("REPLICAOF", "NO", "ONE")  # it hears no more
    lacking = publish_event(story.gateway, story.device.user)
    assert stream.next().event_id == lacking
    other.publish_session_event()
    story.counts('gateway_stream_entries_total{stream="session_events",result="ok"}', 2)
    story.begins()
    pair.master.kill()
    expect_fail_closed(story)
    pair.name.target = pair.replica.socket
    story.gateway.redis = pair.replica
    story.ends()
    story.recovers(REPLAY_DOWN, SESSION_DOWN)  # what the gap made it forget is asked for again
    for name in ("client_events", "session_events"):
        story.counts(f'gateway_stream_gap_causes_total{{stream="{name}",cause="recreated"}}')
    story.counts('gateway_session_rereads_total{result="kept"}')
    assert stream.next().event_id == kept  # what is still there comes again
    story.event_arrives(stream)
    story.is_told("Redis fails over: the replica lacks the last entries")


# ---- services ----

def test_service_killed_and_started_again(tell, redis_server):
    first = harness.start_echo(f"127.0.0.1:{harness.free_port()}")
    story = tell(redis_server, first.address)
    story.works()
    story.begins()
    first.process.kill()
    first.wait()
    story.is_heard_as(SERVICE_DOWN)
    story.counts('upstream_grpc_calls_total{upstream="echo",code="UNAVAILABLE"}')
    second = harness.start_echo(first.address)
    story.ends()
    story.recovers(SERVICE_DOWN)
    story.counts('upstream_grpc_reconnects_total{upstream="echo"}')
    story.is_told("a service is killed, and started again")
    assert second.stop() == 0


def test_one_of_two_addresses_says_goaway_and_leaves(tell, redis_server):
    """Nobody sees it: calls in flight end, the next go to the other address."""
    staying, leaving = harness.start_echo(), harness.start_echo()
    story = tell(redis_server, staying.address, leaving.address, deadline="10s")
    for address in (staying.address, leaving.address):
        story.counts(f'upstream_healthy{{upstream="echo",address="{address}"}}')
    # few, so that all are seen in flight before the first is answered; the service has a second for them from its SIGTERM on
    calls = [story.channel.execute_future(story.device.request("echo.delay.800")) for _ in range(8)]
    story.gateway.wait_metric('upstream_grpc_in_flight{upstream="echo"}', lambda value: value == 8)
    leaving.signal(signal.SIGTERM)
    gone = threading.Thread(target=leaving.wait)
    gone.start()
    while gone.is_alive():
        assert story.outcome() == "ok"
    gone.join()
    assert [call.result(timeout=harness.PATIENCE).result_code for call in calls] == ["ok"] * 8
    story.gateway.wait_metric(f'upstream_healthy{{upstream="echo",address="{leaving.address}"}}', lambda value: value == 0)
    assert story.gateway.metric('upstream_grpc_calls_total{upstream="echo",code="UNAVAILABLE"}') == 0
    story.is_told("one of two addresses goes away (GOAWAY)")
    assert staying.stop() == 0


def test_service_frozen(tell, redis_server, folder):
    service = harness.start_echo(f"unix:{folder}/echo.sock")
    story = tell(redis_server, service.address, health="300ms")
    story.works()
    service.signal(signal.SIGSTOP)
    try:
        story.begins()
        story.is_heard_as(SERVICE_LATE, SERVICE_DOWN)
        # found out by the health check: refused at once from now on
        story.gateway.wait_metric(f'upstream_healthy{{upstream="echo",address="{service.address}"}}', lambda value: value == 0)
        assert story.outcome() == SERVICE_DOWN
        story.counts('gateway_glitches_total{kind="upstream_silent"}')
    finally:
        service.signal(signal.SIGCONT)
    story.ends()
    story.recovers(SERVICE_DOWN)
    story.is_told("a service is frozen")
    assert service.stop() == 0


def test_half_open_way_to_a_service(tell, redis_server, echo):
    """No health checks: calls without answers, then a PING without one, tell that the peer is gone."""
    with Cable(echo.address) as cable:
        story = tell(redis_server, cable.address, more="health: false, breaker: { failures: 2, open: 300ms }")
        story.works()
        cable.cut()
        story.begins()
        story.is_heard_as(SERVICE_LATE, SERVICE_DOWN)
        story.counts('gateway_glitches_total{kind="upstream_silent"}')
        assert story.outcome() == SERVICE_DOWN  # connections that are made now are silent too
        cable.mend()
        story.ends()
        story.recovers(SERVICE_DOWN, SERVICE_LATE)
        story.is_told("the way to a service is half-open")


NOT_SENT = 'upstream_grpc_errors_total{upstream="echo",rpc="galaxy.gateway.v1.CommandHandler/Handle",code="UNAVAILABLE"}'


def test_service_that_refuses_connections(tell, redis_server):
    address = f"127.0.0.1:{harness.free_port()}"
    story = tell(redis_server, address)
    story.begins()
    story.is_heard_as(SERVICE_DOWN)
    story.counts(NOT_SENT)
    service = harness.start_echo(address)
    story.ends()
    story.recovers(SERVICE_DOWN)
    story.is_told("a service refuses connections")
    assert service.stop() == 0


# ---- the breaker ----

STATE = 'upstream_breaker_state{{upstream="echo",state="{}"}}'.format
OPENED = 'upstream_breaker_opened_total{upstream="echo"}'
REFUSED = 'upstream_breaker_refused_total{upstream="echo"}'


def expect_opened(story):
    """What was just heard was its refusal: the service is healthy, and hears nothing. On a busy machine it is not open any more."""
    story.counts(OPENED)
    story.counts(REFUSED)


def test_service_that_answers_unavailable_opens_the_breaker(tell, redis_server, echo):
    story = tell(redis_server, echo.address, more="breaker: { failures: 5, open: 700ms }")
    story.works()
    story.begins()
    for _ in range(5):  # its own words, but of a service that cannot
        assert story.outcome("echo.status.14") == ("UNAVAILABLE", "downstream service failed")
    story.is_heard_as(SERVICE_DOWN)
    expect_opened(story)
    story.ends()
    story.recovers(SERVICE_DOWN)
    assert story.gateway.metric(STATE("closed")) == 1
    story.is_told("a service answers UNAVAILABLE")


def test_service_that_never_answers_opens_the_breaker(tell, redis_server, echo):
    """Its health checks are fine all the while."""
    story = tell(redis_server, echo.address, more="breaker: { failures: 5, open: 700ms }")
    story.works()
    story.begins()
    calls = [story.channel.execute_future(story.device.request("echo.hang")) for _ in range(5)]
    for call in calls:
        with pytest.raises(grpc.RpcError) as refusal:
            call.result(timeout=harness.PATIENCE)
        assert (refusal.value.code().name, refusal.value.details()) == SERVICE_LATE
    story.is_heard_as(SERVICE_DOWN)
    assert story.gateway.metric(f'upstream_healthy{{upstream="echo",address="{echo.address}"}}') == 1
    expect_opened(story)
    # the first probe hangs as well: open for as long again
    def probe_hangs():
        seen = story.outcome("echo.hang")
        assert seen in (SERVICE_DOWN, SERVICE_LATE)
        return seen == SERVICE_LATE
    harness.wait_until(probe_hangs, "a probe is let through")
    assert story.gateway.metric(OPENED) == 2
    story.ends()
    story.recovers(SERVICE_DOWN)
    assert story.gateway.metric(STATE("closed")) == 1
    story.is_told("a service never answers")


def test_errors_of_the_application_do_not_open_the_breaker(tell, redis_server, echo):
    story = tell(redis_server, echo.address, deadline="5s", more="breaker: { failures: 1, ratio: 1, calls: 1 }")
    story.works()
    for status in (3, 5, 7, 9, 13):
        assert story.outcome(f"echo.status.{status}")[1] in ("chosen by the caller", "downstream service failed")
        assert story.outcome() == "ok"
    impatient = story.device.request("echo.hang")
    with pytest.raises(grpc.RpcError):
        story.channel.execute(impatient, timeout=0.2)  # less than the service's own 5 s
    assert story.outcome() == "ok"
    assert story.gateway.metric(OPENED) == 0


# ---- the sign-in service ----

CODE = b'{"email":"somebody@example.org"}'


class SignIn:
    """Answers every POST with a challenge, or with nothing at all until it is let go."""

    def __init__(self, port=0):
        gate = self.gate = threading.Event()
        gate.set()
        connections = self._connections = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                connections.append(self.connection)

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                gate.wait(harness.PATIENCE)
                body = b'{"challenge_id":"challenge-1"}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.handle_error = lambda *_: None  # the gateway has left
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self):
        self.gate.set()
        self._server.shutdown()
        for connection in self._connections:
            End(connection).shut()
        self._server.server_close()
        self._thread.join(harness.PATIENCE)


def sign_in_story(tell, redis_server, service):
    """Its outcome is what a browser sees: status and code."""
    story = tell(redis_server, "unix:/nobody", env={
        "GATEWAY_AUTH_SERVICE_BASE_URL": f"http://127.0.0.1:{service.port}", "GATEWAY_AUTH_SERVICE_TIMEOUT": "300ms",
        "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH_IDENTITY_REQUESTS": "0"})

    def outcome():
        status, _, body = harness.http(story.gateway.public, "POST", "/api/v1/public/auth/send-email-code", CODE,
                                       {"content-type": "application/json"})
        return "ok" if status == 200 else (status, json.loads(body)["error"]["code"])
    story.outcome = outcome
    return story


AWAY = (503, "service_unavailable")
LATE = (504, "upstream_timeout")


def test_sign_in_service_killed_and_started_again(tell, redis_server):
    first = SignIn(harness.free_port())
    story = sign_in_story(tell, redis_server, first)
    story.works()
    story.begins()
    first.close()
    story.is_heard_as(AWAY)
    story.counts('upstream_http_requests_total{upstream="sign-in service",outcome="unavailable",status=""}')
    second = SignIn(first.port)
    story.ends()
    story.recovers(AWAY)
    story.is_told("the sign-in service is killed, and started again")
    second.close()


def test_sign_in_service_that_never_answers(tell, redis_server):
    """Ten in a row, each late, open its breaker: from then on nobody waits."""
    service = SignIn()
    story = sign_in_story(tell, redis_server, service)
    story.works()
    service.gate.clear()
    story.begins()
    seen = []
    callers = [threading.Thread(target=lambda: seen.append(story.outcome())) for _ in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert seen == [LATE] * 10
    story.heard = time.monotonic() - story._began
    story.gateway.wait_metric('upstream_breaker_state{upstream="sign-in service",state="open"}', lambda value: value == 1)
    assert story.outcome() == AWAY
    assert story.gateway.metric('upstream_breaker_refused_total{upstream="sign-in service"}') >= 1
    assert story.gateway.metric('upstream_breaker_opened_total{upstream="sign-in service"}') == 1
    assert story.gateway.metric('upstream_http_requests_total{upstream="sign-in service",outcome="timeout",status=""}') >= 10
    service.gate.set()
    story.ends()
    story.recovers(AWAY)
    story.is_told("the sign-in service never answers")
    service.close()


# ---- names ----

def own_names(folder):
    """Words before a program's name: /etc/hosts and /etc/resolv.conf of its own, in a mount namespace of its own."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
            'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"', str(folder)]


@pytest.fixture
def names(folder):
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.71\n")
    if subprocess.run([*own_names(folder), "true"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("mount namespaces are not permitted here")
    return folder


def find_by_name(story, folder):
    """The name becomes known: found at the next try."""
    (folder / "hosts").write_text("127.0.0.1 localhost echo.test\n")
    story.ends()
    story.recovers(SERVICE_DOWN)


def test_no_name_server(tell, redis_server, echo, names):
    """Nobody listens where resolv.conf points: refused, so heard long before any deadline."""
    port = echo.address.rpartition(":")[2]
    story = tell(redis_server, f"echo.test:{port}", prefix=lambda _: own_names(names))
    story.begins()
    story.is_heard_as(SERVICE_DOWN)
    story.counts(NOT_SENT)
    assert story.gateway.log("cannot connect")["reason"] != "Connection timed out"
    find_by_name(story, names)
    story.is_told("no name server")


def test_name_server_that_is_silent(tell, redis_server, echo, names):
    port = echo.address.rpartition(":")[2]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        try:
            silent.bind(("127.0.0.72", 53))
        except OSError as error:
            pytest.skip(f"port 53 of 127.0.0.72: {error}")
        (names / "resolv.conf").write_text("nameserver 127.0.0.72\n")
        story = tell(redis_server, f"echo.test:{port}", prefix=lambda _: own_names(names))
        story.begins()
        story.is_heard_as(SERVICE_DOWN)
        story.counts(NOT_SENT)
        find_by_name(story, names)
    story.is_told("a name server that is silent")


def test_name_that_leads_to_a_replica_first(tell, folder, echo, names):
    """Both addresses of the name take connections; only the second may write. Every address has its turn."""
    port, servers = harness.free_port(), []
    for host in ("127.0.0.2", "127.0.0.3"):
        (folder / host).mkdir()
        servers.append(harness.Redis(folder / host, "--bind", host, "--repl-diskless-sync-delay", "0", port=port))
    replica, master = servers
    replica.client.execute_command("REPLICAOF", "127.0.0.3", port)
    harness.wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica has all")
    (names / "hosts").write_text("127.0.0.2 redis.test\n127.0.0.3 redis.test\n")
    story = tell(master, echo.address, prefix=lambda _: own_names(names),
                 env={"GATEWAY_SESSION_CACHE_REDIS_ADDR": f"redis.test:{port}"})
    assert master.client.execute_command("WAIT", 1, int(harness.PATIENCE * 1000)) == 1
    story.begins()
    story.ends()
    story.recovers(REPLAY_DOWN, SESSION_DOWN)
    for _ in range(20):
        assert story.outcome() == "ok"
    story.counts('gateway_redis_reconnects_total{role="session"}')
    stream = story.stream()
    story.event_arrives(stream)
    story.is_told("Redis's name leads to a replica first")
    for server in servers:
        server.stop()


# ---- the README ----

def seconds(text):
    return [float(number) * {"ms": 0.001, "s": 1}[unit] for number, unit in re.findall(r"([0-9.]+) (ms|s)\b", text)]


def test_readme_tells_of_every_fault_and_how_long_it_was_felt():
    text = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
    table = text.partition("<!-- dependencies -->")[2].partition("<!-- /dependencies -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")][1:]
    assert [fault for fault, *_ in rows] == FAULTS
    for fault, _, counters, heard, again in rows:
        assert re.search(r"`(gateway|upstream)_\w+|the same", counters), fault
        if fault == "one of two addresses goes away (GOAWAY)":  # nobody notices
            continue
        assert seconds(heard) or heard == "–", fault
        assert seconds(again)[0] <= ALONE_AGAIN_S, fault
