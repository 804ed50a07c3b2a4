"""Products by the tensor cores in the simulator; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1.

There, the lanes of a warp exchange their fragments as the PTX manual lays them out. Operands that are rounded before
give what the kernels must give to the last bits; those that are not differ a thousand times as much.
"""

import importlib
from types import SimpleNamespace

import grids
import numpy as np
import pytest
import reference
from arrays import Placed, aligned, blank, normal
from tolerance import assert_close

from fastnn import kernels
from fastnn.kernels import cuda
from fastnn.kernels.cuda import launch, plain, tensor, toolchain

products = importlib.import_module("fastnn.kernels.cuda.matmul")  # whose name in the package is a function
assert toolchain.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"

PRECISIONS = ("tf32", "bf16")


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(launch, "THREADS", 32)
    grids.together(monkeypatch, meet=False)


def rounded_product(a, b, precision):
    """In float64, of operands as the tensor cores get them."""
    return reference.rounded(a, precision) @ reference.rounded(b, precision)


def test_rounding():
    ties = 1.0 + np.arange(-9, 10) * 2.0**-12
    values = np.concatenate([ties, -ties, 1.0 + np.arange(-9, 10) * 2.0**-9, normal(1, 50, scale=1e9), [0.0, 1e-30]])
    for x in values.astype(np.float32):
        assert plain.tf32_of(x).view(np.float32) == reference.rounded(x, "tf32")
        word = plain.bf16_pair(x, np.float32(3.0))
        assert (word << np.uint32(16)).view(np.float32) == reference.rounded(x, "bf16")
        assert (plain.bf16_pair(np.float32(3.0), x) >> np.uint32(16)) == word & np.uint32(0xFFFF)
    for x in (np.float32(np.inf), np.float32(-np.inf), np.float32(np.nan)):
        numbers = plain.tf32_of(x), plain.bf16_pair(np.float32(0.0), x)
        np.testing.assert_array_equal([n.view(np.float32) for n in numbers], [x, x])


# sizes and layouts that bring every way of fetching into play, alone and beside another
SHAPES = [
    (9, 12, 8, "C", "C"),
    (12, 16, 36, "F", "C"),
    (12, 10, 24, "C", "F"),
    (10, 11, 9, "sliced", "reversed"),
    (20, 70, 7, "F", "sliced"),
]


@pytest.mark.parametrize("m,n,k,layout_a,layout_b", SHAPES)
def test_matmul(m, n, k, layout_a, layout_b, precision):
    def placed(seed, rows, columns, layout):
        values = normal(seed, rows, columns, dtype="float32")
        if layout == "F":
            return aligned(values.T.copy()).T
        return aligned(values) if layout == "C" else Placed(values, "float32", layout).array

    A, B, out = placed(1, m, k, layout_a), placed(2, k, n, layout_b), blank((m, n), "float32", "padded")
    cuda.matmul(A, B, None, out.array, precision=precision)
    assert_close(out.array, rounded_product(A, B, precision), "tensor", what=precision)
    out.assert_guarded()


@pytest.mark.parametrize("tile,m,n", [(128, 66, 68), (64, 12, 20)])
def test_large_tiles_and_parts(tile, m, n, precision, monkeypatch):
    """A sum cut into parts, in tiles of both sizes, with the sums of the rows, which are not rounded."""
    monkeypatch.setattr(products, "tile_of", lambda *given: tile)
    monkeypatch.setattr(products, "parts_of", lambda *given: 1 if tile == 128 else 4)
    dZ, X = (aligned(normal(i, 37, size, dtype="float32")) for i, size in enumerate((m, n)))
    dW, db = np.full((m, n), np.nan, np.float32), np.full(m, np.nan, np.float32)
    work = aligned(np.full(cuda.work_size(37, m, n) + 4, np.nan, np.float32))
    cuda.weight_gradient(dZ, X, work, dW, db, precision=precision)
    assert_close(dW, rounded_product(dZ.T, X, precision), "tensor")
    assert_close(db, dZ.astype(np.float64).sum(axis=0), "sum")


def test_no_thread_reads_what_another_has_yet_to_write(precision):
    dZ, X = aligned(normal(1, 70, 9, dtype="float32")), normal(2, 70, 11, dtype="float32")
    dW, db = np.full((9, 11), np.nan, np.float32), np.full(9, np.nan, np.float32)
    cuda.weight_gradient(dZ, X, None, dW, db, precision=precision)
    assert_close(dW, rounded_product(dZ.T, X, precision), "tensor")
    assert_close(db, dZ.astype(np.float64).sum(axis=0), "sum")


