"""The admin listener's dumps: /config (masked) and /streams (edge.md §8)."""

import contextlib
import json
import signal
import socket
import threading

import harness


def streams(gateway):
    status, headers, body = harness.http(gateway.admin, "GET", "/streams")
    assert status == 200 and headers["content-type"] == "application/json"
    return json.loads(body)


def test_config_is_that_of_print_config_with_secrets_masked(folder, echo):
    secret = "planted-redis-password"
    redis_server = harness.Redis(folder, "--requirepass", secret)
    try:
        redis_server.client = harness.redis.Redis(unix_socket_path=str(redis_server.socket), password=secret)
        config = f'upstreams: {{ one: {{ addresses: ["{echo.address}"] }} }}\ncommands: [{{ message_type: "a.*", upstream: one }}]\n'
        with harness.Gateway(folder, redis_server, config=config,
                             env={"GATEWAY_SESSION_CACHE_REDIS_PASSWORD": secret}) as gateway:
            status, headers, body = harness.http(gateway.admin, "GET", "/config")
            assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
            printed = harness.subprocess.run([harness.RINGWAY, "--print-config"], env=gateway.env, check=True,
                                             capture_output=True).stdout
            assert body == printed
            assert b"GATEWAY_SESSION_CACHE_REDIS_PASSWORD=********  # environment" in body
            assert b"# upstream one:" in body and b"# command a.*: upstream=one" in body
            assert secret.encode() not in body
            status, headers, body = harness.http(gateway.admin, "HEAD", "/config")
            assert status == 200 and body == b"" and int(headers["content-length"]) == len(printed)
            assert harness.http(gateway.admin, "POST", "/config")[0] == 405
    finally:
        redis_server.stop()


def test_no_stream_is_an_empty_list(gateway):
    told = streams(gateway)
    assert told["open_streams"] == 0 and told["slowest"] == []
    assert [worker["worker"] for worker in told["workers"]] == ["worker-0", "worker-1"]


def test_streams_tells_the_slowest_first(gateway, device):
    """One client does not read: its window closes, its queue grows; the other's stays empty."""
    slow = harness.Device(gateway, user=device.user)
    blocked = harness.Channel(gateway.grpc, **{"grpc.http2.lookahead_bytes": 65536, "grpc.http2.bdp_probe": 0})
    with harness.Channel(gateway.grpc) as reading:
        fast_stream = reading.subscribe(device.subscribe_request())
        fast_stream.bootstrap()
        call = blocked.channel.unary_stream(harness.SUBSCRIBE, request_serializer=lambda message: message.SerializeToString(),
                                            response_deserializer=harness.edge.GatewayEvent.FromString)
        stuck = call(slow.subscribe_request())  # nobody iterates: gRPC reads no further than its window
        harness.wait_until(lambda: streams(gateway)["open_streams"] == 2, "two streams")
        for _ in range(20):
            harness.publish_event(gateway, device.user, payload=b"x" * 50_000)
        for _ in range(20):
            fast_stream.next()
        told = harness.wait_until(lambda: (lambda t: t["slowest"][0]["depth"] > 5 and t)(streams(gateway)), "a queue that grows")
        first, second = told["slowest"]
        assert first["session"] == slow.session[:8] and second["session"] == device.session[:8]
        assert first["queued_bytes"] >= first["depth"] * 50_000 and first["worker"] in ("worker-0", "worker-1")
        assert second["depth"] == 0 and second["queued_bytes"] == 0
        assert first["age_ms"] >= first["silent_ms"] >= 0
        assert sum(worker["open_streams"] for worker in told["workers"]) == told["open_streams"] == 2
        text = json.dumps(told)
        for secret in (slow.user, slow.session, device.session):
            assert secret not in text
        stuck.cancel()
        fast_stream.cancel()
        harness.wait_until(lambda: streams(gateway)["open_streams"] == 0, "no stream")
    blocked.close()


def test_no_more_than_twenty_are_told(gateway):
    with harness.Channel(gateway.grpc) as channel:
        opened = [channel.subscribe(harness.Device(gateway).subscribe_request()) for _ in range(25)]
        for stream in opened:
            stream.bootstrap()
        told = harness.wait_until(lambda: (lambda t: t["open_streams"] == 25 and t)(streams(gateway)), "25 streams")
        assert len(told["slowest"]) == 20


def test_many_ask_at_once_and_some_go_away(gateway):
    """Who asks while one is gathered shares it; who goes away meanwhile harms nobody."""
    request = b"GET /streams HTTP/1.1\r\nHost: a\r\n\r\n"
    gone = []
    for _ in range(200):
        sock = harness.connect(gateway.admin)
        sock.sendall(request * 3)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.append(sock)
        if len(gone) > 5:
            gone.pop(0).close()
    for sock in gone:
        sock.close()
    answers, threads = [], []
    for _ in range(8):
        threads.append(threading.Thread(target=lambda: [answers.append(streams(gateway)) for _ in range(20)]))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(answers) == 160


def test_pipelined_dumps_are_answered_in_order(gateway):
    with harness.connect(gateway.admin) as sock:
        sock.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in (b"/streams", b"/config", b"/streams", b"/healthz"))
                     + b"GET /streams HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert data.count(b"HTTP/1.1 200 OK\r\n") == 5
    kinds = [line.split(b": ")[1].split(b";")[0] for line in data.split(b"\r\n") if line.lower().startswith(b"content-type")]
    assert kinds == [b"application/json", b"text/plain", b"application/json", b"application/json", b"application/json"]


def test_streams_is_answered_while_draining(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_SHUTDOWN_DELAY": "3s"}) as gateway:
        gateway.process.signal(signal.SIGTERM)
        harness.wait_until(lambda: harness.http(gateway.admin, "GET", "/readyz")[0] == 503, "draining")
        assert streams(gateway)["open_streams"] == 0
        assert gateway.process.wait() == 0


def test_end_while_dumps_are_asked_for_is_clean(folder, redis_server):
    with harness.Gateway(folder, redis_server) as gateway:
        sockets = [harness.connect(gateway.admin) for _ in range(20)]
        for at, sock in enumerate(sockets):
            with contextlib.suppress(ConnectionError):  # behind the signal nobody may be there any more
                sock.sendall(b"GET /streams HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
            if at == 10:
                gateway.process.signal(signal.SIGTERM)
        for sock in sockets:
            data = b""
            try:
                while chunk := sock.recv(65536):
                    data += chunk
            except ConnectionError:
                pass  # the end closes what is idle
            sock.close()
        assert gateway.process.wait() == 0
