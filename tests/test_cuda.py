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
def test_every_kernel_in_the_simulator():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "cuda_simulated.py"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_numba_cuda_the_package_is_imported_and_its_use_says_what_to_install():
    code = """
import sys
sys.modules["numba_cuda"] = None
from fastnn.kernels import cuda
assert "dense_forward" in dir(cuda)
try:
    cuda.dense_forward
except ImportError as error:
    print(error)
"""
    assert "pip install 'fastnn[cu13]'" in subprocesses.python(code)


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