def test_no_two_lanes_meet_in_a_bank():
    """Of shared memory, which serves eight lanes at a time where each takes 128 bits of its 32 banks of 32 bits."""
    for pairs_of_a_lane in (1, 2):  # that reads, and that writes
        starts = [tensor._pair_at(pairs_of_a_lane * (lane >> 2)) + (lane & 3) * 4 for lane in range(32)]
        for step in (0, 16):
            for lane in range(0, 32, 8):
                assert len({(start ^ step) % 32 for start in starts[lane : lane + 8]}) == 8


def test_dense(precision):
    m, n_in, n_out = 11, 20, 9
    X, W, b = (normal(i, *s, dtype="float32") for i, s in enumerate(((m, n_in), (n_out, n_in), (n_out,))))
    Z, A = np.full((2, m, n_out), np.nan, np.float32)
    cuda.dense_forward(X, W, b, kernels.GELU, 0.0, None, Z, A, precision=precision)
    assert_close(Z, rounded_product(X, W.T, precision) + b, "tensor")
    assert_close(A, reference.activation("gelu", Z), "pointwise")
    dA, (dX, dW, db) = normal(5, m, n_out, dtype="float32"), (np.full_like(array, np.nan) for array in (X, W, b))
    dZ = reference.activation_backward("gelu", dA, Z)
    cuda.dense_backward(dA, Z, A, X, W, kernels.GELU, 0.0, None, dX, dW, db, precision=precision)
    assert_close(dA, dZ, "slope")
    assert_close(dX, rounded_product(dA, W, precision), "tensor")
    assert_close(dW, rounded_product(dA.T, X, precision), "tensor")
    assert_close(db, dA.astype(np.float64).sum(axis=0), "sum")


def test_input_gradient_takes_the_slope_of_the_layer_before(precision):
    dZ, W, Z = (normal(i, *s, dtype="float32") for i, s in enumerate(((9, 12), (12, 10), (9, 10))))
    A, dX = reference.activation("silu", Z).astype(np.float32), np.full((9, 10), np.nan, np.float32)
    cuda.input_gradient(dZ, W, kernels.SILU, 0.0, Z, A, dX, precision=precision)
    assert_close(dX, reference.activation_backward("silu", rounded_product(dZ, W, precision), Z), "tensor")


def test_nan_and_infinity_travel_through(precision):
    A = np.ones((9, 5), np.float32)
    A[0, 0], A[1, 1] = np.nan, np.inf
    cuda.matmul(A, np.ones((5, 9), np.float32), None, out := np.empty((9, 9), np.float32), precision=precision)
    assert np.isnan(out[0]).all() and (out[1] == np.inf).all() and (out[2:] == 5.0).all()


def test_few_rows_or_columns_stay_in_float32(precision):
    for m, n in ((8, 9), (9, 8)):
        A, B = normal(1, m, 12, dtype="float32"), normal(2, 12, n, dtype="float32")
        plainly, out = np.empty((2, m, n), np.float32)
        cuda.matmul(A, B, None, plainly)
        cuda.matmul(A, B, None, out, precision=precision)
        assert np.array_equal(plainly, out)


def test_what_is_no_precision_is_refused():
    Z, out = np.zeros((9, 9)), np.zeros((9, 9))
    for given in ("float16", None):
        with pytest.raises(ValueError, match=f"precision must be 'float32', 'tf32' or 'bf16'; got {given!r}"):
            cuda.matmul(Z, Z, None, out, precision=given)
    with pytest.raises(ValueError, match="precision must be 'float32' for float64 arrays; got 'tf32'"):
        cuda.matmul(Z, Z, None, out, precision="tf32")


def test_an_older_gpu_is_refused(precision):
    launch.check_precision(precision, SimpleNamespace(name="new", compute_capability=(8, 0)))
    with pytest.raises(RuntimeError, match=f"precision '{precision}' needs .* 8.0 or more; NVIDIA T4 has 7.5"):
        launch.check_precision(precision, SimpleNamespace(name=b"NVIDIA T4", compute_capability=(7, 5)))
