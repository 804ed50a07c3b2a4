"""Solvers that go to a minimum and end there, against scikit-learn's, NumPy's and the gradient itself."""

import sys

import numpy as np
import pytest
import reference
from arrays import blank, normal
from nets import data, pair
from tolerance import assert_close

import fastnn
from fastnn import backends
from fastnn.kernels.cpu import gram

SOLVERS = ("lbfgs", "newton-cholesky")
ROWS, FEATURES = 300, 6


def problem(classes):
    """X, labels and weights with no perfect answer."""
    X = normal(1, ROWS, FEATURES) * np.logspace(-1, 0.5, FEATURES) + 0.3
    score = X @ normal(2, FEATURES, classes) + 2.0 * normal(3, ROWS, classes)
    return X, score.argmax(axis=1), np.random.RandomState(4).randint(0, 4, ROWS).astype(float)


def objective_of(net, X, y, l2, weights=None):
    """(loss, gradient) of a net in float64."""
    return net.objective(X, y, weights, l2, dtype="float64")(net.parameters)


def test_an_objective_is_the_loss_with_the_penalty(dtype):
    net, _, _ = pair(dtype=dtype)
    X, y = data(dtype=dtype)
    weights, before = np.linspace(0.5, 2.0, len(X)), net.parameters.copy()
    f = net.objective(X, y, weights, l2=0.3)
    loss, gradient = net.loss_and_gradient(X, y, weights)
    expected = gradient.astype(np.float64)
    for W, _ in net.parameter_slices:
        loss += 0.15 * (net.parameters[W].astype(np.float64) ** 2).sum()
        expected[W] += 0.3 * net.parameters[W].astype(np.float64)
    found, slope = f(net.parameters.astype(np.float64))
    assert isinstance(found, float) and slope.dtype == np.float64
    assert found == pytest.approx(loss, rel=1e-12)
    assert_close(slope, expected, "pointwise", dtype)
    assert f(before + 0.1)[0] != found
    assert np.array_equal(net.parameters, before)
    if dtype == "float32":
        precise, _ = net.objective(X, y, weights, l2=0.3, dtype="float64")(before)
        assert 0 < abs(precise - found) < 1e-5


