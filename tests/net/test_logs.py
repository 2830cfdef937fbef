"""Logs (edge.md §8): nothing secret in any line, at any level, in either format, whatever is refused; floods held back."""

import base64
import json
import re
import socket
import uuid

import grpc
import pytest
import redis

import harness

PASSWORD = "planted-redis-password-57ca"
PAYLOAD = "planted-payload-text-8e11"
EMAIL = "planted.9d20@example.org"
CODE = "planted-code-40b3"
CHALLENGE = "planted-challenge-77aa"
LEVELS = ["debug", "info", "warn", "error"]

CONFIG = """
upstreams:
  echo: {{ addresses: ["{echo}"] }}
  down: {{ addresses: ["127.0.0.1:1"] }}
commands:
  - {{ message_type: "test.*", upstream: echo }}
  - {{ message_type: "down.*", upstream: down }}
"""


class QuietGateway(harness.Gateway):
    """One whose log may not tell where it listens: its level or format is another than the harness reads."""

    def __init__(self, folder, redis_server, level, form, **more):
        public, grpc_address, admin = (f"127.0.0.1:{harness.free_port()}" for _ in range(3))
        env = {"GATEWAY_PUBLIC_HTTP_ADDR": public, "GATEWAY_AUTHENTICATED_GRPC_ADDR": grpc_address,
               "GATEWAY_ADMIN_HTTP_ADDR": admin, "GATEWAY_LOG_LEVEL": level, "GATEWAY_LOG_FORMAT": form,
               "GATEWAY_ACCESS_LOG": "all", **more.pop("env", {})}
        super().__init__(folder, redis_server, wait=False, env=env, **more)
        self.public, self.grpc, self.admin = public, grpc_address, admin
        harness.wait_until(self.is_ready, "ready")

    def is_ready(self):
        assert self.process.process.poll() is None, self.process.err.text()
        try:
            return harness.http(self.admin, "GET", "/readyz")[0] == 200
        except OSError:
            return False


class Planted:
    """Words that no log line may have."""

    def __init__(self, gateway):
        self.words = [PASSWORD, PAYLOAD, EMAIL, EMAIL.split("@")[0], CODE, CHALLENGE]
        self.words += [line for line in gateway.signer.read_text().splitlines() if "-----" not in line]

    def add_bytes(self, data):
        self.words += [base64.b64encode(data).decode().rstrip("="), data.hex(), data.hex().upper()]

    def add_device(self, device):
        self.words.append(device.session[:9])  # eight characters may be told, no more
        self.words.append(device.fields()["client_public_key"])
        self.add_bytes(bytes(device.key))

    def add_request(self, request):
        for data in (request.signature, request.payload_hash):
            if len(data) > 8:
                self.add_bytes(data)

    def check(self, gateway):
        gateway.process.err.join()
        text = gateway.process.err.text()
        assert [word for word in self.words if word in text] == []
        return text


def new_device(gateway, planted, **more):
    device = harness.Device(gateway, session=uuid.uuid4().hex + "-" + PAYLOAD, **more)
    planted.add_device(device)
    return device


def refuse_calls(gateway, planted, channel, device):
    """Every refusal of edge.md §2.2 that a client can bring about."""
    payload = PAYLOAD.encode()
    stranger = new_device(gateway, planted, publish=False)
    broken = new_device(gateway, planted, publish=False)
    gateway.redis.client.set("gateway:session:" + broken.session, json.dumps({**broken.fields(), "user_id": 7, "note": PAYLOAD}))
    foreign = new_device(gateway, planted, publish=False)
    gateway.redis.client.set("gateway:session:" + foreign.session, json.dumps(device.fields()))
    wrong_type = new_device(gateway, planted, publish=False)
    gateway.redis.client.lpush("gateway:session:" + wrong_type.session, PAYLOAD)
    revoked = new_device(gateway, planted)
    revoked.write_record("revoked")
    twice = device.request(payload=payload)
    assert channel.execute(twice).result_code == "ok"
    requests = [
        device.request(payload=payload, request_id=""), device.request(payload=payload, request_id="bad\n" + PAYLOAD),
        device.request(payload=payload, protocol_version="v2" + PAYLOAD), stranger.request(payload=payload),
        broken.request(payload=payload), foreign.request(payload=payload), wrong_type.request(payload=payload),
        revoked.request(payload=payload), device.request(payload=payload, payload_hash=b"short"),
        device.request(payload=payload, payload_hash=b"\1" * 32), device.request(payload=payload, signature=b"\1" * 64),
        device.request(payload=payload, signature=PAYLOAD.encode()), device.request(payload=payload, timestamp_ms=1), twice,
        device.request("nowhere." + PAYLOAD, payload=payload), device.request("down.call", payload=payload),
        device.request("x" * 129, payload=payload), device.request(payload=b"x" * (5 << 20))]
    for request in requests:
        assert channel.refused(request)[0] != "OK"
        planted.add_request(request)
    raw = channel.channel.unary_unary(harness.EXECUTE)
    for data in (payload, b"\x0a\xff", b"\x0a\x02v1" + b"\x42\x40" + b"s" * 3):
        with pytest.raises(grpc.RpcError):
            raw(data, timeout=harness.PATIENCE)
    with pytest.raises(grpc.RpcError):
        channel.channel.unary_unary("/galaxy.gateway.v1.EdgeGateway/" + CODE)(payload, timeout=harness.PATIENCE,
                                                                              metadata=[("x-email", EMAIL)])


