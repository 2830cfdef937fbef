"""Each allocation of a story is refused in turn, the libraries' included: what is asked ends with a clean error or as it
should, and what comes after is well. The program is ringway-faults (tests/faults/allocator.c)."""

import contextlib
import errno
import http.client
import mmap
import os
import signal
import struct
import subprocess
import uuid
from types import SimpleNamespace

import pytest

import harness
import test_sso
from cable import Cable
from conftest import ECHO_CONFIG
from services import AuthService, auth
from test_lifecycle import descriptors
from test_rest import make_descriptors
from test_settings import open_connections

FAULTY = harness.OUT / "ringway-faults"


class Faults:
    """The program's allocator, by the memory shared with it: at, run, count, refused, framing, lost_ring."""

    def __init__(self, folder):
        self.path = folder / "faults"
        self.path.write_bytes(bytes(48))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 48)

    def _write(self, index, value):
        struct.pack_into("=Q", self.map, index * 8, value)

    def _read(self, index):
        return struct.unpack_from("=Q", self.map, index * 8)[0]

    def arm(self, at, run=1):
        self.disarm()
        self._write(1, run)
        self._write(2, 0)
        self._write(0, at)

    def disarm(self):
        self._write(0, 0)

    def lose_ring(self, thread):
        struct.pack_into("=8s", self.map, 40, thread.encode())

    @property
    def attempts(self):
        return self._read(2)

    @property
    def refused(self):
        return self._read(3)

    @property
    def framing(self):
        """nghttp2's attempts."""
        return self._read(4)


@pytest.fixture
def faults(folder):
    return Faults(folder)


@pytest.fixture
def cable(echo):
    """The way to the service."""
    with Cable(echo.address) as made:
        yield made


@contextlib.contextmanager
def faulty_gateway(folder, redis_server, faults, config):
    """One worker, and readers of streams that are silent while nothing is published: what is counted is the story's."""
    silent = {"GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "1m", "GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "1m"}
    env = {"RINGWAY_FAULT_FILE": faults.path, "GATEWAY_WORKERS": 1, "GATEWAY_LOG_LEVEL": "info", **(silent if redis_server else {})}
    with harness.Gateway(folder, redis_server, config=config, program=FAULTY, env=env) as process:
        yield process
        faults.disarm()


@pytest.fixture
def faulty(folder, redis_server, cable, faults):
    config = ECHO_CONFIG.format(address=cable.address).replace("deadline: 2s", "deadline: 2s\n    connections: 1")
    with faulty_gateway(folder, redis_server, faults, config) as process:
        yield process


NEVER = (1 << 64) - 1
FAULTS = os.environ.get("FAULTS")  # make faults: "1/1", every attempt of every story; "2/8": every eighth, from the second on


