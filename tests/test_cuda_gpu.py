"""Every kernel on a GPU, over sizes from 1 to 4,097, beside float64 twins; `pytest -m cuda`.

In the simulator, where `test_cuda_scripts.py` runs this file, too, the same tests take tiny sizes.
"""

import gpu
import numpy as np
import pytest
import reference
import subprocesses
from arrays import normal
from gpu import SIMULATED, OnGpu, blank
from test_losses import DELTA, KINDS, code_of, name_of, problem
from tolerance import assert_close, assert_near

from fastnn import kernels
from fastnn.kernels import cpu, cuda

pytestmark = pytest.mark.cuda

SHAPES = [(1, 1), (3, 5)] if SIMULATED else [(1, 1), (2, 3), (1, 4097), (4097, 1), (33, 129), (4097, 33), (257, 1000)]
LAYOUTS = ("C", "aligned", "sliced", "F", "reversed", "padded", "reversed_F")
LENGTHS = (1, 11) if SIMULATED else (1, 3, 4, 31, 4097, 1 << 20)
NOTHING = 0.0
PRECISIONS = ("tf32", "bf16")


@pytest.fixture(autouse=True)
def few_threads(monkeypatch):
    if SIMULATED:
        from fastnn.kernels.cuda import launch, losses

        monkeypatch.setattr(launch, "THREADS", 32)
        monkeypatch.setattr(losses, "WARPS", 2)


def code(name):
    return getattr(kernels, name.upper())


def shapes_and_layouts(offset=0):
    """Each shape with three layouts, of which every one has its turn."""
    for i, shape in enumerate(SHAPES):
        yield shape, [LAYOUTS[(i + j + offset) % len(LAYOUTS)] for j in range(3)]


@pytest.mark.parametrize("name", [*reference.ACTIVATIONS, "softmax"])
def test_activations(name, dtype):
    param = reference.DEFAULT_PARAM.get(name, NOTHING)
    for shape, (one, two, three) in shapes_and_layouts(len(name)):
        values, incoming = normal(1, *shape, scale=3.0, dtype=dtype), normal(2, *shape, dtype=dtype)
        Z, dA, A = OnGpu(values, dtype, one), OnGpu(incoming, dtype, two), blank(shape, dtype, three)
        cuda.activation_forward(code(name), param, Z, A)
        assert_near(A.read(), reference.activation(name, values, param), "pointwise", what=f"{name} {shape}")
        cuda.activation_backward(code(name), param, dA, Z, A, dA)
        expected = reference.activation_backward(name, incoming, values, param)
        assert_close(dA.read(), expected, "slope", what=f"{name} {shape}")
        Z.assert_unchanged()


@pytest.mark.parametrize("kind", KINDS)
def test_losses(kind, dtype):
    from fastnn.kernels.cuda.losses import RESULT

    for i, ((m, k), (one, two, three)) in enumerate(shapes_and_layouts(len(kind))):
        if k == 1 and name_of(kind) == "cross_entropy":  # of one class there is nothing to learn
            continue
        values = problem(kind, m, k, dtype, i % 2 == 1)
        Z, y, w = (OnGpu(v, dtype, layout) for v, layout in zip(values, (one, two, "C"), strict=True))
        w = w if i % 2 else None
        dZ, result = blank(values[0].shape, dtype, three), blank((RESULT,), dtype)
        cuda.loss_backward(code_of(kind), DELTA, Z, y, w, dZ, result)
        loss = reference.loss_forward(name_of(kind), *values, DELTA)
        assert_near(result.read()[0], loss, "sum", dtype, f"{kind} {(m, k)}")
        assert_near(dZ.read(), reference.loss_backward(name_of(kind), *values, DELTA), "sum", what=f"{kind} {(m, k)}")
        alone = blank((RESULT,), dtype)
        cuda.loss_forward(code_of(kind), DELTA, Z, y, w, alone)
        assert alone.read()[0] == result.read()[0]


