"""W4 to W6 and W9: one event to many streams, and its references."""

import http.client
import socket
import time

from . import verdict
from .contest import Contest, sample_of, say
from .processes import (LOAD_CPU, OUT, PATIENCE, Echo, Floor, Gateway, Nchan, Redis, Stage, Wrong, cpu_us,
                        memory_of, ringbench)
from .requests import crypto_floor

PAYLOAD = 200
MARKER = "~"  # once in each message of the references: the sink counts it
FRAME_HEADER = 9
EVENT_BYTES = 350  # about, until the gateway's own count is there
SETTLE_S = 0.1
STALLED, FLOWING = "ringway, 1 % stalled", "ringway, none stalled"
HALF = "ringway at half that rate"
WORKERS = 'worker="worker-'
LATE = 0.97  # of the schedule: who is slower has it said of him


class Sink:
    """Many connections that count what comes."""

    def __init__(self, stage, target, connections, *more):
        self.process = stage.start("sink", [OUT / "sink", "--target", target, "--connections", connections,
                                            "--source-addresses", 8, *more], LOAD_CPU)
        self.connections = connections

    def wait_ready(self):
        if self.process.line() != f"ready {self.connections}":
            self.process.fail("not all are connected")

    def finish(self):
        self.process.end_input()
        report = self.process.result()
        self.process.process.wait(PATIENCE)
        return report


def push(gateway, pids=None, at=None, **options):
    return ringbench("push", gateway.grpc, *(["--prefill"] if options.pop("prefill", False) else []),
                     *(["--targeted"] if options.pop("targeted", False) else []),
                     pids=pids or [gateway.pid], at=at, redis=gateway.redis.address, payload=PAYLOAD,
                     gateway_key=gateway.public_key, source_addresses=8, **options)


def loop_bound_ms(before, after, labels=""):
    """In which bucket of the worker's loop-time histogram p99.9 lies: its upper bound."""
    name = "gateway_worker_loop_seconds"
    bound = verdict.quantile_bound(verdict.bucket_counts(before, name, labels), verdict.bucket_counts(after, name, labels),
                                   0.999)
    return None if bound is None else bound * 1e3


def delivered(gateway, **options):
    """A push run as a sample, with what the gateway itself says of it: between the last stream's opening and the last
    event's arrival."""
    at = {}

    def look(step):
        at[step] = gateway.metrics()
        if step == "open":
            at["pss"] = memory_of(gateway.pid)["pss"]

    sample = sample_of(push(gateway, at=look, **options))
    before, after = at["open"], at["delivered"]
    grown = {name: after.get(name, 0) - before.get(name, 0) for name in after}
    deliveries = grown["gateway_push_deliveries_total"]
    sample["loop_p99_9_ms"] = loop_bound_ms(before, after, WORKERS)
    sample["copied_bytes"] = grown["gateway_push_copied_bytes_total"]
    sample["bytes"] = verdict.over(grown["gateway_push_delivered_bytes_total"], deliveries)
    sample["per_send"] = verdict.over(deliveries, sum(value for name, value in grown.items() if WORKERS in name
                                                      and name.startswith("gateway_ring_submissions_total")))
    sample["pss"] = at["pss"]
    return sample


def one_by_one(gateway, streams, rate, **times):
    """A wide fan-out in which each delivery is charged as a send of its own: events that were late and shared one (the
    references cannot do that) are no cheaper for it."""
    sample = delivered(gateway, users=1, streams=streams, rate=rate, **times)
    sample["figure"] *= max(1.0, sample["per_send"])
    return sample


