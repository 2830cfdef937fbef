"""Redis and services by host name (edge.md §1, §3): found through /etc/hosts, found again, and looked up anew each time."""

import subprocess

import grpc
import pytest

import harness
from harness import publish_event

CONFIG = """
upstreams:
  echo:
    addresses: ["{address}"]
    deadline: 1s
commands:
  - {{ message_type: "test.*", upstream: echo }}
"""


@pytest.fixture
def named_redis(folder):
    server = harness.Redis(folder, port=harness.free_port(), data=True)
    yield server
    server.stop()


@pytest.fixture
def named(folder, named_redis, echo):
    """A gateway that knows both its Redis and its service by name."""
    config = CONFIG.format(address=f"localhost:{echo.address.rpartition(':')[2]}").replace("1s", "5s")  # a slow machine is no fault
    with harness.Gateway(folder, named_redis, config=config, env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"localhost:{named_redis.port}"}) as gateway:
        yield gateway


def outcome(channel, device):
    """The result code of a command, or the status that it ends with."""
    try:
        return channel.execute(device.request()).result_code
    except grpc.RpcError as error:
        return error.code().name, error.details()


def executes(channel, device):
    harness.wait_until(lambda: outcome(channel, device) == "ok", "a command is executed")


def test_whole_story_by_names(named):
    with harness.Channel(f"localhost:{named.grpc.rpartition(':')[2]}") as channel:
        device = harness.Device(named)
        assert outcome(channel, device) == "ok"
        stream = channel.subscribe(device.subscribe_request())
        stream.bootstrap()
        event_id = publish_event(named, device.user)
        assert stream.next().event_id == event_id
        device.revoke()
        assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")


def test_restart_of_redis_under_its_name_is_survived(named, named_redis):
    with harness.Channel(named.grpc) as channel:
        device = harness.Device(named)
        stream = channel.subscribe(device.subscribe_request())
        stream.bootstrap()
        before = publish_event(named, device.user)
        assert stream.next().event_id == before
        named_redis.kill()
        named.log("connection to Redis lost", address=f"localhost:{named_redis.port}")
        refused = outcome(channel, harness.Device(named, publish=False))
        assert refused == ("UNAVAILABLE", "session cache is unavailable")
        named_redis.restart()
        executes(channel, device)
        after = publish_event(named, device.user)
        assert stream.next().event_id == after
        named.wait_metric('gateway_redis_connected{role="client_events"}', lambda value: value == 1)
        assert named.metric('gateway_stream_gaps_total{stream="client_events"}') == 0


def test_restart_of_a_service_under_its_name_is_survived(folder, redis_server):
    port = harness.free_port()
    first = harness.start_echo(f"127.0.0.1:{port}")
    with harness.Gateway(folder, redis_server, config=CONFIG.format(address=f"localhost:{port}")) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            device = harness.Device(gateway)
            assert outcome(channel, device) == "ok"
            assert first.stop() == 0
            harness.wait_until(lambda: outcome(channel, device) == ("UNAVAILABLE", "downstream service is unavailable"),
                               "the service is missed")
            second = harness.start_echo(f"127.0.0.1:{port}")
            executes(channel, device)
            assert second.stop() == 0


def test_unknown_name_of_a_service_is_logged_and_unavailable(folder, redis_server):
    config = CONFIG.format(address="no-such-host.invalid:9200")
    with harness.Gateway(folder, redis_server, config=config) as gateway, harness.Channel(gateway.grpc) as channel:
        assert outcome(channel, harness.Device(gateway)) == ("UNAVAILABLE", "downstream service is unavailable")
        assert gateway.log("cannot connect")["address"] == "no-such-host.invalid:9200"


# ---- a name that moves: /etc/hosts of the gateway's own, in a mount namespace of its own ----

def own_hosts(path):
    """Words before a program's name. By a program of its own: a fork of Python with grpcio's threads alive can hang."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
            'mount --bind "$0" /etc/hosts && exec "$@"', str(path)]


@pytest.fixture
def hosts(folder):
    path = folder / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    if subprocess.run([*own_hosts(path), "true"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("mount namespaces are not permitted here")
    return path


@pytest.fixture
def moving_redis(folder):
    """Two of them on one port: at 127.0.0.1, and at 127.0.0.2 when it is started."""
    port, servers = harness.free_port(), []

    def start(host):
        place = folder / host
        place.mkdir()
        servers.append(harness.Redis(place, "--bind", host, port=port))
        return servers[-1]
    yield start
    for server in servers:
        server.stop()


def test_redis_is_looked_up_anew_at_every_try(folder, hosts, moving_redis):
    first = moving_redis("127.0.0.1")
    hosts.write_text("127.0.0.1 redis.test\n")
    with harness.Gateway(folder, first, prefix=lambda _: own_hosts(hosts), env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"redis.test:{first.port}"}) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            device = harness.Device(gateway)
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            gateway.redis = moving_redis("127.0.0.2")
            device.write_record()
            hosts.write_text("127.0.0.2 redis.test\n")
            first.kill()
            event_id = publish_event(gateway, device.user)
            assert stream.next().event_id == event_id
            newcomer = harness.Device(gateway)
            harness.wait_until(lambda: outcome(channel, newcomer) == ("UNIMPLEMENTED", "message_type is not routed"),
                               "the session of the new Redis is known")


def test_service_is_looked_up_anew_at_every_try(folder, hosts, redis_server):
    port = harness.free_port()
    hosts.write_text("127.0.0.1 echo.test\n")
    first = harness.start_echo(f"127.0.0.1:{port}")
    with harness.Gateway(folder, redis_server, config=CONFIG.format(address=f"echo.test:{port}"),
                         prefix=lambda _: own_hosts(hosts)) as gateway, harness.Channel(gateway.grpc) as channel:
        device = harness.Device(gateway)
        assert outcome(channel, device) == "ok"
        second = harness.start_echo(f"127.0.0.2:{port}")
        hosts.write_text("127.0.0.2 echo.test\n")
        assert first.stop() == 0
        executes(channel, device)
        assert second.stop() == 0


def test_every_address_of_a_name_is_tried(folder, hosts, redis_server):
    """Nobody listens at the first one."""
    port = harness.free_port()
    hosts.write_text("127.0.0.3 echo.test\n127.0.0.4 echo.test\n")
    service = harness.start_echo(f"127.0.0.4:{port}")
    with harness.Gateway(folder, redis_server, config=CONFIG.format(address=f"echo.test:{port}"),
                         prefix=lambda _: own_hosts(hosts)) as gateway, harness.Channel(gateway.grpc) as channel:
        executes(channel, harness.Device(gateway))
    assert service.stop() == 0
