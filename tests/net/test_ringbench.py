"""The load generator: right against servers that answer rightly, and not to be fooled by those that do not."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading

import pytest

import harness

RINGBENCH = harness.OUT / "ringbench"
ENV = {"PATH": os.environ["PATH"], **harness.SANITIZERS}
SHORT = ["--warmup", "0.1", "--duration", "0.3"]


class Run:
    """A run that has ended: exit code, report, what it said."""

    def __init__(self, *words):
        self.words = words
        process = harness.Process([RINGBENCH, *words], env=ENV)
        self.code = process.wait()
        process.out.join()
        lines = process.out.text().splitlines()
        self.report = json.loads(lines[0]) if lines else None
        self.said = process.err.text()
        process.stop()
        assert len(lines) <= 1, lines

    def __repr__(self):
        return f"exit {self.code}\n{self.report}\n{self.said}"

    def check_clean(self):
        if self.said == "ringbench: not one unit came into the window" and self.words[-1] != "5":
            return Run(*self.words, "--duration", "5").check_clean()  # a busy machine may stand still for so long
        assert self.code == 0, self
        assert self.said == "", self
        assert self.report["units"] > 0 and self.report["seconds"] > 0, self
        for name in ("failed", "wrong", "lost", "duplicates", "ended"):
            assert self.report[name] == 0, self
        latency = self.report["latency_us"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["max"], self
        rate = self.report["units"] / self.report["seconds"]
        assert abs(self.report["rate_per_s"] - rate) < 1, self
        return self.report


def http_words(gateway, *more):
    return ["http", "--target", gateway.public, "--connections", "8", *SHORT, *more]


def h2_words(gateway, *more):
    return ["h2", "--target", gateway.grpc, "--connections", "3", "--streams", "5", *SHORT, *more]


def command_words(gateway, *more):
    return ["command", "--target", gateway.grpc, "--redis", gateway.redis.address, "--connections", "2", "--streams", "8",
            "--envelopes", "20000", *SHORT, *more]


@pytest.fixture
def gateway_key(gateway):
    path = gateway.folder / "public.pem"
    subprocess.run(["openssl", "pkey", "-in", str(gateway.signer), "-pubout", "-out", str(path)], check=True)
    return path


# ---- right answers ----

@pytest.mark.parametrize("words", [[], ["--threads", "2"], ["--source-addresses", "3"], ["--rate", "500"]], ids=" ".join)
def test_http_counts_right_answers(gateway, words):
    Run(*http_words(gateway, *words)).check_clean()


@pytest.mark.parametrize("words", [[], ["--threads", "2"], ["--rate", "500"], ["--streams", "100"]], ids=" ".join)
def test_h2_counts_right_health_checks(gateway, words):
    Run(*h2_words(gateway, *words)).check_clean()


def test_h2_gets_over_prior_knowledge(gateway):
    Run("h2", "--target", gateway.public, "--method", "get", "--path", "/healthz", "--connections", "2", "--streams", "4",
        *SHORT).check_clean()


@pytest.fixture
def order(folder):
    """The message of 1 KB that W10 sends: its JSON and its protobuf."""
    subprocess.run([harness.OUT / "micro_pbjson", harness.OUT / "gen" / "tests.pb", folder], check=True)
    return folder / "order.json", folder / "order.wire"


def call_words(echo, message, *more):
    return ["h2", "--target", echo.address, "--method", "call", "--path", "/ringway.test.Mirror/Echo", "--body", message,
            "--connections", "2", "--streams", "4", *SHORT, *more]


@pytest.mark.parametrize("words", [[], ["--threads", "2"]], ids=" ".join)
def test_calls_with_a_given_message_are_counted(echo, order, words):
    Run(*call_words(echo, order[1], "--answer", order[1], *words)).check_clean()
    Run(*call_words(echo, order[1], *words)).check_clean()


def rest_words(gateway, order, *more):
    return ["http", "--target", gateway.public, "--path", "/api/v1/orders:echo", "--body", order[0], "--connections", "4", *SHORT,
            *more]


@pytest.fixture
def rest_gateway(folder, redis_server, echo):
    config = (harness.ROOT / "bench" / "config" / "rest.yaml").read_text()
    config = config.replace("@upstream@", echo.address).replace("@descriptors@", str(harness.OUT / "gen" / "tests.pb"))
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        yield gateway


def test_posts_are_counted_whose_answer_is_the_given_one(rest_gateway, order):
    Run(*rest_words(rest_gateway, order, "--answer", order[0], "--threads", "2")).check_clean()


@pytest.mark.parametrize("words", [
    [], ["--threads", "2", "--sessions", "5"], ["--rate", "300"], ["--payload", "0"],
    ["--payload", "40000", "--envelopes", "2000", "--rate", "100"]], ids=" ".join)
def test_commands_are_signed_and_their_answers_checked(gateway, gateway_key, words):
    report = Run(*command_words(gateway, "--gateway-key", gateway_key, "--server-pid", str(gateway.process.pid), *words)
                 ).check_clean()
    assert report["server_cpu_us"] > 0 and report["server_cpu_us_per_unit"] > 0
    assert gateway.metric('gateway_grpc_calls_total{method="/galaxy.gateway.v1.EdgeGateway/ExecuteCommand",code="OK"}') \
        >= report["units"]


def test_run_out_of_envelopes_ends_early_and_says_so(gateway, gateway_key):
    run = Run(*command_words(gateway, "--gateway-key", gateway_key, "--warmup", "0", "--duration", "30", "--envelopes", "500"))
    assert run.code == 0 and run.report["ran_out"] is True and run.report["seconds"] < 25, run
    assert "used up" in run.said


def test_schedule_charges_what_could_not_be_sent(gateway):
    """One connection, one request at a time, far more due than that can carry."""
    run = Run("http", "--target", gateway.public, "--connections", "1", "--rate", "2000000", *SHORT)
    assert run.code == 0 and run.report["backlog"] > 1000, run
    assert run.report["latency_us"]["max"] > 100_000, run


def test_report_has_the_servers_cpu_time(gateway):
    report = Run(*http_words(gateway, "--server-pid", str(gateway.process.pid))).check_clean()
    assert 0 < report["server_cpu_us"] < 16 * report["seconds"] * 1e6
    assert report["server_cpu_us_per_unit"] == pytest.approx(report["server_cpu_us"] / report["units"], rel=0.01, abs=0.001)
    assert report["generator_cpu_us_per_unit"] > 0


# ---- wrong answers ----

def test_answer_that_is_not_the_given_one_is_wrong(gateway, echo, order, folder):
    other = folder / "other"
    other.write_bytes(order[1].read_bytes()[:-1] + b"x")
    for words in (call_words(echo, order[1], "--answer", other), http_words(gateway, "--answer", other)):
        run = Run(*words)
        assert run.code == 1 and run.report["wrong"] > 0 and run.report["units"] == 0, run


def test_another_gateways_key_makes_answers_wrong(gateway):
    other = gateway.folder / "other.pem"
    harness.make_signer(other)
    public = gateway.folder / "other-public.pem"
    subprocess.run(["openssl", "pkey", "-in", str(other), "-pubout", "-out", str(public)], check=True)
    run = Run(*command_words(gateway, "--gateway-key", public))
    assert run.code == 1 and run.report["wrong"] > 0, run
    assert "signature is BAD" in run.said


def test_another_payload_is_a_wrong_answer(gateway, gateway_key):
    run = Run(*command_words(gateway, "--gateway-key", gateway_key, "--message-type", "echo.large.7"))
    assert run.code == 1 and run.report["wrong"] > 0 and run.report["units"] == 0, run
    assert "another payload" in run.said


@pytest.mark.parametrize("message_type,status", [("echo.status.5", "NOT_FOUND"), ("nobody.x", "UNIMPLEMENTED")])
def test_refusals_are_failures(gateway, message_type, status):
    run = Run(*command_words(gateway, "--message-type", message_type))
    assert run.code == 1 and run.report["failed"] > 0 and run.report["units"] == 0, run
    assert status in run.said


def test_command_that_is_never_answered_is_lost_or_failed(gateway):
    run = Run(*command_words(gateway, "--message-type", "echo.hang"))
    assert run.code == 1 and run.report["units"] == 0 and run.report["failed"] + run.report["lost"] > 0, run


def test_get_of_what_is_not_there_fails(gateway):
    run = Run("h2", "--target", gateway.public, "--method", "get", "--path", "/nope", "--connections", "1", *SHORT)
    assert run.code == 1 and run.report["failed"] > 0 and run.report["units"] == 0, run
    run = Run(*http_words(gateway, "--path", "/nope"))
    assert run.code == 1 and run.report["wrong"] > 0, run


class Scripted:
    """A server that answers each connection's n-th request with the n-th of these byte strings, the last for ever."""

    def __init__(self, answers):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.answers = answers
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        count, bytes_in = 0, b""
        with peer:
            try:
                while chunk := peer.recv(65536):
                    bytes_in += chunk
                    while b"\r\n\r\n" in bytes_in:
                        bytes_in = bytes_in.split(b"\r\n\r\n", 1)[1]
                        answer = self.answers[min(count, len(self.answers) - 1)]
                        count += 1
                        if answer is None:
                            return
                        for byte in (answer[:1], answer[1:]):  # cut, as a network may
                            peer.sendall(byte)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("answers,code", [
    ([OK], 0),
    ([OK, b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nok"], 0),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], 0),
    ([OK, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nko"], 1),
    ([OK, b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nok"], 1),
    ([OK, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok"], 1),
    ([OK, OK + OK], 1),
    ([OK, b"nonsense\r\n\r\n"], 1),
], ids=["same", "other-head", "chunked", "other-body", "other-status", "longer", "twice", "nonsense"])
def test_http_answers_are_read_to_the_byte(answers, code):
    with Scripted(answers) as server:
        run = Run("http", "--target", server.address, "--connections", "2", *SHORT)
    assert run.code == code, run
    assert (run.report["wrong"] > 0) == (code == 1), run


def test_connection_that_the_server_ends_is_no_clean_run():
    with Scripted([OK, None]) as server:
        run = Run("http", "--target", server.address, "--connections", "2", *SHORT)
    assert run.code == 1 and run.report["ended"] > 0 and run.report["lost"] > 0, run


def test_nobody_listens_fails_with_a_sentence():
    run = Run("h2", "--target", f"127.0.0.1:{harness.free_port()}", *SHORT)
    assert run.code == 1 and run.report["failed"] > 0 and run.report["units"] == 0, run
    assert "cannot connect: Connection refused" in run.said


# ---- other people's servers ----

def test_h2_runs_against_nghttpd(folder):
    program = shutil.which("nghttpd")
    if not program:
        pytest.skip("nghttpd is not installed")
    (folder / "healthz").write_text('{"status":"ok"}')
    port = harness.free_port()
    server = harness.Process([program, "-a", "127.0.0.1", "--no-tls", "-v", "-d", folder, str(port)])
    try:
        server.out.wait(lambda line: "listen" in line)
        Run("h2", "--target", f"127.0.0.1:{port}", "--method", "get", "--path", "/healthz", "--connections", "2",
            "--streams", "8", *SHORT).check_clean()
    finally:
        server.process.kill()
        server.process.wait()


# ---- the command line ----

@pytest.mark.parametrize("words,complaint", [
    ([], "the first word is the work"),
    (["httpx"], "the first word is the work"),
    (["http"], "--target is missing"),
    (["http", "--target", "localhost:1"], "'localhost:1' is not possible"),
    (["http", "--target", ":80"], "':80' is not possible"),
    (["http", "--target"], "--target needs a value"),
    (["http", "--streams", "3"], "'--streams' is no option of http"),
    (["h2", "--target", "127.0.0.1:1", "--method", "post"], "--method is health, get or call"),
    (["http", "--target", "127.0.0.1:1", "--body", "/nowhere"], "'/nowhere' is not possible"),
    (["command", "--target", "127.0.0.1:1", "--body", "x"], "'--body' is no option of command"),
    (["h2", "--target", "127.0.0.1:1", "--connections", "0"], "'0' is not possible"),
    (["h2", "--target", "127.0.0.1:1", "--connections", "1.5"], "'1.5' is not possible"),
    (["h2", "--target", "127.0.0.1:1", "--duration", "x"], "'x' is not possible"),
    (["command", "--target", "127.0.0.1:1"], "--redis is missing"),
    (["command", "--target", "127.0.0.1:1", "--redis", "127.0.0.1:1", "--gateway-key", "/nowhere.pem"], "--gateway-key"),
], ids=" ".join)
def test_mistakes_in_the_command_line_are_told(words, complaint):
    run = Run(*words)
    assert run.code == 2 and run.report is None and complaint in run.said, run


def test_help_names_every_option():
    done = subprocess.run([RINGBENCH, "--help"], env=ENV, capture_output=True, text=True)
    source = (harness.ROOT / "bench" / "ringbench" / "options.c").read_text()
    options = set(re.findall(r'^\s*\{"(--[a-z-]+)"', source, re.MULTILINE))
    assert done.returncode == 0 and len(options) > 20
    assert options <= set(done.stdout.split())
