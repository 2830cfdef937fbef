"""The program as an attacker would find it: how it was built, what it may do, and as whom it runs."""

import errno
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import harness
from conftest import ECHO_CONFIG
from test_redis_tls import check_the_whole_story

NOBODY = 65534
RELEASE = harness.MODE == "release"
SANITIZED = harness.MODE not in ("release", "debug")


def status_of_threads(process):
    """/proc/<pid>/task/*/status, as dictionaries."""
    return [dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()]


def test_every_thread_is_without_new_privileges_and_in_the_sandbox(gateway):
    threads = status_of_threads(gateway.process)
    assert len(threads) >= 4  # main, the bus, two workers
    assert {thread["NoNewPrivs"] for thread in threads} == {"1"}
    if not SANITIZED:
        assert '"sandbox closed"' in gateway.process.err.text()  # before it listens
        assert {thread["Seccomp"] for thread in threads} == {"2"}


# Each thread makes these calls, and none of them does anything where it is allowed: there is no argument at 0.
ASK = """
python
import gdb, json

def ask(*numbers):
    result = int(gdb.parse_and_eval("((long (*)(long, ...)) syscall)(%s)" % ", ".join(map(str, numbers))))
    return 0 if result >= 0 else int(gdb.parse_and_eval("*((int *(*)(void)) __errno_location)()"))

for thread in gdb.selected_inferior().threads():
    if not thread.name.startswith("iou-"):  # the kernel's own
        thread.switch()
        print("ANSWERS", json.dumps([ask(*call) for call in CALLS]))
end
"""
EXECVE, IO_URING_SETUP, IO_URING_REGISTER = {"x86_64": 59, "aarch64": 221}.get(os.uname().machine), 425, 427
REGISTER_PROBE = 8  # which a ring at work does not need


def ask_every_thread(folder, process, calls):
    """What each thread of the running program is told: an errno for each call."""
    (folder / "ask.gdb").write_text(ASK.replace("CALLS", json.dumps(calls)))
    said = subprocess.run(["gdb", "-nx", "-batch", "-p", str(process.pid), "-x", folder / "ask.gdb"], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "HOME": str(folder)})
    answers = [json.loads(line.partition(" ")[2]) for line in said.stdout.splitlines() if line.startswith("ANSWERS ")]
    assert len(answers) == 4, said.stdout + said.stderr  # main, the bus, two workers
    return answers


@pytest.mark.skipif(SANITIZED, reason="a sanitizer makes calls of its own: no sandbox")
def test_every_thread_is_refused_new_rings_and_programs(folder, gateway):
    """Of the running program, not of a filter that a container has put around it: without ours these are EFAULT."""
    answers = ask_every_thread(folder, gateway.process, [[IO_URING_SETUP, 4, 0], [EXECVE, 0, 0, 0]])
    assert answers == [[errno.EPERM] * 2] * 4
    assert harness.http(gateway.public, "GET", "/healthz")[0] == 200


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's threads do not take calls of a debugger's")
def test_each_ring_is_restricted(folder, gateway):
    """Every one at work, not only the one that was tried: the thread that it belongs to may not register what serving does not
    need, others nothing at all."""
    features = gateway.log("io_uring")["features"].split()
    assert "restricted" in features and "single_issuer" in features, features
    descriptors = pathlib.Path(f"/proc/{gateway.process.pid}/fd")
    rings = [int(path.name) for path in descriptors.iterdir() if os.readlink(path) == "anon_inode:[io_uring]"]
    answers = ask_every_thread(folder, gateway.process, [[IO_URING_REGISTER, ring, REGISTER_PROBE, 0, 0] for ring in rings])
    assert len(rings) == 4
    for told in zip(*answers):
        assert sorted(told) == [errno.EACCES, *[errno.EEXIST] * 3]
    for told in answers:
        assert sorted(told) == [errno.EACCES, *[errno.EEXIST] * 3]
    assert harness.http(gateway.public, "GET", "/healthz")[0] == 200


class NetworkRedis(harness.Redis):
    """On a port of loopback: a unix socket would be for its owner alone."""

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def as_nobody(folder, monkeypatch):
    """Words that run a program as an ordinary user, without a capability and, if asked, without locked memory."""
    copy = folder / "ringway"
    shutil.copy(harness.RINGWAY, copy)
    monkeypatch.setattr(harness, "RINGWAY", copy)  # the build's folder may be closed to others
    harness.make_signer(folder / "signer.pem")
    if os.geteuid() == 0:
        folder.chmod(0o755)
        os.chown(folder / "signer.pem", NOBODY, NOBODY)

    def words(*limits):
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all",
                "--bounding-set=-all"] if os.geteuid() == 0 else []
        return lambda env: [*(["prlimit", *limits] if limits else []), *user]
    return words


def pages_of_keys(process):
    """Mappings that are locked and left out of dumps."""
    flags = [line.split()[1:] for line in pathlib.Path(f"/proc/{process.pid}/smaps").read_text().splitlines()
             if line.startswith("VmFlags:")]
    return sum("lo" in each and "dd" in each for each in flags)


