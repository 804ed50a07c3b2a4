"""Activations and losses of one's own: the same as the built-in ones where they are the same, and refused if wrong."""

import copy
import math
import pickle

import numpy as np
import pytest
import recipes
import reference
from nets import data, flat, pair
from numba import njit
from tolerance import assert_close

import fastnn
from fastnn import backends, custom


@njit
def gate(z):
    return z / (1.0 + math.exp(-z))


@njit
def gate_slope(z):
    s = 1.0 / (1.0 + math.exp(-z))
    return s * (1.0 + z * (1.0 - s))


@njit
def squared(prediction, target):
    return (prediction - target) ** 2


@njit
def squared_slope(prediction, target):
    return 2.0 * (prediction - target)


@njit
def poisson(rate, count):
    return rate - count * math.log(rate)


@njit
def poisson_slope(rate, count):
    return 1.0 - count / rate


GATE, SQUARED = (gate, gate_slope), (squared, squared_slope)


def twins(widths, activations, loss, dtype, weights=None, **options):
    """(a net with custom functions, the same net with built-in ones)."""
    theirs, _, weights = pair(widths, activations, loss, dtype=dtype, weights=weights, **options)
    layers = [
        layer
        if isinstance(layer, fastnn.Dropout) or layer.activation != "silu"
        else fastnn.Dense(layer.units, GATE, kernel_initializer="he_normal")
        for layer in theirs.layers
    ]
    ours = fastnn.Sequential(layers, loss=SQUARED if loss == "mse" else loss, dtype=dtype, seed=theirs.seed)
    ours.build(widths[0]).set_weights(weights)
    return ours, theirs


