"""One dense layer, forward and backward, against the reference: sizes, strides, scratch, without dX."""

import numpy as np
import pytest
import reference
from arrays import DTYPES, LAYOUTS, Placed, blank, normal
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from reference import ACTIVATIONS, NEEDS_Z
from tolerance import assert_close

from fastnn import kernels
from fastnn.kernels import cpu

ALL = (*ACTIVATIONS, "softmax")
PARAM = {"leaky_relu": 0.2, "elu": 1.5}
SIZES = st.one_of(st.integers(1, 70), st.sampled_from([8, 15, 16, 17, 32, 33, 47, 48, 49]))


@njit
def compiled_forward(X, W, b, activation, param, work, Z, A):
    cpu.dense_forward(X, W, b, activation, param, work, Z, A)


@njit
def compiled_backward(dA, Z, A, X, W, activation, param, work, dX, dW, db):
    cpu.dense_backward(dA, Z, A, X, W, activation, param, work, dX, dW, db)


def code_and_param(name):
    return getattr(kernels, name.upper()), PARAM.get(name, 0.0)


def scratch(m, n_in, n_out, dtype, sized):
    """Enough for the layer's three products, or nothing."""
    sizes = [cpu.work_size(m, n_out, n_in), cpu.work_size(m, n_in, n_out), cpu.work_size(n_out, n_in, m)]
    return np.full(max(sizes) if sized else 0, np.nan, dtype=dtype)


def layer(m, n_in, n_out, dtype):
    """X, W, b and dA, scaled so that Z is of order one."""
    X, W = normal(1, m, n_in, dtype=dtype), normal(2, n_out, n_in, scale=n_in**-0.5, dtype=dtype)
    return X, W, normal(3, n_out, dtype=dtype), normal(4, m, n_out, dtype=dtype)


def check(name, m, n_in, n_out, dtype, layouts, sized, want_dX=True):
    code, param = code_and_param(name)
    values = layer(m, n_in, n_out, dtype)
    X, W, b, dA = (Placed(v, dtype, layout) for v, layout in zip(values, layouts, strict=False))
    Z, A = blank((m, n_out), dtype, layouts[4]), blank((m, n_out), dtype, layouts[5])
    work = scratch(m, n_in, n_out, dtype, sized)
    cpu.dense_forward(X.array, W.array, b.array, code, param, work, Z.array, A.array)
    z, a = reference.dense_forward(*values[:3], name, param)
    assert_close(Z.array, z, "sum", what=f"Z of {name}")
    assert_close(A.array, a, "sum", what=f"A of {name}")

    # judged on the Z that the kernel found: at a kink, another rounding is another derivative
    expected = reference.dense_backward(values[3], Z.array, values[0], values[1], name, param)
    dX = blank((m, n_in) if want_dX else (0, 0), dtype, layouts[6])
    dW, db = blank((n_out, n_in), dtype, layouts[7]), blank((n_out,), dtype, layouts[2])
    work[:] = np.nan
    read, written = [each.array for each in (dA, Z, A, X, W)], [each.array for each in (dX, dW, db)]
    cpu.dense_backward(*read, code, param, work, *written)
    found = (dA, dX, dW, db) if want_dX else (dA, dW, db)
    expected = expected if want_dX else (expected[0], *expected[2:])
    for which, placed, right in zip(("dZ", "dX", "dW", "db"), found, expected, strict=False):
        assert_close(placed.array, right, "sum", what=f"{which} of {name}")
    for placed in (Z, A, dA, dX, dW, db):
        placed.assert_guarded()
    for placed in (X, W, b):
        placed.assert_unchanged()


@given(
    st.sampled_from(ALL),
    *(SIZES, SIZES, SIZES),
    st.sampled_from(DTYPES),
    st.tuples(*[st.sampled_from(LAYOUTS)] * 8),
    *(st.booleans(), st.booleans()),
)
def test_any_size_and_layout(name, m, n_in, n_out, dtype, layouts, sized, want_dX):
    check(name, m, n_in, n_out, dtype, layouts, sized, want_dX)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout(layout, sized, dtype):
    check("tanh", 37, 23, 19, dtype, [layout] * 8, sized)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("shape", [(1, 300, 1), (400, 2, 4), (209, 1000, 20), (130, 65, 257), (1, 1, 90)])
