"""Each activation and its derivative against the reference: sizes, strides, extremes, NaN and infinity."""

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
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([15, 16, 17, 31, 32, 33, 47, 48, 49, 65]))
INF, NAN = np.inf, np.nan
# values at -inf and +inf, where the formula has a limit that every step of it keeps
AT_INFINITY = {
    "linear": (-INF, INF),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, INF),
    "leaky_relu": (-INF, INF),
    "elu": (-1.5, INF),
    "softplus": (0.0, INF),
}


@njit
def compiled_both(code, param, dA, Z, A, dZ):
    cpu.activation_forward(code, param, Z, A)
    cpu.activation_backward(code, param, dA, Z, A, dZ)


def code_and_param(name):
    return getattr(kernels, name.upper()), PARAM.get(name, 0.0)


def spread(seed, *shape, dtype):
    """Normal values with some far ones, a zero and a negative zero."""
    Z = normal(seed, *shape, scale=2.0, dtype=dtype)
    flat = Z.reshape(-1)
    for i, value in enumerate((0.0, -0.0, 30.0, -30.0, 1000.0, -1000.0)):
        if flat.size > 7 * (i + 1):
            flat[7 * (i + 1)] = value
    return Z


def check(name, m, n, dtype, layouts):
    code, param = code_and_param(name)
    values, slope = spread(m + n, m, n, dtype=dtype), normal(1, m, n, dtype=dtype)
    Z, A = Placed(values, dtype, layouts[0]), blank((m, n), dtype, layouts[1])
    cpu.activation_forward(code, param, Z.array, A.array)
    assert_close(A.array, reference.activation(name, values, param), "pointwise", what=name)
    A.assert_guarded()
    Z.assert_unchanged()

    expected = reference.activation_backward(name, slope, values, param)
    kept = [Z] if name in NEEDS_Z else [Z, A]
    for z in kept:
        dA, dZ = Placed(slope, dtype, layouts[2]), blank((m, n), dtype, layouts[3])
        output = A.canvas.copy()
        cpu.activation_backward(code, param, dA.array, z.array, A.array, dZ.array)
        assert_close(dZ.array, expected, "slope", what=f"derivative of {name}")
        dZ.assert_guarded()
        dA.assert_unchanged()
        Z.assert_unchanged()
        assert np.array_equal(A.canvas, output, equal_nan=True)


@given(
    st.sampled_from(ALL),
    *(SIZES, SIZES),
    st.sampled_from(DTYPES),
    st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
)
def test_any_size_and_layout(name, m, n, dtype, layouts):
    check(name, m, n, dtype, layouts)


@pytest.mark.parametrize("name", ALL)
def test_each_layout(name, dtype):
    for layout in LAYOUTS:
        check(name, 13, 35, dtype, [layout] * 4)


@pytest.mark.parametrize("name", ALL)
def test_from_python(name, dtype):
    code, param = code_and_param(name)
    for m, n in [(1, 1), (3, 17), (50, 33)]:
        Z, dA = spread(5, m, n, dtype=dtype), normal(6, m, n, dtype=dtype)
        A, dZ = np.full_like(Z, NAN), np.full_like(Z, NAN)
        cpu.activation_forward(code, param, Z, A)
        assert_close(A, reference.activation(name, Z, param), "pointwise")
        cpu.activation_backward(code, param, dA, Z, A, dZ)
        assert_close(dZ, reference.activation_backward(name, dA, Z, param), "slope")


def test_from_compiled_code():
    Z, dA = spread(5, 7, 19, dtype="float32"), normal(6, 7, 19, dtype="float32")
    A, dZ = np.full_like(Z, NAN), np.full_like(Z, NAN)
    compiled_both(kernels.GELU, 0.0, dA, Z, A, dZ)
    assert_close(A, reference.activation("gelu", Z), "pointwise")
    assert_close(dZ, reference.activation_backward("gelu", dA, Z), "slope")


def test_from_python_with_strides():
    code, param = code_and_param("elu")
    values = normal(7, 9, 21, dtype="float32")
    Z, A = Placed(values, "float32", "sliced"), blank((9, 21), "float32", "reversed")
    dA, dZ = Placed(values + 1, "float32", "sliced"), blank((9, 21), "float32", "sliced")
    cpu.activation_forward(code, param, Z.array, A.array)
    cpu.activation_backward(code, param, dA.array, Z.array, A.array, dZ.array)
    assert_close(A.array, reference.activation("elu", values, param), "pointwise")
    assert_close(dZ.array, reference.activation_backward("elu", values + 1, values, param), "pointwise")