UPDATES = {
    "sgd": ("sgd_update", reference.sgd, 0, (0.1, 0.01)),
    "momentum": ("momentum_update", reference.momentum, 1, (0.1, 0.9, False, 0.01)),
    "nesterov": ("momentum_update", reference.momentum, 1, (0.1, 0.9, True, 0.0)),
    "rmsprop": ("rmsprop_update", reference.rmsprop, 2, (0.1, 0.99, 1e-6, 0.5, 0.01)),
    "adagrad": ("adagrad_update", reference.adagrad, 1, (0.1, 1e-8, 0.2, 0.01, 3)),
    "adam": ("adam_update", reference.adam, 2, (0.1, 0.9, 0.999, 1e-8, 0.01, 0.02, 3)),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates(name, dtype):
    update, expected, states, settings = UPDATES[name]
    for n in LENGTHS:
        for layout in ("aligned", "C", "reversed"):
            values = [abs(normal(i, n, dtype=dtype)) for i in range(2 + states)]
            vectors = [OnGpu(v, dtype, layout) for v in values]
            right = expected(*values, *settings)
            getattr(cuda, update)(*vectors, *settings)
            for vector, result in zip([vectors[0], *vectors[2:]], right if states else [right], strict=True):
                assert_near(vector.read(), result, "sum", what=f"{name} {n} {layout}")
            vectors[1].assert_unchanged()


def test_permutations_are_those_of_the_cpu():
    for rows in (1, 2, 33) if SIMULATED else (1, 2, 3, 4096, 4097, 1_000_003):
        here = np.empty(rows, np.int64)
        cpu.rng.permutation(7, 3, here)
        there = OnGpu(np.zeros(rows, np.int64), "float64")  # of eight bytes, as an int64 is
        there.__cuda_array_interface__["typestr"] = "<i8"
        cuda.permutation(7, 3, there)
        assert np.array_equal(here, there.read().view(np.int64))


def test_masks_of_dropout_are_those_of_the_cpu(dtype):
    for shape, (one, two, _) in shapes_and_layouts():
        values = normal(1, *shape, dtype=dtype)
        A, out = OnGpu(values, dtype, one), blank(shape, dtype, two)
        cuda.dropout(0.3, 5, 2, 1, 7, A, out)
        mask = reference.dropout_mask(0.3, 5, 2, 1, 7, *shape)
        assert np.array_equal(out.read() == 0.0, mask == 0.0)
        if mask.any():
            assert_near(out.read(), values * mask, "pointwise", what=str(shape))


# sizes and layouts that bring every way of fetching, and every kernel of products, into play
PRODUCTS = [
    (1, 1, 1, "C", "C"),
    (9, 20, 8, "aligned", "aligned"),
    (12, 18, 24, "aligned", "aligned_F"),
    (12, 10, 24, "aligned", "aligned_F"),
    (6, 2, 7, "F", "sliced"),
    (3, 12, 40, "aligned_F", "aligned"),
]
LARGE_PRODUCTS = [
    (1, 4097, 3, "C", "sliced"),
    (4097, 1, 4097, "C", "F"),
    (4097, 8, 1024, "aligned", "aligned_F"),
    (8, 4096, 4097, "F", "aligned"),
    (1, 1, 4097, "C", "C"),
    (2, 3, 4096, "F", "C"),
    (7, 33, 129, "reversed", "padded"),
    (127, 65, 63, "C", "C"),
    (128, 64, 64, "aligned", "aligned"),
    (1000, 513, 257, "sliced", "reversed_F"),
    (2048, 2048, 16, "aligned", "aligned"),
    (512, 16, 1024, "aligned", "aligned_F"),
    (512, 1000, 1028, "aligned", "aligned"),
    (2000, 2040, 516, "aligned", "aligned_F"),
    (1024, 1024, 1024, "aligned", "aligned_F"),
    (1024, 1024, 1024, "aligned_F", "aligned"),
    (64, 64, 4096, "aligned_F", "aligned"),
    (4096, 4096, 4096, "aligned", "aligned"),
    (4097, 4097, 4097, "C", "C"),
]


@pytest.mark.parametrize("m,n,k,layout_a,layout_b", PRODUCTS if SIMULATED else PRODUCTS + LARGE_PRODUCTS)
def test_matmul(m, n, k, layout_a, layout_b, dtype):
    a, b = normal(1, m, k, dtype=dtype), normal(2, k, n, dtype=dtype)
    A, B = OnGpu(a, dtype, layout_a), OnGpu(b, dtype, layout_b)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for work in (None, blank((cuda.work_size(m, n, k),), dtype, "aligned")):
        for layout in ("aligned", "padded"):
            out = blank((m, n), dtype, layout)
            cuda.matmul(A, B, work, out)
            assert_near(out.read(), expected, "sum", what=f"{(m, n, k)} {layout_a} {layout_b} to {layout}")
    A.assert_unchanged()
    B.assert_unchanged()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("m,n,k,layout_a,layout_b", PRODUCTS[1:3] if SIMULATED else PRODUCTS + LARGE_PRODUCTS)
def test_matmul_by_tensor_cores(m, n, k, layout_a, layout_b, precision):
    a, b = normal(1, m, k, dtype="float32"), normal(2, k, n, dtype="float32")
    A, B, what = OnGpu(a, "float32", layout_a), OnGpu(b, "float32", layout_b), f"{(m, n, k)} {layout_a} {layout_b}"
    exact, few = a.astype(np.float64) @ b.astype(np.float64), min(m, n) <= 8  # rows or columns stay in float32
    a, b = (v.astype(np.float64) if few else reference.rounded(v, precision) for v in (a, b))
    rounded = a @ b
    for size in {cuda.work_size(m, n, k), cuda.work_size(m, n, k, precision)}:  # with the second, wgmma may be used
        out = blank((m, n), "float32", "padded")
        cuda.matmul(A, B, blank((size,), "float32", "aligned"), out, precision=precision)
        assert_near(out.read(), exact, precision, what=what)
        assert_near(out.read(), rounded, "sum" if few else "tensor", what=what)
    A.assert_unchanged()
    B.assert_unchanged()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "m,n_in,n_out", [(9, 12, 10)] if SIMULATED else [(257, 129, 65), (4097, 784, 128), (4096,) * 3]
)
def test_dense_by_tensor_cores(m, n_in, n_out, precision):
    x, w, b, incoming = (
        normal(i, *s, dtype="float32") for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,), (m, n_out)))
    )
    w /= np.sqrt(n_in).astype(np.float32)
    X, W, bias, dA = (OnGpu(v, "float32", "aligned") for v in (x, w, b, incoming))
    work = blank((cuda.work_size(m, n_in, n_out, precision),), "float32", "aligned")
    dX, dW = blank(x.shape, "float32", "aligned"), blank(w.shape, "float32", "aligned")
    Z, A, db = blank((m, n_out), "float32", "aligned"), blank((m, n_out), "float32"), blank(b.shape, "float32")
    cuda.dense_forward(X, W, bias, kernels.SILU, NOTHING, work, Z, A, precision=precision)
    x, w, z = reference.rounded(x, precision), reference.rounded(w, precision), Z.read().copy()
    assert_near(z, x @ w.T + b, "tensor", what=precision)
    assert_near(A.read(), reference.activation("silu", z), "pointwise", what=precision)
    cuda.dense_backward(dA, Z, A, X, W, kernels.SILU, NOTHING, work, dX, dW, db, precision=precision)
    dz = dA.read()
    assert_near(db.read(), dz.astype(np.float64).sum(axis=0), "sum", what=precision)
    dz = reference.rounded(dz, precision)
    assert_near(dX.read(), dz @ w, "tensor", what=precision)
    assert_near(dW.read(), dz.T @ x, "tensor", what=precision)


