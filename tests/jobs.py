"""What tests have done in processes of their own."""

import hashlib
import sys

import numpy as np
from numba.core import event

import fastnn
from fastnn import backends, plans
from fastnn.kernels import RELU, cpu


def wait():
    """Tell that this process has started, and wait until it may go on."""
    print("ready", flush=True)
    sys.stdin.readline()


def digest(*arrays):
    """Fingerprint of the bits of arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def counted(job):
    """`job`, giving how many compilations it took."""

    def run(*arguments):
        with event.install_recorder("numba:compile") as recorder:
            job(*arguments)
        return sum(record.is_start for _, record in recorder.buffer)

    return run


@counted
def update(dtype="float64", kernel=cpu.sgd_update):
    """A right update by the kernel that compiles fastest."""
    theta, grad = np.array([1, 2, 3, 4, 5], dtype), np.array([4, 3, 2, 1, 0], dtype)
    kernel(theta, grad, 0.5, 0.25)
    assert theta.tolist() == [-1.125, 0.25, 1.625, 3.0, 4.375], theta


@counted
def train(dtype="float64"):
    """A net that trains and predicts as the reference does."""
    from nets import LOSS, data, flat, pair
    from reference import Optimizer, in_order
    from tolerance import assert_close

    net, twin, weights = pair(dtype=dtype)
    X, y = data(dtype=dtype, loss=LOSS)
    right, losses = twin.train(weights, X, y, Optimizer("adam", 0.02), 5, in_order(len(X), 9))
    history = net.fit(X, y, optimizer=fastnn.Adam(0.02), epochs=5, batch_size=9, shuffle=False)
    assert_close(flat(net.get_weights()), flat(right), "training", dtype)
    assert_close(history.loss, losses, "training", dtype)
    assert_close(net.predict(X), twin.predict(right, X), "training", dtype)


def relu(value):
    """Output of the compiled relu."""
    z = np.array([[value]])
    cpu.activation_forward(RELU, 0.0, z, z)
    return float(z[0, 0])


# name: (rows, widths, batch size, whether a whole batch, and the short last one, are cut into shards for many threads)
NETS = {
    "many shards, many parameters": (450, (300, 130, 70, 4), 300, True),
    "many shards, few parameters": (1500, (20, 33, 3), 1024, True),
    "one shard": (100, (5, 7, 3), 16, False),
}
THREADS = (1, 2, 7)


def fitted(case, optimizer, dtype, threads, weighted):
    """Bits of the weights, losses and predictions of a run."""
    from nets import OPTIMIZERS, data, pair

    rows, widths, batch, shared = NETS[case]
    net, _, _ = pair(widths, ("tanh",) * (len(widths) - 2) + ("softmax",), dtype=dtype)
    for count in (batch, rows % batch):
        plan = plans.make(net, backends.TRAIN, count, threads)
        assert (plan["SHARDS"] > 1) == shared, (case, count)
    X, y = data(rows, widths[0], widths[-1], dtype=dtype)
    weights = np.linspace(0.1, 2.0, rows) if weighted else None
    make, _ = OPTIMIZERS[optimizer]
    history = net.fit(X, y, make(), 3, batch, sample_weight=weights, l2=0.01, threads=threads)
    loss, gradient = net.loss_and_gradient(X, y, weights, threads=threads)
    return digest(net.parameters, history.loss, net.predict(X, threads=threads), [loss], gradient)


def bits(dtype):
    """Fingerprints of many runs, each the same on any number of threads."""
    from nets import OPTIMIZERS

    result = {}
    for case in NETS:
        for i, optimizer in enumerate(OPTIMIZERS):
            found = {fitted(case, optimizer, dtype, threads, i % 2 == 1) for threads in THREADS}
            assert len(found) == 1, (case, optimizer)
            result[f"{case}, {optimizer}"] = found.pop()
    return result


def trained(seed=0, epochs=10, dtype="float32"):
    """Bits of a net that was trained on two threads."""
    from nets import data

    X, y = data(1500, 20, 3, dtype=dtype)
    net = fastnn.Sequential([fastnn.Dense(33, "relu"), fastnn.Dense(3, "softmax")], dtype=dtype, seed=seed)
    net.fit(X, y, fastnn.Adam(0.01), epochs, batch_size=700, threads=2)
    return digest(net.parameters, net.predict(X, threads=2))


def product(dtype):
    """A right product, its edges too."""
    from arrays import normal
    from tolerance import assert_close

    A, B = normal(1, 13, 21, dtype=dtype), normal(2, 21, 67, dtype=dtype)
    out = np.full((13, 67), np.nan, dtype)
    cpu.matmul(A, B, np.empty(0, dtype), out)
    assert_close(out, A.astype("float64") @ B.astype("float64"), "sum")
