"""Training and prediction with device="cuda" beside the CPU's: the same order of rows, masks and formulas.

On a GPU with `pytest -m cuda`; in the simulator, where `test_cuda_scripts.py` runs this file, too, with tiny nets.
"""

import math

import gpu
import nets
import numpy as np
import pytest
from arrays import normal
from numba import njit
from test_custom import GATE, SQUARED
from tolerance import assert_close, assert_near

import fastnn

pytestmark = pytest.mark.cuda
SIMULATED = gpu.SIMULATED

# (widths, activations, loss, rows, batch), from a net that one block trains to one of large products
SIZES = [((3, 4, 2), ("tanh", "softmax"), "cross_entropy", 10, 4)]
LARGE_SIZES = [
    ((2, 4, 1), ("tanh", "sigmoid"), "binary_cross_entropy", 400, None),
    ((64, 32, 10), ("relu", "softmax"), "cross_entropy", 1797, 32),
    ((8, 64, 64, 1), ("gelu", "relu", "linear"), "huber", 4097, 100),
    ((128, 256, 256, 256, 10), ("silu", "tanh", "elu", "softmax"), "cross_entropy", 4097, 1024),
    ((784, 1024, 1024, 3), ("tanh", "tanh", "linear"), "mse", 8192, 4096),
    ((784, 1), ("sigmoid",), "binary_cross_entropy", 10_000, None),
]
ALL_SIZES = SIZES if SIMULATED else LARGE_SIZES


@njit
def bent(z):
    return (math.sqrt(z * z + 1.0) - 1.0) / 2.0 + z


@njit
def bent_slope(z):
    return z / (2.0 * math.sqrt(z * z + 1.0)) + 1.0


@njit
def listed(z):
    return bent(np.array([z]).max())


def two_nets(widths, activations, loss, dtype="float32", **options):
    """The same net on the CPU and on the GPU."""
    return [nets.pair(widths, activations, loss, dtype, device=device, **options)[0] for device in ("cpu", "cuda")]


def fit_both(both, X, y, make_optimizer, **settings):
    return [net.fit(X, y, optimizer=make_optimizer(), **settings) for net in both]


def assert_same_net(here, there, what=""):
    assert there.parameters.dtype == here.parameters.dtype
    assert_near(there.parameters, here.parameters, "training", what=what)


@pytest.mark.parametrize("size", ALL_SIZES, ids=lambda size: "-".join(map(str, size[0])))
def test_training_is_that_of_the_cpu(size, dtype):
    widths, activations, loss, rows, batch = size
    both = two_nets(widths, activations, loss, dtype)
    X, y = nets.data(rows, widths[0], widths[-1], loss, dtype)
    settings = dict(epochs=2 if SIMULATED else 4, batch_size=batch)
    here, there = fit_both(both, X, y, lambda: fastnn.SGD(0.05, momentum=0.9), **settings)
    assert_close(there.loss, here.loss, "training", dtype)
    assert there.steps == here.steps
    assert_same_net(*both)
    assert_near(both[1].predict(X), both[0].predict(X), "training")


def test_every_loop_gives_the_same_net(monkeypatch, dtype):
    from fastnn.kernels.cuda.schedule import LOOPS

    widths, activations, loss, rows, _ = SIZES[0]
    if not SIMULATED:
        widths, rows = (16, 24, 10), 1797  # of which one block holds eight samples in float64, too
    X, y = nets.data(rows, widths[0], widths[-1], loss, dtype)
    for loop in LOOPS:
        monkeypatch.setenv("FASTNN_CUDA_LOOP", loop)
        both = two_nets(widths, activations, loss, dtype)
        fit_both(both, X, y, fastnn.Adam, epochs=1 if SIMULATED else 3, batch_size=8)
        assert_same_net(*both, what=loop)


