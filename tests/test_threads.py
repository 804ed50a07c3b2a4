"""Many threads in Python and below it, forks and spawned workers: no crash, no hang, the same bits."""

import os
import signal
import threading
import time

import jobs
import numpy as np
import pytest
from nets import data, pair
from subprocesses import python

import fastnn
from fastnn.kernels import threads
from fastnn.kernels.cpu import driver

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# The layer is Numba's, for the user's own parallel functions; fastnn uses none, and must get along with each.
LAYERS = pytest.mark.parametrize("layer", ["omp", "workqueue"])


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """In the cache, for all processes."""
    jobs.fastnn.warmup()


@pytest.mark.parametrize(
    "layer, dtype", [("omp", "float32"), pytest.param("workqueue", "float64", marks=pytest.mark.slow)]
)
def test_the_same_bits_in_every_process_on_any_number_of_threads(layer, dtype):
    code = f"import jobs; assert jobs.fastnn.get_num_threads() == 7; print(jobs.bits({dtype!r}))"
    assert python(code, NUMBA_NUM_THREADS=7, NUMBA_THREADING_LAYER=layer) == f"{jobs.bits(dtype)}\n"


TOGETHER = """
import threading
import jobs, nets
import numpy as np
from numba import njit, prange

@njit(parallel=True)
def squares(x):
    for i in prange(x.size):
        x[i] = i * i

x = np.zeros(1000)
squares(x)
shared, _, _ = nets.pair((20, 33, 3), ("tanh", "softmax"))
X, _ = nets.data(3001, 20)
before, results, errors = threading.Barrier(8, timeout=100), {}, []

def work(seed):
    try:
        before.wait()  # so that all of them load the compiled loop at once
        results[seed] = [(jobs.trained(seed), jobs.digest(shared.predict(X, threads=2))) for _ in range(3)]
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    x[:] = 0.0
    squares(x)
    assert x[-1] == 999 ** 2
assert not errors, errors
once = jobs.digest(shared.predict(X, threads=1))
for seed in range(8):
    assert results[seed] == [(jobs.trained(seed), once)] * 3, seed
assert len({result[0][0] for result in results.values()}) == 8
print("right")
"""


@LAYERS
def test_eight_threads_fit_and_predict_beside_a_parallel_function_of_the_user(layer):
    assert python(TOGETHER, NUMBA_NUM_THREADS=7, NUMBA_THREADING_LAYER=layer) == "right\n"


WORKERS = """
import multiprocessing, warnings
import jobs

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
parent = [jobs.trained(seed) for seed in range(4)]
with multiprocessing.get_context({method!r}).Pool(2) as pool:
    assert pool.map_async(jobs.trained, range(4)).get(timeout=100) == parent
    pool.close()
    pool.join()
assert jobs.trained(0) == parent[0]
print("right")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_after_a_parallel_fit(method):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    assert python(WORKERS.format(method=method), NUMBA_NUM_THREADS=7) == "right\n"


FORK_WHILE_TRAINING = """
import os, threading, time, warnings
import fastnn, jobs

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
fastnn.plans.LONG_STEP_SECONDS = {long_step}
right, background, stop = jobs.trained(), [], threading.Event()

def train():
    while not stop.is_set():
        background.append(jobs.trained(1, epochs=100))

thread = threading.Thread(target=train)
thread.start()
for _ in range({forks}):
    time.sleep(0.003)  # into the training
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if jobs.trained() == right else 2
        finally:
            os._exit(status)
    deadline = time.monotonic() + 60
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(child, 9)
            raise AssertionError("a child hangs")
        time.sleep(0.002)
    assert status == 0, status
stop.set()
thread.join()
fastnn.plans.LONG_STEP_SECONDS = 10
assert set(background) == {{jobs.trained(1, epochs=100)}}
print("right")
"""


@FORKS
# the second: trained by a thread of its own, watched from here
@pytest.mark.parametrize("long_step", [pytest.param(0.2, marks=pytest.mark.slow), 0.0])
def test_forks_while_another_thread_trains(long_step):
    code = FORK_WHILE_TRAINING.format(long_step=long_step, forks=10)
    assert python(code, NUMBA_NUM_THREADS=7) == "right\n"


NO_MORE_THREADS = """
import resource, threading
import fastnn, jobs

