"""Redis behind TLS, an ACL user with the commands of the contract and no others, a database and prefixes (edge.md §3)."""

import socket
import subprocess

import pytest
import redis

import harness
from certificates import Authority
from conftest import ECHO_CONFIG
from harness import check_event, publish_event

VARIABLE = "GATEWAY_SESSION_CACHE_REDIS_"
USER, PASSWORD = "gateway", "the-redis-password"
COMMANDS = "+auth +select +ping +get +set +xread +xinfo +xrevrange"  # edge.md §3
DATABASE = 3


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server_certificate(authority):
    return authority.issue("redis")


@pytest.fixture(scope="module")
def client_certificate(authority):
    return authority.issue("gateway", "DNS:gateway")


class TlsRedis(harness.Redis):
    """TLS alone on a port of loopback; the test's own way in is the unix socket."""

    def __init__(self, folder, authority, certificate, clients="no", host="127.0.0.1", acl=None, database=0, **more):
        self.host = host
        self.tls_port = harness.free_port()
        self.database = database
        extra = ["--tls-port", str(self.tls_port), "--tls-cert-file", str(certificate.cert),
                 "--tls-key-file", str(certificate.key), "--tls-ca-cert-file", str(authority.cert),
                 "--tls-auth-clients", clients]
        if acl:
            (folder / "users.acl").write_text(f"user default on nopass ~* &* +@all\nuser {USER} {acl}\n")
            extra += ["--aclfile", str(folder / "users.acl")]
        super().__init__(folder, *extra, **more)

    @property
    def address(self):
        return f"{self.host}:{self.tls_port}"

    def start(self):
        super().start()
        if self.database:
            self.client.close()
            self.client = redis.Redis(unix_socket_path=str(self.socket), db=self.database)


def tls_env(authority, client=None, **more):
    """With time for handshakes on a busy machine; nothing here is about being late."""
    env = {VARIABLE + "TLS_ENABLED": "true", VARIABLE + "TLS_CA_FILE": authority.cert,
           VARIABLE + "LOOKUP_TIMEOUT": "10s", "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": "10s",
           "GATEWAY_SESSION_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "10s",
           "GATEWAY_CLIENT_EVENTS_REDIS_READ_BLOCK_TIMEOUT": "10s"}
    if client:
        env.update({VARIABLE + "TLS_CERT_FILE": client.cert, VARIABLE + "TLS_KEY_FILE": client.key})
    env.update({VARIABLE + name: value for name, value in more.items()})
    return env


def check_the_whole_story(gateway, prefix="gateway:session:"):
    """A command is executed, an event arrives, a revocation ends the stream and refuses the next command."""
    with harness.Channel(gateway.grpc) as channel:
        device = harness.Device(gateway, prefix=prefix)
        request = device.request()
        harness.check_response(gateway, request, channel.execute(request))
        assert channel.refused(request) == ("FAILED_PRECONDITION", "request replay detected")
        stream = channel.subscribe(device.subscribe_request())
        check_event(gateway, stream.bootstrap())
        published = [publish_event(gateway, device.user, payload=bytes(size)) for size in (0, 1, 20000, 100000)]
        for event_id in published:
            event = stream.next()
            check_event(gateway, event)
            assert event.event_id == event_id
        device.revoke()
        assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
        assert channel.outcome(device.request()) == ("FAILED_PRECONDITION", "device session is revoked")
        return device, request


def test_whole_story_with_tls_acl_user_database_and_prefixes(folder, authority, server_certificate, client_certificate,
                                                             echo):
    acl = f"on >{PASSWORD} resetkeys ~custom:* ~test:* resetchannels -@all {COMMANDS}"
    server = TlsRedis(folder, authority, server_certificate, clients="yes", acl=acl, database=DATABASE)
    env = tls_env(authority, client_certificate, USERNAME=USER, PASSWORD=PASSWORD, DB=DATABASE,
                  KEY_PREFIX="custom:session:")
    env["GATEWAY_REPLAY_REDIS_KEY_PREFIX"] = "custom:replay:"
    try:
        with harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address), env=env) as gateway:
            device, request = check_the_whole_story(gateway, prefix="custom:session:")
            key = f"custom:replay:{len(device.session)}:{device.session}:{request.request_id}"
            assert server.client.get(key) == b"1"
            theirs = [entry for entry in server.client.client_list() if entry["user"] == USER]
            assert len(theirs) == 5 and {entry["db"] for entry in theirs} == {str(DATABASE)}
            assert server.client.execute_command("ACL", "LOG") == []  # nothing was asked that is not allowed
            assert PASSWORD not in gateway.process.err.text()
    finally:
        server.stop()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_restart_of_redis_under_tls_is_survived(folder, authority, server_certificate, echo, host, version):
    server = TlsRedis(folder, authority, server_certificate, host=host, data=True)
    server.extra += ["--tls-protocols", version]
    server.kill()
    server.restart()
    try:
        with harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address),
                             env=tls_env(authority)) as gateway:
            check_the_whole_story(gateway)
            with harness.Channel(gateway.grpc) as channel:
                device = harness.Device(gateway)
                stream = channel.subscribe(device.subscribe_request())
                stream.bootstrap()
                for _ in range(2):
                    server.kill()
                    assert channel.outcome(device.request()) == ("UNAVAILABLE", "replay store is unavailable")
                    server.restart()
                    published = [publish_event(gateway, device.user) for _ in range(300)]
                    assert [stream.next().event_id for _ in published] == published
                    harness.wait_until(lambda: channel.outcome(device.request()) == "OK", "commands work again")
                device.revoke()
                assert stream.end() == ("FAILED_PRECONDITION", "device session is revoked")
    finally:
        server.stop()


