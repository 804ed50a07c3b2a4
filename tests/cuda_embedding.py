"""Tables of columns on CUDA in the simulator, beside the CPU; `test_cuda.py` starts it with NUMBA_ENABLE_CUDASIM=1."""

import grids
import numpy as np
import pytest
from arrays import normal
from cuda_loop import loop, loops_with  # noqa: F401
from tolerance import assert_close

from fastnn.kernels import cpu, tables
from fastnn.kernels.cuda import driver, schedule
from fastnn.kernels.cuda.group import Group
from fastnn.kernels.formulas import ACTIVATIONS, LOSSES, RULES, named
from fastnn.kernels.program import Bins, Dense, Dropout, Embedding, Missing, OneHot, Plain, Program, Vector
from fastnn.kernels.state import TrainingState

SETTINGS = {
    "adam": dict(beta1=0.9, beta2=0.999, eps=1e-8, decoupled=0.1),
    "momentum": dict(momentum=0.9),
    "adagrad": dict(eps=1e-10, rate_decay=0.1),
    "sgd": {},
}
ROWS, BATCH, STEPS = 45, 34, 3  # more than the lanes of a warp, and a short last batch
EDGES = np.array([-1.0, -0.2, 0.3, 1.5])
FEATURES = Vector(0, 6, 3), OneHot(2, 300), Plain(1), Bins(3, EDGES), Missing(1), OneHot(4, 3), Vector(4, 3, 2)
HOSTILE = [np.nan, -1.0, 2.5, 1e30, np.inf, -np.inf, 6.0, -0.0]


def table(dtype, rows=ROWS):
    """Rows of numbers and codes, some of which are neither."""
    X = np.empty((rows, 5), dtype)
    X[:, [1, 3]] = normal(1, rows, 2)
    for column, levels in ((0, 6), (2, 300), (4, 3)):
        X[:, column] = np.random.default_rng(column).integers(0, levels, rows)
    X[::7, 1] = np.nan
    X[3, 3], X[4, 3], X[5, 3] = np.nan, np.inf, -np.inf
    X[: len(HOSTILE), 0] = HOSTILE
    X[10 : 10 + len(HOSTILE), 2] = HOSTILE
    return X


def program_of(features=FEATURES, units=5, drop=0.0, activation="relu"):
    """Columns, perhaps dropout, and two layers; relu leaves rows that are touched without a gradient."""
    first, one_hot = named(ACTIVATIONS, activation), any(isinstance(each, OneHot) for each in features)
    operations = [Embedding(features, units if one_hot else 0), *([Dropout(drop, 0)] if drop else [])]
    operations += [Dense(units, first), Dense(2, named(ACTIVATIONS, "softmax"))]
    return Program(5, operations, named(LOSSES, "cross_entropy"))


def start(program, dtype):
    parameters = np.zeros(program.size, dtype)
    for part in program.slices:
        parameters[part] = normal(part.start + 2, part.stop - part.start)
    return parameters


def plan_of(device, program, parameters, batch, command, state=None):
    if device == "cuda":
        return driver.make_plan(program, parameters, batch, command, state)
    return cpu.make_plan(program, parameters, batch, command, 1, state)


def trained(device, program, dtype, rule="adam", rate=0.05, rows=ROWS, batch=BATCH, steps=STEPS, **more):
    """(parameters, moments, losses) after some steps on weighted rows."""
    X, state = table(dtype, rows), TrainingState(start(program, dtype), 3)
    y, weights = (np.nan_to_num(X[:, 1]) > 0).astype(dtype), np.linspace(0.0, 2.0, rows).astype(dtype)
    plan, losses = plan_of(device, program, state.parameters, batch, tables.TRAIN, state), np.zeros(steps)
    plan.bind_data(X, y, weights, True, shuffle=True)
    plan.bind_rule(named(RULES, rule), SETTINGS[rule], **more)
    plan.bind_steps(np.full(steps, rate), losses)
    plan.execute()
    plan.to_host()
    assert not plan.diverged and state.step == steps
    return state.parameters, state.moments, losses


def assert_trained_alike(program, dtype, **more):
    (right, moments, losses), (found, own, own_losses) = (
        trained(device, program, dtype, **more) for device in ("cpu", "cuda")
    )
    assert_close(found, right, "training", dtype)
    assert_close(own_losses, losses, "training", dtype)
    for moment, other in zip(own, moments, strict=True):
        assert_close(moment, other, "training", dtype)
    return found


LOOPS = "block", "grid", "graph"  # that train tables
in_each_dtype = loops_with(
    "dtype", ("float32", "float64"), [("block", "float64"), ("grid", "float32"), ("graph", "float32")], LOOPS
)


@in_each_dtype
def test_touched_rows_are_trained(loop, dtype):  # noqa: F811
    """Hostile codes, gaps, dropout, weights, shuffled rows and a short last batch."""
    program = program_of(drop=0.3)
    found = assert_trained_alike(program, dtype, weight_decay=0.02)
    part, before = program.slices[2], start(program, dtype)  # of 300 levels 45 rows name a part
    kept = (found[part] == before[part]).reshape(300, -1).all(axis=1)
    assert 240 < kept.sum() < 300