@pytest.mark.parametrize("loop", ["block", "shards", "grid", "graph"])
def test_functions_of_the_user(loop, monkeypatch, dtype):
    """Two pairs, a loss, and a short last batch."""
    monkeypatch.setenv("FASTNN_CUDA_LOOP", loop)
    rows, units = (9, 3) if SIMULATED else (900, 16)  # of which one block holds 32 samples in float64, too
    X, y = nets.data(rows, 4, 2, "mse", dtype)
    both = [
        fastnn.Sequential(
            [fastnn.Dense(units, GATE), fastnn.Dense(units, (bent, bent_slope)), fastnn.Dense(2, GATE)],
            SQUARED,
            dtype,
            device,
        ).build(4)
        for device in ("cpu", "cuda")
    ]
    here, there = fit_both(both, X, y, lambda: fastnn.SGD(0.05), epochs=2, batch_size=32 if rows > 32 else 4)
    assert_close(there.loss, here.loss, "training", dtype)
    assert_same_net(*both, what=loop)
    monkeypatch.delenv("FASTNN_CUDA_LOOP")  # one block does not hold all samples
    assert_near(both[1].predict(X), both[0].predict(X), "training")


@pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing")
def test_functions_that_no_gpu_can_compile():
    X, y = nets.data(9, 4, 2, "mse", "float32")
    net = fastnn.Sequential([fastnn.Dense(2, (listed, bent_slope))], device="cuda")
    with pytest.raises(ValueError, match="activation must be functions that numba-cuda compiles on a GPU; got listed"):
        net.fit(X, y)


@pytest.mark.parametrize(("precision", "rounding"), [("tf32", 2**-11), ("bf16", 2**-8)])
def test_a_precision_rounds_operands_and_nothing_else(precision, rounding, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_LOOP", "graph")
    widths, activations, loss, rows, batch = ((9, 9, 9), ("tanh", "softmax"), "cross_entropy", 9, 9)
    if not SIMULATED:
        widths, activations, loss, rows, batch = LARGE_SIZES[4]
    exact, rounded = (
        nets.pair(widths, activations, loss, "float32", device="cuda", precision=each)[0]
        for each in ("float32", precision)
    )
    X, y = nets.data(rows, widths[0], widths[-1], loss, "float32")
    start = np.array(exact.parameters)
    for net in (exact, rounded):
        net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=1, batch_size=batch)
    way, error = exact.parameters - start, exact.parameters - rounded.parameters
    assert 0 < np.linalg.norm(error) < 8 * rounding * np.linalg.norm(way)


@pytest.mark.parametrize("name", nets.OPTIMIZERS)
def test_every_optimizer(name):
    widths, activations, loss, rows, batch = SIZES[0] if SIMULATED else LARGE_SIZES[1]
    both = two_nets(widths, activations, loss, "float64")
    X, y = nets.data(rows, widths[0], widths[-1], loss, "float64")
    here, there = fit_both(both, X, y, nets.OPTIMIZERS[name][0], epochs=2, batch_size=batch)
    assert_close(there.loss, here.loss, "training", "float64")
    assert_same_net(*both, what=name)


def limit_twins(nbytes, monkeypatch):
    """Let larger arrays go to the device by themselves; None leaves the limit as it is."""
    from fastnn.kernels.cuda import driver, memory

    for module in (driver, memory) if nbytes else ():
        monkeypatch.setattr(module, "PINNED", nbytes)


