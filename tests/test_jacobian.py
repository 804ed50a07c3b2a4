"""The derivatives of the outputs by the inputs, against central differences of what a net predicts."""

import numpy as np
import pytest
import reference
from arrays import normal
from nets import pair
from tolerance import assert_close

import fastnn

STEP = 1e-6


def differences(net, X):
    """The Jacobian by central differences."""
    columns = [net.predict(X + step) - net.predict(X - step) for step in STEP * np.eye(X.shape[1])]
    return np.stack(columns, axis=2) / (2 * STEP)


def check(net, X):
    found = net.jacobian(X)
    assert found.shape == (len(X), net.outputs, X.shape[1]) and found.dtype == net.dtype
    assert_close(found, differences(net, X), "difference")


@pytest.mark.parametrize("name", [*reference.ACTIVATIONS, "softmax"])
def test_every_activation(name):
    hidden = "tanh" if name == "softmax" else name
    loss = "cross_entropy" if name == "softmax" else "mse"
    net, _, _ = pair((5, 7, 3), (hidden, name), loss)
    check(net, normal(1, 37, 5))


@pytest.mark.parametrize("loss, output", reference.FUSED.items())
def test_outputs_that_belong_to_a_loss(loss, output):
    net, _, _ = pair((4, 6, 5, 2), ("gelu", "elu", output), loss, drops=(0.3, 0.5, 0.0))
    check(net, normal(1, 20, 4))


@pytest.mark.parametrize("widths", [(200, 2), (1, 1), (3, 70, 40, 5), (90, 30, 1)])
def test_any_shape(widths):
    net, _, _ = pair(widths, ("silu",) * (len(widths) - 2) + ("linear",), "mse")
    check(net, normal(1, 67, widths[0]))


@pytest.mark.parametrize("loss", ["mse", "gaussian"])
def test_in_the_units_of_the_data(loss):
    X, y = normal(1, 80, 3) * [1.0, 50.0, 0.1] + 7.0, 1e3 + 30.0 * normal(2, 80, 2)
    layers = [fastnn.Dense(6, "tanh"), fastnn.Dense(2 if loss == "mse" else 4)]
    net = fastnn.Sequential(layers, loss=loss, dtype="float64", standardize=True)
    net.fit(X, y, epochs=3)
    np.testing.assert_allclose(net.jacobian(X), differences(net, X), rtol=1e-5, atol=1e-5)


def test_a_function_of_the_users_own():
    numba = pytest.importorskip("numba")

    @numba.njit
    def square(z):
        return z * z

    @numba.njit
    def slope(z):
        return 2.0 * z

    net = fastnn.Sequential([fastnn.Dense(5, (square, slope)), fastnn.Dense(2)], dtype="float64").build(3)
    check(net, normal(1, 21, 3))


def test_float32_and_threads_give_the_same():
    net, twin, weights = pair((20, 33, 3), ("tanh", "softmax"), dtype="float32")
    X = normal(1, 700, 20, dtype="float32")
    one = net.jacobian(X, threads=1)
    assert np.array_equal(one, net.jacobian(X, threads=3))
    exact, _, _ = pair((20, 33, 3), ("tanh", "softmax"), weights=weights)
    assert_close(one, exact.jacobian(X.astype(np.float64)), "sum", "float32")
    before = net.parameters.copy()
    X[3, 0] = np.nan
    assert np.isnan(net.jacobian(X)[3]).all() and np.array_equal(net.jacobian(X)[4], one[4])
    assert np.array_equal(net.parameters, before)


def test_what_is_refused():
    net, _, _ = pair()
    with pytest.raises(ValueError, match="X must be"):
        net.jacobian(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="threads must be"):
        net.jacobian(np.zeros((3, 5)), threads=0)
    with pytest.raises(fastnn.NotBuiltError):
        fastnn.logistic_net().jacobian(np.zeros((3, 5)))
    net.device = "cuda"
    with pytest.raises(ValueError, match="device must be 'cpu' or 'auto' for jacobian"):
        net.jacobian(np.zeros((3, 5)))
