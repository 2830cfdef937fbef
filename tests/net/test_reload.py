"""SIGHUP: GATEWAY_CONFIG_FILE is read anew, without cutting anything (edge.md §7, DESIGN §2)."""

import signal
import socket
import threading

import pytest

import harness

FILE = """
upstreams:
{upstreams}
commands:
{commands}
"""


def text(upstreams, commands):
    """Of {name: (address, more)} and {message_type: upstream}."""
    return FILE.format(
        upstreams="\n".join(f'  {name}: {{ addresses: ["{address}"]{more} }}' for name, (address, more) in upstreams.items()) or "  {}",
        commands="\n".join(f"  - {{ message_type: '{kind}', upstream: {name} }}" for kind, name in commands.items()) or "  []")


class Echo:
    """A command handler of bench/, on a free port or on one given."""

    def __init__(self, listen="127.0.0.1:0", *more):
        self.process = harness.start_echo(listen, *more)
        self.address = self.process.address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.process.stop() == 0


def rewrite(gateway, config, result="success"):
    """Writes the file, sends SIGHUP, waits for the outcome in the metrics."""
    name = f'gateway_config_reloads_total{{result="{result}"}}'
    before = gateway.metric(name)
    (gateway.folder / "gateway.yaml").write_text(config)
    gateway.process.signal(signal.SIGHUP)
    gateway.wait_metric(name, lambda value: value > before)


def test_new_upstreams_and_routes_are_used_by_new_calls(folder, redis_server, echo):
    first = text({"one": (echo.address, "")}, {"test.one": "one"})
    with Echo() as other, harness.Gateway(folder, redis_server, config=first) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            assert channel.execute(device.request("test.one")).result_code == "ok"
            assert channel.refused(device.request("test.two")) == ("UNIMPLEMENTED", "message_type is not routed")
            started = gateway.metric("gateway_config_last_reload_success_timestamp_seconds")
            assert started > 0
            rewrite(gateway, text({"two": (other.address, "")}, {"test.two": "two"}))
            assert channel.execute(device.request("test.two")).result_code == "ok"
            assert channel.refused(device.request("test.one")) == ("UNIMPLEMENTED", "message_type is not routed")
        assert gateway.metric("gateway_config_last_reload_success_timestamp_seconds") >= started
        gateway.log("configuration file reloaded", upstreams=1, commands=1)
        status, _, body = harness.http(gateway.admin, "GET", "/config")
        assert status == 200 and b"# upstream two:" in body and b"# upstream one:" not in body


def test_mistakes_keep_the_file_before_and_are_logged_line_by_line(gateway, device, channel):
    path = gateway.folder / "gateway.yaml"
    good = path.read_text()
    rewrite(gateway, "upstreams:\n  echo: { addresses: [] }\n  bad name: { addresses: ['h:1'], deadline: soon }\ncommands: 7\n",
            result="mistakes")
    for place in ("2:22", "3:3", "3:45", "4:11"):
        gateway.process.err.wait(lambda line, place=place: '"configuration file"' in line and f"{path}:{place}: " in line)
    gateway.log("configuration file has mistakes; the one before stays in use", level="error")
    assert channel.execute(device.request()).result_code == "ok"
    path.unlink()
    before = gateway.metric('gateway_config_reloads_total{result="mistakes"}')
    gateway.process.signal(signal.SIGHUP)
    gateway.wait_metric('gateway_config_reloads_total{result="mistakes"}', lambda value: value > before)
    assert channel.execute(device.request()).result_code == "ok"
    rewrite(gateway, good)
    assert channel.execute(device.request()).result_code == "ok"


def test_upstream_that_is_the_same_keeps_its_connections(folder, redis_server, echo):
    with Echo() as other, harness.Gateway(folder, redis_server, config=text({"one": (echo.address, "")}, {"*": "one"})) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            channel.execute(device.request("test.a"))
            gateway.wait_metric(f'upstream_healthy{{upstream="one",address="{echo.address}"}}', lambda value: value == 2)
            # one of a worker's connections makes it healthy: 2 workers × 2 connections
            ports = harness.wait_until(lambda: (lambda peers: len(peers) == 4 and peers)(peers_of(echo)), "four connections")
            for round in range(3):
                more = {"more": (other.address, "")} if round % 2 == 0 else {}
                rewrite(gateway, text({**more, "one": (echo.address, "")}, {"*": "one"}))
                assert channel.execute(device.request("test.a")).result_code == "ok"
            assert peers_of(echo) == ports
            # the same address, but not the same upstream
            rewrite(gateway, text({"one": (echo.address, ", connections: 3")}, {"*": "one"}))
            harness.wait_until(lambda: len(peers_of(echo)) == 6 and not peers_of(echo) & ports, "only new connections")
            assert channel.execute(device.request("test.a")).result_code == "ok"
        gateway.wait_metric(f'upstream_healthy{{upstream="one",address="{echo.address}"}}', lambda value: value == 2)


def peers_of(echo):
    """Client ports of the established connections to it, from the kernel's table."""
    port = int(echo.address.rpartition(":")[2])
    peers = set()
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        if state == "01" and int(local.split(":")[1], 16) == port:
            peers.add(int(remote.split(":")[1], 16))
    return peers