def numbers(total, most):
    """Which of a story's attempts are refused."""
    if FAULTS:
        first, step = map(int, FAULTS.split("/"))
    else:
        first, step = 1, max(1, total // most) if most else 1
    print(f"{len(range(first, total + 1, step))} of {total} attempts are refused")
    return range(first, total + 1, step)


def sweep(faults, story, well, most=None):
    """Refuses the first attempt of the story, then the second, … up to as many as it makes; with `most` about so many of
    them, evenly spread. Returns its outcomes."""
    outcomes, begun = {}, faults.refused
    faults.arm(NEVER)
    assert story() == well
    for number in numbers(faults.attempts, most):
        before = faults.refused
        faults.arm(number)
        outcome = story()
        faults.disarm()
        outcomes.setdefault(outcome, []).append(number)
        if faults.refused == before:
            assert outcome == well, outcome
            continue
        # what was lost with it (a connection to Redis, to a service) is made anew
        harness.wait_until(lambda: story() == well, f"well again after refusal {number}, which gave {outcome}")
    assert FAULTS or faults.refused > begun, "nothing was refused"
    return outcomes


def channel_to(gateway):
    """One that tries nothing twice by itself."""
    return harness.Channel(gateway.grpc, **{"grpc.enable_retries": 0})


# ---- HTTP/1.1 ----

def get(address, path):
    """The status, or "closed" if the connection ended without one."""
    try:
        return harness.http(address, "GET", path)[0]
    except (ConnectionError, http.client.HTTPException):
        return "closed"


@pytest.mark.parametrize("listener", ["public", "admin"])
def test_http1_request_is_answered_or_its_connection_closed(faulty, faults, listener):
    address = faulty.public if listener == "public" else faulty.admin
    outcomes = sweep(faults, lambda: get(address, "/healthz"), 200)
    assert set(outcomes) <= {200, 503, "closed"} and "closed" in outcomes


# ---- commands ----

def execute(gateway, device):
    with channel_to(gateway) as channel:
        return channel.outcome(device.request())


def test_command_through_to_its_service_ends_with_a_status(faulty, faults):
    """A new session each time: its record is read from Redis too."""
    before = faults.framing
    outcomes = sweep(faults, lambda: execute(faulty, harness.Device(faulty)), "OK")
    assert faults.framing > before, "nghttp2's attempts are none of them"
    assert faulty.metric('gateway_glitches_total{kind="too_many_calls"}') > 0  # the call itself found no place
    assert {outcome[0] for outcome in outcomes if outcome != "OK"} <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"}


def reach_anew(gateway, cable, device, payload):
    """The connection to the service is lost, so that its HTTP/2 session is made anew; a command in several frames each way."""
    before = cable.accepted
    cable.pull()
    harness.wait_until(lambda: cable.accepted > before, "the service is dialled again")
    with channel_to(gateway) as channel:
        return channel.outcome(device.request(payload=payload))


def test_connection_to_a_service_is_made_anew_or_its_command_ends_with_a_status(faulty, faults, cable):
    device, payload = harness.Device(faulty), bytes(40000)
    outcomes = sweep(faults, lambda: reach_anew(faulty, cable, device, payload), "OK", most=40)
    assert {outcome[0] for outcome in outcomes if outcome != "OK"} <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"}
    assert ("UNAVAILABLE", "downstream service is unavailable") in outcomes


# ---- streams ----

def heard(stream):
    """What comes next on it: an event's id, or its end."""
    item = stream.events.get(timeout=harness.PATIENCE)
    return item if isinstance(item, tuple) else item.event_id


REVOKED = ("FAILED_PRECONDITION", "device session is revoked")


def follow(gateway):
    """Opens a stream, is sent an event, is revoked. Whatever is refused meanwhile: the event comes or the stream has
    ended, and a revoked session has no stream and no command."""
    device = harness.Device(gateway)
    with channel_to(gateway) as channel:
        request = device.subscribe_request()
        stream = channel.subscribe(request)
        last = heard(stream)
        if last == request.request_id:
            event_id = harness.publish_event(gateway, device.user)
            last = heard(stream)
            assert isinstance(last, tuple) or last == event_id
        device.revoke()
        if not isinstance(last, tuple):
            last = heard(stream)
        assert isinstance(last, tuple), f"an event after the revocation: {last}"
    harness.wait_until(lambda: execute(gateway, device) != "OK", "the revocation is known")
    return last


def test_stream_has_every_event_or_ends_and_no_revocation_is_lost(faulty, faults):
    outcomes = sweep(faults, lambda: follow(faulty), REVOKED, most=130)
    assert {outcome[0] for outcome in outcomes} <= {"FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"}


def reconnect(gateway):
    """Redis closes every connection: both readers of streams and the commands' own come back."""
    gateway.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    device = harness.Device(gateway)
    harness.wait_until(lambda: execute(gateway, device) == "OK", "commands work again")
    return follow(gateway)


def test_lost_redis_connection_comes_back(faulty, faults):
    outcomes = sweep(faults, lambda: reconnect(faulty), REVOKED, most=20)
    assert REVOKED in outcomes


# ---- reload ----

def reloads(gateway):
    """By result; None if the question itself met a refusal."""
    try:
        metrics = gateway.metrics()
    except (ConnectionError, http.client.HTTPException, AssertionError):
        return None
    return {result: metrics[f'gateway_config_reloads_total{{result="{result}"}}'] for result in ("success", "mistakes", "failed")}


def reload(gateway, echo, known):
    """With an upstream that was not there before, so that it is made, dialled and used; or else with the one before."""
    name = f"echo-{uuid.uuid4()}"[:20]
    (gateway.folder / "gateway.yaml").write_text(ECHO_CONFIG.format(address=echo.address).replace("echo:", name + ":").replace(
        "upstream: echo", "upstream: " + name))
    gateway.process.signal(signal.SIGHUP)
    now = harness.wait_until(lambda: (counts := reloads(gateway)) != known and counts, "the reload ends")
    result = next(result for result in now if now[result] != known[result])
    known.update(now)
    device = harness.Device(gateway)
    harness.wait_until(lambda: execute(gateway, device) == "OK", "commands work on the new routes or the old")
    return result


def test_reload_is_done_or_the_file_before_stays(faulty, faults, echo):
    known = reloads(faulty)
    outcomes = sweep(faults, lambda: reload(faulty, echo, known), "success", most=25)
    assert "mistakes" in outcomes and set(outcomes) <= {"success", "mistakes", "failed"}


# ---- sign-on ----

def sign_in_and_out(gateway):
    """The status that it ended with; what is refused sets no cookie."""
    browser = test_sso.Browser(gateway)
    try:
        begun = browser.ask("GET", test_sso.LOGIN)
        if begun.status != 302:
            assert not begun.cookies
            return "login", begun.status
        state = test_sso.parameters(begun.location)["state"]
        answer = browser.ask("GET", f"{test_sso.CALLBACK}?code=c&state={state}")
        if answer.status != 302:
            assert not answer.cookies
            return "callback", answer.status
        answer = browser.ask("POST", test_sso.LOGOUT, origin=test_sso.OURS)
        assert bool(answer.cookies) == (answer.status == 204)
        return "logout", answer.status
    except (ConnectionError, http.client.HTTPException):
        return "closed"


@pytest.fixture
def sign_on(folder):
    """The file of a gateway in front of an AuthService that takes any code."""
    service = AuthService()
    service.HandleGoogleAuthCallback = lambda request, context: auth.HandleGoogleAuthCallbackResponse(session_token=service.login())
    service.Logout = lambda request, context: auth.LogoutResponse()
    service.provider = SimpleNamespace(metadata={"authorization_endpoint": "https://provider.example/authorize"})
    make_descriptors(folder)
    yield test_sso.configuration(folder, service)
    service.stop()


def test_sign_on_ends_with_a_session_or_without_any(folder, redis_server, faults, sign_on):
    with faulty_gateway(folder, redis_server, faults, sign_on) as gateway:
        harness.wait_until(lambda: sign_in_and_out(gateway) == ("logout", 204), "AuthService is found")
        outcomes = sweep(faults, lambda: sign_in_and_out(gateway), ("logout", 204))
    # a cookie that there was no memory for is none; an answer of AuthService, too
    assert set(outcomes) - {"closed", ("callback", 400), ("callback", 502)} <= {
        ("login", 503), ("callback", 503), ("logout", 503), ("logout", 401), ("logout", 204)}


def test_sign_on_that_cannot_be_remembered_is_refused(folder, faults, sign_on):
    """Without Redis; the table's first memory is asked for with the first state."""
    with faulty_gateway(folder, None, faults, sign_on) as gateway:
        full = 'gateway_sign_on_total{result="states_full"}'
        gateway.log("connected", upstream="auth")
        for number in range(1, 100):
            browser = test_sso.Browser(gateway)
            state = test_sso.parameters(browser.ask("GET", test_sso.LOGIN).location)["state"]
            faults.arm(number)
            try:
                answer = browser.ask("GET", f"{test_sso.CALLBACK}?code=c&state={state}")
            except (ConnectionError, http.client.HTTPException):
                continue
            finally:
                faults.disarm()
            if gateway.metric(full):
                break
            assert answer.status != 302, "it was remembered before its memory was refused"
        assert answer.error == (503, {"error": {"code": 503, "message": "sign-on is unavailable"}}) and not answer.cookies
        assert gateway.metric(full) == 1
        assert sign_in_and_out(gateway) == ("logout", 204)


# ---- without memory for a while ----

def test_what_was_due_while_there_was_no_memory_is_made_up_for(faulty, faults):
    """Every attempt is refused from some moment on: a stream that was open hears the event or ends, a revoked session has
    neither stream nor command when memory is back."""
    for number in range(1, 62, 3):
        device, stranger = harness.Device(faulty), harness.Device(faulty)
        with channel_to(faulty) as channel:
            request = device.subscribe_request()
            stream = channel.subscribe(request)
            assert heard(stream) == request.request_id
            assert execute(faulty, device) == "OK"
            refused = faults.refused
            faults.arm(number, run=NEVER)
            event_id = harness.publish_event(faulty, device.user)
            device.revoke()
            while faults.refused < refused + 20:
                assert execute(faulty, stranger) != ""  # whatever it says
            faults.disarm()
            last = heard(stream)
            assert last == event_id or isinstance(last, tuple)
            if not isinstance(last, tuple):
                assert isinstance(heard(stream), tuple)
        harness.wait_until(lambda: execute(faulty, device) == REVOKED, "the revocation is known")
        harness.wait_until(lambda: follow(faulty) == REVOKED, "all is well again")


# ---- start ----

LEAKS = {"LSAN_OPTIONS": f"suppressions='{harness.ROOT}/tests/faults/leaks.supp':print_suppressions=0"}


def test_checked_configuration_is_valid_or_the_error_says_why(faulty, faults):
    def check():
        return subprocess.run([FAULTY, "--check-config"], env=faulty.env | LEAKS, capture_output=True, timeout=harness.PATIENCE)

    faults.arm(NEVER)
    assert check().returncode == 0
    codes = set()
    for number in numbers(faults.attempts, 80):
        faults.arm(number)
        done = check()
        faults.disarm()
        codes.add(done.returncode)
        assert done.returncode in (0, 1, 2), (number, done)
        assert done.stderr.strip() or done.returncode == 0, (number, done)
    assert 2 in codes


@pytest.fixture
def alone(folder, faults, sign_on):
    """The API gateway without the edge gateway."""
    with faulty_gateway(folder, None, faults, sign_on) as process:
        yield process


@pytest.mark.parametrize("gateway", ["faulty", "alone"])
def test_start_succeeds_or_the_error_says_why(request, faults, gateway):
    faulty = request.getfixturevalue(gateway)

    def start():
        """What it ended with; one that serves is told to end."""
        # a start that fails leaves what it has made to the end of the process
        process = harness.Process([FAULTY], env=faulty.env | {"ASAN_OPTIONS": "detect_leaks=0:exitcode=99"})
        try:
            process.err.wait(lambda line: '"listening"' in line and '"admin"' in line)
        except harness.Failed:
            assert process.wait() in (1, 2), process.err.text()
            assert process.err.text().strip()
            return "refused"
        faults.disarm()
        assert process.stop() == 0
        return "serves"

    faults.arm(NEVER)
    assert start() == "serves"
    total = faults.attempts
    outcomes = set()
    for number in numbers(total, 20):
        faults.arm(number)
        outcomes.add(start())
        faults.disarm()
    assert outcomes == {"serves", "refused"}


# ---- a ring that is lost: the kernel had no memory for its completions ----

@pytest.mark.parametrize("thread", ["worker-0", "bus"])
@pytest.mark.parametrize("serves", [False, True], ids=["at the start", "while it serves"])
def test_process_ends_and_names_the_thread_that_lost_its_ring(folder, redis_server, faults, thread, serves):
    if not serves:
        faults.lose_ring(thread)
    gateway = harness.Gateway(folder, redis_server, wait=serves, program=FAULTY,
                              env={"RINGWAY_FAULT_FILE": faults.path, "GATEWAY_WORKERS": 1})
    try:
        if serves:
            faults.lose_ring(thread)
            get(gateway.public, "/healthz")  # something to do for the worker, and for the bus
            harness.publish_event(gateway, "nobody")
        assert gateway.process.wait() == 1
        assert gateway.log("ring failed", thread=thread)["error"] == os.strerror(errno.EOVERFLOW)
    finally:
        gateway.process.stop()


# ---- a kernel before 6.13, which keeps closed direct files while other operations last ----

def test_connections_are_descriptors_where_closed_direct_files_are_kept(folder, redis_server):
    with harness.Gateway(folder, redis_server, program=FAULTY, env={"RINGWAY_FAULT_KEEPS_FILES": 1},
                         prefix=lambda env: ["prlimit", "--nofile=540:540"]) as gateway:
        gateway.metrics()  # /proc/self/fd stays open from then on
        before = descriptors(gateway)
        kept = [harness.connect(gateway.public) for _ in range(540 - 512)]  # of both workers together
        harness.wait_until(lambda: open_connections(gateway) == len(kept), "all are open")
        assert descriptors(gateway) > before + len(kept) // 2  # some of before may have been the start's
        with harness.connect(gateway.public) as late:
            assert harness.is_ended(late)
        for connection in kept:
            connection.close()
        harness.wait_until(lambda: descriptors(gateway) <= before, "no descriptor stays")
