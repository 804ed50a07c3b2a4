"""Losses that say more than a mean: a quantile, the rate of counts, a normal distribution for each target."""

import numpy as np
import pytest
import reference
from arrays import normal
from nets import pair
from tolerance import assert_close

import fastnn
from fastnn import kernels
from fastnn.kernels import cpu

ROWS = 400


def gaussian_net(targets=1, dtype="float64", **options):
    return fastnn.Sequential([fastnn.Dense(2 * targets)], loss="gaussian", dtype=dtype, **options)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_a_constant_becomes_the_quantile(quantile):
    y = np.random.RandomState(0).exponential(size=ROWS)
    net = fastnn.Sequential([fastnn.Dense(1)], loss="quantile", quantile=quantile)
    net.fit(np.zeros((ROWS, 1)), y, optimizer=fastnn.Adam(fastnn.CosineDecay(0.1, 400)), epochs=400, batch_size=None)
    assert (y < net.predict(np.zeros((1, 1)))[0, 0]).mean() == pytest.approx(quantile, abs=0.01)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky"])
def test_rates_are_those_of_scikit_learn(solver, dtype):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X = normal(1, ROWS, 4)
    y = np.random.RandomState(2).poisson(np.exp(X @ [0.5, -0.3, 0.2, 0.0] + 0.4))
    net = fastnn.Sequential([fastnn.Dense(1, "exp")], dtype=dtype)
    assert net.loss == "poisson"
    assert net.minimize(X, y, solver, l2=0.01, tol=1e-7).converged
    theirs = linear_model.PoissonRegressor(alpha=0.01, tol=1e-9, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(net.predict(X)[:, 0], theirs.predict(X), rtol=1e-4)
    assert net.evaluate(X, y)["r2"] == pytest.approx(1 - ((y - theirs.predict(X)) ** 2).mean() / y.var(), abs=1e-4)


@pytest.mark.parametrize("standardize", [False, True])
def test_means_and_variances_are_those_of_the_targets(standardize):
    y = normal(1, ROWS, 2) * [2.0, 0.5] + [3.0, -1.0]
    X = np.zeros((ROWS, 1))
    net = gaussian_net(2, standardize=standardize)
    assert net.minimize(X, y, tol=1e-8).converged
    expected = np.concatenate([y.mean(axis=0), np.log(y.var(axis=0))])
    np.testing.assert_allclose(net.predict(X[:1])[0], expected, rtol=1e-5)
    assert net.targets == 2 and net.evaluate(X, y)["r2"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_the_normal_distribution(weighted, dtype):
    net, twin, weights = pair((5, 7, 6), ("tanh", "linear"), "gaussian", dtype=dtype)
    X, y = normal(1, 50, 5, dtype=dtype), normal(2, 50, 3, dtype=dtype)
    w = np.linspace(0.0, 2.0, 50) if weighted else None
    loss, gradient = net.loss_and_gradient(X, y, w)
    right, right_dX = twin.gradients(weights, X, y, w)
    assert_close(loss, twin.objective(weights, X, y, w), "sum", dtype)
    found = [gradient[part] for slices in net.parameter_slices for part in slices]
    for one, expected in zip(found, right, strict=True):
        assert_close(one, expected.ravel(), "training")
    assert_close(net.input_gradient(X, y, w), right_dX, "training")


def test_scores_are_those_of_the_means():
    pytest.importorskip("sklearn")
    X, y = normal(1, ROWS, 3), normal(2, ROWS)
    net, shapes = gaussian_net(), []
    wanted = ["r2", "neg_mean_squared_error", lambda y, outputs: float(len(shapes.append(outputs.shape) or [1]))]
    net.fit(X, y, epochs=2, metrics=wanted)
    found = net.evaluate(X, y, metrics=["neg_mean_squared_error"])
    error = ((net.predict(X)[:, 0] - y) ** 2).mean()
    assert found["neg_mean_squared_error"] == pytest.approx(-error)
    assert found["r2"] == pytest.approx(1 - error / y.var())
    assert shapes[-1] == (ROWS, 2)  # functions see all outputs


def test_files(tmp_path):
    X, y = normal(1, 60, 3), normal(2, 60, 2)
    net = gaussian_net(2, standardize=True, quantile=0.25)
    net.fit(X, y, epochs=2)
    net.save(tmp_path / "net.safetensors")
    same = fastnn.load(tmp_path / "net.safetensors")
    assert same.quantile == 0.25 and np.array_equal(same.predict(X), net.predict(X))
    assert same.fit(X, y, epochs=1, batch_size=None).loss[0] == pytest.approx(
        net.fit(X, y, epochs=1, batch_size=None).loss[0]
    )


@pytest.mark.parametrize(
    "make, y, words",
    [
        (lambda: fastnn.Sequential([fastnn.Dense(1, "exp")]), [1.0, -1.0], r"y must be numbers >= 0 .+ -1.0 at row 1"),
        (gaussian_net, [[1.0, 2.0], [3.0, 4.0]], r"y must be numbers of shape \(m,\) or \(m, 1\)"),
    ],
)
def test_targets_that_are_refused(make, y, words):
    with pytest.raises(ValueError, match=words):
        make().fit([[1.0], [2.0]], y)


def test_the_public_kernels_take_half_as_many_targets(dtype):
    Z, y, w = normal(1, 9, 4, dtype=dtype), normal(2, 9, 2, dtype=dtype), np.empty(0, dtype)
    loss = cpu.loss_forward(kernels.GAUSSIAN, 0.0, Z, y, w)
    assert_close(loss, reference.loss_forward("gaussian", Z, y), "sum", dtype)
    for wrong in (np.zeros((9, 4), dtype), np.zeros((9, 1), dtype)):
        with pytest.raises(ValueError, match=r"y must be an array of shape \(9, 2\)"):
            cpu.loss_forward(kernels.GAUSSIAN, 0.0, Z, wrong, w)
    with pytest.raises(ValueError, match=r"y must be an array of shape \(9, 1.5\)"):
        cpu.loss_forward(kernels.GAUSSIAN, 0.0, Z[:, :3], y, w)
    with pytest.raises(ValueError, match=r"y must be an array of shape \(9, 4\)"):
        cpu.loss_forward(kernels.MSE, 0.0, Z, y, w)
