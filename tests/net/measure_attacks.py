"""`make attacks`: what a well-behaved client notices of an attacker whom the same worker serves.

The neighbour calls, waits, and calls again: alone and beside the attacker by turns, so that what else the machine does falls on
both. The attacker sends at a fixed rate and begins anew when it is thrown out. The worker has one processor, the neighbour the
other, where the attacker runs when the neighbour does not; as root, nothing else of the machine gets between those two, else a
busy machine's own p99 hides what is looked for. Exits with 1 if a p99 is more than twice that without attack.
"""

import multiprocessing
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time

import attacks
import frames
import harness

TURN_S, TURNS = 0.4, int(os.environ.get("TURNS", "8"))
RATIO_MAX = 2
# units a second, of what is worth many calls
COSTLY = {"hpack_bomb": 500, "header_list": 500, "late_headers": 100, "table_churn": 500, "table_size_churn": 500, "more_streams_than_offered": 5000,
          "one_byte_windows": 5000, "rapid_reset": 2000, "rapid_reset_of_watches": 2000, "reset_in_work": 2000}
GREETINGS = {"slow_preface": b""}
DEAF = {"never_reading"}
RATE = 20000
STORIES = [
    "ping_flood", "settings_flood", "settings_table_churn", "priority_flood", "priority_update_flood", "unknown_frame_flood",
    "window_update_flood", "empty_data_flood", "padded_data_flood", "data_after_end_flood", "rapid_reset",
    "rapid_reset_of_watches", "more_streams_than_offered", *attacks.MADE_YOU_RESET, "settings_overflow", "continuation_flood",
    "empty_continuation_flood", "chopped_headers", "hpack_bomb", "late_headers", "header_list", "table_churn", "table_size_churn",
    "one_byte_windows", "zero_windows", "slow_preface", "never_ending_body", "reset_in_work", "never_reading",
]


def story(name):
    form = attacks.MADE_YOU_RESET.get(name)
    return attacks.made_you_reset(form) if form else getattr(attacks, name)()


def run_first(thread):
    """Returns whether that is allowed."""
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    return True


def neighbour(pipe, address, processor):
    """For each "seconds" the latencies of as many calls."""
    os.sched_setaffinity(0, {processor})
    run_first(0)
    client = harness.connect(address)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(attacks.PREFACE + attacks.settings())
    ids = attacks.streams()
    buffer = b""
    while seconds := pipe.recv():
        latencies, end = [], time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            client.sendall(attacks.check(next(ids)))
            headers = 0
            while headers < 2:
                buffer += client.recv(65536)
                while len(buffer) >= 9 and len(buffer) >= 9 + (size := int.from_bytes(buffer[:3], "big")):
                    headers += buffer[3] == frames.HEADERS
                    if buffer[3] == frames.DATA:
                        client.sendall(attacks.frame(frames.WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big")))
                    buffer = buffer[9 + size:]
            latencies.append(time.monotonic() - began)
        pipe.send(latencies)


def attack(name, one, began, end):
    """Returns the units that went before the connection's end, or this moment."""
    rate, reads, units = COSTLY.get(name, RATE), name not in DEAF, 0
    for data, count in story(name):
        if not one.send(data, reads, patience=max(end - time.monotonic(), 0)):
            break
        units += count
        if reads:
            one.read()
        if one.ended or one.goaway or time.monotonic() > end:
            break
        one.rest(until=min(began + units / rate, end), reads=reads)
    return units


def attacker(pipe, address, processor):
    """For each (name, seconds) the units and connections it took."""
    os.sched_setaffinity(0, {processor})
    while task := pipe.recv():
        name, seconds = task
        began = time.monotonic()
        end, units, connections = began + seconds, 0, 0
        while time.monotonic() < end:
            connections += 1
            with attacks.Attacker(address, GREETINGS.get(name), is_deaf=name in DEAF) as one:
                units += attack(name, one, began + units / COSTLY.get(name, RATE), end)
        pipe.send((units, connections))


def start(function, *arguments):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    return ours


def cpu_us(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def rss_mib(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def share(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] * 1e6


def measure(name, pid, one, other):
    """A row of the table, and the ratio of the p99s."""
    alone, beside = [], []
    units = connections = 0
    alone_us = beside_us = 0
    for _ in range(TURNS):
        before = cpu_us(pid)
        one.send(TURN_S)
        alone += one.recv()
        between = cpu_us(pid)
        other.send((name, TURN_S))
        one.send(TURN_S)
        beside += one.recv()
        sent = other.recv()
        alone_us, beside_us = alone_us + between - before, beside_us + cpu_us(pid) - between
        units, connections = units + sent[0], connections + sent[1]
    per_unit = max(0, beside_us - alone_us * len(beside) / len(alone)) / units
    ratio = share(beside, 0.99) / share(alone, 0.99)
    return (f"| {name} | {units / TURNS / TURN_S:,.0f} | {connections / TURNS / TURN_S:,.0f} | {per_unit:.1f} "
            f"| {share(alone, 0.5):.0f} / {share(alone, 0.99):.0f} | {share(beside, 0.5):.0f} / {share(beside, 0.99):.0f} "
            f"| {ratio:.2f} | {rss_mib(pid):.0f} |"), ratio


def main():
    processors = sorted(os.sched_getaffinity(0))
    first, last = processors[0], processors[-1]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    redis_server = harness.Redis(folder)
    os.sched_setaffinity(redis_server.process.pid, {last})
    gateway = harness.Gateway(folder, redis_server, prefix=lambda env: ["taskset", "-c", str(first)],
                              env={"GATEWAY_WORKERS": 1, "GATEWAY_ACCESS_LOG": "off", "GATEWAY_LOG_LEVEL": "info"})
    threads = [int(task.name) for task in pathlib.Path(f"/proc/{gateway.process.pid}/task").iterdir()]
    if not all([run_first(thread) for thread in threads]):
        print("not root: other work of this machine is measured as well", file=sys.stderr)
    one, other = start(neighbour, gateway.grpc, last), start(attacker, gateway.grpc, last)
    print("| attack | units/s | connections/s | server CPU µs/unit | alone p50 / p99 µs | beside p50 / p99 µs | p99 ratio | RSS MiB |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0
    for name in sys.argv[1:] or STORIES:
        row, ratio = measure(name, gateway.process.pid, one, other)
        worst = max(worst, ratio)
        print(row, flush=True)
    one.send(None), other.send(None)
    gateway.stop()
    redis_server.stop()
    shutil.rmtree(folder)
    return worst > RATIO_MAX


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        harness.leave_nothing_running()
