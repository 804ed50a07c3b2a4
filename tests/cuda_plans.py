"""Plans of the CUDA backend in the simulator, without the model layer; `test_cuda.py` starts this file."""

import numpy as np
import pytest
import reference
from arrays import normal
from cuda_loop import loop  # noqa: F401
from tolerance import assert_close

from fastnn.kernels import tables
from fastnn.kernels.cuda import activation_forward, make_plan
from fastnn.kernels.formulas import ACTIVATIONS, LOSSES, RULES, named
from fastnn.kernels.program import Dense, Dropout, Program, Standardize
from fastnn.kernels.state import TrainingState

every_loop = pytest.mark.parametrize(
    "loop", ["block", "grid", pytest.param("graph", marks=pytest.mark.slow)], indirect=True
)
ADAM = dict(beta1=0.9, beta2=0.999, eps=1e-8, decoupled=0.0)
SHIFT, SCALE, OFFSET = np.array([1.0, -1.0, 0.5]), np.array([2.0, 0.5, 1.5]), np.array([0.1, 0.0, -0.2])


def net(widths, activations, loss, drops=None, standardize=False):
    """(program, flat parameters, the same as a list for the reference)."""
    operations = [Standardize(SHIFT, SCALE, OFFSET)] if standardize else []
    weights = []
    for i, (n_in, n_out, name) in enumerate(zip(widths, widths[1:], activations, strict=False)):
        operations += [Dropout(drops[i], i)] if drops else []
        activation = named(ACTIVATIONS, name)
        operations.append(Dense(n_out, activation, activation.alpha or 0.0))
        weights += [normal(10 + i, n_out, n_in), 0.1 * normal(20 + i, n_out)]
    program = Program(widths[0], operations, named(LOSSES, loss), 1.0)
    parameters = np.zeros(program.size)
    for array, values in zip(arrays_of(program, parameters), weights, strict=True):
        array[...] = values
    return program, parameters, weights


def arrays_of(program, flat):
    return [array for arrays in program.views(flat) for array in arrays]


def assert_same(program, flat, weights):
    for array, right in zip(arrays_of(program, flat), weights, strict=True):
        assert_close(array, right, "training")


@every_loop
def test_a_row_index_standardised_and_clipped(loop):  # noqa: F811
    program, parameters, weights = net((3, 5, 2), ("elu", "tanh"), "huber", standardize=True)
    X, y, rows = normal(1, 30, 3), normal(2, 30, 2), np.arange(29, 2, -2)
    optimizer = reference.Optimizer("adam", 0.05, clip_value=0.02, clip_norm=0.03)
    twin, Z = reference.Net(("elu", "tanh"), "huber"), ((X - SHIFT) * SCALE + OFFSET)[rows]
    state = TrainingState(parameters, 3)
    for batch in (5, len(rows)):
        steps, losses = -(-len(rows) // batch), np.zeros(2)
        weights, right = twin.train(weights, Z, y[rows], optimizer, 2, reference.in_order(len(rows), batch))
        plan = make_plan(program, parameters, batch, tables.TRAIN, state)
        plan.bind_data(X, y, rows=rows)
        plan.bind_rule(named(RULES, "adam"), ADAM, clip_value=0.02, clip_norm=0.03)
        plan.bind_steps(np.full(2 * steps, 0.05), losses)
        plan.execute()
        plan.to_host()
        assert_same(program, parameters, weights)
        assert_close(losses, right, "training")


@every_loop
@pytest.mark.parametrize("loss,last", [("cross_entropy", "softmax"), ("mse", "softmax"), ("huber", "linear")])
def test_a_gradient_is_applied(loss, last, loop):  # noqa: F811
    program, parameters, weights = net((3, 5, 2), ("gelu", last), loss, standardize=True)
    X, y = normal(1, 18, 3), abs(normal(2, 18, 2))
    if loss == "cross_entropy":
        y /= y.sum(axis=1, keepdims=True)
    twin, Z = reference.Net(("gelu", last), loss, l2=0.1), (X - SHIFT) * SCALE + OFFSET
    bare = reference.Net(("gelu", last), loss)
    right, right_dX = bare.gradients(weights, Z, y)
    plan, out = make_plan(program, parameters, 18, tables.INPUT_GRADIENT), np.full((18, 3), np.nan)
    plan.bind_data(X, y)
    plan.bind_output(out)
    plan.execute()
    assert_same(program, plan.gradient, right)
    assert_close(out, right_dX * SCALE, "training")
    assert plan.loss == pytest.approx(bare.objective(weights, Z, y))
    state, optimizer = TrainingState(parameters, 0), reference.Optimizer("adam", 0.1, decay=0.01, clip_norm=0.5)
    gradients, updates = (
        make_plan(program, parameters, 18, command, state) for command in (tables.GRADIENT, tables.APPLY)
    )
    gradients.bind_data(X, y)
    updates.bind_rule(named(RULES, "adam"), ADAM, weight_decay=0.01, l2=0.1, clip_norm=0.5)
    updates.bind_steps(np.array([0.1]))
    for _ in range(2):
        weights = optimizer.update(weights, twin.gradients(weights, Z, y)[0])
        gradients.execute()
        updates.bind_gradient(gradients.gradient)
        updates.execute()
        updates.to_host()
    assert state.step == 2 and not updates.diverged
    assert_same(program, parameters, weights)


@every_loop
def test_a_stream_does_not_end_its_epoch(loop):  # noqa: F811
    drops = (0.2, 0.3)
    program, parameters, weights = net((3, 6, 2), ("tanh", "softmax"), "cross_entropy", drops)
    X = normal(1, 15, 3)
    y = (X.sum(axis=1) > 0).astype(np.int64)
    parts = [np.arange(0, 6), np.arange(6, 10), np.arange(10, 15)]
    twin, optimizer = reference.Net(("tanh", "softmax"), "cross_entropy"), reference.Optimizer("sgd", 0.1)
    weights, losses = twin.train(weights, X, y, optimizer, 1, parts, drops=drops, seed=3)
    state = TrainingState(parameters, 3)
    plan = make_plan(program, parameters, 6, tables.TRAIN, state)
    plan.bind_rule(named(RULES, "sgd"), {})
    for part in parts:
        plan.bind_batch(X[part], y[part].astype(float), None, True, int(part[0]))
        plan.bind_steps(np.array([0.1]))
        plan.execute()
    plan.to_host()
    assert_same(program, parameters, weights)
    assert_close(state.sums[tables.Sums.LOSS] / state.sums[tables.Sums.WEIGHT], losses[0], "training", "float64")
    assert (state.step, state.epoch, state.position) == (3, 0, 3)


def test_a_code_of_nothing_is_refused(loop):  # noqa: F811
    Z = np.zeros((2, 3))
    with pytest.raises(ValueError, match="code must be that of an activation of single numbers, .*; got 42"):
        activation_forward(42, 0.0, Z, Z)
