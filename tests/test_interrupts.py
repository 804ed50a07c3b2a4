"""Ctrl-C, SIGTERM, divergence, no memory: what is left is a net at a completed step, and a good cache."""

import os
import random
import re
import signal
import sys
import time

import numpy as np
import pytest
from nets import data, pair
from subprocesses import finish, python, start

import fastnn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a subprocess takes no SIGINT there")
SOON = 5.0  # seconds, where what is interrupted would take minutes


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """In the cache, for all processes."""
    fastnn.warmup()


PRELUDE = """
import itertools, os, random, signal, threading, time
import numpy as np
import fastnn, jobs, reference_random

def presser(times=1, ready=lambda: True):
    "A function that has Ctrl-C pressed from another thread when it is ready and some seconds have passed."
    def later():
        go.wait()
        while not ready():
            time.sleep(0.01)
        time.sleep(delay[0])
        pressed.append(time.monotonic())
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)
    def press(seconds):
        delay.append(seconds)
        go.set()
    go, delay = threading.Event(), []
    pressed.clear()
    press.thread = threading.Thread(target=later)
    press.thread.start()
    return press

pressed = []
"""

SMALL_STEPS = """
rows, batch = 1000, 32
rng = np.random.RandomState(0)
X, y = rng.standard_normal((rows, 20)), rng.randint(0, 2, rows)

def make():
    return fastnn.Sequential([fastnn.Dense(16, "tanh"), fastnn.Dense(1, "sigmoid")], dtype="float64").build(20)

net = make()
press = presser(ready=lambda: net.state.step > 500)
try:
    press(0.05)
    net.fit(X, y, epochs=1_000_000, batch_size=batch, threads=2)
except KeyboardInterrupt:
    seconds = time.monotonic() - pressed[0]
epochs, steps = divmod(net.state.step, -(-rows // batch))
assert epochs > 0

again = make()
again.fit(X, y, epochs=epochs, batch_size=batch, threads=1)
if steps:
    part = reference_random.permutation(0, epochs, rows)[: steps * batch]
    again.fit(X[part], y[part], epochs=1, batch_size=batch, shuffle=False)
assert again.state.step == net.state.step
assert np.array_equal(again.parameters, net.parameters)
assert np.isfinite(net.fit(X, y, epochs=2, batch_size=batch).loss).all()
assert np.isfinite(net.predict(X)).all()
print(seconds)
"""


def test_a_fit_of_small_steps_ends_soon_at_a_completed_step():
    assert float(python(PRELUDE + SMALL_STEPS)) < SOON


FIRST_STEP = """
rng = np.random.RandomState(0)
X = np.tile(rng.standard_normal((1000, 100)).astype(np.float32), (200, 1))
y = X[:, 0] > 0
net = fastnn.Sequential([fastnn.Dense(1500, "tanh"), fastnn.Dense(1500, "tanh"), fastnn.Dense(1, "sigmoid")])
start = net.build(100).parameters.copy()
inside = True

def handler(*_):
    if inside:
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, handler)
press = presser({times})
try:
    press(2.0)
    net.fit(X, y, epochs=100, batch_size=None, threads=2)
except KeyboardInterrupt:
    inside = False
    seconds = time.monotonic() - pressed[0]
assert net.state.step == 0
time.sleep(0.5)  # nobody trains on unseen
assert np.array_equal(net.parameters, start)
small = slice(0, 100)
before = net.evaluate(X[small], y[small])["loss"]
assert net.fit(X[small], y[small], epochs=5).loss[-1] < before
print(seconds)
"""


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_single_step_of_many_seconds_ends_soon_however_often_it_is_pressed(times):
    assert float(python(PRELUDE + FIRST_STEP.format(times=times))) < SOON


