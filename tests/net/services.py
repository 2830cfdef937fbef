"""Real services behind the API gateway, by grpcio: AuthService and AIService, with what they know as plain attributes."""

import concurrent.futures
import inspect
import threading

import grpc

import harness  # noqa: F401  (makes the protos)

from ai_service import ai_service_pb2 as ai  # noqa: E402
from auth.v1 import auth_service_pb2 as auth  # noqa: E402
from ringway import wide_pb2 as shop  # noqa: E402


class Failure(Exception):
    """What a method raises to answer with a status."""

    def __init__(self, code, details="", trailers=()):
        super().__init__(details)
        self.code, self.details, self.trailers = code, details, trailers


class Service(grpc.GenericRpcHandler):
    """Methods are functions of (request, context), by their name; every call is noted."""

    def __init__(self, name, module):
        self.name, self.module = name, module
        self.descriptor = module.DESCRIPTOR.services_by_name[name.rpartition(".")[2]]
        self.calls = []
        self.lock = threading.Lock()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), handlers=[self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def stop(self):
        self.server.stop(None).wait()

    def times(self, method):
        with self.lock:
            return sum(1 for name, _, _ in self.calls if name == method)

    def last(self, method):
        """The request of the last call, and its metadata."""
        with self.lock:
            return [(request, metadata) for name, request, metadata in self.calls if name == method][-1]

    def service(self, details):
        prefix = f"/{self.name}/"
        if not details.method.startswith(prefix):
            return None
        method = details.method[len(prefix):]
        found = self.descriptor.methods_by_name.get(method)
        if found is None or not hasattr(self, method):
            return None
        message = found.input_type._concrete_class
        function = getattr(self, method)

        def run(request, context):
            with self.lock:
                self.calls.append((method, request, dict(context.invocation_metadata())))
            try:
                return function(request, context)
            except Failure as failure:
                context.set_trailing_metadata(failure.trailers)
                context.abort(failure.code, failure.details)

        def stream(request, context):
            with self.lock:
                self.calls.append((method, request, dict(context.invocation_metadata())))
            try:
                yield from function(request, context)
            except Failure as failure:
                context.set_trailing_metadata(failure.trailers)
                context.abort(failure.code, failure.details)

        if inspect.isgeneratorfunction(function):
            return grpc.unary_stream_rpc_method_handler(stream, message.FromString, lambda reply: reply.SerializeToString())
        return grpc.unary_unary_rpc_method_handler(run, message.FromString, lambda reply: reply.SerializeToString())


class AuthService(Service):
    def __init__(self):
        self.sessions = {}      # token -> (user, session)
        self.permissions = set()  # (user, permission)
        self.users = {}
        super().__init__("auth.v1.AuthService", auth)

    def login(self, token="token-1", user="alice", session="session-1"):
        self.sessions[token] = (user, session)
        return token

    def ValidateSession(self, request, context):
        if request.session_token not in self.sessions:
            raise Failure(grpc.StatusCode.UNAUTHENTICATED, "no such session")
        user, session = self.sessions[request.session_token]
        return auth.ValidateSessionResponse(user_id=user, session_id=session)

    def CheckPermission(self, request, context):
        return auth.CheckPermissionResponse(allowed=(request.user_id, request.permission) in self.permissions)

    def GetUser(self, request, context):
        if request.user_id not in self.users:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"no user {request.user_id}")
        return self.users[request.user_id]

    def UpdateUser(self, request, context):
        self.GetUser(request, context).MergeFrom(request.user)
        return self.users[request.user_id]

    def GetEffectivePermissions(self, request, context):
        return auth.GetEffectivePermissionsResponse(
            permissions=sorted(permission for user, permission in self.permissions if user == request.user_id))

    def InviteUser(self, request, context):
        return auth.User(user_id="new", email=request.email, display_name=request.display_name, status=auth.INVITED)

    def ListUsers(self, request, context):
        return auth.ListUsersResponse(users=[user for user in self.users.values()], next_page_token=request.page_token)


class ShopService(Service):
    """Of the tests' own protos: it has a streaming answer."""

    def __init__(self):
        super().__init__("ringway.test.Shop", shop)

    def Watch(self, request, context):
        for number in range(3):
            yield shop.Order(order_id=f"{request.name}-{number}")


class MirrorService(Service):
    """Of the tests' own protos: answers with what was sent."""

    def __init__(self):
        super().__init__("ringway.test.Mirror", shop)

    def Echo(self, request, context):
        return request

    def Same(self, request, context):
        return request


class AIService(Service):
    def __init__(self):
        super().__init__("ai_service.AIService", ai)

    def ProcessQuery(self, request, context):
        return ai.ProcessQueryResponse(session_id=request.session_id, final_answer=ai.FinalAnswer(response=request.query[::-1]))
