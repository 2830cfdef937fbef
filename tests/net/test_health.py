"""grpc.health.v1 on the authenticated listener (edge.md §2, §6)."""

import queue
import signal
import threading

import grpc
import pytest

import harness
from grpc.health.v1 import health_pb2 as health

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def check(channel, service=""):
    call = channel.channel.unary_unary("/grpc.health.v1.Health/Check",
                                       request_serializer=lambda message: message.SerializeToString(),
                                       response_deserializer=health.HealthCheckResponse.FromString)
    return call(health.HealthCheckRequest(service=service), timeout=harness.PATIENCE).status


class Watch:
    def __init__(self, channel, service=""):
        call = channel.channel.unary_stream("/grpc.health.v1.Health/Watch",
                                            request_serializer=lambda message: message.SerializeToString(),
                                            response_deserializer=health.HealthCheckResponse.FromString)
        self.call = call(health.HealthCheckRequest(service=service))
        self.seen = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for answer in self.call:
                self.seen.put(answer.status)
        except grpc.RpcError as error:
            self.seen.put(error.code().name)

    def next(self):
        return self.seen.get(timeout=harness.PATIENCE)


@pytest.mark.parametrize("service", ["", "galaxy.gateway.v1.EdgeGateway"])
def test_check_is_serving(channel, service):
    assert check(channel, service) == SERVING


def test_check_of_an_unknown_service_is_not_found(channel):
    with pytest.raises(grpc.RpcError) as refusal:
        check(channel, "nobody.Home")
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


def test_list_has_every_service(channel):
    call = channel.channel.unary_unary("/grpc.health.v1.Health/List",
                                       request_serializer=lambda message: message.SerializeToString(),
                                       response_deserializer=health.HealthListResponse.FromString)
    answer = call(health.HealthListRequest(), timeout=harness.PATIENCE)
    assert {name: status.status for name, status in answer.statuses.items()} == {
        "": SERVING, "galaxy.gateway.v1.EdgeGateway": SERVING, "grpc.health.v1.Health": SERVING}


def test_watch_tells_the_state_and_unknown_services_keep_their_stream(channel):
    known, unknown = Watch(channel), Watch(channel, "nobody.Home")
    assert known.next() == SERVING
    assert unknown.next() == SERVICE_UNKNOWN
    unknown.call.cancel()
    assert unknown.next() == "CANCELLED"


def test_shutdown_is_not_serving_from_its_first_moment(folder, redis_server):
    gateway = harness.Gateway(folder, redis_server, env={"GATEWAY_SHUTDOWN_DELAY": "1h"})
    with harness.Channel(gateway.grpc) as channel:
        watches = [Watch(channel), Watch(channel, "galaxy.gateway.v1.EdgeGateway")]
        assert [watch.next() for watch in watches] == [SERVING, SERVING]
        gateway.process.signal(signal.SIGTERM)
        assert [watch.next() for watch in watches] == [NOT_SERVING, NOT_SERVING]
        assert check(channel) == NOT_SERVING
        late = Watch(channel)
        assert late.next() == NOT_SERVING
    gateway.process.signal(signal.SIGTERM)  # the second one ends the delay, and the process
    assert gateway.process.wait() == 1


def test_watch_ends_with_the_shutdown(folder, redis_server):
    gateway = harness.Gateway(folder, redis_server)
    with harness.Channel(gateway.grpc) as channel:
        watch = Watch(channel)
        assert watch.next() == SERVING
        gateway.process.signal(signal.SIGTERM)
        assert watch.next() == NOT_SERVING
        assert watch.next() == "UNAVAILABLE"
        assert gateway.process.wait() == 0
