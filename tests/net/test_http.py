"""The public listener over HTTP (edge.md §1, §5), metrics and logs (§8), with curl, http.client and bare sockets."""

import base64
import json
import re
import subprocess

import pytest

import harness
from raw_h2 import RawClient

AUTH_ROUTES = ["/api/v1/public/auth/send-email-code", "/api/v1/public/auth/confirm-email-code"]


class Raw:
    """A bare connection: what we write is what is sent."""

    def __init__(self, address):
        self.socket = harness.connect(address)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def response(self, head_only=False):
        """Status, headers, body; None when the connection ended."""
        line = self.file.readline()
        if not line:
            return None
        assert re.fullmatch(rb"HTTP/1\.1 \d{3} [A-Za-z -]+\r\n", line), line
        headers = {}
        while (field := self.file.readline()) != b"\r\n":
            name, _, value = field.decode().partition(":")
            headers[name.lower()] = value.strip()
        size = 0 if head_only else int(headers.get("content-length", "0"))
        return int(line.split()[1]), headers, self.file.read(size)

    def ended(self):
        return self.file.read(1) == b""

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def raw(gateway):
    connection = Raw(gateway.public)
    yield connection
    connection.close()


def get(path, *fields, method="GET", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *fields, "", ""]
    return "\r\n".join(lines).encode()


def error_of(answer):
    error = json.loads(answer[2])["error"]
    assert set(error) == {"code", "message"} and error["message"]
    assert answer[1]["content-type"] == "application/json"
    return answer[0], error["code"]


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", str(harness.PATIENCE), *arguments],
                          capture_output=True, check=True)
    return done.stdout.decode()


# ---- routes ----