LAYERS = [(3, 5, 12), (5, 4, 3)]
LARGE_LAYERS = [
    (1, 1, 1),
    (1, 4097, 10),
    (4097, 10, 1),
    (257, 129, 65),
    (32, 784, 128),
    (4097, 64, 64),
    (1000, 1024, 512),
]


@pytest.mark.parametrize("name", ["linear", "relu", "gelu", "softmax"])
@pytest.mark.parametrize("m,n_in,n_out", LAYERS if SIMULATED else LARGE_LAYERS)
def test_dense(name, m, n_in, n_out, dtype):
    if name == "softmax" and n_out == 1:
        n_out = 2
    x, w, b = (normal(i, *s, dtype=dtype) for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,))))
    w /= np.sqrt(n_in).astype(dtype)
    param, what = reference.DEFAULT_PARAM.get(name, NOTHING), f"{name} {(m, n_in, n_out)}"
    X, W, bias = OnGpu(x, dtype, "aligned"), OnGpu(w, dtype, "aligned"), OnGpu(b, dtype)
    Z, A = blank((m, n_out), dtype, "aligned"), blank((m, n_out), dtype, "padded")
    cuda.dense_forward(X, W, bias, code(name), param, None, Z, A)
    right_Z, right_A = reference.dense_forward(x, w, b, name, param)
    assert_near(Z.read(), right_Z, "sum", what=what)
    assert_near(A.read(), right_A, "sum", what=what)
    incoming = normal(5, m, n_out, dtype=dtype)
    dA, work = OnGpu(incoming, dtype, "aligned"), blank((cuda.work_size(m, n_in, n_out),), dtype, "aligned")
    dX, dW, db = blank(x.shape, dtype, "padded"), blank(w.shape, dtype, "aligned"), blank(b.shape, dtype)
    z = Z.read().copy()  # as rounded: by a kink, a unit in the last place may change the slope
    right = reference.dense_backward(incoming, z, x, w, name, param)
    cuda.dense_backward(dA, Z, A, X, W, code(name), param, work, dX, dW, db)
    for result, expected in zip((dA, dX, dW, db), right, strict=True):
        assert_near(result.read(), expected, "sum", what=what)