def floor_fanout(stage, plan, streams, rate, message_bytes, seconds):
    floor = Floor(stage, "fanout", bytes=message_bytes, connections=streams, rate=rate, **plan.times(seconds))
    sink = Sink(stage, floor.public, streams)
    sink.wait_ready()
    if floor.process.line() != "ready":
        floor.process.fail("not ready")
    floor.process.say("go\n")
    report = floor.process.result()
    counted = sink.finish()
    floor.process.stop()
    events = counted["bytes"] / message_bytes / streams
    if counted["bytes"] % (message_bytes * streams) or events * streams < report["units"]:
        raise Wrong(f"floor: {counted['bytes']} bytes came of {report['units']} messages")
    return {"figure": report["server_cpu_us_per_unit"], "rate": report["units"] / report["seconds"]}


def publish_and_count(plan, server_pid, sink, rate, seconds, publish):
    """Publishes on a schedule; the server's CPU time of the measured window, per delivery."""
    times = plan.times(seconds)
    warm, events = int(rate * times["warmup"]), int(rate * times["duration"])
    begin = time.monotonic()
    cpu = wall = 0
    for number in range(warm + events):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        if number == warm:
            cpu, wall = cpu_us(server_pid), time.monotonic()
        publish()
    time.sleep(1 / rate)
    took = time.monotonic() - wall
    time.sleep(SETTLE_S)
    cpu = cpu_us(server_pid) - cpu
    counted = sink.finish()
    wanted = (warm + events) * sink.connections
    if counted["messages"] != wanted or counted["ended"]:
        raise Wrong(f"{counted['messages']} messages came of {wanted}, {counted['ended']} connections ended")
    units = events * sink.connections
    return {"figure": cpu / units, "rate": units / took}


def redis_publish(stage, plan, redis, streams, rate, seconds):
    sink = Sink(stage, f"127.0.0.1:{redis.port}", streams, "--request", r"SUBSCRIBE x\r\n", "--marker", MARKER)
    sink.wait_ready()
    payload = MARKER.encode().ljust(PAYLOAD, b"x")
    command = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nx\r\n$%d\r\n%s\r\n" % (len(payload), payload)
    with socket.create_connection(("127.0.0.1", redis.port), PATIENCE) as link:
        def publish():
            link.sendall(command)
            answer = link.recv(64)
            if answer != b":%d\r\n" % streams:
                raise Wrong(f"PUBLISH: {answer!r}")
        return publish_and_count(plan, redis.pid, sink, rate, seconds, publish)


def nchan_publish(stage, plan, nchan, streams, rate, seconds):
    request = r"GET /subscribe HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
    sink = Sink(stage, f"127.0.0.1:{nchan.port}", streams, "--request", request, "--marker", MARKER)
    sink.wait_ready()
    time.sleep(SETTLE_S)
    link = http.client.HTTPConnection("127.0.0.1", nchan.port, timeout=PATIENCE)

    def publish():
        link.request("POST", "/publish", MARKER.ljust(PAYLOAD, "x"))
        answer = link.getresponse()
        answer.read()
        if answer.status not in (200, 201, 202):
            raise Wrong(f"nchan: {answer.status}")
    try:
        return publish_and_count(plan, nchan.pid, sink, rate, seconds, publish)
    finally:
        link.close()