def test_certificate_may_be_for_the_name_configured(folder, authority, echo):
    server = TlsRedis(folder, authority, authority.issue("named", "DNS:redis.internal"))
    try:
        with harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address),
                             env=tls_env(authority, TLS_SERVER_NAME="redis.internal")) as gateway:
            check_the_whole_story(gateway)
    finally:
        server.stop()


def test_without_a_ca_file_the_system_is_trusted(folder, authority, server_certificate, echo):
    server = TlsRedis(folder, authority, server_certificate)
    env = tls_env(authority, TLS_CA_FILE="")
    try:
        with harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address),
                             env={**env, "SSL_CERT_FILE": authority.cert}) as gateway:
            check_the_whole_story(gateway)
        # and without that, the distribution's: our test's CA is not among them
        assert refused_start(folder, server, env).startswith(TOLD + "certificate verify failed: ")
    finally:
        server.stop()


# ---- start-up that must fail ----

def refused_start(folder, server, env):
    """The reason of the start-up check that failed; exit 1."""
    gateway = harness.Gateway(folder, server, env={**env, VARIABLE + "LOOKUP_TIMEOUT": "1s"}, wait=False)
    try:
        assert gateway.process.wait() == 1
        return gateway.log("start-up check failed")["error"]
    finally:
        gateway.process.stop()


TOLD = "session cache: Redis did not answer PING within 1000 ms: "

REFUSALS = {
    "another CA": (lambda made: {"env": tls_env(made.other)}, "certificate verify failed: "),
    "a certificate for another host": (
        lambda made: {"certificate": made.authority.issue("elsewhere", "DNS:elsewhere,IP:192.0.2.1")},
        "certificate is for another host"),
    "another name configured": (
        lambda made: {"env": tls_env(made.authority, TLS_SERVER_NAME="redis.internal")},
        "certificate is for another host"),
    "an expired certificate": (
        lambda made: {"certificate": made.authority.issue_expired("expired"),
                      "env": tls_env(made.authority, TLS_SERVER_NAME="localhost")},
        "certificate verify failed: certificate has expired"),
    "a missing client certificate": (
        lambda made: {"clients": "yes"}, "the peer refused the TLS connection: "),
    "a client certificate of another CA": (
        lambda made: {"clients": "yes", "env": tls_env(made.authority, made.other.issue("stranger", "DNS:stranger"))},
        "the peer refused the TLS connection: "),
    "a wrong password": (
        lambda made: {"env": tls_env(made.authority, USERNAME=USER, PASSWORD="wrong-password")},
        "Redis refused the user name or the password (AUTH: WRONGPASS)"),
    "an unknown user": (
        lambda made: {"env": tls_env(made.authority, USERNAME="nobody", PASSWORD=PASSWORD)},
        "Redis refused the user name or the password (AUTH: WRONGPASS)"),
    "a database that is not there": (
        lambda made: {"env": tls_env(made.authority, DB=999)}, "Redis has no database 999"),
    "no TLS where TLS is asked for": (lambda made: {"env": {}}, ""),  # Redis just hangs up
}


class Made:
    def __init__(self, authority, folder):
        self.authority = authority
        (folder / "other").mkdir()
        self.other = Authority(folder / "other", "other")


@pytest.mark.parametrize("case", REFUSALS)
def test_start_up_says_why_redis_was_not_reached(folder, authority, server_certificate, case):
    choose, sentence = REFUSALS[case]
    chosen = choose(Made(authority, folder))
    server = TlsRedis(folder, authority, chosen.get("certificate", server_certificate),
                      clients=chosen.get("clients", "no"), acl=f"on >{PASSWORD} ~* &* +@all")
    try:
        reason = refused_start(folder, server, chosen.get("env", tls_env(authority)))
    finally:
        server.stop()
    assert reason.startswith(TOLD + sentence), reason
    assert "wrong-password" not in reason


