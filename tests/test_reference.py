"""The judge is judged first: by central differences, the course's data and printed costs, exact values."""

import numpy as np
import pytest
import recipes
import reference
from arrays import normal
from tolerance import assert_close

AWAY_FROM_KINKS = np.array([[-6.0, -2.3, -1.1, -0.4, -0.01, 0.02, 0.3, 1.4, 2.2, 7.0]])


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activation_derivatives_are_central_differences(name):
    param, h = 0.3, 1e-6
    above = reference.activation(name, AWAY_FROM_KINKS + h, param)
    below = reference.activation(name, AWAY_FROM_KINKS - h, param)
    derivative = reference.activation_derivative(name, AWAY_FROM_KINKS, param)
    assert_close(derivative, (above - below) / (2 * h), "difference")


def test_softmax_backward_is_a_central_difference():
    Z, dA = normal(0, 3, 5), normal(1, 3, 5)
    numeric = reference.central_difference(lambda z: (reference.softmax(z) * dA).sum(), Z)
    assert_close(reference.activation_backward("softmax", dA, Z), numeric, "difference")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", reference.LOSSES)
def test_loss_gradients_are_central_differences(name, weighted):
    Z, y = normal(2, 4, 3), np.eye(3)[[0, 2, 1, 1]]
    w = np.array([0.5, 2.0, 0.0, 1.0]) if weighted else None
    numeric = reference.central_difference(lambda z: reference.loss_forward(name, z, y, w, 0.7), Z)
    assert_close(reference.loss_backward(name, Z, y, w, 0.7), numeric, "difference")


def test_class_indices_are_one_hot_rows():
    Z, classes = normal(3, 4, 3), np.array([0, 2, 1, 1])
    for y in (classes, classes[:, None].astype(float)):
        assert reference.loss_forward("cross_entropy", Z, y) == reference.loss_forward(
            "cross_entropy", Z, np.eye(3)[classes]
        )


@pytest.mark.parametrize(
    "loss, last", [("binary_cross_entropy", "sigmoid"), ("cross_entropy", "softmax"), ("mse", "elu")]
)
def test_net_gradients_are_central_differences(loss, last):
    net = reference.Net(["tanh", "gelu", last], loss, l2=0.1)
    weights, X, y = recipes.random_weights((3, 4, 5, 2), 0), normal(4, 6, 3), np.eye(2)[[0, 1, 1, 0, 1, 0]]
    w = np.linspace(0.5, 2.0, 6)
    grads, dX = net.gradients(weights, X, y, w)
    for i, (weight, grad) in enumerate(zip(weights, grads, strict=True)):

        def moved(value, i=i):
            return net.objective([*weights[:i], value, *weights[i + 1 :]], X, y, w)

        assert_close(grad, reference.central_difference(moved, weight), "difference")
    assert_close(dX, reference.central_difference(lambda x: net.objective(weights, x, y, w), X), "difference")


def test_extreme_logits_stay_finite():
    Z = np.array([[1000.0], [-1000.0], [1000.0], [-1000.0]])
    y = np.array([[1.0], [0.0], [0.0], [1.0]])
    assert reference.loss_forward("binary_cross_entropy", Z, y) == 500.0
    assert np.array_equal(reference.loss_backward("binary_cross_entropy", Z, y) * 4, [[0], [0], [1], [-1]])
    assert reference.loss_forward("cross_entropy", np.array([[1000.0, -1000.0]]), np.array([1])) == 2000.0


def test_batches_in_order_keep_the_short_last_one():
    assert [list(rows) for rows in reference.in_order(5, 2)] == [[0, 1], [2, 3], [4]]


def test_the_recipe_draws_the_flower_of_the_file():
    path = recipes.data_directory() / "planar_flower.npz"
    if not path.exists():
        pytest.skip(f"no planar_flower.npz in {path.parent} (set FASTNN_DATA)")
    X, y = recipes.planar_flower()
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_allclose(X, file["X"], rtol=1e-13)  # NumPy's sine differs from version to version
        assert np.array_equal(file["y"], y)


def test_the_reference_trains_as_the_course_does():
    X, y = recipes.planar_flower()
    net = reference.Net(["tanh", "sigmoid"], "binary_cross_entropy")
    weights = recipes.small_normal_weights((2, 4, 1), 2)
    _, loss = net.train(weights, X, y, reference.Optimizer("sgd", 1.2), 1001)
    assert [round(loss[i], 6) for i in (0, 1000)] == [0.693048, 0.288083]
