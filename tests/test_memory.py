"""A run allocates once and a process does not grow, however many steps or fits it makes."""

import gc
import os
import threading
import tracemalloc

import numpy as np
import pytest
from nets import OPTIMIZERS, data, pair
from subprocesses import python

import fastnn
from fastnn import plans

LINUX = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """In memory and in the cache."""
    fastnn.warmup()


def fit_and_measure(epochs, callbacks=(), **settings):
    """(bytes in use after each epoch, most bytes in use between two epochs) of a run of many chunks."""
    net, _, _ = pair((64, 300, 3), ("tanh", "softmax"), dtype="float64")
    X, y = data(400, 64, 3)
    held, peaks = [], []

    def look(net, history):
        held.append(tracemalloc.get_traced_memory()[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        net.fit(X, y, epochs=epochs, callbacks=[look, *callbacks], **settings)
    finally:
        tracemalloc.stop()
    # the first chunks make what is kept for the run, and Python fills its caches
    return np.array(held[10:]), np.array(peaks[10:]), net.parameters.nbytes


SMALL = 20_000  # bytes for Python's own bookkeeping: rates, times, threads


@pytest.mark.parametrize("long_step", [0.2, 0.0])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", ["momentum", "rmsprop, momentum", "adamw"])
def test_chunks_allocate_nothing_of_the_size_of_the_net(optimizer, threads, long_step, monkeypatch):
    monkeypatch.setattr(plans, "LONG_STEP_SECONDS", long_step)
    make, _ = OPTIMIZERS[optimizer]
    held, peaks, size = fit_and_measure(60, optimizer=make(), batch_size=150, threads=threads)
    assert size > 5 * SMALL
    assert np.ptp(held) < SMALL
    assert (peaks[1:] - held[:-1]).max() < SMALL


def test_the_best_weights_are_kept_in_one_place():
    callbacks = [fastnn.EarlyStopping(1000), fastnn.ReduceLROnPlateau()]
    held, peaks, size = fit_and_measure(60, callbacks, optimizer=fastnn.SGD(0.01))
    assert size > 5 * SMALL
    assert np.ptp(held) < SMALL
    assert (peaks[1:] - held[:-1]).max() < SMALL


def test_the_measure_sees_what_is_allocated():
    """The tests here rest on it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        array = np.zeros(SMALL)
        assert tracemalloc.get_traced_memory()[0] - before >= array.nbytes
    finally:
        tracemalloc.stop()


ALLOCATIONS = """
import numpy as np
import fastnn, nets
from numba import njit
from numba.core.runtime import rtsys

def counts(steps, threads):
    "Allocations and frees by compiled code in a run of three chunks."
    net, _, _ = nets.pair((20, 33, 3), ("tanh", "softmax"))
    batch = 64 if threads == 1 else 1024
    X, y = nets.data(steps * batch, 20)
    net.fit(X, y, epochs=1, batch_size=batch, threads=threads)
    before = rtsys.get_allocation_stats()
    net.fit(X, y, epochs=3, batch_size=batch, threads=threads, l2=0.1, callbacks=[lambda net, history: None])
    after = rtsys.get_allocation_stats()
    return [now - then for now, then in zip(after, before, strict=True)]

allocate = njit(lambda n: np.zeros(n).sum())
allocate(3)  # the first compilation begins the count
before = rtsys.get_allocation_stats()
allocate(3)
assert rtsys.get_allocation_stats().alloc == before.alloc + 1
for threads in (1, 2):
    few, many = counts(2, threads), counts(20, threads)
    late = 3 * 3 * (threads - 1)  # of helpers that come too late to begin: three arrays in each of three chunks
    assert all(abs(one - other) <= late for one, other in zip(few, many, strict=True)), (few, many)
    assert few[0] == few[1] and few[2] == few[3], few
print("right")
"""


def test_compiled_code_allocates_as_often_in_many_steps_as_in_few():
    assert python(ALLOCATIONS, NUMBA_NRT_STATS=1) == "right\n"


FITS = """
import resource
import numpy as np
import fastnn, nets

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

X, y = nets.data(1500, 20)
_, labels = nets.data(300, 20)

def work(i):
    net = fastnn.Sequential([fastnn.Dense(33, "relu"), fastnn.Dense(3, "softmax")], seed=i)
    fastnn.plans.LONG_STEP_SECONDS = 0.0 if i % 5 == 0 else 0.2
    net.fit(X, y, epochs=2, batch_size=700, threads=1 + i % 3, validation_data=(X[:300], labels))
    net.predict(X, threads=2)
    net.evaluate(X, y)
    net.loss_and_gradient(X, y)
    net.input_gradient(X, y)
    if i % 10 == 0:
        try:
            fastnn.Sequential([fastnn.Dense(1)], loss="mse").fit(X, X[:, :1], fastnn.SGD(1e3), epochs=1000)
        except fastnn.DivergedError:
            pass
    assert np.isfinite(net.parameters).all()

for i in range({warm}):
    work(i)
before = resident()
for i in range({fits}):
    work(i)
print(resident() - before)
"""


@LINUX
@pytest.mark.parametrize("warm, fits", [(50, 150), pytest.param(200, 2000, marks=pytest.mark.slow)])
def test_many_fits_leave_resident_memory_flat(warm, fits):
    # a net of this size with its plan takes 700 kB or more: a leak of one in twenty fits would show
    assert int(python(FITS.format(warm=warm, fits=fits))) < 2_000_000


RUN = """
import resource
import fastnn, nets

def resident(net, history):
    with open("/proc/self/statm") as file:
        sizes.append(int(file.read().split()[1]) * resource.getpagesize())

sizes = []
net, _, _ = nets.pair((20, 33, 3), ("tanh", "softmax"))
X, y = nets.data(1500, 20)
net.fit(X, y, epochs={epochs}, batch_size=700, threads=2, callbacks=[resident])
print(max(sizes[100:]) - sizes[100])
"""


@LINUX
@pytest.mark.parametrize("epochs", [1500, pytest.param(30_000, marks=pytest.mark.slow)])
def test_a_long_fit_leaves_resident_memory_flat(epochs):
    record = 24 * epochs  # of the history: loss, time and rate
    assert int(python(RUN.format(epochs=epochs))) < 1_000_000 + record


def test_nets_and_threads_do_not_pile_up():
    X, y = data(300, dtype="float32")

    def count():
        for _ in range(20):
            net, _, _ = pair(dtype="float32")
            net.fit(X, y, epochs=2, batch_size=100, threads=2)
            net.predict(X)
        del net
        gc.collect()
        # by type: isinstance asks objects of other libraries for attributes, and some warn
        return sum(type(thing) is fastnn.Sequential for thing in gc.get_objects())

    before, threads = count(), threading.active_count()
    assert count() == before
    assert threading.active_count() == threads


PEAK = """
import numpy as np
import fastnn

def status(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

rows, widths, batch, optimizer = {run}
X = np.random.default_rng(0).standard_normal((rows, widths[0]), np.float32)
y = X[:, 0] > 0
fastnn.warmup("float32")
layers = [fastnn.Dense(units, "relu") for units in widths[1:-1]] + [fastnn.Dense(1, "sigmoid")]
net = fastnn.Sequential(layers)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the most that was resident counts from now
before = status("VmRSS")
net.fit(X, y, optimizer=optimizer, epochs=2, batch_size=batch, threads=2)
made = fastnn.plans.make(net, fastnn.backends.TRAIN, batch or rows, 2)
units = sum(widths[1:])
print(status("VmHWM") - before, X.nbytes, net.parameters.nbytes, 4 * (batch or rows) * units, made["SHARDS"])
"""


@LINUX
@pytest.mark.parametrize(
    "run, states",
    [
        pytest.param("40_000, (784, 512, 512, 1), 128, fastnn.Adam()", 2, marks=pytest.mark.slow),
        ("40_000, (784, 128, 1), 8192, fastnn.Adam()", 2),
        ("400, (60_000, 40, 1), None, fastnn.SGD(1e-6)", 0),
        ("1_000_000, (28, 1), None, fastnn.SGD(0.1, momentum=0.9)", 1),
        pytest.param("600_000, (30, 200, 1), 30_000, fastnn.RMSprop()", 2, marks=pytest.mark.slow),
    ],
)
def test_a_fit_needs_little_beyond_the_data(run, states):
    """X is not copied: what is there at once is parameters, state, partial gradients, one batch of activations."""
    used, data_size, parameters, activations, shards = map(int, python(PEAK.format(run=run)).split())
    allowed = parameters * (3 + states) + activations + shards * parameters + (32 << 20)
    assert used < allowed, f"{used:,} of {allowed:,} bytes"
    assert data_size > allowed  # so that a copy of X would show
