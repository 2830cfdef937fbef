"""Start-up, the command line, and the end (edge.md §6, §7, §1)."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess

import grpc
import pytest

import harness
from raw_h2 import RawClient

REQUIRED = ["GATEWAY_SESSION_CACHE_REDIS_ADDR", "GATEWAY_SESSION_EVENTS_REDIS_STREAM",
            "GATEWAY_CLIENT_EVENTS_REDIS_STREAM", "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH"]
COMPONENTS = ["listeners", "subscribers", "push hub", "calls", "bus", "workers", "admin"]
HANG_CONFIG = """
upstreams:
  echo: {{ addresses: ["{address}"], deadline: 1h }}
commands:
  - {{ message_type: "echo.*", upstream: echo }}
"""


def start(folder, redis_server, **options):
    """A gateway that is not waited for: it will say why it does not start."""
    options.setdefault("wait", False)
    return harness.Gateway(folder, redis_server, **options)


def ended(gateway):
    """Exit code, standard output and standard error."""
    code = gateway.process.wait()
    gateway.process.out.join()
    out, err = gateway.process.out.text(), gateway.process.err.text()
    gateway.process.stop()
    return code, out, err


def components_stopped(gateway):
    lines = [json.loads(line) for line in gateway.process.err.seen]
    return [line["stopped"] for line in lines if line["msg"] == "component stopped"]


def can_connect(address):
    try:
        harness.connect(address).close()
    except ConnectionRefusedError:
        return False
    return True


# ---- configuration ----

@pytest.mark.parametrize("missing", REQUIRED)
def test_missing_required_variable_is_named(folder, redis_server, missing):
    code, _, err = ended(start(folder, redis_server, env={missing: None}))
    assert code == 2
    mistakes = [line for line in err.splitlines() if "is required" in line]
    assert len(mistakes) == 1 and mistakes[0].startswith(f"{missing}: ")


def test_all_mistakes_are_in_one_report(folder, redis_server):
    (folder / "bad.yaml").write_text("upstreams:\n  fleet: { addresses: [], nonsense: 1 }\n"
                                     "commands:\n  - { message_type: x, upstream: nobody }\n")
    code, _, err = ended(start(folder, redis_server, env={
        REQUIRED[1]: None, REQUIRED[2]: None, "GATEWAY_FRESHNESS_WINDOW": "soon", "GATEWAY_PUBLIC_HTTP_ADDR": "nowhere",
        "GATEWAY_PUSH_STREAM_QUEUE_CAPACITY": 100, "GATEWAY_LOG_LEVEL": "loud",
        "GATEWAY_CONFIG_FILE": folder / "bad.yaml"}))
    assert code == 2
    for name in (REQUIRED[1], REQUIRED[2], "GATEWAY_FRESHNESS_WINDOW", "GATEWAY_PUBLIC_HTTP_ADDR",
                 "GATEWAY_PUSH_STREAM_QUEUE_CAPACITY", "GATEWAY_LOG_LEVEL"):
        assert re.search(f"^{name}: ", err, re.MULTILINE), (name, err)
    for wrong in ("nonsense", "nobody", "addresses"):
        assert re.search(rf"^{folder}/bad\.yaml:\d+:\d+: .*{wrong}", err, re.MULTILINE), (wrong, err)
    assert "nothing was started" in err


def test_nothing_configured_lists_what_is_needed(folder, redis_server):
    code, _, err = ended(start(folder, redis_server, env={name: None for name in REQUIRED}))
    assert code == 2
    assert all(name in err for name in REQUIRED)


def test_unknown_variable_is_warned_with_the_nearest_name(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_FRESHNESS_WINDOWS": "5m"}) as gateway:
        assert ("warning: GATEWAY_FRESHNESS_WINDOWS: unknown variable; the nearest known name is "
                "GATEWAY_FRESHNESS_WINDOW") in gateway.process.err.text()
        for line in list(gateway.process.err.seen):
            if line.startswith("warning: "):
                gateway.process.err.seen.remove(line)  # the only line that is no JSON


# ---- the command line ----

def test_help_lists_every_variable(folder, redis_server):
    code, out, err = ended(start(folder, redis_server, arguments=["--help"], env={name: None for name in REQUIRED}))
    assert (code, err) == (0, "")
    for row in (harness.ROOT / "src/config/option.def").read_text().splitlines():
        if row.startswith("OPTION("):
            variable = row.split('"')[1]
            assert re.search(rf"^  {variable}\b", out, re.MULTILINE), variable
    for option in ("--help", "--version", "--check-config", "--print-config", "--print-public-key"):
        assert option in out


def test_version_names_the_commit(folder, redis_server):
    code, out, err = ended(start(folder, redis_server, arguments=["--version"], env={name: None for name in REQUIRED}))
    assert (code, err) == (0, "")
    assert re.fullmatch(r"ringway \d+\.\d+\.\d+ \(([0-9a-f]{12}|unknown)\)", out)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--help", "more"], ["start"]])
def test_unknown_argument_is_refused(folder, redis_server, arguments):
    code, out, err = ended(start(folder, redis_server, arguments=arguments))
    assert (code, out) == (2, "")
    assert "unknown argument" in err and "--help" in err


def test_print_config_masks_secrets(folder, redis_server):
    code, out, _ = ended(start(folder, redis_server, arguments=["--print-config"], env={
        "GATEWAY_SESSION_CACHE_REDIS_PASSWORD": "planted-password", "GATEWAY_FRESHNESS_WINDOW": "90s"}))
    assert code == 0
    assert "planted-password" not in out
    values = dict(line.split("=", 1) for line in out.splitlines() if not line.startswith("#"))
    assert values["GATEWAY_FRESHNESS_WINDOW"].startswith("1m30s  # environment")
    assert values["GATEWAY_SHUTDOWN_TIMEOUT"].startswith("10s  # default")
    assert values["GATEWAY_SESSION_CACHE_REDIS_PASSWORD"].startswith("***")


def test_secret_may_come_from_a_file(folder, redis_server):
    path = folder / "password"
    path.write_text("planted-password\n")
    env = {"GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE": path}
    code, out, _ = ended(start(folder, redis_server, arguments=["--print-config"], env=env))
    assert code == 0 and "planted-password" not in out
    assert re.search(r"^GATEWAY_SESSION_CACHE_REDIS_PASSWORD=\*+  # file", out, re.MULTILINE)
    path.unlink()
    code, _, err = ended(start(folder, redis_server, arguments=["--check-config"], env=env))
    assert code == 2 and "GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE: cannot read" in err


def test_password_from_a_file_opens_redis(folder):
    server = harness.Redis(folder)
    server.client.config_set("requirepass", "planted-password")
    try:
        path = folder / "password"
        path.write_text("planted-password\n")
        with harness.Gateway(folder, server, env={"GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE": path}) as gateway:
            assert harness.http(gateway.public, "GET", "/readyz")[0] == 200
    finally:
        server.stop()


def test_print_public_key_is_what_openssl_says(folder, redis_server):
    gateway = start(folder, redis_server, arguments=["--print-public-key"])
    code, out, err = ended(gateway)
    assert (code, err) == (0, "")
    expected = subprocess.run(["openssl", "pkey", "-in", str(gateway.signer), "-pubout"], check=True,
                              capture_output=True, text=True).stdout
    assert out == expected.rstrip("\n")


def test_check_config_needs_neither_network_nor_ports(folder, redis_server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, err = ended(start(folder, redis_server, arguments=["--check-config"], env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{folder}/nobody.sock",
            "GATEWAY_PUBLIC_HTTP_ADDR": f"127.0.0.1:{taken.getsockname()[1]}"}))
    assert (code, out, err) == (0, "configuration is valid", "")


# ---- the signer ----

def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def spoil_missing(path):
    path.unlink()


def spoil_rsa(path):
    openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)


def spoil_encrypted(path):
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", path)


def spoil_public(path):
    private = path.with_suffix(".private")
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", path)


def spoil_text(path):
    path.write_text("not a key\n")


@pytest.mark.parametrize("spoil, why", [
    (spoil_missing, "No such file"), (spoil_rsa, "not Ed25519"), (spoil_encrypted, "encrypted"),
    (spoil_public, "no readable PEM private key"), (spoil_text, "no readable PEM private key")])
def test_bad_signer_is_refused(folder, redis_server, spoil, why):
    path = folder / "spoiled.pem"
    path.write_text("")
    spoil(path)
    for arguments, expected in (([], 1), (["--check-config"], 2), (["--print-public-key"], 1)):
        code, _, err = ended(start(folder, redis_server, arguments=arguments, env={REQUIRED[3]: path}))
        assert code == expected, (arguments, err)
        assert REQUIRED[3] in err and why in err and str(path) in err


def test_every_mistake_is_told_at_once(folder, redis_server):
    """Of variables, of the file, and of what they name."""
    key, config = folder / "spoiled.pem", folder / "spoiled.yaml"
    spoil_text(key)
    config.write_text("upstreams: 1\n")
    code, _, err = ended(start(folder, redis_server, arguments=["--check-config"], env={
        REQUIRED[1]: "", REQUIRED[3]: key, "GATEWAY_WORKERS": "many", "GATEWAY_CONFIG_FILE": config,
        "GATEWAY_SESSION_CACHE_REDIS_TLS_ENABLED": "true", "GATEWAY_SESSION_CACHE_REDIS_TLS_SERVER_NAME": "redis",
        "GATEWAY_SESSION_CACHE_REDIS_TLS_CA_FILE": folder / "none.pem"}))
    assert code == 2
    told = [line.split(": ")[0] for line in err.splitlines()]
    assert sorted(told) == sorted(["GATEWAY_WORKERS", REQUIRED[1], f"{config}:1:12", REQUIRED[3],
                                   "GATEWAY_SESSION_CACHE_REDIS_TLS_CA_FILE", "ringway"]), err


# ---- start-up checks ----

def refused_start(gateway, check):
    code, _, _ = ended(gateway)
    entries = [json.loads(line) for line in gateway.process.err.seen]
    assert code == 1
    assert entries[-1]["msg"] == "start-up check failed" and entries[-1]["level"] == "error"
    assert entries[-1]["error"].startswith(f"{check}: ")
    assert not any(entry["msg"] == "listening" for entry in entries)
    return entries[-1]["error"]


def test_absent_redis_is_named(folder, redis_server):
    gateway = start(folder, redis_server, env={REQUIRED[0]: f"unix:{folder}/nobody.sock"})
    assert "No such file" in refused_start(gateway, "session cache")


def test_unknown_redis_host_is_named(folder, redis_server):
    refused_start(start(folder, redis_server, env={REQUIRED[0]: "nobody.invalid:6379"}), "session cache")


def test_redis_that_never_answers_is_named(folder, redis_server):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent.sock"))
        silent.listen()
        refused_start(start(folder, redis_server, env={REQUIRED[0]: f"unix:{folder}/silent.sock"}), "session cache")


def test_wrong_password_is_named_and_not_logged(folder, redis_server):
    redis_server.client.config_set("requirepass", "right")
    gateway = start(folder, redis_server, env={"GATEWAY_SESSION_CACHE_REDIS_PASSWORD": "planted-password"})
    why = refused_start(gateway, "session cache")
    assert "WRONGPASS" in why or "invalid password" in why
    assert "planted-password" not in gateway.process.err.text()


def test_missing_password_is_named(folder, redis_server):
    redis_server.client.config_set("requirepass", "right")
    assert "NOAUTH" in refused_start(start(folder, redis_server), "session cache")


class Pings:
    """A Redis that answers the first `count` connections and is silent on the others."""

    def __init__(self, path, count):
        import threading
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.count = count
        self.kept = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        for number in range(1 << 30):
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.kept.append(connection)
            if number >= self.count:
                continue
            data = b""
            while not data.endswith(b"PING\r\n"):
                data += connection.recv(4096)
            connection.sendall(b"+PONG\r\n")

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(harness.PATIENCE)
        for connection in (*self.kept, self.listener):
            connection.close()


@pytest.mark.parametrize("answered, check", enumerate([
    "session cache", "replay store", "session event subscriber", "client event subscriber"]))
def test_each_of_the_four_pings_is_made_and_named(folder, redis_server, answered, check):
    pings = Pings(folder / "pings.sock", answered)
    try:
        refused_start(start(folder, redis_server, env={REQUIRED[0]: f"unix:{folder}/pings.sock"}), check)
    finally:
        pings.close()


@pytest.mark.parametrize("listener, variable", [
    ("public", "GATEWAY_PUBLIC_HTTP_ADDR"), ("grpc", "GATEWAY_AUTHENTICATED_GRPC_ADDR"),
    ("admin", "GATEWAY_ADMIN_HTTP_ADDR")])
def test_port_in_use_ends_the_start(folder, redis_server, listener, variable):
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway = start(folder, redis_server, env={variable: address})
        code, _, _ = ended(gateway)
    entry = json.loads(gateway.process.err.seen[-1])
    assert code == 1
    assert (entry["msg"], entry["listener"], entry["level"]) == ("cannot listen", listener, "error")
    assert address in entry["error"] and "in use" in entry["error"] and entry["variable"] == variable


def test_start_ends_at_the_first_step_that_is_wrong(folder, redis_server):
    """Everything is wrong; one after the other is mended: configuration, signer, Redis, port."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        wrong = {"GATEWAY_FRESHNESS_WINDOW": "soon", REQUIRED[3]: folder / "nobody.pem",
                 REQUIRED[0]: f"unix:{folder}/nobody.sock",
                 "GATEWAY_PUBLIC_HTTP_ADDR": f"127.0.0.1:{taken.getsockname()[1]}"}

        def told(mended):
            del wrong[mended]
            code, _, err = ended(start(folder, redis_server, env=wrong))
            return code, err.splitlines()[-1]

        code, _, err = ended(start(folder, redis_server, env=wrong))
        assert code == 2 and REQUIRED[3] not in err and "nothing was started" in err
        code, line = told("GATEWAY_FRESHNESS_WINDOW")
        assert code == 1 and line.startswith(f"{REQUIRED[3]}: ")
        code, line = told(REQUIRED[3])
        assert code == 1 and json.loads(line)["error"].startswith("session cache: ")
        code, line = told(REQUIRED[0])
        assert code == 1 and json.loads(line)["msg"] == "cannot listen"
    with harness.Gateway(folder, redis_server):
        pass