@pytest.mark.parametrize("name", ["tanh", "silu"])
def test_input_gradient_takes_the_slope_of_the_layer_before(name, dtype):
    for m, n_in, n_out in (
        ((5, 10, 12),) if SIMULATED else ((1, 1, 1), (257, 129, 65), (4097, 256, 10), (512, 1024, 1024))
    ):
        delta, w, z = (normal(i, *s, dtype=dtype) for i, s in enumerate(((m, n_out), (n_out, n_in), (m, n_in))))
        a = reference.activation(name, z).astype(dtype)
        dZ, W, Z, A = (OnGpu(v, dtype, "aligned") for v in (delta, w, z, a))
        dX = blank((m, n_in), dtype, "aligned")
        cuda.input_gradient(dZ, W, code(name), NOTHING, Z, A, dX)
        expected = reference.activation_backward(name, delta.astype(np.float64) @ w, z)
        assert_near(dX.read(), expected, "sum", what=f"{name} {(m, n_in, n_out)}")


def test_weight_gradients_of_long_batches(dtype):
    for m, n_in, n_out in ((37, 12, 9),) if SIMULATED else ((4097, 33, 65), (4097, 784, 10), (65_536, 64, 64)):
        delta, x = normal(1, m, n_out, dtype=dtype), normal(2, m, n_in, dtype=dtype)
        dZ, X = OnGpu(delta, dtype, "aligned"), OnGpu(x, dtype, "aligned")
        for work in (None, blank((cuda.work_size(m, n_in, n_out),), dtype, "aligned")):
            dW, db = blank((n_out, n_in), dtype, "aligned"), blank((n_out,), dtype)
            cuda.weight_gradient(dZ, X, work, dW, db)
            what = f"{(m, n_in, n_out)} {'without' if work is None else 'with'} work"
            assert_near(dW.read(), delta.astype(np.float64).T @ x, "sum", what=what)
            assert_near(db.read(), delta.astype(np.float64).sum(axis=0), "sum", what=what)


@pytest.mark.parametrize(
    "dtype,precision", [("float64", "float32"), *(("float32", p) for p in ("float32", *PRECISIONS))]
)
def test_the_same_bits_again_and_again(dtype, precision):
    """What is summed in many blocks, on a device that is busy or not."""
    from fastnn.kernels.cuda.losses import RESULT

    m, n_in, n_out, times = (19, 12, 9, 2) if SIMULATED else (4097, 1000, 33, 20)
    x, w, b, delta = (
        normal(i, *s, dtype=dtype) for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,), (m, n_out)))
    )
    X, W, bias, dZ = (OnGpu(v, dtype, "aligned") for v in (x, w, b, delta))
    found = []
    for _ in range(times):
        work = blank((cuda.work_size(m, n_in, n_out),), dtype, "aligned")
        A, dX, dW = blank((m, n_out), dtype), blank((m, n_in), dtype), blank((n_out, n_in), dtype, "aligned")
        db, slope, result = blank((n_out,), dtype), blank((m, n_out), dtype), blank((RESULT,), dtype)
        cuda.dense_forward(X, W, bias, kernels.TANH, NOTHING, None, A, A, precision=precision)
        cuda.loss_backward(kernels.MSE, NOTHING, A, dZ, None, slope, result)
        cuda.weight_gradient(dZ, X, work, dW, db, precision=precision)
        cuda.input_gradient(dZ, W, kernels.LINEAR, NOTHING, None, None, dX, precision=precision)
        found.append([array.read().tobytes() for array in (A, slope, dW, db, dX)] + [result.read()[0]])
    assert all(each == found[0] for each in found)