def test_what_an_objective_refuses():
    net, _, _ = pair()
    X, y = data()
    with pytest.raises(ValueError, match="theta must be an array of shape .+; got shape"):
        net.objective(X, y)(np.zeros(3))
    with pytest.raises(ValueError, match="l2 must be"):
        net.objective(X, y, l2=-1.0)
    with pytest.raises(ValueError, match="dtype must be"):
        net.objective(X, y, dtype="float16")
    with pytest.raises(fastnn.NotBuiltError):
        fastnn.logistic_net().objective(X, y)
    theta = np.full(net.parameters.shape, np.inf)
    assert not np.isfinite(net.objective(X, y)(theta)[0])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_regression_is_that_of_scikit_learn(solver, classes, weighted, dtype):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y, weights = problem(classes)
    weights = weights if weighted else None
    balanced = "balanced" if weighted else None
    theirs = linear_model.LogisticRegression(C=0.7, tol=1e-10, max_iter=1000, class_weight=balanced)
    theirs.fit(X, y, weights)
    mass = ROWS if weights is None else weights.sum()
    net = fastnn.logistic_net(classes, dtype=dtype)
    options = dict(l2=1 / (0.7 * mass), tol=1e-8, max_iter=500, sample_weight=weights, class_weight=balanced)
    history = net.minimize(X, y, solver, **options)
    assert history.converged and history.epochs < 100
    W, b = net.get_weights()
    np.testing.assert_allclose(W, theirs.coef_, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(b, theirs.intercept_, rtol=2e-5, atol=2e-6)
    assert (np.diff(history.loss) <= 1e-6).all()


def test_least_squares_take_one_step_of_newton(dtype):
    X, y = normal(1, 80, 5, dtype=dtype), normal(2, 80, 3, dtype=dtype)
    net = fastnn.Sequential([fastnn.Dense(3)], dtype=dtype)
    history = net.minimize(X, y, "newton-cholesky", tol=1e-5)
    assert history.converged and history.epochs == 1
    found, *_ = np.linalg.lstsq(np.column_stack([X, np.ones(80)]).astype(np.float64), y, rcond=None)
    W, b = net.get_weights()
    assert_close(np.column_stack([W, b]), found.T, "sum")


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_standardised_net_ends_where_one_on_standardised_data_does(solver):
    X, y, _ = problem(2)
    X[:, 2] += 1e4
    net = fastnn.logistic_net(standardize=True, dtype="float64")
    assert net.minimize(X, y, solver, l2=0.01, tol=1e-8).converged
    plain = fastnn.logistic_net(dtype="float64")
    plain.minimize((X - X.mean(axis=0)) / X.std(axis=0), y, solver, l2=0.01, tol=1e-8)
    np.testing.assert_allclose(net.get_weights()[0], plain.get_weights()[0], rtol=1e-5)


def test_softmax_without_a_penalty():
    """What all classes have in common changes nothing: the Hessian alone is singular."""
    X, y, _ = problem(3)
    net = fastnn.logistic_net(3, dtype="float64")
    history = net.minimize(X, y, "newton-cholesky", tol=1e-10)
    assert history.converged and history.epochs < 30  # by the rounding of LAPACK: 20 with NumPy 1.24
    assert abs(net.get_weights()[0].sum(axis=0)).max() < 1e-8


def test_a_singular_hessian_is_left_to_lbfgs():
    X, y, _ = problem(2)
    X = np.column_stack([X, X[:, 0], np.zeros(ROWS)])
    net = fastnn.logistic_net(dtype="float64")
    assert net.minimize(X, y, "newton-cholesky", tol=1e-6).converged
    assert abs(objective_of(net, X, y, 0.0)[1]).max() <= 1e-6


def test_a_deep_net_ends_at_a_flat_place():
    X, y = data(60, loss="mse", dtype="float32")
    net, _, _ = pair(activations=("tanh", "tanh", "linear"), loss="mse", dtype="float32")
    history = net.minimize(X, y, l2=1e-3, tol=1e-5, max_iter=3000)
    assert history.converged and history.device == "cpu" and history.learning_rate.size == 0
    loss, gradient = objective_of(net, X, y, 1e-3)
    assert loss == pytest.approx(history.loss[-1], rel=1e-6) and loss < history.loss[0] / 2
    assert abs(gradient).max() < 2e-5  # the parameters were rounded
    assert history.steps == history.epochs == len(history.elapsed)
    again = net.minimize(X, y, l2=1e-3, tol=1e-4)
    assert again.converged and again.epochs <= 1


def test_iterations_and_callbacks_end_it():
    X, y, _ = problem(2)
    net, seen = fastnn.logistic_net(), []
    history = net.minimize(X, y, max_iter=3, tol=0.0, callbacks=[lambda net, history: seen.append(history.epochs)])
    assert (history.epochs, history.converged, seen) == (3, False, [1, 2, 3])
    assert net.minimize(X, y, tol=0.0, callbacks=[lambda net, history: history.epochs == 2]).epochs == 2
    assert net.fit(X, y, epochs=1).converged is None


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_interrupt_leaves_the_last_iterate(solver):
    X, y, _ = problem(2)
    net, losses = fastnn.logistic_net(dtype="float64"), []

    def interrupt(net, history):
        losses.append(history.loss[-1])
        if history.epochs == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.minimize(X, y, solver, tol=0.0, callbacks=[interrupt])
    assert objective_of(net, X, y, 0.0)[0] == pytest.approx(losses[-1], rel=1e-12)
    assert net.minimize(X, y, solver).converged


def test_a_loss_that_is_not_finite():
    X, y = normal(1, 20, 3), normal(2, 20) * 1e30
    net = fastnn.Sequential([fastnn.Dense(1)])
    with pytest.raises(fastnn.DivergedError):
        net.minimize(X, y)


@pytest.mark.parametrize(
    "options, error, words",
    [
        (dict(solver="sgd"), ValueError, "solver must be one of 'lbfgs', 'newton-cholesky'; got 'sgd'"),
        (dict(max_iter=0), ValueError, "max_iter must be"),
        (dict(tol=-1.0), ValueError, "tol must be"),
        (dict(l2=np.nan), ValueError, "l2 must be"),
        (dict(threads=0), ValueError, "threads must be"),
        (dict(progress=1), TypeError, "progress must be"),
        (dict(callbacks=[3]), TypeError, "callbacks must be"),
        (dict(solver="newton-cholesky"), ValueError, "solver must be 'lbfgs' for a net of other layers"),
    ],
)
def test_what_minimize_refuses(options, error, words):
    net, _, _ = pair()
    X, y = data()
    before = net.parameters.copy()
    with pytest.raises(error, match=words):
        net.minimize(X, y, **options)
    assert np.array_equal(net.parameters, before)


def test_a_hessian_that_is_too_large():
    net = fastnn.logistic_net(10)
    with pytest.raises(ValueError, match="solver must be 'lbfgs' for more than 8,192 parameters .+ 10,010"):
        net.minimize(np.zeros((10, 1000)), np.arange(10), "newton-cholesky")


def test_without_scipy(monkeypatch):
    X, y, _ = problem(2)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-numba\[solvers\]'"):
        fastnn.logistic_net().minimize(X, y)


@pytest.mark.parametrize("m, n", [(1, 1), (5, 3), (130, 31), (67, 40), (64, 97)])
def test_the_weighted_gram_matrix(m, n, dtype):
    X, s, shift, scale = (normal(i, *shape, dtype=dtype) for i, shape in enumerate([(m, n), (m,), (n,), (n,)], 1))
    work, out = np.full(backends.gram_work_size(n), np.nan, dtype), blank((n + 1, n + 1), dtype)
    gram.weighted_gram(X, s, shift, scale, work, out.array)
    assert_close(out.array, reference.weighted_gram(X, s, shift, scale), "sum")
    out.assert_guarded()
