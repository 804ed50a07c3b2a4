"""Nets that begin with the columns of a table, built as programs: against the reference, and against torch."""

import numpy as np
import pytest
import reference
import reference_random
from arrays import normal
from reference_tables import TableNet
from tolerance import assert_close

from fastnn.kernels import formulas, tables
from fastnn.kernels.cpu import apply_rows, link, make_plan
from fastnn.kernels.program import (
    Bins,
    Dense,
    Dropout,
    Embedding,
    Missing,
    OneHot,
    Plain,
    Program,
    Vector,
)
from fastnn.kernels.state import TrainingState

VECTORS = Vector(0, 7, 3), Vector(2, 60, 20), Vector(1, 5, 1)
ONE_HOT = OneHot(1, 5), OneHot(2, 60)
NUMBERS = Plain(3), Missing(3), Bins(4, np.array([-1.0, -0.2, 0.3, 1.5])), Plain(4)
KINDS = {"all": NUMBERS + ONE_HOT + VECTORS, "vectors": VECTORS, "one-hot": ONE_HOT, "numbers": NUMBERS}
LEVELS = 7, 5, 60
FEATURES = 5
RULES = {  # the rule, its settings, weight decay; and the reference's
    "sgd": ("sgd", {}, 0.1, dict(kind="sgd", decay=0.1)),
    "momentum": ("momentum", dict(momentum=0.9), 0.0, dict(kind="momentum")),
    "adagrad": ("adagrad", dict(eps=1e-10, rate_decay=0.1), 0.0, dict(kind="adagrad", eps=1e-10, rate_decay=0.1)),
    "adam": ("adam", dict(beta1=0.9, beta2=0.999, eps=1e-8, decoupled=0.0), 0.0, dict(kind="adam")),
    "adamw": ("adam", dict(beta1=0.9, beta2=0.999, eps=1e-8, decoupled=0.1), 0.0, dict(kind="adamw", decay=0.1)),
}
RATE = 0.05


def program_of(kind="all", units=5, hidden="tanh", rate=0.0, loss="mse"):
    """A program, its activations, and its loss."""
    features = KINDS[kind]
    names = (hidden, "sigmoid" if loss == "binary_cross_entropy" else "linear")
    layers = [Dense(n, formulas.named(formulas.ACTIVATIONS, name)) for n, name in zip((units, 1), names, strict=True)]
    added = units if any(isinstance(one, OneHot) for one in features) else 0
    dropout = [Dropout(rate, 0)] if rate else []
    operations = [Embedding(features, added), *dropout, *layers]
    return Program(FEATURES, operations, formulas.named(formulas.LOSSES, loss)), names


def data(m=41, dtype="float64", seed=0):
    """Rows of codes, some of them none, and of numbers with gaps; targets; weights."""
    rng = np.random.default_rng(seed)
    X = np.stack([*(rng.zipf(1.5, m) % n for n in LEVELS), *rng.normal(size=(2, m))], axis=1)
    X[rng.random(m) < 0.2, 3] = np.nan
    X[rng.random(m) < 0.2, 4] = np.inf
    X[:6, 0] = np.nan, -1.0, 1e30, 2.5, 7.0, -np.inf
    X[:, 3:][~np.isfinite(X[:, 3:]) & ~np.isnan(X[:, 3:])] = 3.0  # the products take no infinity
    return X.astype(dtype), rng.random((m, 1)).astype(dtype), rng.integers(0, 3, m).astype(dtype)


def parameters(program, dtype="float64", seed=1):
    return normal(seed, program.size, scale=0.4, dtype=dtype) * program_mask(program)


def program_mask(program):
    """1 for parameters, 0 for the gaps between them."""
    mask = np.zeros(program.size, np.int8)
    for part in program.slices:
        mask[part] = 1
    return mask


def run(program, theta, command, X, y=None, w=None, threads=1, batch=None):
    """A plan with its rows bound, executed."""
    plan = make_plan(program, theta, batch or len(X), command, threads)
    plan.bind_data(X, y, w)
    if command == tables.PREDICT:
        plan.bind_output(np.empty((len(X), 1), theta.dtype))
    plan.execute()
    return plan


def gradient_of(program, theta, X, y, w=None, threads=1):
    return run(program, theta, tables.GRADIENT, X, y, w, threads).gradient.copy()


