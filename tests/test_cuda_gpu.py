"""The CUDA backend on a GPU: `pytest -m cuda` on a machine that has one."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import reference
from nets import data, flat, pair
from test_losses import DELTA, KINDS, code_of, name_of, problem

import fastnn
from fastnn import kernels
from fastnn.kernels import cuda

pytestmark = pytest.mark.cuda
numba_cuda = pytest.importorskip("numba_cuda", reason="no numba-cuda: pip install 'fastnn[cu13]'")
SHAPES = [(1, 1, 1), (3, 7, 5), (64, 64, 64), (129, 65, 257), (1000, 784, 10), (4097, 33, 129), (4097, 1024, 4097)]
# of a product of normal numbers, by the norm of all of it
LIMITS = {"float32": 1e-5, "float64": 1e-14}


@pytest.fixture(autouse=True, scope="module")
def gpu():
    from numba import cuda as numba_cuda

    if not numba_cuda.is_available():
        pytest.skip(f"no GPU: {numba_cuda.cuda_error()}")


def there(*arrays):
    """Copies on the device."""
    from numba import cuda as numba_cuda

    return [numba_cuda.to_device(np.ascontiguousarray(array)) for array in arrays]


def blank(shape, dtype):
    return there(np.full(shape, np.nan, dtype))[0]


def off(result, expected):
    """Distance from what is expected, over its size; NaN where anything was left out."""
    result = result.copy_to_host().astype(np.float64)
    return np.linalg.norm(result - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("m,n_in,n_out", SHAPES)
def test_layers(m, n_in, n_out, dtype):
    rng = np.random.default_rng(m)
    X, W, b, dZ = (rng.standard_normal(s).astype(dtype) for s in ((m, n_in), (n_out, n_in), (n_out,), (m, n_out)))
    x, w, bias, delta = there(X, W, b, dZ)
    Z, A, dX, dW, db = (blank(s, dtype) for s in ((m, n_out), (m, n_out), X.shape, W.shape, b.shape))
    work = blank(max(1, cuda.work_size(m, n_in, n_out)), dtype)
    limit = LIMITS[dtype] * 4
    X, W, dZ = (array.astype(np.float64) for array in (X, W, dZ))
    for _ in range(2):
        cuda.dense_forward(x, w, bias, kernels.TANH, 0.0, None, Z, A)
        assert off(Z, X @ W.T + b) < limit
        assert off(A, np.tanh(X @ W.T + b)) < limit
        cuda.weight_gradient(delta, x, work, dW, db)
        assert off(dW, dZ.T @ X) < limit
        assert off(db, dZ.sum(axis=0)) < limit
        cuda.input_gradient(delta, w, kernels.TANH, 0.0, x, x, dX)
        assert off(dX, dZ @ W * (1 - X * X)) < limit
        first = [array.copy_to_host() for array in (Z, A, dX, dW, db)]
    again = [array.copy_to_host() for array in (Z, A, dX, dW, db)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("name", [*reference.ACTIVATIONS, "softmax"])
def test_activations(name, dtype):
    param, code = reference.DEFAULT_PARAM.get(name, 0.0), getattr(kernels, name.upper())
    for shape in ((1, 2), (257, 33), (4097, 129)):
        values = np.random.default_rng(1).standard_normal(shape).astype(dtype)
        (Z,), A, dZ = there(values), blank(shape, dtype), blank(shape, dtype)
        cuda.activation_forward(code, param, Z, A)
        cuda.activation_backward(code, param, Z, Z, A, dZ)
        assert off(A, reference.activation(name, values, param)) < 10 * LIMITS[dtype]
        assert off(dZ, reference.activation_backward(name, values, values, param)) < 10 * LIMITS[dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_losses(kind, dtype):
    for m, k in ((1, 2), (257, 33), (4097, 10)):
        Z, y, w = problem(kind, m, k, dtype, True)
        z, targets, weights = there(Z, y, w)
        dZ, result = blank(Z.shape, dtype), blank(300, dtype)
        cuda.loss_backward(code_of(kind), DELTA, z, targets, weights, dZ, result)
        expected = reference.loss_forward(name_of(kind), Z, y, w, DELTA)
        assert abs(result.copy_to_host()[0] - expected) < 10 * LIMITS[dtype] * abs(expected)
        assert off(dZ, reference.loss_backward(name_of(kind), Z, y, w, DELTA)) < 10 * LIMITS[dtype]


@pytest.mark.parametrize("loop", ["block", "grid"])
def test_fits_are_those_of_the_cpu_and_repeat_bit_for_bit(loop, dtype, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_LOOP", loop)
    X, y = data(500, 8, 3, dtype=dtype)
    results = []
    for device in ("cpu", "cuda", "cuda"):
        net, _, _ = pair((8, 17, 3), ("gelu", "softmax"), dtype=dtype, device=device)
        history = net.fit(X, y, optimizer=fastnn.Adam(0.01), epochs=5, batch_size=33)
        results.append((flat(net.get_weights()), history.loss, net.predict(X)))
    for mine, once, again in zip(*results, strict=True):
        assert np.array_equal(once, again)
        assert np.linalg.norm(once - mine) < 100 * LIMITS[dtype] * np.linalg.norm(mine)


def test_a_large_net_in_a_grid(dtype):
    net, twin, weights = pair((300, 513, 10), ("relu", "softmax"), dtype=dtype, device="cuda")
    X, y = data(4097, 300, 10, dtype=dtype)
    value, gradient = net.loss_and_gradient(X, y)
    right, _ = twin.gradients(weights, X, y)
    parts = np.concatenate([gradient[part] for slices in net.parameter_slices for part in slices])
    assert abs(value - twin.objective(weights, X, y)) < 100 * LIMITS[dtype] * abs(value)
    assert np.linalg.norm(parts - flat(right)) < 100 * LIMITS[dtype] * np.linalg.norm(flat(right))


def test_arrays_of_torch_are_used_in_place_on_its_stream():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("a torch without CUDA")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        A, B = torch.randn(200, 300, device="cuda"), torch.randn(300, 100, device="cuda")
        out = torch.full((100, 200), torch.nan, device="cuda")
        cuda.matmul(A, B, None, out.T, stream=stream)
        expected = A.double() @ B.double()
    stream.synchronize()
    assert torch.linalg.norm(out.T - expected) < LIMITS["float32"] * torch.linalg.norm(expected)


def test_arrays_of_cupy_are_used_in_place():
    cupy = pytest.importorskip("cupy")
    Z = cupy.linspace(-3, 3, 100, dtype="float32").reshape(10, 10)
    view = cupy.zeros((20, 20), "float32")[::2, ::-2]
    cuda.activation_forward(kernels.RELU, 0.0, Z, view)
    assert cupy.array_equal(view, cupy.maximum(Z, 0))


def test_no_memory():
    from fastnn.kernels.cuda import launch

    with pytest.raises(MemoryError, match="no memory on the GPU for .* bytes of the test"):
        launch.room_for(1 << 45, np.float32, "the test")


def test_compute_sanitizer_finds_nothing():
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("no compute-sanitizer")
    code = """
import numpy as np
import fastnn

X = np.random.default_rng(0).normal(size=(70, 5))
net = fastnn.Sequential([fastnn.Dense(9, "silu"), fastnn.Dense(1, "sigmoid")], device="cuda")
net.fit(X, X[:, 0] > 0, epochs=3, batch_size=33)
net.predict(X)
"""
    for tool in ("memcheck", "racecheck"):
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ)
        if "not supported" in done.stdout + done.stderr:
            pytest.skip("compute-sanitizer cannot look at this GPU")
        assert done.returncode == 0, done.stdout + done.stderr