@pytest.mark.parametrize("pinned,loop", [(None, ""), (64, ""), (None, "graph")], ids=["small", "large", "graph"])
def test_steps_one_by_one_with_what_changes_in_between(pinned, loop, monkeypatch):
    """Settings, rates, the number of rows, and the parameters themselves; arrays that go together, and one by one."""
    from fastnn.kernels.cuda import driver

    monkeypatch.setenv("FASTNN_CUDA_LOOP", loop)
    monkeypatch.setattr(driver, "AHEAD", 2)
    limit_twins(pinned, monkeypatch)
    widths, activations, loss, _, _ = SIZES[0]
    both = two_nets(widths, activations, loss, "float64")
    X, y = nets.data(9, widths[0], widths[-1], loss, "float64")
    for i, (optimizer, l2) in enumerate(nets.CHANGING):
        rows = slice(0, 4 if i < 5 else 9)  # a plan is kept for as many rows
        weights = np.linspace(0.5, 2.0, 9)[rows] if i % 2 else None
        here, there = (net.partial_fit(X[rows], y[rows], optimizer, weights, l2=l2) for net in both)
        assert_close(there, here, "training", "float64")
        assert_same_net(*both, what=f"{i}: {optimizer}")
        if i % 4 == 3:
            for net in both:
                net.set_weights([0.5 * array for array in net.get_weights()])


@pytest.mark.parametrize("pinned", [None, 64], ids=["small", "large"])
def test_steps_one_by_one_with_rows_of_every_kind(pinned, monkeypatch):
    """In one plan: on the host and on the GPU, class indices and one-hot rows, with weights and without."""
    limit_twins(pinned, monkeypatch)
    both = two_nets((3, 4, 2), ("tanh", "softmax"), "cross_entropy", "float64")
    X, y = nets.data(8, 3, 2, "cross_entropy", "float64")
    for i, place in enumerate([0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0]):
        rows = X + 0.1 * i
        targets = np.eye(2)[y] if i % 3 == 1 else y
        weights = np.linspace(0.5, 1.0 + i, 8) if i % 4 >= 2 else None
        here, there = (
            net.partial_fit(given, targets, "adam", weights)
            for net, given in zip(both, (rows, gpu.OnGpu(rows, "float64") if place else rows), strict=True)
        )
        assert_close(there, here, "training", "float64")
        assert_same_net(*both, what=str(i))


@pytest.mark.parametrize("pinned", [None, 64], ids=["small", "large"])
def test_weights_that_change_in_every_way_are_uploaded(pinned, monkeypatch):
    """Nothing of them is compared where nobody can have changed them, as a mark of the net says."""
    limit_twins(pinned, monkeypatch)
    both = two_nets((3, 4, 2), ("tanh", "softmax"), "cross_entropy", "float64")
    X, y = nets.data(12, 3, 2, "cross_entropy", "float64")

    def in_a_callback(net):
        class Halved(fastnn.Callback):
            def epoch(self, run):
                assert_near(run.net.predict(X), fresh(run.net).predict(X), "sum")
                run.net.parameters = 0.5 * run.net.state.parameters
                assert_near(run.net.predict(X), fresh(run.net).predict(X), "sum")

        net.fit(X, y, "sgd", 2, batch_size=6, callbacks=[Halved()])

    def fresh(net):
        other = fastnn.Sequential(net.layers, dtype="float64").build(3)
        other.set_weights(net.get_weights())
        return other

    def broken_off(net):
        with pytest.raises(fastnn.DivergedError):
            net.partial_fit(X, y, fastnn.SGD(1e308, weight_decay=1e10))

    def by_the_cpu(net):
        device, net.device = net.device, "cpu"
        net.partial_fit(X, y, "sgd")
        net.device = device

    def by_a_view(net):
        net.arrays[0][...] *= 0.7

    ways = [
        lambda net: net.partial_fit(X, y, "adam"),
        lambda net: net.partial_fit(X, y, "adam"),
        lambda net: net.fit(X, y, "sgd", 1, batch_size=6),
        lambda net: net.apply_gradient(0.1 * np.ones_like(net.state.parameters), fastnn.SGD(0.1, clip_norm=0.1)),
        lambda net: net.set_weights([0.9 * array for array in net.get_weights()]),
        lambda net: net.partial_fit(X, y, "adam"),
        lambda net: setattr(net, "parameters", 1.1 * net.state.parameters),
        lambda net: net.fit(X, y, "sgd", 2, callbacks=[fastnn.EarlyStopping(1)]),
        in_a_callback,
        by_the_cpu,
        lambda net: net.fit([(X[:6], y[:6]), (X[6:], y[6:])], None, "sgd", 1),
        broken_off,
        lambda net: net.partial_fit(X, y, "sgd"),
        by_a_view,
        lambda net: net.partial_fit(X, y, "sgd"),
        by_a_view,
    ]
    for i, change in enumerate(ways):
        for net in both:
            change(net)
        for _ in range(2):
            assert_near(both[1].predict(X), both[0].predict(X), "training", what=str(i))
            assert_close(both[1].evaluate(X, y)["loss"], both[0].evaluate(X, y)["loss"], "training", "float64")
    assert_same_net(*both)


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.3}, {"clip_value": 0.01}], ids=str)
def test_weights_dropout_penalty_clipping_and_validation(clip, dtype):
    widths, activations, loss, rows, batch = SIZES[0] if SIMULATED else LARGE_SIZES[1]
    both = two_nets(widths, activations, loss, dtype, drops=(0.2, 0.5))
    X, y = nets.data(rows, widths[0], widths[-1], loss, dtype)
    weights = np.random.default_rng(0).uniform(0.0, 2.0, rows)
    settings = dict(epochs=2, batch_size=batch, l2=1e-3, sample_weight=weights, validation_data=(X[:9], y[:9]))
    here, there = fit_both(both, X, y, lambda: fastnn.Adam(1e-3, **clip), **settings)
    assert_close(there.loss, here.loss, "training", dtype)
    assert_close(there.validation_loss, here.validation_loss, "training", dtype)
    assert_same_net(*both)


