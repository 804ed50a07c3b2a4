"""The CUDA backend where there is no GPU: in the simulator, and what is said where something is missing."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import subprocesses

import fastnn

TESTS = Path(__file__).parent
needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda: pip install 'fastnn-numba[cu13]'"
)


NAMES = "loop", "plans", "simulated", "tensor", "hopper", "auto", "blocks", "group", "sweep", "embedding", "predictions"
SLOW = "loop", "plans", "simulated", "hopper", "blocks", "sweep", "embedding"  # those with slow tests
FILES = [f"cuda_{name}.py" for name in NAMES]


def simulated(file, *options):
    """The finished process of a file's tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, file]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def side_by_side(request):
    """The processes of the files that are asked for, two at a time: each keeps one core busy."""
    params = [item.callspec.params for item in request.session.items if "side_by_side" in item.fixturenames]
    with ThreadPoolExecutor(2) as pool:
        yield {each["file"]: pool.submit(simulated, each["file"]) for each in params}


@needs_numba_cuda
@pytest.mark.parametrize("file", FILES)
def test_in_the_simulator(file, side_by_side):
    done = side_by_side[file].result()
    assert done.returncode == 0, done.stdout + done.stderr


@needs_numba_cuda
@pytest.mark.slow
@pytest.mark.parametrize("file", [f"cuda_{name}.py" for name in SLOW])
def test_what_is_slow_in_the_simulator(file):
    done = simulated(file, "-m", "slow")
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
    assert all("pip install 'fastnn-numba[cu13]'" in line for line in said)


def test_a_net_of_the_cpu_says_what_to_do_with_arrays_of_a_gpu():
    class Tensor:
        __module__ = "torch"
        __cuda_array_interface__ = {"shape": (2, 1), "typestr": "<f4", "data": (0, False), "version": 3}

    net, X, y = fastnn.Sequential([fastnn.Dense(1)]).build(1), [[1.0], [2.0]], [1.0, 2.0]
    words = r" must be an array on the host where device is 'cpu' \(copy it there, or .*; got a torch.Tensor on a GPU"
    for use in (lambda: net.fit(Tensor(), y), lambda: net.predict(Tensor()), lambda: net.fit([(Tensor(), y)])):
        with pytest.raises(TypeError, match="X" + words):
            use()
    for name in ("y", "sample_weight"):
        with pytest.raises(TypeError, match=name + words):
            net.evaluate(X, **{"y": y, name: Tensor()})


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