SECRET = {"GATEWAY_SESSION_CACHE_REDIS_USERNAME": "default", "GATEWAY_SESSION_CACHE_REDIS_PASSWORD": "any"}


@pytest.mark.skipif(harness.MODE != "release", reason="a sanitizer needs a thread of its own at the end")
@pytest.mark.parametrize("threads", range(1, 6))
def test_start_with_too_few_threads_says_so(folder, as_nobody, threads):
    """Its own three, and one of the kernel's beside each: without it a connection could not be shut down."""
    server = NetworkRedis(folder, port=harness.free_port())
    try:
        gateway = harness.Gateway(folder, server, env=SECRET | {"GATEWAY_WORKERS": 1}, wait=False,
                                  prefix=as_nobody(f"--nproc={threads}:{threads}"))
        try:
            assert gateway.process.wait() == 1
            assert "RLIMIT_NPROC" in gateway.process.err.seen[-1]
        finally:
            gateway.process.stop()
    finally:
        server.stop()


def test_ordinary_user_without_capabilities_serves_all(folder, echo, as_nobody):
    server = NetworkRedis(folder, port=harness.free_port())
    try:
        with harness.Gateway(folder, server, config=ECHO_CONFIG.format(address=echo.address), env=SECRET,
                             prefix=as_nobody()) as gateway:
            for thread in status_of_threads(gateway.process):
                assert "0" not in thread["Uid"].split()
                assert {thread[f"Cap{name}"] for name in ("Eff", "Prm", "Inh", "Amb")} == {"0" * 16}
            check_the_whole_story(gateway)
            assert "keys may be swapped out" not in gateway.process.err.text()
            assert SANITIZED or pages_of_keys(gateway.process) >= 3  # the signing key, the password, OpenSSL's keys
    finally:
        server.stop()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's mlock says yes and does nothing")
def test_memory_that_may_not_be_locked_is_told_once(folder, as_nobody):
    """Serving goes on without it, but where the kernel counts rings too (6.1 did not): then the remedy is told."""
    server = NetworkRedis(folder, port=harness.free_port())
    try:
        gateway = harness.Gateway(folder, server, env=SECRET, prefix=as_nobody("--memlock=0"), wait=False)
        try:
            said = gateway.process.err.wait(lambda line: "io_uring cannot be used" in line or '"listening"' in line)
            assert '"listening"' in said or "raise RLIMIT_MEMLOCK" in said
            gateway.log("keys may be swapped out", level="warn")
            if '"listening"' not in said:
                assert gateway.process.wait() == 1
        finally:
            gateway.process.stop()
        assert gateway.process.err.text().count("keys may be swapped out") == 1
    finally:
        server.stop()


def readelf(program, *arguments):
    return subprocess.run(["readelf", "-W", *arguments, str(program)], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not RELEASE, reason="the flags are those of a release")
@pytest.mark.parametrize("program", [harness.RINGWAY, harness.CLIENT], ids=lambda path: path.name)
def test_program_is_built_hardened(program):
    """Position independent, stack protected, fortified, relocations read-only, bound at once; nothing both writable and
    executable."""
    # its own look at control flow asks for a mark that the distribution's crt1.o prevents: see the next test;
    # branch protection, which newer versions look at, is another processor's
    offered = subprocess.run(["hardening-check", "--help"], capture_output=True, text=True).stdout
    left_out = [option for option in re.findall(r"--no[a-z]+", offered) if option in ("--nocfprotection", "--nobranchprotection")]
    result = subprocess.run(["hardening-check", *left_out, str(program)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("Position Independent Executable", "Stack protected", "Fortify Source functions", "Read-only relocations",
                 "Immediate binding"):
        assert f" {name}: yes" in result.stdout, result.stdout
    segments = [line.split() for line in readelf(program, "-l").splitlines()]
    assert [line[-2] for line in segments if line[:1] == ["GNU_STACK"]] == ["RW"]
    assert not any("RWE" in line for line in segments)


@pytest.mark.skipif(not RELEASE, reason="the flags are those of a release")
@pytest.mark.parametrize("program", [harness.RINGWAY, harness.CLIENT], ids=lambda path: path.name)
def test_every_object_has_stack_and_branch_protection(program):
    branch = {"x86_64": "-fcf-protection=full", "aarch64": "-mbranch-protection=standard"}.get(os.uname().machine, "")
    ours = [line for line in readelf(program, "--debug-dump=info", "--dwarf-depth=1").splitlines()
            if "DW_AT_producer" in line and "GNU C" in line]
    assert len(ours) > 20
    for line in ours:
        for flag in ("-fstack-protector-strong", "-fstack-clash-protection", "-fPIE", branch):
            assert flag in line, line
    if os.uname().machine == "x86_64":
        assert "SHSTK" in readelf(program, "-n")
