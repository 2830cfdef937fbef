"""What a core dump, /proc and a swapped page tell of the keys: nothing."""

import base64
import contextlib
import hashlib
import os
import pathlib
import signal
import subprocess

import pytest

import harness
from certificates import Authority
from conftest import ECHO_CONFIG
from test_redis_tls import COMMANDS, USER, TlsRedis, check_the_whole_story, tls_env

pytestmark = pytest.mark.skipif(harness.MODE not in ("release", "debug"), reason="a sanitizer keeps memory of its own")

PASSWORD = "planted-Redis-password-" + "7Qm2xVb9Lw4Zt8Kd" * 2
BLOCK = 16  # bytes of a secret that are a find
PAGE = 4096


def der_of(pem):
    return base64.b64decode(body_of(pem))


def scalar_of(pem):
    """The private number of an EC key: RFC 5915, the first octet string."""
    der = subprocess.run(["openssl", "ec", "-in", str(pem), "-outform", "DER", "-no_public"], check=True,
                         capture_output=True).stdout
    at = der.index(b"\x04\x20")
    return der[at + 2:at + 34]


def body_of(pem):
    """What is between the lines of dashes, as it stands in the file."""
    return b"".join(line for line in pathlib.Path(pem).read_bytes().splitlines() if not line.startswith(b"-"))


def finds(dump, secrets):
    """Secrets of which a block, or the last one's worth, is in the dump: the name, the place, and what is around it."""
    found = {}
    for name, secret in secrets.items():
        for at in [*range(0, len(secret) - BLOCK + 1, BLOCK), len(secret) - BLOCK]:
            where = dump.find(secret[at:at + BLOCK])
            if where >= 0:
                found.setdefault(name, (where, dump[max(where - 100, 0):where + 100].strip(b"\0")))
    return found


def secrets_of_ed25519(name, pem):
    der = der_of(pem)
    seed = der[16:]  # RFC 8410: the last thing in it
    assert len(seed) == 32
    half = hashlib.sha512(seed).digest()[:32]
    clamped = bytes([half[0] & 248, *half[1:31], half[31] & 127 | 64])
    return {f"{name}: seed": seed, f"{name}: hash": half, f"{name}: scalar": clamped,
            f"{name}: armour": base64.b64encode(der)[24:]}


def secrets_of_ec(name, pem):
    scalar = scalar_of(pem)
    der = der_of(pem)
    at = der.index(scalar)
    # of the armour what holds nothing but bytes of the number
    armour = base64.b64encode(der)[(at + 2) // 3 * 4:(at + 32) // 3 * 4]
    return {f"{name}: number": scalar, f"{name}: limbs": scalar[::-1], f"{name}: armour": armour}


def read_dump(path):
    """Without its empty pages, which are most of it."""
    blank = bytes(PAGE)
    with open(path, "rb") as file:
        pages = [page for page in iter(lambda: file.read(PAGE), b"") if page != blank]
    path.unlink()
    return b"".join(pages)


def gcore(folder, process):
    subprocess.run(["gcore", "-o", str(folder / "core"), str(process.pid)], check=True, capture_output=True,
                   env={"PATH": os.environ["PATH"], "HOME": str(folder)})
    return read_dump(folder / f"core.{process.pid}")


def kernel_core(folder, process):
    """The kernel's own, where it writes cores as files; None elsewhere (a handler, another machine's rules)."""
    if pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        return None
    process.signal(signal.SIGABRT)
    assert process.wait() == -signal.SIGABRT
    cores = list(folder.glob("core*"))
    assert len(cores) == 1
    return read_dump(cores[0])


@contextlib.contextmanager
def abandoned(gateway):
    """A gateway whose end is the test's business."""
    try:
        yield gateway
    finally:
        if gateway.process.process.poll() is None:
            gateway.process.process.kill()
        gateway.process.process.wait()


def with_cores(folder):
    return lambda env: ["env", "-C", folder, "prlimit", "--core=unlimited"]


def look_through(folder, gateway, secrets, shown):
    """Both kinds of dump; what is no secret must be found, else the search would prove nothing."""
    for dump in (gcore(folder, gateway.process), kernel_core(folder, gateway.process)):
        if dump is None:
            pytest.skip("this machine's core_pattern writes no file: only gdb's dump was looked at")
        assert finds(dump, shown).keys() == shown.keys()
        if found := finds(dump, secrets):
            raise harness.Failed(f"the dump holds {found}")


NAME = "a-user-of-Redis-whose-name-is-no-secret"
SHOWN = {"stream": harness.CLIENT_STREAM.encode()}


def environment_of(process):
    return pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.parametrize("kind", ["variable", "file"])
def test_core_dump_has_no_key_and_no_password(folder, echo, kind):
    acl = folder / "users.acl"
    acl.write_text(f"user default on nopass ~* &* +@all\nuser {NAME} on >{PASSWORD} ~* resetchannels -@all {COMMANDS}\n")
    server = harness.Redis(folder, "--aclfile", str(acl))
    env = {"GATEWAY_SESSION_CACHE_REDIS_USERNAME": NAME}
    if kind == "file":
        (folder / "password").write_text(PASSWORD + "\n")
        env["GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE"] = folder / "password"
    else:
        env["GATEWAY_SESSION_CACHE_REDIS_PASSWORD"] = PASSWORD
    try:
        gateway = harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address), env=env,
                                  prefix=with_cores(folder))
        with abandoned(gateway):
            check_the_whole_story(gateway)
            server.client.execute_command("CLIENT", "KILL", "USER", NAME)  # they greet Redis once more
            with harness.Channel(gateway.grpc) as channel:
                device = harness.Device(gateway)
                harness.wait_until(lambda: channel.outcome(device.request()) == "OK", "Redis is found again")
            assert PASSWORD.encode() not in environment_of(gateway.process)
            look_through(folder, gateway, {**secrets_of_ed25519("signer", gateway.signer), "password": PASSWORD.encode()},
                         {**SHOWN, "user": NAME.encode()})
    finally:
        server.stop()


@pytest.mark.parametrize("algorithm", ["ec", "ed25519"])
def test_core_dump_has_no_key_of_a_certificate(folder, echo, algorithm):
    authority = Authority(folder)
    certificate = authority.issue("gateway", "DNS:gateway", algorithm=algorithm)
    acl = f"on >{PASSWORD} ~* resetchannels -@all {COMMANDS}"
    server = TlsRedis(folder, authority, authority.issue("redis"), clients="yes", acl=acl)
    env = tls_env(authority, certificate, USERNAME=USER, PASSWORD=PASSWORD)
    secrets = secrets_of_ec("certificate", certificate.key) if algorithm == "ec" else \
        secrets_of_ed25519("certificate", certificate.key)
    try:
        gateway = harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address), env=env,
                                  prefix=with_cores(folder))
        with abandoned(gateway):
            check_the_whole_story(gateway)
            secrets.update(secrets_of_ed25519("signer", gateway.signer))
            secrets["password"] = PASSWORD.encode()
            look_through(folder, gateway, secrets, SHOWN)
    finally:
        server.stop()