def test_sizes_beyond_any_block(shape, sized, dtype):
    check("sigmoid", *shape, dtype, ["C"] * 8, sized)


@pytest.mark.parametrize("name", ALL)
def test_from_python(name, dtype):
    code, param = code_and_param(name)
    for m, n_in, n_out in [(1, 1, 1), (5, 3, 18), (67, 33, 29)]:
        X, W, b, dA = layer(m, n_in, n_out, dtype)
        slope, work = dA.copy(), scratch(m, n_in, n_out, dtype, True)
        Z, A = np.full_like(dA, np.nan), np.full_like(dA, np.nan)
        cpu.dense_forward(X, W, b, code, param, work, Z, A)
        for found, right in zip((Z, A), reference.dense_forward(X, W, b, name, param), strict=True):
            assert_close(found, right, "sum")
        dX, dW, db = (np.full_like(v, np.nan) for v in (X, W, b))
        cpu.dense_backward(dA, Z, A, X, W, code, param, work, dX, dW, db)
        expected = reference.dense_backward(slope, Z, X, W, name, param)
        for found, right in zip((dA, dX, dW, db), expected, strict=True):
            assert_close(found, right, "sum")


@pytest.mark.parametrize(
    "backward",
    [
        pytest.param(cpu.dense_backward, id="forward"),
        pytest.param(compiled_backward, id="both", marks=pytest.mark.slow),
    ],
)
def test_from_compiled_code(backward):
    X, W, b, dA = layer(17, 9, 20, "float32")
    slope, work = dA.copy(), scratch(17, 9, 20, "float32", True)
    Z, A, dX, dW, db = (np.full_like(each, np.nan) for each in (dA, dA, X, W, b))
    compiled_forward(X, W, b, kernels.SILU, 0.0, work, Z, A)
    backward(dA, Z, A, X, W, kernels.SILU, 0.0, work, dX, dW, db)
    right = *reference.dense_forward(X, W, b, "silu"), *reference.dense_backward(slope, Z, X, W, "silu")
    for found, expected in zip((Z, A, dA, dX, dW, db), right, strict=True):
        assert_close(found, expected, "sum")


def test_from_python_with_strides():
    code, param = code_and_param("gelu")
    values, name = layer(11, 6, 13, "float32"), "gelu"
    X, W, b, dA = (Placed(v, "float32", "sliced") for v in values)
    Z, A, dX, dW = (blank(shape, "float32", "sliced") for shape in ((11, 13), (11, 13), (11, 6), (13, 6)))
    db, work = blank((13,), "float32", "sliced"), np.empty(0, np.float32)
    cpu.dense_forward(X.array, W.array, b.array, code, param, work, Z.array, A.array)
    args = (dA.array, Z.array, A.array, X.array, W.array, code, param, work, dX.array, dW.array, db.array)
    cpu.dense_backward(*args)
    expected = reference.dense_backward(values[3], Z.array, values[0], values[1], name)
    for placed, right in zip((dA, dX, dW, db), expected, strict=True):
        assert_close(placed.array, right, "sum")
        placed.assert_guarded()


def test_from_python_with_read_only_inputs():
    X, W, b, dA = layer(9, 4, 7, "float64")
    slope, work = dA.copy(), np.empty(0)
    Z, A = np.empty_like(dA), np.empty_like(dA)
    X.flags.writeable = W.flags.writeable = b.flags.writeable = False
    cpu.dense_forward(X, W, b, kernels.RELU, 0.0, work, Z, A)
    assert_close(A, reference.dense_forward(X, W, b, "relu")[1], "sum")
    dX, dW, db = np.empty((9, 4)), np.empty((7, 4)), np.empty(7)
    cpu.dense_backward(dA, Z, A, X, W, kernels.RELU, 0.0, work, dX, dW, db)
    for found, right in zip((dA, dX, dW, db), reference.dense_backward(slope, Z, X, W, "relu"), strict=True):
        assert_close(found, right, "sum")


