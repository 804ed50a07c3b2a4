"""loss_and_gradient and input_gradient against the reference and central differences of the net itself."""

import numpy as np
import pytest
import recipes
import reference
from nets import OPTIMIZERS, data, flat, pair
from tolerance import assert_close

from fastnn import backends, plans


def check_gradients(activations, loss, weighted=False, **options):
    widths = (3, 4, 2)
    net, twin, weights = pair(widths, activations, loss, **options)
    X, y = data(6, 3, 2, loss)
    w = np.linspace(0.5, 2.0, 6) if weighted else None
    value, gradient = net.loss_and_gradient(X, y, sample_weight=w)
    assert isinstance(value, float)
    assert value == pytest.approx(twin.objective(weights, X, y, w), rel=1e-12)
    assert gradient.shape == net.parameters.shape
    right, right_dX = twin.gradients(weights, X, y, w)
    parts = [part for slices in net.parameter_slices for part in slices]
    assert_close(np.concatenate([gradient[part] for part in parts]), flat(right), "training")
    assert_close(net.input_gradient(X, y, sample_weight=w), right_dX, "training")

    def loss_at(vector):
        at, moved = 0, []
        for kept in weights:
            moved.append(vector[at : at + kept.size].reshape(kept.shape))
            at += kept.size
        net.set_weights(moved)
        return net.loss_and_gradient(X, y, sample_weight=w)[0]

    numeric = reference.central_difference(loss_at, flat(weights))
    assert_close(np.concatenate([gradient[part] for part in parts]), numeric, "difference")
    net.set_weights(weights)
    numeric = reference.central_difference(lambda x: net.loss_and_gradient(x, y, sample_weight=w)[0], X)
    assert_close(net.input_gradient(X, y, sample_weight=w), numeric, "difference")


@pytest.mark.parametrize(
    "loss, output",
    [
        ("binary_cross_entropy", "sigmoid"),
        ("cross_entropy", "softmax"),
        ("mse", "linear"),
        ("mae", "linear"),
        ("huber", "linear"),
        ("quantile", "linear"),
        ("poisson", "exp"),
    ],
)
@pytest.mark.parametrize("hidden", reference.ACTIVATIONS)
def test_gradients_are_central_differences(hidden, loss, output):
    check_gradients((hidden, output), loss, weighted=hidden == "tanh")


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("output", reference.ACTIVATIONS)
def test_gradients_of_every_output_of_a_regression(output, loss):
    check_gradients(("tanh", output), loss)


@pytest.mark.parametrize("name, alpha", [("leaky_relu", 0.3), ("elu", 0.6)])
def test_gradients_with_another_alpha(name, alpha):
    check_gradients(((name, alpha), "linear"), "huber", huber_delta=0.4)


def test_gradients_with_another_quantile():
    check_gradients(("tanh", "linear"), "quantile", weighted=True, quantile=0.9)


def test_the_gradient_is_flat_in_blocks_of_sixteen_and_empty_between():
    net, _, weights = pair()
    X, y = data()
    gradient = net.loss_and_gradient(X, y)[1]
    used = np.zeros(len(gradient), dtype=bool)
    for (w_part, b_part), W, b in zip(net.parameter_slices, weights[0::2], weights[1::2], strict=True):
        assert w_part.start % 16 == 0 and b_part.start % 16 == 0
        assert np.array_equal(net.parameters[w_part].reshape(W.shape), W)
        assert np.array_equal(net.parameters[b_part], b)
        assert not used[w_part].any() and not used[b_part].any()
        used[w_part] = used[b_part] = True
    assert not gradient[~used].any()


def test_loss_and_gradient_changes_nothing():
    net, _, weights = pair()
    X, y = data()
    first = net.loss_and_gradient(X, y)
    assert np.array_equal(flat(net.get_weights()), flat(weights))
    second = net.loss_and_gradient(X, y)
    assert first[0] == second[0]
    assert np.array_equal(first[1], second[1])


# (rows, widths): gradients shard by shard, and piece by piece with pieces that divide the rows of W and its columns
LARGE = [
    (9000, (60, 600, 2)),
    (70, (5, 200, 190, 3)),
    (300, (5, 200, 190, 3)),
    (130, (1100, 40, 2)),
    (130, (1100, 150, 2)),
    (1100, (40, 500, 60, 2)),
    (33, (2100, 17, 1)),
]


@pytest.mark.parametrize("rows, widths", LARGE)
def test_gradients_of_large_nets(rows, widths, dtype):
    activations = ("tanh", "silu")[: len(widths) - 2] + ("linear",)
    weights = [w * 0.3 for w in recipes.random_weights(widths, 3)]
    net, twin, weights = pair(widths, activations, "mse", dtype=dtype, weights=weights)
    plan = plans.make(net, backends.GRADIENT, rows, 1)
    assert plan["BY_PARTS"] == (rows != 9000)
    X, y = data(rows, widths[0], widths[-1], "mse", dtype)
    w = np.linspace(0.5, 2.0, rows)
    right, right_dX = twin.gradients(weights, X, y, w)
    parts = [part for slices in net.parameter_slices for part in slices]
    for threads in (1, 3):
        value, gradient = net.loss_and_gradient(X, y, sample_weight=w, threads=threads)
        assert_close(value, twin.objective(weights, X, y, w), "training", dtype)
        assert_close(np.concatenate([gradient[part] for part in parts]), flat(right), "training")
        assert_close(net.input_gradient(X, y, sample_weight=w, threads=threads), right_dX, "training")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_nets_train_as_the_reference_does(name):
    widths = (1100, 30, 3)
    net, twin, weights = pair(
        widths, ("tanh", "softmax"), weights=[w * 0.05 for w in recipes.random_weights(widths, 3)], l2=0.02
    )
    make, settings = OPTIMIZERS[name]
    X, y = data(250, 1100, 3)
    right, losses = twin.train(weights, X, y, reference.Optimizer(**settings), 2, reference.in_order(250, 100))
    history = net.fit(X, y, optimizer=make(), epochs=2, batch_size=100, shuffle=False, l2=0.02, threads=2)
    assert_close(flat(net.get_weights()), flat(right), "training")
    assert_close(history.loss, losses, "training")
