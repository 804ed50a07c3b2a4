"""The loop of the CUDA backend in the simulator; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1."""

import importlib
import itertools
import signal
import threading
import time
from types import SimpleNamespace

import grids
import numpy as np
import pytest
import reference
from nets import OPTIMIZERS, data, flat, pair
from numba import njit
from test_custom import GATE, SQUARED
from tolerance import assert_close

import fastnn
from fastnn import dead_units, plans
from fastnn.data import check as checked_rows
from fastnn.kernels import tables
from fastnn.kernels.cuda import activations, dense, driver, graph, launch, losses, phases, schedule, toolchain

assert toolchain.SIMULATED, "set NUMBA_ENABLE_CUDASIM=1"


products = importlib.import_module("fastnn.kernels.cuda.matmul")  # whose name in the package is a function
every_loop = pytest.mark.parametrize("loop", schedule.LOOPS, indirect=True)


def loops_with(name, values, quick, loops=schedule.LOOPS):
    """Decorator: every loop with every value, quickly those pairs alone."""
    cases = itertools.product(loops, values)
    cases = [case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in cases]
    return pytest.mark.parametrize(("loop", name), cases, indirect=["loop"])


in_each_dtype = loops_with(
    "dtype", ("float32", "float64"), [("block", "float32"), ("grid", "float64"), ("graph", "float32")]
)


@pytest.fixture(autouse=True, params=["block", "grid"])
def loop(request, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_LOOP", request.param)
    monkeypatch.setattr(schedule, "THREADS", 64)
    monkeypatch.setattr(launch, "THREADS", 32)
    monkeypatch.setattr(graph, "THREADS", 64)
    monkeypatch.setattr(graph, "processors", lambda: 2)
    monkeypatch.setattr(losses, "WARPS", 2)
    monkeypatch.setattr(activations, "WARPS", 1)
    monkeypatch.setattr(products, "SKINNY_THREADS", 64)
    grids.together(monkeypatch, meet=request.param != "graph")
    return request.param


@in_each_dtype
def test_any_fit(loop, dtype):
    """Weights, a short last batch, l2, and the parts of a gradient, against the reference."""
    net, twin, weights = pair((3, 6, 2), ("tanh", "softmax"), dtype=dtype, l2=0.02, device="cuda")
    X, y = data(37, 3, 2, dtype=dtype)
    w = np.linspace(0.5, 2.0, 37)
    batches = reference.in_order(37, 33)
    right, losses = twin.train(weights, X, y, reference.Optimizer("adam", 0.02), 2, batches, w)
    settings = dict(epochs=2, batch_size=33, shuffle=False, sample_weight=w, l2=0.02)
    history = net.fit(X, y, optimizer=fastnn.Adam(0.02), **settings)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)


def both(make, fit):
    """(weights, losses) of one fit on each device."""
    results = []
    for device in ("cpu", "cuda"):
        net = make(device)
        history = fit(net)
        results.append((flat(net.get_weights()), history.loss))
    return results


def assert_alike(make, fit, dtype):
    (weights, losses), (theirs, their_losses) = both(make, fit)
    assert_close(theirs, weights, "training", dtype)
    assert_close(their_losses, losses, "training", dtype)


@every_loop
def test_the_order_of_rows_and_the_masks_are_those_of_the_cpu(loop):
    X, y = data(21, 4, 3)

    def make(device):
        layers = [fastnn.Dropout(0.2), fastnn.Dense(6, "silu"), fastnn.Dropout(0.4), fastnn.Dense(3, "softmax")]
        return fastnn.Sequential(layers, dtype="float64", device=device, seed=3)

    assert_alike(make, lambda net: net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=2, batch_size=8), "float64")


@loops_with("last", ("tanh", "linear"), [("block", "tanh"), ("grid", "linear"), ("graph", "tanh")])
def test_standardised_clipped_and_not_fused(last, loop):
    X, y = data(7, 4, 2, "mse")

    def make(device):
        layers = [fastnn.Dense(5, "elu"), fastnn.Dense(2, last)]
        return fastnn.Sequential(layers, loss="huber", dtype="float64", device=device, standardize=True)

    def fit(net):
        optimizer = fastnn.RMSprop(0.01, momentum=0.5, clip_value=0.01, clip_norm=0.02)
        return net.fit(3 * X + 1, y, optimizer=optimizer, epochs=2, batch_size=5, l2=0.1)

    assert_alike(make, fit, "float64")


