"""What one peer may cost the public listener (edge.md §5, §7): anti-abuse classes, bodies, connections."""

import json
import socket
import subprocess

import pytest

import frames
import harness

AUTH = "/api/v1/public/auth/send-email-code"
CLASSES = {  # a request of the class
    "PUBLIC_AUTH": ("POST", AUTH),
    "BROWSER_BOOTSTRAP": ("GET", "/index.html"),
    "BROWSER_ASSET": ("GET", "/assets/app.js"),
    "PUBLIC_MISC": ("GET", "/nowhere"),
}


def limits(name, **numbers):
    return {f"GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_{name}_{number}": value for number, value in numbers.items()}


def limited(answer):
    """Whether it is a refusal for its rate, and a whole one; else some other answer."""
    status, headers, body = answer
    if status != 429:
        assert "retry-after" not in headers
        return False
    assert json.loads(body)["error"]["code"] == "rate_limited"
    assert int(headers["retry-after"]) >= 1
    return True


@pytest.mark.parametrize("name", CLASSES)
def test_class_is_limited_by_itself(folder, redis_server, name):
    with harness.Gateway(folder, redis_server, env=limits(name, REQUESTS=1, WINDOW="1h", BURST=3)) as gateway:
        answers = [harness.http(gateway.public, *CLASSES[name]) for _ in range(5)]
        assert [limited(answer) for answer in answers] == [False] * 3 + [True] * 2
        assert 3500 < int(answers[3][1]["retry-after"]) <= 3600
        for other in CLASSES:
            if other != name:
                assert not limited(harness.http(gateway.public, *CLASSES[other]))
        for probe in ("/healthz", "/readyz"):
            assert harness.http(gateway.public, "GET", probe)[0] == 200
        values = gateway.metrics()
        assert values[f'gateway_public_limited_total{{class="{name.lower()}"}}'] == 2
        assert sum(value for line, value in values.items()
                   if line.startswith("http_requests_total") and 'status="429"' in line) == 2


def test_wrong_method_on_an_auth_route_is_no_sign_in(folder, redis_server):
    with harness.Gateway(folder, redis_server, env=limits("PUBLIC_AUTH", REQUESTS=1, WINDOW="1h", BURST=1)) as gateway:
        for _ in range(3):
            assert harness.http(gateway.public, "GET", AUTH)[0] == 405
        assert not limited(harness.http(gateway.public, "POST", AUTH))
        assert limited(harness.http(gateway.public, "POST", AUTH))


def test_budget_is_the_process_s_and_not_a_worker_s(folder, redis_server):
    """Connections spread over both workers; both protocols draw on one bucket."""
    with harness.Gateway(folder, redis_server, env=limits("PUBLIC_MISC", REQUESTS=1, WINDOW="1h", BURST=10)) as gateway:
        seen = [limited(harness.http(gateway.public, "GET", "/nowhere")) for _ in range(8)]
        assert seen == [False] * 8
        two = [int(curl_status(gateway, "/nowhere")) for _ in range(4)]
        assert two == [404, 404, 429, 429]


def curl_status(gateway, path):
    return subprocess.run(["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-o", "/dev/null", "-w",
                           "%{response_code}", f"http://{gateway.public}{path}"],
                          capture_output=True, check=True, text=True).stdout


def test_http2_refusal_has_retry_after(folder, redis_server):
    with harness.Gateway(folder, redis_server, env=limits("PUBLIC_MISC", REQUESTS=1, WINDOW="1h", BURST=1)) as gateway:
        with frames.FrameClient(gateway.public) as client:
            fields = [(":method", "GET"), (":scheme", "http"), (":path", "/nowhere"), (":authority", "x")]
            assert client.fields(client.request(fields))[":status"] == "404"
            answer = client.fields(client.request(fields))
            assert answer[":status"] == "429" and 3500 < int(answer["retry-after"]) <= 3600


