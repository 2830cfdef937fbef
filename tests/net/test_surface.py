"""What clients and services compile against (edge.md §2, §2.3): fields, numbers, paths; and what we call of hiredis."""

import concurrent.futures
import queue
import subprocess
import threading
import time

import grpc
import pytest
from google.protobuf import descriptor_pb2

import harness
from galaxy.gateway.v1 import command_handler_pb2, edge_gateway_pb2
from test_reflection import Conversation

STRING, INT64, BYTES = 9, 3, 12
REQUEST = [("protocol_version", STRING), ("device_session_id", STRING), ("message_type", STRING), ("timestamp_ms", INT64),
           ("request_id", STRING), ("payload_bytes", BYTES), ("payload_hash", BYTES), ("signature", BYTES),
           ("trace_id", STRING)]
# edge.md §2 and §4, by hand: numbered in this order from 1
EDGE = {
    "ExecuteCommandRequest": REQUEST,
    "ExecuteCommandResponse": [("protocol_version", STRING), ("request_id", STRING), ("timestamp_ms", INT64),
                               ("result_code", STRING), ("payload_bytes", BYTES), ("payload_hash", BYTES),
                               ("signature", BYTES)],
    "SubscribeEventsRequest": REQUEST,
    "GatewayEvent": [("event_type", STRING), ("event_id", STRING), ("timestamp_ms", INT64), ("payload_bytes", BYTES),
                     ("payload_hash", BYTES), ("signature", BYTES), ("request_id", STRING), ("trace_id", STRING)],
    "ServerTime": [("server_time_ms", INT64)],
}
# edge.md §2.3
HANDLER = {
    "AuthenticatedCommand": [("user_id", STRING), ("device_session_id", STRING), ("message_type", STRING),
                             ("request_id", STRING), ("trace_id", STRING), ("timestamp_ms", INT64),
                             ("payload_bytes", BYTES)],
    "CommandResult": [("result_code", STRING), ("payload_bytes", BYTES)],
}
HANDLE = "/galaxy.gateway.v1.CommandHandler/Handle"


def messages_of(file):
    """Name -> fields, which must be numbered as they stand."""
    for message in file.message_type:
        assert [field.number for field in message.field] == list(range(1, len(message.field) + 1)), message.name
    return {message.name: [(field.name, field.type) for field in message.field] for message in file.message_type}


def methods_of(service):
    return [(method.name, method.input_type.rpartition(".")[2], method.output_type.rpartition(".")[2],
             method.client_streaming, method.server_streaming) for method in service.method]


def check_edge(file):
    assert file.package == "galaxy.gateway.v1" and messages_of(file) == EDGE
    [service] = file.service
    assert service.name == "EdgeGateway" and methods_of(service) == [
        ("ExecuteCommand", "ExecuteCommandRequest", "ExecuteCommandResponse", False, False),
        ("SubscribeEvents", "SubscribeEventsRequest", "GatewayEvent", False, True)]


def file_of(module):
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def test_proto_of_the_clients_is_the_contract_s():
    check_edge(file_of(edge_gateway_pb2))


def test_proto_of_the_services_is_the_contract_s():
    file = file_of(command_handler_pb2)
    assert file.package == "galaxy.gateway.v1" and messages_of(file) == HANDLER
    [service] = file.service
    assert service.name == "CommandHandler" and methods_of(service) == [
        ("Handle", "AuthenticatedCommand", "CommandResult", False, False)]