LONG_STEPS = """
rng = np.random.RandomState(0)
X = rng.standard_normal((3000, 100)).astype(np.float32)
y = X[:, 0] > 0

def make():
    layers = [fastnn.Dense(800, "tanh"), fastnn.Dense(800, "tanh"), fastnn.Dense(1, "sigmoid")]
    return fastnn.Sequential(layers).build(100)

def after_two(net, history):
    if history.epochs == 2:
        press(0.05)

net, press = make(), presser()
fastnn.plans.LONG_STEP_SECONDS = 0.0  # long on any machine
try:
    net.fit(X, y, epochs=1000, batch_size=None, threads=2, callbacks=[after_two])
except KeyboardInterrupt:
    left = net.parameters.copy()
    seconds = time.monotonic() - pressed[0]
time.sleep(0.5)
assert np.array_equal(net.parameters, left)
again, steps = make(), net.state.step
assert steps >= 2, steps
again.fit(X, y, epochs=steps, batch_size=None, threads=1)
assert np.array_equal(again.parameters, left)
again.fit(X, y, epochs=1, batch_size=None)
net.fit(X, y, epochs=1, batch_size=None)
assert np.array_equal(again.parameters, net.parameters)
print(seconds)
"""


def test_a_fit_of_long_steps_ends_soon_at_a_completed_step():
    assert float(python(PRELUDE + LONG_STEPS)) < SOON


MANY = """
rng = np.random.RandomState(0)
X, y = rng.standard_normal((20, 4)), rng.randint(0, 2, 20)

def make():
    return fastnn.Sequential([fastnn.Dense(3, "tanh"), fastnn.Dense(1, "sigmoid")], dtype="float64").build(4)

make().fit(X, y, epochs=2)
random.seed(0)
"""

STOPPED = """
for _ in range({times}):
    net, again, press = make(), make(), presser()
    try:
        press(random.uniform(0.001, 0.01))
        {job}
    except KeyboardInterrupt:
        print("stopped")
    press.thread.join()
    steps = net.state.step
    if steps:
        again.fit(X, y, epochs=steps, batch_size=None)
    assert np.array_equal(net.parameters, again.parameters), steps
    net.fit(X, y, epochs=5, batch_size=None)
    again.fit(X, y, epochs=5, batch_size=None)
    assert np.array_equal(net.parameters, again.parameters), steps
"""

FITS = [
    "net.fit(X, y, epochs=10_000_000, batch_size=None)",
    "net.fit(X, y, epochs=10_000_000, batch_size=None, callbacks=[lambda net, history: None])",
    "net.fit(X, y, epochs=10_000_000, batch_size=None, callbacks=[fastnn.EarlyStopping(10**9)], metrics=['accuracy'])",
    "net.fit(itertools.repeat((X, y)), epochs=1)",
    "while True: net.partial_fit(X, y)",
]


