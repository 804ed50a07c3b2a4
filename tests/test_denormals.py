"""Numbers too small for a full mantissa are zeros inside the loop, and what they were outside it."""

import contextlib

import numpy as np
import pytest
from numba import njit

import fastnn

STEPS = {"float32": 850, "float64": 6750}  # after which 0.9 ** steps / 100 is denormal


def decayed(dtype, threads, units=300):
    """A net whose first moments have decayed: its inputs are zero from the second step on."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 4)).astype(dtype), rng.normal(size=64).astype(dtype)
    net = fastnn.Sequential([fastnn.Dense(units, "relu"), fastnn.Dense(1)], dtype=dtype)
    net.fit(X, y, epochs=1, threads=threads, batch_size=None)
    with pytest.warns(fastnn.DeadUnitsWarning) if units == 3 else contextlib.nullcontext():
        net.fit(np.zeros_like(X), y, epochs=STEPS[dtype], threads=threads, batch_size=None)
    return net


def test_moments_do_not_decay_into_denormals(dtype):
    net = decayed(dtype, 1, 3)
    for moment in net.state.moments:
        assert not ((moment != 0) & (abs(moment) < np.finfo(dtype).tiny)).any()
    assert (net.state.moments[0] != 0).any()  # of the biases


def test_the_same_bits_on_any_number_of_threads():
    nets = [decayed("float32", threads) for threads in (1, 2)]
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert np.array_equal(nets[0].state.moments, nets[1].state.moments)


def is_kept(dtype):
    """Whether this thread makes denormal numbers."""
    return bool((np.full(8, np.finfo(dtype).tiny, dtype) * np.array(0.25, dtype) > 0).all())


@njit
def product_after(net, x, out, a, b):
    before = a * b
    fastnn.apply(net, x, out)
    return before, a * b


@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_arithmetic_is_left_alone(threads, dtype):
    net = fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(1)], dtype=dtype)
    X, y = np.ones((100, 2), dtype), np.ones(100, dtype)
    for call in (
        lambda: net.fit(X, y, epochs=2, threads=threads),
        lambda: net.partial_fit(X, y, threads=threads),
        lambda: net.predict(X, threads=threads),
        lambda: net.predict(X[:1], threads=threads),
        lambda: net.loss_and_gradient(X, y, threads=threads),
        lambda: fastnn.apply(net.freeze(), X),
    ):
        assert is_kept(dtype)
        call()
        assert is_kept(dtype)
    tiny = np.finfo(dtype).tiny
    before, after = product_after(net.freeze(), X[0], np.empty(1, dtype), tiny, type(tiny)(0.25))
    assert before == after == tiny / 4 > 0