@pytest.mark.parametrize("listener", ["public", "admin"])
@pytest.mark.parametrize("path, body", [("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})])
def test_probe_says_so(gateway, listener, path, body):
    status, headers, text = harness.http(getattr(gateway, listener), "GET", path)
    assert (status, json.loads(text), headers["content-type"]) == (200, body, "application/json")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_is_get_without_the_body(gateway, raw, path):
    raw.send(get(path, method="HEAD") + get(path))
    head = raw.response(head_only=True)
    whole = raw.response()
    assert head[0] == whole[0] == 200
    assert head[1]["content-length"] == whole[1]["content-length"] == str(len(whole[2]))


def test_query_does_not_change_the_route(gateway):
    assert harness.http(gateway.public, "GET", "/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize("method, path", [
    ("GET", "/"), ("GET", "/healthz/"), ("GET", "/HEALTHZ"), ("POST", "/nowhere"), ("GET", "/metrics"),
    ("DELETE", "/api/v1/public/auth/other")])
def test_unknown_route_is_not_found(gateway, method, path):
    assert error_of(harness.http(gateway.public, method, path)) == (404, "not_found")


@pytest.mark.parametrize("method, path, allow", [
    ("POST", "/healthz", "GET, HEAD"), ("DELETE", "/readyz", "GET, HEAD"), ("GET", AUTH_ROUTES[0], "POST"),
    ("PUT", AUTH_ROUTES[1], "POST"), ("BREW", "/healthz", "GET, HEAD")])
def test_wrong_method_names_the_allowed_ones(gateway, method, path, allow):
    answer = harness.http(gateway.public, method, path)
    assert error_of(answer) == (405, "method_not_allowed")
    assert answer[1]["allow"] == allow


@pytest.mark.parametrize("path", AUTH_ROUTES)
def test_auth_routes_answer_503_without_their_service(gateway, path):
    answer = harness.http(gateway.public, "POST", path, body=json.dumps({"email": "a@example.org"}),
                          headers={"Content-Type": "application/json"})
    assert error_of(answer) == (503, "service_unavailable")


# ---- HTTP/1.1 ----

def test_connection_is_kept(gateway):
    connection = harness.http_connection(gateway.public)
    connection.connect()
    local = connection.sock.getsockname()
    for path, status in (("/healthz", 200), ("/nowhere", 404), (AUTH_ROUTES[0], 405), ("/readyz", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock.getsockname() == local
    connection.close()


def test_pipelined_requests_are_answered_in_order(raw):
    paths = ["/healthz", "/readyz", "/nowhere"] * 20
    raw.send(b"".join(get(path) for path in paths))
    for path in paths:
        status, _, body = raw.response()
        assert (status, json.loads(body).get("status")) == {
            "/healthz": (200, "ok"), "/readyz": (200, "ready"), "/nowhere": (404, None)}[path]


def test_request_may_come_byte_by_byte(raw):
    for byte in get("/healthz"):
        raw.send(bytes([byte]))
    assert raw.response()[0] == 200


def test_connection_close_is_heard_and_said(raw):
    raw.send(get("/healthz", "Connection: close"))
    answer = raw.response()
    assert answer[0] == 200 and answer[1]["connection"] == "close"
    assert raw.ended()


def test_http10_ends_unless_it_asks_to_stay(gateway):
    with Raw(gateway.public) as raw:
        raw.send(get("/healthz", version="1.0"))
        assert raw.response()[0] == 200 and raw.ended()
    with Raw(gateway.public) as raw:
        for _ in range(2):
            raw.send(get("/healthz", "Connection: keep-alive", version="1.0"))
            answer = raw.response()
            assert answer[0] == 200 and answer[1]["connection"] == "keep-alive"


def test_absolute_form_is_the_same_route(raw):
    raw.send(b"GET http://example.org:8080/healthz?x=1 HTTP/1.1\r\nHost: example.org:8080\r\n\r\n")
    assert raw.response()[0] == 200


def test_body_nobody_wants_is_read_past(raw):
    raw.send(get("/nowhere", "Content-Length: 5", method="POST") + b"hello" + get("/healthz"))
    assert raw.response()[0] == 404
    assert raw.response()[0] == 200


@pytest.mark.parametrize("chunks", [[b"hello"], [b"h", b"ello", b"x" * 3000], []])
def test_chunked_body_is_taken(raw, chunks):
    body = b"".join(b"%x;extension=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: 1\r\n\r\n"
    raw.send(get(AUTH_ROUTES[0], "Transfer-Encoding: chunked", method="POST") + body + get("/healthz"))
    assert error_of(raw.response()) == (503, "service_unavailable")
    assert raw.response()[0] == 200


def test_expect_continue_is_answered_before_the_body(raw):
    raw.send(get(AUTH_ROUTES[0], "Content-Length: 2", "Expect: 100-continue", method="POST"))
    assert raw.response() == (100, {}, b"")
    raw.send(b"{}")
    assert raw.response()[0] == 503


def test_expect_continue_is_refused_without_the_body(raw):
    raw.send(get("/nowhere", "Content-Length: 2", "Expect: 100-continue", method="POST"))
    assert raw.response()[0] == 404


def test_unknown_expectation_is_refused(raw):
    raw.send(get(AUTH_ROUTES[0], "Content-Length: 2", "Expect: wonders", method="POST"))
    assert error_of(raw.response()) == (417, "expectation_failed")


@pytest.mark.parametrize("request_bytes, refusal", [
    (b"GET /healthz\r\n\r\n", (400, "invalid_request")),
    (b"GET /healthz HTTP/1.1\r\n\r\n", (400, "invalid_request")),  # no Host
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "invalid_request")),
    (b"GET http://a/healthz HTTP/1.1\r\nHost: b\r\n\r\n", (400, "invalid_request")),  # two opinions: a smuggler's
    (b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", (400, "invalid_request")),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n", (400, "invalid_request")),
    (b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", (400, "invalid_request")),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", (400, "invalid_request")),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", (400, "invalid_request")),
    (b"GET /he\x7flthz HTTP/1.1\r\nHost: a\r\n\r\n", (400, "invalid_request")),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
     (400, "invalid_request")),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", (400, "invalid_request")),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", (400, "invalid_request")),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", (400, "invalid_request")),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", (501, "not_implemented")),
    (b"GET /healthz HTTP/3.7\r\nHost: a\r\n\r\n", (505, "http_version_not_supported")),
    (b"POST " + AUTH_ROUTES[0].encode() + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
     (400, "invalid_request")),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400, "invalid_request"))])