@pytest.mark.parametrize("times", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_whenever_it_comes_the_net_and_its_counters_agree(times):
    code = PRELUDE + MANY + "".join(STOPPED.format(times=times, job=job) for job in FITS)
    assert python(code) == "stopped\n" * times * len(FITS)


INJECTED = """
import sys

def interrupted(job, net, number):
    "Whether a job is so long that the numberth place where Python looks for signals raises what Ctrl-C raises."
    def look(frame, event, argument):
        nonlocal number
        if event in ("call", "return", "c_return"):
            number -= 1
            if number == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt
    sys.setprofile(look)
    try:
        job(net)
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return number <= 0

def job(net):
    {job}

job(make())
places = 1
while interrupted(job, net := make(), places):
    steps, again = net.state.step, make()
    for _ in range(steps):
        {step}
    assert np.array_equal(net.parameters, again.parameters), (places, steps)
    job(net)
    places += 1
assert places > 500, places
print("right")
"""

STEP = "again.partial_fit(X, y)"
AT_EACH_PLACE = {
    "partial_fit": ("net.partial_fit(X, y)", STEP),
    "apply_gradient": ("net.apply_gradient(np.ones(net.parameters.shape))",) * 2,
    "fit": ("net.fit(X, y, epochs=3, batch_size=None)", STEP),
    "fit with callbacks": (FITS[1].replace("10_000_000", "3"), STEP),
    "fit with metrics": (FITS[2].replace("10_000_000", "3"), STEP),
    "fit on a stream": ("net.fit(itertools.repeat((X, y), 3), epochs=1)", STEP),
}


@pytest.mark.parametrize(
    "name", [name if name.endswith("fit") else pytest.param(name, marks=pytest.mark.slow) for name in AT_EACH_PLACE]
)
def test_at_each_place_where_it_may_come(name):
    """Also between the steps of a `with`: the net is at a completed step, and is nobody's."""
    job, step = AT_EACH_PLACE[name]
    assert python(PRELUDE + MANY + INJECTED.format(job=job, step=step.replace("net.", "again."))) == "right\n"


# at 0.5627 the error no longer shrinks; just above it overflows after some milliseconds
DIVERGING = """
rng = np.random.RandomState(0)
X, y = rng.standard_normal((20, 4)), rng.standard_normal(20)
make = lambda: fastnn.Sequential([fastnn.Dense(1)]).build(4)
make().fit(X, y, epochs=2)
random.seed(0)
ends = {{KeyboardInterrupt: 0, fastnn.DivergedError: 0}}
for _ in range({times}):
    net, press = make(), presser()
    try:
        press(random.uniform(0.001, 0.012))
        net.fit(X, y, fastnn.SGD(0.565), epochs=1_000_000, batch_size=None)
    except tuple(ends) as error:
        ends[type(error)] += 1
    while True:
        try:
            press.thread.join()
            break
        except KeyboardInterrupt:
            pass
    assert np.isfinite(net.parameters).all()
    assert np.isfinite(net.fit(X, y, fastnn.SGD(0.001), epochs=2).loss).all()
assert all(ends.values()), ends
print("right")
"""


@pytest.mark.parametrize("times", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_control_c_while_the_run_diverges(times):
    assert python(PRELUDE + DIVERGING.format(times=times)) == "right\n"


def test_divergence_leaves_weights_of_a_completed_epoch(dtype):
    X, y = data(k=1, loss="mse", dtype=dtype)

    def run(callbacks=()):
        net, _, _ = pair((5, 4, 1), ("tanh", "linear"), "mse", dtype=dtype)
        losses = []
        with pytest.raises(fastnn.DivergedError) as caught:
            net.fit(X, y, fastnn.SGD(2.0), epochs=5000, batch_size=None, callbacks=callbacks)
        losses = caught.value.history.loss
        assert caught.value.epoch == len(losses) > 5
        assert caught.value.last_loss == losses[-1]
        assert np.isfinite(losses).all()
        assert f"epoch {len(losses)}:" in str(caught.value) and f"{losses[-1]:.6g}" in str(caught.value)
        return net.parameters.tobytes(), losses

    states = [pair((5, 4, 1), ("tanh", "linear"), "mse", dtype=dtype)[0].parameters.tobytes()]
    left, losses = run()
    stepwise, again = run([lambda net, history: states.append(net.parameters.tobytes())])
    assert np.array_equal(losses, again)
    assert left in states
    assert stepwise == states[-1]  # with a look after each epoch no more than one is lost


NO_MEMORY = """
import resource, sys
import numpy as np
import fastnn

X, y = np.zeros((4000, 200), np.float32), np.zeros(4000)
big = np.zeros((4_000_000, 10))
net = fastnn.Sequential([fastnn.Dense(2000, "tanh"), fastnn.Dense(2000, "tanh"), fastnn.Dense(1)])
narrow, wide = fastnn.Sequential([fastnn.Dense(3)]).build(10), fastnn.Sequential([fastnn.Dense(1000)]).build(10)
fastnn.warmup("float32")
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
for job in (
    lambda: fastnn.Sequential([fastnn.Dense(200_000)]).build(200_000),
    lambda: net.fit(X, y, epochs=1, batch_size=None),
    lambda: narrow.fit(big, big[:, :3], epochs=1, batch_size=None),
    lambda: narrow.fit(X[:, :10], X[:, :3], epochs=10**9, batch_size=None),
    lambda: narrow.predict(big),
    lambda: wide.predict(np.zeros((100_000, 10), np.float32)),
    lambda: net.loss_and_gradient(X, y),
):
    try:
        job()
    except MemoryError as error:
        print(error)
for small in (net, narrow):
    assert np.isfinite(small.fit(X[:9, : small.n_features], X[:9, : small.layers[-1].units], epochs=2).loss).all()
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="a limit on addresses that only Linux keeps")
def test_no_memory_is_told_with_what_was_asked_for_and_how_much():
    copy = r"X does not fit into memory: Unable to allocate 153\. MiB for an array with shape \(4000000, 10\).+"
    expected = [
        r"n_features and units are too large: no memory for 40,000,200,000 parameters, 160,000,800,000 bytes",
        r"no memory for [\d,]{9,} bytes of working space of the run",
        copy,
        r"epochs must be a number whose record memory holds; got 1000000000",
        copy,
        r"Unable to allocate 381\. MiB for an array with shape \(100000, 1000\) and data type float32",
        r"no memory for [\d,]{9,} bytes of working space of the run",
    ]
    for line, pattern in zip(python(NO_MEMORY).splitlines(), expected, strict=True):
        assert re.fullmatch(pattern, line)


COMPILING = """
press = presser()
try:
    press({seconds})
    jobs.{job}()
except KeyboardInterrupt:
    print("interrupted")
try:
    press.thread.join()
except KeyboardInterrupt:
    pass
jobs.{job}()
print("right")
"""


@pytest.mark.parametrize(
    "job, seconds",
    [
        ("update", 0.15),
        pytest.param("update", 0.03, marks=pytest.mark.slow),
        *[pytest.param("train", seconds, marks=pytest.mark.slow) for seconds in (0.5, 2.0, 4.0, 6.0)],
    ],
)
def test_control_c_while_compiling(job, seconds, tmp_path):
    code = PRELUDE + COMPILING.format(job=job, seconds=seconds)
    assert python(code, FASTNN_CACHE_DIR=tmp_path).endswith("right\n")
    # what was compiled, but not yet written when Ctrl-C came, is compiled once more by the next process, and kept
    python(f"import jobs; jobs.{job}()", FASTNN_CACHE_DIR=tmp_path)
    assert python(f"import jobs; print(jobs.{job}())", FASTNN_CACHE_DIR=tmp_path) == "0\n"


# at the start of the compilation with each of some numbers: of a kernel, or of one that becomes part of it
PRESSED = """
from numba.core import event

noticed = threading.Semaphore(0)

def notice(*arguments):
    noticed.release()
    signal.default_int_handler(*arguments)

signal.signal(signal.SIGINT, notice)

class Presser(event.Listener):
    started = ended = 0
    def on_start(self, event):
        self.started += 1
        if self.started == at:
            os.kill(os.getpid(), signal.SIGINT)
            noticed.acquire()
            time.sleep(0.05)  # for the main thread to tell this one
    def on_end(self, event):
        self.ended += 1

for at in {numbers}:
    presser = Presser()
    with event.install_listener("numba:compile", presser):
        try:
            jobs.{job}()
            print("done")
        except KeyboardInterrupt:
            assert presser.started - at <= 1, presser.started  # the next one within it notices
        assert presser.ended == presser.started
jobs.{job}()
assert jobs.{job}() == 0
print("right")
"""


@pytest.mark.parametrize("job, numbers", [
    ("update", [1, 1, 2, 3]), pytest.param("train", [1, 2, *range(3, 60, 5)], marks=pytest.mark.slow),
])  # fmt: skip
def test_a_compilation_that_control_c_ends_leaves_nothing_broken(job, numbers, tmp_path):
    code = PRELUDE + PRESSED.format(job=job, numbers=numbers)
    assert python(code, FASTNN_CACHE_DIR=tmp_path).endswith("right\n")
    assert python(f"import jobs; print(jobs.{job}())", FASTNN_CACHE_DIR=tmp_path) == "0\n"


# a registry that was being read would never be read to its end
LOADING = """
from numba.core.base import BaseContext
insert, calls = BaseContext.insert_func_defn, []

def press(context, definitions):
    calls.append(1)
    if len(calls) == 500:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)  # for the handler to run
    insert(context, definitions)

BaseContext.insert_func_defn = press
try:
    jobs.update()
except KeyboardInterrupt:
    jobs.update()
    print("right")
"""


def test_control_c_while_numba_loads_its_own_functions(tmp_path):
    assert python(PRELUDE + LOADING, FASTNN_CACHE_DIR=tmp_path) == "right\n"


# Ctrl-C comes into the first fit of a machine
FIRST_FIT = """
rng = np.random.RandomState(0)
X = rng.standard_normal((40, 3))

def first():
    net = fastnn.Sequential([fastnn.Dense(1)], dtype="float64")
    net.fit(X, X[:, 0], epochs=3)
    return net.predict(X[:1])

press = presser()
try:
    press({seconds})
    first()
    press.thread.join()
except KeyboardInterrupt:
    print("interrupted")
assert np.isfinite(first()).all()
print("right")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [round(0.17 * i, 2) for i in range(40)])
def test_after_control_c_in_the_first_fit_of_a_machine_the_next_one_works(seconds, tmp_path):
    assert python(PRELUDE + FIRST_FIT.format(seconds=seconds), FASTNN_CACHE_DIR=tmp_path).endswith("right\n")