def open_streams(gateway, planted, channel, device):
    revoked = new_device(gateway, planted)
    stream, ended = channel.subscribe(device.subscribe_request()), channel.subscribe(revoked.subscribe_request())
    stream.bootstrap()
    ended.bootstrap()
    harness.publish_event(gateway, device.user, payload=PAYLOAD.encode())
    event = stream.next()
    planted.add_bytes(event.signature)
    planted.add_bytes(event.payload_hash)
    revoked.revoke()
    ended.end()
    many = [channel.subscribe(device.subscribe_request()) for _ in range(9)]
    harness.wait_until(lambda: any(not stream.call.is_active() for stream in many), "one stream too many")


def spoil_streams(gateway, planted, device):
    before = {name: gateway.metric(f'gateway_stream_entries_total{{stream="{name}_events",result="malformed"}}')
              for name in ("session", "client")}
    client = [{"user_id": device.user}, {"user_id": "", "event_type": PAYLOAD, "event_id": "e", "payload_bytes": PAYLOAD},
              {"user_id": device.user, "event_type": b"\xff" + PAYLOAD.encode(), "event_id": "e", "payload_bytes": PAYLOAD},
              {PAYLOAD: PAYLOAD}]
    other = new_device(gateway, planted)
    session = [{**other.fields(), "status": PAYLOAD}, {**other.fields(), "client_public_key": PAYLOAD}, {PAYLOAD: PAYLOAD},
               {**other.fields(), "revoked_at_ms": PAYLOAD}, {**other.fields(), "user_id": ""}]
    for fields in client:
        gateway.redis.client.xadd(harness.CLIENT_STREAM, fields)
    for fields in session:
        gateway.redis.client.xadd(harness.SESSION_STREAM, fields)
    for name, entries in (("session", session), ("client", client)):
        gateway.wait_metric(f'gateway_stream_entries_total{{stream="{name}_events",result="malformed"}}',
                            lambda value, name=name, entries=entries: value == before[name] + len(entries))