@loops_with("l2", (0.0, 0.05), [("block", 0.0), ("grid", 0.05)], LOOPS)
def test_clipped_and_penalised(loop, l2):  # noqa: F811
    program = program_of()
    found = assert_trained_alike(program, "float64", rule="momentum", l2=l2, clip_value=0.02, clip_norm=0.05)
    part = program.slices[2]
    assert (found[part] == start(program, "float64")[part]).any() == (l2 == 0.0)


@pytest.mark.parametrize("loop", ["block", "grid"], indirect=True)
def test_one_hot_codes_alone(loop):  # noqa: F811
    """The first layer has no inputs but its table rows."""
    program = program_of((OneHot(0, 6), OneHot(2, 300), OneHot(0, 6)), 3, 0.0, "tanh")
    assert program.widths[1] == 0
    assert_trained_alike(program, "float64", rule="adagrad")


@pytest.mark.parametrize("loop", ["graph"], indirect=True)
def test_the_graph_does_not_take_one_hot_codes_alone(loop, monkeypatch):  # noqa: F811
    program = program_of((OneHot(0, 6),), 3)
    with pytest.raises(ValueError, match="must be 'block' or 'grid' for a net of one-hot codes alone; got 'graph'"):
        schedule.make_schedule(program, np.float32, 8, tables.TRAIN)
    monkeypatch.delenv("FASTNN_CUDA_LOOP")
    assert schedule.make_schedule(program, np.float32, 1 << 24, tables.TRAIN).loop == "grid"


@pytest.mark.parametrize("loop", LOOPS, indirect=True)
def test_passes_without_an_update(loop):  # noqa: F811
    """A gradient has zeros where no row touched, whatever was there before; applied, it is a step of training."""
    program, dtype, X = program_of(), "float64", table("float64")
    y, found = (np.nan_to_num(X[:, 1]) > 0).astype(dtype), {}
    for device in ("cpu", "cuda"):
        parameters = start(program, dtype)
        state, out = TrainingState(parameters, 0), np.empty((ROWS, 2))
        plan = plan_of(device, program, parameters, ROWS, tables.GRADIENT)
        for rows in (slice(30, 45), slice(0, 30)):
            plan.bind_batch(X[rows], y[rows], None, True, 0)
            plan.execute()
        gradient = plan.gradient[: program.size].copy()
        apply = plan_of(device, program, parameters, ROWS, tables.APPLY, state)
        apply.bind_rule(named(RULES, "adam"), SETTINGS["adam"], 0.1, clip_norm=0.05)
        apply.bind_gradient(gradient.copy())
        apply.bind_steps(np.array([0.1]))
        apply.execute()
        apply.to_host()
        answers = plan_of(device, program, parameters, ROWS, tables.PREDICT)
        answers.bind_data(X)
        answers.bind_output(out)
        answers.execute()
        found[device] = plan.loss, gradient, parameters, *state.moments, out
    for own, right in zip(found["cuda"], found["cpu"], strict=True):
        assert_close(own, right, "training", dtype)
    touched = found["cuda"][1][program.slices[2]].reshape(300, -1).any(axis=1)
    moved = (found["cuda"][2] != start(program, dtype))[program.slices[2]].reshape(300, -1).any(axis=1)
    assert 0 < touched.sum() < 30 and np.array_equal(touched, moved)


@pytest.mark.parametrize(("loop", "l2"), [("grid", 0.05)], indirect=["loop"])
def test_three_blocks_that_wait_for_one_another(loop, l2, monkeypatch):  # noqa: F811
    monkeypatch.setattr(schedule, "THREADS", 32)
    monkeypatch.setattr(schedule, "multiprocessors", lambda: 3)
    assert_trained_alike(program_of(drop=0.2), "float64", steps=2, l2=l2, clip_norm=0.05)


@pytest.mark.parametrize(("loop", "l2"), [("block", 0.05)], indirect=["loop"])
def test_nets_side_by_side_are_those_trained_alone(loop, l2, monkeypatch):  # noqa: F811
    grids.together(monkeypatch, meet=False)
    program, dtype = program_of(), "float32"
    X, parameters = table(dtype, 40), start(program, dtype)
    y, weights = (np.nan_to_num(X[:, 1]) > 0).astype(dtype), np.linspace(0.0, 2.0, 40).astype(dtype)
    group = Group(program, np.stack([parameters] * 2), np.array([5, 3]), 16, named(RULES, "adam"))
    group.bind_data(X, y, weights, True, shuffle=True)
    for i in range(2):
        group.bind_net(i, SETTINGS["adam"], l2=l2 * i)
    group.bind_steps(np.array([[0.1] * 3, [0.05] * 3]), np.zeros((2, 3)))
    group.execute()
    group.to_host()
    right, moments, _ = trained("cuda", program, dtype, rows=40, batch=16, steps=3, l2=l2)
    assert group.parameters[1].tobytes() == right.tobytes()
    assert group.moments[0][1].tobytes() == moments[0].tobytes()
    assert np.isfinite(group.parameters[0]).all() and not np.array_equal(group.parameters[0], group.parameters[1])
