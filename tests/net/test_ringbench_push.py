"""ringbench's push and storm: each mode in a small run, and each kind of fault found and told by exit code 1."""

import json
import subprocess

import pytest

import harness
from harness import CLIENT_STREAM, Gateway, Lines, wait_until

RINGBENCH = harness.OUT / "ringbench"


@pytest.fixture
def alone(folder, redis_server):
    """A gateway without upstreams; its end must be clean."""
    process = Gateway(folder, redis_server)
    yield process
    process.stop()


def public_key(gateway):
    path = gateway.folder / "public.pem"
    subprocess.run(["openssl", "pkey", "-in", str(gateway.signer), "-pubout", "-out", str(path)], check=True)
    return path


def start(gateway, work, *arguments, key=None, target=None, stdin=subprocess.DEVNULL):
    own = ["--stream-key", CLIENT_STREAM] if work == "push" else []
    return subprocess.Popen(
        [str(RINGBENCH), work, "--target", target or gateway.grpc, "--redis", gateway.redis.address,
         "--gateway-key", str(key or public_key(gateway)), "--server-pid", str(gateway.process.pid), *own,
         *map(str, arguments)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    """Exit code and report."""
    out, err = process.communicate(timeout=harness.PATIENCE * 3)
    lines = out.decode().splitlines()
    assert lines, err.decode()
    return process.returncode, json.loads(lines[-1]), err.decode()


def run(gateway, work, *arguments, **more):
    return finish(start(gateway, work, *arguments, **more))


def assert_clean(code, report, err):
    assert code == 0, (report, err)
    assert [report[name] for name in ("failed", "wrong", "lost", "duplicates", "ended")] == [0] * 5
    assert err == ""


def test_steps_wait_when_all_is_open_and_when_all_is_delivered(alone):
    process = start(alone, "push", "--steps", "--streams", 20, "--rate", 200, "--warmup", 0, "--duration", 0.3,
                    stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    assert alone.metrics()["gateway_push_streams_open"] == 20
    assert alone.metrics()["gateway_push_events_total"] == 0
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"delivered\n"
    assert alone.metrics()["gateway_push_streams_open"] == 20
    # and what each stream got first, when it opened
    assert alone.metrics()["gateway_push_deliveries_total"] >= 20 * 60
    code, report, err = finish(process)
    assert_clean(code, report, err)
    assert report["deliveries"] == report["expected"] == 20 * 60


def test_every_stream_of_a_user_gets_every_event(alone):
    code, report, err = run(alone, "push", "--streams", 30, "--rate", 300, "--warmup", 0.1, "--duration", 0.5)
    assert_clean(code, report, err)
    assert report["events"] == 180
    assert report["deliveries"] == report["expected"] == 180 * 30
    assert report["units"] > 0 and report["latency_us"]["p50"] > 0
    assert report["verified"] >= 1, "the first event's signature is checked"
    assert report["parsed"] <= 30 + 2, "beside the bootstraps only the first events are parsed in full"
    assert report["server_cpu_us"] > 0


def test_streams_share_connections_and_users_share_events(alone):
    code, report, err = run(alone, "push", "--streams", 60, "--streams-per-connection", 7, "--users", 4, "--rate", 400,
                            "--duration", 0.5)
    assert_clean(code, report, err)
    assert report["deliveries"] == report["expected"] == report["events"] * 15


def test_targeted_events_go_to_one_user_each(alone):
    code, report, err = run(alone, "push", "--streams", 50, "--users", 50, "--targeted", "--rate", 1000, "--duration", 0.5)
    assert_clean(code, report, err)
    assert report["deliveries"] == report["events"] == 1000


def test_idle_streams_hear_nothing(alone):
    code, report, err = run(alone, "push", "--streams", 10, "--idle", 25, "--rate", 100, "--duration", 0.3)
    assert_clean(code, report, err)
    assert report["streams"] == 35
    assert report["deliveries"] == report["events"] * 10


def test_several_threads_and_addresses_share_the_streams(alone):
    code, report, err = run(alone, "push", "--streams", 40, "--threads", 3, "--source-addresses", 4, "--rate", 200,
                            "--duration", 0.3)
    assert_clean(code, report, err)
    assert report["deliveries"] == report["events"] * 40


@pytest.mark.parametrize("prefill", [[], ["--prefill"]])
def test_a_burst_arrives_whole(alone, prefill):
    code, report, err = run(alone, "push", "--streams", 20, "--burst", 3000, *prefill)
    assert_clean(code, report, err)
    assert report["units"] == 3000 * 20
    assert report["seconds"] > 0


@pytest.mark.parametrize("payload", [48, 127, 128, 16300, 40000])
def test_messages_cut_anywhere_are_put_together(alone, payload):
    """Frames end at 16,384 bytes, receive buffers wherever they like."""
    code, report, err = run(alone, "push", "--streams", 5, "--payload", payload, "--burst", 600)
    assert_clean(code, report, err)
    assert report["units"] == 600 * 5


def test_hold_says_how_many_are_open_and_waits_for_the_end_of_its_input(alone):
    process = start(alone, "push", "--streams", 100, "--hold", stdin=subprocess.PIPE)
    lines = Lines(process.stdout, "ringbench")
    assert json.loads(lines.wait(lambda line: '"open"' in line)) == {"open": 100}
    assert alone.metric("gateway_push_streams_open") == 100
    process.stdin.close()
    assert process.wait(harness.PATIENCE) == 0
    process.stderr.close()
    lines.join()
    process.stdout.close()
    alone.wait_metric("gateway_push_streams_open", lambda value: value == 0)


def test_stalled_streams_overflow_and_the_others_do_not(folder, redis_server):
    with Gateway(folder, redis_server, env={"GATEWAY_PUSH_STREAM_QUEUE_CAPACITY": 64}) as gateway:
        code, report, err = run(gateway, "push", "--streams", 20, "--stall", 0.1, "--payload", 16000, "--rate", 100,
                                "--duration", 2.5)
        assert_clean(code, report, err)
        assert report["stalled"] == report["stalled_ended"] == 2
        assert report["ended_by"] == {"RESOURCE_EXHAUSTED": 2}
        assert report["deliveries"] == report["events"] * 18


def test_storm_connects_and_reconnects(alone):
    code, report, err = run(alone, "storm", "--connections", 80, "--rounds", 3)
    assert_clean(code, report, err)
    assert report["units"] == 240 and len(report["round_seconds"]) == 3
    assert report["latency_us"]["max"] > 0
    alone.wait_metric("gateway_push_streams_open", lambda value: value == 0)


# ---- faults ----

def test_an_event_that_does_not_come_is_lost(alone, redis_server):
    """Trimmed away before the gateway, which stands still meanwhile, has read it."""
    process = start(alone, "push", "--streams", 5, "--burst", 20000, "--prefill")
    wait_until(lambda: redis_server.client.xlen(CLIENT_STREAM) >= 500, "a part of the burst")
    redis_server.client.xtrim(CLIENT_STREAM, maxlen=0, approximate=False)
    code, report, _ = finish(process)
    assert code == 1
    assert report["lost"] >= 500 * 5 - 5, "the very first may have been on its way"
    assert report["deliveries"] + report["lost"] == report["expected"]


def republish(redis_server, change):
    """The first event that is published, once more and changed."""
    entry = wait_until(lambda: redis_server.client.xrange(CLIENT_STREAM, count=1), "an event")[0][1]
    redis_server.client.xadd(CLIENT_STREAM, change(entry))


def test_an_event_that_comes_twice_is_a_duplicate(alone, redis_server):
    process = start(alone, "push", "--streams", 5, "--rate", 50, "--duration", 2)
    republish(redis_server, lambda entry: entry)
    code, report, _ = finish(process)
    assert code == 1
    assert report["duplicates"] == 5 and report["lost"] == 0


def test_a_gap_is_told_although_the_next_event_came(alone, redis_server):
    def skip(entry):
        mark = bytearray(entry[b"payload_bytes"])
        mark[16:24] = (1000000).to_bytes(8, "little")  # sequence of its user
        return {**entry, b"payload_bytes": bytes(mark)}

    process = start(alone, "push", "--streams", 5, "--rate", 50, "--duration", 1)
    republish(redis_server, skip)
    code, report, _ = finish(process)
    assert code == 1
    assert report["lost"] > 5 * 900000


def test_an_event_of_another_user_is_wrong(alone, redis_server):
    def change(entry):
        mark = bytearray(entry[b"payload_bytes"])
        mark[32] ^= 1
        return {**entry, b"payload_bytes": bytes(mark)}

    process = start(alone, "push", "--streams", 6, "--users", 2, "--rate", 50, "--duration", 1)
    republish(redis_server, change)
    code, report, err = finish(process)
    assert code == 1
    assert report["wrong"] >= 3
    assert "an event of another user" in err


def test_a_signature_by_another_key_is_wrong(alone, folder):
    harness.make_signer(folder / "other.pem")
    subprocess.run(["openssl", "pkey", "-in", str(folder / "other.pem"), "-pubout", "-out", str(folder / "other.pub")],
                   check=True)
    code, report, err = run(alone, "push", "--streams", 2, "--rate", 50, "--duration", 0.2, key=folder / "other.pub")
    assert code == 1
    assert report["wrong"] > 0 and "signature" in err


def test_streams_that_the_gateway_ends_are_told_by_their_status(folder, redis_server):
    gateway = Gateway(folder, redis_server)
    process = start(gateway, "push", "--streams", 5, "--rate", 50, "--duration", 20)
    wait_until(lambda: redis_server.client.xlen(CLIENT_STREAM) > 0, "an event")
    gateway.stop()
    code, report, _ = finish(process)
    assert code == 1
    assert report["ended"] == 5 and report["ended_by"] == {"UNAVAILABLE": 5}


def test_streams_that_cannot_open_fail(folder, redis_server):
    with Gateway(folder, redis_server, env={"GATEWAY_PUSH_MAX_STREAMS_PER_SESSION": 2}) as gateway:
        code, report, err = run(gateway, "push", "--streams", 8, "--rate", 10, "--duration", 0.1)
        assert code == 1
        assert report["failed"] == 6
        assert "RESOURCE_EXHAUSTED" in err


def test_a_storm_against_nobody_fails(alone):
    code, report, err = run(alone, "storm", "--connections", 5, "--rounds", 2, target="127.0.0.1:1")
    assert code == 1
    assert report["units"] == 0 and report["failed"] == 10
    assert "refused" in err