def refuse_http(gateway):
    send, confirm = "/api/v1/public/auth/send-email-code", "/api/v1/public/auth/confirm-email-code"
    for body in (json.dumps({"email": EMAIL}), json.dumps({"email": EMAIL + "@twice"}), "{" + EMAIL, json.dumps({"code": CODE})):
        assert harness.http(gateway.public, "POST", send, body=body, headers={"X-Email": EMAIL})[0] >= 400
    for body in (json.dumps({"challenge_id": CHALLENGE, "code": CODE, "client_public_key": base64.b64encode(b"k" * 32).decode()}),
                 json.dumps({"challenge_id": CHALLENGE, "code": CODE, "client_public_key": PAYLOAD})):
        assert harness.http(gateway.public, "POST", confirm, body=body)[0] >= 400
    for address in (gateway.public, gateway.admin):
        for path in (f"/{PAYLOAD}", f"/healthz?email={EMAIL}", f"/api/v1/public/auth/send-email-code?email={EMAIL}"):
            harness.http(address, "GET", path)
    for address in (gateway.public, gateway.grpc, gateway.admin):
        for data in (f"{PAYLOAD}\r\n\r\n", f"GET /{PAYLOAD} HTTP/9.9\r\n\r\n", f"GET / HTTP/1.1\r\n{EMAIL}\r\n\r\n",
                     f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{PAYLOAD * 4}"):
            with harness.connect(address) as sock:
                sock.sendall(data.encode())
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass


def lose_redis(gateway, planted, channel, device):
    """Redis refuses the password, renames a command so that its error repeats the arguments, and goes away."""
    connected = gateway.metric('gateway_redis_connected{role="session"}')
    gateway.redis.client.config_set("requirepass", "another")
    gateway.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    gateway.wait_metric('gateway_redis_connected{role="session"}', lambda value: value == 0)
    other = new_device(gateway, planted)
    assert channel.refused(other.request(payload=PAYLOAD.encode()))[0] == "UNAVAILABLE"
    assert channel.refused(device.request(payload=PAYLOAD.encode()))[0] == "UNAVAILABLE"
    gateway.redis.client.config_set("requirepass", PASSWORD)
    gateway.wait_metric('gateway_redis_connected{role="session"}', lambda value: value == connected)
    for allowed in (["-get"], ["-set"], []):
        fresh = new_device(gateway, planted)  # one that no worker knows yet
        gateway.redis.client.acl_setuser("default", enabled=True, commands=["+@all", *allowed])
        result = channel_result(channel, fresh.request(payload=PAYLOAD.encode()))
        gateway.redis.client.acl_setuser("default", enabled=True, commands=["+@all"])
        assert result == ("UNAVAILABLE" if allowed else "ok")


def channel_result(channel, request):
    try:
        return channel.execute(request).result_code
    except grpc.RpcError as error:
        return error.code().name


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("level", LEVELS)
def test_no_line_tells_a_secret(folder, echo, level, form):
    server = harness.Redis(folder, "--requirepass", PASSWORD)
    server.client = redis.Redis(unix_socket_path=str(server.socket), password=PASSWORD)
    try:
        with QuietGateway(folder, server, level, form, config=CONFIG.format(echo=echo.address), env={
                "GATEWAY_SESSION_CACHE_REDIS_PASSWORD": PASSWORD,
                "GATEWAY_AUTH_SERVICE_BASE_URL": "http://127.0.0.1:1"}) as gateway:
            planted = Planted(gateway)
            device = new_device(gateway, planted)
            with harness.Channel(gateway.grpc) as channel:
                refuse_calls(gateway, planted, channel, device)
                open_streams(gateway, planted, channel, device)
                spoil_streams(gateway, planted, device)
                refuse_http(gateway)
                lose_redis(gateway, planted, channel, device)
    finally:
        server.stop()
    text = planted.check(gateway)
    levels = set(re.findall(r'"level":"([a-z]+)"' if form == "json" else r"(?m)^\S+ (DEBUG|INFO|WARN|ERROR) ", text))
    quieter = {name if form == "json" else name.upper() for name in LEVELS[:LEVELS.index(level)]}
    told = {line for line in text.splitlines() if "access" not in line}
    for line in told:
        if form == "json":
            entry = json.loads(line)
            assert entry["level"] not in quieter, line
            assert set(entry) >= {"ts", "level", "msg", "component"}
        else:
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z_0-9]+: ", line), line
            assert line.split()[1] not in quieter, line
    assert levels


@pytest.mark.parametrize("stream, message", [(harness.CLIENT_STREAM, "client event is malformed"),
                                             (harness.SESSION_STREAM, "session event is malformed")])
def test_flood_is_held_back_and_counted(gateway, stream, message):
    """Ten lines a second and place; what was held back is told by the next line, none is lost."""
    name = "client" if stream == harness.CLIENT_STREAM else "session"
    series = f'gateway_stream_entries_total{{stream="{name}_events",result="malformed"}}'
    sent, flood = 0, 20_000
    pipe = gateway.redis.client.pipeline(transaction=False)
    for _ in range(flood):
        pipe.xadd(stream, {"device_session_id": "s", "status": "?"})
    pipe.execute()
    sent += flood
    gateway.wait_metric(series, lambda value: value == flood)

    def lines():
        return [entry for entry in map(json.loads, list(gateway.process.err.seen)) if entry["msg"] == message]

    def all_told():
        nonlocal sent
        gateway.redis.client.xadd(stream, {"device_session_id": "s", "status": "?"})
        sent += 1
        gateway.wait_metric(series, lambda value: value == sent)
        told = lines()
        return "held_back" in told[-1] and len(told) + sum(entry.get("held_back", 0) for entry in told) == sent and told

    told = harness.wait_until(all_told, "a line that says how many were held back")
    first, last = (entry["ts"] for entry in (told[0], told[-1]))
    seconds = parse(last) - parse(first)
    assert len(told) <= 10 * (seconds + 2), f"{len(told)} lines in {seconds} s"
    assert len(told) < flood / 10


def parse(ts):
    import datetime
    return datetime.datetime.fromisoformat(ts.replace("Z", "+00:00")).timestamp()