def test_from_python_with_read_only_inputs():
    code, param = code_and_param("tanh")
    Z, dA = normal(8, 5, 6), normal(9, 5, 6)
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    Z.flags.writeable = dA.flags.writeable = False
    cpu.activation_forward(code, param, Z, A)
    cpu.activation_backward(code, param, dA, Z, A, dZ)
    assert_close(A, np.tanh(Z), "pointwise")
    assert_close(dZ, reference.activation_backward("tanh", dA, Z), "pointwise")


@pytest.mark.parametrize("name", ALL)
def test_in_place(name, dtype):
    code, param = code_and_param(name)
    Z = spread(10, 11, 19, dtype=dtype)
    A = Z.copy()
    cpu.activation_forward(code, param, A, A)
    assert_close(A, reference.activation(name, Z, param), "pointwise")


@pytest.mark.parametrize("name", ALL)
def test_derivative_is_the_central_difference_of_the_kernel(name):
    code, param = code_and_param(name)
    Z, dA = normal(11, 4, 9, scale=2.0), normal(12, 4, 9)
    Z[np.abs(Z) < 1e-3] = 0.5
    A, dZ = np.empty_like(Z), np.empty_like(Z)
    cpu.activation_forward(code, param, Z, A)
    cpu.activation_backward(code, param, dA, Z, A, dZ)

    def output(z):
        out = np.empty_like(z)
        cpu.activation_forward(code, param, z, out)
        return (out * dA).sum()

    assert_close(dZ, reference.central_difference(output, Z), "difference")


@pytest.mark.parametrize("name", ALL)
def test_nan_passes_through_and_stays_in_its_place(name, dtype):
    code, param = code_and_param(name)
    clean = normal(13, 3, 37, dtype=dtype)
    Z = clean.copy()
    Z[1, [0, 20, 36]] = NAN
    A, dZ = np.zeros_like(Z), np.zeros_like(Z)
    cpu.activation_forward(code, param, Z, A)
    expected = reference.activation(name, clean, param)
    expected[1, slice(None) if name == "softmax" else [0, 20, 36]] = NAN
    assert_close(A, expected, "pointwise")

    A, Z, dA = A[::2].copy(), np.abs(clean[::2]) + 0.1, np.ones((2, 37), dtype)
    dA[1, 5] = NAN
    cpu.activation_forward(code, param, Z, A)
    dZ = np.zeros_like(Z)
    cpu.activation_backward(code, param, dA, Z, A, dZ)
    hit = np.isnan(dZ)
    assert not hit[0].any()
    assert hit[1].all() if name == "softmax" else hit[1].nonzero()[0].tolist() == [5]


@pytest.mark.parametrize("name", AT_INFINITY)
def test_infinity(name, dtype):
    code, param = code_and_param(name)
    Z = np.tile(np.array([[-INF, INF, 1.0]], dtype), (1, 11))
    A = np.full_like(Z, NAN)
    cpu.activation_forward(code, param, Z, A)
    at_one = float(reference.activation(name, np.array([1.0]), param)[0])
    assert_close(A, np.tile([[*AT_INFINITY[name], at_one]], (1, 11)), "pointwise")


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_gates_are_open_at_infinity(name, dtype):
    code, param = code_and_param(name)
    Z = np.full((2, 17), INF, dtype)
    A = np.zeros_like(Z)
    cpu.activation_forward(code, param, Z, A)
    assert (A == INF).all()


def test_softmax_gives_nothing_to_minus_infinity(dtype):
    Z = np.array([[-INF, 0.0, 0.0], [1000.0, -1000.0, 1000.0]], dtype)
    A = np.full_like(Z, NAN)
    cpu.activation_forward(kernels.SOFTMAX, 0.0, Z, A)
    assert_close(A, np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]), "pointwise")


def test_codes_are_distinct_integers():
    codes = [getattr(kernels, name.upper()) for name in ALL]
    assert all(isinstance(code, int) for code in codes)
    assert len(set(codes)) == len(codes)
