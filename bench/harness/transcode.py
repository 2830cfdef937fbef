"""W10: a REST call through to a gRPC service and back, and the same service called directly."""

import http.client
import json
import shutil
import subprocess

from . import verdict
from .contest import Contest
from .processes import OUT, PATIENCE, SERVER_CPU, Echo, Gateway, Redis, Stage, Wrong, free_port
from .requests import loaded

CONNECTIONS = 64
REST_PATH, CALL_PATH = "/api/v1/orders:echo", "/ringway.test.Mirror/Echo"
TRANSCODING_US = 3.0  # BENCH.md: what is allowed above W1 and W2
DESCRIPTORS = OUT / "gen" / "tests.pb"


class Order:
    """The message of 1 KB, as JSON and as protobuf has it."""

    def __init__(self, stage):
        subprocess.run([OUT / "micro_pbjson", DESCRIPTORS, stage.folder], check=True)
        self.json, self.wire = stage.folder / "order.json", stage.folder / "order.wire"
        self.stage = stage

    def answer_of(self, server):
        """A file with this server's answer, byte for byte; it must be the order, however it writes JSON."""
        host, port = server.public.rsplit(":", 1)
        link = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        link.request("POST", REST_PATH, self.json.read_bytes(), {"content-type": "application/json"})
        answer = link.getresponse()
        body = answer.read()
        link.close()
        try:
            right = answer.status == 200 and json.loads(body) == json.loads(self.json.read_bytes())
        except ValueError:
            right = False
        if not right:
            raise Wrong(f"{server.name}: not the order that was sent: {answer.status} {body[:80]!r}")
        path = self.stage.folder / f"{server.name}.json"
        path.write_bytes(body)
        return path


class Envoy:
    """Its gRPC-JSON transcoder with the same descriptors and the same service."""

    name = "Envoy"

    def __init__(self, stage, echo):
        port = free_port()
        upstream, upstream_port = echo.address.rsplit(":", 1)
        config = stage.configure("envoy.yaml", port=port, upstream=upstream, upstream_port=upstream_port,
                                 descriptors=DESCRIPTORS)
        self.process = stage.start("envoy", ["envoy", "-c", config, "--concurrency", 1, "--disable-hot-restart",
                                             "--log-level", "error"], SERVER_CPU)
        self.process.wait_port(port)
        self.pid, self.public = self.process.pid, f"127.0.0.1:{port}"

    @staticmethod
    def is_here():
        return shutil.which("envoy") is not None


def w10(plan):
    contest = Contest("W10", f"transcode: REST → gRPC → JSON, a message of 1 KB there and back, {CONNECTIONS} connections",
                      "µs CPU/request")
    times = plan.times(1.5)
    with Stage() as stage:
        redis, echo, direct = Redis(stage), Echo(stage), Echo(stage, SERVER_CPU)
        order = Order(stage)
        gateway = Gateway(stage, redis, config=stage.configure("rest.yaml", upstream=echo.address, descriptors=DESCRIPTORS))
        servers = [gateway] + [kind(stage, echo) for kind in (Envoy,) if kind.is_here()]

        def rest(server, answer):
            return lambda: loaded("http", server.public, server, path=REST_PATH, body=order.json, answer=answer,
                                  connections=CONNECTIONS, **times)

        for server in servers:
            contest.add(server.name, rest(server, order.answer_of(server)))
        contest.add("gRPC, direct", lambda: loaded("h2", direct.address, direct, method="call", path=CALL_PATH, body=order.wire,
                                                   answer=order.wire, connections=CONNECTIONS, streams=1, **times))
        contest.add("ringway, W1", lambda: loaded("http", gateway.public, gateway, path="/healthz", connections=CONNECTIONS,
                                                  **times))
        contest.add("ringway, W2 16×32", lambda: loaded("h2", gateway.grpc, gateway, connections=16, streams=32, **times))
        if not Envoy.is_here():
            contest.add(Envoy.name, None, is_here=False)
        contest.play(plan.rounds)
        size = len(order.json.read_bytes()), len(order.wire.read_bytes())
    parts = [contest.median("ringway, W1"), contest.median("ringway, W2 16×32"), TRANSCODING_US]
    contest.goals = [verdict.goal("≤ W1 + W2 16×32 + 3 µs", contest.median("ringway"), verdict.plus(*parts))]
    contest.notes += [
        f"{size[0]:,} bytes of JSON and {size[1]:,} of protobuf, both ways; W1 and W2 are of the same gateway in the same rounds",
        "direct: the service's own CPU time, on the gateway's CPU; behind the gateway it shares the generator's"]
    return [contest]
