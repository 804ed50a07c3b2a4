"""The same bits for the same seed: shuffling, threads, chunks, forks, nets trained at once."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import recipes
import reference
import reference_random
from nets import LOSS, data, flat, pair
from tolerance import assert_close

import fastnn
from fastnn import fit, plans


def train_with_seed(seed, initial=None, shuffle=True):
    net = fastnn.Sequential([fastnn.Dense(7, "tanh"), fastnn.Dense(3, "softmax")], dtype="float64", seed=seed)
    net.build(5)
    if initial is not None:
        net.set_weights(initial)
    X, y = data()
    net.fit(X, y, optimizer=fastnn.SGD(0.1), epochs=3, batch_size=8, shuffle=shuffle)
    return flat(net.get_weights())


def test_the_same_seed_gives_the_same_weights():
    assert np.array_equal(train_with_seed(5), train_with_seed(5))


def test_another_seed_gives_other_weights_and_another_order():
    assert not np.allclose(train_with_seed(5, shuffle=False), train_with_seed(6, shuffle=False))
    initial = recipes.random_weights((5, 7, 3), 0)
    assert np.array_equal(train_with_seed(5, initial, False), train_with_seed(6, initial, False))
    assert not np.array_equal(train_with_seed(5, initial), train_with_seed(6, initial))
    assert not np.array_equal(train_with_seed(5, initial), train_with_seed(5, initial, False))


def order_of_visits(net, m):
    """Row order of one epoch on the identity: row i alone moves weight i, and less the later it comes.

    With target 1, a tiny rate and zero weights, W_i = 2 r (1 - b) if row i was met once, about twice that if
    twice, zero if never; b grows with every step, so that the weights fall in the order of the visits.
    """
    rate = 1e-3
    net.set_weights([np.zeros((1, m)), np.zeros(1)])
    net.fit(np.eye(m), np.ones(m), optimizer=fastnn.SGD(rate), epochs=1, batch_size=1)
    moved = net.get_weights()[0][0] / (2 * rate)
    return np.rint(moved).astype(int), np.argsort(-moved, kind="stable")


@pytest.mark.parametrize("m", [1, 2, 3, 17, 64, 100])
def test_shuffle_visits_each_row_once_an_epoch_in_a_new_order(m):
    net = fastnn.Sequential([fastnn.Dense(1)], loss="mse", dtype="float64", seed=3)
    net.build(m)
    orders = []
    for _ in range(4):
        visits, order = order_of_visits(net, m)
        assert visits.tolist() == [1] * m
        orders.append(tuple(order))
    assert orders == [tuple(reference_random.permutation(3, epoch, m)) for epoch in range(4)]
    if m >= 17:
        assert len(set(orders)) == 4
        assert tuple(range(m)) not in orders


def test_the_order_of_visits_reproduces_the_run():
    m = 50
    net = fastnn.Sequential([fastnn.Dense(1)], loss="mse", dtype="float64", seed=4)
    net.build(m)
    _, order = order_of_visits(net, m)
    twin = reference.Net(["linear"], "mse")
    start = [np.zeros((1, m)), np.zeros(1)]
    batches = [np.array([row]) for row in order]
    right, _ = twin.train(start, np.eye(m), np.ones(m), reference.Optimizer("sgd", 1e-3), 1, batches)
    assert_close(flat(net.get_weights()), flat(right), "sum")


def test_a_shuffled_short_last_batch_is_averaged_over_its_own_size():
    # 10 rows by 4: rows of the two full batches move by 1/4 of a step, the two of the last one by 1/2
    m = 10
    net = fastnn.Sequential([fastnn.Dense(1)], loss="mse", dtype="float64", seed=5)
    net.build(m)
    net.set_weights([np.zeros((1, m)), np.zeros(1)])
    net.fit(np.eye(m), np.ones(m), optimizer=fastnn.SGD(1e-3), epochs=1, batch_size=4)
    moved = np.sort(np.rint(net.get_weights()[0][0] / (2e-3 / 4)))
    assert moved.tolist() == [1.0] * 8 + [2.0] * 2


def test_rows_stay_with_their_targets_and_weights():
    # row i alone moves weight i, by 2 r w_i y_i / sum of its batch's w: a mix-up spreads the ratios
    m, rng = 24, np.random.RandomState(0)
    y, w = rng.permutation(np.linspace(1, 10, m)), rng.permutation(np.linspace(1, 10, m))
    net = fastnn.Sequential([fastnn.Dense(1)], loss="mse", dtype="float64", seed=6)
    net.build(m)
    net.set_weights([np.zeros((1, m)), np.zeros(1)])
    net.fit(np.eye(m), y, optimizer=fastnn.SGD(1e-4), epochs=1, batch_size=12, sample_weight=w)
    ratio = net.get_weights()[0][0] / (2e-4 * w * y)
    assert len(set(np.round(ratio, 5))) > 1
    assert ratio.min() > 0 and ratio.max() / ratio.min() < 2


def fit_with_threads(threads, dtype, m, widths, batch_size):
    activations = ("relu",) * (len(widths) - 2) + ("softmax",)
    net, _, _ = pair(widths, activations, LOSS, dtype=dtype)
    X, y = data(m, widths[0], widths[-1], dtype=dtype)
    history = net.fit(X, y, optimizer=fastnn.Adam(0.01), epochs=3, batch_size=batch_size, l2=0.01, threads=threads)
    return net.get_weights(), history.loss, net.predict(X, threads=threads)


@pytest.mark.parametrize(
    "m, widths, batch_size",
    [
        (3001, (20, 33, 3), None),
        (3001, (20, 33, 3), 1024),
        (257, (300, 130, 70, 4), None),
        (209, (2000, 20, 7, 2), None),
        (100, (5, 7, 3), 16),
    ],
)
def test_weights_are_equal_bit_for_bit_on_any_number_of_threads(m, widths, batch_size, dtype):
    one, *others = (fit_with_threads(threads, dtype, m, widths, batch_size) for threads in (1, 2, 3, 50))
    for other in others:
        assert np.array_equal(flat(one[0]), flat(other[0]))
        assert np.array_equal(one[1], other[1])
        assert np.array_equal(one[2], other[2])


@pytest.mark.parametrize("batch_size", [None, 16])
def test_where_the_run_is_cut_into_chunks_does_not_show(batch_size, monkeypatch):
    X, y = data(100)
    results = []
    for seconds in (fit.CHUNK_SECONDS, 1e-9):
        monkeypatch.setattr(fit, "CHUNK_SECONDS", seconds)
        net, _, _ = pair()
        history = net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=20, batch_size=batch_size)
        results.append((flat(net.get_weights()), history.loss))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_a_run_of_long_steps_gives_the_same_bits(monkeypatch):
    X, y = data(300)
    results = []
    for limit in (plans.LONG_STEP_SECONDS, 0.0):
        monkeypatch.setattr(plans, "LONG_STEP_SECONDS", limit)
        net, _, _ = pair()
        net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=20, batch_size=50)
        results.append(flat(net.get_weights()))
    assert np.array_equal(*results)


def test_nets_trained_at_once_in_python_threads_do_not_disturb_each_other():
    X, y = data(3001, 20, 3)

    def train(seed):
        net = fastnn.Sequential([fastnn.Dense(33, "relu"), fastnn.Dense(3, "softmax")], seed=seed)
        net.fit(X, y, optimizer=fastnn.Adam(0.01), epochs=20, threads=2)
        return flat(net.get_weights())

    alone = [train(seed) for seed in range(4)]
    together = [None] * 4

    def work(seed):
        together[seed] = train(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


FORKED = """
import os, sys, numpy as np, fastnn
rng = np.random.RandomState(0)
X, y = rng.standard_normal((3001, 20)), rng.randint(0, 3, 3001)

def train():
    net = fastnn.Sequential([fastnn.Dense(33, "relu"), fastnn.Dense(3, "softmax")])
    net.fit(X, y, epochs=10, threads=2)
    return b"".join(w.tobytes() for w in net.get_weights())

parent = train()
receive, send = os.pipe()
child = os.fork()
if child == 0:
    same = train() == parent
    os.write(send, b"same" if same else b"different")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.read(receive, 20).decode(), train() == parent)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_trains_after_a_threaded_run_of_its_parent():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300)
    assert done.stdout == "0 same True\n", done.stderr