def w4_width(plan, streams, rate):
    contest = Contest(f"W4 {streams:,}", f"fan-out, wide: 1 user, {streams:,} streams at {rate} events/s, one "
                      f"connection each, {PAYLOAD} bytes", "µs CPU/delivery")
    seconds = 1.5
    with Stage() as stage:
        gateway = Gateway(stage, Redis(stage))
        redis = Redis(stage, cpu=min(plan.server_cpus), tcp=True)
        nchan = Nchan(stage) if Nchan.is_here() else None
        seen = {}

        def ringway():
            sample = one_by_one(gateway, streams, rate, **plan.times(seconds))
            seen["bytes"] = round(sample["bytes"])
            return sample

        contest.add("ringway", ringway)
        contest.add("floor", lambda: floor_fanout(stage, plan, streams, rate, FRAME_HEADER + seen.get("bytes", EVENT_BYTES),
                                                  seconds))
        contest.add("Redis PUBLISH", lambda: redis_publish(stage, plan, redis, streams, rate, seconds))
        contest.add("nchan SSE", lambda: nchan_publish(stage, plan, nchan, streams, rate, seconds), nchan is not None)
        contest.play(plan.rounds)
    factor = 1.15 if streams <= 1000 else 1.30
    mine, floor = contest.median("ringway"), contest.median("floor")
    contest.notes.append(f"an event is {seen.get('bytes', EVENT_BYTES)} bytes with its gRPC prefix, {FRAME_HEADER} of frame header "
                         "with it on the wire; the floor sends as many")
    contest.notes.append("a delivery of ringway's that shared its send with another is charged as a send: "
                         f"{contest.median('ringway', 'per_send') or 0:.2f} deliveries left in each (others cannot share)")
    for name in contest.samples:
        kept = (contest.median(name, "rate") or 0) / (streams * rate)
        if kept < LATE:
            contest.notes.append(f"{name} kept {100 * kept:.0f} % of the schedule")
    contest.goals = [verdict.goal(f"≤ {factor:.2f} × floor", mine, verdict.times(factor, floor)),
                     verdict.goal("below Redis PUBLISH", mine, contest.median("Redis PUBLISH")),
                     verdict.goal("loop p99.9 ≤ 2 ms (bucket's bound)", contest.median("ringway", "loop_p99_9_ms"), 2.0),
                     verdict.goal("payload bytes copied in user space", contest.median("ringway", "copied_bytes"), 0)]
    if streams > 1000:
        plan.known["delivery_us"] = mine
    return contest


def w4(plan):
    yield w4_width(plan, 1000, 150)
    yield w4_width(plan, plan.scaled(10000), 15)


def gather_floor(stage, plan, message_bytes):
    floor = Floor(stage, "gather", bytes=message_bytes, connections=500, **plan.times(1.5))
    sink = Sink(stage, floor.public, 500)
    sink.wait_ready()
    floor.process.line()
    floor.process.say("go\n")
    report = floor.process.result()
    sink.process.stop()
    return {"figure": report["server_cpu_us_per_unit"], "per_core": 1e6 / report["server_cpu_us_per_unit"],
            "rate": report["units"] / report["seconds"]}


class Ladder:
    """Ever lower event rates, flat out first. A run takes the highest rung on which no stream overflows; the next run
    begins one rung above it."""

    def __init__(self, plan, top=9000):
        self.rungs = [{"burst": plan.scaled(8000), "prefill": True, "warmup": 0}]
        self.rungs += [{"rate": int(top * 0.8**n), **plan.times(1)} for n in range(10)]
        self.at = 0

    def run(self, gateway, streams):
        for at in range(max(0, self.at - 1), len(self.rungs)):
            try:
                sample = delivered(gateway, users=1, streams=streams, **self.rungs[at])
            except Wrong as error:
                say(f"  W5 {self.rungs[at].get('rate', 'flat out')}: {error}")
                continue
            self.at = at
            return {**sample, "per_core": 1e6 / sample["figure"], "rung": at}
        raise Wrong("streams overflow at every rate")


def w5(plan):
    contest = Contest("W5", "fan-out, deep: 500 streams, events as fast as Redis yields them (they wait there while the "
                      "gateway is stopped, and it goes on), or the highest rate at which none overflows; default capacity",
                      "µs CPU/delivery")
    streams, ladder = 500, Ladder(plan)
    with Stage() as stage:
        gateway = Gateway(stage, Redis(stage))
        first = ladder.run(gateway, streams)
        message_bytes = FRAME_HEADER + round(first["bytes"])
        half_rate = max(1, int(first["rate"] / streams / 2))
        contest.add("ringway", lambda: ladder.run(gateway, streams))
        contest.add("gather floor", lambda: gather_floor(stage, plan, message_bytes))
        contest.add(HALF, lambda: delivered(gateway, users=1, streams=streams, rate=half_rate, **plan.times(1)))
        contest.play(plan.rounds)
    rungs = [sample["rung"] for sample in contest.samples.get("ringway", [])]
    contest.notes.append(f"messages of {message_bytes} bytes; the floor gathers 64 shared slices in each send; runs that went "
                         f"flat out: {rungs.count(0)} of {len(rungs)}, the others at the highest rate without overflow")
    contest.goals = [
        verdict.goal("≥ 0.5 × floor (deliveries/s per core)", contest.median("ringway", "per_core"),
                     verdict.times(0.5, contest.median("gather floor", "per_core")), above=True),
        verdict.told(f"at half of the highest rate ({half_rate:,} events/s) nothing lost, nothing overflowed",
                     contest.is_right(HALF))]
    return [contest]