def test_losses_and_gradients(dtype):
    widths, activations, loss, rows, _ = SIZES[0] if SIMULATED else LARGE_SIZES[2]
    here, there = two_nets(widths, activations, loss, dtype)
    X, y = nets.data(rows, widths[0], widths[-1], loss, dtype)
    assert_close(there.evaluate(X, y)["loss"], here.evaluate(X, y)["loss"], "sum", dtype)
    for one, other in zip(there.loss_and_gradient(X, y), here.loss_and_gradient(X, y), strict=True):
        assert_near(one, other, "sum", dtype)
    assert_near(there.input_gradient(X, y), here.input_gradient(X, y), "sum", dtype)


def test_the_same_bits_in_every_fit():
    widths, activations, loss, rows, batch = SIZES[0] if SIMULATED else LARGE_SIZES[3]
    X, y = nets.data(rows, widths[0], widths[-1], loss, "float32")
    found = []
    for _ in range(2):
        net = two_nets(widths, activations, loss)[1]
        net.fit(X, y, optimizer=fastnn.Adam(1e-3), epochs=2, batch_size=batch)
        found.append(np.asarray(net.parameters).tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("widths", [(3, 4, 2)] if SIMULATED else [(16, 16, 16, 10), (64, 64, 64, 10)], ids=str)
def test_each_of_many_nets_has_the_bits_of_one_alone(widths):
    """A block each, in one launch: of the larger nets more in shared memory than every card gives."""
    from fastnn.kernels import formulas, tables
    from fastnn.kernels.cuda import driver, sweep
    from fastnn.kernels.state import TrainingState

    count, rows, batch, epochs = (3, 10, 4, 2) if SIMULATED else (300, 1797, 32, 3)
    activations = (*["relu"] * (len(widths) - 2), "softmax")
    net = two_nets(widths, activations, "cross_entropy", drops=[0.1] * len(activations))[1]
    X, y = nets.data(rows, widths[0], widths[-1], "cross_entropy", "float32")
    labels, rule = y.astype(np.float32), formulas.named(formulas.RULES, "adam")
    start = normal(5, count, net.program.size, scale=0.1, dtype="float32")
    group = sweep.Group(net.program, start.copy(), np.arange(count), batch, rule)
    steps = epochs * -(-rows // batch)
    settings, rates = fastnn.Adam().settings(), np.geomspace(1e-4, 1e-2, count)[:, np.newaxis] * np.ones(steps)
    rates[1] = 1e30  # one diverges
    l2, losses = np.linspace(0.0, 0.01, count), np.full((count, epochs), np.nan)
    group.bind_data(X, labels, labels=True, shuffle=True)
    for i in range(count):
        group.bind_net(i, settings, l2=l2[i])
    group.bind_steps(rates, losses)
    group.execute()
    assert np.flatnonzero(group.diverged).tolist() == [1]
    for i in (0, count // 2, count - 1):
        state, alone = TrainingState(start[i].copy(), i), np.full(epochs, np.nan)
        plan = driver.Plan(net.program, state.parameters, batch, tables.TRAIN, state, loop="block")
        plan.bind_data(X, labels, labels=True, shuffle=True)
        plan.bind_rule(rule, settings, l2=l2[i])
        plan.bind_steps(rates[i], alone)
        plan.execute()
        plan.to_host()
        assert group.state(i).parameters.tobytes() == state.parameters.tobytes()
        assert losses[i].tobytes() == alone.tobytes()
    assert np.isfinite(group.predict(X)).all() and len(group.predict(X)) == count - 1


def test_a_replayed_graph_gives_the_bits_of_its_launches(monkeypatch):
    from fastnn.kernels.cuda.launch import Recording

    monkeypatch.setenv("FASTNN_CUDA_LOOP", "graph")
    widths, activations, loss, rows, batch = SIZES[0] if SIMULATED else LARGE_SIZES[3]
    X, y = nets.data(rows, widths[0], widths[-1], loss, "float32")
    found, queued = [], []

    def eagerly(recording, times):
        queued.append(times)
        recording.eagerly(times)

    for way in (Recording.queue, eagerly):
        monkeypatch.setattr(Recording, "queue", way)
        net = two_nets(widths, activations, loss, drops=(0.2,) * len(activations))[1]
        history = net.fit(X, y, optimizer=fastnn.Adam(1e-3), epochs=1 if SIMULATED else 30, batch_size=batch)
        found.append(np.asarray(net.parameters).tobytes())
    assert found[0] == found[1]
    assert sum(queued) == history.steps


def test_a_net_of_the_gpu_is_saved_and_loaded(tmp_path):
    widths, activations, loss, rows, batch = ALL_SIZES[0]
    net = two_nets(widths, activations, loss)[1]
    X, y = nets.data(rows, widths[0], widths[-1], loss, "float32")
    net.fit(X, y, epochs=1, batch_size=batch)
    net.save(tmp_path / "net.safetensors")
    same = fastnn.load(tmp_path / "net.safetensors")
    assert_near(same.predict(X), net.predict(X), "training")


def test_divergence_is_seen():
    net = two_nets((3, 4, 1), ("relu", "linear"), "mse")[1]
    X = normal(1, 12, 3, dtype="float32")
    with pytest.raises(fastnn.DivergedError):
        net.fit(X, X[:, 0] * 1e3, optimizer=fastnn.SGD(1e6), epochs=50, batch_size=4)
    assert np.isfinite(np.asarray(net.parameters)).all()


@pytest.mark.skipif(SIMULATED, reason="the simulator has the memory of the host")
def test_out_of_memory_is_said_clearly():
    net = two_nets((1, 1 << 17, 1), ("tanh", "linear"), "mse")[1]
    X = normal(1, 1 << 19, 1, dtype="float32")
    with pytest.raises(MemoryError, match="memory"):  # activations of 256 GiB
        net.fit(X, X[:, 0], epochs=1, batch_size=None)
    history = net.fit(X[:64], X[:64, 0], epochs=1, batch_size=32)  # the net is as good as before
    assert np.isfinite(history.loss).all()
