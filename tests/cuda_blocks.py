"""Loops of several blocks in the simulator; `test_cuda.py` starts this file with NUMBA_ENABLE_CUDASIM=1."""

import threading

import grids
import numpy as np
import pytest
from cuda_loop import assert_alike
from nets import data, flat, pair
from tolerance import assert_close

import fastnn
from fastnn.kernels import tables
from fastnn.kernels.cuda import driver, loop_tiles, phases, schedule, step


@pytest.fixture
def blocks(monkeypatch):
    """Gives the grid, or shards, a number of blocks, of one warp each or of some."""
    grids.together(monkeypatch)

    def give(number, loop="grid", threads=32):
        monkeypatch.setenv("FASTNN_CUDA_LOOP", loop)
        monkeypatch.setattr(schedule, "THREADS", threads)
        monkeypatch.setattr(schedule, "multiprocessors", lambda: number)

    return give


# more work than three warps take at once
WIDE = dict(widths=(5, 18, 3), activations=("silu", "softmax"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_blocks_that_wait_for_one_another(number, blocks):
    """Weights, two kinds of clipping, l2, dropout and a short last batch."""
    blocks(number)
    X, y = data(67, 5, 3)
    w = np.linspace(0.5, 2.0, 67)

    def make(device):
        return pair(**WIDE, dtype="float64", device=device, drops=(0.1, 0.3))[0]

    def fit(net):
        if net.device == "cuda":
            plan = driver.make_plan(net.program, net.parameters, 50, tables.TRAIN, net.state)
            assert plan.schedule.shape == (number, 32) and plan.schedule.parts == (1, 3, 3)[number - 1]
        optimizer = fastnn.Adam(0.02, clip_value=0.01, clip_norm=0.02)
        return net.fit(X, y, optimizer=optimizer, epochs=2, batch_size=50, sample_weight=w, l2=0.02)

    assert_alike(make, fit, "float64")


@pytest.mark.parametrize("number", [2, 3])
def test_updates_at_once(number, blocks):
    """With weights, dropout, a short last batch, and widths that are no multiples of four, beside one that is."""
    blocks(number)
    X, y = data(67, 8, 3, dtype="float32")
    w = np.linspace(0.5, 2.0, 67).astype("float32")

    def make(device):
        return pair(
            widths=(8, 18, 3), activations=("silu", "softmax"), dtype="float32", device=device, drops=(0.1, 0.3)
        )[0]

    def fit(net):
        assert schedule.update_of(net.program, "float32", "grid", 1, clips=False) == phases.AT_ONCE
        return net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=2, batch_size=50, sample_weight=w)

    assert_alike(make, fit, "float32")


def test_parts_of_a_long_batch(blocks):
    """Where a grid has more threads than a small net's gradient takes."""
    blocks(3)
    X, y = data(300, 4, 3, dtype="float32")

    def make(device):
        return pair(widths=(4, 1), activations=("linear",), loss="mse", dtype="float32", device=device)[0]

    def fit(net):
        if net.device == "cuda":
            plan = driver.make_plan(net.program, net.parameters, 256, tables.TRAIN, net.state)
            assert plan.schedule.shape == (3, 32) and plan.schedule.parts == 2
        return net.fit(X, (y == 1).astype("float32"), optimizer=fastnn.Adam(0.02), epochs=2, batch_size=256)

    assert_alike(make, fit, "float32")


@pytest.mark.parametrize(
    "number,dtype", [(2, "float64"), (3, "float32"), (3, "float64"), pytest.param(9, "float64", marks=pytest.mark.slow)]
)
def test_shards(number, dtype, blocks):
    """The same; of the short batch some blocks have nothing, and of nine blocks two lanes sum the gradients."""
    blocks(number, "shards")
    X, y = data(67, 5, 3, dtype=dtype)
    w = np.linspace(0.5, 2.0, 67)
    w[50:] *= number < 9  # a batch without weight

    def make(device):
        return pair(**WIDE, dtype=dtype, device=device, drops=(0.1, 0.3))[0]

    def fit(net):
        if net.device == "cuda":
            plan = driver.make_plan(net.program, net.parameters, 50, tables.TRAIN, net.state)
            assert plan.schedule.shape == (-(-50 // plan.schedule.shard), 32) == ({9: 7}.get(number, number), 32)
        optimizer = fastnn.Adam(0.02, clip_value=0.01, clip_norm=0.02)
        shuffle = number < 9
        return net.fit(X, y, optimizer=optimizer, epochs=2, batch_size=50, sample_weight=w, l2=0.02, shuffle=shuffle)

    assert_alike(make, fit, dtype)


def test_blocks_without_samples_help_to_update(blocks):
    """Two of three have samples, of the short batch one."""
    blocks(3, "shards")
    X, y = data(19, 5, 3, dtype="float32")

    def make(device):
        return pair(widths=(5, 40, 3), activations=("tanh", "softmax"), dtype="float32", device=device)[0]

    def fit(net):
        if net.device == "cuda":
            plan = driver.make_plan(net.program, net.parameters, 8, tables.TRAIN, net.state)
            assert plan.schedule.shape == (3, 32) and plan.schedule.shard == 4
        return net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=2, batch_size=8)

    assert_alike(make, fit, "float32")


def test_shards_of_all_rows_in_their_order(blocks):
    """They stay where the first step left them; without clipping, and standardised."""
    blocks(3, "shards")
    X, y = data(30, 5, 3)

    def make(device):
        layers = [fastnn.Dense(18, "silu"), fastnn.Dense(3, "softmax")]
        return fastnn.Sequential(layers, dtype="float64", device=device, standardize=True)

    def fit(net):
        return net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=3, batch_size=None, shuffle=False)

    assert_alike(make, fit, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_warps_of_a_block_that_share_sums(dtype, blocks):
    """Of the forward pass and of the backward pass; some products are too narrow or too many for it."""
    blocks(3, threads=64)
    X, y = data(10, 64, 3, dtype=dtype)
    taken = []

    def make(device):
        return pair(widths=(64, 35, 64, 3), activations=("relu", "relu", "softmax"), dtype=dtype, device=device)[0]

    def fit(net):
        return net.fit(X, y, optimizer=fastnn.Adam(0.01), epochs=2, batch_size=4)

    summed = loop_tiles.add4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_tiles, "add4", lambda a, b: taken.append(0) or summed(a, b))
        assert_alike(make, fit, dtype)
    # the second warp of so many blocks: of the first and the last product forward, of the one backward to the second
    assert len(taken) == 32 * (3 + 1 + 3) * 6


def test_passes_of_blocks_that_wait_for_one_another(blocks):
    blocks(3)
    net, twin, weights = pair(**WIDE, device="cuda")
    X, y = data(50, 5, 3)
    value, gradient = net.loss_and_gradient(X, y)
    right, right_dX = twin.gradients(weights, X, y)
    assert_close(value, twin.objective(weights, X, y), "sum", "float64")
    parts = [part for slices in net.parameter_slices for part in slices]
    assert_close(np.concatenate([gradient[part] for part in parts]), flat(right), "sum")
    assert_close(net.input_gradient(X, y), right_dX, "sum")
    assert_close(net.predict(X), twin.predict(weights, X), "sum")


@pytest.mark.parametrize("loop", ["shards", "grid"])
def test_blocks_that_do_not_wait_are_found_out(loop, blocks, monkeypatch):
    """The tests of several blocks rest on it."""
    blocks(3, loop)

    def only_the_block(counter, turn):
        threading.current_thread().syncthreads()
        return turn

    monkeypatch.setattr(step, "grid_barrier", only_the_block)
    net, _, _ = pair(**WIDE, device="cuda")
    with pytest.raises(AssertionError, match="a race"):
        net.fit(*data(50, 5, 3), epochs=1, batch_size=None)