@every_loop
def test_two_outputs_a_target(loop):
    X, y = data(12, 4, 2, "mse")

    def make(device):
        layers = [fastnn.Dense(5, "elu"), fastnn.Dense(4)]
        return fastnn.Sequential(layers, loss="gaussian", dtype="float64", device=device, standardize=True)

    assert_alike(make, lambda net: net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=2, batch_size=5), "float64")


def test_an_objective(loop):
    net, twin, weights = pair((3, 5, 2), ("gelu", "softmax"), dtype="float32", l2=0.1, device="cuda")
    X, y = data(18, 3, 2, dtype="float32")
    f = net.objective(X, y, l2=0.1, dtype="float64")
    for theta in (np.zeros(net.parameters.shape), net.parameters):  # the device gets each
        loss, gradient = f(theta)
    assert f.device == "cuda" and loss == pytest.approx(twin.objective(weights, X, y), rel=1e-12)
    right, _ = twin.gradients(weights, X, y)
    parts = [part for slices in net.parameter_slices for part in slices]
    assert_close(np.concatenate([gradient[part] for part in parts]), flat(right), "sum")


@every_loop
def test_predictions_in_the_units_of_the_targets(loop):
    X, y = data(20, 3, 2, "mse", "float64")
    nets = [fastnn.Sequential([fastnn.Dense(2)], dtype="float64", device=d, standardize=True) for d in ("cpu", "cuda")]
    for net in nets:
        net.fit(1e5 + X, 40 + 3 * y, optimizer=fastnn.SGD(0.1), epochs=2, batch_size=None)
    assert_close(nets[1].predict(1e5 + X), nets[0].predict(1e5 + X), "training")


@every_loop
def test_a_batch_without_weight_is_no_step(loop):
    X, y = data(15, 3, 1, "mse", "float64")
    weights = np.ones(15)
    weights[5:10] = 0.0
    nets = [fastnn.Sequential([fastnn.Dense(1)], dtype="float64", device="cuda") for _ in range(2)]
    settings = dict(optimizer=fastnn.Adam(0.1), epochs=2, batch_size=5, shuffle=False)
    history = nets[0].fit(X, y, sample_weight=weights, **settings)
    right = nets[1].fit(X, y, rows=np.flatnonzero(weights), **settings)
    assert history.steps == right.steps == nets[0].state.step == 4
    assert_close(nets[0].parameters, nets[1].parameters, "training")
    assert_close(history.loss, right.loss, "training")


@pytest.mark.parametrize("name", ["sgd, decay", "nesterov", "adamw"])
def test_optimizers_go_on_from_fit_to_fit(name, loop):
    optimizer, settings = OPTIMIZERS[name]
    net, twin, weights = pair((2, 1), ("sigmoid",), "binary_cross_entropy", device="cuda")
    X, y = data(6, 2, 1, "binary_cross_entropy")
    rule = reference.Optimizer(**settings)
    for _ in range(2):
        weights, losses = twin.train(weights, X, y, rule, 2)
        history = net.fit(X, y, optimizer=optimizer(), epochs=2, batch_size=None)
        assert_close(flat(net.get_weights()), flat(weights), "training")
        assert_close(history.loss, losses, "training")


