"""Arrays and streams of other libraries on a GPU, and NVIDIA's own checker of memory accesses; `pytest -m cuda`."""

import shutil
import subprocess
import sys

import gpu
import numpy as np
import pytest
import reference
import subprocesses
from arrays import normal
from tolerance import assert_near

from fastnn import kernels
from fastnn.kernels import cuda

pytestmark = pytest.mark.cuda


class Numba:
    def __init__(self):
        from numba import cuda as numba_cuda

        self.cuda, self.stream = numba_cuda, numba_cuda.stream()
        self.synchronize = numba_cuda.synchronize

    def array(self, values):
        # in the simulator kernels take what has an address
        return np.array(values) if gpu.SIMULATED else self.cuda.to_device(values)

    def read(self, array):
        return array if gpu.SIMULATED else array.copy_to_host()


class CuPy:
    def __init__(self):
        self.cupy = cupy = pytest.importorskip("cupy", reason="no CuPy here")
        self.stream, self.array, self.read = cupy.cuda.Stream(non_blocking=True), cupy.asarray, cupy.asnumpy
        self.synchronize = cupy.cuda.Device().synchronize


class Torch:
    def __init__(self):
        self.torch = torch = pytest.importorskip("torch", reason="no torch here")
        if not torch.cuda.is_available():
            pytest.skip("this torch has no CUDA")
        self.stream, self.synchronize = torch.cuda.Stream(), torch.cuda.synchronize

    def array(self, values):
        return self.torch.tensor(values, device="cuda")

    def read(self, array):
        return array.cpu().numpy()


@pytest.fixture(params=[Numba, CuPy, Torch])
def library(request):
    return request.param()


def layer():
    """X, W, b, and what a layer with tanh makes of them."""
    m, n_in, n_out = (3, 5, 9) if gpu.SIMULATED else (257, 129, 65)
    X, W, b = (normal(i, *s, dtype="float32") for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,))))
    return (X, W, b), reference.dense_forward(X, W, b, "tanh")[1]


def test_foreign_arrays_are_used_where_they_stand(library):
    (X, W, b), expected = layer()
    A = library.array(np.full(expected.shape, np.nan, np.float32))
    cuda.dense_forward(*map(library.array, (X, W, b)), kernels.TANH, 0.0, None, A, A)
    assert_near(library.read(A), expected, "sum")
    # views: every other row, columns turned round or left out, are not copied either
    wide = library.array(np.full((2 * len(X), 2 * len(b)), np.nan, np.float32))
    part = wide[::2, ::2]
    cuda.dense_forward(*map(library.array, (X, W, b)), kernels.TANH, 0.0, None, part, part)
    whole = library.read(wide)
    assert_near(whole[::2, ::2], expected, "sum")
    assert np.isnan(whole[1::2]).all() and np.isnan(whole[:, 1::2]).all()


def test_work_is_queued_on_the_stream_that_is_named(library):
    if gpu.SIMULATED and not isinstance(library, Numba):
        pytest.skip("the simulator has no streams of others")
    (X, W, b), expected = layer()
    arrays = [library.array(each) for each in (X, W, b)]
    A = library.array(np.full(expected.shape, np.nan, np.float32))
    library.synchronize()
    cuda.dense_forward(*arrays, kernels.TANH, 0.0, None, A, A, stream=library.stream)
    library.stream.synchronize()
    assert_near(library.read(A), expected, "sum")


def test_kernels_are_captured_on_the_stream_of_a_graph():
    """They are queued on that stream and nowhere else: nothing is done before the replay."""
    library = Torch()
    torch, (X, W, b), expected = library.torch, *layer()
    arrays, A = [library.array(each) for each in (X, W, b)], library.array(np.full(expected.shape, np.nan, np.float32))
    cuda.dense_forward(*arrays, kernels.TANH, 0.0, None, A, A)  # compiled, and on the device
    A.fill_(float("nan"))
    library.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cuda.dense_forward(*arrays, kernels.TANH, 0.0, None, A, A, stream=torch.cuda.current_stream())
    library.synchronize()
    assert torch.isnan(A).all()
    graph.replay()
    library.synchronize()
    first = library.read(A).copy()
    assert_near(first, expected, "sum")
    arrays[0].neg_()
    graph.replay()
    library.synchronize()
    assert_near(library.read(A), reference.dense_forward(-X, W, b, "tanh")[1], "sum")


@pytest.mark.skipif(gpu.SIMULATED, reason="in the simulator arrays of NumPy stand in for those of a device")
def test_arrays_of_the_host_are_refused():
    Z = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match="Z must be a device array .*; got ndarray"):
        cuda.activation_forward(kernels.RELU, 0.0, Z, Z)


SMALL_CASE = """
import os
import numpy as np
import fastnn
from arrays import normal
from gpu import OnGpu, blank
from fastnn import kernels
from fastnn.kernels import cuda
from fastnn.kernels.cuda.losses import RESULT

m, n_in, n_out = 67, 13, 10
X, W, y = (OnGpu(normal(i, *s), "float32") for i, s in enumerate(((m, n_in), (n_out, n_in), (m, n_out))))
b, result = OnGpu(normal(3, n_out), "float32"), blank((RESULT,), "float32")
A, dZ, dX = blank((m, n_out), "float32"), blank((m, n_out), "float32"), blank((m, n_in), "float32")
dW, db = blank((n_out, n_in), "float32"), blank((n_out,), "float32")
cuda.dense_forward(X, W, b, kernels.TANH, 0.0, None, A, A)
cuda.loss_backward(kernels.MSE, 0.0, A, y, None, dZ, result)
cuda.dense_backward(dZ, A, A, X, W, kernels.TANH, 0.0, None, dX, dW, db)
cuda.sgd_update(b, db, 0.1, 0.0)
assert all(np.isfinite(array.read()).all() for array in (A, dX, dW, b)), "NaN"
for loop in ("block", "grid"):
    os.environ["FASTNN_CUDA_LOOP"] = loop
    net = fastnn.Sequential([fastnn.Dense(9, "silu"), fastnn.Dropout(0.2), fastnn.Dense(1, "sigmoid")], device="cuda")
    x = normal(4, 10, 3)
    net.fit(x, x[:, 0] > 0, epochs=1, batch_size=6)
    assert np.isfinite(net.predict(x)).all(), "NaN"
print("done")
"""


def test_the_small_case_runs():
    """What the checker runs below."""
    assert subprocesses.python(SMALL_CASE) == "done\n"


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
@pytest.mark.skipif(gpu.SIMULATED, reason="compute-sanitizer needs a GPU")
def test_compute_sanitizer_finds_nothing(tool):
    program = shutil.which("compute-sanitizer")
    if program is None:
        pytest.skip("no compute-sanitizer here")
    checked = [program, "--tool", tool, "--error-exitcode", "99", sys.executable, "-c", SMALL_CASE]
    done = subprocess.run(checked, env=subprocesses.environment(), capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    if "Device not supported" in said:
        pytest.skip("compute-sanitizer does not support this machine")
    assert done.returncode == 0, said
    assert "done" in said
