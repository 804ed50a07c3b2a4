"""The course's own exercises in float64: the costs that its notebooks print, to six decimals."""

import numpy as np
import pytest
import recipes

import fastnn


def accuracy(net, X, y):
    return (net.predict_labels(X) == y).mean()


@pytest.mark.parametrize("order", ["as drawn", "reversed"])
def test_planar_flower(order):
    X, y = recipes.planar_flower()
    if order == "reversed":
        X, y = X[::-1], y[::-1]
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], dtype="float64")
    net.build(2)
    net.set_weights(recipes.small_normal_weights((2, 4, 1), seed=2))
    cost = net.fit(X, y, optimizer=fastnn.SGD(learning_rate=1.2), epochs=10_000, batch_size=None).loss
    assert [round(cost[i], 6) for i in (0, 1000, 2000, 5000)] == [0.693048, 0.288083, 0.254385, 0.222644]
    # from here on the order of rounding decides the fourth digit
    assert cost[9000] == pytest.approx(0.2186, abs=2e-4)
    assert 0.905 <= accuracy(net, X, y) <= 0.9075
    assert net.evaluate(X, y)["accuracy"] == accuracy(net, X, y)


def test_logistic_regression_cannot_tell_the_petals():
    X, y = recipes.planar_flower()
    net = fastnn.logistic_net(dtype="float64")
    net.fit(X, y, optimizer=fastnn.SGD(learning_rate=0.5), epochs=5000, batch_size=None)
    assert accuracy(net, X, y) == pytest.approx(0.47, abs=0.005)


def test_cats_by_logistic_regression(cats):
    X_train, y_train, X_test, y_test = cats
    net = fastnn.logistic_net(dtype="float64")
    cost = net.fit(X_train, y_train, optimizer=fastnn.SGD(learning_rate=0.005), epochs=2000, batch_size=None).loss
    assert [round(cost[i], 6) for i in (0, 100, 1900)] == [0.693147, 0.584508, 0.140872]
    assert round(accuracy(net, X_train, y_train), 4) == 0.9904
    assert accuracy(net, X_test, y_test) == 0.70


@pytest.mark.slow
def test_cats_by_a_net_of_two_layers(cats):
    X_train, y_train, X_test, y_test = cats
    net = fastnn.Sequential([fastnn.Dense(7, "relu"), fastnn.Dense(1, "sigmoid")], dtype="float64")
    net.build(12288)
    net.set_weights(recipes.small_normal_weights((12288, 7, 1), seed=1))
    cost = net.fit(X_train, y_train, optimizer=fastnn.SGD(learning_rate=0.0075), epochs=2500, batch_size=None).loss
    assert [round(cost[i], 6) for i in (0, 2400)] == [0.693050, 0.048555]
    assert accuracy(net, X_train, y_train) == 1.0
    assert accuracy(net, X_test, y_test) == 0.72


def four_layers():
    layers = [
        fastnn.Dense(20, "relu"),
        fastnn.Dense(7, "relu"),
        fastnn.Dense(5, "relu"),
        fastnn.Dense(1, "sigmoid"),
    ]
    net = fastnn.Sequential(layers, dtype="float64")
    net.build(12288)
    net.set_weights(recipes.scaled_normal_weights((12288, 20, 7, 5, 1), seed=1))
    return net


def test_the_first_steps_of_a_net_of_four_layers_on_cats(cats):
    X_train, y_train, _, _ = cats
    cost = (
        four_layers()
        .fit(X_train, y_train, optimizer=fastnn.SGD(learning_rate=0.0075), epochs=201, batch_size=None)
        .loss
    )
    assert [round(cost[i], 6) for i in (0, 100, 200)] == [0.771749, 0.672053, 0.648263]


@pytest.mark.slow
def test_cats_by_a_net_of_four_layers(cats):
    X_train, y_train, X_test, y_test = cats
    net = four_layers()
    cost = net.fit(X_train, y_train, optimizer=fastnn.SGD(learning_rate=0.0075), epochs=2500, batch_size=None).loss
    assert [round(cost[i], 6) for i in (0, 100, 2400)] == [0.771749, 0.672053, 0.092878]
    assert round(accuracy(net, X_train, y_train), 4) == 0.9856
    assert accuracy(net, X_test, y_test) == 0.80


def test_training_in_float32_reaches_the_same_place():
    X, y = recipes.planar_flower()
    net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], dtype="float32")
    net.build(2)
    net.set_weights(recipes.small_normal_weights((2, 4, 1), seed=2))
    cost = net.fit(X, y, optimizer=fastnn.SGD(learning_rate=1.2), epochs=2001, batch_size=None).loss
    np.testing.assert_allclose(cost[[0, 1000, 2000]], [0.693048, 0.288083, 0.254385], rtol=0, atol=1e-3)
