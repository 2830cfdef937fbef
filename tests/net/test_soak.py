"""A short form of tests/soak: two cycles of load with every fault. `make soak` is the long one."""

import os
import subprocess

import pytest

import harness


@pytest.mark.skipif(harness.MODE != "release", reason="memory is measured in a release build")
def test_nothing_is_lost_and_nothing_grows(folder):
    report = folder / "report.md"
    done = subprocess.run([harness.ROOT / "tests/soak/soak.py", "--duration", "1s", "--report", report],
                          env={**os.environ, "BUILD": harness.BUILD, "MODE": harness.MODE}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything held" in report.read_text()
