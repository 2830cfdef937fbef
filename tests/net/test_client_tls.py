"""ringway-client and a Redis behind TLS."""

import json

import pytest

from certificates import Authority
from test_client import run
from test_redis_tls import TlsRedis


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server_certificate(authority):
    return authority.issue("redis")


@pytest.fixture
def key(folder):
    assert run("keygen", folder / "k.pem", folder / "p.pem").code == 0
    return folder / "k.pem"


def session(server, key, *more, address=None):
    return run("session", "--redis", address or server.address, "--session", "s", "--user", "u", "--key", key, *more)


@pytest.fixture
def server(folder, authority, server_certificate):
    server = TlsRedis(folder, authority, server_certificate)
    yield server
    server.stop()


def test_every_command_for_redis_speaks_tls(folder, server, authority, key):
    redis = ("--redis", f"localhost:{server.tls_port}", "--tls", "--tls-ca", authority.cert)
    assert run("session", *redis, "--session", "s", "--user", "u", "--key", key).code == 0
    done = run("publish", *redis, "--stream", "events", "--user", "u", "--event-type", "t", "--event-id", "e", "--payload",
               "x" * 100_000)
    assert done.code == 0, done
    done = run("revoke", *redis, "--stream", "sessions", "--session", "s")
    assert done.code == 0, done
    assert json.loads(server.client.get("gateway:session:s"))["status"] == "revoked"
    assert server.client.xlen("events") == server.client.xlen("sessions") == 1


def test_certificate_is_shown_where_redis_asks_for_one(folder, authority, server_certificate, key):
    own = authority.issue("operator", "DNS:operator")
    server = TlsRedis(folder, authority, server_certificate, clients="yes")
    try:
        ca = ("--tls", "--tls-ca", authority.cert)
        done = session(server, key, *ca, "--tls-cert", own.cert, "--tls-key", own.key)
        assert done.code == 0, done
        server.client.flushall()
        assert session(server, key, *ca).code == 1
        assert server.client.dbsize() == 0
    finally:
        server.stop()


@pytest.mark.parametrize("more,why", [
    (("--tls",), "certificate verify failed"),
    (("--tls", "--tls-ca", "CA", "--tls-name", "elsewhere"), "certificate is for another host"),
    ((), ""),
], ids=["unknown-ca", "another-name", "plain"])
def test_redis_that_cannot_be_trusted_gets_nothing(server, authority, key, more, why):
    done = session(server, key, "--timeout", "3s", *(authority.cert if word == "CA" else word for word in more))
    assert (done.code, done.out) == (1, "") and why in done.err and done.err
    assert server.client.dbsize() == 0


def test_name_of_the_certificate_may_be_given(folder, authority, key):
    server = TlsRedis(folder, authority, authority.issue("other", "DNS:redis.internal"))
    try:
        ca = ("--tls", "--tls-ca", authority.cert)
        assert session(server, key, *ca).code == 1
        assert session(server, key, *ca, "--tls-name", "redis.internal").code == 0
    finally:
        server.stop()


@pytest.mark.parametrize("more,wrong", [
    (("--tls-ca", "CA"), "--tls-ca needs --tls"),
    (("--tls-name", "n"), "--tls-name needs --tls"),
    (("--tls", "--tls-cert", "CA"), "--tls-cert and --tls-key need each other"),
    (("--tls", "--tls-key", "KEY"), "--tls-cert and --tls-key need each other"),
    (("--tls", "--tls-ca", "/nowhere/ca.pem"), "--tls-ca: /nowhere/ca.pem"),
    (("--tls", "--tls-ca", "KEY"), "--tls-ca: "),
    (("--tls", "--tls-ca", "CA", "--tls-cert", "CA", "--tls-key", "DEVICE"), "--tls-key: "),
])
def test_files_and_options_that_do_not_fit_end_with_2(redis_server, authority, key, more, wrong):
    words = {"CA": authority.cert, "KEY": authority.key, "DEVICE": key}
    done = session(redis_server, key, *(words.get(word, word) for word in more))
    assert (done.code, done.out) == (2, "") and wrong in done.err, done