def test_malformed_request_is_refused_and_ends_the_connection(gateway, request_bytes, refusal):
    with Raw(gateway.public) as raw:
        raw.send(request_bytes)
        answer = raw.response()
        assert error_of(answer) == refusal
        assert answer[1]["connection"] == "close"
        assert raw.ended()
    assert gateway.metric('gateway_glitches_total{kind="http1_malformed"}') >= (0 if refusal[0] == 501 else 1)


def test_header_block_is_bounded(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_HTTP_MAX_HEADER_BYTES": "2KiB"}) as gateway:
        with Raw(gateway.public) as raw:
            raw.send(get("/healthz", "X: " + "x" * 1900))
            assert raw.response()[0] == 200
            raw.send(get("/healthz", "X: " + "x" * 2100))
            assert error_of(raw.response()) == (431, "request_header_fields_too_large")
            assert raw.ended()
        with Raw(gateway.public) as raw:
            raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000)
            assert raw.response()[0] == 431


@pytest.mark.parametrize("announced", [True, False])
def test_body_is_bounded(raw, announced):
    body = b"x" * 9000
    if announced:
        raw.send(get(AUTH_ROUTES[0], "Content-Length: 9000", method="POST") + body)
    else:
        raw.send(get(AUTH_ROUTES[0], "Transfer-Encoding: chunked", method="POST") + b"2328\r\n" + body + b"\r\n0\r\n\r\n")
    answer = raw.response()
    assert error_of(answer) == (413, "request_too_large")
    assert answer[1]["connection"] == "close" and raw.ended()


def test_late_requests_are_told_408(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_HTTP_HEADER_TIMEOUT": "500ms", "GATEWAY_HTTP_BODY_TIMEOUT": "600ms",
            "GATEWAY_HTTP_IDLE_TIMEOUT": "700ms"}) as gateway:
        for begun in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
                      get(AUTH_ROUTES[0], "Content-Length: 5", method="POST") + b"he"):
            with Raw(gateway.public) as raw:
                raw.send(begun)
                answer = raw.response()
                assert error_of(answer) == (408, "request_timeout")
                assert answer[1]["connection"] == "close" and raw.ended()
        with Raw(gateway.public) as raw:
            assert raw.ended()  # said nothing
        with Raw(gateway.public) as raw:
            raw.send(get("/healthz"))
            assert raw.response()[0] == 200
            assert raw.ended()  # kept, then idle
        assert gateway.metric('gateway_glitches_total{kind="request_timeout"}') >= 2


# ---- curl, both versions ----

@pytest.mark.parametrize("arguments, version", [
    (["--http1.1"], "1.1"), (["--http1.0"], "1.1"), (["--http2-prior-knowledge"], "2")])
def test_curl_is_served_on_one_port_in_every_version(gateway, arguments, version):
    shown = curl(*arguments, "-w", " %{http_version} %{response_code}", f"http://{gateway.public}/healthz")
    assert shown == f'{{"status":"ok"}} {version} 200'


def test_http2_has_the_same_routes_and_refusals(gateway):
    two = ["--http2-prior-knowledge", "-w", " %{response_code}"]
    base = f"http://{gateway.public}"
    assert curl(*two, base + "/nowhere").endswith(" 404")
    assert "allow: GET, HEAD" in curl(*two, "-i", "-X", "POST", base + "/healthz").lower().replace("get, head", "GET, HEAD")
    assert curl(*two, "-I", base + "/readyz").startswith("HTTP/2 200")
    answer = curl(*two, "--data", '{"email":"a@example.org"}', base + AUTH_ROUTES[0])
    assert json.loads(answer.rpartition(" ")[0])["error"]["code"] == "service_unavailable" and answer.endswith(" 503")


