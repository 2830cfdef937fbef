"""Other people's gRPC clients against the real program: grpcio in Python, @grpc/grpc-js, the C++ library (edge.md §2).

Node's and C++'s are small programs (tests/net/node, tests/net/cpp). Arguments: address, method, "unary" or "stream", deadline
and keepalive in ms (0: none). Lines in: requests in hexadecimal, "go", later "cancel". Lines out: "result <index> <code>
<answer in hexadecimal or -> <details>" in the order of their ends; "event <hexadecimal>", "end <code> <details>".
"""

import fcntl
import os
import subprocess
import threading

import grpc
import pytest

import harness
from conftest import ECHO_CONFIG, node_modules
from harness import edge

HERE = harness.ROOT / "tests" / "net"
BUILT = harness.OUT / "tests" / "clients"
CODES = {code.value[0]: code.name for code in grpc.StatusCode}
KINDS = ["python", "node", "cpp"]


class Locked:
    """Several test processes may want the same client built."""

    def __enter__(self):
        BUILT.mkdir(parents=True, exist_ok=True)
        self.file = open(BUILT / "lock", "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def run(*command, cwd=None):
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise harness.Failed(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build_node():
    return ["node", HERE / "node" / "client.js"], {"GRPC_JS": str(node_modules() / "@grpc" / "grpc-js")}


def build_cpp():
    program, source = BUILT / "cpp_client", HERE / "cpp" / "client.cc"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        flags = run("pkg-config", "--cflags", "--libs", "grpc++").split()
        # -O0: the headers alone take long enough
        run("g++", "-std=c++17", "-O0", source, "-o", f"{program}.new", *flags, "-pthread")
        os.replace(f"{program}.new", program)
    return [program], {}


class LineClient:
    """One run of a client program."""

    def __init__(self, built, gateway, path, mode, requests, deadline_ms=0, keepalive_ms=0):
        command, env = built
        self.process = subprocess.Popen(
            [str(word) for word in (*command, gateway.grpc, path, mode, deadline_ms, keepalive_ms)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        # a thread, as a client may answer before it has read all that it is told
        text = "".join(request.SerializeToString().hex() + "\n" for request in requests) + "go\n"
        threading.Thread(target=self.tell, args=(text,), daemon=True).start()

    def tell(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def cancel(self):
        self.tell("cancel\n")

    def event(self):
        word, _, text = self.process.stdout.readline().strip().partition(" ")
        assert word == "event", (word, text)
        return edge.GatewayEvent.FromString(bytes.fromhex(text))

    def end(self):
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "end":
                code, _, details = rest.partition(" ")
                return CODES[int(code)], details
        raise harness.Failed("the client ended without a status")

    def results(self):
        """By index: status name, answer, details."""
        results = {}
        for line in self.process.stdout:
            word, index, code, answer, details = line.rstrip("\n").split(" ", 4)
            assert word == "result"
            results[int(index)] = (CODES[int(code)], None if answer == "-" else
                                   edge.ExecuteCommandResponse.FromString(bytes.fromhex(answer)), details)
        return results

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class PythonClient:
    """The same, by grpcio in this process."""

    METADATA = (("x-request-id", "from-python"), ("x-many", "1"), ("x-many", "2"), ("x-bytes-bin", b"\0\1\xfe\xff"))

    def __init__(self, gateway, path, mode, requests, deadline_ms=0, keepalive_ms=0):
        keepalive = {"grpc.keepalive_time_ms": keepalive_ms, "grpc.keepalive_timeout_ms": 5000,
                     "grpc.keepalive_permit_without_calls": 1, "grpc.http2.max_pings_without_data": 0}
        self.channel = harness.Channel(gateway.grpc, **(keepalive if keepalive_ms else {}))
        timeout = deadline_ms / 1000 if deadline_ms else None
        if mode == "stream":
            call = self.channel.channel.unary_stream(path, lambda message: message.SerializeToString(),
                                                     edge.GatewayEvent.FromString)
            self.stream = harness.Stream(call(requests[0], timeout=timeout, metadata=self.METADATA))
            self.event, self.end, self.cancel = self.stream.next, self.stream.end, self.stream.cancel
        else:
            call = self.channel.channel.unary_unary(path, lambda message: message.SerializeToString(),
                                                    edge.ExecuteCommandResponse.FromString)
            self.futures = [call.future(request, timeout=timeout, metadata=self.METADATA) for request in requests]

    def results(self):
        return {index: (future.code().name, None if future.exception() else future.result(), future.details() or "")
                for index, future in enumerate(self.futures)}

    def close(self):
        self.channel.close()


@pytest.fixture(params=KINDS)
def client(request):
    """Makes clients of one kind."""
    made = []
    with Locked():
        built = {"python": lambda: None, "node": build_node, "cpp": build_cpp}[request.param]()

    def make(*arguments, **more):
        made.append(LineClient(built, *arguments, **more) if built else PythonClient(*arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_many_calls_on_one_connection_are_all_answered(gateway, device, client):
    requests = [device.request(payload=b"payload %d" % i) for i in range(300)]
    results = client(gateway, harness.EXECUTE, "unary", requests, deadline_ms=int(harness.PATIENCE * 1000)).results()
    assert len(results) == 300
    for index, (code, answer, _) in results.items():
        assert (code, answer.payload_bytes) == ("OK", requests[index].payload_bytes)
        harness.check_response(gateway, requests[index], answer)
    opened = sum(value for name, value in gateway.metrics().items()
                 if name.startswith('gateway_connections_total{listener="grpc"')
                 or name == 'gateway_connections_open{listener="grpc"}')
    assert opened == 1


@pytest.mark.parametrize("size", [0, 1, 16384, 1 << 20, (4 << 20) - 400])
def test_large_messages_go_both_ways(gateway, device, client, size):
    request = device.request(payload=bytes(size))
    assert client(gateway, harness.EXECUTE, "unary", [request]).results()[0][1].payload_bytes == request.payload_bytes


def test_message_over_the_limit_is_refused(gateway, device, client):
    request = device.request(payload=bytes(4 << 20))
    assert client(gateway, harness.EXECUTE, "unary", [request]).results()[0][0] == "RESOURCE_EXHAUSTED"


def test_refusals_come_with_code_and_text(gateway, device, client):
    requests = [device.request(protocol_version="v9"), device.request(message_type="no.route"), device.request(request_id="")]
    results = client(gateway, harness.EXECUTE, "unary", requests).results()
    assert [(results[i][0], results[i][2]) for i in range(3)] == [
        ("FAILED_PRECONDITION", "unsupported protocol_version"), ("UNIMPLEMENTED", "message_type is not routed"),
        ("INVALID_ARGUMENT", "request_id must not be empty")]
    assert client(gateway, "/galaxy.gateway.v1.EdgeGateway/Nothing", "unary", requests[:1]).results()[0][0] == "UNIMPLEMENTED"


def test_stream_is_read_and_cancelled(gateway, device, client):
    stream = client(gateway, harness.SUBSCRIBE, "stream", [device.subscribe_request()])
    assert stream.event().event_type == "gateway.server_time"
    for i in range(20):
        harness.publish_event(gateway, device.user, payload=b"%d" % i)
    for i in range(20):
        event = stream.event()
        assert event.payload_bytes == b"%d" % i
        harness.check_event(gateway, event)
    stream.cancel()
    assert stream.end()[0] == "CANCELLED"
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)


def test_stream_ends_with_its_status(gateway, device, client):
    stream = client(gateway, harness.SUBSCRIBE, "stream", [device.subscribe_request()])
    stream.event()
    device.revoke()
    assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")


def test_deadline_ends_a_stream(gateway, device, client):
    stream = client(gateway, harness.SUBSCRIBE, "stream", [device.subscribe_request()], deadline_ms=2000)
    stream.event()
    assert stream.end()[0] == "DEADLINE_EXCEEDED"
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)


@pytest.fixture
def slow_gateway(folder, redis_server):
    """Its upstream takes ten seconds."""
    slow = harness.start_echo("127.0.0.1:0", "--delay-ms", "10000")
    with harness.Gateway(folder, redis_server,
                         config=ECHO_CONFIG.format(address=slow.address).replace("deadline: 2s", "deadline: 20s")) as gateway:
        yield gateway
    slow.stop()


def test_deadline_ends_a_call(slow_gateway, client):
    device = harness.Device(slow_gateway)
    results = client(slow_gateway, harness.EXECUTE, "unary", [device.request() for _ in range(3)], deadline_ms=1500).results()
    assert [results[i][0] for i in range(3)] == ["DEADLINE_EXCEEDED"] * 3


def test_keepalive_within_bounds_keeps_a_quiet_stream(folder, redis_server, client):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_GRPC_MIN_PING_INTERVAL": "500ms"}) as gateway:
        device = harness.Device(gateway)
        stream = client(gateway, harness.SUBSCRIBE, "stream", [device.subscribe_request()], keepalive_ms=1000)
        stream.event()
        received = 'gateway_connection_received_bytes_total{listener="grpc"}'
        before = gateway.metric(received)
        gateway.wait_metric(received, lambda value: value >= before + 5 * 17)  # five pings
        harness.publish_event(gateway, device.user)
        assert stream.event().event_type == "test.event"
        assert gateway.metric('gateway_glitches_total{kind="too_many_pings"}') == 0
        stream.cancel()
        stream.end()


def test_keepalive_out_of_bounds_is_ended(gateway, device, client):
    stream = client(gateway, harness.SUBSCRIBE, "stream", [device.subscribe_request()], keepalive_ms=1000)
    stream.event()
    assert stream.end()[0] in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")  # the second is grpc-js's reading of the code
    assert gateway.metric('gateway_glitches_total{kind="too_many_pings"}') == 1


def test_gzip_is_taken_and_its_inflated_size_bounded(gateway, device):
    """grpcio alone compresses by a call's option."""
    with harness.Channel(gateway.grpc) as channel:
        request = device.request(payload=b"again and again " * 10_000)
        response = channel.execute(request, compression=grpc.Compression.Gzip)
        assert response.payload_bytes == request.payload_bytes
        harness.check_response(gateway, request, response)
        received = gateway.metric('gateway_connection_received_bytes_total{listener="grpc"}')
        assert received < len(request.payload_bytes) / 10  # it was compressed
        bomb = device.request(payload=bytes(32 << 20))
        assert channel.refused(bomb, compression=grpc.Compression.Gzip) == (
            "RESOURCE_EXHAUSTED", "message is larger than the limit")
        harness.check_response(gateway, request := device.request(), channel.execute(request))
