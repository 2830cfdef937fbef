"""HTTP/2 attacks (attacks.py) on the program: how each ends, what counts it, and that nobody else is hurt.

The attacker and a well-behaved neighbour are served by the same worker. What the neighbour's latency is meanwhile, `make attacks`
measures; here it must be answered, and the victim's time and memory must be in proportion.
"""

import contextlib
import itertools
import pathlib
import re
import select
import shutil
import socket
import struct
import tempfile
import threading

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

import attacks
import frames
import harness
import measure_attacks
import raw_h2
from attacks import CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED
from conftest import ECHO_CONFIG

GLITCH = 'gateway_glitches_total{kind="%s"}'
OUTCOME = 'gateway_connections_total{listener="%s",outcome="%s"}'
OPEN = 'gateway_connections_open{listener="%s"}'
GLITCHES = "too_many_glitches"
SANITIZED = harness.MODE not in ("release", "debug")
STREAMS_MAX = 1000


@pytest.fixture(scope="module")
def victim():
    """One worker, no budgets; its end must be clean after all attacks."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    redis_server = harness.Redis(folder)
    gateway = harness.Gateway(folder, redis_server, env={"GATEWAY_WORKERS": 1, "GATEWAY_LOG_LEVEL": "info",
                                                         "GATEWAY_ACCESS_LOG": "off"})
    yield gateway
    gateway.stop()
    redis_server.stop()
    shutil.rmtree(folder)


class Neighbour(threading.Thread):
    """A client that calls, waits for the answer and calls again."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.client = frames.FrameClient(address)
        self.answered = 0
        self.failure = None
        self.leaving = False
        self.start()

    def run(self):
        try:
            while not self.leaving:
                stream = self.client.call(attacks.HEALTH + "Check")
                assert self.client.fields(stream)[":status"] == "200"
                assert self.client.fields(stream)["grpc-status"] == "0"
                self.answered += 1
        except Exception as failure:
            self.failure = failure

    def more(self, count=3):
        """It is still answered."""
        wanted = self.answered + count
        harness.wait_until(lambda: self.answered >= wanted or self.failure, "the neighbour is answered")
        assert self.failure is None

    def stop(self):
        self.leaving = True
        self.join(harness.PATIENCE)
        assert not self.is_alive() and self.failure is None
        self.client.close()


class Bill:
    """What the victim spent between two moments."""

    def __init__(self, gateway):
        self.pid = gateway.process.pid
        self.gateway = gateway
        self.metrics = gateway.metrics()
        self.cpu_us, self.rss = self._cpu_us(), self._rss()

    def _cpu_us(self):
        tasks = pathlib.Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000

    def _rss(self):
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def close(self):
        """The differences: CPU in µs, resident bytes, counters by name."""
        cpu_us, rss = self._cpu_us() - self.cpu_us, self._rss() - self.rss
        after = self.gateway.metrics()
        return cpu_us, rss, {name: value - self.metrics.get(name, 0) for name, value in after.items()}


@contextlib.contextmanager
def neighbour_of(gateway, listener="grpc"):
    neighbour = Neighbour(gateway.grpc)
    try:
        neighbour.more()
        yield neighbour
        neighbour.more()
    finally:
        neighbour.stop()
    gateway.wait_metric(OPEN % listener, lambda value: value == 0)
    gateway.wait_metric(OPEN % "grpc", lambda value: value == 0)


# What an attacker's unit and a neighbour's call may cost, many times what they do; and what a scrape and the bus may meanwhile.
UNIT_US, CALL_US, ELSE_US = 200, 400, 100000
RSS_BYTES = 24 << 20


def check_bill(bill, units, calls):
    """Returns the counters."""
    cpu_us, rss, counters = bill.close()
    if not SANITIZED:
        assert cpu_us < units * UNIT_US + calls * CALL_US + ELSE_US
        assert rss < RSS_BYTES
    return counters


# ---- floods: the score ends them ----

