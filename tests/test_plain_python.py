"""The kernels and the loop run without compilation, for debuggers and for line coverage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("left_out", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_every_kernel_runs_as_plain_python(left_out):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "plain_python.py"]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    folder = Path(__file__).parent
    done = subprocess.run(
        [*command, "-k", f"not {left_out}"], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