def test_start_is_logged_in_order(gateway):
    entries = [json.loads(line) for line in gateway.process.err.seen]
    messages = [entry["msg"] for entry in entries]
    listening = [entry for entry in entries if entry["msg"] == "listening"]
    assert messages.index("io_uring") < messages.index("listening")
    assert [entry["listener"] for entry in listening] == ["public", "grpc", "admin"]
    assert [entry.get("response_key") for entry in listening] == [
        None, "SHA256:" + hashlib.sha256(bytes(gateway.response_key)).hexdigest(), None]


# ---- the end ----

class Held:
    """A gateway with a call in flight, whose service stands still until it is to answer."""

    def __init__(self, gateway, echo):
        self.gateway, self.echo = gateway, echo
        self.device, self.channel = harness.Device(gateway), harness.Channel(gateway.grpc)
        assert self.channel.execute(self.device.request("echo.first")).result_code == "ok"  # it is connected
        echo.signal(signal.SIGSTOP)
        self.request = self.device.request("echo.held")
        self.call = self.channel.execute_future(self.request)
        gateway.wait_metric('upstream_grpc_in_flight{upstream="echo"}', lambda value: value == 1)

    def answer(self):
        assert not self.call.done()
        self.echo.signal(signal.SIGCONT)
        harness.check_response(self.gateway, self.request, self.call.result(timeout=harness.PATIENCE))


