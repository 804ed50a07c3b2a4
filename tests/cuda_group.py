"""Many nets in one launch, in the simulator; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1."""

import grids
import numpy as np
import pytest
from arrays import normal
from cuda_plans import ADAM, net

from fastnn.kernels import tables
from fastnn.kernels.cuda import driver, launch, schedule, toolchain
from fastnn.kernels.cuda.group import Group
from fastnn.kernels.formulas import RULES, named
from fastnn.kernels.state import TrainingState

assert toolchain.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"

ROWS, BATCH = 11, 4  # the last batch of an epoch is short
EPOCH = -(-ROWS // BATCH)
X, SCORES = normal(1, ROWS, 3), normal(2, ROWS, 2)
WEIGHTS = np.linspace(0.5, 2.0, ROWS)
# of each net: its rate, its settings beside those of Adam, and what else an update takes
NETS = [
    (0.05, {}, {}),
    (0.01, {"beta1": 0.5}, {"l2": 0.1, "weight_decay": 0.05}),
    (0.2, {}, {"clip_norm": 0.02}),
    (0.02, {"eps": 1e-3}, {"l2": 0.2, "clip_value": 0.01, "clip_norm": 0.02}),
    (0.05, {"decoupled": 0.3}, {"clip_value": 0.005}),
]


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    monkeypatch.setattr(schedule, "THREADS", 32)
    monkeypatch.setattr(launch, "THREADS", 32)
    grids.together(monkeypatch, meet=False)


def program_of(drops=(0.2, 0.3), loss="cross_entropy"):
    last = "softmax" if loss == "cross_entropy" else "linear"
    return net((3, 5, 2), ("elu", last), loss, drops, standardize=True)[0]


def starts(program, count, dtype="float64"):
    """(parameters of `count` nets, their seeds)."""
    return normal(3, count, program.size, dtype=dtype), 7 + np.arange(count)


def bind(run, weights):
    rows, labels, weights = (array.astype(run.parameters.dtype) for array in (X, SCORES[:, 0] > 0, weights))
    run.bind_data(rows, labels, weights, True, shuffle=True)


def group_of(program, count, dtype="float64", weights=WEIGHTS):
    parameters, seeds = starts(program, count, dtype)
    group = Group(program, parameters, seeds, BATCH, named(RULES, "adam"))
    bind(group, weights)
    for i, (_, settings, more) in enumerate(NETS[:count]):
        group.bind_net(i, ADAM | settings, **more)
    return group


def rates_of(count, steps):
    return np.array([np.linspace(rate, rate / 2, steps) for rate, _, _ in NETS[:count]])


def alone(program, i, steps, dtype="float64", weights=WEIGHTS, epochs=4):
    """(state, losses, whether it diverged) of net i, trained by itself in runs of so many steps."""
    parameters, seeds = starts(program, i + 1, dtype)
    state, losses = TrainingState(parameters[i].copy(), int(seeds[i])), np.full(epochs, np.nan)
    plan = driver.Plan(program, state.parameters, BATCH, tables.TRAIN, state, loop="block")
    bind(plan, weights)
    _, settings, more = NETS[i]
    plan.bind_rule(named(RULES, "adam"), ADAM | settings, **more)
    for rates in steps:
        plan.bind_steps(rates, losses, state.epoch)
        plan.execute()
    plan.to_host()
    return state, losses, plan.diverged


def assert_same(group, i, losses, state, right):
    here = group.state(i)
    assert here.parameters.tobytes() == state.parameters.tobytes(), i
    assert here.table.tolist() == state.table.tolist() and here.sums.tolist() == state.sums.tolist(), i
    for one, other in zip(here.moments, state.moments, strict=True):
        assert one.tobytes() == other.tobytes(), i
    np.testing.assert_array_equal(losses[i], right, str(i))


@pytest.mark.parametrize("count,dtype", [(5, "float64"), (2, "float32")])
def test_each_net_has_the_bits_of_one_trained_alone(count, dtype):
    """Rates, seeds, l2, decay, two kinds of clipping, dropout, weights, a short last batch, two runs.

    In float32 the kernel of a net that is not clipped has no passes over the gradient, but beside one that is.
    """
    program = program_of()
    group, losses = group_of(program, count, dtype), np.full((count, 4), np.nan)
    rates = rates_of(count, EPOCH + 2)
    for part in (rates[:, :4], rates[:, 4:]):
        group.bind_steps(part, losses)
        group.execute()
    assert not group.diverged.any() and (group.counters[:, tables.State.STEP] == EPOCH + 2).all()
    for i in range(count):
        state, right, _ = alone(program, i, (rates[i, :4], rates[i, 4:]), dtype)
        assert_same(group, i, losses, state, right)


def test_nets_that_pause_go_on_from_where_they_stood():
    program = program_of()
    group, losses = group_of(program, 3), np.full((3, 4), np.nan)
    rates = rates_of(3, 4)
    for active in ([True, False, True], [False, True, True], [True, True, False]):
        group.active[:] = active
        group.bind_steps(rates, losses)
        group.execute()
    for i in range(3):
        state, right, _ = alone(program, i, (rates[i], rates[i]))
        assert_same(group, i, losses, state, right)


def test_a_net_that_diverges_ends_alone():
    program = program_of(drops=None, loss="mse")
    group, losses = group_of(program, 3), np.full((3, 4), np.nan)
    group.bind_data(X, SCORES)
    rates = rates_of(3, 5)
    rates[1] = [1e300, 1e300, 1.0, 1.0, 1.0]
    group.remember(np.arange(3))
    group.bind_steps(rates, losses)
    group.execute()
    assert group.diverged.tolist() == [False, True, False] and group.active.tolist() == [True, False, True]
    assert group.counters[:, tables.State.STEP].tolist()[::2] == [5, 5] and group.counters[1, tables.State.STEP] < 5
    group.restore(np.array([1]))
    group.to_host()
    assert group.parameters[1].tobytes() == starts(program, 3)[0][1].tobytes()
    assert np.isfinite(group.parameters).all() and np.isfinite(losses[[0, 2], 0]).all()
    healthy = group_of(program, 3)
    healthy.bind_data(X, SCORES)
    healthy.bind_steps(rates_of(3, 5), np.full((3, 4), np.nan))
    healthy.execute()
    healthy.to_host()
    for i in (0, 2):
        assert group.parameters[i].tobytes() == healthy.parameters[i].tobytes()


def test_parameters_that_the_last_step_made_infinite_are_seen():
    program = program_of(drops=None, loss="mse")
    group = Group(program, *starts(program, 2), BATCH, named(RULES, "sgd"))
    group.bind_data(X, 100 * SCORES)
    group.bind_steps(np.array([[0.1], [1e308]]), np.full((2, 1), np.nan))
    group.execute()
    assert group.diverged.tolist() == [False, True]
    assert group.counters[:, tables.State.STEP].tolist() == [1, 1]


def test_all_nets_diverge_in_their_first_step():
    program = program_of(drops=None, loss="mse")
    group, losses = group_of(program, 2), np.full((2, 1), np.nan)
    group.bind_data(X, 1e200 * SCORES)
    group.bind_steps(np.full((1, 2), 0.1), losses)
    group.execute()
    assert group.diverged.all() and not group.active.any() and not group.counters[:, tables.State.STEP].any()
    group.execute()  # of no net
    group.to_host()
    assert group.parameters.tobytes() == starts(program, 2)[0].tobytes() and np.isnan(losses).all()


def test_rates_that_all_share_and_batches_without_weight():
    program, weights = program_of(), np.zeros(ROWS)
    weights[3:7] = 1.0
    group, losses = group_of(program, 2, weights=weights), np.full((2, 4), np.nan)
    rates = np.array([[0.05, 0.04, 0.03, 0.02]])
    group.bind_steps(rates, losses)
    group.execute()
    for i in range(2):
        state, right, _ = alone(program, i, (rates[0],), weights=weights)
        assert_same(group, i, losses, state, right)
    assert (group.counters[:, tables.State.STEP] < 4).any()


def test_held_out_losses_and_predictions_of_the_active_nets():
    program = program_of()
    group = group_of(program, 3)
    labels, few = (SCORES[:, 1] > 0).astype(float), np.array([8, 1, 2])
    group.active[1] = False
    group.bind_held_out(X, labels, WEIGHTS, True)
    losses, outputs, some = group.evaluate(), group.predict(X), group.predict(X, few)
    assert losses.shape == (2,) and outputs.shape == (2, ROWS, 2)
    for i, loss, out, chosen in zip((0, 2), losses, outputs, some, strict=True):
        parameters = starts(program, 3)[0][i]
        plan = driver.make_plan(program.evaluating, parameters, ROWS, tables.EVALUATE)
        plan.bind_data(X, labels, WEIGHTS, True)
        plan.execute()
        assert loss == pytest.approx(plan.loss, rel=1e-14)
        plan, right = driver.make_plan(program.predicting, parameters, ROWS, tables.PREDICT), np.empty((ROWS, 2))
        plan.bind_data(X)
        plan.bind_output(right)
        plan.execute()
        np.testing.assert_allclose(out, right, 1e-13)
        np.testing.assert_allclose(chosen, right[few], 1e-13)


def test_the_parameters_of_single_nets_are_remembered():
    program = program_of(drops=None)
    group, losses = group_of(program, 3), np.full((3, 4), np.nan)
    for chosen in ([0, 1, 2], [2]):
        group.remember(np.array(chosen))
        group.bind_steps(rates_of(3, 1), losses)
        group.execute()
    after_one = alone(program, 2, (rates_of(3, 1)[2],))[0].parameters
    after_two = alone(program, 1, (rates_of(3, 1)[1],) * 2)[0].parameters
    group.restore(np.array([0, 2]))
    group.to_host()
    for parameters, right in zip(group.parameters, (starts(program, 3)[0][0], after_two, after_one), strict=True):
        assert parameters.tobytes() == right.tobytes()


def test_what_is_refused():
    program, (parameters, seeds) = program_of(), starts(program_of(), 2)
    rule = named(RULES, "adam")
    with pytest.raises(
        ValueError, match="program must be a net and batch of at most 49,152 bytes, .*; got .* batch of"
    ):
        Group(program, parameters, seeds, 500, rule)
    with pytest.raises(ValueError, match="precision must be 'float32' for nets .*; got 'tf32'"):
        Group(program, parameters, seeds, BATCH, rule, "tf32")
    group = group_of(program, 2)
    with pytest.raises(ValueError, match="losses must have a place for each epoch that ends, 2; got 1"):
        group.bind_steps(np.full((1, 2 * EPOCH), 0.1), np.full((2, 1), np.nan))


def test_blocks_that_share_what_they_write_are_found_out(monkeypatch):
    """The tests of several nets rest on it."""
    group = group_of(program_of(), 2)
    plain = group.plan.upload_tables

    def one_loss_for_all(made):
        made[:, tables.Run.LOSSES] = made[0, tables.Run.LOSSES]
        plain(made)

    monkeypatch.setattr(group.plan, "upload_tables", one_loss_for_all)
    group.bind_steps(rates_of(2, 1), np.full((2, 1), np.nan))
    with pytest.raises(AssertionError, match="a race of blocks"):
        group.execute()