right = jobs.trained()
threading.stack_size(1 << 40)  # for which there will be no room
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    raise AssertionError("a thread could start")
for long_step in (0.2, 0.0):
    fastnn.plans.LONG_STEP_SECONDS = long_step
    assert jobs.trained() == right
print("right")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="a limit on addresses that only Linux keeps")
def test_where_no_thread_can_start_the_leader_does_all():
    assert python(NO_MORE_THREADS) == "right\n"


@pytest.mark.parametrize("long_step", [0.2, 0.0])
def test_threads_that_die_before_they_begin_are_not_waited_for(long_step, monkeypatch):
    right = jobs.trained()
    monkeypatch.setattr(fastnn.plans, "LONG_STEP_SECONDS", long_step)
    monkeypatch.setattr(threads, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(threads._thread, "start_new_thread", lambda *_: None)
    assert jobs.trained() == right


LIMITED = """
import resource, warnings
import jobs

right, ends = jobs.trained(), []
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for long_step in (0.2, 0.0):
    jobs.plans.LONG_STEP_SECONDS = long_step
    for more in range({first}, 40_000_000, {step}):  # around one and two stacks of threads
        resource.setrlimit(resource.RLIMIT_AS, (used + more, -1))
        try:
            ends.append(jobs.trained() == right)
        except MemoryError:
            pass
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert all(ends) and jobs.trained() == right
print("right")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="a limit on addresses that only Linux keeps")
@pytest.mark.parametrize("step", [2_000_000, pytest.param(400_000, marks=pytest.mark.slow)])
def test_two_threads_under_a_limit_of_memory_end(step):
    assert python(LIMITED.format(first=0, step=step)) == "right\n"


def fit():
    X, y = data(1500, 20)
    net, _, _ = pair((20, 33, 3), ("tanh", "softmax"))
    net.fit(X, y, epochs=2, batch_size=1024, threads=2)
    return net


def test_what_a_helper_raises_is_raised(monkeypatch):
    right, run, began = fit(), driver.run, threading.Event()

    def raising(*arguments):
        if arguments[-1] > 0:
            began.set()
            raise MemoryError("no memory for a helper")
        began.wait()
        run(*arguments)

    monkeypatch.setattr(driver, "run", raising)
    with pytest.raises(MemoryError, match="no memory for a helper"):
        fit()
    monkeypatch.setattr(driver, "run", run)
    assert np.array_equal(fit().parameters, right.parameters)


def test_control_c_while_helpers_start_leaves_none_behind(monkeypatch):
    running, run, start = [], driver.run, threads.Job.start

    def watched(*arguments):
        running.append(1)
        run(*arguments)
        running.append(-1)

    def started(job):
        start(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run", watched)
    monkeypatch.setattr(driver.Job, "start", started)
    with pytest.raises(KeyboardInterrupt):
        fit()
    assert sum(running) == 0


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to be sent there")
def test_control_c_does_not_end_the_wait_for_a_thread_that_is_near_its_end():
    steps = []

    def job():
        for step in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
            steps.append(step)
        return "result"

    for stop in (lambda: None, lambda: steps.append("stop")):
        steps.clear()
        with pytest.raises(KeyboardInterrupt):
            threads.apart(job, stop)
        assert [step for step in steps if step != "stop"] == [0, 1, 2]
    assert "stop" in steps
    assert threads.apart(lambda: "result") == "result"
    with pytest.raises(ZeroDivisionError):
        threads.apart(lambda: 1 / 0)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to be sent there")
@pytest.mark.parametrize("can_start", [True, False])
def test_control_c_ends_one_compilation_and_no_later_one(can_start, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    def job():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        threads.stop_if_interrupted()

    if not can_start:
        monkeypatch.setattr(threads._thread, "start_new_thread", no_thread)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            threads.uninterrupted(job)
        threads.stop_if_interrupted()
        threads.uninterrupted(threads.stop_if_interrupted)