@loops_with(
    "loss",
    list(reference.LOSSES),
    # each in a block or in a grid, whose formulas are the same; one everywhere
    [*zip(itertools.cycle(("block", "grid")), reference.LOSSES), *((loop, "cross_entropy") for loop in schedule.LOOPS)],
)
def test_passes_without_an_update(loss, loop):
    output = (reference.FUSED | {"mae": "tanh"}).get(loss, "linear")
    net, twin, weights = pair((3, 5, 2), ("gelu", output), loss, device="cuda")
    X, y = data(18, 3, 2, loss)
    value, gradient = net.loss_and_gradient(X, y)
    right, right_dX = twin.gradients(weights, X, y)
    assert_close(value, twin.objective(weights, X, y), "sum", "float64")
    parts = [part for slices in net.parameter_slices for part in slices]
    assert_close(np.concatenate([gradient[part] for part in parts]), flat(right), "sum")
    assert_close(net.input_gradient(X, y), right_dX, "sum")
    assert_close(net.predict(X), twin.predict(weights, X), "sum")
    assert net.evaluate(X, y)["loss"] == pytest.approx(value)


def test_threads_share_long_sums():
    net, twin, weights = pair((70, 12, 33), ("tanh", "softmax"), dtype="float32", device="cuda")
    X, y = data(7, 70, 33, dtype="float32")
    right, losses = twin.train(weights, X, y, reference.Optimizer("sgd", 0.1), 1, reference.in_order(7, 7))
    history = net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=1, batch_size=None)
    assert_close(flat(net.get_weights()), flat(right), "training", "float32")
    assert_close(history.loss, losses, "training", "float32")


def test_long_data_pass_by_in_parts(loop, monkeypatch):
    monkeypatch.setattr(driver, "FEW_ROWS", 8)
    net, twin, weights = pair((3, 4, 2), ("relu", "softmax"), device="cuda")
    X, y = data(20, 3, 2)
    w = np.linspace(0.0, 1.0, 20)
    assert_close(net.predict(X), twin.predict(weights, X), "sum")
    assert_close(net.evaluate(X, y, w)["loss"], twin.objective(weights, X, y, w), "sum", "float64")


@pytest.mark.parametrize(("loop", "blocks"), [("graph", 1), ("graph", 2)], indirect=["loop"])
def test_launches_side_by_side_and_the_last_block_of_an_update(loop, blocks, monkeypatch):
    """What may run beside the next launch may run after it; a block has many parameters, the last one adds them all."""
    monkeypatch.setattr(graph, "ON_EACH", blocks)
    monkeypatch.setattr(graph, "processors", lambda: 1)
    X, y = data(5, 10, 4)
    nets = [pair((10, 12, 4), ("tanh", "softmax"), dtype="float64", l2=0.1, device=d)[0] for d in ("cpu", "cuda")]
    queued = []

    def swapped(recording, times):
        queued[:] = row = [*recording.launches]
        for i in [i for i, one in enumerate(row[:-1]) if one.beside and not row[i + 1].beside]:
            row[i], row[i + 1] = row[i + 1], row[i]
        for _ in range(times):
            launch.queue(row, 0)

    monkeypatch.setattr(launch.Recording, "eagerly", swapped)
    settings = dict(epochs=2, batch_size=5, l2=0.1)
    fits = [net.fit(X, y, optimizer=fastnn.Adam(0.02, clip_norm=0.5), **settings) for net in nets]
    assert [one.beside for one in queued].count(True) == 1  # of two layers, the second has two gradients
    assert [one.blocks for one in queued if one.kernel.fn.__name__ == "update"] == [blocks]
    assert_close(fits[1].loss, fits[0].loss, "training", "float64")
    assert_close(nets[1].parameters, nets[0].parameters, "training", "float64")


@pytest.mark.parametrize("loop", ["block"], indirect=True)
def test_a_loop_without_room_for_a_look_at_dead_units_ends_no_fit(loop, monkeypatch):
    net, _, _ = pair((3, 4, 2), ("relu", "softmax"), device="cuda")
    rows = checked_rows(net, *data(9, 3, 2))
    monkeypatch.setattr(schedule, "shared_bytes", lambda: 64)
    monkeypatch.setattr(dead_units, "_answer", lambda *_: False)
    with pytest.raises(ValueError, match="FASTNN_CUDA_LOOP must be 'grid' or 'graph'"):
        driver.make_plan(net.program, net.parameters, 9, tables.PREDICT)
    dead_units.warn(net, rows, 1, "cuda")


