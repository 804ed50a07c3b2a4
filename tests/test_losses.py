"""Each loss and its gradient against the reference: weights, class indices, strides, extreme logits, NaN."""

import numpy as np
import pytest
import reference
from arrays import DTYPES, LAYOUTS, Placed, blank, normal
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from reference import LOSSES
from tolerance import assert_close

from fastnn import kernels
from fastnn.kernels import cpu

DELTA = 0.8
KINDS = (*LOSSES, "class_indices", "gaussian")
SIZES = st.one_of(st.integers(1, 70), st.sampled_from([15, 16, 17, 32, 33, 48, 49, 300]))
OUTPUTS = st.one_of(st.integers(1, 12), st.sampled_from([16, 17, 31, 32, 33, 48]))


@njit
def compiled_both(code, param, Z, y, w, dZ):
    cpu.loss_backward(code, param, Z, y, w, dZ)
    return cpu.loss_forward(code, param, Z, y, w)


def name_of(kind):
    return "cross_entropy" if kind == "class_indices" else kind


def code_of(kind):
    return getattr(kernels, name_of(kind).upper())


def problem(kind, m, k, dtype, weighted):
    """Z, y and w; y sums to one for cross_entropy, is between 0 and 1 for binary_cross_entropy.

    Z is twice as wide as k, that is as y, for gaussian.
    """
    Z = normal(m, m, 2 * k if kind == "gaussian" else k, scale=2.0, dtype=dtype)
    y = normal(k, m, k, dtype=dtype)
    if kind == "class_indices":
        y = np.random.RandomState(m).randint(0, k, (m, 1)).astype(dtype)
    elif kind == "cross_entropy":
        y = reference.softmax(y).astype(dtype)
    elif kind == "binary_cross_entropy":
        y = reference.sigmoid(y).astype(dtype)
        y[::2] = y[::2] > 0.5
    w = np.random.RandomState(k).uniform(0.1, 3.0, m).astype(dtype) if weighted else np.empty(0, dtype)
    if weighted:
        w[m // 2 + 1 :: 5] = 0.0
    return Z, y, w


def check(kind, m, k, dtype, layouts, weighted):
    values = problem(kind, m, k, dtype, weighted)
    Z, y, w = (Placed(v, dtype, layout) for v, layout in zip(values, layouts, strict=False))
    dZ = blank(values[0].shape, dtype, layouts[3])
    loss = cpu.loss_forward(code_of(kind), DELTA, Z.array, y.array, w.array)
    cpu.loss_backward(code_of(kind), DELTA, Z.array, y.array, w.array, dZ.array)
    assert_close(loss, reference.loss_forward(name_of(kind), *values, DELTA), "sum", dtype, kind)
    assert_close(dZ.array, reference.loss_backward(name_of(kind), *values, DELTA), "pointwise", what=kind)
    dZ.assert_guarded()
    for array in (Z, y, w):
        array.assert_unchanged()


@given(
    st.sampled_from(KINDS),
    *(SIZES, OUTPUTS),
    st.sampled_from(DTYPES),
    st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
    st.booleans(),
)
def test_any_size_and_layout(kind, m, k, dtype, layouts, weighted):
    # one output has one class, and a column of targets is then one of class indices
    check(kind, m, k + (name_of(kind) == "cross_entropy"), dtype, layouts, weighted)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_layout(kind, weighted, dtype):
    for layout in LAYOUTS:
        check(kind, 23, 5, dtype, [layout] * 4, weighted)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_from_python(kind, weighted, dtype):
    for m, k in [(1, 2), (7, 3), (67, 19)]:
        Z, y, w = problem(kind, m, k, dtype, weighted)
        dZ = np.full_like(Z, np.nan)
        loss = cpu.loss_forward(code_of(kind), DELTA, Z, y, w)
        cpu.loss_backward(code_of(kind), DELTA, Z, y, w, dZ)
        assert isinstance(loss, float)
        assert_close(loss, reference.loss_forward(name_of(kind), Z, y, w, DELTA), "sum", dtype)
        assert_close(dZ, reference.loss_backward(name_of(kind), Z, y, w, DELTA), "pointwise")


def test_from_compiled_code():
    Z, y, w = problem("huber", 9, 4, "float32", True)
    loss = compiled_both(kernels.HUBER, DELTA, Z, y, w, dZ := np.full_like(Z, np.nan))
    assert_close(loss, reference.loss_forward("huber", Z, y, w, DELTA), "sum", "float32")
    assert_close(dZ, reference.loss_backward("huber", Z, y, w, DELTA), "pointwise")


def test_from_python_with_strides():
    values = problem("mse", 12, 5, "float32", True)
    Z, y, w = (Placed(v, "float32", "sliced") for v in values)
    dZ = blank((12, 5), "float32", "sliced")
    loss = cpu.loss_forward(kernels.MSE, 0.0, Z.array, y.array, w.array)
    cpu.loss_backward(kernels.MSE, 0.0, Z.array, y.array, w.array, dZ.array)
    assert_close(loss, reference.loss_forward("mse", *values), "sum", "float32")
    assert_close(dZ.array, reference.loss_backward("mse", *values), "pointwise")


def test_from_python_with_read_only_inputs():
    Z, y, w = problem("huber", 6, 3, "float64", True)
    for array in (Z, y, w):
        array.flags.writeable = False
    dZ = np.empty((6, 3))
    assert_close(
        cpu.loss_forward(kernels.HUBER, DELTA, Z, y, w),
        reference.loss_forward("huber", Z, y, w, DELTA),
        "sum",
    )
    cpu.loss_backward(kernels.HUBER, DELTA, Z, y, w, dZ)
    assert_close(dZ, reference.loss_backward("huber", Z, y, w, DELTA), "pointwise")


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_central_difference_of_the_kernel(kind):
    Z, y, w = problem(kind, 5, 4, "float64", True)
    dZ = np.empty_like(Z)
    cpu.loss_backward(code_of(kind), DELTA, Z, y, w, dZ)
    numeric = reference.central_difference(lambda z: cpu.loss_forward(code_of(kind), DELTA, z, y, w), Z)
    assert_close(dZ, numeric, "difference")


def test_cross_entropy_of_rows_that_do_not_sum_to_one(dtype):
    Z, y = normal(1, 6, 4, dtype=dtype), np.abs(normal(2, 6, 4, dtype=dtype))
    no_weights, dZ = np.empty(0, dtype), np.full_like(Z, np.nan)
    loss = cpu.loss_forward(kernels.CROSS_ENTROPY, 0.0, Z, y, no_weights)
    cpu.loss_backward(kernels.CROSS_ENTROPY, 0.0, Z, y, no_weights, dZ)
    assert_close(loss, reference.loss_forward("cross_entropy", Z, y), "sum", dtype)
    assert_close(dZ, reference.loss_backward("cross_entropy", Z, y), "pointwise")


def test_absolute_error_has_no_slope_at_zero(dtype):
    Z = np.array([[1.0, -2.0, 0.0]], dtype)
    dZ = np.full_like(Z, np.nan)
    cpu.loss_backward(kernels.MAE, 0.0, Z, Z.copy(), np.empty(0, dtype), dZ)
    assert np.array_equal(dZ, np.zeros((1, 3)))


def test_extreme_logits_of_binary_cross_entropy(dtype):
    Z = np.array([[1000.0], [-1000.0], [1000.0], [-1000.0]], dtype)
    y = np.array([[1.0], [0.0], [0.0], [1.0]], dtype)
    no_weights, dZ = np.empty(0, dtype), np.full_like(Z, np.nan)
    assert cpu.loss_forward(kernels.BINARY_CROSS_ENTROPY, 0.0, Z, y, no_weights) == 500.0
    cpu.loss_backward(kernels.BINARY_CROSS_ENTROPY, 0.0, Z, y, no_weights, dZ)
    assert_close(dZ, np.array([[0.0], [0.0], [0.25], [-0.25]]), "pointwise")


def test_extreme_logits_of_cross_entropy(dtype):
    Z = np.array([[1000.0, -1000.0, 0.0], [1000.0, -1000.0, 0.0]], dtype)
    y = np.array([[0.0], [1.0]], dtype)
    no_weights, dZ = np.empty(0, dtype), np.full_like(Z, np.nan)
    assert cpu.loss_forward(kernels.CROSS_ENTROPY, 0.0, Z, y, no_weights) == 1000.0
    cpu.loss_backward(kernels.CROSS_ENTROPY, 0.0, Z, y, no_weights, dZ)
    assert_close(dZ, np.array([[0.0, 0.0, 0.0], [0.5, -0.5, 0.0]]), "pointwise")


def test_small_binary_losses_keep_their_digits(dtype):
    # softplus(z) - y z is e^-z here: lost where the log is added before the difference of the large terms
    Z, y = np.array([[12.0]], dtype), np.ones((1, 1), dtype)
    loss = cpu.loss_forward(kernels.BINARY_CROSS_ENTROPY, 0.0, Z, y, np.empty(0, dtype))
    assert loss == pytest.approx(np.log1p(np.exp(-12.0)), rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_shows(kind, value, dtype):
    Z, y, w = problem(kind, 40, 3, dtype, False)
    if kind != "class_indices":
        y[29] = 1.0 / 3.0
    Z[29, 2] = value
    dZ = np.zeros_like(Z)
    assert not np.isfinite(cpu.loss_forward(code_of(kind), DELTA, Z, y, w))
    cpu.loss_backward(code_of(kind), DELTA, Z, y, w, dZ)
    assert np.isfinite(dZ[:29]).all() and np.isfinite(dZ[30:]).all()
    if np.isnan(value):
        assert np.isnan(dZ[29, 2])


def test_the_mean_of_many_rows_does_not_drift():
    # a plain float32 sum of these is wrong in its fourth digit
    m = 1_000_003
    Z, y = np.full((m, 1), 0.1, np.float32), np.zeros((m, 1), np.float32)
    loss = cpu.loss_forward(kernels.MSE, 0.0, Z, y, np.empty(0, np.float32))
    assert loss == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-6)
