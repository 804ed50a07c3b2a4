"""Several numbers, or several labels that do not exclude each other, from one net."""

import numpy as np
import pytest
from arrays import normal
from nets import data, pair

import fastnn

SINGLE = {
    "binary_cross_entropy": "sigmoid",
    "mse": "linear",
    "mae": "linear",
    "huber": "linear",
    "quantile": "linear",
    "poisson": "exp",
}


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("loss", SINGLE)
def test_outputs_of_one_layer_learn_as_nets_of_their_own(loss, batch_size):
    k = 3
    X, y = data(60, 5, k, loss)
    whole, _, weights = pair((5, k), (SINGLE[loss],), loss)
    w = np.linspace(0.5, 2.0, 60)
    # the loss is the mean over the outputs: each gets the k-th part of the gradient that it would get alone
    history = whole.fit(X, y, fastnn.SGD(0.1 * k), 20, batch_size, sample_weight=w)
    losses = []
    for i in range(k):
        alone, _, _ = pair((5, 1), (SINGLE[loss],), loss, weights=[weights[0][i : i + 1], weights[1][i : i + 1]])
        losses.append(alone.fit(X, y[:, i], fastnn.SGD(0.1), 20, batch_size, sample_weight=w).loss)
        np.testing.assert_allclose(whole.get_weights()[0][i], alone.get_weights()[0][0], rtol=1e-9)
        np.testing.assert_allclose(whole.predict(X)[:, i], alone.predict(X)[:, 0], rtol=1e-9)
    np.testing.assert_allclose(history.loss, np.sum(losses, axis=0) / k, rtol=1e-9)


def test_several_labels():
    """More than one label of a row may be right, or none: each from its own combination of the features."""
    X = normal(1, 400, 6)
    y = (X @ normal(2, 6, 4) > 0.7).astype(int)
    assert {0, 1, 2} <= set(y.sum(axis=1))
    net = fastnn.Sequential([fastnn.Dense(24, "tanh"), fastnn.Dense(4, "sigmoid")])
    history = net.fit(
        X,
        y,
        fastnn.Adam(0.02),
        epochs=60,
        batch_size=32,
        validation_split=0.25,
        metrics=["accuracy"],
        callbacks=[fastnn.EarlyStopping(20, monitor="accuracy")],
    )
    assert history.metrics["accuracy"].max() > 0.9
    chosen = net.predict_labels(X)
    assert chosen.shape == y.shape
    assert net.evaluate(X, y)["accuracy"] == pytest.approx((chosen == y).all(axis=1).mean())
    with pytest.raises(ValueError, match="class_weight must be .+ class labels"):
        net.fit(X, y, class_weight="balanced")


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_several_numbers(loss):
    """Linear outputs of different sizes, found again."""
    X, W, b = normal(1, 300, 4), normal(2, 4, 3) * [1.0, 2.0, 0.5], [1.0, -2.0, 0.0]
    net = fastnn.Sequential([fastnn.Dense(3)], loss=loss, dtype="float64")
    net.fit(X, X @ W + b, fastnn.Adam(fastnn.CosineDecay(0.1, 300)), epochs=300, batch_size=50)
    np.testing.assert_allclose(net.get_weights()[0], W.T, atol=1e-3)
    np.testing.assert_allclose(net.get_weights()[1], b, atol=1e-3)
    assert net.evaluate(X, X @ W + b)["r2"] > 0.999999
