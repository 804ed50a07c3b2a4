"""The product of two matrices: any sizes, any strides, with and without scratch, from both callers."""

import itertools

import numpy as np
import pytest
from arrays import DTYPES, LAYOUTS, Placed, blank, normal
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from tolerance import assert_close

from fastnn.kernels import cpu

# one tile, its neighbours, and primes between
SIZES = st.one_of(st.integers(1, 70), st.sampled_from([7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65]))
LARGE = [(1, 700, 3), (700, 1, 5), (3, 2, 1500), (129, 65, 1030), (65, 1030, 67), (300, 257, 513)]


def scratch(m, n, k, dtype, sized):
    """Work space of the asked size full of NaN, or an empty one."""
    return np.full(cpu.work_size(m, n, k) if sized else 0, np.nan, dtype=dtype)


def integers(seed, *shape):
    """Small integers: their products and sums are exact in both dtypes, whatever the order."""
    return np.random.RandomState(seed).randint(-4, 5, shape).astype(np.float64)


def check(m, n, k, dtype, layouts, sized):
    A, B = Placed(integers(m, m, k), dtype, layouts[0]), Placed(integers(n, k, n), dtype, layouts[1])
    out = blank((m, n), dtype, layouts[2])
    cpu.matmul(A.array, B.array, scratch(m, n, k, dtype, sized), out.array)
    np.testing.assert_array_equal(out.array, integers(m, m, k) @ integers(n, k, n))
    out.assert_guarded()
    A.assert_unchanged()
    B.assert_unchanged()


@given(
    *(SIZES, SIZES, SIZES),
    st.sampled_from(DTYPES),
    st.tuples(*[st.sampled_from(LAYOUTS)] * 3),
    st.booleans(),
)
def test_any_size_and_layout_is_exact_on_integers(m, n, k, dtype, layouts, sized):
    check(m, n, k, dtype, layouts, sized)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_operand_in_each_layout(layout, sized, dtype):
    for others in ("C", "F"):
        for place in range(3):
            layouts = [others] * 3
            layouts[place] = layout
            check(37, 53, 29, dtype, layouts, sized)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("shape", LARGE)
def test_sizes_beyond_any_block(shape, sized, dtype):
    check(*shape, dtype, ("C", "C", "C"), sized)
    check(*shape, dtype, ("F", "padded", "reversed"), sized)


@pytest.mark.parametrize("layouts", list(itertools.product(("C", "F", "padded"), ("C", "F"), ("C", "F"))))
def test_operands_that_are_brought_together_block_by_block(layouts, dtype):
    check(801, 803, 702, dtype, layouts, True)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (16, 48, 32), (37, 53, 71), (64, 64, 64), (129, 65, 230)])
def test_from_python(shape, sized, dtype):
    m, n, k = shape
    A, B = normal(1, m, k, dtype=dtype), normal(2, k, n, dtype=dtype)
    out = np.full((m, n), np.nan, dtype=dtype)
    assert cpu.matmul(A, B, scratch(m, n, k, dtype, sized), out) is None
    assert_close(out, A.astype(np.float64) @ B.astype(np.float64), "sum")


@pytest.mark.parametrize("layouts", [("F", "C", "C"), ("C", "F", "C"), ("sliced", "sliced", "sliced")])
def test_from_python_with_strides(layouts):
    m, n, k = 19, 35, 23
    A, B = Placed(integers(1, m, k), "float32", layouts[0]), Placed(integers(2, k, n), "float32", layouts[1])
    out = blank((m, n), "float32", layouts[2])
    cpu.matmul(A.array, B.array, scratch(m, n, k, "float32", True), out.array)
    np.testing.assert_array_equal(out.array, integers(1, m, k) @ integers(2, k, n))
    out.assert_guarded()


def test_from_python_with_read_only_operands():
    A, B = normal(1, 9, 4), normal(2, 4, 17)
    A.flags.writeable = B.flags.writeable = False
    out = np.full((9, 17), np.nan)
    cpu.matmul(A, B, np.empty(0), out)
    assert_close(out, A @ B, "sum")


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_empty_products(shape, dtype):
    m, n, k = shape
    for sized in (False, True):
        out = np.full((m, n), np.nan, dtype=dtype)
        cpu.matmul(np.empty((m, k), dtype), np.empty((k, n), dtype), scratch(m, n, k, dtype, sized), out)
        assert np.array_equal(out, np.zeros((m, n)))


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_reach_their_row_and_column_only(value, sized, dtype):
    m, n, k = 21, 37, 18
    A, B = np.ones((m, k), dtype), np.ones((k, n), dtype)
    A[4, 3], B[17, 36] = value, value
    out = np.zeros((m, n), dtype)
    cpu.matmul(A, B, scratch(m, n, k, dtype, sized), out)
    expected = np.full((m, n), float(k))
    expected[4, :], expected[:, 36] = value, value
    np.testing.assert_array_equal(out, expected)


def test_work_size_is_a_size_and_callable_from_compiled_code():
    @njit
    def compiled_size(m, n, k):
        return cpu.work_size(m, n, k)

    for shape in [(1, 1, 1), (8, 16, 32), (300, 257, 513)]:
        assert compiled_size(*shape) == cpu.work_size(*shape) >= 0
