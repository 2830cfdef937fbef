"""A simulation that fails says which seed it was, and one command runs that seed again."""

import os
import re
import subprocess

import pytest

import harness
from test_install import alone, make

SIMULATIONS = ("worker", "conn", "story", "ops")


def run(name, **env):
    program = harness.BUILD / harness.MODE / "tests" / "sim" / f"test_{name}_sim"
    with alone():
        if not program.exists():
            make(program)
    return subprocess.run([program], env={**os.environ, **harness.SANITIZERS, **env}, capture_output=True, text=True,
                          timeout=5 * harness.PATIENCE)


@pytest.mark.parametrize("name", SIMULATIONS)
def test_failing_seed_is_told_and_fails_again_by_one_command(name):
    """The failure is asked for: SEED_FAILS is checked where a seed ends."""
    failed = run(name, SEED_FAILS="7", SEEDS="20")
    assert failed.returncode != 0
    said = re.search(r"again by one command: SEED=(\d+) (\S+) \((\w+)\)", failed.stderr)
    assert said and said[1] == "7", failed.stderr
    command = f"SEED={said[1]} {said[2]}"
    again = subprocess.run(["sh", "-c", command], env={**os.environ, **harness.SANITIZERS, "SEED_FAILS": "7"},
                           capture_output=True, text=True, timeout=harness.PATIENCE)
    assert again.returncode != 0 and said[0] in again.stderr
    well = subprocess.run(["sh", "-c", command], env={**os.environ, **harness.SANITIZERS}, capture_output=True, text=True,
                          timeout=harness.PATIENCE)
    assert well.returncode == 0, well.stderr


@pytest.mark.parametrize("name", SIMULATIONS)
def test_seed_runs_the_same_way_alone_and_in_another_process(name):
    """The last word of a seed's run is drawn from its numbers: equal if every draw before was."""
    def drawn(**env):
        lines = re.findall(r"^seed 5 \((\w+)\) ended with (\d+)$", run(name, SEED_TELLS="5", **env).stderr, re.MULTILINE)
        assert lines
        return lines
    assert drawn(SEED="5") == drawn(SEEDS="6") == drawn(SEED="5")
