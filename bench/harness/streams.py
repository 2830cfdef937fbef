"""W7, W8 and what idle streams and mixed load change: the price of having many streams open."""

import pathlib
import resource
import time

from . import verdict
from .contest import Contest, sample_of
from .processes import Floor, Gateway, Load, Redis, Stage, Wrong, kernel_memory, memory_of, ringbench
from .push import WORKERS, Sink, loop_bound_ms, one_by_one, push, with_echo
from .requests import commands, crypto_floor

OPENING_BYTES = 500  # what a client sends first (preface, settings, request), and what it gets back, about
ALONE_ROUNDS = 3  # of what is compared with nothing: so that the whole takes 15 minutes at most
SIGNING_S = 2  # in which ringbench makes its envelopes, before it sends the first


def hold_open(stage, gateway, streams, **more):
    """Streams that are open and hear nothing; a user each, so that no other run's events reach them."""
    load = Load(stage, "push", gateway.grpc, "--hold", redis=gateway.redis.address, streams=streams, users=streams,
                source_addresses=8, rate=1, duration=1, **more)
    report = load.report()
    if report.get("open") != streams:
        raise Wrong(f"{report} of {streams} streams are open")
    return load


def w7(plan):
    streams = plan.scaled(18000)
    contest = Contest("W7", f"idle: memory of an open SubscribeEvents stream, {streams:,} connections", "KiB process/stream")

    def measure():
        with Stage() as stage:
            gateway = Gateway(stage, Redis(stage))
            push(gateway, users=1, streams=10, rate=10, warmup=0, duration=0.2)  # what is made once is there
            before, kernel = memory_of(gateway.pid), kernel_memory()
            load = hold_open(stage, gateway, streams)
            after, kernel_after = memory_of(gateway.pid), kernel_memory()
            load.finish()
        grown = {name: (kernel_after[name] - kernel[name]) / 2 / streams for name in kernel}
        return {"figure": (after["private"] - before["private"]) / streams / 1024,
                "pss_kib": (after["pss"] - before["pss"]) / streams / 1024,
                "kernel_kib": (grown["slab"] + grown["percpu"]) / 1024, "tcp_buffers_kib": grown["tcp"] / 1024}

    contest.add("ringway", measure)
    contest.play(min(plan.rounds, ALONE_ROUNDS))
    process, kernel = contest.median("ringway"), contest.median("ringway", "kernel_kib")
    contest.notes.append("kernel: growth of slabs and per-CPU memory, halved, because both ends are on this machine and "
                         "both are connections on a ring")
    contest.goals = [verdict.goal("≤ 16.5 KiB process", process, 16.5), verdict.goal("≤ 5 KiB kernel", kernel, 5.0)]
    plan.known["stream_process"] = verdict.times(1024, process)
    plan.known["stream_kernel"] = verdict.times(1024, kernel)
    return [contest]


def storm_floor(stage, connections, rounds):
    floor = Floor(stage, "storm", bytes=OPENING_BYTES, connections=connections * rounds)
    sink = Sink(stage, floor.public, connections, "--storm", rounds, "--request-bytes", OPENING_BYTES,
                "--reply-bytes", OPENING_BYTES)
    report = sink.process.result(120)
    if report["failed"]:
        raise Wrong(f"floor: {report['failed']} connections failed")
    result = floor.process.result(60)
    return {"figure": result["server_cpu_us_per_unit"], "rate": result["units"] / result["seconds"]}


def w8(plan):
    clients = plan.scaled(18000)
    contest = Contest("W8", f"storm: {clients:,} clients connect and subscribe at once, then all reconnect",
                      "µs CPU/connection")
    with Stage() as stage:
        gateway = Gateway(stage, Redis(stage))
        contest.add("ringway", lambda: sample_of(ringbench(
            "storm", gateway.grpc, redis=gateway.redis.address, connections=clients, rounds=2, source_addresses=8,
            gateway_key=gateway.public_key, pids=[gateway.pid])))
        contest.add("bare TCP floor", lambda: storm_floor(stage, clients, 2))
        contest.add("crypto floor", lambda: crypto_floor(0.5))
        contest.play(plan.rounds)
    contest.goals = [
        verdict.goal("≤ 1.25 × (crypto floor + bare TCP)", contest.median("ringway"), verdict.times(
            1.25, verdict.plus(contest.median("crypto floor"), contest.median("bare TCP floor")))),
        verdict.told("no failures", contest.is_right())]
    return [contest]