def test_reflection_tells_the_contract_s_fields(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_GRPC_REFLECTION_ENABLED": "true"}) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            conversation = Conversation(channel, "v1")
            answer = conversation.ask(file_containing_symbol="galaxy.gateway.v1.EdgeGateway")
            check_edge(descriptor_pb2.FileDescriptorProto.FromString(
                answer.file_descriptor_response.file_descriptor_proto[0]))
            conversation.end()


# ---- a service that we did not write ----

class Service:
    """A command handler by grpcio: what it is asked is in `asked`; "hang" waits for its cancellation."""

    def __init__(self):
        self.asked = queue.Queue()
        self.cancelled = threading.Event()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, details):
        if details.method != HANDLE:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.handle, request_deserializer=command_handler_pb2.AuthenticatedCommand.FromString,
            response_serializer=command_handler_pb2.CommandResult.SerializeToString)

    def handle(self, command, context):
        if command.message_type == "test.hang":
            assert context.add_callback(self.cancelled.set)
        self.asked.put((command, context.time_remaining()))
        if command.message_type == "test.hang":
            self.cancelled.wait(harness.PATIENCE)
        return command_handler_pb2.CommandResult(result_code="moved", payload_bytes=b"\0from grpcio\xff")


@pytest.fixture
def service():
    service = Service()
    yield service
    service.cancelled.set()
    service.server.stop(0).wait()


@pytest.fixture
def served(folder, redis_server, service):
    config = f"""
upstreams:
  one: {{ addresses: ["{service.address}"], deadline: 60s, health: false }}
commands:
  - {{ message_type: "test.*", upstream: one }}
"""
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        yield gateway


def test_command_reaches_a_service_of_grpcio_field_by_field(served, service):
    device = harness.Device(served)
    with harness.Channel(served.grpc) as channel:
        request = device.request("test.move", payload=b"\0\xfe go", trace_id="trace-5")
        response = channel.execute(request, timeout=30)
        harness.check_response(served, request, response)
        assert (response.result_code, response.payload_bytes) == ("moved", b"\0from grpcio\xff")
        command, left = service.asked.get(timeout=harness.PATIENCE)
        assert command == command_handler_pb2.AuthenticatedCommand(
            user_id=device.user, device_session_id=device.session, message_type="test.move",
            request_id=request.request_id, trace_id="trace-5", timestamp_ms=request.timestamp_ms,
            payload_bytes=request.payload_bytes)
        # the caller's deadline, which is shorter than the upstream's; gRPC's core rounds it up to three digits on its way
        assert 0 < left <= 30.3
        channel.execute(device.request("test.move"), timeout=300)
        _, left = service.asked.get(timeout=harness.PATIENCE)
        assert 30 < left <= 60  # and the upstream's, where that is


@pytest.mark.parametrize("how", ["cancel", "go away"])
def test_client_that_leaves_cancels_the_call_at_the_service(served, service, how):
    device = harness.Device(served)
    channel = harness.Channel(served.grpc)
    call = channel.execute_future(device.request("test.hang"), timeout=300)
    service.asked.get(timeout=harness.PATIENCE)
    began = time.monotonic()
    if how == "cancel":
        call.cancel()
    else:
        channel.close()
    assert service.cancelled.wait(harness.PATIENCE) and time.monotonic() - began < harness.PATIENCE
    served.wait_metric('upstream_grpc_in_flight{upstream="one"}', lambda value: value == 0)
    channel.close()


def test_call_over_the_upstream_s_bound_is_refused_at_once(folder, redis_server, service):
    config = f"""
upstreams:
  one: {{ addresses: ["{service.address}"], deadline: 60s, health: false, max_in_flight: 1 }}
commands:
  - {{ message_type: "test.*", upstream: one }}
"""
    with harness.Gateway(folder, redis_server, config=config, env={"GATEWAY_WORKERS": "1"}) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            call = channel.execute_future(device.request("test.hang"), timeout=300)
            service.asked.get(timeout=harness.PATIENCE)
            assert channel.refused(device.request("test.move")) == ("RESOURCE_EXHAUSTED", "downstream service is busy")
            assert not call.done()
            call.cancel()


# ---- what is linked ----

def test_hiredis_only_parses_and_formats():
    """edge.md §3: it never touches a socket."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", harness.RINGWAY], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1].partition("@")[0] for line in listed.splitlines() if "redis" in line.lower()}
    assert names and all(name.startswith(("redisFormat", "redisFree", "redisReader")) for name in names), names
    assert not names & {"redisFree", "redisConnect"}
