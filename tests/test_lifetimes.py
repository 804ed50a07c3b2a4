"""Memory that compiled code takes for itself, and code, live as long as pointers into them."""

import ast
import gc
import weakref
from pathlib import Path

import numpy as np
from numba import njit
from subprocesses import python

import fastnn

KERNELS = Path(__file__).parents[1] / "kernels" / "cpu"

# 16 rows of a net whose working space is larger than what the allocator keeps mapped once it is free
LARGE = """
import numpy as np
import fastnn
net = fastnn.Sequential([fastnn.Dense(5000, "relu"), fastnn.Dense(1, "sigmoid")]).build(5)
X = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
few, many = net.predict(X), net.predict(np.tile(X, (4, 1)))[:16]
print(np.abs(few - many).max() < 1e-5)
"""

# threads that take and free working space of the same size from one arena
THREADS = """
import threading
import numpy as np
import fastnn
net = fastnn.Sequential([fastnn.Dense(300, "relu"), fastnn.Dense(300, "relu"), fastnn.Dense(1)]).build(5)
X = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
right, wrong = net.predict(X), []

def ask():
    for _ in range(500):
        if not np.array_equal(net.predict(X), right):
            wrong.append(1)

threads = [threading.Thread(target=ask) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(wrong))
"""


def test_working_space_of_a_prediction_outlives_it():
    assert python(LARGE) == "True\n"


def test_threads_do_not_share_working_space():
    assert python(THREADS, MALLOC_ARENA_MAX="1") == "0\n"


def test_functions_of_the_users_own_go_with_the_last_that_has_their_addresses():
    scale, X = np.float32(3.0), np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    scaled, slope = njit(lambda z: scale * z), njit(lambda z: scale)
    layers = [fastnn.Dense(4, (scaled, slope)), fastnn.Dense(1)]
    loss = njit(lambda prediction, y: scale * (prediction - y) ** 2), njit(lambda p, y: 2.0 * scale * (p - y))
    net = fastnn.Sequential(layers, loss=loss)
    net.fit(X, X[:, 0], epochs=1, threads=1)
    right, alive = net.predict(X[:2]), [weakref.ref(f) for f in (scaled, slope)]
    in_loss, frozen = weakref.ref(loss[0]), net.freeze()
    del net, layers, loss, scaled, slope
    gc.collect()
    assert in_loss() is None  # which prediction does without
    assert np.array_equal(fastnn.apply(frozen, X[:2]), right)
    part = frozen.table[3:]
    del frozen
    gc.collect()
    assert None not in [f() for f in alive]
    del part
    gc.collect()
    assert [f() for f in alive] == [None, None]


def allocations(function):
    """Names of arrays that a function takes from the heap."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr in {"empty", "zeros", "ones", "full", "empty_like"}:
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def compiled(tree):
    """Functions that Numba compiles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [d.func.id for d in node.decorator_list if isinstance(d, ast.Call) and isinstance(d.func, ast.Name)]
            if {"jit", "unit"} & set(names):
                yield node


def test_what_a_kernel_allocates_is_held_at_its_end():
    """Numba frees an array after its last use, and a pointer into it is no use of it."""
    found = []
    for path in KERNELS.glob("*.py"):
        for function in compiled(ast.parse(path.read_text(encoding="utf-8"))):
            last = [ast.unparse(each) for each in function.body if not isinstance(each, ast.Return)][-1:]
            names = list(allocations(function))
            found += names
            assert all(last == [f"hold({name})"] for name in names), f"{path.name}: {function.name}"
    assert found  # apply_rows takes some