def w6(plan):
    streams, rate = plan.scaled(10000), 20000
    contest = Contest("W6", f"targeted: {streams:,} streams of {streams:,} users, {rate:,} events/s to random users",
                      "µs CPU/delivery")
    with Stage() as stage:
        gateway = Gateway(stage, Redis(stage))
        contest.add("ringway", lambda: delivered(gateway, users=streams, streams=streams, rate=rate, targeted=True,
                                                 **plan.times(2)))
        contest.add("crypto floor", lambda: crypto_floor(0.3))
        contest.play(plan.rounds)
    sign = contest.median("crypto floor", "sign_us")
    plan.known["targeted_share"] = verdict.times(rate / 1e6, contest.median("ringway"))
    contest.goals = [
        verdict.goal("p99 XADD→client ≤ 5 ms (µs)", contest.median("ringway", "p99"), 5000),
        verdict.goal("≤ 1.3 × (W4 at 10,000 + one signature)", contest.median("ringway"),
                     verdict.times(1.3, verdict.plus(plan.known.get("delivery_us"), sign)))]
    return [contest]


def w9(plan):
    streams, rate = plan.scaled(5000), 15
    contest = Contest("W9", f"stall: 1 % of {streams:,} streams stop reading; {rate} events/s of 8,000 bytes, queue capacity "
                      "32, so that they overflow within the run", "µs CPU/delivery")

    def load(gateway, **more):
        report = ringbench("push", gateway.grpc, redis=gateway.redis.address, payload=8000, users=1, streams=streams,
                           rate=rate, gateway_key=gateway.public_key, source_addresses=8, pids=[gateway.pid], warmup=0.5,
                           duration=4 if plan.quick else 5, **more)
        return {**sample_of(report), **{name: report[name] for name in ("stalled", "stalled_ended")},
                "exhausted": report["ended_by"].get("RESOURCE_EXHAUSTED", 0), "peak_bytes": memory_of(gateway.pid)["peak"]}

    with Stage() as stage:
        redis = Redis(stage)
        stalling, flowing = (Gateway(stage, redis, GATEWAY_PUSH_STREAM_QUEUE_CAPACITY=32) for _ in range(2))
        contest.add(STALLED, lambda: load(stalling, stall=0.01))
        contest.add(FLOWING, lambda: load(flowing))
        contest.play(plan.rounds)
    stalls = contest.samples.get(STALLED, [])
    room = verdict.plus(verdict.times(65536, contest.median(STALLED, "stalled")), 16 << 20)
    contest.goals = [
        verdict.goal("the others' p99 ≤ 1.25 × (µs)", contest.median(STALLED, "p99"),
                     verdict.times(1.25, contest.median(FLOWING, "p99"))),
        verdict.told("every stalled stream ended RESOURCE_EXHAUSTED",
                     all(run["stalled"] and run["stalled"] == run["stalled_ended"] == run["exhausted"] for run in stalls)
                     if stalls else None),
        verdict.goal("peak of memory ≤ without stalls + 64 KiB × stalled + 16 MiB (bytes)",
                     contest.median(STALLED, "peak_bytes"), verdict.plus(contest.median(FLOWING, "peak_bytes"), room))]
    return [contest]


def with_echo(stage):
    redis, echo = Redis(stage), Echo(stage)
    return Gateway(stage, redis, echo)
