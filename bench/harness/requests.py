"""W1 to W3: requests and their answers."""

import json
import socket
import subprocess

from . import verdict
from .contest import Contest, sample_of
from .processes import (OUT, SERVER_CPU, Echo, Floor, Gateway, H2o, Nghttpd, Nginx, Redis, Reference, Stage, Wrong,
                        memory_of, ringbench)


def reply_bytes(address, path="/healthz"):
    """How long the gateway's own answer is: the floor sends as many."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive\r\n\r\n".encode())
        answer = link.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Wrong(f"{path}: {answer[:60]!r}")
    return len(answer)


def loaded(work, target, server, **options):
    sample = sample_of(ringbench(work, target, pids=[server.pid], **options))
    sample["pss"] = memory_of(server.pid)["pss"]
    return sample


def w1(plan):
    contest = Contest("W1", "http: GET /healthz, keep-alive, 64 connections", "µs CPU/request")
    with Stage() as stage:
        gateway = Gateway(stage, Redis(stage))
        bytes_ = reply_bytes(gateway.public)
        floor = Floor(stage, "http", bytes=bytes_)
        servers = {"ringway": gateway, "floor": floor}
        for kind in (Nginx, H2o):
            if kind.is_here():
                servers[kind.name] = kind(stage)
            else:
                contest.add(kind.name, None, is_here=False)
        for name, server in servers.items():
            contest.add(name, lambda server=server: loaded(
                "http", server.public, server, path="/healthz", connections=64, **plan.times(1.5)))
        contest.play(plan.rounds)
    contest.notes.append(f"the reply is {bytes_} bytes, the floor's as well")
    floor_us, nginx_us = contest.median("floor"), contest.median("nginx")
    contest.goals = [verdict.goal("≤ 1.10 × floor", contest.median("ringway"), verdict.times(1.10, floor_us))]
    if verdict.floor_is_void(floor_us, nginx_us):
        verdict.void(contest.goals, f"the floor is {floor_us / nginx_us:.2f} × nginx, above 0.87")
    elif floor_us and nginx_us:
        contest.notes.append(f"the floor is {floor_us / nginx_us:.2f} × nginx (void above 0.87)")
    return [contest]


def w2_shape(plan, connections, streams):
    contest = Contest(f"W2 {connections}×{streams}", f"h2: grpc.health.v1 Check, {connections} connections × {streams} "
                      f"streams (the static servers: GET of 15 bytes)", "µs CPU/request")
    shape = {"connections": connections, "streams": streams}
    with Stage() as stage:
        redis, echo = Redis(stage), Echo(stage)
        gateway = Gateway(stage, redis)
        contest.add("ringway", lambda: loaded("h2", gateway.grpc, gateway, **shape, **plan.times(1)))
        for kind in (Nghttpd, H2o, Nginx):
            server = kind(stage) if kind.is_here() else None
            contest.add(kind.name, lambda server=server: loaded(
                "h2", server.h2, server, method="get", path="/healthz", **shape, **plan.times(1)), server is not None)
        reference = Reference(stage, redis, echo) if Reference.is_here() else None
        contest.add(Reference.name, lambda: loaded("h2", reference.grpc, reference, **shape, **plan.times(1)),
                    reference is not None)
        contest.play(plan.rounds)
    contest.goals = [verdict.goal("below nghttpd", contest.median("ringway"), contest.median("nghttpd"))]
    return contest


def w2(plan):
    yield w2_shape(plan, 16, 32)
    yield w2_shape(plan, 64, 1)


def crypto_floor(seconds):
    done = subprocess.run(["taskset", "-c", str(SERVER_CPU), OUT / "crypto_floor", "--seconds", str(seconds)],
                          capture_output=True, check=True)
    report = json.loads(done.stdout)
    return {"figure": report["server_cpu_us_per_unit"],
            **{name: report[name] for name in ("verify_us", "sign_us", "two_hashes_us")}}


def envelopes_for(plan, times):
    """As many as this CPU could take if it did nothing but the cryptography, and some more: signed before the run."""
    if "crypto_us" not in plan.known:
        plan.known["crypto_us"] = min(crypto_floor(0.15)["figure"] for _ in range(3))
    return int(1.3e6 / plan.known["crypto_us"] * (times["warmup"] + times["duration"]))


def commands(plan, server, seconds=2, **more):
    times = plan.times(seconds)
    if "rate" not in more:
        more["envelopes"] = envelopes_for(plan, times)
    return loaded("command", server.grpc, server, **{
        "redis": server.redis.address, "connections": 16, "streams": 32, "gateway_key": server.public_key,
        "message_type": "echo.x", "payload": 200, **times, **more})


def w3(plan):
    contest = Contest("W3", "command: signed ExecuteCommand, 16 connections × 32 streams, 200 bytes, replay in Redis, "
                      "echo upstream", "µs CPU/command")
    with Stage() as stage:
        redis, echo = Redis(stage), Echo(stage)
        gateway = Gateway(stage, redis, echo)
        contest.add("ringway", lambda: commands(plan, gateway))
        contest.add("crypto floor", lambda: crypto_floor(0.6 if plan.quick else 1))
        reference = Reference(stage, redis, echo) if Reference.is_here() else None
        if reference:
            reference.redis = redis
        contest.add(Reference.name, lambda: commands(plan, reference), reference is not None)
        contest.play(plan.rounds)
    contest.goals = [verdict.goal("≤ 1.30 × crypto floor", contest.median("ringway"),
                                  verdict.times(1.30, contest.median("crypto floor")))]
    plan.known["command_rate"] = contest.median("ringway", "rate")
    return [contest]