def test_tokens_come_back(folder, redis_server):
    with harness.Gateway(folder, redis_server, env=limits("PUBLIC_MISC", REQUESTS=5, WINDOW="1s", BURST=1)) as gateway:
        for wanted in (False, True, False):  # on a busy machine the one that is refused is not the next
            harness.wait_until(lambda: limited(harness.http(gateway.public, "GET", "/nowhere")) == wanted, f"limited: {wanted}")


def test_defaults_are_the_contract_s(folder, redis_server):
    unset = {**limits("PUBLIC_AUTH", REQUESTS=None), **limits("PUBLIC_MISC", REQUESTS=None)}
    with harness.Gateway(folder, redis_server, env=unset) as gateway:
        for name, burst in (("PUBLIC_AUTH", 10), ("PUBLIC_MISC", 30)):
            seen = [limited(harness.http(gateway.public, *CLASSES[name])) for _ in range(burst + 1)]
            assert seen == [False] * burst + [True], name


def test_unix_peers_are_exempt(folder, redis_server):
    path = folder / "public.sock"
    with harness.Gateway(folder, redis_server, env={
            "GATEWAY_PUBLIC_HTTP_ADDR": f"unix:{path}", "GATEWAY_MAX_CONNECTIONS_PER_IP": "1",
            **limits("PUBLIC_MISC", REQUESTS=1, WINDOW="1h", BURST=1)}):
        peers = []
        for _ in range(3):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(harness.PATIENCE)
            peer.connect(str(path))
            peers.append(peer)
            peer.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        for peer in peers:
            text = b""
            while text.count(b"}}") < 2:
                text += peer.recv(4096)
            assert text.count(b"HTTP/1.1 404") == 2
            peer.close()


# ---- bodies ----

@pytest.mark.parametrize("name, path, limit", [
    ("PUBLIC_AUTH", AUTH, 8192), ("BROWSER_BOOTSTRAP", "/", 0), ("BROWSER_ASSET", "/assets/x", 0),
    ("PUBLIC_MISC", "/nowhere", 8192)])
def test_body_limit_of_the_class(gateway, name, path, limit):
    def status(size, chunked=False):
        answer = harness.http(gateway.public, "POST", path, body=iter([b"x" * size]) if chunked else b"x" * size)
        if answer[0] == 413:
            assert json.loads(answer[2])["error"]["code"] == "request_too_large"
        return answer[0]

    assert status(limit) != 413
    assert status(limit + 1) == 413
    assert status(limit + 1, chunked=True) == 413


def test_body_limit_is_what_was_configured(folder, redis_server):
    env = {**limits("PUBLIC_AUTH", BODY_LIMIT="100KiB"), **limits("PUBLIC_MISC", BODY_LIMIT="10")}
    with harness.Gateway(folder, redis_server, env=env) as gateway:
        assert harness.http(gateway.public, "POST", AUTH, body=b"x" * 102400)[0] != 413
        assert harness.http(gateway.public, "POST", AUTH, body=b"x" * 102401)[0] == 413
        assert harness.http(gateway.public, "POST", "/nowhere", body=b"x" * 10)[0] == 404
        assert harness.http(gateway.public, "POST", "/nowhere", body=b"x" * 11)[0] == 413


# ---- connections ----

def test_connections_of_one_peer_are_bounded_over_all_workers_and_listeners(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_MAX_CONNECTIONS_PER_IP": "6"}) as gateway:
        def open_count():
            values = gateway.metrics()
            return sum(values[f'gateway_connections_open{{listener="{name}"}}'] for name in ("public", "grpc"))

        kept = [harness.connect(address) for address in (gateway.public, gateway.grpc) for _ in range(3)]
        harness.wait_until(lambda: open_count() == 6, "six connections")
        for address, listener in ((gateway.public, "public"), (gateway.grpc, "grpc")):
            with harness.connect(address) as refused:
                assert harness.is_ended(refused)
            gateway.wait_metric(f'gateway_connections_total{{listener="{listener}",outcome="peer_limit"}}',
                                lambda value: value == 1)
        kept.pop().close()
        harness.wait_until(lambda: open_count() == 5, "one gone")
        assert harness.http(gateway.public, "GET", "/healthz")[0] == 200
        for connection in kept:
            connection.close()
