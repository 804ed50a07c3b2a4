"""Each update rule, several steps in place, against the reference."""

import numpy as np
import pytest
import reference
from arrays import DTYPES, Placed, normal
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from tolerance import assert_close

from fastnn.kernels import cpu

SIZES = st.one_of(st.integers(1, 70), st.sampled_from([15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 1000, 4099]))
LAYOUTS = ("C", "sliced", "reversed")
STEPS = 4
RATE = 0.03
# (kernel, what follows the rate); the step counter of those that have one comes last
CASES = {
    "sgd": ("sgd", (0.0,)),
    "sgd, decay": ("sgd", (0.1,)),
    "momentum": ("momentum", (0.9, False, 0.0)),
    "momentum, decay": ("momentum", (0.8, False, 0.1)),
    "nesterov": ("momentum", (0.9, True, 0.0)),
    "nesterov, decay": ("momentum", (0.7, True, 0.1)),
    "rmsprop": ("rmsprop", (0.99, 1e-8, 0.0, 0.0)),
    "rmsprop, momentum": ("rmsprop", (0.9, 1e-6, 0.5, 0.0)),
    "rmsprop, momentum, decay": ("rmsprop", (0.9, 1e-8, 0.5, 0.1)),
    "adagrad": ("adagrad", (1e-10, 0.0, 0.0)),
    "adagrad, decay": ("adagrad", (1e-6, 0.3, 0.1)),
    "adam": ("adam", (0.9, 0.999, 1e-8, 0.0, 0.0)),
    "adam, decay": ("adam", (0.8, 0.99, 1e-6, 0.1, 0.0)),
    "adamw": ("adam", (0.9, 0.999, 1e-8, 0.0, 0.1)),
}
STATES = {"sgd": 0, "momentum": 1, "rmsprop": 2, "adagrad": 1, "adam": 2}
COUNTED = "adagrad", "adam"


@njit
def compiled_updates(theta, grad, first, second):
    cpu.sgd_update(theta, grad, RATE, 0.1)
    cpu.momentum_update(theta, grad, first, RATE, 0.9, True, 0.1)
    cpu.rmsprop_update(theta, grad, first, second, RATE, 0.9, 1e-8, 0.5, 0.1)
    cpu.adagrad_update(theta, grad, second, RATE, 1e-10, 0.2, 0.1, 3)
    cpu.adam_update(theta, grad, first, second, RATE, 0.9, 0.999, 1e-8, 0.1, 0.1, 3)


UPDATES = {
    "sgd": cpu.sgd_update,
    "momentum": cpu.momentum_update,
    "rmsprop": cpu.rmsprop_update,
    "adagrad": cpu.adagrad_update,
    "adam": cpu.adam_update,
}


def check(case, size, dtype, layouts):
    kind, settings = CASES[case]
    theta = Placed(normal(0, size, dtype=dtype), dtype, layouts[0])
    states = [Placed(np.zeros(size), dtype, layout) for layout in layouts[2 : 2 + STATES[kind]]]
    right = [theta.array.astype(np.float64), *(np.zeros(size) for _ in states)]
    for step in range(1, STEPS + 1):
        grad = Placed(normal(step, size, dtype=dtype), dtype, layouts[1])
        counter = (step,) if kind in COUNTED else ()
        passed = [each.array for each in (theta, grad, *states)]
        assert UPDATES[kind](*passed, RATE, *settings, *counter) is None
        answer = getattr(reference, kind)(right[0], grad.array, *right[1:], RATE, *settings, *counter)
        right = list(answer) if isinstance(answer, tuple) else [answer]
        grad.assert_unchanged()
    if case == "rmsprop":  # without momentum its velocity means nothing
        states, right = states[:1], right[:2]
    for placed, expected in zip((theta, *states), right, strict=True):
        placed.assert_guarded()
        assert_close(placed.array, expected, "pointwise", what=case)


@given(
    st.sampled_from(list(CASES)),
    SIZES,
    st.sampled_from(DTYPES),
    st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
)
def test_any_size_and_stride(case, size, dtype, layouts):
    check(case, size, dtype, layouts)


@pytest.mark.parametrize("case", CASES)
def test_from_python(case, dtype):
    for size in (1, 17, 203):
        check(case, size, dtype, ["C"] * 4)


def test_from_compiled_code(dtype):
    here, there = ([abs(normal(i, 21, dtype=dtype)) for i in range(4)] for _ in range(2))
    compiled_updates(*here)
    getattr(compiled_updates, "py_func", compiled_updates)(*there)
    for one, other in zip(here, there, strict=True):
        assert_close(one, other, "pointwise")


@pytest.mark.parametrize("case", ["sgd, decay", "nesterov, decay", "rmsprop, momentum, decay", "adamw"])
def test_from_python_with_strides(case):
    check(case, 37, "float32", ["sliced"] * 4)


@pytest.mark.parametrize("case", ["sgd", "momentum", "rmsprop, momentum", "adagrad", "adam"])
def test_from_python_with_a_read_only_gradient(case):
    kind, settings = CASES[case]
    theta, grad, states = np.ones(20), normal(1, 20), [np.zeros(20) for _ in range(STATES[kind])]
    expected = getattr(reference, kind)(theta, grad, *states, RATE, *settings, *((1,) if kind in COUNTED else ()))
    grad.flags.writeable = False
    UPDATES[kind](theta, grad, *states, RATE, *settings, *((1,) if kind in COUNTED else ()))
    assert_close(theta, expected[0] if isinstance(expected, tuple) else expected, "pointwise")


@pytest.mark.parametrize("case", CASES)
def test_nan_stays_in_its_place_and_shows(case, dtype):
    kind, settings = CASES[case]
    theta, grad = np.ones(40, dtype), np.full(40, 0.5, dtype)
    grad[33] = np.nan
    states = [np.zeros(40, dtype) for _ in range(STATES[kind])]
    UPDATES[kind](theta, grad, *states, RATE, *settings, *((1,) if kind in COUNTED else ()))
    assert np.isnan(theta).nonzero()[0].tolist() == [33]


@pytest.mark.parametrize("case", ["rmsprop", "rmsprop, momentum", "adagrad", "adam", "adamw"])
def test_no_gradient_at_all_is_no_division_by_zero(case, dtype):
    kind, settings = CASES[case]
    theta, states = np.ones(40, dtype), [np.zeros(40, dtype) for _ in range(STATES[kind])]
    UPDATES[kind](theta, np.zeros(40, dtype), *states, RATE, *settings, *((1,) if kind in COUNTED else ()))
    decayed = 1.0 - RATE * 0.1 if case == "adamw" else 1.0
    assert_close(theta, np.full(40, decayed), "pointwise")


def test_adam_forgets_its_bias_late_in_a_run(dtype):
    theta, grad = np.zeros(5, dtype), np.ones(5, dtype)
    first, second = np.ones(5, dtype), np.ones(5, dtype)
    cpu.adam_update(theta, grad, first, second, RATE, 0.9, 0.999, 1e-8, 0.0, 0.0, 10_000_000)
    assert_close(theta, np.full(5, -RATE / (1 + 1e-8)), "pointwise")