def test_nan_and_infinity_travel_through():
    n = 9 if SIMULATED else 1025
    z = np.ones((n, n), np.float32)
    z[0, 0], z[1, 1] = np.nan, np.inf
    Z, ones, out = OnGpu(z, "float32"), OnGpu(np.ones((n, n)), "float32", "aligned"), blank((n, n), "float32")
    for precision in ("float32", *PRECISIONS):
        cuda.matmul(Z, ones, None, out, precision=precision)
        result = out.read()
        assert np.isnan(result[0]).all() and (result[1] == np.inf).all() and (result[2:] == n).all(), precision
    cuda.activation_forward(kernels.RELU, NOTHING, Z, out)
    assert np.isnan(out.read()[0, 0]) and out.read()[1, 1] == np.inf


@pytest.mark.filterwarnings("ignore:.*overflow:RuntimeWarning")  # the simulator's, of numbers that wrap around
def test_device_functions_in_a_kernel_of_the_user(dtype):
    from cuda_user import silu_and_order
    from numba import cuda as numba_cuda

    z = normal(1, 7 if SIMULATED else 4097, dtype=dtype)
    a, by, order = np.full_like(z, np.nan), np.full_like(z, np.nan), np.empty(z.size, np.int64)
    blocks, threads = (1, 32) if SIMULATED else (256, 32)
    there = [numba_cuda.to_device(array) for array in (z, a, by, order)]
    silu_and_order(dtype)[blocks, threads](*there)
    _, a, by, order = (array.copy_to_host() for array in there)
    assert_near(a, reference.activation("silu", z), "pointwise")
    assert_close(by, reference.activation_derivative("silu", z), "slope")
    here = np.empty(z.size, np.int64)
    cpu.rng.permutation(7, 3, here)
    assert np.array_equal(order, here)


def test_every_name_is_a_kernel_whichever_is_used_first():
    code = """
from fastnn.kernels import cuda
assert all(callable(getattr(cuda, name)) for name in cuda.__all__)
"""
    subprocesses.python(code)


PROCESS = """
from unittest import mock
import numpy as np
from numba.cuda import dispatcher
import fastnn
X = np.linspace(-1.0, 1.0, 60).reshape(20, 3)
with mock.patch.object(dispatcher, "compile_cuda", wraps=dispatcher.compile_cuda) as compile_cuda:
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1)], device="cuda", seed=0)
    net.fit(X, X[:, 0], optimizer=fastnn.Adam(), epochs=3, batch_size=8)
    print(compile_cuda.call_count, np.asarray(net.parameters).tobytes().hex())
"""


@pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing")
def test_a_second_process_compiles_nothing(tmp_path):
    first, second = (subprocesses.python(PROCESS, FASTNN_CACHE_DIR=tmp_path).split() for _ in range(2))
    assert int(first[0]) > 0 and second[0] == "0"
    assert first[1] == second[1]


def test_what_runs_here_is_checked():
    """The tests above rest on it: a wrong element, and NaN, are found."""
    right = normal(1, 100, 100)
    wrong = right.copy()
    wrong[3, 3] = np.nan
    with pytest.raises(AssertionError, match="nan of the norm"):
        assert_near(wrong, right, "sum")
    wrong[3, 3] = right[3, 3] + 1e-3
    with pytest.raises(AssertionError, match="of the norm, above 1e-13"):
        assert_near(wrong, right, "sum")
    out = gpu.blank((3, 3), "float32")
    canvas = out.placed.canvas.copy()
    canvas[0] = 1.0
    if SIMULATED:
        out.memory[0] = 1.0
    else:
        out.memory.copy_to_device(canvas)
    with pytest.raises(AssertionError, match="wrote outside"):
        out.read()
