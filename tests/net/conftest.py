import os
import pathlib
import signal
import subprocess
import tempfile

import pytest

import harness


def give_up(*_):
    raise harness.Failed("it does not end")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """What a test asks for in a loop may never come. `make faults` takes its time."""
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(0 if os.environ.get("FAULTS") else round(20 * harness.PATIENCE) or 1)
    yield
    signal.alarm(0)


@pytest.fixture
def folder():
    """A short path: unix socket names are bounded."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    yield path
    harness.remove(path)


@pytest.fixture
def redis_server(folder):
    server = harness.Redis(folder)
    yield server
    server.stop()


ECHO_CONFIG = """
upstreams:
  echo:
    addresses: ["{address}"]
    deadline: 2s
commands:
  - {{ message_type: "test.*", upstream: echo }}
  - {{ message_type: "echo.*", upstream: echo }}
"""


@pytest.fixture
def echo():
    """The command handler of bench/, on a free port."""
    process = harness.start_echo()
    yield process
    assert process.stop() == 0


@pytest.fixture
def gateway(folder, redis_server, echo):
    """With an echo upstream, admin listener and 2 workers; its end must be clean."""
    process = harness.Gateway(folder, redis_server, config=ECHO_CONFIG.format(address=echo.address))
    yield process
    process.stop()


@pytest.fixture
def channel(gateway):
    channel = harness.Channel(gateway.grpc)
    yield channel
    channel.close()


@pytest.fixture
def device(gateway):
    return harness.Device(gateway)


def node_modules():
    """What comes from npm, installed once; without npm's registry the story is skipped, and says so."""
    done = subprocess.run([harness.ROOT / "scripts" / "install-node"], env={**os.environ, "BUILD": str(harness.OUT.parent)},
                          capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stdout.strip())
    if done.returncode:
        raise harness.Failed(done.stderr)
    return harness.OUT.parent / "node" / "node_modules"


def pytest_sessionfinish(exitstatus):
    """Without a failure it would be one, which scripts/test is to find."""
    if exitstatus:
        harness.leave_nothing_running()


def pytest_terminal_summary(terminalreporter):
    """`make dependencies`: the times that test_dependencies.py has measured."""
    if not os.environ.get("DEPENDENCY_TIMES"):
        return
    rows = [value for report in terminalreporter.stats.get("passed", []) for name, value in report.user_properties
            if name == "dependency"]
    terminalreporter.write_line(f"{'fault':<62} {'heard after':>11} {'alone again after':>18}")
    for fault, *times in rows:
        heard, recovered = ("-" if seconds is None else f"{seconds * 1000:.0f} ms" for seconds in times)
        terminalreporter.write_line(f"{fault:<62} {heard:>11} {recovered:>18}")
