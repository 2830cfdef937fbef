"""A Redis that answers slowly, wrongly typed, with an error, with half a reply, or never (edge.md §3): what clients see.

A relay stands between the gateway and a real Redis and puts one answer in the place of another."""

import threading

import grpc
import pytest

import harness
from conftest import ECHO_CONFIG
from harness import check_event, publish_event
from relay import Relay, _shut

SESSION_DOWN = ("UNAVAILABLE", "session cache is unavailable")
REPLAY_DOWN = ("UNAVAILABLE", "replay store is unavailable")


class Meddler(Relay):
    """Changes the answer to the next command of a name: `change` gets the real bytes and returns what is sent instead,
    and `after` tells what follows on that connection: the real answers ("more"), nothing ("silence") or its end ("end")."""

    def change_answer_to(self, command, change, after="more"):
        held = self.hold_answer_to(command)
        held.change, held.after = change, after
        return held

    def _answers(self, server, client, holding):
        after = "more"
        while after != "end":
            try:
                data = server.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            while holding:
                held = holding.pop()
                held._arrived.set()
                data, after = held.change(data), held.after
                self._send(client, data)
                data = b""
            if after == "more":
                self._send(client, data)
        _shut(client)
        _shut(server)

    @staticmethod
    def _send(client, data):
        try:
            client.sendall(data)
        except OSError:
            pass  # the gateway has left; recv will tell


class Late:
    """The real answer, when it is released."""

    def __init__(self):
        self.released = threading.Event()

    def __call__(self, data):
        self.released.wait(harness.PATIENCE)
        return data


def outcome(channel, request):
    try:
        channel.execute(request)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name, error.details()


@pytest.fixture
def meddler(folder, redis_server):
    relay = Meddler(folder / "relay.sock", redis_server.socket)
    yield relay
    relay.close()


@pytest.fixture
def gateway(folder, redis_server, echo, meddler):
    process = harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address),
                              env={"GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{meddler.path}", "GATEWAY_WORKERS": "1"})
    yield process
    process.stop()