WHILE_EMITTING = """
from numba.core.registry import cpu_target
import jobs
codegen = cpu_target.target_context.codegen()
library, pressed = codegen._library_class, []

def notify(module, code):
    if module.name == "fastnn_public" and not pressed:
        pressed.append(True)
        raise KeyboardInterrupt  # in a callback of LLVM, where it is swallowed
    library._object_compiled_hook(module, code)

codegen._engine.set_object_cache(notify, library._object_getbuffer_hook)
try:
    jobs.update()
except KeyboardInterrupt:
    jobs.update()
    print("right")
"""


def test_control_c_while_machine_code_is_emitted(tmp_path):
    with start(WHILE_EMITTING, FASTNN_CACHE_DIR=tmp_path) as child:
        assert finish(child) == "right\n"
    assert int(python("import jobs; print(jobs.update())", FASTNN_CACHE_DIR=tmp_path)) > 0
    assert python("import jobs; print(jobs.update())", FASTNN_CACHE_DIR=tmp_path) == "0\n"


@pytest.mark.parametrize(
    "job, longest, times", [("update", 0.8, 2), pytest.param("train", 12.0, 3, marks=pytest.mark.slow)]
)
def test_processes_killed_while_they_compile_leave_a_good_cache(job, longest, times, tmp_path):
    delays = random.Random(0)
    for _ in range(times):
        with start(f"import jobs; jobs.wait(); jobs.{job}()", FASTNN_CACHE_DIR=tmp_path) as child:
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
            time.sleep(delays.uniform(0.0, longest))
            child.terminate()
            child.communicate()
        assert child.returncode in (0, -signal.SIGTERM)
    code = f"import jobs; print(jobs.{job}())"
    python(code, FASTNN_CACHE_DIR=tmp_path)
    assert python(code, FASTNN_CACHE_DIR=tmp_path) == "0\n"


KILLED_WRITING = """
import resource, signal, jobs
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
jobs.update()
"""


def test_a_process_killed_in_the_middle_of_writing_leaves_nothing_that_is_read(tmp_path):
    with start(KILLED_WRITING, FASTNN_CACHE_DIR=tmp_path) as child:
        finish(child, -signal.SIGXFSZ)
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    code = "import jobs; print(jobs.update())"
    assert int(python(code, FASTNN_CACHE_DIR=tmp_path)) > 0
    assert python(code, FASTNN_CACHE_DIR=tmp_path) == "0\n"
