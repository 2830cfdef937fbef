"""Server reflection v1 and v1alpha (edge.md §2): off unless asked for; questions and answers on one stream."""

import queue

import grpc
import pytest
from google.protobuf import descriptor_pb2

import harness
from grpc.reflection.v1 import reflection_pb2 as v1
from grpc.reflection.v1alpha import reflection_pb2 as v1alpha
from raw_h2 import RawClient, frame


class Conversation:
    """Each question is asked only when the one before was answered: the stream stays open."""

    def __init__(self, channel, version):
        self.messages = {"v1": v1, "v1alpha": v1alpha}[version]
        call = channel.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.messages.ServerReflectionResponse.FromString)
        self.questions = queue.Queue()
        self.answers = call(iter(self.questions.get, None), timeout=harness.PATIENCE)

    def ask(self, **question):
        self.questions.put(self.messages.ServerReflectionRequest(host="here", **question))
        return next(self.answers)

    def end(self):
        self.questions.put(None)
        assert list(self.answers) == []
        assert self.answers.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_as_its_clients_ask(folder, redis_server, version):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_GRPC_REFLECTION_ENABLED": "true"}) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            conversation = Conversation(channel, version)
            answer = conversation.ask(list_services="")
            assert answer.valid_host == "here"
            assert [service.name for service in answer.list_services_response.service] == [
                "galaxy.gateway.v1.EdgeGateway", "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]
            answer = conversation.ask(file_containing_symbol="galaxy.gateway.v1.EdgeGateway")
            file = descriptor_pb2.FileDescriptorProto.FromString(
                answer.file_descriptor_response.file_descriptor_proto[0])
            assert [method.name for method in file.service[0].method] == ["ExecuteCommand", "SubscribeEvents"]
            answer = conversation.ask(file_containing_symbol="nobody.Home")
            assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
            conversation.end()


def test_reflection_is_off_by_default(gateway, channel):
    with pytest.raises(grpc.RpcError) as refusal:
        Conversation(channel, "v1").ask(list_services="")
    assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_client_that_asks_without_reading_is_answered_no_more(folder, redis_server):
    """Else a connection's streams held thousands of answers each, for as long as it likes."""
    question = v1.ServerReflectionRequest(file_containing_symbol="galaxy.gateway.v1.EdgeGateway").SerializeToString()
    with harness.Gateway(folder, redis_server, env={"GATEWAY_GRPC_REFLECTION_ENABLED": "true"}) as gateway:
        client = RawClient(gateway.grpc, initial_window=0)
        stream = client.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", end=False)
        for _ in range(10):
            client.h2.send_data(stream, frame(question) * 50)
            client.flush()
        gateway.wait_metric('gateway_grpc_calls_total{method="/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",'
                            'code="RESOURCE_EXHAUSTED"}', lambda value: value == 1)
        client.h2.end_stream(stream)
        client.open_windows()
        answers, trailers = client.read_to_end(stream)
        assert 0 < len(answers) <= 64 and trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        client.close()


def test_reflection_stream_ends_with_the_shutdown(folder, redis_server):
    with harness.Gateway(folder, redis_server, env={"GATEWAY_GRPC_REFLECTION_ENABLED": "1"}) as gateway:
        with harness.Channel(gateway.grpc) as channel:
            conversation = Conversation(channel, "v1")
            conversation.ask(list_services="")
            gateway.stop()
            with pytest.raises(grpc.RpcError) as end:
                next(conversation.answers)
            assert end.value.code() == grpc.StatusCode.UNAVAILABLE
            conversation.questions.put(None)