@pytest.mark.parametrize("name", [name for name in ALL if name not in NEEDS_Z])
def test_one_array_for_Z_and_A(name, dtype):
    code, param = code_and_param(name)
    m, n_in, n_out = 33, 17, 21
    X, W, b, dA = layer(m, n_in, n_out, dtype)
    slope, work = dA.copy(), scratch(m, n_in, n_out, dtype, True)
    A = np.full((m, n_out), np.nan, dtype)
    cpu.dense_forward(X, W, b, code, param, work, A, A)
    Z, a = reference.dense_forward(X, W, b, name, param)
    assert_close(A, a, "sum")
    dX, dW, db = (np.full_like(v, np.nan) for v in (X, W, b))
    cpu.dense_backward(dA, A, A, X, W, code, param, work, dX, dW, db)
    for found, right in zip((dA, dX, dW, db), reference.dense_backward(slope, Z, X, W, name, param), strict=True):
        assert_close(found, right, "sum")


@pytest.mark.parametrize("sized", [False, True])
def test_without_dX_the_rest_is_the_same_bit_for_bit(sized, dtype):
    m, n_in, n_out = 29, 35, 18
    X, W, b, dA = layer(m, n_in, n_out, dtype)
    Z, A = np.empty_like(dA), np.empty_like(dA)
    cpu.dense_forward(X, W, b, kernels.TANH, 0.0, scratch(m, n_in, n_out, dtype, sized), Z, A)
    results = []
    for shape in ((m, n_in), (0, 0)):
        slope, dW, db = dA.copy(), np.empty_like(W), np.empty_like(b)
        dX, work = np.empty(shape, dtype), scratch(m, n_in, n_out, dtype, sized)
        cpu.dense_backward(slope, Z, A, X, W, kernels.TANH, 0.0, work, dX, dW, db)
        results.append((slope, dW, db))
    for with_dX, without in zip(*results, strict=True):
        assert np.array_equal(with_dX, without)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_central_differences_of_the_kernel(name):
    code, param = code_and_param(name)
    m, n_in, n_out = 4, 3, 5
    X, W, b, dA = layer(m, n_in, n_out, "float64")
    work = np.empty(0)

    def output(X, W, b):
        Z, A = np.empty((m, n_out)), np.empty((m, n_out))
        cpu.dense_forward(X, W, b, code, param, work, Z, A)
        return (A * dA).sum(), Z, A

    _, Z, A = output(X, W, b)
    assert np.abs(Z).min() > 1e-4  # no kink within reach of the step
    dX, dW, db = np.empty_like(X), np.empty_like(W), np.empty_like(b)
    cpu.dense_backward(dA.copy(), Z, A, X, W, code, param, work, dX, dW, db)
    assert_close(dX, reference.central_difference(lambda v: output(v, W, b)[0], X), "difference")
    assert_close(dW, reference.central_difference(lambda v: output(X, v, b)[0], W), "difference")
    assert_close(db, reference.central_difference(lambda v: output(X, W, v)[0], b), "difference")


@pytest.mark.parametrize("sized", [False, True])
def test_nan_in_a_row_of_X_stays_in_that_row(sized, dtype):
    m, n_in, n_out = 20, 9, 18
    X, W, b, _ = layer(m, n_in, n_out, dtype)
    X[7, 3] = np.nan
    Z, A = np.zeros((m, n_out), dtype), np.zeros((m, n_out), dtype)
    cpu.dense_forward(X, W, b, kernels.RELU, 0.0, scratch(m, n_in, n_out, dtype, sized), Z, A)
    assert np.isnan(A[7]).all()
    assert np.isfinite(np.delete(A, 7, axis=0)).all()