def test_http2_body_is_refused_before_it_is_sent(gateway):
    """By python3-h2: curl 7.88 loses the answer when the stream's reset comes with it."""
    client = RawClient(gateway.public)
    stream = client.call(AUTH_ROUTES[0], headers=[("content-length", "9000")], end=False, content_type="application/json")
    client.read_until(lambda: stream in client.ended)
    assert client.headers[stream][":status"] == "413"
    assert json.loads(client.data[stream])["error"]["code"] == "request_too_large"
    client.close()


def test_http2_body_that_was_refused_is_read_and_dropped(gateway):
    """The stream ends as the client ends it: nothing is reset under an answer."""
    client = RawClient(gateway.public)
    stream = client.call(AUTH_ROUTES[0], headers=[("content-length", "9000")], end=False, content_type="application/json")
    client.h2.send_data(stream, b"x" * 9000, end_stream=True)
    client.flush()
    client.read_until(lambda: stream in client.ended)
    assert client.headers[stream][":status"] == "413"
    again = client.call("/healthz", content_type="text/plain", message=b"")
    client.read_until(lambda: again in client.ended)
    assert stream not in client.resets
    client.close()


def test_http2_body_without_end_is_reset(gateway):
    client = RawClient(gateway.public)
    stream = client.call(AUTH_ROUTES[0], end=False, content_type="application/json")
    sent = 0
    while stream not in client.resets and sent < 1 << 22:
        room = min(client.h2.local_flow_control_window(stream), 16384)
        if room:
            client.h2.send_data(stream, b"x" * room)
            client.flush()
            sent += room
        else:
            client.step()
    client.read_until(lambda: stream in client.resets)
    assert client.headers[stream][":status"] == "413"
    assert client.resets[stream] == 0
    client.close()


def test_curl_hears_of_a_body_that_is_too_large(gateway):
    for _ in range(20):
        answer = curl("--http2-prior-knowledge", "-w", " %{http_code}", "--data", "x" * 9000, f"http://{gateway.public}{AUTH_ROUTES[0]}")
        assert answer.endswith(" 413"), answer


def test_http2_requests_share_a_connection(gateway):
    """By python3-h2: curl 7.88 cannot reuse a connection that it began with prior knowledge."""
    client = RawClient(gateway.public)
    streams = [client.call("/healthz", content_type="text/plain", message=b"") for _ in range(50)]
    client.read_until(lambda: client.ended >= set(streams))
    assert {client.headers[stream][":status"] for stream in streams} == {"405"}
    assert gateway.metric('gateway_connections_open{listener="public"}') == 1
    client.close()


def test_plain_http_on_the_grpc_port_is_refused(gateway):
    with Raw(gateway.grpc) as raw:
        raw.send(get("/healthz"))
        while raw.file.read(4096):
            pass
    gateway.wait_metric('gateway_connections_open{listener="grpc"}', lambda value: value == 0)


# ---- metrics ----

SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*)?\})? '
                    r'(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[+-]Inf|NaN)')
FAMILIES = {
    "gateway_connections_open": {"listener"}, "gateway_connections_total": {"listener", "outcome"},
    "http_requests_total": {"path", "method", "status"}, "http_request_latency_seconds": {"path"},
    "gateway_grpc_calls_total": {"method", "code"}, "gateway_grpc_call_latency_seconds": {"method"},
    "gateway_pipeline_refusals_total": {"step"}, "gateway_session_cache_lookups_total": {"result"},
    "gateway_session_cache_entries": set(), "gateway_redis_commands_total": {"role", "outcome"},
    "gateway_redis_command_latency_seconds": {"role"}, "gateway_redis_connected": {"role"},
    "gateway_redis_reconnects_total": {"role"}, "gateway_stream_entries_total": {"stream", "result"},
    "gateway_stream_lag_seconds": {"stream"}, "gateway_push_streams_open": set(), "gateway_push_events_total": set(),
    "gateway_push_deliveries_total": set(), "gateway_push_delivered_bytes_total": set(),
    "gateway_push_streams_ended_total": {"reason"}, "gateway_push_copied_bytes_total": set(),
    "upstream_grpc_calls_total": {"upstream", "code"}, "upstream_grpc_latency_seconds": {"upstream", "rpc"},
    "upstream_healthy": {"upstream", "address"}, "gateway_ring_submissions_total": {"worker"},
    "gateway_ring_completions_total": {"worker"}, "gateway_ring_cq_overflows_total": {"worker"},
    "gateway_ring_buffer_starvations_total": {"worker"}, "gateway_worker_loop_seconds": {"worker"},
    "gateway_glitches_total": {"kind"}, "gateway_build_info": {"version", "commit"},
    "process_cpu_seconds_total": set(), "process_resident_memory_bytes": set(), "process_open_fds": set(),
    "process_start_time_seconds": set(),
}