def idle_pair(plan, name, title, unit, run):
    """The same work with and without idle streams, alternating. Both gateways are there all the time."""
    idle = plan.scaled(15000)
    contest = Contest(name, f"{title}, with 0 and {idle:,} idle streams open", unit)
    with Stage() as stage:
        quiet, crowded = with_echo(stage), with_echo(stage)
        load = hold_open(stage, crowded, idle)
        contest.add("ringway, 0 idle", lambda: run(quiet))
        contest.add(f"ringway, {idle:,} idle", lambda: run(crowded))
        contest.play(plan.rounds)
        load.finish()
    contest.goals = [verdict.goal("differs by ≤ 10 %", contest.median(f"ringway, {idle:,} idle"),
                                  verdict.times(1.10, contest.median("ringway, 0 idle")))]
    return contest


def idle(plan):
    yield idle_pair(plan, "idle W3", "commands as in W3", "µs CPU/command", lambda gateway: commands(plan, gateway, 1.5))
    yield idle_pair(plan, "idle W4", "1,000 streams at 150 events/s as in W4", "µs CPU/delivery",
                    lambda gateway: one_by_one(gateway, 1000, 150, **plan.times(1.5)))


def wait_open(gateway, streams):
    deadline = time.monotonic() + 30
    while gateway.metrics().get("gateway_push_streams_open", 0) < streams:
        if time.monotonic() > deadline:
            raise Wrong("the streams do not open")
        time.sleep(0.05)


def mixed(plan):
    """W3 at half of what the CPU has left for it beside W6, while W6 runs: what each does to the other's latency."""
    streams, events = plan.scaled(10000), 20000
    left = 1 - (plan.known.get("targeted_share") or 0.5)
    rate = int((plan.known.get("command_rate") or 16000) * left / 2)
    contest = Contest("mixed", f"W3 at half of its capacity beside W6 ({rate:,} commands/s, open loop) while W6 runs "
                      f"({streams:,} streams, {events:,} events/s)", "µs p99")
    with Stage() as stage:
        gateway = with_echo(stage)

        def both():
            seconds = plan.times(2)
            load = Load(stage, "push", gateway.grpc, "--targeted", redis=gateway.redis.address, streams=streams,
                        users=streams, rate=events, payload=200, source_addresses=8, pids=[gateway.pid],
                        warmup=seconds["warmup"], duration=seconds["duration"] + SIGNING_S)
            wait_open(gateway, streams)
            before = gateway.metrics()
            sample = commands(plan, gateway, 2, rate=rate)
            after = gateway.metrics()
            pushed = sample_of(load.report())
            load.finish()
            return {"figure": sample["p99"], "p99": sample["p99"], "p50": sample["p50"], "push_p50": pushed["p50"],
                    "push_p99": pushed["p99"], "loop_p99_9_ms": loop_bound_ms(before, after, WORKERS)}

        contest.add("ringway", both)
        contest.play(min(plan.rounds, ALONE_ROUNDS))
    contest.notes.append("there is no goal for the two p99; the load generators, Redis and the upstream share one CPU")
    contest.goals = [verdict.goal("no loop blocks > 2 ms (p99.9, bucket's bound)",
                                  contest.median("ringway", "loop_p99_9_ms"), 2.0)]
    return [contest]



def limit(plan):
    """More open streams than the process may have descriptors: direct descriptors do not count against it."""
    streams, workers = (8000, 2) if plan.quick else (60000, 4)
    contest = Contest("limit", f"past the descriptor limit: {streams:,} open streams on one process with {workers} workers, "
                      "then events to all of them", "µs CPU/delivery")

    def run():
        with Stage() as stage:
            gateway = Gateway(stage, Redis(stage), workers=workers)
            sample = sample_of(push(gateway, users=1, streams=streams, rate=1, warmup=0, duration=1 if plan.quick else 2,
                                    threads=workers))
            sample["descriptors"] = len(list(pathlib.Path(f"/proc/{gateway.pid}/fd").iterdir()))
            sample["peak_bytes"] = memory_of(gateway.pid)["peak"]
            return sample

    contest.add("ringway", run)
    contest.play(1)
    contest.notes.append(f"RLIMIT_NOFILE is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}, the process had "
                         f"{contest.median('ringway', 'descriptors')} descriptors; ringbench does the same on its "
                         f"side with {workers} threads; every CPU is used by both")
    contest.goals = [verdict.told(f"{streams:,} streams, nothing lost", contest.is_right())]
    return [contest]
