"""The CUDA backend where there is no GPU: in the simulator, and what is said where something is missing."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import subprocesses

TESTS = Path(__file__).parent
needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda: pip install 'fastnn[cu13]'"
)


@needs_numba_cuda
@pytest.mark.parametrize("file", ["cuda_simulated.py", "cuda_loop.py", "cuda_blocks.py"])
def test_in_the_simulator(file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_numba_cuda_the_package_is_imported_and_its_use_says_what_to_install():
    code = """
import sys
sys.modules["numba_cuda"] = None
import fastnn
from fastnn.kernels import cuda
assert "dense_forward" in dir(cuda)
net = fastnn.Sequential([fastnn.Dense(1)], device="cuda")
for use in (lambda: cuda.dense_forward, lambda: net.fit([[1.0], [2.0]], [1.0, 2.0])):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    said = subprocesses.python(code).splitlines()
    assert len(said) == 2
    assert all("pip install 'fastnn[cu13]'" in line for line in said)


@needs_numba_cuda
def test_without_a_gpu_the_first_launch_says_what_is_missing():
    code = """
from cuda_offline import Nowhere
from fastnn.kernels import RELU, cuda
Z = Nowhere(2, 3)
try:
    cuda.activation_forward(RELU, 0.0, Z, Z)
except RuntimeError as error:
    print(error)
"""
    said = subprocesses.python(code, CUDA_VISIBLE_DEVICES="")
    assert said.startswith("CUDA kernels need an NVIDIA GPU and its driver; numba-cuda says:")