def test_batches_of_an_iterable(loop):
    X, y = data(15, 3, 2)
    batches = [(X[:6], y[:6], np.linspace(0.5, 2.0, 6)), (X[6:10], y[6:10]), (X[10:], y[10:])]

    def make(device):
        layers = [fastnn.Dropout(0.3), fastnn.Dense(4, "tanh"), fastnn.Dense(2, "softmax")]
        return fastnn.Sequential(layers, dtype="float64", device=device)

    assert_alike(make, lambda net: net.fit(batches, epochs=2), "float64")


def test_control_c_leaves_the_net_at_its_last_completed_step(monkeypatch):
    monkeypatch.setitem(plans.GUESSED_FLOPS, "cuda", 1e4)  # short chunks
    X, y = data(8, 3, 2)
    interrupted, calm = (pair((3, 4, 2), ("tanh", "softmax"), dtype="float64", device="cuda")[0] for _ in range(2))

    def press():
        while interrupted.state.step == 0:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=1000, batch_size=None)
    presser.join()
    steps = interrupted.state.step
    assert 0 < steps < 1000
    calm.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=steps, batch_size=None)
    assert interrupted.parameters.tobytes() == calm.parameters.tobytes()


@every_loop
def test_divergence_leaves_weights_of_a_completed_chunk(loop):
    net, _, _ = pair((2, 3, 1), ("relu", "linear"), "mse", "float32", device="cuda")
    X, y = data(6, 2, 1, "mse")
    with pytest.raises(fastnn.DivergedError):
        net.fit(X, y, optimizer=fastnn.SGD(1e30), epochs=10, batch_size=None)
    assert np.isfinite(net.parameters).all()


def test_a_batch_without_weight_changes_nothing(loop):
    X, y = data(6, 2, 1, "mse")

    def fit(net):
        weights = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]
        return net.fit(X, y, epochs=2, batch_size=2, shuffle=False, sample_weight=weights)

    assert_alike(lambda device: fastnn.Sequential([fastnn.Dense(1)], dtype="float64", device=device), fit, "float64")


@njit
def softsign(z):
    return z / (1.0 + abs(z))


@njit
def softsign_slope(z):
    return 1.0 / (1.0 + abs(z)) ** 2


@njit
def doubled(z):
    return softsign(z) + softsign(z)


@njit
def doubled_slope(z):
    return 2 * softsign_slope(z)


@njit
def root(z):
    return np.sign(z) * np.sqrt(abs(z))


@njit
def root_slope(z):
    return 0.5 / np.sqrt(abs(z))


@njit
def divergence(prediction, target):
    return target * np.log(target / prediction) - target + prediction


@njit
def divergence_slope(prediction, target):
    return 1.0 - target / prediction


@loops_with("dtype", ("float32", "float64"), [("block", "float32"), ("grid", "float64")])
def test_functions_of_the_user(loop, dtype):
    """Three pairs in four layers, one behind dropout, a loss of their own, weights and a short last batch."""
    X, y = data(19, 4, 2, "mse", dtype)

    def make(device):
        layers = [
            fastnn.Dense(5, GATE),
            fastnn.Dropout(0.3),
            fastnn.Dense(4, (softsign, softsign_slope)),
            fastnn.Dense(3, GATE),
        ]
        layers.append(fastnn.Dense(2, (doubled, doubled_slope)))
        return fastnn.Sequential(layers, loss=SQUARED, dtype=dtype, device=device, seed=3)

    def fit(net):
        history = net.fit(X, y, epochs=2, batch_size=8, sample_weight=np.linspace(0.0, 2.0, 19))
        value, gradient = net.loss_and_gradient(X, y)
        return SimpleNamespace(loss=[*history.loss, value, *gradient, *net.input_gradient(X, y).flat])

    assert_alike(make, fit, dtype)


@every_loop
def test_no_function_of_the_user_meets_a_sample_that_is_none(loop):
    """Where zeros stood for the samples that a short batch lacks, these would be NaN."""
    X, y = data(7, 3, 2, "mse")

    def make(device):
        layers = [fastnn.Dense(3, (root, root_slope)), fastnn.Dense(2, "softplus")]
        return fastnn.Sequential(layers, (divergence, divergence_slope), "float64", device)

    assert_alike(make, lambda net: net.fit(X, 1.0 + abs(y), epochs=2, batch_size=5), "float64")