@pytest.fixture
def held(folder, redis_server, echo):
    config = HANG_CONFIG.format(address=echo.address).replace("deadline: 1h", "deadline: 1h, health: false")
    with harness.Gateway(folder, redis_server, config=config, env={
            "GATEWAY_SHUTDOWN_TIMEOUT": f"{harness.PATIENCE:.0f}s"}) as gateway:
        try:
            made = Held(gateway, echo)
            yield made
            made.channel.close()
        finally:
            echo.signal(signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_streams_answers_calls_and_stops_in_order(held, number):
    gateway = held.gateway
    streams = [held.channel.subscribe(held.device.subscribe_request()) for _ in range(3)]
    for stream in streams:
        stream.bootstrap()
    gateway.process.signal(number)
    for stream in streams:
        assert stream.end() == ("UNAVAILABLE", "gateway is shutting down")
    held.answer()
    assert gateway.process.wait() == 0
    assert components_stopped(gateway) == COMPONENTS
    assert json.loads(gateway.process.err.seen[-1])["msg"] == "stopped"
    for address in (gateway.public, gateway.grpc, gateway.admin):
        assert not can_connect(address)


def test_new_calls_are_refused_once_the_end_began(held):
    """Calls that come, on the connection that has one in flight or on a new one, while that one is finished."""
    held.gateway.process.signal(signal.SIGTERM)
    held.gateway.log("component stopped", stopped="push hub")

    def refused():
        code = held.channel.refused(held.device.request("no.route"))[0]
        assert code in ("UNAVAILABLE", "UNIMPLEMENTED")  # the second: its worker had not been told yet
        return code == "UNAVAILABLE"
    harness.wait_until(refused, "a new call is refused")
    held.answer()
    assert held.gateway.process.wait() == 0


def test_new_connections_are_refused_while_a_call_is_finished(held):
    gateway = held.gateway
    gateway.process.signal(signal.SIGTERM)
    gateway.log("component stopped", stopped="push hub")
    assert not can_connect(gateway.public) and not can_connect(gateway.grpc)
    assert can_connect(gateway.admin)  # closes last
    held.answer()
    assert gateway.process.wait() == 0


def test_delay_serves_on_while_readyz_says_draining(folder, redis_server, echo):
    config = HANG_CONFIG.format(address=echo.address)
    with harness.Gateway(folder, redis_server, config=config, env={"GATEWAY_SHUTDOWN_DELAY": f"{harness.PATIENCE / 5:.0f}s"}) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            assert harness.http(gateway.public, "GET", "/readyz")[0] == 200
            gateway.process.signal(signal.SIGTERM)
            gateway.log("signal")
            for address in (gateway.public, gateway.admin):
                harness.wait_until(lambda: harness.http(address, "GET", "/readyz")[0] == 503, "/readyz says 503")
                status, _, body = harness.http(address, "GET", "/readyz")
                assert (status, json.loads(body)) == (503, {"status": "draining"})
                assert harness.http(address, "GET", "/healthz")[0] == 200
            assert channel.execute(device.request(message_type="echo.x")).result_code == "ok"
            with harness.Channel(gateway.grpc) as late:
                assert late.execute(device.request(message_type="echo.x")).result_code == "ok"
            event_id = harness.publish_event(gateway, device.user)
            assert stream.next().event_id == event_id
            assert components_stopped(gateway) == []
            assert stream.end() == ("UNAVAILABLE", "gateway is shutting down")
        assert gateway.process.wait() == 0


def test_component_that_outlives_its_time_is_cut_and_named(folder, redis_server, echo):
    gateway = harness.Gateway(folder, redis_server, config=HANG_CONFIG.format(address=echo.address),
                              env={"GATEWAY_SHUTDOWN_TIMEOUT": "1500ms"})
    device = harness.Device(gateway)
    with harness.Channel(gateway.grpc) as channel:
        call = channel.execute_future(device.request(message_type="echo.hang"))
        gateway.wait_metric('upstream_grpc_in_flight{upstream="echo"}', lambda value: value == 1)
        gateway.process.signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as refusal:
            call.result(timeout=harness.PATIENCE)
        assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
    assert gateway.process.wait() == 1
    assert gateway.log("component did not stop in time and is cut")["cut"] == "calls"
    assert gateway.log("component stopped", stopped="calls")["cut"] is True
    assert components_stopped(gateway) == COMPONENTS
    gateway.process.stop()


def answer_without_window(gateway):
    """The command is answered, and the client has no window for the message."""
    client = RawClient(gateway.grpc, initial_window=0)
    call = client.call(harness.EXECUTE, harness.Device(gateway).request(message_type="echo.x").SerializeToString())
    client.read_until(lambda: call in client.headers)
    return client


def stream_without_window(gateway):
    """A message that has begun must be whole before the stream's end."""
    client = RawClient(gateway.grpc, initial_window=10)
    call = client.call(harness.SUBSCRIBE, harness.Device(gateway).subscribe_request().SerializeToString())
    client.read_until(lambda: call in client.data)
    return client


def message_that_never_ends(gateway):
    """Its beginning is there: what comes behind it on the connection is answered."""
    client = RawClient(gateway.grpc)
    client.call(harness.EXECUTE, harness.Device(gateway).request(message_type="echo.x").SerializeToString(), end=False)
    call = client.call(harness.EXECUTE, harness.Device(gateway).request(message_type="echo.x").SerializeToString())
    client.read_until(lambda: call in client.ended)
    return client


def body_that_never_comes(gateway):
    client = harness.connect(gateway.public)
    client.sendall(b"POST /api/v1/public/auth/send-email-code HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
    assert client.recv(100).startswith(b"HTTP/1.1 100 ")
    return client


@pytest.mark.parametrize("hold", [answer_without_window, stream_without_window, message_that_never_ends, body_that_never_comes])
def test_peer_that_is_waited_for_cannot_make_the_end_a_failure(folder, redis_server, echo, hold):
    gateway = harness.Gateway(folder, redis_server, config=HANG_CONFIG.format(address=echo.address),
                              env={"GATEWAY_SHUTDOWN_TIMEOUT": "1500ms", "GATEWAY_AUTH_SERVICE_BASE_URL": "http://127.0.0.1:1"})
    with contextlib.closing(hold(gateway)):
        gateway.process.signal(signal.SIGTERM)
        assert gateway.process.wait() == 0
    cut = gateway.log("connections cut")
    assert (cut["connections"], cut["awaiting_service"]) == (1, 0)
    assert gateway.log("component stopped", stopped="calls")["cut"] is False
    assert components_stopped(gateway) == COMPONENTS
    gateway.process.stop()


def test_call_in_service_is_cut_and_named_whatever_its_client_does(folder, redis_server, echo):
    gateway = harness.Gateway(folder, redis_server, config=HANG_CONFIG.format(address=echo.address),
                              env={"GATEWAY_SHUTDOWN_TIMEOUT": "1500ms"})
    with contextlib.closing(answer_without_window(gateway)) as client:
        client.call(harness.EXECUTE, harness.Device(gateway).request(message_type="echo.hang").SerializeToString())
        gateway.wait_metric('upstream_grpc_in_flight{upstream="echo"}', lambda value: value == 1)
        gateway.process.signal(signal.SIGTERM)
        assert gateway.process.wait() == 1
    assert gateway.log("component did not stop in time and is cut")["cut"] == "calls"
    gateway.process.stop()


def test_second_signal_ends_at_once(folder, redis_server, echo):
    gateway = harness.Gateway(folder, redis_server, config=HANG_CONFIG.format(address=echo.address),
                              env={"GATEWAY_SHUTDOWN_TIMEOUT": "1h"})
    device = harness.Device(gateway)
    with harness.Channel(gateway.grpc) as channel:
        call = channel.execute_future(device.request(message_type="echo.hang"))
        gateway.wait_metric('upstream_grpc_in_flight{upstream="echo"}', lambda value: value == 1)
        gateway.process.signal(signal.SIGTERM)
        gateway.log("component stopped", stopped="push hub")
        assert not call.done()
        gateway.process.signal(signal.SIGTERM)
        assert gateway.process.wait() == 1
    assert "calls" not in components_stopped(gateway)
    gateway.process.stop()


def test_signal_during_a_long_delay_then_a_second_one(folder, redis_server):
    gateway = harness.Gateway(folder, redis_server, env={"GATEWAY_SHUTDOWN_DELAY": "1h"})
    gateway.process.signal(signal.SIGINT)
    gateway.log("signal")
    gateway.process.signal(signal.SIGTERM)
    assert gateway.process.wait() == 1
    gateway.process.stop()


def test_log_that_nobody_reads_does_not_end_the_process(folder, redis_server):
    read_end, write_end = os.pipe()
    env = harness.Gateway(folder, redis_server, arguments=["--version"], wait=False)
    ended(env)
    port = harness.free_port()
    settings = dict(env.env, GATEWAY_PUBLIC_HTTP_ADDR=f"127.0.0.1:{port}", GATEWAY_ACCESS_LOG="all")
    process = subprocess.Popen([str(harness.RINGWAY)], env=settings, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=write_end)
    os.close(write_end)
    try:
        log = os.fdopen(read_end, "rb")
        while b'"listening"' not in log.readline():
            assert process.poll() is None
        log.close()
        for _ in range(10):
            harness.wait_until(lambda: can_connect(f"127.0.0.1:{port}"), "the port is open")
            assert harness.http(f"127.0.0.1:{port}", "GET", "/nothing")[0] == 404
        process.terminate()
        assert process.wait(harness.PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


# ---- listeners ----

def get_by_unix(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(harness.PATIENCE)
        connection.connect(str(path))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := connection.recv(4096):
            data += chunk
    return data


def test_unix_listeners_serve_and_are_removed(folder, redis_server):
    paths = [folder / name for name in ("public.sock", "grpc.sock", "admin.sock")]
    previous = os.umask(0o077)
    try:
        gateway = harness.Gateway(folder, redis_server, env={
            "GATEWAY_PUBLIC_HTTP_ADDR": f"unix:{paths[0]}", "GATEWAY_AUTHENTICATED_GRPC_ADDR": f"unix:{paths[1]}",
            "GATEWAY_ADMIN_HTTP_ADDR": f"unix:{paths[2]}"})
    finally:
        os.umask(previous)
    with gateway:
        for path in paths:
            status = path.stat()
            assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o660
        assert b'{"status":"ok"}' in get_by_unix(paths[0])
        assert b'{"status":"ok"}' in get_by_unix(paths[2])
        device = harness.Device(gateway)
        with harness.Channel(f"unix:{paths[1]}") as channel:
            assert channel.refused(device.request())[0] == "UNIMPLEMENTED"
    assert not any(path.exists() for path in paths)


def test_stale_socket_file_is_replaced_and_a_live_one_refused(folder, redis_server):
    path = folder / "public.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    env = {"GATEWAY_PUBLIC_HTTP_ADDR": f"unix:{path}"}
    with harness.Gateway(folder, redis_server, env=env):
        second = start(folder, redis_server, env=env)
        code, _, err = ended(second)
        assert code == 1 and "in use" in err
        assert b'{"status":"ok"}' in get_by_unix(path)
    assert not path.exists()


def test_file_that_is_no_socket_is_not_replaced(folder, redis_server):
    path = folder / "public.sock"
    path.write_text("mine")
    code, _, err = ended(start(folder, redis_server, env={"GATEWAY_PUBLIC_HTTP_ADDR": f"unix:{path}"}))
    assert code == 1 and "is not a socket" in err
    assert path.read_text() == "mine"


def test_port_alone_listens_on_v6_and_v4(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUBLIC_HTTP_ADDR": ":0"}) as gateway:
        port = gateway.public.rpartition(":")[2]
        assert gateway.public == f":{port}"
        assert harness.http(f"127.0.0.1:{port}", "GET", "/healthz")[0] == 200
        if has_v6():
            assert harness.http(f"[::1]:{port}", "GET", "/healthz")[0] == 200


def has_v6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_v6_address_listens(folder, redis_server):
    if not has_v6():
        pytest.skip("no IPv6 on loopback")
    with harness.Gateway(folder, redis_server, env={"GATEWAY_PUBLIC_HTTP_ADDR": "[::1]:0"}) as gateway:
        assert gateway.public.startswith("[::1]:")
        assert harness.http(gateway.public, "GET", "/healthz")[0] == 200


def test_admin_listener_is_off_without_its_variable(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_ADMIN_HTTP_ADDR": None}) as gateway:
        assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
        assert '"admin"' not in gateway.process.err.text()


def descriptors(gateway):
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def test_descriptors_do_not_grow_with_connections_and_streams(gateway):
    """Connections live in the rings' own tables where the kernel is for it; nothing stays after them either."""
    user = "many"
    gateway.metrics()  # /proc/self/fd stays open from then on
    before = descriptors(gateway)
    channels = [harness.Channel(gateway.grpc) for _ in range(40)]
    devices = [harness.Device(gateway, user=user) for _ in channels]
    streams = [channel.subscribe(device.subscribe_request())
               for channel, device in zip(channels, devices) for _ in range(5)]
    for stream in streams:
        stream.bootstrap()
    sockets = [harness.connect(gateway.public) for _ in range(200)]
    gateway.wait_metric('gateway_connections_open{listener="public"}', lambda value: value == 200)
    assert gateway.metric("gateway_push_streams_open") == 200
    if harness.DIRECT_FILES:
        assert descriptors(gateway) <= before + 1  # the admin connection that asked
    event_id = harness.publish_event(gateway, user)
    assert all(stream.next().event_id == event_id for stream in streams)
    for item in sockets:
        item.close()
    for channel in channels:
        channel.close()
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)
    for listener in ("public", "grpc"):
        gateway.wait_metric(f'gateway_connections_open{{listener="{listener}"}}', lambda value: value == 0)
    harness.wait_until(lambda: descriptors(gateway) <= before, "no descriptor stays")