class SlowService:
    """Accepts an HTTP/2 connection and answers one call when told to: h2 by python3-h2."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.called = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, socket_):
        import h2.config
        import h2.connection
        import h2.events
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        socket_.sendall(connection.data_to_send())
        while True:
            try:
                data = socket_.recv(65536)
            except ConnectionResetError:  # what the gateway had not read when it closed
                data = b""
            if not data:
                self.closed.set()
                return
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    self.called.set()
                    assert self.release.wait(harness.PATIENCE)
                    stream = event.stream_id
                    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                    connection.send_data(stream, b"\0\0\0\0\x06\x0a\x04late")
                    connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            try:
                socket_.sendall(connection.data_to_send())
            except OSError:
                return  # the gateway has cut it

    def stop(self):
        self.release.set()
        self.listener.close()


@pytest.fixture
def slow():
    service = SlowService()
    yield service
    service.stop()


NO_HEALTH = ", health: false, connections: 1, deadline: 60s"


def test_old_call_finishes_on_its_old_upstream(folder, redis_server, echo, slow):
    with harness.Gateway(folder, redis_server, config=text({"one": (slow.address, NO_HEALTH)}, {"*": "one"})) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            old = channel.execute_future(device.request())
            assert slow.called.wait(harness.PATIENCE)
            rewrite(gateway, text({"one": (echo.address, "")}, {"*": "one"}))
            assert channel.execute(device.request()).result_code == "ok"
            assert not old.done()
            slow.release.set()
            assert old.result(harness.PATIENCE).result_code == "late"
        # and with its last call the old upstream is gone
        assert slow.closed.wait(harness.PATIENCE)


def test_end_of_the_process_cuts_an_old_upstream_short(folder, redis_server, echo, slow):
    gateway = harness.Gateway(folder, redis_server, config=text({"one": (slow.address, NO_HEALTH)}, {"*": "one"}),
                              env={"GATEWAY_SHUTDOWN_TIMEOUT": "500ms"})
    device = harness.Device(gateway)
    with harness.Channel(gateway.grpc) as channel:
        old = channel.execute_future(device.request())
        assert slow.called.wait(harness.PATIENCE)
        rewrite(gateway, text({"one": (echo.address, "")}, {"*": "one"}))
        assert gateway.process.stop() == 1  # the call had to be cut
        assert old.exception(harness.PATIENCE).code().name == "UNAVAILABLE"


def test_reload_under_load_fails_no_call(folder, redis_server, echo):
    with Echo() as other, harness.Gateway(folder, redis_server, config=text({"a": (echo.address, "")}, {"*": "a"})) as gateway:
        device = harness.Device(gateway)
        stop = threading.Event()
        failures, done = [], []

        def ask():
            with harness.Channel(gateway.grpc) as channel:
                while not stop.is_set():
                    try:
                        channel.execute(device.request())
                        done.append(1)
                    except Exception as error:  # noqa: BLE001
                        failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for round in range(20):
                address = (other if round % 2 == 0 else echo).address
                before = len(done)
                rewrite(gateway, text({"a": (address, f", max_in_flight: {1000 + round}")}, {"*": "a"}))
                harness.wait_until(lambda: len(done) > before or failures, "a call after the reload")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures, failures[:3]


def test_signals_faster_than_reloads_end_with_the_last_file(folder, redis_server, echo):
    with harness.Gateway(folder, redis_server, config=text({}, {})) as gateway:
        device = harness.Device(gateway)
        for _ in range(50):
            gateway.process.signal(signal.SIGHUP)
        rewrite(gateway, text({"one": (echo.address, "")}, {"test.*": "one"}))
        with harness.Channel(gateway.grpc) as channel:
            harness.wait_until(lambda: answers(channel, device), "the last file in use")


def answers(channel, device):
    try:
        return channel.execute(device.request()).result_code == "ok"
    except Exception:  # noqa: BLE001
        return False


def test_without_a_file_a_reload_changes_nothing(folder, redis_server):
    with harness.Gateway(folder, redis_server) as gateway:
        gateway.process.signal(signal.SIGHUP)
        gateway.log("nothing to reload: GATEWAY_CONFIG_FILE is not set")
        assert gateway.metric('gateway_config_reloads_total{result="success"}') == 0
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            assert channel.refused(device.request())[0] == "UNIMPLEMENTED"


def test_reload_right_before_the_end_ends_cleanly(folder, redis_server, echo):
    for _ in range(3):
        with harness.Gateway(folder, redis_server, config=text({"one": (echo.address, "")}, {"*": "one"})) as gateway:
            (gateway.folder / "gateway.yaml").write_text(text({"two": (echo.address, "")}, {"*": "two"}))
            gateway.process.signal(signal.SIGHUP)
            gateway.process.signal(signal.SIGTERM)
            assert gateway.process.wait() == 0


def test_systemd_hears_of_a_reload(folder, redis_server, echo):
    path = folder / "notify"
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(path))
    notify.settimeout(harness.PATIENCE)
    with harness.Gateway(folder, redis_server, config=text({"one": (echo.address, "")}, {"*": "one"}),
                         env={"NOTIFY_SOCKET": path}) as gateway:
        assert b"READY=1" in notify.recv(4096)
        for config, result in ((text({}, {}), "success"), ("7", "mistakes")):
            rewrite(gateway, config, result)
            reloading = dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines())
            assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
            assert b"READY=1" in notify.recv(4096)
    notify.close()
