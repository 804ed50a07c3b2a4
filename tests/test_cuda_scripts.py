"""What waits for a GPU, run where there is none: its tests in the simulator, its race at toy sizes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda: pip install 'fastnn[cu13]'"
    ),
]


@pytest.mark.parametrize("name", ["gpu", "interop", "training"])
def test_tests_for_a_gpu_in_the_simulator(name):
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", "cuda"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [*command, f"test_cuda_{name}.py"], cwd=TESTS, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