def plan_for(net, batch):
    return driver.make_plan(net.program, net.parameters, batch, tables.TRAIN, net.state)


@pytest.mark.parametrize("loop", ["grid"], indirect=True)
def test_what_is_trained_picks_the_update(loop, monkeypatch):
    """At once only where every kind of operation with parameters does so; else by fours, in a grid, too."""
    net = fastnn.Sequential([fastnn.Dense(9, "tanh"), fastnn.Dropout(0.2), fastnn.Dense(3, "softmax")]).build(6)
    plain = {loop: schedule.update_of(net.program, "float32", loop, 1, clips=False) for loop in schedule.LOOPS}
    assert plain == {"block": phases.FOURS, "shards": phases.FOURS, "grid": phases.AT_ONCE, "graph": ""}
    assert schedule.update_of(net.program, "float32", "grid", 1, clips=True) == phases.PASSES
    assert schedule.update_of(net.program, "float64", "grid", 1, clips=False) == phases.PASSES
    assert schedule.update_of(net.program, "float32", "grid", 2, clips=False) == phases.FOURS
    monkeypatch.setattr(dense, "UPDATES_AT_ONCE", False)
    assert schedule.update_of(net.program, "float32", "grid", 1, clips=False) == phases.FOURS
    X, y = data(50, 6, 3, dtype="float32")
    assert_alike(
        lambda device: pair(widths=(6, 9, 3), activations=("tanh", "softmax"), dtype="float32", device=device)[0],
        lambda net: net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=2, batch_size=20),
        "float32",
    )


def test_the_work_of_a_step_picks_the_loop(monkeypatch):
    monkeypatch.delenv("FASTNN_CUDA_LOOP")
    small, large = (fastnn.Sequential([fastnn.Dense(units)], device="cuda").build(100) for units in (3, 300))
    assert plan_for(small, 8).schedule.loop == "block"
    assert plan_for(large, 8).schedule.loop == "grid"
    medium = fastnn.Sequential([fastnn.Dense(20)], device="cuda").build(100)
    assert plan_for(medium, 700).schedule.loop == "grid"  # a shard does not fit
    monkeypatch.setattr(schedule, "multiprocessors", lambda: 30)
    assert plan_for(medium, 700).schedule[:2] == ("shards", (30, 64))
    assert plan_for(medium, 7000).schedule.loop == "grid"
    assert plan_for(large, 1000).schedule.loop == "graph"
    monkeypatch.setenv("FASTNN_CUDA_LOOP", "block")
    with pytest.raises(ValueError, match="FASTNN_CUDA_LOOP must be 'grid' or 'graph' for a net and batch of"):
        plan_for(large, 8)
    monkeypatch.setenv("FASTNN_CUDA_LOOP", "shards")
    with pytest.raises(ValueError, match="must be 'grid' or 'graph' for a net with Columns, .*; got 'shards'"):
        plan_for(large, 8)
    deep = fastnn.Sequential([fastnn.Dense(1) for _ in range(300)], device="cuda").build(1)
    monkeypatch.setenv("FASTNN_CUDA_LOOP", "grid")
    with pytest.raises(ValueError, match="must be 'graph' for a net of 300 operations; got 'grid'"):
        plan_for(deep, 8)  # its tables do not fit into shared memory
    with pytest.raises(ValueError, match="must be 'graph' for a workspace of .* numbers; got 'grid'"):
        schedule.make_schedule(small.program, np.float32, 1 << 25, tables.TRAIN)
    monkeypatch.delenv("FASTNN_CUDA_LOOP")
    assert plan_for(deep, 8).schedule.loop == "graph"
    monkeypatch.setenv("FASTNN_CUDA_LOOP", "both")
    with pytest.raises(ValueError, match="FASTNN_CUDA_LOOP must be block, shards, grid or graph; got 'both'"):
        plan_for(small, 8)