# attack, what counts it, units in which it must be over. The units are what the attacker sends: what had been on its way when it
# was over is among them, up to a socket's buffers.
FLOODS = [
    ("ping_flood", "public", "ping"),
    ("settings_flood", "grpc", "settings"),
    ("settings_table_churn", "grpc", "settings"),
    ("priority_flood", "grpc", "priority"),
    ("priority_update_flood", "public", "priority"),
    ("unknown_frame_flood", "grpc", "unknown_frame"),
    ("window_update_flood", "grpc", "small_frame"),
    ("empty_data_flood", "grpc", "empty_data"),
    ("padded_data_flood", "grpc", "empty_data"),
    ("data_after_end_flood", "grpc", "small_frame"),
    ("rapid_reset", "grpc", "rapid_reset"),
    ("rapid_reset_of_watches", "grpc", "rapid_reset"),
    ("more_streams_than_offered", "grpc", "refused_stream"),
    # the server's resets, or, if it finds many units together, what brought them about
    ("settings_overflow", "grpc", "stream_error settings"),
    ("chopped_headers", "grpc", "continuation"),
    ("late_headers", "grpc", "late_headers"),
    ("header_list", "grpc", "header_list"),
    # updates that a busy server finds together are small frames; one by one they cut its DATA
    ("one_byte_windows", "grpc", "small_window small_frame"),
]
FLOOD_UNITS_MAX = 400000  # never reached: it is how the test fails


@pytest.mark.parametrize("name, listener, kinds", FLOODS, ids=[row[0] for row in FLOODS])
def test_flood_ends_its_own_connection(victim, name, listener, kinds):
    # 256 answers that have not left yet are too many, however few PINGs there were before
    by_framing = "" if name == "ping_flood" else GLITCHES
    with neighbour_of(victim, listener) as neighbour:
        bill, calls = Bill(victim), neighbour.answered
        with attacks.Attacker(getattr(victim, listener)) as attacker:
            outcome = attacker.run(getattr(attacks, name)(), FLOOD_UNITS_MAX).outcome()
        assert outcome.units < FLOOD_UNITS_MAX
        # a client that floods may lose what it was told last: its socket is broken by what it still sends
        assert (outcome.code, outcome.reason) in ((CALM, GLITCHES), (CALM, by_framing), (None, None))
        neighbour.more()
        counters = check_bill(bill, outcome.units, neighbour.answered - calls)
        assert sum(counters[GLITCH % kind] for kind in kinds.split()) > 0
        assert counters[GLITCH % GLITCHES] + counters[GLITCH % "http2_connection_error"] == 1
        assert by_framing == "" or counters[GLITCH % GLITCHES] == 1
        victim.wait_metric(OUTCOME % (listener, "protocol"),
                           lambda value: value == bill.metrics[OUTCOME % (listener, "protocol")] + 1)


def test_ping_flood_on_grpc_ends_as_its_peers_know_it(victim):
    with neighbour_of(victim) as neighbour:
        bill, calls = Bill(victim), neighbour.answered
        with attacks.Attacker(victim.grpc) as attacker:
            outcome = attacker.run(attacks.ping_flood(), FLOOD_UNITS_MAX).outcome()
        assert (outcome.code, outcome.reason) in ((CALM, "too_many_pings"), (None, None))
        counters = check_bill(bill, outcome.units, neighbour.answered - calls)
        assert counters[GLITCH % "too_many_pings"] == 1


@pytest.mark.parametrize("name", ["continuation_flood", "empty_continuation_flood"])
def test_continuation_flood_ends_in_its_first_block(victim, name):
    with neighbour_of(victim) as neighbour:
        bill, calls = Bill(victim), neighbour.answered
        with attacks.Attacker(victim.grpc) as attacker:
            outcome = attacker.run(getattr(attacks, name)(), FLOOD_UNITS_MAX).outcome()
        assert outcome.code in (CALM, None)
        counters = check_bill(bill, outcome.units, neighbour.answered - calls)
        assert counters[GLITCH % "http2_connection_error"] == 1


