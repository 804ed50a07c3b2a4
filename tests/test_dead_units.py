"""The warning of ReLU units that are all dead: where it comes, what it names, and where it must not come."""

import warnings

import numpy as np
import pytest
from nets import data

import fastnn
from fastnn import dead_units

SIZE = np.linspace(50.0, 250.0, 200)[:, np.newaxis]
PRICE = 3000.0 * SIZE[:, 0] + 50_000.0


@pytest.mark.parametrize("seed", range(10))
def test_a_price_by_a_size_as_it_is_kills_the_unit(seed):
    net = fastnn.Sequential([fastnn.Dense(1, "relu")], seed=seed)
    with pytest.warns(fastnn.DeadUnitsWarning, match=r"all units of layer 1, Dense\(1, 'relu'\), are 0") as caught:
        net.fit(SIZE, PRICE, optimizer=fastnn.SGD(0.01), epochs=20)
    assert [warning.filename for warning in caught] == [__file__]
    assert not net.predict(SIZE).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_standardised_one_learns(seed):
    net = fastnn.Sequential([fastnn.Dense(8, "relu"), fastnn.Dense(1)], seed=seed, standardize=True)
    net.fit(SIZE, PRICE, optimizer=fastnn.SGD(0.01), epochs=20)  # warnings are errors


def dead(number):
    """A net whose dense layer of this number answers to none of the rows."""
    layers = [fastnn.Dropout(0.1), *(fastnn.Dense(4, "relu") for _ in range(3)), fastnn.Dense(3, "softmax")]
    net = fastnn.Sequential(layers, dtype="float64", standardize=True).build(5)
    weights = [abs(array) for array in net.get_weights()]
    weights[2 * number - 1] = np.full(4, -1e3)
    net.set_weights(weights)
    return net


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_first_dead_layer_is_named(number):
    X, y = data()
    net = dead(number)
    with pytest.warns(fastnn.DeadUnitsWarning, match=f"layer {number}, "):
        net.fit(X, y, epochs=1, rows=np.arange(5, 30))


@pytest.mark.parametrize("last", ["relu", "tanh"])
def test_kernels_look_only_where_no_glance_tells(last, monkeypatch):
    layers = [fastnn.Dropout(0.1), fastnn.Dense(8, "relu"), fastnn.Dense(8, last), fastnn.Dense(8, "relu")]
    net, (X, y) = fastnn.Sequential([*layers, fastnn.Dense(3, "softmax")], standardize=True), data()
    asked = []
    monkeypatch.setattr(dead_units, "_first_dead", lambda *_: asked.append(True))
    net.fit(X, y, epochs=1, rows=np.arange(5, 30))
    assert len(asked) == (last == "tanh")


def test_a_few_rows_are_enough_to_live_for():
    X = np.zeros((5000, 5))
    X[[7, 4001]] = 1.0  # neither is among those that are looked at first
    net = fastnn.Sequential([fastnn.Dense(4, "relu"), fastnn.Dense(1)]).build(5)
    net.set_weights([np.ones((4, 5)), -np.ones(4), np.ones((1, 4)), [0.0]])
    net.fit(X, X[:, 0], optimizer=fastnn.SGD(1e-6), epochs=1)
    with pytest.warns(fastnn.DeadUnitsWarning):
        net.fit(X, X[:, 0], optimizer=fastnn.SGD(1e-6), epochs=1, rows=np.delete(np.arange(5000), [7, 4001]))


def test_other_activations_and_targets_of_0_are_let_alone():
    X, _ = data()
    with warnings.catch_warnings(record=True) as caught:
        for activation, targets in (("leaky_relu", X[:, 0]), ("relu", np.zeros(len(X)))):
            net = fastnn.Sequential([fastnn.Dense(1, activation)]).build(5)
            net.set_weights([np.zeros((1, 5)), [-1.0]])
            net.fit(X, targets, epochs=1)
    assert not caught
