"""The API gateway without the edge gateway (edge.md §7): no Redis, no signer, no gRPC listener; all else is there."""

import pytest

import harness
from services import auth
from test_rest import CONFIG, Api, error, make_descriptors, services  # noqa: F401  (a fixture)


def configuration(services):
    return CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address, cache="5s",
                         stream=f"{harness.PATIENCE:.0f}s")


@pytest.fixture
def api(folder, services):  # noqa: F811
    make_descriptors(folder)
    with harness.Gateway(folder, None, config=configuration(services)) as gateway:
        yield Api(gateway, services)


def test_rest_call_needs_no_redis(api):
    api.auth.users["u1"] = auth.User(user_id="u1", email="u1@example.com", status=auth.ACTIVE)
    assert api.call("GET", "/api/v1/users/u1")[0] == 401
    token = api.auth.login()
    refused = api.call("GET", "/api/v1/users/u1", token=token)
    assert refused[:2] == (403, error(403, "you do not have permission to perform this action"))
    api.auth.permissions.add(("alice", "user:list"))
    status, body, _ = api.call("GET", "/api/v1/users/u1", token=token)
    assert (status, body) == (200, {"userId": "u1", "email": "u1@example.com", "status": "ACTIVE"})


def test_stream_needs_no_redis(api):
    response = api.open("/watch-all/x")
    assert response.status == 200 and response.read().count(b"\n") == 3