def test_start_up_says_that_a_handshake_was_not_answered(folder, authority):
    """A listener that accepts, in the kernel, and never answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)

        class Silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"

        reason = refused_start(folder, Silent, tls_env(authority))
    assert "TLS handshake not finished in time" in reason or reason == TOLD.removesuffix(": "), reason


@pytest.fixture
def bad_files(folder, authority, client_certificate):
    (folder / "empty.pem").write_text("")
    (folder / "folder.pem").mkdir()
    encrypted = folder / "encrypted.key"
    subprocess.run(["openssl", "pkey", "-in", client_certificate.key, "-aes256", "-passout", "pass:word", "-out",
                    encrypted], check=True, capture_output=True)
    certificate, key = client_certificate.cert, client_certificate.key
    return {  # variables, and the lines that they earn
        "all are fine": ({}, []),
        "no such CA file": ({"TLS_CA_FILE": "/nowhere.pem"},
                            ["TLS_CA_FILE: /nowhere.pem: cannot open: No such file or directory"]),
        "a CA file without a certificate": ({"TLS_CA_FILE": folder / "empty.pem"},
                                            [f"TLS_CA_FILE: {folder}/empty.pem: no readable PEM certificate"]),
        "a folder as CA file": ({"TLS_CA_FILE": folder / "folder.pem"},
                                [f"TLS_CA_FILE: {folder}/folder.pem: not a regular file"]),
        "no such certificate": ({"TLS_CERT_FILE": "/nowhere.pem", "TLS_KEY_FILE": key},
                                ["TLS_CERT_FILE: /nowhere.pem: cannot open: No such file or directory"]),
        "a key of another certificate": (
            {"TLS_CERT_FILE": certificate, "TLS_KEY_FILE": authority.key},
            [f"TLS_KEY_FILE: {authority.key}: not the private key of the certificate"]),
        "an encrypted key": (
            {"TLS_CERT_FILE": certificate, "TLS_KEY_FILE": encrypted},
            [f"TLS_KEY_FILE: {encrypted}: the private key is encrypted; it must be without a password"]),
        "a certificate as key": ({"TLS_CERT_FILE": certificate, "TLS_KEY_FILE": certificate},
                                 [f"TLS_KEY_FILE: {certificate}: no readable PEM private key"]),
        "several mistakes": (
            {"TLS_CA_FILE": "/nowhere.pem", "TLS_CERT_FILE": certificate, "TLS_KEY_FILE": encrypted},
            ["TLS_CA_FILE: /nowhere.pem: cannot open: No such file or directory",
             f"TLS_KEY_FILE: {encrypted}: the private key is encrypted; it must be without a password"]),
    }


def lines_of(folder, env, *arguments):
    class Nowhere:
        address = "127.0.0.1:1"

    gateway = harness.Gateway(folder, Nowhere, env={**env, VARIABLE + "LOOKUP_TIMEOUT": "250ms"}, wait=False,
                              arguments=arguments)
    try:
        code = gateway.process.wait()
    finally:
        gateway.process.stop()
    return code, [line for line in gateway.process.err.text().splitlines() if not line.startswith("{")]


def test_files_for_tls_are_checked_before_anything_is_dialled(folder, authority, bad_files):
    for case, (variables, lines) in bad_files.items():
        env = tls_env(authority, **variables)
        expected = [VARIABLE + line for line in lines]
        assert lines_of(folder, env, "--check-config") == (2 if lines else 0, expected), case
        assert lines_of(folder, env) == (1, expected), case  # where all is fine: port 1 of loopback


@pytest.mark.parametrize("variables,lines", [
    ({"TLS_CERT_FILE": "/c.pem"},
     [f"TLS_KEY_FILE: is required, because {VARIABLE}TLS_CERT_FILE is set"]),
    ({"TLS_KEY_FILE": "/k.pem"},
     [f"TLS_CERT_FILE: is required, because {VARIABLE}TLS_KEY_FILE is set"]),
    ({"ADDR": "unix:/nowhere"},
     ["TLS_SERVER_NAME: is required, because a unix socket has no host whose certificate could be checked"]),
    ({"TLS_ENABLED": "perhaps"}, None),
])
def test_mistakes_in_the_variables_of_tls_are_reported(folder, authority, variables, lines):
    code, said = lines_of(folder, tls_env(authority, **variables), "--check-config")
    assert code == 2
    if lines:
        assert said[:len(lines)] == [VARIABLE + line for line in lines]
    else:
        assert any(line.startswith(VARIABLE + "TLS_ENABLED") for line in said), said


def test_variables_of_tls_without_tls_are_a_warning(folder, authority):
    code, said = lines_of(folder, tls_env(authority, TLS_ENABLED="false"), "--check-config")
    assert code == 0
    assert said == [f"warning: {VARIABLE}TLS_CA_FILE: has no effect, because {VARIABLE}TLS_ENABLED is false"]