ANSWERS = {
    "an error": lambda data: b"-ERR something is wrong\r\n",
    "an error of a wrong type": lambda data: b"-WRONGTYPE Operation against a key\r\n",
    "no permission": lambda data: b"-NOPERM this user has no permissions\r\n",
    "a read-only replica": lambda data: b"-READONLY You can't write against a read only replica.\r\n",
    "loading": lambda data: b"-LOADING Redis is loading the dataset in memory\r\n",
    "a number": lambda data: b":1\r\n",
    "an array": lambda data: b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    "an empty array": lambda data: b"*0\r\n",
    "another status": lambda data: b"+QUEUED\r\n",
    "an empty string": lambda data: b"$0\r\n\r\n",
    "no JSON": lambda data: b"$5\r\n{\"a\":\r\n",
    "JSON that is no record": lambda data: b"$2\r\n{}\r\n",
    "garbage": lambda data: b"HTTP/1.1 200 OK\r\n\r\n",
    "a string far too long": lambda data: b"$9000000000\r\n",
    "an array far too long": lambda data: b"*100000000\r\n",
    "half a reply, and no more": (lambda data: data[:len(data) // 2], "silence"),
    "half a reply, and the end": (lambda data: data[:len(data) // 2], "end"),
    "nothing, ever": (lambda data: b"", "silence"),
    "the end": (lambda data: b"", "end"),
    "two answers": lambda data: b"+OK\r\n:1\r\n:2\r\n",
}


def expect_all_is_well_again(gateway, channel):
    device = harness.Device(gateway)
    harness.wait_until(lambda: outcome(channel, device.request()) == "OK", "commands work again")
    stream = channel.subscribe(device.subscribe_request())
    check_event(gateway, stream.bootstrap())
    event_id = publish_event(gateway, device.user)
    assert stream.next().event_id == event_id
    device.revoke()
    assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")


def meddle(meddler, command, answer):
    how = ANSWERS[answer]
    return meddler.change_answer_to(command, *(how if isinstance(how, tuple) else (how,)))


@pytest.mark.parametrize("answer", ANSWERS)
def test_wrong_answer_to_a_session_look_up(gateway, channel, device, meddler, answer):
    held = meddle(meddler, b"GET", answer)
    assert outcome(channel, device.request()) == SESSION_DOWN
    held.wait()
    expect_all_is_well_again(gateway, channel)


# the first of two answers is the right one
@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "two answers"])
def test_wrong_answer_to_a_reservation(gateway, channel, device, meddler, answer):
    assert outcome(channel, device.request()) == "OK"
    sent = gateway.metric('upstream_grpc_calls_total{upstream="echo",code="OK"}')
    held = meddle(meddler, b"SET", answer)
    request = device.request()
    assert outcome(channel, request) == REPLAY_DOWN
    held.wait()
    assert gateway.metric('upstream_grpc_calls_total{upstream="echo",code="OK"}') == sent  # never without it
    # Redis did reserve it; that this was not heard does not make the request new
    again = harness.wait_until(lambda: (lambda seen: seen != REPLAY_DOWN and seen != SESSION_DOWN and seen)(
        outcome(channel, request)), "Redis is reached again")
    assert again == ("FAILED_PRECONDITION", "request replay detected")
    expect_all_is_well_again(gateway, channel)


def test_no_record_is_an_unknown_session_and_no_reservation_a_replay(gateway, channel, device, meddler):
    """What Redis says with nil is no fault of Redis's."""
    meddler.change_answer_to(b"GET", lambda data: b"$-1\r\n")
    assert outcome(channel, device.request()) == ("UNAUTHENTICATED", "unknown device session")
    stranger = harness.Device(gateway)
    meddler.change_answer_to(b"SET", lambda data: b"$-1\r\n")
    assert outcome(channel, stranger.request()) == ("FAILED_PRECONDITION", "request replay detected")


@pytest.mark.parametrize("command,refusal", [(b"GET", SESSION_DOWN), (b"SET", REPLAY_DOWN)])
def test_late_answer_is_not_taken_for_the_next_one(gateway, channel, meddler, command, refusal):
    """After the deadline the answer comes: dropped, and the answers behind it go to whom they belong."""
    late = Late()
    device = harness.Device(gateway)
    held = meddler.change_answer_to(command, late)
    assert outcome(channel, device.request()) == refusal
    held.wait()
    others = [harness.Device(gateway) for _ in range(3)]
    calls = [channel.execute_future(other.request(payload=other.session.encode())) for other in others]
    late.released.set()
    for other, call in zip(others, calls):
        try:
            assert call.result().payload_bytes == other.session.encode()
        except grpc.RpcError as error:  # asked while the line was still held up
            assert (error.code().name, error.details()) in (SESSION_DOWN, REPLAY_DOWN)
    expect_all_is_well_again(gateway, channel)


@pytest.mark.parametrize("answer", [
    "an error", "no permission", "a number", "an array", "another status", "garbage", "an array far too long",
    "half a reply, and no more", "half a reply, and the end", "nothing, ever", "the end", "two answers"])
@pytest.mark.parametrize("command", [b"XREAD", b"XINFO"])
def test_wrong_answer_to_a_reader_of_a_stream_loses_no_event(folder, redis_server, echo, meddler, command, answer):
    with harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address), env={
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": f"unix:{meddler.path}", "GATEWAY_WORKERS": "1",
            "GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "200ms",
            "GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "200ms"}) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            device = harness.Device(gateway)
            stream = channel.subscribe(device.subscribe_request())
            stream.bootstrap()
            published = [publish_event(gateway, device.user)]
            assert stream.next().event_id == published[0]
            held = meddle(meddler, command, answer)
            if command == b"XINFO":  # asked on every new connection
                redis_server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            held.wait()
            published = [publish_event(gateway, device.user) for _ in range(20)]
            assert [stream.next().event_id for _ in published] == published
            device.revoke()
            assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