class Training:
    """A program in training: its plan, its state, and the reference beside it."""

    def __init__(self, program, names, rule, theta, batch, threads=1, l2=0.0, loss="mse", **clips):
        self.program, self.batch = program, batch
        kind, settings, decay, twin = RULES[rule]
        self.state = TrainingState(theta, 3)
        self.plan = make_plan(program, theta, batch, tables.TRAIN, threads, self.state)
        self.plan.bind_rule(formulas.named(formulas.RULES, kind), settings, decay, l2, **clips)
        self.twin = TableNet(program, names, loss, l2)
        self.optimizer = reference.Optimizer(**twin, rate=RATE, **clips)
        self.weights = self.twin.arrays(program, theta)

    def run(self, X, y, w, epochs, shuffle=False):
        """Train; gives the losses of the epochs."""
        self.plan.bind_data(X, y, w, shuffle=shuffle)
        losses = np.zeros(epochs)
        self.plan.bind_steps(np.full(epochs * -(-len(X) // self.batch), RATE), losses)
        self.plan.execute()
        assert not self.plan.diverged
        return losses

    def expected(self, X, y, w, epochs, mask=None):
        """What the reference makes of it: the losses, with the weights in `weights`."""
        X, losses = np.asarray(X, np.float64), np.zeros(epochs)
        for epoch in range(epochs):
            mass = 0.0
            for rows in reference.in_order(len(X), self.batch):
                here = w[rows] if w is not None else np.ones(len(rows))
                if here.sum() == 0:
                    continue
                masks = None if mask is None else mask(epoch, rows)
                loss = self.twin.objective(self.weights, X[rows], y[rows], here, masks)
                self.weights = self.twin.step(self.weights, self.optimizer, X[rows], y[rows], here, masks)
                losses[epoch] += loss * here.sum()
                mass += here.sum()
            losses[epoch] /= mass
        return losses

    def check(self, losses, right):
        """Compare parameters, moments and losses."""
        dtype = self.state.parameters.dtype
        found = self.twin.arrays(self.program, self.state.parameters)
        for i, (array, expected) in enumerate(zip(found, self.weights, strict=True)):
            assert_close(array, expected, "training", dtype, f"array {i}")
        for moment, states in zip(self.state.moments, (self.optimizer.one, self.optimizer.two), strict=False):
            for array, expected in zip(self.twin.arrays(self.program, moment), states, strict=True):
                assert_close(array, expected, "training", dtype, "moment")
        assert_close(losses, right, "training", dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("units", [1, 5, 67])
def test_the_loss_and_its_gradient(kind, units, dtype):
    program, names = program_of(kind, units)
    X, y, w = data(dtype=dtype)
    theta = parameters(program, dtype)
    twin = TableNet(program, names, "mse")
    weights = twin.arrays(program, theta)
    plan = run(program, theta, tables.GRADIENT, X, y, w)
    assert plan.loss == pytest.approx(twin.objective(weights, X, y, w), rel=1e-12 if dtype == "float64" else 1e-5)
    gradient = plan.gradient
    for found, expected in zip(
        program.views(gradient), _nested(program, twin.gradients(weights, X, y, w)), strict=True
    ):
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, "sum")
    assert run(program, theta, tables.EVALUATE, X, y, w).loss == pytest.approx(plan.loss, rel=1e-6)


def _nested(program, arrays):
    arrays = iter(arrays)
    return [[next(arrays) for _ in views] for views in program.views(np.zeros(program.size))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_central_differences(kind):
    program, _ = program_of(kind, 4)
    X, y, w = data(23)
    theta, step = parameters(program), 1e-6
    gradient = gradient_of(program, theta, X, y, w)
    plan = make_plan(program, theta, len(X), tables.EVALUATE, 1)
    plan.bind_data(X, y, w)
    differences = np.zeros(program.size)
    for i in np.flatnonzero(program_mask(program)):
        kept, losses = theta[i], []
        for theta[i] in (kept + step, kept - step):
            plan.execute()
            losses.append(plan.loss)
        theta[i] = kept
        differences[i] = (losses[0] - losses[1]) / (2 * step)
    assert_close(gradient, differences, "difference")


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_of_many_and_of_few_rows(kind, dtype):
    program, names = program_of(kind, 21, loss="binary_cross_entropy")
    theta = parameters(program, dtype)
    X, *_ = data(53, dtype)
    twin = TableNet(program, names, "binary_cross_entropy")
    expected, few = twin.predict(twin.arrays(program, theta), X), np.empty((len(X), 1), dtype)
    assert_close(run(program, theta, tables.PREDICT, X).kept["OUT"], expected, "sum")
    assert apply_rows(link(program, np.dtype(dtype)).table, program.alphas, theta, X, few) == 0
    assert_close(few, expected, "sum")
    wide = np.asfortranarray(X)
    assert apply_rows(link(program, np.dtype(dtype)).table, program.alphas, theta, wide, few) == 0
    assert_close(few, expected, "sum")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["all", "one-hot"])
def test_a_step_updates_the_rows_that_its_batch_touches(rule, kind, dtype):
    program, names = program_of(kind)
    X, y, w = data(50, dtype)
    w[16:32] = 0  # a batch that is no step
    training = Training(program, names, rule, parameters(program, dtype), 16)
    start = training.state.parameters.copy()
    losses = training.run(X, y, w, 3)
    training.check(losses, training.expected(X, y, w, 3))
    untouched = [~np.isin(np.arange(60), X[w > 0, 2])]
    assert untouched[0].sum() > 10
    for one, table, before in zip(
        training.twin.tables, program.views(training.state.parameters)[0], program.views(start)[0], strict=True
    ):
        if one.levels == 60:
            assert np.array_equal(table[untouched[0]], before[untouched[0]])


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize(
    "options",
    [
        dict(l2=0.03),
        dict(clip_norm=0.05),
        dict(clip_value=0.004),
        dict(l2=0.03, clip_norm=0.05, clip_value=0.01),
    ],
    ids=str,
)
def test_l2_and_clipping(rule, options):
    program, names = program_of()
    X, y, w = data(50)
    training = Training(program, names, rule, parameters(program), 16, **options)
    training.check(training.run(X, y, w, 2), training.expected(X, y, w, 2))


@pytest.mark.parametrize("kind", ["all", "vectors", "numbers"])
def test_dropout_between(kind, dtype):
    program, names = program_of(kind, rate=0.4)
    X, y, _ = data(50, dtype)
    width = program.widths[1]

    def mask(epoch, rows):
        return reference_random.dropout_mask(0.4, 3, epoch, 0, len(X), width)[rows]

    training = Training(program, names, "momentum", parameters(program, dtype), 16)
    losses = training.run(X, y, None, 2)
    training.check(losses, training.expected(X, y, None, 2, mask))