# shard by shard, by rows, and piece by piece
@pytest.mark.parametrize("widths, m", [((5, 7, 6, 2), 40), ((20, 33, 2), 900), ((600, 20, 2), 70), ((300, 120, 2), 90)])
@pytest.mark.parametrize("last", ["linear", "tanh", "silu"])
@pytest.mark.parametrize("weighted", [False, True])
def test_as_the_built_in_ones(widths, m, last, weighted, dtype):
    activations = ("silu",) * (len(widths) - 2) + (last,)
    weights = [w * 0.3 for w in recipes.random_weights(widths, 3)]
    ours, theirs = twins(widths, activations, "mse", dtype, weights)
    X, y = data(m, widths[0], 2, "mse", dtype)
    w = np.linspace(0.5, 2.0, m) if weighted else None
    results = []
    for net in (ours, theirs):
        value, gradient = net.loss_and_gradient(X, y, sample_weight=w, threads=2)
        history = net.fit(X, y, optimizer=fastnn.SGD(0.05), epochs=3, batch_size=m // 2, sample_weight=w)
        one = fastnn.apply(net.freeze(), X[0])
        outputs = (net.input_gradient(X, y), net.predict(X), net.predict(X[:3]), one, net.evaluate(X, y)["loss"])
        results.append((value, gradient, history.loss, flat(net.get_weights()), *outputs))
    for one, other in zip(*results, strict=True):
        assert_close(one, other, "training", dtype)


def test_with_dropout_and_fused_losses(dtype):
    X, y = data(90, 20, 3, dtype=dtype)
    results = []
    for net in twins((20, 33, 9, 3), ("silu", "silu", "softmax"), "cross_entropy", dtype, drops=(0.1, 0.3, 0.3)):
        history = net.fit(X, y, optimizer=fastnn.SGD(0.05), epochs=3, batch_size=32)
        results.append((history.loss, flat(net.get_weights())))
    for one, other in zip(*results, strict=True):
        assert_close(one, other, "training", dtype)


def test_gradients_are_central_differences():
    X, y = np.random.default_rng(0).normal(size=(9, 3)), np.random.default_rng(1).poisson(2.0, 9)
    net = fastnn.Sequential(
        [fastnn.Dense(4, GATE), fastnn.Dense(1, "softplus")], loss=(poisson, poisson_slope), dtype="float64"
    ).build(3)
    gradient = net.loss_and_gradient(X, y)[1]
    start = net.parameters.copy()

    def loss_at(parameters):
        net.parameters[:] = parameters
        return net.loss_and_gradient(X, y)[0]

    assert_close(gradient, reference.central_difference(loss_at, start), "difference")


def test_a_loss_of_counts_learns_their_mean():
    counts = np.random.default_rng(0).poisson(3.0, 400)
    net = fastnn.Sequential([fastnn.Dense(1, "softplus")], loss=(poisson, poisson_slope), dtype="float64")
    net.fit(np.ones((400, 1)), counts, optimizer=fastnn.SGD(0.5), epochs=300, batch_size=None)
    assert net.predict([[1.0]])[0, 0] == pytest.approx(counts.mean(), rel=1e-6)


def test_the_same_bits_on_any_number_of_threads(dtype):
    X, y = data(900, 20, 2, "mse", dtype)
    results = []
    for threads in (1, 2, 5):
        net, _ = twins((20, 33, 2), ("silu", "linear"), "mse", dtype)
        net.fit(X, y, epochs=3, batch_size=450, threads=threads)
        results.append(flat(net.get_weights()))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_nets_with_functions_pickle_and_copy():
    X, y = data(40, 5, 2, "mse")
    net, _ = twins((5, 7, 2), ("silu", "linear"), "mse", "float64")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(other.predict(X), net.predict(X))
        assert other.fit(X, y, epochs=2, batch_size=None).loss[0] == pytest.approx(
            net.evaluate(X, y)["loss"], rel=1e-12
        )
    # its functions stand in it as addresses of this process
    with pytest.raises(TypeError, match="cannot be pickled.*pickle the net"):
        pickle.dumps(net.freeze())
    assert np.array_equal(fastnn.apply(copy.deepcopy(net.freeze()), X), fastnn.apply(net.freeze(), X))


def test_inside_compiled_code():
    X, _ = data(40, 5, 2, "mse")
    net, _ = twins((5, 7, 2), ("silu", "linear"), "mse", "float64")

    @njit
    def ask(frozen, x):
        return fastnn.apply(frozen, x)

    assert np.array_equal(ask(net.freeze(), X[0]), net.predict(X[:1])[0])


@pytest.mark.skipif(not backends.COMPILED, reason="plain functions are accepted where nothing is compiled")
def test_functions_that_are_not_compiled_are_refused():
    with pytest.raises(TypeError, match=r"activation must be \(f, df\), two @njit functions of one number; got"):
        fastnn.Dense(3, (math.sin, math.cos))
    with pytest.raises(TypeError, match=r"loss must be \(f, df\), two @njit functions of \(prediction, target\); got"):
        fastnn.Sequential([fastnn.Dense(1)], loss=(math.sin, math.cos))


@pytest.mark.parametrize("given", [(gate,), (gate, gate_slope, gate), (gate, "relu"), (gate, None)])
def test_what_is_no_pair_is_refused(given):
    with pytest.raises(TypeError, match="activation must be"):
        fastnn.Dense(3, given)


@njit
def wrong_slope(z):
    return 1.0 / (1.0 + math.exp(-z))


@njit
def undefined(z):
    return math.nan


@njit
def nothing(z):
    pass


def test_a_wrong_derivative_is_told_with_the_place_and_both_values():
    with pytest.raises(ValueError, match=r"derivative of f by its first argument; got df\(.*\) = .* differences of f"):
        fastnn.Dense(3, (gate, wrong_slope))
    with pytest.raises(ValueError, match=r"loss must be \(f, df\) with df .*got df\(.*, .*\) = "):
        fastnn.Sequential([fastnn.Dense(1)], loss=(squared, squared))


def test_functions_without_values_are_refused():
    with pytest.raises(ValueError, match="with f finite; got an f that is finite at 0 of 64 points"):
        fastnn.Dense(3, (undefined, undefined))
    with pytest.raises(TypeError, match="functions of floats that give a float; got nothing: float"):
        fastnn.Dense(3, (nothing, nothing))


def test_softmax_keeps_its_own_loss():
    with pytest.raises(ValueError, match="another without softmax"):
        fastnn.Sequential([fastnn.Dense(3, "softmax")], loss=SQUARED)


def test_divergence_and_nan_are_seen():
    X, y = data(40, 5, 2, "mse")
    net, _ = twins((5, 7, 2), ("silu", "linear"), "mse", "float64")
    with pytest.raises(fastnn.DivergedError):
        net.fit(X, y, optimizer=fastnn.SGD(1e10), epochs=50)
    assert np.isfinite(net.parameters).all()
    assert np.isnan(net.predict(np.full((1, 5), np.nan))).all()


def test_what_is_shown():
    net = fastnn.Sequential([fastnn.Dense(4, GATE), fastnn.Dense(1)], loss=SQUARED)
    assert repr(net) == (
        "Sequential([Dense(4, (gate, gate_slope)), Dense(1, 'linear')], loss=(squared, squared_slope), dtype='float32')"
    )
    assert "Dense (gate, gate_slope)" in net.summary() and "loss (squared, squared_slope), float32" in net.summary()


@njit
def picky(z):
    if z > 2.5:
        raise ValueError("no more than", 2.5)
    return z


@njit
def picky_slope(z):
    if z > 2.5:
        raise KeyError("slope")
    return 1.0


@njit
def picky_loss(prediction, target):
    if target > 2.5:
        raise IndexError("target")
    return (prediction - target) ** 2


@njit
def picky_loss_slope(prediction, target):
    return 2.0 * (prediction - target)


def net_of_pickies(monkeypatch, activation, loss):
    monkeypatch.setattr(custom, "_check_derivative", lambda *given: None)  # whose trials would find it
    net = fastnn.Sequential([fastnn.Dense(1, activation), fastnn.Dense(1)], loss=loss, dtype="float64").build(1)
    net.set_weights([np.ones((1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    return net


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_function_raises_reaches_the_caller(threads, monkeypatch):
    net = net_of_pickies(monkeypatch, (picky, picky_slope), "mse")
    good, bad = np.linspace(-2.0, 2.0, 2000)[:, np.newaxis], np.linspace(-2.0, 3.0, 2000)[:, np.newaxis]
    parameters = net.parameters.copy()
    with pytest.raises(ValueError, match="no more than"):
        net.fit(bad, bad, fastnn.SGD(1e-3), epochs=3, threads=threads)
    assert np.array_equal(net.parameters, parameters)
    uses = (
        lambda: net.predict(bad),
        lambda: net.predict(bad[-3:]),
        lambda: net.evaluate(bad, bad),
        lambda: net.loss_and_gradient(bad, bad, threads=threads),
        lambda: fastnn.apply(net.freeze(), bad[-1]),
    )
    for use in uses:
        with pytest.raises(ValueError, match="no more than"):
            use()
    history = net.fit(good, good, fastnn.SGD(1e-3), epochs=3, threads=threads)  # which works as if nothing had been
    assert history.epochs == 3
    assert np.isfinite(net.predict(good)).all()


def test_a_loss_that_raises_ends_the_fit(monkeypatch):
    net = net_of_pickies(monkeypatch, "linear", (picky_loss, picky_loss_slope))
    X = np.linspace(-2.0, 3.0, 50)[:, np.newaxis]
    for use in (lambda: net.fit(X, X), lambda: net.evaluate(X, X)):
        with pytest.raises(IndexError, match="target"):
            use()


def test_in_compiled_code_apply_says_that_something_was_raised(monkeypatch):
    net = net_of_pickies(monkeypatch, (picky, picky_slope), "mse")

    @njit
    def ask(frozen, x):
        return fastnn.apply(frozen, x)[0]

    assert ask(net.freeze(), np.array([1.0])) == 1.0
    with pytest.raises(RuntimeError, match="an activation of the user's own raised an exception"):
        ask(net.freeze(), np.array([3.0]))