def test_hpack_bomb_ends_with_its_first_block(victim):
    """Its first bytes tell what it is: the rest is not decoded."""
    with neighbour_of(victim) as neighbour:
        bill, calls = Bill(victim), neighbour.answered
        with attacks.Attacker(victim.grpc) as attacker:
            outcome = attacker.run(attacks.hpack_bomb(), 2).outcome()
        assert outcome.code in (CALM, None)
        counters = check_bill(bill, outcome.units, neighbour.answered - calls)
        assert counters[GLITCH % "header_list"] == 1
        assert counters[GLITCH % "http2_connection_error"] == 1


# ---- MadeYouReset ----

FORMS = {
    "window_overflow": (CALM, "stream_error"),  # the reset of a stream: charged, and some 120 are the last
    "window_zero": (PROTOCOL_ERROR, "http2_connection_error"),
    "headers_after_end": (STREAM_CLOSED, "http2_connection_error"),
    "data_after_end": (STREAM_CLOSED, "http2_connection_error"),
    "priority_length": (FRAME_SIZE_ERROR, "http2_connection_error"),
    "priority_of_itself": (CALM, "priority"),  # means nothing here, so that nothing is reset
}


def test_every_form_of_made_you_reset_has_its_row():
    assert set(FORMS) == set(attacks.MADE_YOU_RESET) and len(FORMS) == 6


@pytest.mark.parametrize("form", FORMS)
def test_made_you_reset_is_charged_to_the_client(victim, form):
    code, kind = FORMS[form]
    with neighbour_of(victim) as neighbour:
        bill, calls = Bill(victim), neighbour.answered
        with attacks.Attacker(victim.grpc) as attacker:
            attack = attacks.made_you_reset(attacks.MADE_YOU_RESET[form])
            # a connection error is provoked once, so that its GOAWAY is not lost
            outcome = attacker.run(attack, 1 if code != CALM else FLOOD_UNITS_MAX).outcome()
        assert outcome.code == code or (code == CALM and outcome.code is None)
        counters = check_bill(bill, outcome.units, neighbour.answered - calls)
        assert counters[GLITCH % kind] > 0
        assert counters[GLITCH % GLITCHES] == (code == CALM)
        if form == "window_overflow":
            assert attacker.counts[frames.RST_STREAM] <= 120  # of 10,000 points and 2,000 of credit


# ---- a stream holds its slot until its work ends ----