def test_metrics_are_prometheus_text_with_every_family(gateway, channel, device):
    channel.execute(device.request())
    channel.refused(device.request(message_type="unrouted"))
    stream = channel.subscribe(device.subscribe_request())
    stream.bootstrap()
    stream.cancel()
    gateway.wait_metric("gateway_push_streams_open", lambda value: value == 0)
    harness.http(gateway.public, "GET", "/healthz")
    status, headers, body = harness.http(gateway.admin, "GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    types, labels_of = {}, {}
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, f"{name} twice"
            types[name] = kind
        elif not line.startswith("# HELP "):
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            name = sample[1]
            family = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
            assert family in types, f"{name} has no type"
            labels = set(re.findall(r'([a-z_]+)="', sample[2] or ""))
            assert not re.search(r"session-|user-|127\.0\.0\.1:\d+\"", line) or "address" in labels, line
            labels_of.setdefault(family, set()).update(labels - {"le"})
    for name, labels in FAMILIES.items():
        assert name in types, f"{name} is missing"
        assert labels <= labels_of[name], (name, labels_of[name])
        if name.endswith("_seconds") and not name.startswith("process_") and "lag" not in name:
            assert types[name] == "histogram", name


def test_metrics_count_what_happened(gateway, channel, device):
    for _ in range(3):
        channel.execute(device.request())
    channel.refused(device.request(protocol_version="v9"))
    harness.http(gateway.public, "GET", "/healthz")
    harness.http(gateway.public, "GET", "/nowhere/at/all")
    values = gateway.metrics()
    assert values[grpc_series(values, "ExecuteCommand", "OK")] == 3
    assert values[grpc_series(values, "ExecuteCommand", "FAILED_PRECONDITION")] == 1
    assert values['gateway_pipeline_refusals_total{step="protocol_version"}'] == 1
    assert values['http_requests_total{path="/healthz",method="GET",status="200"}'] == 1
    unmatched = [name for name in values if name.startswith("http_requests_total") and 'status="404"' in name]
    assert len(unmatched) == 1 and "nowhere" not in unmatched[0]
    assert values['upstream_grpc_calls_total{upstream="echo",code="OK"}'] == 3


def grpc_series(values, method, code):
    found = [name for name in values if name.startswith("gateway_grpc_calls_total{") and method in name
             and f'code="{code}"' in name]
    assert len(found) == 1, found
    return found[0]


def test_build_info_is_the_version(gateway):
    version = subprocess.run([str(harness.RINGWAY), "--version"], capture_output=True, text=True, check=True).stdout
    number, commit = re.fullmatch(r"ringway (\S+) \((\S+)\)\n", version).groups()
    assert gateway.metric(f'gateway_build_info{{version="{number}",commit="{commit}"}}') == 1


# ---- logs ----

def access_lines(gateway):
    return [entry for entry in log_of(gateway) if entry["component"] == "access"]


def log_of(gateway):
    return [json.loads(line) for line in list(gateway.process.err.seen)]


@pytest.mark.parametrize("setting, wanted", [("all", [200, 404, 503, "OK", "FAILED_PRECONDITION"]),
                                             ("errors", [503, "FAILED_PRECONDITION"]), ("off", [])])
def test_access_log_tells_what_it_was_told_to(folder, redis_server, echo, setting, wanted):
    from conftest import ECHO_CONFIG
    with harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address),
                         env={"GATEWAY_ACCESS_LOG": setting, "GATEWAY_ADMIN_HTTP_ADDR": None}) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            harness.http(gateway.public, "GET", "/healthz")
            harness.http(gateway.public, "GET", "/nowhere")
            harness.http(gateway.public, "POST", AUTH_ROUTES[0], body="{}")
            request = device.request()
            channel.execute(request)
            channel.refused(device.request(protocol_version="v9"))
    lines = access_lines(gateway)
    # workers write as they come: the order between two connections is not ours to expect
    assert sorted(str(line.get("status", line.get("code"))) for line in lines) == sorted(map(str, wanted))
    for line in lines:
        assert {"listener", "method", "path", "latency_ms", "bytes"} <= set(line), line
    if setting == "all":
        executed = next(line for line in lines if line.get("code") == "OK")
        assert (executed["request_id"], executed["trace_id"], executed["listener"]) == (
            request.request_id, "trace-1", "grpc")


