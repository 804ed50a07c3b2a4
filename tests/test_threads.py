"""Many threads in Python and below it, forks and spawned workers: no crash, no hang, the same bits."""

import os

import jobs
import pytest
from subprocesses import python

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# The layer is Numba's, for the user's own parallel functions; fastnn uses none, and must get along with each.
LAYERS = pytest.mark.parametrize("layer", ["omp", "workqueue"])


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """In the cache, for all processes."""
    jobs.fastnn.warmup()


@pytest.fixture(scope="module", params=["float32", "float64"])
def bits(request):
    """(dtype, fingerprints of its runs in this process)."""
    return request.param, str(jobs.bits(request.param))


@LAYERS
def test_the_same_bits_in_every_process_on_any_number_of_threads(layer, bits):
    dtype, here = bits
    code = f"import jobs; assert jobs.fastnn.get_num_threads() == 7; print(jobs.bits({dtype!r}))"
    assert python(code, NUMBA_NUM_THREADS=7, NUMBA_THREADING_LAYER=layer) == here + "\n"


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
@pytest.mark.parametrize("long_step", [0.2, 0.0])  # the second: trained by a thread of its own, watched from here
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