class HoldingUpstream(threading.Thread):
    """A service that answers nothing, and knows what it has been asked and not been told to forget."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.begun = self.cancelled = self.in_work = self.in_work_max = 0
        self.connections = []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        http.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 4 * STREAMS_MAX})
        connection.sendall(http.data_to_send())
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                for event in http.receive_data(data):
                    self.note(event)
                connection.sendall(http.data_to_send())

    def note(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.begun += 1
            self.in_work += 1
            self.in_work_max = max(self.in_work_max, self.in_work)
        elif isinstance(event, h2.events.StreamReset):
            assert event.error_code == 8, "not CANCEL"
            self.cancelled += 1
            self.in_work -= 1

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()


@contextlib.contextmanager
def held_work(folder, redis_server):
    """A gateway whose commands go to one connection of a HoldingUpstream, and a device."""
    upstream = HoldingUpstream()
    config = ECHO_CONFIG.format(address=upstream.address).replace(
        "deadline: 2s", "deadline: 100s\n    connections: 1\n    max_in_flight: 4096\n    health: false")
    with harness.Gateway(folder, redis_server, config=config, env={"GATEWAY_WORKERS": 1}) as gateway:
        yield gateway, harness.Device(gateway), upstream
    upstream.close()


def command(device, stream):
    payload = device.request().SerializeToString()
    return (attacks.frame(frames.HEADERS, frames.END_HEADERS, stream, attacks.call_block(harness.EXECUTE))
            + attacks.frame(frames.DATA, frames.END_STREAM, stream, attacks.message(payload)))


GIVE_UP = {
    "rst_stream": lambda stream: attacks.frame(frames.RST_STREAM, 0, stream, attacks.CANCEL),
    "window_overflow": attacks.window_overflow,
}


@pytest.mark.parametrize("how", GIVE_UP)
def test_calls_in_work_are_never_more_than_streams_allowed(folder, redis_server, how):
    """All slots are taken, then some given up and taken again, for as long as that goes well."""
    with held_work(folder, redis_server) as (gateway, device, upstream):
        bill = Bill(gateway)
        with attacks.Attacker(gateway.grpc, attacks.PREFACE + attacks.settings()
                              + attacks.frame(frames.SETTINGS, frames.ACK)) as attacker:
            ids = list(range(1, 2 * STREAMS_MAX + 1, 2))
            for stream in ids:
                assert attacker.send(command(device, stream))
            harness.wait_until(lambda: upstream.in_work == STREAMS_MAX, "all slots are taken")
            for turn in range(1, 9):
                for _ in range(10):
                    assert attacker.send(GIVE_UP[how](ids.pop(0)))
                    ids.append(ids[-1] + 2)
                harness.wait_until(lambda: upstream.cancelled == 10 * turn, "work that was given up is cancelled")
                for stream in ids[-10:]:
                    assert attacker.send(command(device, stream))
                harness.wait_until(lambda: upstream.begun == STREAMS_MAX + 10 * turn, "freed slots are taken")
            attacker.read()
            assert not attacker.ended and attacker.goaway is None
            assert upstream.in_work_max == STREAMS_MAX
            # one stream more is an error of the connection, and all work is over
            attacker.send(command(device, ids[-1] + 2))
            attacker.outcome()
        harness.wait_until(lambda: upstream.in_work == 0, "all work is cancelled")
        assert upstream.in_work_max == STREAMS_MAX
        counters = check_bill(bill, upstream.begun + upstream.cancelled, 0)
        assert counters[GLITCH % "http2_connection_error"] == 1 and counters[GLITCH % GLITCHES] == 0


def test_calls_given_up_at_once_are_not_more_work_than_the_score_allows(folder, redis_server):
    """As fast as they come, not one by one: what leaks past the slots is bounded by the score."""
    with held_work(folder, redis_server) as (gateway, device, upstream):
        with attacks.Attacker(gateway.grpc) as attacker:
            attack = ((command(device, stream) + attacks.window_overflow(stream), 1) for stream in attacks.streams())
            outcome = attacker.run(attack, FLOOD_UNITS_MAX).outcome()
        assert (outcome.code, outcome.reason) in ((CALM, GLITCHES), (None, None))
        harness.wait_until(lambda: upstream.in_work == 0, "all work is cancelled")
        assert upstream.begun <= 120
        assert gateway.metric(GLITCH % "stream_error") >= 98


def test_reset_after_work_began_cancels_it(folder, redis_server):
    with held_work(folder, redis_server) as (gateway, device, upstream):
        bill = Bill(gateway)
        with attacks.Attacker(gateway.grpc) as attacker:
            attacker.send(command(device, 1))
            harness.wait_until(lambda: upstream.in_work == 1, "the work has begun")
            attacker.send(GIVE_UP["rst_stream"](1))
            harness.wait_until(lambda: upstream.cancelled == 1, "the work is cancelled")
            # also by a client that is gone
            attacker.send(command(device, 3))
            harness.wait_until(lambda: upstream.in_work == 1, "the work has begun")
        harness.wait_until(lambda: upstream.cancelled == 2, "the work is cancelled")
        gateway.wait_metric(
            'gateway_grpc_calls_total{method="%s",code="CANCELLED"}' % harness.EXECUTE, lambda value: value == 2)
        check_bill(bill, upstream.begun + upstream.cancelled, 0)


# ---- compression state ----

CHECK_FIELDS = [(":method", "POST"), (":scheme", "http"), (":path", attacks.HEALTH + "Check"), (":authority", "x"),
                ("te", "trailers"), ("content-type", "application/grpc")]


def test_header_list_over_the_limit_keeps_the_compression_state(victim):
    """What the refused request has put into the table, also behind the field that was too much, is all of the next one: indices."""
    before = victim.metric(GLITCH % "header_list")
    table = ("x-table", "t" * 100)
    with frames.FrameClient(victim.grpc) as client:
        def call(block):
            stream, client.next_stream = client.next_stream, client.next_stream + 2
            client.send(frames.HEADERS, frames.END_HEADERS, stream, block)
            client.send(frames.DATA, frames.END_STREAM, stream, attacks.message())
            return stream

        over = attacks.block(*[(f"x-{i}", "y" * 200) for i in range(70)])
        refused = call(client.encoder.encode(CHECK_FIELDS) + over + client.encoder.encode([table]))
        reset = client.until(frames.RST_STREAM)
        assert (reset.stream, reset.payload) == (refused, struct.pack(">I", CALM))
        indices = client.encoder.encode([*CHECK_FIELDS, table])
        assert len(indices) == len(CHECK_FIELDS) + 1 and all(byte & 0x80 for byte in indices)
        answered = call(indices)
        assert client.fields(answered)[":status"] == "200"
        assert client.fields(answered)["grpc-status"] == "0"
    assert victim.metric(GLITCH % "header_list") == before + 1


def test_table_churn_is_served_in_proportion(victim):
    """No fault: it costs its client as much. It leaves nothing behind."""
    for name in ("table_churn", "table_size_churn"):
        with neighbour_of(victim) as neighbour:
            bill, calls = Bill(victim), neighbour.answered
            with attacks.Attacker(victim.grpc) as attacker:
                attacker.run(getattr(attacks, name)(), 400)
                attacker.wait(lambda: attacker.counts[frames.HEADERS] == 800)
            counters = check_bill(bill, 400, neighbour.answered - calls)
            assert counters[GLITCH % GLITCHES] == 0


# ---- windows and readers ----

def test_zero_windows_hold_no_more_than_their_streams(victim):
    with neighbour_of(victim) as neighbour:
        bill, calls = Bill(victim), neighbour.answered
        with attacks.Attacker(victim.grpc, attacks.PREFACE + attacks.settings((attacks.INITIAL_WINDOW_SIZE, 0))
                              + attacks.frame(frames.SETTINGS, frames.ACK)) as attacker:
            for stream in range(1, 2 * STREAMS_MAX, 2):
                attacker.send(attacks.check(stream))
            attacker.wait(lambda: attacker.counts[frames.HEADERS] == STREAMS_MAX)
            assert attacker.counts[frames.DATA] == 0
            neighbour.more()
            # the one stream too many
            attacker.send(attacks.check(2 * STREAMS_MAX + 1))
            assert attacker.outcome().code in (PROTOCOL_ERROR, None)
        counters = check_bill(bill, STREAMS_MAX, neighbour.answered - calls)
        assert counters[GLITCH % "http2_connection_error"] == 1


def test_clients_that_never_read_are_ended(victim):
    """They stay; what they send to a connection that is over is dropped, until it is closed."""
    told = [attacks.settings_flood(), attacks.ping_flood(), attacks.made_you_reset(attacks.window_overflow),
            ((attacks.check(stream), 1) for stream in attacks.streams())]
    with neighbour_of(victim) as neighbour, contextlib.ExitStack() as stack:
        bill, calls, units = Bill(victim), neighbour.answered, 0
        for attack in told:
            client = stack.enter_context(harness.connect(victim.grpc, receive_bytes=4096))  # what it does not read is the victim's
            client.sendall(attacks.PREFACE + attacks.settings())
            with contextlib.suppress(ConnectionError):
                for data, count in itertools.islice(attack, 8000):
                    client.sendall(data)
                    units += count
        neighbour.more()
        victim.wait_metric(OPEN % "grpc", lambda value: value == 1)  # the neighbour's
        counters = check_bill(bill, units, neighbour.answered - calls)
        assert sum(counters[GLITCH % kind] for kind in (GLITCHES, "http2_connection_error", "too_many_pings")) == len(told)
        assert counters[OUTCOME % ("grpc", "protocol")] == len(told)


# ---- what never ends ----

@pytest.fixture(scope="module")
def impatient():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    redis_server = harness.Redis(folder)
    gateway = harness.Gateway(folder, redis_server, env={
        "GATEWAY_WORKERS": 1, "GATEWAY_HTTP_HEADER_TIMEOUT": "600ms", "GATEWAY_HTTP_BODY_TIMEOUT": "600ms"})
    yield gateway
    gateway.stop()
    redis_server.stop()
    shutil.rmtree(folder)


NEVER_ENDING = {
    "no preface": (b"", b""),
    "preface byte by byte": (b"", attacks.PREFACE),
    "preface and no SETTINGS": (attacks.PREFACE, b""),
    "SETTINGS byte by byte": (attacks.PREFACE, attacks.settings((1, 4096), (2, 0), (3, 100), (4, 65535))),
    "header block without its end": (attacks.PREFACE + attacks.settings()
                                     + attacks.frame(frames.HEADERS, 0, 1, attacks.CHECK), b""),
    "header block without its rest": (attacks.PREFACE + attacks.settings()
                                      + attacks.frame(frames.HEADERS, frames.END_HEADERS, 1, attacks.CHECK)[:50], b""),
    "header block byte by byte": (attacks.PREFACE + attacks.settings(),
                                  attacks.frame(frames.HEADERS, frames.END_HEADERS, 1, attacks.CHECK)),
}


@pytest.mark.parametrize("story", NEVER_ENDING)
def test_what_never_ends_is_ended(impatient, story):
    """A byte every 30 ms would take longer than the 600 ms there are."""
    at_once, slowly = NEVER_ENDING[story]
    before = impatient.metrics()
    with neighbour_of(impatient) as neighbour:
        bill, calls = Bill(impatient), neighbour.answered
        with attacks.Attacker(impatient.grpc, at_once) as attacker:
            for byte in slowly:
                if select.select([attacker.socket], [], [], 0.03)[0]:
                    attacker.read()
                if attacker.goaway or attacker.ended or not attacker.send(bytes([byte])):
                    break
            outcome = attacker.outcome()
        if at_once:
            assert (outcome.code, outcome.reason) in ((CALM, "header_timeout"), (None, None))
        impatient.wait_metric(OUTCOME % ("grpc", "timeout"),
                              lambda value: value == before[OUTCOME % ("grpc", "timeout")] + 1)
        counters = check_bill(bill, len(at_once) + len(slowly), neighbour.answered - calls)
        assert counters[GLITCH % "request_timeout"] == 1


def test_body_that_never_ends_ends_its_call_alone(impatient):
    bill = Bill(impatient)
    with frames.FrameClient(impatient.grpc) as client:
        stream = client.request([(":method", "POST"), (":scheme", "http"), (":path", harness.EXECUTE),
                                 (":authority", "x"), ("te", "trailers"), ("content-type", "application/grpc")],
                                struct.pack(">BI", 0, 100) + b"begun", end=False)
        assert client.fields(stream)["grpc-status"] != "0"
        client.send(frames.RST_STREAM, 0, stream, attacks.CANCEL)
        answered = client.call(attacks.HEALTH + "Check")
        assert client.fields(answered)[":status"] == "200"
    assert check_bill(bill, 1, 1)[GLITCH % "request_timeout"] == 1


@pytest.fixture
def patient(folder, redis_server):
    """Bodies have a minute, and must come by 1 KiB a second."""
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_WORKERS": 1, "GATEWAY_HTTP_BODY_TIMEOUT": "60s", "GATEWAY_HTTP_MIN_BODY_RATE": "1KiB"}) as gateway:
        yield gateway


def test_slow_bodies_end_with_a_status_and_then_their_connection(patient):
    """Slowloris over HTTP/2: 50 bodies of which each always has one byte more. Some are refused before their minute, then it is
    too many: 24, or less by what their small frames weigh. A body at the least rate comes whole."""
    headers = attacks.call_block(harness.EXECUTE)
    begun = attacks.message(bytes(20000))[:100]
    streams, bill, units = range(1, 100, 2), Bill(patient), 0
    with attacks.Attacker(patient.grpc) as attacker, frames.FrameClient(patient.grpc) as client:
        honest = client.request([(":method", "POST"), (":scheme", "http"), (":path", harness.EXECUTE), (":authority", "x"),
                                 ("te", "trailers"), ("content-type", "application/grpc")],
                                attacks.message(bytes(20000))[:10240], end=False)
        for stream in streams:
            attacker.send(attacks.frame(frames.HEADERS, frames.END_HEADERS, stream, headers)
                          + attacks.frame(frames.DATA, 0, stream, begun))
        while not attacker.goaway and not attacker.ended:
            if select.select([attacker.socket], [], [], 0.5)[0]:  # the pace of the trickle
                attacker.read()
            attacker.send(b"".join(attacks.frame(frames.DATA, 0, stream, b"x") for stream in streams))
            units += len(streams)
        outcome = attacker.outcome()
        client.send(frames.DATA, frames.END_STREAM, honest, attacks.message(bytes(20000))[10240:])
        # its payload is no command, but it was read
        assert client.fields(honest)["grpc-message"] not in ("", "request took too long")
    assert (outcome.code, outcome.reason) in ((CALM, GLITCHES), (None, None))
    counters = check_bill(bill, units, 1)
    assert 16 < counters[GLITCH % "body_too_slow"] <= 24 and counters[GLITCH % GLITCHES] == 1
    assert counters[GLITCH % "request_timeout"] == 0
    patient.wait_metric(OPEN % "grpc", lambda value: value == 0)


# ---- who is not meant ----

def innocent(gateway, before):
    after = gateway.metrics()
    return [name for name in after if "glitches" in name and after[name] != before.get(name, 0)] == []


def test_client_that_gives_up_half_of_its_calls_is_none_of_them(victim):
    before = victim.metrics()
    with attacks.Attacker(victim.grpc) as client:
        ids = attacks.streams()
        for turn in range(1, 1001):
            kept, given_up = next(ids), next(ids)
            client.send(attacks.check(kept) + attacks.watch(given_up) + GIVE_UP["rst_stream"](given_up))
            client.wait(lambda: client.counts[frames.DATA] == turn)
        assert client.goaway is None and not client.ended
    assert innocent(victim, before)


def test_client_that_drops_all_its_streams_at_once_is_none_of_them(victim):
    """Young ones, so that they are charged."""
    with attacks.Attacker(victim.grpc) as client:
        for stream in range(1, 2 * STREAMS_MAX, 2):
            client.send(attacks.watch(stream))
        client.wait(lambda: client.counts[frames.DATA] == STREAMS_MAX)
        client.send(b"".join(GIVE_UP["rst_stream"](stream) for stream in range(1, 2 * STREAMS_MAX, 2)))
        client.send(attacks.check(2 * STREAMS_MAX + 1))
        client.wait(lambda: client.counts[frames.DATA] == STREAMS_MAX + 1)
        assert client.goaway is None and not client.ended


def test_subscriber_that_opens_windows_for_each_event_is_none_of_them(victim):
    """python3-h2, both windows for each DATA frame, and a PING with each."""
    before = victim.metrics()
    device = harness.Device(victim)
    client = raw_h2.RawClient(victim.public.rpartition(":")[0] + ":" + victim.grpc.rpartition(":")[2])
    stream = client.call(harness.SUBSCRIBE, device.subscribe_request().SerializeToString())
    client.read_until(lambda: client.data.get(stream))
    for count in range(300):
        size = len(client.data[stream])
        harness.publish_event(victim, device.user)
        client.read_until(lambda: len(client.data[stream]) > size)
        client.open_windows(len(client.data[stream]) - size)
    client.close()
    assert innocent(victim, before)


# ---- the READMEs ----

def test_table_of_attacks_has_each_that_is_measured_and_no_neighbour_waits_twice_as_long():
    table = re.findall(r"^\| (\w+) \|.* \| ([\d.]+) \| \d+ \|$", (harness.ROOT / "tests/net/README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in table] == measure_attacks.STORIES
    assert all(float(ratio) <= measure_attacks.RATIO_MAX for _, ratio in table)


def test_readme_has_every_kind_with_its_weight():
    source = (harness.ROOT / "src/edge/glitches.c").read_text()
    rows = dict(re.findall(r'\{"(\w+)", (\d+), (?:true|false)\}', source))
    readme = (harness.ROOT / "README.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+|–) \|", readme, re.MULTILINE))
    assert rows and {kind: weight if weight != "0" else "–" for kind, weight in rows.items()} == {
        kind: table[kind] for kind in rows}