def test_every_log_line_is_json_and_tells_no_secret(folder, echo):
    """At debug level, through success, refusals, broken records, malformed events and the end."""
    from conftest import ECHO_CONFIG
    server = harness.Redis(folder)
    server.client.config_set("requirepass", "planted-password")
    server.client.close()
    import redis
    server.client = redis.Redis(unix_socket_path=str(server.socket), password="planted-password")
    try:
        with harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address), env={
                "GATEWAY_SESSION_CACHE_REDIS_PASSWORD": "planted-password", "GATEWAY_ACCESS_LOG": "all"}) as gateway:
            secrets = ["planted-password", "planted-payload", "planted@example.org"]
            secrets += [line for line in gateway.signer.read_text().splitlines() if "-----" not in line]
            device = harness.Device(gateway)
            broken = harness.Device(gateway, publish=False)
            server.client.set(f"gateway:session:{broken.session}", '{"device_session_id":"planted-payload"')
            with harness.Channel(gateway.grpc) as channel:
                request = device.request(payload=b"planted-payload")
                channel.execute(request)
                for refused in (device.request(payload=b"planted-payload", payload_hash=b"h" * 32), request,
                                broken.request(payload=b"planted-payload"),
                                device.request(message_type="nowhere", payload=b"planted-payload")):
                    channel.refused(refused)
                    secrets += [base64.b64encode(refused.signature).decode(), refused.signature.hex()]
                stream = channel.subscribe(device.subscribe_request())
                stream.bootstrap()
                harness.publish_event(gateway, device.user, payload=b"planted-payload")
                stream.next()
                harness.publish_event(gateway, "", payload=b"planted-payload")
                gateway.log("client event is malformed")
                server.client.xadd(harness.SESSION_STREAM, {"device_session_id": device.session, "status": "planted-payload"})
                gateway.log("session event is malformed")
                harness.http(gateway.public, "POST", AUTH_ROUTES[0], body='{"email":"planted@example.org"}')
                secrets += [device.session, broken.session, device.fields()["client_public_key"]]
    finally:
        server.stop()
    for line in gateway.process.err.seen:
        entry = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["ts"]), line
        assert entry["level"] in ("debug", "info", "warn", "error") and entry["msg"] and entry["component"]
    text = gateway.process.err.text()
    assert [secret for secret in secrets if secret in text] == []


def test_text_format_and_level_are_obeyed(folder, redis_server):
    gateway = harness.Gateway(folder, redis_server, wait=False,
                              env={"GATEWAY_LOG_FORMAT": "text", "GATEWAY_LOG_LEVEL": "info"})
    line = gateway.process.err.wait(lambda text: "listening" in text and "admin" in text)
    with pytest.raises(ValueError):
        json.loads(line)
    assert gateway.process.stop() == 0
    assert "debug" not in gateway.process.err.text().lower().split()
